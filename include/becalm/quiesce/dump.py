"""Logical dumps: what `pg_dump` and `mariadb-dump` say, one file for each database, streamed to the recovery point. Nothing is frozen.

Each dump is consistent in itself, of the moment when it begins, which is after the cut. It says nothing of the volumes, and gives no label.
The password is the container's own: it is found where the server's image has it, and only ever stands in the environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.policy.blueprints import BlueprintName
from becalm.quiesce.blueprint import Blueprint, Keep, Kept, Members, Recipe

if TYPE_CHECKING:
    from becalm.policy.blueprints import MariadbDumpParameters, PostgresqlDumpParameters

MOST_BYTES = 2**40
LONGEST_SECONDS = 3600.0

POSTGRESQL = r"""
export PGAPPNAME=becalm PGUSER=$1 PGPORT=$2 PGCONNECT_TIMEOUT=10
[ -z "$3" ] || export PGHOST=$3
[ -n "$PGPASSWORD" ] || PGPASSWORD=${POSTGRES_PASSWORD:-$POSTGRESQL_PASSWORD}
[ -n "$PGPASSWORD" ] || [ -z "$POSTGRES_PASSWORD_FILE" ] || PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
[ -z "$PGPASSWORD" ] || export PGPASSWORD
mode=$4
shift 4
case $mode in
dump) export PGDATABASE="$1"; exec pg_dump -w ;;
roles) exec pg_dumpall -w --globals-only --no-role-passwords -l postgres ;;
names) export PGDATABASE=postgres; exec psql -XqAtw -v ON_ERROR_STOP=1 -c "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1" ;;
probe) answer=$(PGDATABASE=postgres psql -XqAtw -c 'SELECT pg_is_in_recovery()') || exit 2; [ "$answer" = f ] ;;
esac
"""
"""Its arguments: role, port, host, what to do, and what to do it with."""

MARIADB = r"""
export MYSQL_PWD
[ -n "$MYSQL_PWD" ] || MYSQL_PWD=${MARIADB_ROOT_PASSWORD:-$MYSQL_ROOT_PASSWORD}
f=${MARIADB_ROOT_PASSWORD_FILE:-$MYSQL_ROOT_PASSWORD_FILE}
[ -n "$MYSQL_PWD" ] || [ -z "$f" ] || MYSQL_PWD=$(cat "$f")
[ -n "$MYSQL_PWD" ] || unset MYSQL_PWD
either() { if command -v "$1" >/dev/null 2>&1; then program=$1; else program=$2; fi; }
account=$1 port=$2 host=$3 mode=$4
shift 4
case $mode in
dump)
  either mariadb-dump mysqldump
  set -- --single-transaction --quick --routines --triggers --events --databases -- "$@" ;;
names)
  either mariadb mysql
  set -- -N -B -e "SELECT schema_name FROM information_schema.schemata
    WHERE schema_name NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys') ORDER BY 1" ;;
esac
[ -z "$host" ] || set -- -h "$host" -P "$port" "$@"
exec "$program" -u "$account" "$@"
"""
"""Its arguments: account, port, host, what to do, and what to do it with."""


def postgresql(parameters: PostgresqlDumpParameters, *, timeout_seconds: int) -> Recipe:
    """Return the recipe for PostgreSQL: each database, and the roles without their passwords."""
    del timeout_seconds  # nothing is frozen
    client = ("sh", "-c", POSTGRESQL, "becalm-dump", parameters.role, str(parameters.port), parameters.host or "")
    roles = Keep(name="roles.globals", command=(*client, "roles"), kind=Kept.DUMP)
    return Recipe(
        members=Members.PRIMARY,
        probe=(*client, "probe"),
        keeps=(_each(client, parameters.databases), roles),
        needs=("sh", "pg_dump", "pg_dumpall", "psql"),
    )


def mariadb(parameters: MariadbDumpParameters, *, timeout_seconds: int) -> Recipe:
    """Return the recipe for MariaDB and MySQL: each database, with its routines, triggers and events."""
    del timeout_seconds  # nothing is frozen
    client = ("sh", "-c", MARIADB, "becalm-dump", parameters.account, str(parameters.port), parameters.host or "")
    return Recipe(keeps=(_each(client, parameters.databases),), needs=("sh", "mariadb-dump", "mariadb"))


def _each(client: tuple[str, ...], databases: tuple[str, ...] | None) -> Keep:
    names = ("printf", "%s\\n", *databases) if databases else (*client, "names")
    return Keep(name=".sql", command=(*client, "dump"), each=names, kind=Kept.DUMP, most_bytes=MOST_BYTES, timeout_seconds=LONGEST_SECONDS)


BLUEPRINTS: dict[BlueprintName, Blueprint[Any]] = {
    BlueprintName.POSTGRESQL_DUMP: Blueprint(
        name=BlueprintName.POSTGRESQL_DUMP, title="PostgreSQL 10 and later, as SQL", recipe=postgresql
    ),
    BlueprintName.MARIADB_DUMP: Blueprint(name=BlueprintName.MARIADB_DUMP, title="MariaDB and MySQL, as SQL", recipe=mariadb),
}
