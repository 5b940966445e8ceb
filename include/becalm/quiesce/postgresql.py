"""PostgreSQL: a base backup's start and stop around the cut, in one session. Nobody who writes is held up.

The start makes a checkpoint and keeps the log from being removed: a temporary replication slot reserves it, and goes with the session. The stop
says from where a restore has to replay (the label), and up to where. Label, tablespace map and the log between the two go into the recovery
point, over the files of the cut; a server that finds them replays to a state that is consistent, even if its volumes were cut one after another.
It never stops the server, and never changes a setting of it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from becalm.policy.blueprints import BlueprintName
from becalm.quiesce.blueprint import Blueprint, Keep, Kept, Members, Recipe
from becalm.quiesce.session import Session, ended, opened, thawed, within

if TYPE_CHECKING:
    from becalm.policy.blueprints import PostgresqlParameters

LINGER_SECONDS = 150
"""How long the log is kept after the thaw, for us to fetch it."""
FETCH_SECONDS = 120.0
MOST_LOG_BYTES = 8 * 2**30

CLIENT = r"""
export PGAPPNAME=becalm PGUSER=$1 PGDATABASE=$2 PGPORT=$3 PGCONNECT_TIMEOUT=10
[ -z "$4" ] || export PGHOST=$4
[ -n "$PGPASSWORD" ] || PGPASSWORD=${POSTGRES_PASSWORD:-$POSTGRESQL_PASSWORD}
[ -n "$PGPASSWORD" ] || [ -z "$POSTGRES_PASSWORD_FILE" ] || PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
[ -z "$PGPASSWORD" ] || export PGPASSWORD
shift 4
exec psql -X -q -A -t -w -v ON_ERROR_STOP=1 -v folder="$BECALM_SESSION" "$@"
"""
"""Its arguments: role, database, port, host, and what psql is told besides. The password is the container's own, and only in the environment."""

OPENING = r"""
SELECT count(set_config(name, '0', false)) FROM pg_settings
  WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout');
SELECT current_setting('server_version_num')::int >= 150000 AS renamed \gset
SELECT pg_create_physical_replication_slot('becalm_' || pg_backend_pid(), true, true);
\if :renamed
SELECT pg_backup_start('becalm', true);
\else
SELECT pg_start_backup('becalm', true, false);
\endif
"""
CLOSING = r"""
\if :renamed
SELECT lsn AS stop, labelfile AS label, coalesce(spcmapfile, '') AS map FROM pg_backup_stop(false) \gset
\else
SELECT lsn AS stop, labelfile AS label, coalesce(spcmapfile, '') AS map FROM pg_stop_backup(false, false) \gset
\endif
SELECT rtrim(:'label', E'\n') \g :folder/label
SELECT rtrim(:'map', E'\n') \g :folder/map
SELECT current_setting('data_directory') \g :folder/data
SELECT substring(:'label' from 'file ([0-9A-F]{24})') AS first, pg_walfile_name(:'stop') AS last \gset
SELECT name FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$' AND name COLLATE "C" BETWEEN :'first' AND :'last' ORDER BY name COLLATE "C" \g :folder/segments
SELECT :'first' || ' ' || :'last' \g :folder/range
"""
OVERLAY = r"""
umask 077
s=$BECALM_SESSION
d=$(cat "$s/data") && d=$(readlink -f "$d") && w=$(readlink -f "$d/pg_wal") || { echo "the data directory cannot be found" >&2; exit 1; }
read -r first last <"$s/range" && [ -n "$first" ] && [ -n "$last" ] || { echo "the server did not say which log the backup needs" >&2; exit 1; }
set --
for o in $(cat "$s/segments"); do [ $# -gt 0 ] || [ "$o" = "$first" ] || break; set -- "$@" "${w#/}/$o"; done
[ $# -gt 0 ] && [ "$o" = "$last" ] || { echo "the server has not kept the log from $first to $last" >&2; exit 1; }
r=$s/root
rm -rf "$r"
mkdir -p "$r$d" "$r$(dirname "$w")" && ln -s "$w" "$r$w" || exit 1
cp "$s/label" "$r$d/backup_label" || exit 1
set -- "${d#/}/backup_label" "$@"
if [ -n "$(cat "$s/map")" ]; then cp "$s/map" "$r$d/tablespace_map" && set -- "${d#/}/tablespace_map" "$@" || exit 1; fi
u=$(stat -c %u:%g "$d") || exit 1
for f in "$r$d/backup_label" "$r$d/tablespace_map"; do
  [ ! -e "$f" ] || [ "$(stat -c %u "$f")" = "${u%:*}" ] || chown "$u" "$f" || exit 1
done
exec tar -c -h -f - -C "$r" "$@"
"""
"""A tar stream: the label, the map, and the log, under the paths that they have for the server."""
PROBE = r"""
answer=$(sh -c "$@" -c 'SELECT pg_is_in_recovery()') || exit 2
[ "$answer" = f ]
"""


def recipe(parameters: PostgresqlParameters, *, timeout_seconds: int) -> Recipe:
    """Return the recipe. The start's checkpoint takes the time that it takes: the dead-man switch ends it."""
    del timeout_seconds
    client = as_client(parameters)
    session = Session(
        name="postgresql-" + sha256("\0".join(client[4:]).encode()).hexdigest()[:8],
        client=client,
        before=r"\echo ",
        after="",
        opening=OPENING,
        closing=CLOSING,
        linger_seconds=LINGER_SECONDS,
    )
    fetch = within(session, ("sh", "-c", OVERLAY, "becalm-keep"))
    return Recipe(
        freeze=opened(session),
        thaw=thawed(session),
        members=Members.PRIMARY,
        probe=("sh", "-c", PROBE, "becalm-probe", *client[2:]),
        keeps=(
            Keep(name="the log of the backup", command=fetch, kind=Kept.OVERLAY, most_bytes=MOST_LOG_BYTES, timeout_seconds=FETCH_SECONDS),
        ),
        done=ended(session),
        needs=("sh", "psql", "tar", "mkfifo", "readlink", "stat"),
    )


def as_client(parameters: PostgresqlParameters) -> tuple[str, ...]:
    """Return the client with its connection; arguments of psql's may follow."""
    host = parameters.host or ""
    return ("sh", "-c", CLIENT, "becalm-psql", parameters.role, parameters.database, str(parameters.port), host)


BLUEPRINTS: dict[BlueprintName, Blueprint[Any]] = {
    BlueprintName.POSTGRESQL: Blueprint(name=BlueprintName.POSTGRESQL, title="PostgreSQL 10 and later", recipe=recipe)
}
