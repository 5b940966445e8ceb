"""One word for what cannot be read: the value's own rule was broken, and here is what to write instead."""

from __future__ import annotations


class Problem(ValueError):  # noqa: N818  (not an error of Becalm's tree: `load` turns it into a finding)
    """A value that breaks a rule of its own. It never quotes a secret."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        """Say what is wrong and what to write."""
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


def quoted(text: str, limit: int = 60) -> str:
    """Return a text as a message may show it: on one line, printable, and short."""
    shown = text if len(text) <= limit else text[: limit - 1] + "…"
    return '"' + "".join(char if char.isprintable() else "�" for char in shown) + '"'
