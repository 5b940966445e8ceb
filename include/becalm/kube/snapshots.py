"""Volume snapshots without leaks: `cut` them (`cuts`, `groups`), `bind` them where they can be read (`exports`), `discard` all of it (`leftovers`)."""

from becalm.kube.cuts import await_cuts, cut, start_cut
from becalm.kube.exports import Bound, bind
from becalm.kube.groups import start_group
from becalm.kube.kinds import snapshot_kinds
from becalm.kube.leftovers import discard
from becalm.kube.snapshot_facts import SnapshotFacts, quantity

__all__ = ["Bound", "SnapshotFacts", "await_cuts", "bind", "cut", "discard", "quantity", "snapshot_kinds", "start_cut", "start_group"]
