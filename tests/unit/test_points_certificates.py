"""`becalm show`: the certificates of a recovery point, and whether they would still hold."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
from typer.testing import CliRunner

from becalm.cli.app import app
from becalm.clock import SystemClock, format_time
from becalm.storage import open_store
from becalm.testing.saved_points import PASSWORD, save_point

if TYPE_CHECKING:
    from pathlib import Path


def description(certificates: list[dict[str, Any]]) -> bytes:
    """Write what a point says of itself, with these certificates."""
    return orjson.dumps(
        {
            "policy": {"digest": "0" * 64},
            "consistency": {"label": "crash-consistent", "reasons": []},
            "counts": {"objects": 0},
            "volumes": [],
            "missing": [],
            "excluded": [],
            "certificates": certificates,
        }
    )


def shown(folder: Path, certificates: list[dict[str, Any]]) -> str:
    """Save a point with these certificates, and return what `show` prints of it, without the table's line breaks."""
    store = open_store(f"file://{folder}/shop", {}, create=True)
    save_point(store, [], kinds=[], raw={"recovery-point.json": description(certificates)})
    result = CliRunner().invoke(
        app, ["show", "--target", f"file://{folder}", "--policy", "shop"], env={"BECALM_PASSWORD": PASSWORD, "COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_a_certificate_is_shown_with_its_end_and_warned_of_when_that_is_near(tmp_path: Path) -> None:
    """One that has expired, one that soon will, one that lasts, one of which nothing is known."""
    now = SystemClock().now()

    def ends(where: str, days: float) -> dict[str, Any]:
        return {"where": where, "names": [f"{where}.example.org"], "not_after": format_time(now + timedelta(days=days))}

    told = shown(
        tmp_path,
        [ends("over", -1), ends("soon", 10.5), ends("late", 400), {"where": "odd", "not_after": None, "problem": "it is none"}],
    )

    assert f"over: over.example.org, until {format_time(now - timedelta(days=1))[:10]}; WARNING: it has expired" in told
    assert "soon: soon.example.org" in told
    assert "WARNING: 10 days are left" in told
    assert f"late: late.example.org, until {format_time(now + timedelta(days=400))[:10]} " in told + " "
    assert told.count("WARNING") == 2
    assert "odd: it is none" in told


def test_a_point_that_is_older_than_its_certificates_is_shown(tmp_path: Path) -> None:
    """One of an earlier version names none."""
    assert "certificate" not in shown(tmp_path, [])
