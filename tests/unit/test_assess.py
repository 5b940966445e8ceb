"""Assess: what each disaster takes of a cluster without policies, and proposals that load, fit their environment and cover what they can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.hidden_state import SENTINEL, a_cluster_with_all, pod_with

from becalm.actions import assess as assessing
from becalm.actions import census, inventory, proposals
from becalm.actions.assess import Disaster, Loss
from becalm.actions.inventory import Inventory
from becalm.actions.proposals import Proposal
from becalm.actions.state import Census, Origin, State, What
from becalm.cli.assess import document, show, write
from becalm.errors import UsageError
from becalm.policy.environments import BUILT_IN, judge
from becalm.policy.load import load, load_folder
from becalm.policy.spec import ProtectionPolicy
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.objects import a_claim, a_config_map, a_namespace, a_snapshot_class, a_storage_class, a_volume


def looked(cluster: FakeCluster) -> tuple[Census, Inventory]:
    """Read a cluster as the command does."""
    seen = census.read(cluster)
    return seen, inventory.read(cluster, seen.namespaces, frozenset(item.name for item in seen.namespaces))


def proposed(cluster: FakeCluster) -> dict[str, Proposal]:
    return {one.namespace: one for one in proposals.propose(*looked(cluster))}


def a_state(what: What, **more: Any) -> State:
    return State(what=what, resource="x", namespace=more.pop("namespace", "shop"), name="one", **more)


@pytest.mark.parametrize(
    ("state", "losses"),
    [
        (a_state(What.CLAIM, goes=True), "LKLLL"),
        (a_state(What.CLAIM), "KKLLL"),
        (a_state(What.CLAIM, on_node=True), "KLLLL"),
        (a_state(What.NODE_PATH, on_node=True), "KLLLL"),
        (a_state(What.SCRATCH, on_node=True), "LLKLL"),
        (a_state(What.SNAPSHOT), "LKKLL"),
        (a_state(What.SECRET), "LKKLL"),
        (a_state(What.SECRET, origin=Origin.DECLARED), "FKKFF"),
        (a_state(What.BY_HAND, origin=Origin.BY_HAND), "LKKLL"),
        (a_state(What.VOLUME, namespace=""), "KKLLL"),
        (a_state(What.POD_VOLUME), "KKLLK"),
        (a_state(What.POD_VOLUME, goes=True, on_node=True), "LLLLL"),
        (a_state(What.OBJECT), "LKKLL"),
    ],
)
def test_each_disaster_takes_what_it_reaches(state: State, losses: str) -> None:
    """In order: namespace, node, volume, ransomware, cluster. L: lost, F: back from files, K: kept."""
    letters = {Loss.LOST: "L", Loss.BY_FILES: "F", Loss.KEPT: "K"}

    assert "".join(letters[assessing.loss(state, disaster)] for disaster in Disaster) == losses


def test_the_sums_are_those_of_the_pieces() -> None:
    """Each piece is in exactly one column of each disaster, and the largest volumes are the examples."""
    seen, _ = looked(a_cluster_with_all()[0])
    found = assessing.assess(seen)

    assert all(toll.total + toll.by_files + toll.kept == len(seen.states) for toll in found.tolls)
    assert [toll.disaster for toll in found.tolls] == list(Disaster)
    assert sum(sum(counted.values()) for counted in found.by_namespace.values()) == len(seen.states)


def test_the_proposals_are_policies(tmp_path: Path) -> None:
    """They are written, load, and keep to the limits of their environment; namespaces without state need none."""
    cluster = FakeCluster()
    cluster.put(a_storage_class(), a_snapshot_class(), *(a_namespace(name) for name in ("shop", "shop-test", "empty")))
    claim = a_claim("data", "shop")
    cluster.put(claim, a_volume(claim), a_config_map("settings", "shop-test"))
    write(list(proposed(cluster).values()), tmp_path / "policies")
    found = load_folder(tmp_path / "policies")
    policies = [policy for _, policy in sorted(found.items(), reverse=True) if isinstance(policy, ProtectionPolicy)]

    assert [(policy.name, policy.spec.environment.value) for policy in policies] == [("shop", "production"), ("shop-test", "test")]
    assert [judge(policy, BUILT_IN.limits(policy.spec.environment)) for policy in policies] == [(), ()]


def test_a_volume_that_cannot_be_cut_is_read_live() -> None:
    """Otherwise the first run would miss it."""
    cluster = FakeCluster()
    claim = a_claim("data", "shop")
    cluster.put(a_namespace("shop"), a_storage_class(), claim, a_volume(claim))
    policy = load(proposed(cluster)["shop"].text, source="shop.yaml")

    assert [(rule.match.claim, rule.use.value) for rule in policy.spec.volumes.rules] == [("data", "live")]


def test_names_that_are_too_long_stay_apart() -> None:
    """A policy's name has forty characters, a namespace's more."""
    names = [proposals.policy_name("n" * 60 + end) for end in ("a", "b")]

    assert len(set(names)) == 2
    assert max(map(len, names)) <= proposals.LONGEST_NAME


def test_a_hostile_path_stays_a_comment() -> None:
    """Whatever stands in a pod's volume cannot become a key of the policy."""
    cluster = FakeCluster()
    pod = pod_with("writer", {"name": "v", "hostPath": {"path": "/srv\nspec: {}\n# "}})
    cluster.put(a_namespace("shop"), pod, a_config_map("settings", "shop"))
    proposal = proposed(cluster)["shop"]

    assert load(proposal.text, source="shop.yaml").name == "shop"
    assert "Not captured" in proposal.text


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """One file that is there already keeps all from being written."""
    there = Proposal(name="a", namespace="a", document={})
    (tmp_path / "a.yaml").write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        write([Proposal(name="b", namespace="b", document={}), there], tmp_path)

    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.yaml", "mine")]


def test_no_secret_comes_out(capsys: Any) -> None:
    """Neither in the tables, nor in the document, nor in a proposal."""
    seen, facts = looked(a_cluster_with_all()[0])
    found, made = assessing.assess(seen), proposals.propose(seen, facts)
    show(found, made, [])
    printed = capsys.readouterr().out + json.dumps(document(found, made, [])) + "".join(one.text for one in made)

    assert "persistentvolumeclaims/shop/goes" in printed
    assert SENTINEL not in printed
