"""Restart a command in a process that imports NumPy before fastcov, as nearly all programs do."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import NoReturn

from .._compute.environment import NUMPY_FIRST, as_given

# The new process gets the path of this one, without the current folder.
_CODE = (
    "import sys; sys.path[:] = {path!r}; import numpy; "
    "from fastcov.cli import main; main(prog_name='fastcov')"
)


def restart_with_numpy_first() -> None:
    """Restart this process with NumPy first and do not return, unless NumPy was already imported first.

    Environment variables that fastcov set are restored: NumPy's BLAS would otherwise read them as if the user
    had set them. The process is replaced if the system allows it, so that its streams and its exit code stay
    the same, and Ctrl-C reaches it.
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
    """Start a child if this process cannot be replaced; wait for it even after Ctrl-C, which reaches both."""
    with subprocess.Popen(command, env=as_given()) as process:
        while True:
            try:
                sys.exit(process.wait())
            except KeyboardInterrupt:
                continue
