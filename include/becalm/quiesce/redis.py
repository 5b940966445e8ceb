"""Redis and Valkey: writes are paused, and what was written before is on the disk.

The pause is a timer in the server: it ends by itself, a little after the hook's time, whatever dies. Reads go on. Under the pause an
append-only file is complete once the server's buffer is empty and the file system was flushed; without one, the server saves its dump. A note
of the freeze holds the server's own count of writes: it is the same at the thaw, or the freeze had not held.

`WAITAOF` is not used: it speaks only of the writes of its own connection, and this one makes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.policy.blueprints import BlueprintName, RedisParameters
from becalm.quiesce.blueprint import Blueprint, Members, Recipe
from becalm.quiesce.shell import NOTES, digest, script

if TYPE_CHECKING:
    from collections.abc import Mapping

PAUSE_MARGIN_SECONDS = 10
"""How much longer than the hook's time the pause lasts: the dead-man switch comes first, and tells."""

SCRIPT = (
    NOTES
    + r"""
mode=$1 name=$2 pause=$3 host=$4 port=$5 socket=$6 account=$7 file=$8 tls=$9
shift 9
ca=$1 certificate=$2 key=$3 end=$(printf '\r')
program=$(first redis-cli valkey-cli) || exit $?
password=$(secret "$file" REDISCLI_AUTH REDIS_PASSWORD VALKEY_PASSWORD) || exit $?
if [ -n "$password" ]; then export REDISCLI_AUTH="$password"; fi
ask() {
  set -- ${account:+--user "$account"} ${tls:+--tls} ${ca:+--cacert "$ca"} ${certificate:+--cert "$certificate"} ${key:+--key "$key"} "$@"
  if [ -n "$socket" ]; then "$program" -s "$socket" "$@"; else "$program" -h "$host" -p "$port" "$@"; fi
}
look() {
  said= aof= rewriting= saving= buffer= pending= written= saved= changes= time= size= base= id= role=
  IFS='
'
  for x in $(ask info "$1" 2>&1); do
    x=${x%"$end"} y=${x#*:}
    case $x in
      aof_enabled:*) aof=$y ;; aof_rewrite_in_progress:*) rewriting=$y ;; rdb_bgsave_in_progress:*) saving=$y ;;
      aof_buffer_length:*) buffer=$y ;; aof_pending_bio_fsync:*) pending=$y ;; aof_last_write_status:*) written=$y ;;
      rdb_last_bgsave_status:*) saved=$y ;; rdb_changes_since_last_save:*) changes=$y ;; rdb_last_save_time:*) time=$y ;;
      aof_current_size:*) size=$y ;; aof_base_size:*) base=$y ;; run_id:*) id=$y ;; role:*) role=$y ;; loading:1) fail "the server is loading" ;;
      [A-Z]*) said="${said:+$said; }$x" ;;
    esac
  done
  unset IFS
}
mark() {
  look server; i=$id
  look persistence
  if [ "$aof" = 1 ]; then echo "aof $i $size $base"; else echo "rdb $i $changes $time"; fi
}
told() { [ -n "$1" ] || fail "the server does not answer as Redis: ${said:-it said nothing}"; }
save() {
  tries=0
  while :; do
    look persistence; told "$changes"
    if [ "$saving" = 0 ]; then
      [ "$changes" != 0 ] || return 0
      [ $tries -lt 3 ] || fail "the server could not save its dump: its last one ended with ${saved:-nothing}"
      tries=$((tries+1)); ask bgsave >/dev/null 2>&1
    fi
    nap
  done
}
append() {
  while :; do
    look persistence; told "$buffer"
    [ "$written" = ok ] || fail "the server could not write its append-only file: $written"
    if [ "$buffer" = 0 ] && [ "$pending" = 0 ]; then return 0; fi
    nap
  done
}
case $mode in
probe)
  look replication; told "$role"
  if [ "$role" = master ]; then exit 0; fi
  exit 1 ;;
freeze)
  while look persistence; told "$aof"; [ "$aof" = 1 ] && [ "$rewriting" = 1 ]; do nap; done
  note "$name" pausing
  said=$(ask client pause "$pause" write 2>&1)
  case $said in *OK) ;; *) rm -f "$N"; fail "writes could not be paused: $said" ;; esac
  if [ "$aof" = 1 ]; then append; else save; fi
  flush "$(ask config get dir 2>/dev/null | { read -r x; IFS= read -r x; printf '%s' "${x%"$end"}"; })"
  note "$name" "$(mark)" ;;
thaw)
  was=
  if places "$bases" find "$name"; then read -r was <"$N"; now=$(mark 2>/dev/null); fi
  said=$(ask client unpause 2>&1)
  case $said in
    *OK) ;;
    *) [ -z "$was" ] || fail "writes could not be let go on: $said"; echo "nothing was paused, and the server says: $said" >&2; exit 75 ;;
  esac
  if [ -n "$N" ]; then rm -f "$N"; fi
  [ -n "$was" ] || { echo "nothing was paused" >&2; exit 75; }
  [ "$was" = "$now" ] || { echo "something was written while the writes were paused, or the server was restarted" >&2; exit 75; } ;;
esac
"""
)


def recipe(parameters: RedisParameters, *, timeout_seconds: int) -> Recipe:
    """Return the recipe."""
    given = parameters

    def command(mode: str) -> tuple[str, ...]:
        return script(
            "redis",
            SCRIPT,
            mode,
            "redis-" + digest(given.socket or given.host, str(given.port)),
            str((timeout_seconds + PAUSE_MARGIN_SECONDS) * 1000),
            given.host,
            str(given.port),
            given.socket or "",
            given.account or "",
            given.password_file or "",
            "yes" if given.tls else "",
            given.ca or "",
            given.certificate or "",
            given.key or "",
        )

    return Recipe(
        freeze=command("freeze"),
        thaw=command("thaw"),
        probe=command("probe"),
        members=Members(given.members),
        needs=("sh", "redis-cli", "sync"),
    )


BLUEPRINTS: Mapping[BlueprintName, Blueprint[Any]] = {
    BlueprintName.REDIS: Blueprint(name=BlueprintName.REDIS, title="Redis 6.2 and later, Valkey", recipe=recipe)
}
