"""Where the limits of the environments stand: the file that BECALM_ENVIRONMENTS names, or `environments.yaml` beside the policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from becalm.cli.ports import environment
from becalm.policy.environments import load_beside

if TYPE_CHECKING:
    from becalm.policy.environments import Environments

VARIABLE = "BECALM_ENVIRONMENTS"


def limits_for(policy: Path) -> Environments:
    """Return the limits that hold for a policy's file. Raises PolicyError."""
    named = environment().get(VARIABLE)
    return load_beside(policy, named=Path(named) if named else None)
