"""etcd: a snapshot that its own client takes and checks, kept in the recovery point. Nothing is frozen.

The members' volumes are cut as well, each at its own place in the log; a cluster is rebuilt from the snapshot, not from them. So a hook of this
kind promises nothing for the volumes' label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.model import Consistency
from becalm.policy.blueprints import BlueprintName, EtcdParameters
from becalm.quiesce.blueprint import Blueprint, Keep, Kept, Members, Recipe
from becalm.quiesce.shell import script

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BYTES = 16 * 2**30
"""Twice what etcd itself advises as the largest database."""
SECONDS = 600.0

# The client takes what it is told from its environment, and refuses to be told twice: so nothing is said by an option.
SCRIPT = r"""
mode=$1 endpoint=$2 ca=$3 certificate=$4 key=$5 folder=$6
program=$(first etcdctl) || exit $?
export ETCDCTL_API=3
if [ -n "$endpoint" ]; then export ETCDCTL_ENDPOINTS="$endpoint"; fi
if [ -n "$ca" ]; then export ETCDCTL_CACERT="$ca"; fi
if [ -n "$certificate" ]; then export ETCDCTL_CERT="$certificate"; fi
if [ -n "$key" ]; then export ETCDCTL_KEY="$key"; fi
case $mode in
probe)
  said=$("$program" endpoint status --write-out=fields 2>&1) || fail "$said"
  member= leader=
  IFS='
'
  for x in $said; do
    case $x in
      '"MemberID" : '*) member=${x##* } ;;
      '"Leader" : '*) leader=${x##* } ;;
    esac
  done
  if [ -z "$member" ] || [ -z "$leader" ] || [ "$leader" = 0 ]; then fail "the member knows no leader"; fi
  if [ "$member" = "$leader" ]; then exit 0; fi
  exit 1 ;;
keep)
  D=${folder:-${TMPDIR:-/tmp}}/becalm-etcd.$$
  trap 'rm -rf "$D"' EXIT
  trap 'exit 2' HUP INT TERM
  mkdir -m 700 "$D" || fail "the folder for the snapshot cannot be made; name another one as folder"
  "$program" snapshot save "$D/snapshot.db" >&2 || fail "the snapshot could not be taken"
  status=$(first etcdutl etcdctl) || exit $?
  "$status" snapshot status "$D/snapshot.db" >&2 || fail "the snapshot is damaged"
  cat "$D/snapshot.db" ;;
esac
"""


def recipe(parameters: EtcdParameters, *, timeout_seconds: int) -> Recipe:
    """Return the recipe: the leader is asked for a snapshot, after the thaw of whatever else is frozen."""
    del timeout_seconds  # nobody waits for it
    given = parameters

    def command(mode: str) -> tuple[str, ...]:
        return script(
            "etcd", SCRIPT, mode, given.endpoint or "", given.ca or "", given.certificate or "", given.key or "", given.folder or ""
        )

    keep = Keep(name="etcd-snapshot.db", command=command("keep"), kind=Kept.DUMP, most_bytes=MOST_BYTES, timeout_seconds=SECONDS)
    return Recipe(
        members=Members.PRIMARY,
        probe=command("probe"),
        keeps=(keep,),
        best=Consistency.CRASH,
        needs=("sh", "etcdctl", "mkdir", "cat", "rm"),
    )


BLUEPRINTS: Mapping[BlueprintName, Blueprint[Any]] = {
    BlueprintName.ETCD: Blueprint(name=BlueprintName.ETCD, title="etcd 3.4 and later", recipe=recipe)
}
