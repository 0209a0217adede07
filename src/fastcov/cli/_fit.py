"""`fastcov fit`."""

from __future__ import annotations

from typing import Any

import click

from ._files import Naming, fit_record, open_target, outputs, print_json, save_figure, save_fit
from ._options import (
    RELATIVE_RIDGE,
    RidgeOrCv,
    bound_options,
    bounds_of,
    center_option,
    exactly_one,
    json_option,
    limit_options,
    method_option,
    naming_options,
    output_option,
    plot_option,
    responses_option,
    seed_option,
    solver_option,
    target_option,
)


@click.command("fit")
@click.argument("x", metavar="X")
@responses_option
@target_option
@naming_options
@click.option("--ridge", type=RidgeOrCv(), metavar="FLOAT|cv", help="Ridge, in units of X to the fourth; "
              "cv: the best on conditions held out of --responses.")  # fmt: skip
@click.option("--relative-ridge", type=float, help="Ridge over the largest eigenvalue of the Gram matrix "
              f"of the atoms.  [default: {RELATIVE_RIDGE}]")  # fmt: skip
@method_option
@bound_options
@center_option
@solver_option
@limit_options
@click.option("--rank", type=click.IntRange(0), help="Of the preconditioner of pcg.  [default: as it pays]")
@click.option("--n-starts", type=click.IntRange(1), default=1, show_default=True,
              help="Minima to look for with the exact fit, of which the lowest is taken.")  # fmt: skip
@seed_option
@output_option("the whole fit, which fastcov.load reads, or a table of the gains")
@plot_option("the covariances, and the gains beside those of the linear and the diagonal fit")
@json_option
def fit_command(
    x: str,
    responses: str | None,
    target: str | None,
    channels: str | None,
    conditions: str | None,
    id_column: bool,
    ridge: float | str | None,
    relative_ridge: float | None,
    method: str,
    lower: float | None,
    upper: float | None,
    center: bool,
    solver: str,
    tol: float | None,
    max_iterations: int,
    memory_budget: float | None,
    rank: int | None,
    n_starts: int,
    seed: int,
    output: str | None,
    figure: str | None,
    as_json: bool,
) -> None:
    """Fit gains to a file of responses.

    X holds one row a channel, one column a condition. Y has the same conditions, and channels of its
    own: the conditions in the same order or, where X and Y both name them, in any.

    Files: name.npy, name.npz:key, name.mat:key, name.csv, name.tsv, name.h5:dataset, or a folder
    name.zarr (name.zarr:array in a group). The key may be left out where there is no choice. X and Y in
    .npy, .h5 and .zarr may be larger than memory. A table may have a header row, of names of conditions,
    and a first column of names of channels; numbers there are data, unless the corner is empty or, in the
    first column, --id-column is given. Names that only count from 0 are none.

    \b
    fastcov fit data.npz:glomeruli --responses data.npz:mitral --relative-ridge 0.1 --plot fit.png
    fastcov fit data.npz:glomeruli --responses data.npz:mitral --method exact --ridge cv --lower 0
    """  # noqa: D301
    exactly_one("--responses", responses, "--target", target)
    if ridge is None and relative_ridge is None:
        relative_ridge = RELATIVE_RIDGE
    exactly_one("--ridge", ridge, "--relative-ridge", relative_ridge)
    if ridge == "cv" and responses is None:
        raise click.UsageError("--ridge cv holds out conditions of --responses, not of --target.")
    if n_starts > 1 and method != "exact":
        raise click.UsageError(f"--n-starts is for --method exact, not for {method}.")
    bounds = bounds_of(lower, upper)

    from .._fit import fit

    results, picture = outputs(output, figure, (x, responses, target, channels, conditions))
    naming = Naming(channels, conditions, id_column)
    X, of = open_target(x, responses, target, center, naming, drawn=picture is not None)
    options: dict[str, Any] = {
        "center": center, "solver": solver, "tol": tol, "max_iterations": max_iterations, "bounds": bounds,
        "memory_budget": memory_budget, "rank": rank, "rng": seed,
    }  # fmt: skip
    fitted = fit(
        X, **of, ridge=ridge, relative_ridge=relative_ridge, method=method, n_starts=n_starts, **options
    )
    cv = fitted.stats.get("cv")

    # Files come first: a reader of stdout that leaves early costs nothing.
    if results is not None:
        given: dict[str, Any] = {"X": x, "responses": responses, "target": target, "channels": channels}
        given |= {"conditions": conditions, "bounds": bounds, "seed": seed, "n_starts": n_starts}
        fitted.stats["source"] = {name: value for name, value in given.items() if value is not None}
        save_fit(results, fitted)
    if picture is not None:
        from .. import plot

        others = [other for other in ("linear", "diagonal") if other != method]
        fits = {method: fitted} | {
            other: fit(X, **of, ridge=fitted.ridge, method=other, **options) for other in others
        }
        save_figure(plot.summary(X, fitted.target(), fits, order="cluster"), picture)
    if as_json:
        chosen = {} if cv is None else {"cv": {"relative_ridges": cv.ridges, "r2": cv.r2}}
        print_json(fit_record(fitted) | chosen)
    else:
        click.echo(str(fitted) if cv is None else f"{fitted}\n\n{cv}")
