"""Elasticsearch and OpenSearch: flushed, and blocked against writes. Written by their manuals; no test runs it.

One setting of the whole cluster blocks every write. It is a transient one, so that a full restart ends it, and the elected master alone is
asked: the hook selects all nodes. The makers vouch for their own snapshots only, not for copied folders of data: so the label never says more
than `crash-consistent`. What this adds is one instant for the volumes of all nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.model import Consistency
from becalm.policy.blueprints import BlueprintName, ElasticsearchParameters
from becalm.quiesce.blueprint import Blueprint, Members, Recipe
from becalm.quiesce.shell import NOTES, digest, script

if TYPE_CHECKING:
    from collections.abc import Mapping

# The account and its password reach curl through its input, never as arguments; there, a quote and a backslash need a backslash before them.
SCRIPT = (
    NOTES
    + r"""
mode=$1 name=$2 url=${3%/} account=$4 file=$5 ca=$6 blocked='"cluster.blocks.read_only":"true"'
program=$(first curl) || exit $?
password=$(secret "$file" ELASTIC_PASSWORD ELASTICSEARCH_PASSWORD OPENSEARCH_INITIAL_ADMIN_PASSWORD) || exit $?
quoted() {
  rest=$1
  while [ -n "$rest" ]; do
    letter=${rest%"${rest#?}"} rest=${rest#?}
    case $letter in '"'|'\') printf '\\' ;; esac
    printf '%s' "$letter"
  done
}
call() {
  body=$(
    if [ -n "$password" ]; then printf 'user = "%s:%s"\n' "$(quoted "$account")" "$(quoted "$password")"; fi |
      "$program" --config - --silent --show-error --max-time 60 --write-out '\n%{http_code}' ${ca:+--cacert "$ca"} \
        --header 'Content-Type: application/json' --request "$1" ${3:+--data "$3"} "$url$2" 2>&1
  )
  code=${body##*
}
  [ "$code" = 200 ]
}
block() {
  call PUT /_cluster/settings "{\"transient\":{\"cluster.blocks.read_only\":$1}}" || return 1
  case $body in *'"acknowledged":true'*) return 0 ;; esac
  return 1
}
is_blocked() {
  call GET '/_cluster/settings?flat_settings=true' || return 2
  case $body in *"$blocked"*) return 0 ;; esac
  return 1
}
case $mode in
probe)
  call GET '/_cluster/state/master_node?filter_path=master_node' || fail "the node does not answer: $body"
  master=${body#*'"master_node":"'} master=${master%%'"'*}
  call GET '/_nodes/_local?filter_path=nodes.*.name' || fail "the node does not answer: $body"
  case $body in *"\"$master\""*) exit 0 ;; esac
  exit 1 ;;
freeze)
  call POST /_flush || fail "the indexes could not be flushed: $body"
  is_blocked; x=$?
  [ $x -ne 0 ] || fail "the cluster was read-only before"
  [ $x -eq 1 ] || fail "the settings of the cluster cannot be read: $body"
  note "$name" blocked
  block true || fail "writes could not be blocked: $body"
  call POST /_flush
  flush / ;;
thaw)
  places "$bases" find "$name" || { echo "nothing was blocked here" >&2; exit 75; }
  is_blocked; x=$?
  block null || fail "writes could not be let go on: $body"
  rm -f "$N"
  [ $x -eq 0 ] || { echo "somebody else had let the writes go on" >&2; exit 75; } ;;
esac
"""
)


def recipe(parameters: ElasticsearchParameters, *, timeout_seconds: int) -> Recipe:
    """Return the recipe."""
    del timeout_seconds  # a flush takes as long as it takes; the dead-man switch ends it
    given = parameters

    def command(mode: str) -> tuple[str, ...]:
        name = "elasticsearch-" + digest(given.url)
        return script("elasticsearch", SCRIPT, mode, name, given.url, given.account, given.password_file or "", given.ca or "")

    return Recipe(
        freeze=command("freeze"),
        thaw=command("thaw"),
        probe=command("probe"),
        members=Members.PRIMARY,
        best=Consistency.CRASH,
        needs=("sh", "curl", "sync"),
    )


BLUEPRINTS: Mapping[BlueprintName, Blueprint[Any]] = {
    BlueprintName.ELASTICSEARCH: Blueprint(
        name=BlueprintName.ELASTICSEARCH, title="Elasticsearch 7 and later, OpenSearch", recipe=recipe, tested=False
    )
}
