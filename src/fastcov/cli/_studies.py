"""`fastcov cv` and `fastcov path`: fits at many ridges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .._version import __version__
from ._cluster import cluster_of
from ._files import (
    InputNames,
    fit_record,
    names_of,
    open_target,
    outputs,
    print_json,
    read_labels,
    save_figure,
    save_record,
)
from ._group_files import file_of, labels_of
from ._options import (
    CONNECTED,
    METHOD_HELP,
    METHODS,
    at_most_one,
    bound_options,
    bounds_of,
    center_option,
    cluster_options,
    exactly_one,
    grid_options,
    groups_option,
    json_option,
    limit_options,
    methods_of,
    naming_options,
    only_gains,
    output_option,
    plot_option,
    responses_option,
    seed_option,
    solver_option,
    target_option,
)
from ._study_options import (
    check_permute,
    folds_option,
    pairs_file,
    permute_options,
    permuted,
    problem_of,
    problem_options,
    score_option,
)
from ._study_records import cv_arrays, cv_record
from ._study_report import check_page, save_page

if TYPE_CHECKING:
    from .._results.ridge_path import RidgePath


@click.command("cv", short_help="Find the ridge and method that predict best.")
@click.argument("x", metavar="X")
@responses_option
@target_option
@naming_options
@grid_options
@folds_option
@click.option("--groups", metavar="FILE", help="In place of --folds, a label for each condition, one per "
              "line: the groups are held out in turn.")  # fmt: skip
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True,
              help="How often to draw the folds; one split says little.")  # fmt: skip
@click.option("--method", "methods", type=click.Choice(METHODS), multiple=True, default=["exact"],
              show_default=True, help=f"{METHOD_HELP} May be given several times, to compare.")  # fmt: skip
@score_option
@click.option("--shuffles", type=click.IntRange(0), default=0, show_default=True,
              help="Repetitions with the conditions of Y in random order, for p-values.")  # fmt: skip
@permute_options
@click.option("--nested", is_flag=True, help="Choose the ridge of each fold by inner folds, and say how much "
              "choosing the best ridge inflates its score.")  # fmt: skip
@click.option("--refit", type=click.Choice(["best", "one-se"]), default="best", show_default=True,
              help="The ridge of the final fit to all conditions: the best, or the largest within one "
              "standard error of it.")  # fmt: skip
@problem_options
@groups_option("--channel-groups")
@bound_options
@center_option
@solver_option
@limit_options
@seed_option
@cluster_options
@output_option("all scores, the conditions held out, and the gains, if any; as a table, the scores alone")
@plot_option("the score against the ridge, beside baselines")
@click.option("--report", metavar="FILE.html", help="Write a page that shows and explains the study.")
@json_option
def cv_command(
    x: str,
    responses: str | None,
    target: str | None,
    channels: str | None,
    conditions: str | None,
    id_column: str | None,
    ridges: list[float] | None,
    relative_ridges: list[float] | None,
    folds: int | str | None,
    groups: str | None,
    repeats: int,
    methods: tuple[str, ...],
    permute_within: str | None,
    permute_groups: str | None,
    nuisance: tuple[str, ...],
    pairs: str | None,
    channel_groups: str | None,
    lower: float | None,
    upper: float | None,
    seed: int,
    dask: str | None,
    dask_workers: int | None,
    output: str | None,
    figure: str | None,
    report: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Find which ridge and method predict the covariance of held-out conditions.

    The table ends with a verdict: whether the fit predicts better than baselines that need no X, and with
    --shuffles how certain this is. X, Y, S and their files are as for 'fastcov fit'.

    \b
    fastcov cv data.npz:glomeruli --responses data.npz:mitral --shuffles 99 --plot cv.png
    fastcov cv data.npz:glomeruli --responses data.npz:mitral --method exact --method linear
    """  # noqa: D301
    exactly_one("--responses", responses, "--target", target)
    at_most_one("--ridges", ridges, "--relative-ridges", relative_ridges)
    at_most_one("--folds", folds, "--groups", groups)
    if groups is not None and repeats > 1:
        raise click.UsageError("--repeats draws the folds anew, and --groups leaves nothing to draw.")
    at_most_one("--dask", dask, "--dask-workers", dask_workers)
    check_permute(permute_within, permute_groups)
    solver = None if asked["solver"] == "auto" else asked["solver"]
    only_gains(methods, lower=lower, upper=upper, solver=solver)
    bounds = bounds_of(lower, upper)

    from .._results.frames import cv_table
    from .._studies.cross_validation import cross_validate

    read = (x, responses, target, groups, channels, conditions, permute_within, permute_groups,
            pairs_file(pairs), file_of(channel_groups))  # fmt: skip
    results, picture = outputs(output, figure, read)
    page = check_page(report, read)
    naming = InputNames(channels, conditions, id_column, cluster_of(dask, dask_workers))
    X, of = open_target(x, responses, target, asked["center"], naming, drawn=False)
    cv = cross_validate(
        X, of.get("responses"), S=of.get("S"), ridges=ridges, relative_ridges=relative_ridges,
        repeats=repeats, method=methods_of(methods), bounds=bounds, rng=seed,
        folds=(folds or 5) if groups is None else read_labels(groups, X.shape[1]),
        channel_groups=labels_of(channel_groups, X, "--channel-groups"),
        **permuted(permute_within, permute_groups, X.shape[1]), **problem_of(nuisance, pairs), **asked,
    )  # fmt: skip
    if results is not None:
        save_record(results, "the scores", cv_arrays(cv), lambda: [cv_table(cv)])
    if picture is not None:
        from .. import plot

        save_figure(plot.cross_validation(cv).figure, picture)
    save_page(cv, page, x, responses or target)
    if as_json:
        print_json(cv_record(cv))
    else:
        click.echo(str(cv))


@click.command("path", short_help="Fit gains, or connectivities, at many ridges.")
@click.argument("x", metavar="X")
@responses_option
@target_option
@naming_options
@grid_options
@click.option("--method", "methods", type=click.Choice(METHODS), multiple=True, default=["linear"],
              show_default=True, help=f"{METHOD_HELP} May be given several times, to compare.")  # fmt: skip
@problem_options
@groups_option()
@bound_options
@center_option
@solver_option
@limit_options
@seed_option
@cluster_options
@output_option("gains or norms of W, losses and R2 at each ridge; as a table, all but the gains")
@plot_option("the loss, and the range of gains or the norm of W, against the ridge")
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
    nuisance: tuple[str, ...],
    pairs: str | None,
    groups: str | None,
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
    """Fit gains, or connectivities, at each of many ridges, and show how they grow as the ridge falls.

    X, Y, S and their files are as for 'fastcov fit'.

    \b
    fastcov path data.npz:glomeruli --responses data.npz:mitral --method exact --plot path.png
    """  # noqa: D301
    exactly_one("--responses", responses, "--target", target)
    at_most_one("--ridges", ridges, "--relative-ridges", relative_ridges)
    at_most_one("--dask", dask, "--dask-workers", dask_workers)
    only_gains(methods, lower=lower, upper=upper, solver=None if solver == "auto" else solver)
    alike = len({method in CONNECTED for method in methods}) == 1
    if not alike and (figure is not None or (output is not None and not output.lower().endswith(".csv"))):
        raise click.UsageError(
            "--plot and --output are of gains or of connectivities, unless --output is a table: give one "
            "kind of --method at a time."
        )
    bounds = bounds_of(lower, upper)

    from .._results.frames import path_table
    from .._studies.ridge_path import ridge_path

    read = (x, responses, target, channels, conditions, pairs_file(pairs), file_of(groups))
    results, picture = outputs(output, figure, read)
    naming = InputNames(channels, conditions, id_column, cluster_of(dask, dask_workers))
    X, of = open_target(x, responses, target, center, naming, drawn=picture is not None)
    problem = problem_of(nuisance, pairs) | {"groups": labels_of(groups, X)}
    paths = {
        method: ridge_path(
            X, **of, ridges=ridges, relative_ridges=relative_ridges, method=method, bounds=bounds,
            center=center, solver=solver, tol=tol, max_iterations=max_iterations, memory_budget=memory_budget,
            rng=seed, **problem,
        )
        for method in methods_of(methods)
    }  # fmt: skip
    if results is not None:
        arrays = _path_arrays(paths) if alike else {}  # a table needs none
        save_record(results, "the path", arrays, lambda: map(path_table, paths.values()))
    if picture is not None:
        from .. import plot

        save_figure(plot.ridge_path(paths)[0].figure, picture)
    if as_json:
        print_json({"version": __version__, "methods": {m: [*map(fit_record, p)] for m, p in paths.items()}})
    else:
        click.echo("\n\n".join(map(str, paths.values())))


def _path_arrays(paths: dict[str, RidgePath]) -> dict[str, Any]:
    """Return paths as one array for each number, with methods along the first axis."""
    import numpy as np

    first = next(iter(paths.values()))
    names = ("loss", "r2", "residual", "status")
    size = "singular_values" if first[0].method in CONNECTED else "gains"
    return {
        "version": __version__,
        **names_of(first[0]),
        "center": first[0].stats["center"],
        "methods": list(paths),
        "ridges": first.ridges,
        "relative_ridges": first.relative_ridges,
        "loss_at_one": first.loss_at_one,
        **{name: np.stack([np.asarray(getattr(path, name)) for path in paths.values()]) for name in names},
        size: np.array([[getattr(fit, size) for fit in path] for path in paths.values()]),
    }
