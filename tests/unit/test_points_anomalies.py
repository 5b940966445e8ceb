"""`becalm points` and `becalm show`: an anomalous recovery point is called so, and is never taken for the last good one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import orjson
from typer.testing import CliRunner

from becalm.catalog.points import tags_of
from becalm.cli.app import app
from becalm.model import RecoveryPoint
from becalm.repository.format import SnapshotDoc
from becalm.repository.reader import open_repository
from becalm.repository.snapshots import save_snapshot
from becalm.storage import open_store
from becalm.testing.saved_points import CUT, PASSWORD, save_point

if TYPE_CHECKING:
    from pathlib import Path

DESCRIPTION = {
    "policy": {"digest": "0" * 64},
    "consistency": {"label": "crash-consistent", "reasons": []},
    "counts": {"objects": 0},
    "volumes": [],
    "missing": [],
    "excluded": [],
    "anomalies": [{"where": "volumes/shop/data", "message": "it held 3.0 GiB before and is empty now"}],
}


def said(folder: Path, *command: str) -> str:
    """Return what the command line prints, without the table's line breaks."""
    place = ["--target", f"file://{folder}", "--policy", "shop"]
    result = CliRunner().invoke(app, [*command, *place], env={"BECALM_PASSWORD": PASSWORD, "COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_an_anomalous_point_is_marked_where_points_are_listed_and_shown(tmp_path: Path) -> None:
    """The list says it in its line, `show` says what is odd; the age told is that of the good point before."""
    store = open_store(f"file://{tmp_path}/shop", {}, create=True)
    good = save_point(store, [], kinds=[], raw={"recovery-point.json": orjson.dumps(DESCRIPTION)})
    later = CUT + timedelta(hours=1)
    point = RecoveryPoint(id="", policy="shop", cut=later, tree=good.tree, run="def", anomalous=True)
    document = SnapshotDoc(time=later, tree=good.tree, paths=("/",), hostname="test", username="becalm", tags=tags_of(point))
    odd = save_snapshot(open_repository(store, PASSWORD), document)
    lines = {line.split()[0]: line for line in said(tmp_path, "points").splitlines() if line.strip()}
    shown = " ".join(said(tmp_path, "show", "--point", odd).split())

    assert "complete" in lines[good.id[:8]]
    assert "anomalous" in lines[odd[:8]]
    assert good.id in " ".join(said(tmp_path, "show").split())  # the latest is the latest good one
    assert odd in shown
    assert "state anomalous" in shown
    assert "anomaly volumes/shop/data: it held 3.0 GiB before and is empty now" in shown
