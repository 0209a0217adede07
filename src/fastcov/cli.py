"""The command line: `fastcov demo`, `fastcov fit`, `fastcov plan`, `fastcov doctor`.

Results go to stdout, messages to stderr. Whatever is wrong with the input is one line and exit
code 2. Numba, SciPy and matplotlib are imported by the commands that need them, so that --help is
instant.
"""

from __future__ import annotations

import errno
import json
import math
import pathlib
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from . import __version__

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._result import Fit

FIGURES = (".png", ".pdf", ".svg")
# 9 inches at 200 dots each are sharp at twice the 900 pixels of a README.
DPI = 200
# A cautious start on recordings and simulations; at smaller ones the linear fit may overshoot.
RELATIVE_RIDGE = 0.1


SOLVERS = ("auto", "cholesky", "dual", "spectral", "pcg")

# What a user can put right, or has to know; anything else is a defect and keeps its traceback.
_REPORTED = (ValueError, TypeError, KeyError, MemoryError, OSError, ImportError, RuntimeError)


class _Doors(click.Group):
    """A group that reports whatever its user can put right in one line and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            hint = f" See '{context.command_path} --help'." if context else ""
            _say("Error", error.format_message() + hint)
            code = 2
        except click.Abort:  # Ctrl-C before a command has begun
            code = 130
        if standalone_mode:
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


class _Bytes(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in newer versions only
    """A number of bytes, as 2e9, 500MB, 1.5 GB or 2GiB."""

    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number, letter, binary = r"(\d+\.?\d*(?:e\d+)?)", "([kmgt]?)", "(i?)"
        match = re.fullmatch(rf"{number}\s*{letter}{binary}b?", str(value).strip(), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is not a number of bytes such as 500MB or 2GB.", param, ctx)
        return float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " ")


def _say(kind: str, message: str) -> None:
    click.echo(f"{kind}: {' '.join(message.split())}", err=True)


def _stop(ctx: click.Context, message: str, code: int) -> NoReturn:
    _say("Error", message)
    ctx.exit(code)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say("Warning", str(message))


@click.group(
    cls=_Doors,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fastcov")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Fit one gain per channel that turns one population's covariance into another's.

    \b
    fastcov demo                                  what it does, on simulated responses
    fastcov fit X.npy --responses Y.npy           gains from two recordings
    fastcov plan 100000 100                       what a fit of that size takes
    fastcov doctor                                what the installation is like
    """  # noqa: D301  (click ends a paragraph at a real backspace)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@main.command()
@click.option("--output", default="demo.png", show_default=True, help="Figure: .png, .pdf or .svg.")
@click.option("--channels", default=148, show_default=True, help="Channels to simulate.")
@click.option("--conditions", default=48, show_default=True, help="Conditions to simulate.")
@click.option("--seed", default=0, show_default=True, help="Seed of the simulation.")
@click.option(
    "--relative-ridge", default=RELATIVE_RIDGE, show_default=True,
    help="Ridge over the largest eigenvalue of the Gram matrix of the atoms.",
)  # fmt: skip
def demo(output: str, channels: int, conditions: int, seed: int, relative_ridge: float) -> None:
    """Simulate responses, fit gains, and draw the fit.

    The table compares losses, lower being better: of gains of one, of the diagonal and the linear
    fit, and of the gains that the simulation used.
    """
    from . import datasets, plot
    from ._fit import fit
    from ._io import check_output

    target = check_output(output, FIGURES, name="--output")
    simulation = datasets.simulate(channels, conditions, rng=seed)
    X, S = simulation.X, simulation.S
    linear = fit(X, S, relative_ridge=relative_ridge)
    diagonal = fit(X, S, ridge=linear.ridge, method="diagonal")
    try:
        figure = plot.summary(X, S, {"linear": linear, "diagonal": diagonal}, order="cluster")
    except ImportError as error:
        _say("No figure", str(error))
    else:
        _save_figure(figure, target)
    click.echo(f"{simulation}\n\n{_losses(X, S, linear, diagonal, simulation.gains)}")


def _losses(X: NDArray[Any], S: NDArray[Any], linear: Fit, diagonal: Fit, true: NDArray[Any]) -> str:
    import numpy as np

    from ._loss import loss

    size = float(np.square(S).sum()) or np.nan
    rows = [("gains", "loss", "to loss at one", "R2")]
    for name, gains in (
        ("all one", np.ones(len(X))),
        ("diagonal fit", diagonal.gains),
        ("linear fit", linear.gains),
        ("true gains", true),
    ):
        penalised, misfit = (float(loss(X, S, gains, ridge=ridge)) for ridge in (linear.ridge, 0.0))
        ratio = penalised / (linear.loss_at_one or np.nan)
        rows.append((name, f"{penalised:.4g}", f"{ratio:.3f}", f"{1 - 2 * misfit / size:.3f}"))
    table = "\n".join(f"  {name:<14}{value:>12}{ratio:>16}{r2:>10}" for name, value, ratio, r2 in rows)
    return (
        f"{table}\n"
        f"  The loss includes the ridge term (ridge {linear.ridge:.4g}), which draws gains to one: the true\n"
        "  gains pay for being far from it. R2 is that of the covariance alone."
    )


@main.command("fit")
@click.argument("x", metavar="X")
@click.option("--responses", metavar="Y", help="Responses of the other population. Their covariance, "
              "its trace scaled to that of X, is the target.")  # fmt: skip
@click.option("--target", metavar="S", help="The target covariance itself, conditions x conditions, on the "
              "scale of X's: a sum over channels, not a mean.")  # fmt: skip
@click.option("--ridge", type=float, help="Ridge, in units of X to the fourth.")
@click.option("--relative-ridge", type=float, help="Ridge over the largest eigenvalue of the Gram matrix "
              f"of the atoms.  [default: {RELATIVE_RIDGE}]")  # fmt: skip
@click.option("--method", type=click.Choice(["linear", "diagonal"]), default="linear", show_default=True)
@click.option("--center/--no-center", default=True, show_default=True,
              help="Remove the mean over channels, condition by condition.")  # fmt: skip
@click.option("--solver", type=click.Choice(SOLVERS), default="auto", show_default=True,
              help="Of the linear fit; auto is the fastest that fits, see 'fastcov plan'.")  # fmt: skip
@click.option(
    "--tol", type=float, default=1e-8, show_default=True, help="Relative residual at which pcg stops."
)
@click.option("--max-iterations", type=int, default=1000, show_default=True, help="Of pcg.")
@click.option("--memory-budget", type=_Bytes(), help="What the fit may take beyond X, as 500MB or 2GB.  "
              "[default: what is available]")  # fmt: skip
@click.option("--output", metavar="FILE.npz", help="Save gains, delta, covariance, target and the "
              "numbers of the fit.")  # fmt: skip
@click.option("--plot", "figure", metavar="FILE", help="Draw the covariances, and the gains of the "
              "linear and the diagonal fit: .png, .pdf or .svg.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def fit_command(
    x: str,
    responses: str | None,
    target: str | None,
    ridge: float | None,
    relative_ridge: float | None,
    method: str,
    center: bool,
    solver: str,
    tol: float,
    max_iterations: int,
    memory_budget: float | None,
    output: str | None,
    figure: str | None,
    as_json: bool,
) -> None:
    """Fit gains to a file of responses.

    X holds one row a channel, one column a condition. Y has the same conditions in the same order,
    and channels of its own.

    Files: name.npy, name.npz:key, name.mat:key, name.csv, name.tsv, name.h5:dataset, or a folder
    name.zarr (name.zarr:array in a group). The key may be left out where there is no choice. X and Y in
    .npy, .h5 and .zarr may be larger than memory. A table may have a header row and a first column of
    names; their order is not compared, and numbers are data unless the corner is empty.

    \b
    fastcov fit data.npz:glomeruli --responses data.npz:mitral --relative-ridge 0.1 --plot fit.png
    """  # noqa: D301
    _exactly_one("--responses", responses, "--target", target)
    if ridge is None and relative_ridge is None:
        relative_ridge = RELATIVE_RIDGE
    _exactly_one("--ridge", ridge, "--relative-ridge", relative_ridge)

    from ._fit import fit
    from ._io import check_output, open_array, read_array
    from ._problem import Problem, target_covariance

    read = [file for file in (x, responses, target) if file is not None]
    results = check_output(output, (".npz",), name="--output", read=read) if output is not None else None
    picture = check_output(figure, FIGURES, name="--plot", read=read) if figure is not None else None
    if picture is not None:
        from . import plot

        plot.require_matplotlib()
    X = open_array(x, name="X")
    if responses is not None:
        Problem.of(X, center=center)  # what is wrong with X is said of X
        Y = open_array(responses, name="Y")
        if Y.ndim == 2 and Y.shape[1] != X.shape[1]:
            raise ValueError(
                f"Argument 'Y' must have the {X.shape[1]} conditions of X in its columns, not {Y.shape[1]}: "
                "is one of them conditions x channels?"
            )
        S = target_covariance(Y, like=X, center=center)
    else:
        S = read_array(str(target), name="S")
        if S.ndim == 3 and picture is not None:
            raise click.UsageError("--plot draws one target, and --target holds a stack of them.")
    options: dict[str, Any] = {
        "center": center, "solver": solver, "tol": tol, "max_iterations": max_iterations,
        "memory_budget": memory_budget,
    }  # fmt: skip
    fitted = fit(X, S, ridge=ridge, relative_ridge=relative_ridge, method=method, **options)

    # Files come first: a reader of stdout that leaves early costs nothing.
    if results is not None:
        _save_fit(fitted, S, results)
    if picture is not None:
        other = "diagonal" if method == "linear" else "linear"
        fits = {method: fitted, other: fit(X, S, ridge=fitted.ridge, method=other, **options)}
        _save_figure(plot.summary(X, S, fits, order="cluster"), picture)
    click.echo(json.dumps(_plain(_record(fitted)), allow_nan=False) if as_json else str(fitted))


def _exactly_one(first: str, value: Any, second: str, other: Any) -> None:
    if (value is None) == (other is None):
        given = "neither" if value is None else "both"
        raise click.UsageError(f"Give one of {first} and {second}, not {given}.")


def _record(fit: Fit) -> dict[str, Any]:
    """All of a fit but its covariance, by name."""
    N, D = fit.stats["shape"]
    scalars = ("loss", "loss_at_one", "overshoots", "r2", "ridge", "relative_ridge", "residual", "status")
    return {
        "version": __version__,
        "channels": N,
        "conditions": D,
        "center": fit.stats["center"],
        "method": fit.method,
        **{name: fit.stats.get(name) for name in ("solver", "reason", "iterations", "seconds")},
        **{name: getattr(fit, name) for name in scalars},
        "gains": fit.gains,
    }


def _save_fit(fit: Fit, S: NDArray[Any], path: pathlib.Path) -> None:
    import numpy as np

    from ._io import writing

    record: dict[str, Any] = {
        name: np.nan if value is None else value for name, value in _record(fit).items()
    }
    with writing(path) as draft:
        np.savez(draft, delta=fit.delta, covariance=fit.covariance(), target=S, **record)
    click.echo(f"Saved the fit to {path}", err=True)


def _save_figure(figure: Any, path: pathlib.Path) -> None:
    from ._io import writing

    with writing(path) as draft:
        figure.savefig(draft, dpi=DPI)
    click.echo(f"Saved the figure to {path}", err=True)


def _plain(value: Any) -> Any:
    """What JSON can say; NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):  # of NumPy
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


@main.command("plan")
@click.argument("channels", type=int)
@click.argument("conditions", type=int)
@click.option("--solver", type=click.Choice(SOLVERS), default="auto", show_default=True)
@click.option("--relative-ridge", type=float, default=RELATIVE_RIDGE, show_default=True,
              help="Ridge over the largest eigenvalue of the Gram matrix of the atoms.")  # fmt: skip
@click.option(
    "--tol", type=float, default=1e-8, show_default=True, help="Relative residual at which pcg stops."
)
@click.option("--targets", default=1, show_default=True, help="Target covariances fitted together.")
@click.option("--float32", is_flag=True, help="Responses in single precision.")
@click.option("--memory-budget", type=_Bytes(), help="What a fit may take beyond X, as 500MB or 2GB.  "
              "[default: what is available]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
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
    """What a linear fit of so many CHANNELS and CONDITIONS takes with each solver, and which is chosen.

    \b
    fastcov plan 1000000 100 --relative-ridge 1e-3 --memory-budget 2GB
    """  # noqa: D301
    import dataclasses

    from ._solvers import plan

    found = plan(
        channels, conditions, solver=solver, relative_ridge=relative_ridge, tol=tol, n_targets=targets,
        dtype="float32" if float32 else "float64", memory_budget=memory_budget,
    )  # fmt: skip
    click.echo(json.dumps(_plain(dataclasses.asdict(found)), allow_nan=False) if as_json else str(found))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Report on the installation and check it.

    Shows versions, threads, BLAS, cache and memory, and compares a small fit with a dense solution.
    Warns about what costs time, and says what to do. The exit code is 1 if the check fails.
    """
    from . import _doctor

    report = _doctor.examine()
    if as_json:
        click.echo(json.dumps(_plain(report), allow_nan=False))
    else:
        click.echo(_doctor.table(report))
        for warning in report["warnings"]:
            _say("Warning", warning)
    if not report["self_check"]["passed"]:
        ctx.exit(1)
