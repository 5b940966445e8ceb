"""MongoDB: everything flushed, and locked against writes, by `fsyncLock`. Written by its manual; no test runs it.

The server counts its locks. A thaw takes all of them away, also those of others, for nobody may stay frozen; who finds none has not held still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.policy.blueprints import BlueprintName, MongodbParameters
from becalm.quiesce.blueprint import HELD_NOT, Blueprint, Members, Recipe
from becalm.quiesce.shell import script

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_LOCKS = 50
"""How many locks a thaw takes away at most."""

PROGRAM = """
const admin = db.getSiblingDB('admin');
const told = process.env;
function ask(command) {
  const answer = admin.runCommand(command);
  if (answer.ok !== 1) throw Object.assign(new Error(answer.errmsg), {code: answer.code});
  return answer;
}
function unlock() {
  let held = false;
  for (let i = 0; i < MOST_LOCKS; i++) {
    try {
      const left = Number(ask({fsyncUnlock: 1}).lockCount);
      held = true;
      if (left === 0) return held;
    } catch (error) {
      if (error.code === 20) return held;
      throw error;
    }
  }
  throw new Error('the server is still locked');
}
let code = 2;
try {
  if (told.BECALM_ACCOUNT && told.BECALM_PASSWORD) admin.auth(told.BECALM_ACCOUNT, told.BECALM_PASSWORD);
  if (told.BECALM_MODE === 'probe') {
    code = ask({hello: 1}).isWritablePrimary ? 0 : 1;
  } else if (told.BECALM_MODE === 'freeze') {
    if (Number(ask({fsync: 1, lock: true}).lockCount) < 1) throw new Error('the server did not lock');
    code = 0;
  } else {
    code = unlock() ? 0 : HELD_NOT;
  }
} catch (error) {
  console.error(String((error && error.message) || error));
}
quit(code);
""".replace("MOST_LOCKS", str(MOST_LOCKS)).replace("HELD_NOT", str(HELD_NOT))
"""What the client is told. Code 20 (`IllegalOperation`) is the answer to an unlock of what is not locked."""

SCRIPT = r"""
mode=$1 host=$2 port=$3 account=$4 file=$5 tls=$6 ca=$7 text=$8
program=$(first mongosh) || exit $?
password=$(secret "$file" MONGO_INITDB_ROOT_PASSWORD MONGODB_ROOT_PASSWORD) || exit $?
export BECALM_MODE="$mode" BECALM_PASSWORD="$password"
export BECALM_ACCOUNT="${account:-${MONGO_INITDB_ROOT_USERNAME:-${MONGODB_ROOT_USER:-root}}}"
exec "$program" --quiet --norc --host "$host" --port "$port" ${tls:+--tls} ${ca:+--tlsCAFile "$ca"} --eval "$text"
"""


def recipe(parameters: MongodbParameters, *, timeout_seconds: int) -> Recipe:
    """Return the recipe. The password travels in the environment of the client alone."""
    del timeout_seconds  # the lock waits for statements at work; the dead-man switch ends it
    given = parameters

    def command(mode: str) -> tuple[str, ...]:
        where = (given.host, str(given.port), given.account or "", given.password_file or "", "yes" if given.tls else "", given.ca or "")
        return script("mongodb", SCRIPT, mode, *where, PROGRAM)

    return Recipe(freeze=command("freeze"), thaw=command("thaw"), probe=command("probe"), members=Members.PRIMARY, needs=("sh", "mongosh"))


BLUEPRINTS: Mapping[BlueprintName, Blueprint[Any]] = {
    BlueprintName.MONGODB: Blueprint(name=BlueprintName.MONGODB, title="MongoDB 5.0 and later", recipe=recipe, tested=False)
}
