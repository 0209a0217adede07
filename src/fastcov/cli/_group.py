"""Report errors that a user can fix in one line on stderr, with an exit code."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import click

# Errors that a user can fix, or has to know about; any other error is a bug and keeps its traceback.
_REPORTED = (ValueError, TypeError, KeyError, MemoryError, OSError, ImportError, RuntimeError)


class ErrorReportingGroup(click.Group):
    """A group of commands that reports an error that the user can fix in one line, with an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        # Whether the command has its own process, which it may end or replace.
        extra.setdefault("obj", {"process": args is None})
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            hint = f" See '{context.command_path} --help'." if context else ""
            say("Error", error.format_message() + hint)
            code = 2
        except click.Abort:  # Ctrl-C before a command has started
            code = 130
        if standalone_mode:
            if code == 130:
                _exit_during_lapack_call()
            sys.exit(code or 0)
        return code

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)  # includes ConvergenceWarning; see the imports
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                _stop(ctx, "interrupted.", 130)
            except click.exceptions.Exit:  # a RuntimeError by which a command ends with an exit code
                raise
            except _REPORTED as error:
                if isinstance(error, OSError) and error.errno == errno.EPIPE:
                    raise  # the reader closed the pipe, as `| head` does; click ends quietly
                _stop(ctx, str(error) or f"{type(error).__name__}: use smaller arrays.", 2)


def _exit_during_lapack_call() -> None:
    """After Ctrl-C, exit at once if Python would wait for a long LAPACK call, which cannot be interrupted."""
    calls = sys.modules.get("fastcov._compute.blas")
    if calls is not None and calls.in_background:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)


def say(kind: str, message: str) -> None:
    click.echo(f"{kind}: {' '.join(message.split())}", err=True)


def _stop(ctx: click.Context, message: str, code: int) -> NoReturn:
    say("Error", message)
    ctx.exit(code)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say("Warning", str(message))
