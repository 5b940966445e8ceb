"""SQLite: an exclusive transaction over all the files, held by one living session, keeps every writer out.

A write-ahead log is moved into its database first, as far as readers let it. In that mode readers go on; in the others they wait, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.policy.blueprints import BlueprintName, SqliteParameters
from becalm.quiesce.blueprint import Blueprint, Recipe
from becalm.quiesce.session import Session, opened, thawed
from becalm.quiesce.shell import digest, script

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_WAIT_SECONDS = 10
"""How long the transaction waits for those who write or read now, at most; less where the hook has less time."""

# `open` and `client` are both given how many files there are, and the files; `open` then what opens the session.
SCRIPT = r"""
mode=$1 number=$2
shift 2
program=$(first sqlite3) || exit $?
if [ "$mode" = client ]; then exec "$program" -init /dev/null -batch -bail "$1"; fi
i=0
while [ $i -lt "$number" ]; do
  [ -f "$1" ] || fail "there is no database $1 in this container"
  eval "f$i=\$1"; shift; i=$((i+1))
done
"$@" || exit $?
while [ $i -gt 0 ]; do
  i=$((i-1)); eval "flush \"\$f$i\""
done
"""


def recipe(parameters: SqliteParameters, *, timeout_seconds: int) -> Recipe:
    """Return the recipe. The files' names reach SQLite as an argument, and as quoted text."""
    files = parameters.files
    number = str(len(files))
    wait = max(1, min(LONGEST_WAIT_SECONDS, timeout_seconds // 3))
    patient = f".timeout {wait * 1000}"
    attached = [f"attach {_quoted(file)} as other{place};" for place, file in enumerate(files[1:])]
    session = Session(
        name="sqlite-" + digest(*files),
        client=script("sqlite", SCRIPT, "client", number, *files),
        before="select '",
        after="';",
        opening="\n".join([patient, *attached, ".timeout 500", "pragma wal_checkpoint(truncate);", patient, "begin exclusive;"]),
        closing="rollback;",
    )
    return Recipe(
        freeze=script("sqlite", SCRIPT, "open", number, *files, *opened(session)),
        thaw=thawed(session),
        needs=("sh", "sqlite3", "mkfifo", "sync"),
    )


def _quoted(file: str) -> str:
    """Return a text as SQL writes it; a path has no line breaks."""
    return "'" + file.replace("'", "''") + "'"


BLUEPRINTS: Mapping[BlueprintName, Blueprint[Any]] = {
    BlueprintName.SQLITE: Blueprint(name=BlueprintName.SQLITE, title="SQLite 3", recipe=recipe)
}
