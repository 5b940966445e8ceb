"""Environments: what each demands of a policy, where that is written, and what `becalm policy check` says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from becalm.cli.policy import app
from becalm.errors import PolicyError
from becalm.policy.environments import BUILT_IN, Environments, judge, load, load_beside, not_off_site
from becalm.policy.load import load_folder, sample
from becalm.policy.spec import Environment
from becalm.testing.builders import a_policy

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "apiVersion: becalm.dev/v1\nkind: Environments\n"
GOOD = {
    "schedule": "0 * * * *",
    "objectives": {"rpo": "2h"},
    "target": {"url": "s3://backups/prod", "password": "env:X", "lock": {"days": 14}},
}


def lacks(policy: object, said: Environments = BUILT_IN, **rest: object) -> dict[str, str]:
    """Return what a policy lacks, by its path."""
    found = judge(policy, said.limits(policy.spec.environment), **rest)  # type: ignore[attr-defined, arg-type]
    return {one.path: one.problem for one in found}


def test_production_demands_a_lock_a_place_elsewhere_a_schedule_and_an_objective() -> None:
    """Each missing one is a finding with its remedy; a policy with all of them has none."""
    bare = a_policy(target={"url": "file:///backups", "password": "env:X"})
    found = judge(bare, BUILT_IN.limits(Environment.PRODUCTION))

    assert [one.path for one in found] == ["spec.target.lock", "spec.target.url", "spec.schedule", "spec.objectives.rpo"]
    assert all(one.remedy and one.problem.startswith("production demands more: ") for one in found)
    assert lacks(a_policy(**GOOD)) == {}


def test_staging_demands_less_and_test_nothing() -> None:
    """The same bare policy."""
    bare = {"target": {"url": "file:///backups", "password": "env:X"}}

    assert list(lacks(a_policy(**bare, environment="staging"))) == ["spec.schedule"]
    assert lacks(a_policy(**bare, environment="test")) == {}


def test_an_objective_beyond_the_limit_is_named_with_both() -> None:
    """A day is the default's most."""
    assert lacks(a_policy(**(GOOD | {"objectives": {"rpo": "2d"}}))) == {
        "spec.objectives.rpo": "production demands more: 2d is more than 1d"
    }


@pytest.mark.parametrize(
    ("schedule", "rpo", "problem"),
    [
        ("0 * * * *", "1h", ""),
        ("0 3 * * *", "1d", ""),
        ("@daily", "4h", "up to 1d lie between two runs, and objectives.rpo allows 4h"),
        ("0 8-20 * * *", "2h", "up to 12h lie between two runs, and objectives.rpo allows 2h"),
        (None, "1h", ""),
    ],
)
def test_a_schedule_that_is_rarer_than_the_objective_is_a_finding(schedule: str | None, rpo: str, problem: str) -> None:
    """In every environment: the policy contradicts itself. A clock that jumps once a year is no reason."""
    found = judge(
        a_policy(environment="test", schedule=schedule, timezone="Europe/Zurich", objectives={"rpo": rpo}),
        BUILT_IN.limits(Environment.TEST),
    )

    assert [(one.path, one.problem) for one in found] == ([("spec.schedule", problem)] if problem else [])
    assert all(one.remedy for one in found)


def test_a_file_says_what_an_installation_demands_and_the_rest_stays() -> None:
    """A key that is left out keeps its environment's default."""
    said = load(HEAD + "production: {rpo: 1h, lock: optional}\ntest: {schedule: required}\n", source="x")
    unlocked = GOOD | {"target": {"url": "s3://backups/prod", "password": "env:X"}, "schedule": None}

    assert list(lacks(a_policy(**unlocked), said)) == ["spec.schedule", "spec.objectives.rpo"]
    assert list(lacks(a_policy(environment="test"), said)) == ["spec.schedule"]


@pytest.mark.parametrize(
    ("url", "endpoint", "expected"),
    [
        ("s3://backups", "", ""),
        ("s3://backups", "https://s3.example.org", ""),
        ("s3://backups", "http://192.0.2.7:9000", ""),
        ("file:///backups", "", "a folder of the machine"),
        ("s3://backups", "http://127.0.0.1:9000", "127.0.0.1 is the machine"),
        ("s3://backups", "http://localhost:9000", "localhost is the machine"),
        ("s3://backups", "http://[::1]:9000", "::1 is the machine"),
        ("s3://backups", "http://minio.storage.svc:9000", "in the cluster that is protected"),
        ("s3://backups", "http://minio.storage.svc.cluster.local", "in the cluster that is protected"),
        ("s3://backups", "http://10.96.0.7:9000", "in the cluster that is protected"),
    ],
)
def test_off_site_is_outside_this_machine_and_outside_the_cluster(url: str, endpoint: str, expected: str) -> None:
    """By the endpoint's host, and by the cluster's own addresses."""
    told = not_off_site(url, endpoint, hosts={"10.96.0.7", "10.0.0.5"})

    assert expected in told
    assert bool(told) is bool(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("production: {lok: required}\n", "production.lok: no such key is known here"),
        ("production: {lock: yes}\n", "production.lock:"),
        ("prod: {}\n", "prod: no such key is known here"),
        ("production: {rpo: soon}\n", "production.rpo:"),
    ],
)
def test_a_mistake_in_the_limits_is_named(tmp_path: Path, text: str, expected: str) -> None:
    """With its place, by whoever reads it; no limit is guessed."""
    (tmp_path / "environments.yaml").write_text(HEAD + text)
    (tmp_path / "shop.yaml").write_text(sample())
    with pytest.raises(PolicyError) as refused:
        load_beside(tmp_path / "shop.yaml")
    done = CliRunner().invoke(app, ["check", str(tmp_path / "shop.yaml")])

    assert expected in str(refused.value.findings[0])
    assert done.exit_code == 3
    assert expected in done.output


def test_the_file_beside_the_policies_is_no_policy(tmp_path: Path) -> None:
    """It makes no broken DAG and no finding."""
    (tmp_path / "environments.yaml").write_text(HEAD)
    (tmp_path / "shop.yaml").write_text(sample())

    assert [file.name for file in load_folder(tmp_path)] == ["shop.yaml"]


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    """One that is not named need not."""
    assert load_beside(tmp_path / "shop.yaml") is BUILT_IN
    with pytest.raises(PolicyError, match=r"none\.yaml"):
        load_beside(tmp_path / "shop.yaml", named=tmp_path / "none.yaml")


def test_check_holds_a_policy_against_its_environment(tmp_path: Path) -> None:
    """It ends with 3, as for every other mistake; BECALM_ENVIRONMENTS may name the limits."""
    policy, limits = tmp_path / "shop.yaml", tmp_path / "limits.yaml"
    policy.write_text(sample())
    limits.write_text(HEAD + "production: {rpo: 1h}\n")
    fine = CliRunner().invoke(app, ["check", str(policy)])
    strict = CliRunner().invoke(app, ["check", str(policy)], env={"BECALM_ENVIRONMENTS": str(limits)})

    assert fine.exit_code == 0
    assert strict.exit_code == 3
    assert "spec.objectives.rpo: production demands more: 2h is more than 1h; write at most 1h" in strict.output
