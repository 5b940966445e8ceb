"""Kustomize's folders rendered by the program that people apply them with: `kubectl kustomize`, or `kustomize build`.

It starts one program without a shell, with a limit of time and of output, and without the environment, in which there are passwords.
It never renders what no program is there for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.errors import PermanentError

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_SECONDS = 120
MOST_BYTES = 64 << 20
LONGEST_WORD = 400
"""So much of what the program said of its failure is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Where programs are looked for: a search path, as PATH writes it."""

    path: str

    def kustomize(self, folder: Path) -> bytes:
        """Return the manifests that a folder renders to. Raises PermanentError: no program is there, or it failed."""
        command = self._command(folder)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=said,
                    env={"PATH": self.path},
                    timeout=LIMIT_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise PermanentError(f"rendering took longer than {LIMIT_SECONDS} seconds", where=str(folder)) from None
            except OSError as error:
                raise PermanentError(f"{command[0]} does not start: {error.strerror}", where=str(folder)) from error
            if done.returncode:
                said.seek(0)
                word = " ".join(said.read(LONGEST_WORD).decode(errors="replace").split())
                raise PermanentError(f"it does not render: {word or done.returncode}", where=str(folder), hint=f"run {' '.join(command)}")
            if os.fstat(out.fileno()).st_size > MOST_BYTES:
                raise PermanentError(f"it renders to more than {MOST_BYTES >> 20} MiB", where=str(folder))
            out.seek(0)
            return out.read()

    def _command(self, folder: Path) -> list[str]:
        for program, verb in (("kustomize", "build"), ("kubectl", "kustomize")):
            if found := shutil.which(program, path=self.path):
                return [found, verb, str(folder)]
        raise PermanentError(
            "it is a folder of Kustomize, and there is neither kustomize nor kubectl to render it",
            where=str(folder),
            hint="install one of them, or render it elsewhere and name the file",
        )
