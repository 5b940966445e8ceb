"""A client that lives between the freeze and the thaw: some locks last only as long as the session that took them.

One command opens the session and waits for the answer to its first statements; a second, later and from another exec, speaks in the very same
session and waits for that answer; more may look at what it left; the last ends it. All are built here as argument lists. This module knows no
database, never talks to a cluster, and no text of a user ever becomes part of a shell script.

How the script works. The session has a folder of its own, private, on memory where there is any, and named after the blueprint: never on a volume
that is frozen, for a folder there could not be written any more. In it:

    in       a named pipe: what the client reads
    out err  what it answers
    client   its process
    ended    its exit code; absent while it lives
    open     the first statements were answered
    thawed   the last statements were answered
    turn     one thaw at a time

`open` starts a keeper that has left the exec's streams (and its session, where `setsid` is there). The keeper holds the pipe open and starts the
client on it; so the client ends when the keeper does, and the locks with it. After each text a statement is sent that makes the client print a
mark; a client that ends at the first error never prints it. The keeper ends the client when its time is over, or some time after the thaw.
A thaw that gets no answer for a quarter of a minute ends the client, whose locks go with it.
A thaw ends with exit code 75 (`HELD_NOT`) where the client had died before it, or was thawed by somebody else: nothing is frozen, but the freeze
had not held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.quiesce.deadman import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Sequence

# Words: S this script, n the session's name, D its folder, m and a what stands before and after a mark, l seconds after a thaw, t seconds in all.
SCRIPT = r"""
umask 077
S=$1 mode=$2 n=$3 bases=$4 D= u=0
shift 4
IFS=:
at() { if [ "$1" = TMPDIR ]; then b=${TMPDIR:-/tmp}; else b=$1; fi; }
nap() { if sleep 0.05 2>/dev/null; then u=$((u+1)); else sleep 1; u=$((u+20)); fi; }
find_it() { for o in $bases; do at "$o"; [ -d "$b/becalm-session.$n" ] && [ -O "$b/becalm-session.$n" ] && D=$b/becalm-session.$n && break; done; }
alive() {
  [ ! -e "$D/ended" ] && read -r p 2>/dev/null <"$D/client" && kill -0 "$p" 2>/dev/null || return 1
  case $(cat "/proc/$p/stat" 2>/dev/null) in *") Z "*) return 1 ;; esac
}
mine() { read -r h 2>/dev/null <"$D/holder" && [ "$h" = "$$" ]; }
heard() { case $(cat "$D/out" 2>/dev/null) in *"becalm-said-$1."*) return 0 ;; esac; return 1; }
say() {
  printf '%s\n%sbecalm-said-%s.%s\n' "$2" "$m" "$1" "$a" 1<>"$D/in" || return 1
  u=0
  until heard "$1"; do alive && [ $u -lt "$3" ] || return 1; nap; done
}
why() { cat "$D/err" >&2 2>/dev/null; [ -s "$D/err" ] || echo "the client ended" >&2; }
end() {
  if alive; then
    kill "$p" 2>/dev/null; u=0
    while alive && [ $u -lt 60 ]; do nap; done
    ! alive || kill -9 "$p" 2>/dev/null
  fi
  rm -rf "$D"
}
turn() {
  u=0
  until ( set -C; echo $$ >"$D/turn" ) 2>/dev/null; do
    [ -d "$D" ] || return 1
    if read -r q 2>/dev/null <"$D/turn" && ! kill -0 "$q" 2>/dev/null; then rm -f "$D/turn"; fi
    [ $u -lt 400 ] || return 1
    nap
  done
}
case $mode in
open)
  t=$1 m=$2 a=$3 text=$4; shift 4
  find_it
  if [ -n "$D" ]; then
    if alive && [ ! -e "$D/thawed" ]; then echo "another backup holds a session here" >&2; exit 1; fi
    end; D=
  fi
  for o in $bases; do at "$o"; mkdir "$b/becalm-session.$n" 2>/dev/null && D=$b/becalm-session.$n && break; done
  [ -n "$D" ] || { echo "no folder for a session can be made: none of $bases can be written" >&2; exit 1; }
  mkfifo "$D/in" || exit 1
  alone=; command -v setsid >/dev/null 2>&1 && alone=setsid
  ( $alone sh -c 'eval "$1"' becalm-session "$S" hold "$n" "$bases" "$D" "$t" "$@" </dev/null >/dev/null 2>&1 & )
  until [ -s "$D/client" ] || [ -e "$D/ended" ] || [ $u -ge 1200 ]; do nap; done
  if ! say open "$text" 20000; then why; end; exit 1; fi
  echo >"$D/open" ;;
hold)
  D=$1 t=$2; shift 2
  trap '' HUP
  exec 3<>"$D/in"
  echo $$ >"$D/holder"
  ( sh -c 'echo $$ >"$1/client"; export BECALM_SESSION="$1"; shift; exec "$@"' becalm-client "$D" "$@" <"$D/in" >"$D/out" 2>"$D/err" 3>&-
    c=$?; ! mine || echo $c >"$D/ended" ) 3>&- 2>/dev/null &
  while mine && [ ! -e "$D/ended" ] && [ "$t" -gt 0 ]; do
    sleep 1
    t=$((t-1))
    if mine && [ -s "$D/thawed" ]; then read -r l <"$D/thawed"; : >"$D/thawed"; [ "$l" -ge "$t" ] || t=$l; fi
  done
  ! mine || end ;;
thaw)
  l=$1 m=$2 a=$3 text=$4
  find_it
  [ -n "$D" ] || { echo "there is no session" >&2; exit 75; }
  turn || { [ ! -d "$D" ] || { echo "another thaw is at work" >&2; exit 1; }; exit 75; }
  if [ -e "$D/thawed" ]; then rm -f "$D/turn"; echo "it was thawed before" >&2; exit 75; fi
  if ! alive || [ ! -e "$D/open" ] || ! say thaw "$text" 300; then why; end; exit 75; fi
  if [ "$l" -gt 0 ]; then echo "$l" >"$D/thawed"; rm -f "$D/turn"; else end; fi ;;
with)
  find_it
  if [ -z "$D" ] || [ ! -e "$D/thawed" ] || ! alive; then echo "the session is gone" >&2; exit 1; fi
  unset IFS
  export BECALM_SESSION="$D"
  exec "$@" ;;
end)
  find_it
  [ -z "$D" ] || end ;;
esac
"""

LONGEST_LIFE_SECONDS = 900
"""How long a session lives, whatever becomes of those who opened it. The dead-man switch thaws much earlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One client, what it is told first and last, and how it is made to print a mark."""

    name: str
    """Lower-case letters, digits and dashes: the same for the same application in a container, another for another."""
    client: tuple[str, ...]
    """The program, which reads statements from its input and must end at the first error. `BECALM_SESSION` in its environment is the folder."""
    before: str
    """With `after`: the statement that prints a mark between them, such as `\\echo ` and nothing."""
    after: str
    opening: str
    """What freezes."""
    closing: str
    """What thaws."""
    linger_seconds: int = 0
    """How long the session lives on after the thaw, for what is kept of it. 0: it ends with the thaw."""


def opened(session: Session, *, folders: Sequence[str] = FOLDERS) -> tuple[str, ...]:
    """Return the command that opens the session: exit code 0 once its opening was answered."""
    life = str(LONGEST_LIFE_SECONDS)
    return (*_command("open", session, folders), life, session.before, session.after, session.opening, *session.client)


def thawed(session: Session, *, folders: Sequence[str] = FOLDERS) -> tuple[str, ...]:
    """Return the command that says the closing: 0 once it was answered, `HELD_NOT` where nothing is held any more."""
    return (*_command("thaw", session, folders), str(session.linger_seconds), session.before, session.after, session.closing)


def within(session: Session, command: Sequence[str], *, folders: Sequence[str] = FOLDERS) -> tuple[str, ...]:
    """Return a command that runs another while the session lives on, with `BECALM_SESSION` in its environment; it fails where it is gone."""
    return (*_command("with", session, folders), *command)


def ended(session: Session, *, folders: Sequence[str] = FOLDERS) -> tuple[str, ...]:
    """Return the command that ends the session, in whatever state it is."""
    return _command("end", session, folders)


def _command(mode: str, session: Session, folders: Sequence[str]) -> tuple[str, ...]:
    return ("sh", "-c", 'eval "$1"', "becalm-session", SCRIPT, mode, session.name, ":".join(folders))
