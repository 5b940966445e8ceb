"""The dead-man switch: whatever dies after a freeze was asked for, the container thaws by itself within its time.

One command arms the switch and then freezes, in one process of the container, so that nothing can come between. A second
command disarms it and thaws. Both are built here as argument lists, and their answers are read here. This module never talks
to a cluster, and no text of a user ever becomes part of a shell script: commands travel as arguments.

How the script works. Each attempt has a folder of its own, on memory where there is any (`/dev/shm`): a folder on the
volume that is being frozen could not be written any more. In it:

    end      who ended the watch, written once and never twice: `fired` or `disarmed`
    watcher  the process that watches, with its time of birth: a container that was restarted has it no more
    freezer  the process of the freeze, written by itself before it becomes the author's command
    freeze   the exit code of the freeze; absent while it is at work
    thaw     the exit code of the thaw that the switch ran when it fired
    settled  a freeze that outlived the end of the watch is over, and was thawed once more
    touched  another run's thaw came to this container meanwhile

`arm` starts a watcher that has left the exec's streams (and its session, where `setsid` is there) and answers on a pipe that
it is awake; only then does the freeze start. The watcher sleeps its time, writes `fired`, and thaws; a freeze still at work is
ended first, and thawed again once it is over. A freeze that finds the watch ended when it comes back thaws itself. `thaw`
writes `disarmed` first, then thaws, whatever it met. The marks settle each race: who writes `end` first decides what is
told, and both thaw. A thaw that answers 75 has thawed, and says that the application had not held still until then.

Memory may be full, by the application or by what a freeze says: then `end` is there and empty, which counts as `fired`, and what
fires thaws even where no `end` can be made.

A container whose first process does not collect orphans keeps one finished entry in its process table for each freeze.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDERS = ("/dev/shm", "TMPDIR", "/run", "/var/tmp")  # noqa: S108  (the places to try in the container; the folder made there is new and private)
"""Where the state folder may stand, in this order. `TMPDIR` means what the container's environment says, or `/tmp`."""

SAY = "becalm-switch"
"""The first word of each line that is meant for us. The author's commands never write to standard output."""

# Words: c container, r run, n hook, s this switch's name, D its folder, T seconds, k the length of the thaw command.
# "$@" of `arm` and `watch` is the thaw command followed by the freeze command; of `thaw`, the thaw command.
SCRIPT = r"""
umask 077
S=$1 mode=$2 c=$3 r=$4 n=$5 s=$6 bases=$7 D=
shift 7
IFS=:
at() { if [ "$1" = TMPDIR ]; then b=${TMPDIR:-/tmp}; else b=$1; fi; }
note() { echo "$3" >"$1/$2"; } 2>/dev/null
claim() { ( set -C; : >"$1/end" ) 2>/dev/null || return 1; note "$1" end "$2"; return 0; }
born() { x=$(cat "/proc/$1/stat" 2>/dev/null) && x=${x##*") "} && case $x in [ZX]*) false ;; *) ( IFS=" "; set -- $x; shift 19; echo "$1" ) ;; esac; }
lives() { read -r p x <"$D/watcher" && [ -n "$x" ] && [ "$(born "$p")" = "$x" ]; } 2>/dev/null
undone() { [ "$1" -eq 0 ] || [ "$1" -eq 75 ]; }
over() { [ ! -e "$1/freezer" ] || [ -e "$1/freeze" ] || [ -e "$1/settled" ]; }
thaw() { ( i=0; while [ $i -lt "$k" ]; do x=$1; shift; set -- "$@" "$x"; i=$((i+1)); done; shift $(($#-k)); exec "$@" ) </dev/null >/dev/null 2>&1; }
insist() { j=0; while thaw "$@"; z=$?; ! undone $z; do j=$((j+1)); [ $j -lt 5 ] || return $z; sleep 1; done; return $z; }
hit() {
  read -r p <"$D/freezer" || return 1
  case $(cat "/proc/$p/stat" 2>/dev/null) in *") Z "*) return 1 ;; esac
  kill -"$1" -"$p" 2>/dev/null || kill -"$1" "$p" 2>/dev/null
}
others() {
  for o in $bases; do at "$o"; for d in "$b/becalm.$c."*; do
    [ -d "$d" ] && case $d in "$b/$s") ;; "$b/becalm.$c.$r.$n."*) "$1" "$d" own ;; "$b/becalm.$c.$r."*) ;; *) "$1" "$d" other ;; esac
  done; done
}
touch_it() { note "$1" touched "$2"; }
retire() {
  if [ "$2" = own ]; then claim "$1" disarmed; again=1; fi
  if [ -e "$1/end" ] && over "$1"; then rm -rf "$1"; fi
}
find_it() { for o in $bases; do at "$o"; [ -d "$b/$s" ] && D=$b/$s && break; done; }
case $mode in
arm)
  T=$1 k=$2; shift 2
  for o in $bases; do at "$o"; mkdir "$b/$s" 2>/dev/null && D=$b/$s && break; done
  [ -n "$D" ] || { echo "becalm-switch none"; exit 3; }
  again=; others retire; [ -z "$again" ] || thaw "$@"
  alone=; command -v setsid >/dev/null 2>&1 && alone=setsid
  a=$( $alone sh -c 'eval "$1"' becalm-watch "$S" watch "$c" "$r" "$n" "$s" "$bases" "$T" "$k" "$@" </dev/null 2>/dev/null & )
  [ "$a" = awake ] || { rm -rf "$D"; echo "becalm-switch none"; exit 3; }
  echo "becalm-switch armed"
  ( shift "$k"; exec $alone sh -c 'echo $$ >"$1/freezer" && [ ! -e "$1/end" ] || exit 125; shift; exec "$@"' becalm-freeze "$D" "$@" ) </dev/null >"$D/out" 2>&1 &
  wait $!; f=$?
  note "$D" freeze "$f"
  cat "$D/out" >&2
  rm -f "$D/out"
  if [ $f -ne 0 ] && claim "$D" disarmed; then thaw "$@"; echo "becalm-switch failed $f $?"; exit 4; fi
  if [ -e "$D/end" ] || [ ! -d "$D" ]; then others touch_it; thaw "$@"; echo "becalm-switch late $f $?"; exit 5; fi
  echo "becalm-switch frozen" ;;
watch)
  T=$1 k=$2; shift 2
  find_it
  note "$D" watcher "$$:$(born $$)"
  trap '' HUP
  echo awake
  exec </dev/null >/dev/null 2>&1
  sleep "$T" & timer=$!
  ( while sleep 1; do [ -d "$D" ] && [ ! -e "$D/end" ] || break; done; kill $timer ) & poll=$!
  wait $timer
  kill $poll
  was=
  if claim "$D" fired || { [ -d "$D" ] && [ ! -e "$D/end" ]; }; then
    over "$D" || { was=1; hit TERM; }
    others touch_it
    insist "$@"; note "$D" thaw $?
  fi
  i=0
  until over "$D" || [ $i -ge 600 ]; do
    was=1
    if [ $i -eq 0 ]; then hit TERM; else hit KILL || break; fi
    sleep 1; i=$((i+1))
  done
  if [ -n "$was" ]; then insist "$@"; note "$D" settled; fi ;;
thaw)
  k=$# w=gone q=- u= e=
  find_it
  if [ -n "$D" ]; then
    l=; lives || l=lost
    if claim "$D" disarmed; then w=${l:-disarmed}; else read -r e <"$D/end"; case $e in disarmed) w=again ;; *) w=fired ;; esac; fi
    [ ! -e "$D/touched" ] || w=touched
  fi
  others touch_it
  if [ -n "$D" ]; then
    "$@" </dev/null >"$D/said" 2>&1; z=$?
    if ! over "$D"; then
      i=0
      until over "$D" || ! hit 0 || [ $i -ge 10 ]; do sleep 1; i=$((i+1)); done
      y=$z
      "$@" </dev/null >"$D/said" 2>&1; z=$?
      [ $z -ne 0 ] || [ $y -ne 75 ] || z=75
      over "$D" || ! hit 0 || u=pending
    fi
    [ ! -e "$D/thaw" ] || read -r q <"$D/thaw"
    cat "$D/said" >&2
  else
    "$@" </dev/null >&2; z=$?
  fi
  echo "becalm-switch thawed $w $z $q $u"
  [ -z "$D" ] || [ -n "$u" ] || ! undone $z || rm -rf "$D" ;;
esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One attempt to freeze one container. Its name is the folder's name, and it is all that a thaw needs."""

    container: str
    run: str
    hook: str
    """Stands for the hook: the same at each attempt of a run, so that a new attempt takes over from an old one."""
    attempt: str

    def __str__(self) -> str:
        """`becalm.db.0a1b2c3d4e.5f6a7b.18c0ffee`: no part has a dot in it, as no name of a container has."""
        return f"becalm.{self.container}.{self.run}.{self.hook}.{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> Switch:
        """Read a name back. Raises ValueError."""
        match text.split("."):
            case ["becalm", container, run, hook, attempt]:
                return cls(container=container, run=run, hook=hook, attempt=attempt)
        raise ValueError(f"{text!r} is not the name of a switch")


def arm(
    switch: Switch, *, timeout_seconds: float, freeze: Sequence[str], thaw: Sequence[str], folders: Sequence[str] = FOLDERS
) -> tuple[str, ...]:
    """Return the command that arms the switch and then freezes. The time is cut to whole seconds, and is at least one."""
    whole = str(max(1, int(timeout_seconds)))
    return (*_command("arm", switch, folders), whole, str(len(thaw)), *thaw, *freeze)


def disarm(switch: Switch, *, thaw: Sequence[str], folders: Sequence[str] = FOLDERS) -> tuple[str, ...]:
    """Return the command that disarms the switch, thaws, and tells what it met. It may run any number of times, in any order."""
    return (*_command("thaw", switch, folders), *thaw)


def _command(mode: str, switch: Switch, folders: Sequence[str]) -> tuple[str, ...]:
    return (
        "sh",
        "-c",
        'eval "$1"',
        "becalm-quiesce",
        SCRIPT,
        mode,
        switch.container,
        switch.run,
        switch.hook,
        str(switch),
        ":".join(folders),
    )


class Armed(StrEnum):
    """What is known after the command to arm and freeze."""

    FROZEN = "frozen"
    FAILED = "failed"
    LATE = "late"
    """The freeze came back after the switch had fired, or after a thaw; it was thawed again."""
    NONE = "none"
    """No switch could be made, and nothing was frozen."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmAnswer:
    """The answer of `arm`; the codes are of the freeze and of the thaw that followed it in the same command."""

    state: Armed
    freeze_code: int | None = None
    thaw_code: int | None = None

    @property
    def untouched(self) -> bool:
        """Whether the freeze cannot have frozen anything: its program was not there, and neither was that of the thaw."""
        return self.freeze_code in _NOT_STARTED and self.thaw_code in _NOT_STARTED


class Met(StrEnum):
    """What a thaw found of the switch."""

    DISARMED = "disarmed"
    """It was armed until this moment: the freeze held."""
    FIRED = "fired"
    TOUCHED = "touched"
    """Another run thawed in this container meanwhile."""
    LOST = "lost"
    """It was never disarmed, and is dead all the same: the container was restarted, or its processes were killed."""
    AGAIN = "again"
    """It had been disarmed before."""
    GONE = "gone"
    """There is none: it was removed before, or the container is a new one."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisarmAnswer:
    """The answer of `disarm`."""

    met: Met
    confirmed: bool = False
    """The container is thawed, and no freeze is at work any more."""
    thaw_code: int | None = None

    @property
    def broken(self) -> bool:
        """Whether the thaw itself told that the application had not held still until then."""
        return self.thaw_code == HAD_NOT_HELD


HAD_NOT_HELD = 75
"""The exit code of a thaw that has thawed and knows that the freeze had not held: a session that died, a lock that was taken away."""
_NOT_STARTED = (126, 127)
"""What a shell reports of a program that it could not start."""


def read_arm(stdout: bytes) -> ArmAnswer:
    """Read what `arm` said. What it did not say is unknown."""
    match _last_word(stdout):
        case ["frozen"]:
            return ArmAnswer(state=Armed.FROZEN)
        case ["none"]:
            return ArmAnswer(state=Armed.NONE)
        case [("failed" | "late") as state, freeze, thaw]:
            return ArmAnswer(state=Armed(state), freeze_code=_number(freeze), thaw_code=_number(thaw))
        case _:
            return ArmAnswer(state=Armed.UNKNOWN)


def read_disarm(stdout: bytes) -> DisarmAnswer:
    """Read what `disarm` said.

    A thaw that the switch itself ran with success counts: some commands fail where nothing is frozen any more.
    """
    match _last_word(stdout):
        case ["thawed", met, code, fired, *pending] if met in set(Met):
            done = bool({code, fired} & {"0", str(HAD_NOT_HELD)})
            return DisarmAnswer(met=Met(met), confirmed=done and not pending, thaw_code=_number(code))
        case _:
            return DisarmAnswer(met=Met.UNKNOWN)


def _last_word(stdout: bytes) -> list[str]:
    lines = [line.split() for line in stdout.decode(errors="replace").splitlines() if line.startswith(f"{SAY} ")]
    return lines[-1][1:] if lines else []


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def as_user(user: str, command: Sequence[str]) -> tuple[str, ...]:
    """Return a command that runs another as a user of the container, each argument untouched."""
    return ("su", "-s", "/bin/sh", "-c", 'exec "$@"', "--", user, "becalm-user", *command) if user and command else tuple(command)
