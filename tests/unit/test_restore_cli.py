"""What the command line says of a restore: plain text of hostile points, and typed errors for slips of the pen."""

import pytest
from rich.console import Console

from becalm.actions.restore_steps import Action, RestorePlan, Step
from becalm.cli.console import clean
from becalm.cli.restore_options import read_mapping
from becalm.cli.restore_view import print_plan
from becalm.errors import UsageError
from becalm.kube.diffing import FieldChange
from becalm.model import Finding, ResourceRef
from becalm.testing.builders import NOON


def test_no_markup_and_no_control_character_of_a_point_reaches_the_terminal() -> None:
    """A name may try to colour, to move the cursor, or to hide what follows."""
    said = clean("a[red]b[/red]\x1b[2J\r\nc").plain

    assert said == "a[red]b[/red]\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}c"


def test_a_plan_is_printed_with_reasons_differences_and_what_forbids_it() -> None:
    """Every step says why, and a difference says from what to what."""
    ref = ResourceRef(group="apps", resource="deployments", namespace="shop", name="web[1]")
    step = Step(
        source=ref,
        target=ref,
        kind="Deployment",
        version="v1",
        action=Action.KEEP,
        reason="it differs",
        order=(8, 0),
        changes=(FieldChange(path="spec.replicas", before=2, after=3),),
    )
    forbidden = Finding(where="namespaces/shop", message="is being deleted", remedy="wait")
    plan = RestorePlan(
        policy="shop",
        point="ab" * 32,
        tree="cd" * 32,
        cut=NOON,
        consistency="crash-consistent",
        complete=True,
        steps=(step,),
        volumes=(),
        blocking=(forbidden,),
    )
    screen = Console(width=200)
    with screen.capture() as captured:
        print_plan(plan, screen)
    text = captured.get()

    assert "deployments.apps/shop/web[1]" in text
    assert "spec.replicas: 2 → 3" in text
    assert "forbidden: namespaces/shop: is being deleted (wait)" in text


@pytest.mark.parametrize("given", [["shop"], ["=x"], ["shop="], ["a=b", "a=c"]])
def test_a_mapping_that_maps_nothing_is_a_usage_error(given: list[str]) -> None:
    """The remedy shows how to write it."""
    with pytest.raises(UsageError, match="shop=shop2"):
        read_mapping(given)


def test_a_mapping_is_read() -> None:
    """One pair per option."""
    assert read_mapping(["shop=shop2", "bank=bank2"]) == {"shop": "shop2", "bank": "bank2"}
