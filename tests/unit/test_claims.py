"""Claims: read with all errors at once, audited against evidence, and confirmed again without touching anything else."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from becalm.actions import claims as claiming
from becalm.actions.claims import Audit, Standing
from becalm.actions.inventory import NamespaceFacts
from becalm.actions.state import Census, Origin, State, What
from becalm.cli.app import app
from becalm.cli.claims import document
from becalm.clock import SystemClock, parse_time
from becalm.errors import PolicyError
from becalm.policy import claims
from becalm.policy.load import load_folder
from becalm.testing.builders import NOON, a_policy_document

TEXT = """\
apiVersion: becalm.dev/v1
kind: StatelessClaim   # beside the policies
metadata: {name: front}
spec:
  scope:
    namespaces: [front]
  reason: "only a proxy: everything is in Git"
  owner: web-team
  confirmed: 2026-06-01  # by Ada
  validFor: 30d
"""


def a_claim(name: str = "front", *, scope: dict[str, Any] | None = None, **spec: Any) -> claims.StatelessClaim:
    """Return a claim that was confirmed two weeks before noon and holds for a month."""
    said = {"scope": scope or {"namespaces": ["front"]}, "reason": "a proxy", "owner": "web", "confirmed": "2026-06-01", "validFor": "30d"}
    head = {"apiVersion": "becalm.dev/v1", "kind": "StatelessClaim", "metadata": {"name": name}}
    return claims.StatelessClaim.model_validate({**head, "spec": {**said, **spec}})


def a_state(what: What = What.CONFIG_MAP, resource: str = "configmaps", **more: Any) -> State:
    return State(what=what, resource=resource, namespace=more.pop("namespace", "front"), name="one", **more)


def audited(*states: State, claim: claims.StatelessClaim | None = None) -> Audit:
    """Audit one claim at noon, in a cluster with the namespaces `front` and `back`."""
    seen = Census(states=states, namespaces=(NamespaceFacts(name="front"), NamespaceFacts(name="back")))
    return claiming.audit([claim or a_claim()], seen, now=NOON)[0]


def test_a_claim_is_read_with_its_last_day() -> None:
    """Confirmed on the first, valid for thirty days: the first of July is the first day without it."""
    claim = claims.load(TEXT, source="front.yaml")

    assert (claim.name, claim.spec.owner, claim.expires) == ("front", "web-team", date(2026, 7, 1))


def test_all_errors_come_at_once() -> None:
    """Each with its path and what to write instead."""
    bad = TEXT.replace("confirmed: 2026-06-01", "confirmed: yesterday").replace("owner: web-team", "ownr: x").replace("30d", "soon")
    with pytest.raises(PolicyError) as caught:
        claims.load(bad, source="front.yaml")

    assert {finding.path for finding in caught.value.findings} == {"spec.confirmed", "spec.ownr", "spec.owner", "spec.validFor"}
    assert "write it as 2026-06-15" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a", "kind: ProtectionPolicy", "kind: [", "a: 1\n---\nb: 2"])
def test_what_is_no_claim_is_said_in_one_finding(text: str) -> None:
    """An empty file, a list, a policy, no YAML, two documents."""
    with pytest.raises(PolicyError) as caught:
        claims.load(text, source="x.yaml")

    assert len(caught.value.findings) == 1


def test_claims_and_policies_lie_side_by_side(tmp_path: Path) -> None:
    """Each reader takes its own; a broken claim is no broken policy, and the other way round."""
    (tmp_path / "front.yaml").write_text(TEXT)
    (tmp_path / "broken.yaml").write_text(TEXT.replace("owner", "ownr").replace("name: front", "name: broken"))
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(a_policy_document()))
    (tmp_path / "worse.yaml").write_text("kind: ProtectionPolicy")

    assert sorted(file.name for file in load_folder(tmp_path)) == ["shop.yaml", "worse.yaml"]
    assert sorted(file.name for file in claims.load_folder(tmp_path)) == ["broken.yaml", "front.yaml"]


def test_a_name_is_given_once(tmp_path: Path) -> None:
    """Two claims of one name are both bad: nobody could tell which one is meant."""
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(TEXT)

    assert all(isinstance(answer, PolicyError) for answer in claims.load_folder(tmp_path).values())


def test_a_claim_holds_where_nothing_speaks_against_it() -> None:
    """Settings from a file, written before it was confirmed, and scratch space."""
    settled = a_state(origin=Origin.DECLARED, created=parse_time("2026-05-01T00:00:00Z"))
    found = audited(settled, a_state(What.SCRATCH, "pods", part="emptyDir x"))

    assert (found.standing, found.findings, found.matched) == (Standing.HOLDS, (), 2)


@pytest.mark.parametrize(
    "state",
    [
        a_state(What.CLAIM, "persistentvolumeclaims"),
        a_state(What.NODE_PATH, "pods", part="hostPath /srv"),
        a_state(What.STATEFUL_SET, "statefulsets", group="apps"),
        a_state(What.DATABASE, "clusters", group="postgresql.cnpg.io"),
        a_state(What.SECRET, "secrets", origin=Origin.UNKNOWN),
        a_state(What.CERTIFICATE, "secrets", origin=Origin.UNKNOWN),
        a_state(What.CUSTOM, "campaigns", group="example.org", changed=parse_time("2026-06-10T00:00:00Z")),
        a_state(What.CONFIG_MAP, created=parse_time("2026-06-10T00:00:00Z")),
        a_state(What.BY_HAND, "deployments", changed_by_hand=parse_time("2026-06-10T00:00:00Z"), hands=("kubectl-edit",)),
    ],
    ids=lambda state: state.what.value,
)
def test_evidence_contradicts_a_claim(state: State) -> None:
    """Volumes and databases always; what came or changed since it was confirmed; secrets that no file explains."""
    found = audited(state)

    assert (found.standing, found.findings[0].where) == (Standing.CONTRADICTED, f"front: {state.where}")
    assert claiming.holding([found]) == ()


def test_a_claim_about_kinds_is_contradicted_only_by_what_came_since() -> None:
    """It says that these need no backup; that they are there is no news."""
    claim = a_claim(scope={"namespaces": ["front"], "kinds": ["persistentvolumeclaims"]})
    old = a_state(What.CLAIM, "persistentvolumeclaims", created=parse_time("2026-05-01T00:00:00Z"))
    new = a_state(What.CLAIM, "persistentvolumeclaims", created=parse_time("2026-06-10T00:00:00Z"))

    assert audited(old, claim=claim).standing is Standing.HOLDS
    assert audited(new, claim=claim).standing is Standing.CONTRADICTED


def test_a_claim_runs_out() -> None:
    """Before that it warns; after it, it excuses nothing. One that is confirmed in the future is not believed."""
    soon, over, future = (
        audited(claim=a_claim(**spec)) for spec in ({"validFor": "20d"}, {"validFor": "10d"}, {"confirmed": "2027-01-01"})
    )

    assert (soon.standing, "in 6 days" in soon.findings[0].message) == (Standing.HOLDS, True)
    assert (over.standing, "4 days ago" in over.findings[0].message) == (Standing.EXPIRED, True)
    assert future.standing is Standing.CONTRADICTED


def test_a_scope_that_matches_nothing_is_said() -> None:
    """A namespace that is gone, and kinds that are not there."""
    gone = audited(claim=a_claim(scope={"namespaces": ["nowhere"]}))
    none = audited(a_state(), claim=a_claim(scope={"namespaces": ["front"], "kinds": ["secrets"]}))

    assert (gone.standing, gone.findings[0].message) == (Standing.EMPTY, "no namespace answers nowhere")
    assert (none.standing, none.findings[0].message) == (Standing.EMPTY, "nothing answers its scope")


def test_two_claims_that_contradict_each_other_hold_neither() -> None:
    """The same scope, and two owners."""
    seen = Census(namespaces=(NamespaceFacts(name="front"),))
    found = claiming.audit([a_claim("one"), a_claim("two", owner="others")], seen, now=NOON)

    assert [one.standing for one in found] == [Standing.CONTRADICTED] * 2
    assert "names others as its owner" in found[0].findings[0].message


def test_a_scope_asks_for_namespace_kind_and_label() -> None:
    """All of them; what belongs to no namespace is in no scope."""
    claim = a_claim(scope={"namespaces": ["fr*"], "kinds": ["configmaps"], "labels": "app=web"})
    web = {"app": "web"}

    assert claiming.speaks_of(claim, a_state(labels=web))
    assert not claiming.speaks_of(claim, a_state(labels={}))
    assert not claiming.speaks_of(claim, a_state(labels=web, namespace="back"))
    assert not claiming.speaks_of(claim, a_state(What.SECRET, "secrets", labels=web))
    assert not claiming.speaks_of(a_claim(scope={"namespaces": ["*"]}), a_state(namespace=""))


def test_the_document_tells_each_claim() -> None:
    """One that does not hold makes the whole not ok; so does what could not be read."""
    good, bad = audited(), audited(a_state(What.CLAIM, "persistentvolumeclaims"))

    assert json.loads(json.dumps(document([good, bad])))["claims"][1]["standing"] == "contradicted"
    assert [document([good])["ok"], document([good, bad])["ok"], document([good], unknown=["x"])["ok"]] == [True, False, False]


@given(day=st.dates(min_value=date(2000, 1, 1)), quote=st.sampled_from(["", '"', "'"]))
def test_confirming_changes_the_date_and_nothing_else(day: date, quote: str) -> None:
    """Comments, order and line ends stay, in whatever quotes the date stood."""
    before = TEXT.replace("2026-06-01", f"{quote}2026-06-01{quote}").replace("\n", "\r\n")
    after = claims.confirmed_text(before, day, source="x")

    assert claims.load(after, source="x").spec.confirmed == day
    assert after == before.replace(f"{quote}2026-06-01{quote}", f'"{day.isoformat()}"')


def test_a_date_that_cannot_be_replaced_is_left_alone() -> None:
    """One on a line of its own: a person has to write it, and is told what."""
    text = TEXT.replace("confirmed: 2026-06-01", "confirmed:\n    2026-06-01")
    with pytest.raises(PolicyError, match="cannot be replaced"):
        claims.confirmed_text(text, date(2026, 6, 15), source="x")


def test_confirm_writes_today_into_the_file(tmp_path: Path) -> None:
    """The file keeps its rights, nothing new lies beside it after, what a killed one left is no hindrance, and policy check knows the claim."""
    file = tmp_path / "front.yaml"
    file.write_text(TEXT)
    file.chmod(0o640)
    (tmp_path / ".front.yaml.new").write_text("left by one that was killed")
    today = SystemClock().now().date()
    done = CliRunner().invoke(app, ["claims", "confirm", str(file)])
    checked = CliRunner().invoke(app, ["policy", "check", str(tmp_path)])

    assert (done.exit_code, checked.exit_code) == (0, 0)
    assert (claims.load_file(file).spec.confirmed - today).days in {0, 1}
    assert (file.stat().st_mode & 0o777, sorted(one.name for one in tmp_path.iterdir())) == (0o640, [".front.yaml.new", "front.yaml"])
    assert "ok, claim front: no policy" in checked.output


def test_a_folder_without_claims_is_an_error_before_any_cluster_is_asked(tmp_path: Path) -> None:
    """The audit needs no word of its own."""
    done = CliRunner().invoke(app, ["claims", str(tmp_path), "--json"])

    assert "there are no claims" in str(done.exception)
