"""What a user can put right is one line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import click

# What a user can put right, or has to know; anything else is a defect and keeps its traceback.
_REPORTED = (ValueError, TypeError, KeyError, MemoryError, OSError, ImportError, RuntimeError)


class Doors(click.Group):
    """A group that reports whatever its user can put right in one line and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        # Whether this is a process of its own, which may end, or become another.
        extra.setdefault("obj", {"process": args is None})
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            hint = f" See '{context.command_path} --help'." if context else ""
            say("Error", error.format_message() + hint)
            code = 2
        except click.Abort:  # Ctrl-C before a command has begun
            code = 130
        if standalone_mode:
            if code == 130:
                _leave_calls()
            sys.exit(code or 0)
        return code

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)  # ConvergenceWarning is one; see the imports
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                _stop(ctx, "interrupted.", 130)
            except click.exceptions.Exit:  # a RuntimeError, and how a command ends with a code
                raise
            except _REPORTED as error:
                if isinstance(error, OSError) and error.errno == errno.EPIPE:
                    raise  # whoever read has left, as `| head` does; click ends quietly
                _stop(ctx, str(error) or f"{type(error).__name__}: use smaller arrays.", 2)


def _leave_calls() -> None:
    """After Ctrl-C, end at once where Python would wait for a long call of LAPACK, which nothing can end."""
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
