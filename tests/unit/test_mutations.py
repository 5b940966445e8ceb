"""Mutations of stored data: never a wrong byte, and every damage is named. `make prove` tries more than 100,000."""

from __future__ import annotations

from itertools import islice

import pytest

from becalm.testing.mutator import Findings, Mutation, Specimen, examine, mutations, specimen, specimens

SHAPES = list(specimens())


@pytest.mark.parametrize("found", SHAPES, ids=lambda found: found.shape)
def test_what_is_damaged_is_named_and_never_restored_wrongly(found: Specimen) -> None:
    """Bits flipped, lengths changed, objects swapped, replaced and lost."""
    findings = Findings()
    for mutation in islice(mutations(found), 3, None, 2500):
        examine(found, mutation, findings)

    assert (findings.wrong, findings.unnamed) == ([], [])
    assert findings.tried > 10
    assert findings.refused > 5


def test_every_kind_of_damage_and_every_object_is_among_the_mutations() -> None:
    """Each bit of each object that is not large, each length, each pair of one kind."""
    found = SHAPES[0]
    every = [mutation.what for mutation in mutations(found)]

    assert len(every) == len(set(every)) > 30_000
    keys = found.store.keys()
    for key in keys:
        size = len(found.store.get(key))
        assert sum(what.startswith("bit ") and key in what for what in every) == size * 8
        assert sum(what.startswith(f"{key} cut to") for what in every) == size
    assert any("blobs " in what for what in every)
    assert any("another repository" in what for what in every)


def test_damage_that_nobody_names_is_told() -> None:
    """The harness itself: a change without consequence that claims to be a damage, and other content in a point's place."""
    found = specimen("small")
    other = specimen("other", seed=3)
    findings = Findings()
    examine(found, Mutation(what="nothing", change=lambda store: None, names=("config",)), findings)
    swapped = Specimen(
        shape="swapped", store=found.store, points=dict(zip(found.points, reversed(list(other.points.values())), strict=True))
    )
    examine(swapped, Mutation(what="nothing", change=lambda store: None, silent=True), findings)

    assert len(findings.unnamed) == 1
    assert len(findings.wrong) == 2
