"""`fastcov test`: whether gains predict held-out conditions, against shuffled ones."""

from __future__ import annotations

from typing import Any

import click

from ._cluster import cluster_of
from ._files import InputNames, open_target, outputs, print_json, save_record
from ._options import (
    CONNECTED,
    METHOD_HELP,
    METHODS,
    Ridges,
    at_most_one,
    bound_options,
    bounds_of,
    center_option,
    cluster_options,
    exactly_one,
    json_option,
    limit_options,
    naming_options,
    only_gains,
    output_option,
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
from ._study_records import test_arrays, test_record, test_table
from ._study_report import check_page, save_page


@click.command("test", short_help="Test whether gains predict, against shuffled conditions.")
@click.argument("x", metavar="X")
@responses_option
@target_option
@naming_options
@click.option("--ridges", type=Ridges(), help="Ridges, in units of X to the fourth.")
@click.option("--relative-ridges", type=Ridges(), help="Ridges over the largest eigenvalue of the Gram "
              "matrix of the atoms.  [default: 1e-3 to 0.1 in half decades, and 1]")  # fmt: skip
@folds_option
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True,
              help="How often to draw the folds.")  # fmt: skip
@click.option("--shuffles", type=click.IntRange(1), default=199, show_default=True,
              help="Random orders of the conditions; the smallest p is 1 / (shuffles + 1).")  # fmt: skip
@score_option
@click.option("--method", type=click.Choice(METHODS), default="exact", show_default=True, help=METHOD_HELP)
@permute_options
@click.option("--gains/--no-gains", default=True, show_default=True,
              help="Whether to test the gain of each channel, too. A connectivity has none.")  # fmt: skip
@problem_options
@bound_options
@center_option
@solver_option
@limit_options
@seed_option
@cluster_options
@output_option("p-values, and gains beside those of shuffled targets; as a table, the channels")
@click.option("--report", metavar="FILE.html", help="Write a page that shows and explains the test.")
@json_option
def test_command(
    x: str,
    responses: str | None,
    target: str | None,
    channels: str | None,
    conditions: str | None,
    id_column: str | None,
    ridges: list[float] | None,
    relative_ridges: list[float] | None,
    folds: int | str | None,
    permute_within: str | None,
    permute_groups: str | None,
    gains: bool,
    nuisance: tuple[str, ...],
    pairs: str | None,
    lower: float | None,
    upper: float | None,
    seed: int,
    dask: str | None,
    dask_workers: int | None,
    output: str | None,
    report: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Test whether a fit predicts held-out covariances, by repeating the study with shuffled conditions.

    All of 'fastcov cv', including the choice of the ridge, is repeated with the conditions of Y in random
    order. X, Y and their files are as for 'fastcov fit'.

    \b
    fastcov test data.npz:glomeruli --responses data.npz:mitral --report test.html
    """  # noqa: D301
    exactly_one("--responses", responses, "--target", target)
    at_most_one("--ridges", ridges, "--relative-ridges", relative_ridges)
    at_most_one("--dask", dask, "--dask-workers", dask_workers)
    check_permute(permute_within, permute_groups)
    solver = None if asked["solver"] == "auto" else asked["solver"]
    only_gains([asked["method"]], lower=lower, upper=upper, solver=solver)
    bounds = bounds_of(lower, upper)
    if asked["method"] in CONNECTED and output is not None and output.lower().endswith(".csv"):
        raise click.UsageError(
            "--output as a table is of the channels, and a connectivity has no gains of these."
        )
    if not gains and output is not None and output.lower().endswith(".csv"):
        raise click.UsageError("--output as a table is of the channels, and --no-gains leaves them out.")

    from .._studies.permutation_test import permutation_test

    read = (x, responses, target, channels, conditions, permute_within, permute_groups, pairs_file(pairs))
    results, _ = outputs(output, None, read)
    page = check_page(report, read)
    naming = InputNames(channels, conditions, id_column, cluster_of(dask, dask_workers))
    X, of = open_target(x, responses, target, asked["center"], naming, drawn=False)
    test = permutation_test(
        X, of.get("responses"), S=of.get("S"), ridges=ridges, relative_ridges=relative_ridges,
        folds=folds or 5, bounds=bounds, channels=gains, rng=seed,
        **permuted(permute_within, permute_groups, X.shape[1]), **problem_of(nuisance, pairs), **asked,
    )  # fmt: skip
    if results is not None:
        save_record(results, "the test", test_arrays(test), lambda: [test_table(test)])
    save_page(test, page, x, responses or target)
    if as_json:
        print_json(test_record(test))
    else:
        click.echo(str(test))
