"""Small POSIX shell functions that recipes share: how a script complains, finds a password, and remembers what it has frozen.

They are pieces of scripts, joined in front of a recipe's own. Nothing here runs anything.
"""

from __future__ import annotations

import hashlib

from becalm.quiesce.deadman import FOLDERS

NO_PROGRAM = 127
"""What a shell answers for a program that is not there: then nothing was frozen."""

# fail SENTENCE [CODE]     say what is wrong, and end: with 2, which no probe takes for an answer
# nap                      wait a moment
# first PROGRAM…           print the first of these programs that is there
# secret FILE NAME…        print what a file holds, or the first of these variables, or of the files that NAME_FILE names
# flush FOLDER             bring to the disk what was written to the file system of a folder; of all, if it is not in this container
FUNCTIONS = f"""
set -f
shift
fail() {{ echo "$1" >&2; exit "${{2:-2}}"; }}
nap() {{ sleep 0.1 2>/dev/null || sleep 1; }}
first() {{ for x in "$@"; do if command -v "$x" >/dev/null 2>&1; then echo "$x"; return; fi; done; fail "there is no $1 in the image" {NO_PROGRAM}; }}
line() {{ x=; IFS= read -r x 2>/dev/null <"$1" || [ -n "$x" ] || fail "the password's file $1 cannot be read, or is empty"; printf '%s' "$x"; }}
secret() {{
  if [ -n "$1" ]; then line "$1"; return; fi
  shift
  for v in "$@"; do
    eval "x=\\${{$v:-}} y=\\${{${{v}}_FILE:-}}"
    if [ -n "$x" ]; then printf '%s' "$x"; return; fi
    if [ -n "$y" ]; then line "$y"; return; fi
  done
}}
flush() {{
  command -v sync >/dev/null 2>&1 || fail "there is no sync in the image" {NO_PROGRAM}
  if [ -n "$1" ] && [ -e "$1" ] && sync -f "$1" 2>/dev/null; then return; fi
  sync
}}
"""

# note_at NAME             set N to the note of that name, if there is one
# note NAME TEXT           write it anew, on memory where there is any
NOTES = r"""
bases=$folders
places() {
  IFS=:
  for o in $1; do
    if [ "$o" = TMPDIR ]; then o=${TMPDIR:-/tmp}; fi
    case $2 in
      find) [ -f "$o/becalm-note.$3" ] && [ -O "$o/becalm-note.$3" ] || continue ;;
      make) [ -d "$o" ] && [ -w "$o" ] || continue ;;
    esac
    unset IFS; N=$o/becalm-note.$3; return 0
  done
  unset IFS; N=; return 1
}
note() {
  places "$bases" find "$1" || places "$bases" make "$1" || fail "no note of the freeze can be written: none of $bases is writable"
  rm -f "$N" && ( umask 077; set -C; echo "$2" >"$N" ) || fail "no note of the freeze can be written to $N"
}
""".replace("$folders", ":".join(FOLDERS))


def script(name: str, text: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a script after the shared functions; its arguments are `$1` and so on, and never part of it."""
    return ("sh", "-c", 'eval "$1"', f"becalm-{name}", FUNCTIONS + text, *arguments)


def digest(*words: str) -> str:
    """Return a short name for one application in a container: another host or file, another name."""
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:10]
