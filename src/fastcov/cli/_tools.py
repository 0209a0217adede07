"""`fastcov plan` and `fastcov doctor`."""

from __future__ import annotations

import click

from ._files import print_json
from ._group import say
from ._options import RELATIVE_RIDGE, SOLVERS, Bytes, json_option


@click.command("plan", short_help="Estimate time and memory of a linear fit.")
@click.argument("channels", type=int)
@click.argument("conditions", type=int)
@click.option("--solver", type=click.Choice(SOLVERS), default="auto", show_default=True)
@click.option("--relative-ridge", type=float, default=RELATIVE_RIDGE, show_default=True,
              help="Ridge over the largest eigenvalue of the Gram matrix of the atoms.")  # fmt: skip
@click.option(
    "--tol", type=float, default=1e-8, show_default=True, help="Relative residual at which pcg stops."
)
@click.option("--targets", default=1, show_default=True, help="Number of targets fitted together.")
@click.option("--float32", is_flag=True, help="Assume responses in single precision.")
@click.option("--memory-budget", type=Bytes(), help="Memory that a fit may use besides X, such as 500MB or "
              "2GB.  [default: all that is available]")  # fmt: skip
@json_option
def plan_command(
    channels: int,
    conditions: int,
    solver: str,
    relative_ridge: float,
    tol: float,
    targets: int,
    float32: bool,
    memory_budget: float | None,
    as_json: bool,
) -> None:
    """Estimate time and memory of a linear fit of CHANNELS and CONDITIONS for each solver; name the choice.

    \b
    fastcov plan 1000000 100 --relative-ridge 1e-3 --memory-budget 2GB
    """  # noqa: D301
    import dataclasses

    from .._solvers import plan

    found = plan(
        channels, conditions, solver=solver, relative_ridge=relative_ridge, tol=tol, n_targets=targets,
        dtype="float32" if float32 else "float64", memory_budget=memory_budget,
    )  # fmt: skip
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        click.echo(str(found))


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Report on the installation and check it.

    Shows versions, threads, BLAS, cache and memory, and compares a small fit with a dense solution.
    Warns about settings that cost time, and says what to do. The exit code is 1 if the check fails.
    """
    from . import _doctor

    report = _doctor.examine()
    if as_json:
        print_json(report)
    else:
        click.echo(_doctor.table(report))
        for warning in report["warnings"]:
            say("Warning", warning)
    if not report["self_check"]["passed"]:
        ctx.exit(1)
