"""Any file system: `fsfreeze` flushes it and holds every write to it.

`fsfreeze` works on whole file systems, whatever path it is given: of an `emptyDir`, a `subPath` or a folder of the node it would freeze the
node's own disk. So the path must be where a whole volume is mounted, and not be on the disk of the node; everything else is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.policy.blueprints import BlueprintName, FilesystemParameters
from becalm.quiesce.blueprint import Blueprint, Recipe
from becalm.quiesce.shell import script

if TYPE_CHECKING:
    from collections.abc import Mapping

# A line of mountinfo: an id, the parent's, the device, which folder of it is mounted, and where. The files that the kubelet puts into each
# container lie on the node's disk.
SCRIPT = r"""
mode=$1 path=$2 device= whole= nodes=
[ "$path" = / ] || path=${path%/}
program=$(first fsfreeze) || exit $?
unsafe() { [ "$mode" = freeze ] || { echo "$1" >&2; exit 75; }; fail "$1"; }
while read -r id parent of folder where rest; do
  case $where in
    "$path") device=$of whole=$folder ;;
    /etc/hosts|/etc/hostname|/etc/resolv.conf|/dev/termination-log) nodes="$nodes $of " ;;
  esac
done 2>/dev/null </proc/self/mountinfo
[ -n "$device" ] || unsafe "nothing is mounted at $path in this container"
[ "$whole" = / ] || unsafe "at $path only a part of a file system is mounted (an emptyDir, a subPath or a folder of the node): to freeze it would freeze more"
case $nodes in *" $device "*) unsafe "$path is on the node's own disk: to freeze it would freeze the node" ;; esac
if [ "$mode" = freeze ]; then
  [ -d /dev/shm ] && [ -w /dev/shm ] && [ "$path" != /dev/shm ] || fail "without /dev/shm there is no safe place for the dead-man switch"
  exec "$program" --freeze "$path"
fi
said=$(LC_ALL=C "$program" --unfreeze "$path" 2>&1) && exit 0
echo "$said" >&2
case $said in
  *"nvalid argument"*) exit 75 ;;
  *"peration not permitted"*) echo "this container may not thaw a file system, and so it cannot have frozen it" >&2; exit 75 ;;
esac
exit 1
"""


def recipe(parameters: FilesystemParameters, *, timeout_seconds: int) -> Recipe:
    """Return the recipe. What was not frozen answers a thaw with `Invalid argument`: then the freeze had not held."""
    del timeout_seconds  # a flush takes as long as it takes; the dead-man switch ends it
    return Recipe(
        freeze=script("filesystem", SCRIPT, "freeze", parameters.path),
        thaw=script("filesystem", SCRIPT, "thaw", parameters.path),
        needs=("sh", "fsfreeze"),
    )


BLUEPRINTS: Mapping[BlueprintName, Blueprint[Any]] = {
    BlueprintName.FILESYSTEM: Blueprint(name=BlueprintName.FILESYSTEM, title="A file system (ext4, XFS and others)", recipe=recipe)
}
