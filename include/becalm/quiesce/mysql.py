"""MariaDB and MySQL: one living session holds the global read lock.

`FLUSH TABLES WITH READ LOCK` stops every write and every commit, of all engines, and both servers have it; MariaDB's `BACKUP STAGE` lets
InnoDB's own files go on moving, saves nothing for a cut of one instant, and MySQL does not know it. The lock waits for statements that write, and
everybody else waits behind it; so its wait is short, and a long statement fails the freeze instead of stopping the application.

The lock stops writers and brings nothing to the disk: the session flushes the engines' logs, and the file system is flushed after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.policy.blueprints import BlueprintName, MysqlParameters
from becalm.quiesce.blueprint import Blueprint, Members, Recipe
from becalm.quiesce.session import Session, opened, thawed
from becalm.quiesce.shell import digest, script

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_WAIT_SECONDS = 10
"""How long the lock waits for statements that write, at most; less where the hook has less time."""

SCRIPT = r"""
mode=$1 account=$2 host=$3 port=$4 socket=$5 file=$6
shift 6
program=$(first mariadb mysql) || exit $?
if [ "$account" = root ]; then
  password=$(secret "$file" MYSQL_PWD MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD) || exit $?
else
  password=$(secret "$file" MYSQL_PWD MARIADB_PASSWORD MYSQL_PASSWORD) || exit $?
fi
if [ -n "$password" ]; then export MYSQL_PWD="$password"; fi
speak() {
  set -- --batch --skip-column-names --unbuffered --skip-reconnect --connect-timeout=5 --user="$account" ${host:+--host="$host"} \
    ${host:+--port="$port"} ${socket:+--socket="$socket"} "$@"
  if [ "$mode" = client ]; then exec "$program" "$@"; fi
  "$program" "$@"
}
case $mode in
client) speak ;;
probe)
  said=$(speak --execute='select @@global.read_only' 2>&1) || fail "$said"
  case $said in 0|OFF) exit 0 ;; 1|ON|NO*) exit 1 ;; esac
  fail "the server does not tell whether it is read-only: $said" ;;
freeze)
  data=$(speak --execute='select @@datadir' 2>&1) || fail "$data"
  flush "$data"
  "$@" || exit $?
  flush "$data" ;;
esac
"""


def recipe(parameters: MysqlParameters, *, timeout_seconds: int) -> Recipe:
    """Return the recipe. The password travels in the environment of the client alone, never in its arguments."""
    given = parameters
    wait = max(1, min(LONGEST_WAIT_SECONDS, timeout_seconds // 2))

    def command(mode: str, *more: str) -> tuple[str, ...]:
        where = (given.account, given.host or "", str(given.port), given.socket or "", given.password_file or "")
        return script("mysql", SCRIPT, mode, *where, *more)

    session = Session(
        name="mysql-" + digest(given.host or given.socket or "", str(given.port)),
        client=command("client"),
        before="select '",
        after="';",
        opening=f"set session lock_wait_timeout = {wait};\nset session wait_timeout = 28800;\n"
        "flush tables with read lock;\nflush local engine logs;",
        closing="unlock tables;",
    )
    return Recipe(
        freeze=command("freeze", *opened(session)),
        thaw=thawed(session),
        probe=command("probe"),
        members=Members(given.members),
        needs=("sh", "mariadb", "mkfifo", "sync"),
    )


BLUEPRINTS: Mapping[BlueprintName, Blueprint[Any]] = {
    BlueprintName.MARIADB: Blueprint(name=BlueprintName.MARIADB, title="MariaDB 10.3 and later", recipe=recipe),
    BlueprintName.MYSQL: Blueprint(name=BlueprintName.MYSQL, title="MySQL 5.7 and later", recipe=recipe, tested=False),
}
