"""Paths of a container, in the words of commands and variables, turned into the folders that stand for them. Pure.

A sandbox container is a process of this machine, without a root folder of its own. So every place where a mount path stands in a
command, an argument or a variable, as a whole path or as the beginning of one, is replaced by the real folder. A program that makes
up such a path by itself, in its own code, is not helped: the documented limit of the sandbox.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BEFORE = r"(?<![\w.}*/~-])"
_AFTER = r"(?![\w.-])"


class PathTable:
    """Mount paths and the folders that stand for them; the longest path counts."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """Keep the table; a mount at the root cannot be stood for."""
        self._places = {path.rstrip("/"): folder for path, folder in places.items() if path.rstrip("/")}
        ordered = sorted(self._places, key=len, reverse=True)
        self._pattern = re.compile(_BEFORE + "(" + "|".join(map(re.escape, ordered)) + ")" + _AFTER) if ordered else None

    def real(self, text: str) -> str:
        """Return a text with every mount path replaced."""
        return self._pattern.sub(lambda match: self._places[match.group(1)], text) if self._pattern else text

    def all(self, words: Sequence[str]) -> list[str]:
        """Return words with every mount path replaced."""
        return [self.real(word) for word in words]


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Expand `$(NAME)` as Kubernetes does: `$$` is one `$` that begins nothing, an unknown name stays as it is."""

    def expand(match: re.Match[str]) -> str:
        return "$" if match.group(1) == "$" else variables.get(match.group(2), match.group(0))

    return re.sub(r"\$(\$|\(([^)]*)\))", expand, text)
