"""A command that begins again in a process that imports NumPy before fastcov, as nearly all programs do."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NoReturn

from .._compute.environment import NUMPY_FIRST, as_given

# The path is that of this process, and not one with the folder that it happens to be in.
_CODE = (
    "import sys; sys.path[:] = {path!r}; import numpy; "
    "from fastcov.cli import main; main(prog_name='fastcov')"
)


def numpy_first() -> None:
    """Does not return where this process began with fastcov; where it began with NumPy, as if nothing were.

    The variables that fastcov set are taken back: they would reach NumPy's BLAS as if they were the user's.
    The process stays the same one where the system lets it, and so do its streams, its exit code and whom
    Ctrl-C reaches.
    """
    if NUMPY_FIRST:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    code = _CODE.format(path=sys.path)
    command = [sys.executable, "-P", "-c", code, *sys.argv[1:]]
    if os.name == "posix":
        os.execve(command[0], command, as_given())
    _beside(command)


def _beside(command: list[str]) -> NoReturn:
    """The same where a process cannot become another: wait for it, also after Ctrl-C, which reaches both."""
    with subprocess.Popen(command, env=as_given()) as process:
        while True:
            try:
                sys.exit(process.wait())
            except KeyboardInterrupt:
                continue
