"""`becalm gaps`, `rpo` and `metrics print`, on a folder that is a bucket: what they say, and how they end."""

from __future__ import annotations

import json
from datetime import UTC, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from becalm.catalog import epochs
from becalm.catalog.points import tags_of
from becalm.cli.app import app
from becalm.clock import parse_time
from becalm.errors import PolicyError, UsageError
from becalm.model import RecoveryPoint
from becalm.repository.format import SnapshotDoc
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.tree import TreeBuilder
from becalm.repository.writer import Writer
from becalm.storage import open_store
from becalm.testing.builders import a_policy_document, hours
from becalm.testing.saved_points import CHEAP, PASSWORD

HOUR = timedelta(hours=1)


def run(*words: str) -> Result:
    return CliRunner(env={"BECALM_PASSWORD": PASSWORD}).invoke(app, list(words))


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy that owes a point every hour since six hours, has one of three hours ago, and is allowed two."""
    (tmp_path / "bucket").mkdir()
    target = {"url": f"file://{tmp_path / 'bucket'}", "password": "env:BECALM_PASSWORD"}
    document = a_policy_document(schedule="0 * * * *", objectives={"rpo": "2h"}, target=target)
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.safe_dump(document))
    store = open_store(f"file://{tmp_path / 'bucket' / 'shop'}", {}, create=True)
    init_repository(store, PASSWORD, kdf=CHEAP)
    full = store.now().replace(minute=0, second=0, microsecond=0)
    epochs.note(store, schedule="0 * * * *", timezone="UTC", now=full - hours(6.5))
    repository = open_repository(store, PASSWORD)
    with Writer(repository) as writer:
        tree = TreeBuilder(mtime=full).write(writer)
        writer.flush()
    cut = full - hours(3)
    point = RecoveryPoint(id="", policy="shop", cut=cut, tree=tree, run="r", slot=cut)
    save_snapshot(repository, SnapshotDoc(time=cut, tree=tree, hostname="test", username="becalm", tags=tags_of(point)))
    return file


def test_gaps_names_each_slot_and_how_to_make_up_for_them(policy: Path) -> None:
    """The older ones are answered by the later point; it ends with 5."""
    told = run("gaps", str(policy), "--json")
    printed = run("gaps", str(policy))
    (found,) = json.loads(told.output)["policies"]
    slots = [parse_time(gap["slot"]) for gap in found["gaps"]]

    assert (told.exit_code, printed.exit_code) == (5, 5)
    assert slots == [slots[0], slots[0] + HOUR, *([slots[0] + 2 * HOUR] if len(slots) > 2 else [])]
    assert slots[0].tzinfo == UTC
    assert "airflow backfill create --dag-id becalm_policy_shop --from-date" in " ".join(printed.output.split())


def test_rpo_ends_with_5_where_the_objective_is_missed(policy: Path) -> None:
    """A folder of policies may be named as well."""
    told = run("rpo", str(policy.parent), "--json")
    (found,) = json.loads(told.output)["policies"]

    assert told.exit_code == 5
    assert (found["level"], found["met"]) == ("trouble", False)
    assert found["age_seconds"] >= 3 * 3600


def test_what_cannot_be_read_is_no_success(policy: Path) -> None:
    """Nor is it a traceback."""
    told = CliRunner(env={"BECALM_PASSWORD": "another"}).invoke(app, ["gaps", str(policy), "--json"])
    (found,) = json.loads(told.output)["policies"]

    assert told.exit_code == 5
    assert not found["reached"]
    assert "opens with this password" in found["unknown"][0]


def test_metrics_count_a_broken_policy_and_tell_of_the_others(policy: Path) -> None:
    """One bad file hides nothing."""
    (policy.parent / "bad.yaml").write_text("kind: ProtectionPolicy\n")
    printed = run("metrics", "print", str(policy.parent), "--sizes")

    assert printed.exit_code == 0
    assert "becalm_policies_broken 1.0\n" in printed.output
    assert 'becalm_policy_objective_met{policy="shop"} 0.0\n' in printed.output
    assert 'becalm_repository_bytes{policy="shop"} ' in printed.output


@pytest.mark.parametrize(("words", "error"), [(("--since", "yesterday"), UsageError), (("--since", "0s"), UsageError)])
def test_a_time_that_is_none_is_refused(policy: Path, words: tuple[str, ...], error: type[Exception]) -> None:
    """With how to write it."""
    assert isinstance(run("gaps", str(policy), *words).exception, error)


def test_gaps_refuses_a_broken_policy(policy: Path) -> None:
    """A list that leaves one out in silence would look complete."""
    (policy.parent / "bad.yaml").write_text("kind: ProtectionPolicy\n")

    assert isinstance(run("gaps", str(policy.parent)).exception, PolicyError)
