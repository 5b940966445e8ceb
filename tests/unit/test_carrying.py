"""A long command on its input: it arrives as it was given, half of it never runs, and its URL stays short."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.kube import urls
from becalm.kube.carrying import LOADER, LONGEST_QUERY, carried, is_long, taken_out
from becalm.policy.blueprints import BlueprintName
from becalm.quiesce import deadman
from becalm.quiesce.blueprint import recipe_of
from becalm.quiesce.deadman import Switch

NEEDED = {BlueprintName.SQLITE: '{"files": ["/data/a.db"]}', BlueprintName.FILESYSTEM: '{"path": "/data"}'}
"""Parameters without which there is no recipe."""
MOST_CHARACTERS = 4096
SAY = ("sh", "-c", 'for word in "$@"; do printf "%s\\0" "$word"; done', "say")


def run(command: tuple[str, ...], given: bytes) -> tuple[int, bytes]:
    done = subprocess.run(command, input=given, capture_output=True, check=False, timeout=60)
    return done.returncode, done.stdout


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30), max_size=5))
def test_each_word_arrives_as_it_was_given(words: list[str]) -> None:
    """Quotes, line breaks, dollars, empty words, any letter."""
    command, given = carried((*SAY, *words))

    assert run(command, given) == (0, b"".join(word.encode() + b"\0" for word in words))
    assert taken_out(given) == (*SAY, *words)
    assert {taken_out(given[:-1]), taken_out(given[1:]), taken_out(b"")} == {()}


def test_half_of_a_command_never_runs() -> None:
    """Wherever the words were cut off, nothing of the command is there, and the code is not zero."""
    command, words = carried(("sh", "-c", "echo ran", "it's", "a $(echo ran) `echo ran`"))
    cut = [run(command, words[:length]) for length in range(len(words) - len(b"whole\n"))]

    assert run(command, words) == (0, b"ran\n")
    assert {b"ran" in said for _, said in cut} == {False}
    assert 0 not in {code for code, _ in cut}


def test_the_code_of_the_command_is_told() -> None:
    """Also that of a program that is not there."""
    assert run(*carried(("sh", "-c", "exit 75")))[0] == 75
    assert run(*carried(("there-is-no-such-program",)))[0] == 127


def test_an_image_without_cat_will_do() -> None:
    """A shell reads the words by itself."""
    command, words = carried(("sh", "-c", "echo ran", "two\nlines"))
    done = subprocess.run(["/bin/sh", *command[1:]], input=words, capture_output=True, check=False, env={"PATH": "/nowhere"}, timeout=60)

    assert done.returncode == 127, done  # no `sh` there either, but the words were read: the shell has tried to become it
    assert b"sh" in done.stderr


@pytest.mark.parametrize("name", list(BlueprintName))
def test_no_blueprint_needs_a_long_url(name: BlueprintName) -> None:
    """Freeze and thaw under the dead-man switch, the probe, and what is kept: each request stays below four kilobytes."""
    recipe = recipe_of(name, NEEDED.get(name, ""), timeout_seconds=30)
    switch = Switch(container="db", run="0a1b2c3d4e", hook="0a1b2c3d4e", attempt="18c0ffee")
    commands = [recipe.probe, recipe.done, *(keep.command for keep in recipe.keeps)]
    if recipe.freezes:
        commands += [
            deadman.arm(switch, timeout_seconds=30, freeze=recipe.freeze, thaw=recipe.thaw),
            deadman.disarm(switch, thaw=recipe.thaw),
        ]
    for command in filter(None, commands):
        words = carried(command)[0] if is_long(command) else command
        request = urls.executing("a-namespace" * 5, "a-pod" * 12, container="db", command=words, stdin=is_long(command))

        assert len(request.target) < MOST_CHARACTERS, command[:4]


def test_a_short_command_and_one_without_a_shell_travel_as_they_are() -> None:
    """Nothing is asked of an image that the author's own command does not ask."""
    assert not is_long(("sh", "-c", "true"))
    assert not is_long(("/bin/freeze", "x" * LONGEST_QUERY * 2))
    assert is_long(("sh", "-c", "true", "x" * LONGEST_QUERY))
    assert not is_long(LOADER)
