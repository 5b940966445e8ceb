"""Volume snapshots without leaks: `cut` them (`cuts`), `bind` them where they can be read (`exports`), `discard` all of it (`leftovers`)."""

from becalm.kube.cuts import SnapshotFacts, await_cuts, cut, quantity, start_cut
from becalm.kube.exports import Bound, bind
from becalm.kube.kinds import snapshot_kinds
from becalm.kube.leftovers import discard

__all__ = ["Bound", "SnapshotFacts", "await_cuts", "bind", "cut", "discard", "quantity", "snapshot_kinds", "start_cut"]
