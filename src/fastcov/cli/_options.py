"""Options that commands share, and the types of their values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

# A cautious ridge for recordings and simulations; with a smaller one the linear fit may overshoot.
RELATIVE_RIDGE = 0.1
FIGURES = (".png", ".pdf", ".svg")
RESULTS = (".npz", ".csv", ".h5", ".hdf5")
SOLVERS = ("auto", "cholesky", "dual", "spectral", "pcg")
# Methods that fit a connectivity, a copy of `_connectivity.solve.METHODS`, and all methods.
CONNECTED = ("free", "free-linear", "symmetric", "psd")
METHODS = ("linear", "line-search", "exact", "diagonal", *CONNECTED)
ID_COLUMNS = ("x", "y", "both")


class Bytes(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in newer versions only
    """A number of bytes, such as 2e9, 500MB, 1.5 GB or 2GiB."""

    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number, letter, binary = r"(\d+\.?\d*(?:e\d+)?)", "([kmgt]?)", "(i?)"
        match = re.fullmatch(rf"{number}\s*{letter}{binary}b?", str(value).strip(), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is not a number of bytes such as 500MB or 2GB.", param, ctx)
        return float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " ")


class Ridges(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A list of ridges, such as 0.01,0.1,1."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        parts = [part for part in re.split(r"[,\s]+", str(value).strip()) if part]
        try:
            ridges = [float(part) for part in parts]
        except ValueError:
            ridges = []
        if not ridges or not all(math.isfinite(ridge) and ridge >= 0 for ridge in ridges):
            self.fail(f"{value!r} is not a list of numbers >= 0 such as 0.01,0.1,1.", param, ctx)
        if len(set(ridges)) < len(ridges):
            self.fail(f"{value!r} holds a ridge twice.", param, ctx)
        return ridges


class RidgeOrCv(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A ridge, or "cv", which chooses the best on held-out conditions."""

    name = "RIDGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        if value == "cv":
            return "cv"
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number, nor 'cv'.", param, ctx)


def _together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Combine several decorators into one, in the order in which --help lists them."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


responses_option = click.option(
    "--responses", metavar="Y", help="Responses of the other population. The target is their covariance, "
    "scaled to the trace of the covariance of X.",
)  # fmt: skip
target_option = click.option(
    "--target", metavar="S", help="The target covariance itself, conditions x conditions, on the scale of "
    "the covariance of X: a sum over channels, not a mean.",
)  # fmt: skip
center_option = click.option(
    "--center/--no-center", default=True, show_default=True,
    help="Remove the mean over channels, condition by condition.",
)  # fmt: skip
METHOD_HELP = (
    "How gains are fitted; or free, free-linear, symmetric and psd (I + W positive semi-definite) for a "
    "whole connectivity W, which turns X into (I + W)X."
)
method_option = click.option(
    "--method", type=click.Choice(METHODS), default="linear", show_default=True, help=METHOD_HELP
)
grid_options = _together(
    click.option("--ridges", type=Ridges(), help="Ridges, in units of X to the fourth."),
    click.option("--relative-ridges", type=Ridges(), help="Ridges over the largest eigenvalue of the Gram "
                 "matrix of the atoms.  [default: 1e-4 to 1 in half decades]"),
)  # fmt: skip
bound_options = _together(
    click.option("--lower", type=float, help="Smallest gain; 0 prevents negative gains."),
    click.option("--upper", type=float, help="Largest gain."),
)
solver_option = click.option(
    "--solver", type=click.Choice(SOLVERS), default="auto", show_default=True,
    help="Solver of the linear fit; auto is the fastest that fits in memory, see 'fastcov plan'.",
)  # fmt: skip
limit_options = _together(
    click.option("--tol", type=click.FloatRange(0, 1, min_open=True, max_open=True),
                 help="Tolerance: for pcg on the relative residual, and for the exact fit and fits with "
                 "bounds on the gradient over that at gains of one.  [default: 1e-8 and 1e-6]"),
    click.option("--max-iterations", type=click.IntRange(1), default=1000, show_default=True,
                 help="Largest number of iterations of pcg and of the exact fit."),
    click.option("--memory-budget", type=Bytes(), help="Memory that the fit may use besides X, such as 500MB "
                 "or 2GB.  [default: all that is available]"),
)  # fmt: skip
seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all random numbers."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")

naming_options = _together(
    click.option("--channels", metavar="FILE", help="Names of the channels of X, for results: a text file "
                 "with one name per line, or a vector in name.npy, name.npz:key or name.h5:dataset."),
    click.option("--conditions", metavar="FILE", help="Names of the conditions of X, as for --channels, for "
                 "results and figures; those of Y and S are aligned with them."),
    click.option("--id-column", type=click.Choice(ID_COLUMNS), is_flag=False, flag_value="both",
                 help="Read the first column of a table (.csv, .tsv) as names, even if it looks like "
                 "numbers: in X (x), in --responses or --target (y), or in both, which is the default if "
                 "no value follows."),
)  # fmt: skip
cluster_options = _together(
    click.option("--dask", metavar="ADDRESS", help="Fit on the Dask cluster with the scheduler at this "
                 "address, such as tcp://host:8786. Its workers themselves read X and Y from .npy, .h5 or "
                 ".zarr."),
    click.option("--dask-workers", type=click.IntRange(1), metavar="N", help="Fit on a cluster of N "
                 "processes with one thread each, started on this machine for this command."),
)  # fmt: skip


def groups_option(name: str = "--groups") -> Callable[[F], F]:
    return click.option(
        name, metavar="FILE", help="The group of each channel of X; the channels of a group share one gain: "
        "a text file with one label per line, a column of a table as in table.csv:animal, or a vector as in "
        "data.npz:animal.",
    )  # fmt: skip


fit_options = _together(
    responses_option,
    target_option,
    naming_options,
    click.option("--ridge", type=RidgeOrCv(), metavar="FLOAT|cv", help="Ridge, in units of X to the fourth; "
                 "cv chooses the best on held-out conditions of --responses."),
    click.option("--relative-ridge", type=float, help="Ridge over the largest eigenvalue of the Gram matrix "
                 f"of the atoms.  [default: {RELATIVE_RIDGE}]"),
    method_option,
    groups_option(),
    bound_options,
    center_option,
    solver_option,
    limit_options,
    click.option("--rank", type=click.IntRange(0), help="Rank of the preconditioner of pcg.  [default: "
                 "chosen by cost]"),
    click.option("--n-starts", type=click.IntRange(1), default=1, show_default=True,
                 help="Number of starts of the exact fit, of which the lowest minimum is taken."),
    seed_option,
    cluster_options,
)  # fmt: skip


def output_option(what: str) -> Callable[[F], F]:
    return click.option("--output", metavar="FILE", help=f"Save {what}: .npz, .h5 or .csv.")


def plot_option(what: str) -> Callable[[F], F]:
    return click.option("--plot", "figure", metavar="FILE", help=f"Draw {what}: .png, .pdf or .svg.")


def only_gains(methods: Sequence[str], **given: Any) -> None:
    """Refuse options that only gains have; `given` holds their values, and None or False if not given."""
    connected = [method for method in methods if method in CONNECTED]
    for name, value in given.items():
        if connected and value is not None and value is not False:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(
                f"{option} is for gains, and --method {connected[0]} fits a connectivity: leave it out."
            )


def exactly_one(first: str, value: Any, second: str, other: Any) -> None:
    if (value is None) == (other is None):
        given = "neither" if value is None else "both"
        raise click.UsageError(f"Give one of {first} and {second}, not {given}.")


def at_most_one(first: str, value: Any, second: str, other: Any) -> None:
    if value is not None and other is not None:
        raise click.UsageError(f"Give one of {first} and {second}, not both.")


def bounds_of(lower: float | None, upper: float | None) -> tuple[float | None, float | None] | None:
    """Return bounds in the form that `fit` takes."""
    for name, value in (("--lower", lower), ("--upper", upper)):
        if value is not None and math.isnan(value):
            raise click.UsageError(f"{name} must be a number, not NaN: leave it out for no bound.")
    if lower is not None and upper is not None and lower > upper:
        raise click.UsageError(f"--lower must be at most --upper, not {lower:g} > {upper:g}.")
    return None if lower is None and upper is None else (lower, upper)


def methods_of(methods: tuple[str, ...]) -> list[str]:
    """Return each method once, in the order given."""
    return list(dict.fromkeys(methods))
