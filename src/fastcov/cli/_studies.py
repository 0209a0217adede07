"""`fastcov cv` and `fastcov path`: fits at many ridges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ._cluster import cluster_of
from ._files import (
    Naming,
    fit_record,
    names_of,
    open_responses,
    open_target,
    outputs,
    print_json,
    read_labels,
    save_figure,
    save_record,
)
from ._options import (
    METHODS,
    at_most_one,
    bound_options,
    bounds_of,
    center_option,
    cluster_options,
    exactly_one,
    grid_options,
    json_option,
    limit_options,
    methods_of,
    naming_options,
    output_option,
    plot_option,
    responses_option,
    seed_option,
    solver_option,
    target_option,
)

if TYPE_CHECKING:
    from .._path import RidgePath
    from .._scores import CrossValidation


@click.command("cv", short_help="Find the ridge and method that predict best.")
@click.argument("x", metavar="X")
@click.option("--responses", metavar="Y", required=True, help="Responses of the other population to the same "
              "conditions, in the same order or with their names.")  # fmt: skip
@naming_options
@grid_options
@click.option("--folds", type=click.IntRange(2), help="Folds, drawn at random.  [default: 5]")
@click.option("--groups", metavar="FILE", help="In place of --folds, a label for each condition, one a line: "
              "one group after another is held out.")  # fmt: skip
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True,
              help="Draw the folds so many times: one split says little.")  # fmt: skip
@click.option("--method", "methods", type=click.Choice(METHODS), multiple=True, default=["exact"],
              show_default=True, help="May be given several times, to compare.")  # fmt: skip
@click.option("--shuffles", type=click.IntRange(0), default=0, show_default=True,
              help="So many times, with the conditions of Y in random order.")  # fmt: skip
@click.option("--refit", type=click.Choice(["best", "one-se"]), default="best", show_default=True,
              help="Which ridge the gains of all conditions are fitted with: the best, or the largest within "
              "one standard error of it.")  # fmt: skip
@bound_options
@center_option
@solver_option
@limit_options
@seed_option
@cluster_options
@output_option("all scores, the conditions held out, and the gains; as a table, the scores alone")
@plot_option("R2 against the ridge")
@json_option
def cv_command(
    x: str,
    responses: str,
    channels: str | None,
    conditions: str | None,
    id_column: str | None,
    ridges: list[float] | None,
    relative_ridges: list[float] | None,
    folds: int | None,
    groups: str | None,
    repeats: int,
    methods: tuple[str, ...],
    shuffles: int,
    refit: str,
    lower: float | None,
    upper: float | None,
    center: bool,
    solver: str,
    tol: float | None,
    max_iterations: int,
    memory_budget: float | None,
    seed: int,
    dask: str | None,
    dask_workers: int | None,
    output: str | None,
    figure: str | None,
    as_json: bool,
) -> None:
    """Find which ridge and method predict the covariance of conditions that were held out.

    X, Y and the files they are in are as for 'fastcov fit'.

    \b
    fastcov cv data.npz:glomeruli --responses data.npz:mitral --repeats 5 --plot cv.png
    fastcov cv data.npz:glomeruli --responses data.npz:mitral --method exact --method linear
    """  # noqa: D301
    at_most_one("--ridges", ridges, "--relative-ridges", relative_ridges)
    at_most_one("--folds", folds, "--groups", groups)
    if groups is not None and repeats > 1:
        raise click.UsageError("--repeats draws the folds anew, and --groups leaves nothing to draw.")
    at_most_one("--dask", dask, "--dask-workers", dask_workers)
    bounds = bounds_of(lower, upper)

    from .._cross_validation import cross_validate
    from .._frames import cv_table

    results, picture = outputs(output, figure, (x, responses, groups, channels, conditions))
    naming = Naming(channels, conditions, id_column, cluster_of(dask, dask_workers))
    X, Y = open_responses(x, responses, center, naming)
    cv = cross_validate(
        X, Y, ridges=ridges, relative_ridges=relative_ridges, repeats=repeats, method=methods_of(methods),
        folds=(folds or 5) if groups is None else read_labels(groups, X.shape[1]), shuffles=shuffles,
        refit=refit, bounds=bounds, center=center, solver=solver, tol=tol, max_iterations=max_iterations,
        memory_budget=memory_budget, rng=seed,
    )  # fmt: skip
    if results is not None:
        save_record(results, "the scores", _cv_arrays(cv), lambda: [cv_table(cv)])
    if picture is not None:
        from .. import plot

        save_figure(plot.cross_validation(cv).figure, picture)
    if as_json:
        print_json(_cv_record(cv))
    else:
        click.echo(str(cv))


_SCORES = ("r2", "r2_over_one", "pearson", "residual", "status", "r2_shuffled")


def _cv_shared(cv: CrossValidation) -> dict[str, Any]:
    N, D = cv.stats["shape"]
    return {
        "version": __version__,
        "channels": N,
        "conditions": D,
        **names_of(next(iter(cv.fits.values()), None)),
        "center": cv.stats["center"],
        "seconds": cv.stats["seconds"],
        "ridges": cv.ridges,
        "relative": cv.relative,
        "repeats": cv.repeats,
        "r2_at_one": cv.r2_at_one,
        "pearson_at_one": cv.pearson_at_one,
    }


def _cv_record(cv: CrossValidation) -> dict[str, Any]:
    """A study by method, as JSON has it."""
    best, one_se = cv.choices("best"), cv.choices("one-se")
    methods = {}
    for name, scores in cv.scores.items():
        mean, error = cv.summary(name)
        methods[name] = {
            "r2_mean": mean,
            "r2_standard_error": error,
            "best_ridge": best[name],
            "one_se_ridge": one_se[name],
            **{score: getattr(scores, score) for score in _SCORES},
            "fit": fit_record(cv.fits[name]),
        }
    return {**_cv_shared(cv), "held_out": [test for _, test in cv.folds], "methods": methods}


def _cv_arrays(cv: CrossValidation) -> dict[str, Any]:
    """A study with one array of each score, methods first."""
    import numpy as np

    held_out = np.zeros((len(cv.folds), cv.stats["shape"][1]), bool)
    for row, (_, test) in zip(held_out, cv.folds, strict=True):
        row[test] = True
    scores = {name: [getattr(each, name) for each in cv.scores.values()] for name in _SCORES}
    return {
        **_cv_shared(cv),
        "methods": list(cv.methods),
        "held_out": held_out,
        **{name: np.stack(each) for name, each in scores.items() if each[0] is not None},
        "status": np.stack(scores["status"]).astype(str),
        "best_ridge": list(cv.choices("best").values()),
        "one_se_ridge": list(cv.choices("one-se").values()),
        "fit_ridge": [fit.ridge for fit in cv.fits.values()],
        "gains": np.stack([fit.gains for fit in cv.fits.values()]),
    }


@click.command("path", short_help="Fit gains at each of many ridges.")
@click.argument("x", metavar="X")
@responses_option
@target_option
@naming_options
@grid_options
@click.option("--method", "methods", type=click.Choice(METHODS), multiple=True, default=["linear"],
              show_default=True, help="May be given several times, to compare.")  # fmt: skip
@bound_options
@center_option
@solver_option
@limit_options
@seed_option
@cluster_options
@output_option("gains, losses and R2 at each ridge; as a table, all but the gains")
@plot_option("the loss and the range of gains against the ridge")
@json_option
def path_command(
    x: str,
    responses: str | None,
    target: str | None,
    channels: str | None,
    conditions: str | None,
    id_column: str | None,
    ridges: list[float] | None,
    relative_ridges: list[float] | None,
    methods: tuple[str, ...],
    lower: float | None,
    upper: float | None,
    center: bool,
    solver: str,
    tol: float | None,
    max_iterations: int,
    memory_budget: float | None,
    seed: int,
    dask: str | None,
    dask_workers: int | None,
    output: str | None,
    figure: str | None,
    as_json: bool,
) -> None:
    """Fit gains at each of many ridges: how they leave one as the ridge falls.

    X, Y, S and the files they are in are as for 'fastcov fit'.

    \b
    fastcov path data.npz:glomeruli --responses data.npz:mitral --method exact --plot path.png
    """  # noqa: D301
    exactly_one("--responses", responses, "--target", target)
    at_most_one("--ridges", ridges, "--relative-ridges", relative_ridges)
    at_most_one("--dask", dask, "--dask-workers", dask_workers)
    bounds = bounds_of(lower, upper)

    from .._frames import path_table
    from .._path import ridge_path

    results, picture = outputs(output, figure, (x, responses, target, channels, conditions))
    naming = Naming(channels, conditions, id_column, cluster_of(dask, dask_workers))
    X, of = open_target(x, responses, target, center, naming, drawn=picture is not None)
    paths = {
        method: ridge_path(
            X, **of, ridges=ridges, relative_ridges=relative_ridges, method=method, bounds=bounds,
            center=center, solver=solver, tol=tol, max_iterations=max_iterations, memory_budget=memory_budget,
            rng=seed,
        )
        for method in methods_of(methods)
    }  # fmt: skip
    if results is not None:
        save_record(results, "the path", _path_arrays(paths), lambda: map(path_table, paths.values()))
    if picture is not None:
        from .. import plot

        save_figure(plot.ridge_path(paths)[0].figure, picture)
    if as_json:
        print_json({"version": __version__, "methods": {m: [*map(fit_record, p)] for m, p in paths.items()}})
    else:
        click.echo("\n\n".join(map(str, paths.values())))


def _path_arrays(paths: dict[str, RidgePath]) -> dict[str, Any]:
    """Paths with one array of each number, methods first."""
    import numpy as np

    first = next(iter(paths.values()))
    names = ("gains", "loss", "r2", "residual", "status")
    return {
        "version": __version__,
        **names_of(first[0]),
        "center": first[0].stats["center"],
        "methods": list(paths),
        "ridges": first.ridges,
        "relative_ridges": first.relative_ridges,
        "loss_at_one": first.loss_at_one,
        **{name: np.stack([np.asarray(getattr(path, name)) for path in paths.values()]) for name in names},
    }
