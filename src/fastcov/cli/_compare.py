"""`fastcov compare`: which model of how X becomes Y predicts held-out conditions best."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import click

from ._files import InputNames, outputs, read_labels, save_figure
from ._group_files import TABLES, file_of, read_groups
from ._options import (
    Ridges,
    center_option,
    json_option,
    naming_options,
    plot_option,
    seed_option,
)
from ._study import permuted_of
from ._study_options import (
    check_permute,
    folds_option,
    pairs_file,
    pairs_option,
    permute_options,
    problem_of,
    score_option,
)
from ._study_report import check_page


class Options(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic in newer versions only
    """A model of one's own: NAME={"option": value}."""

    name = "NAME=JSON"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, dict[str, Any]]:
        name, equals, text = str(value).partition("=")
        try:
            options = json.loads(text)
        except ValueError:
            options = None
        if not name or not equals or not isinstance(options, dict):
            self.fail(f'{value!r} is not like inhibition={{"bounds": [0, 1]}}.', param, ctx)
        return name, options


@click.command("compare", short_help="Compare models: gains, all connections, baselines.")
@click.argument("x", metavar="X")
@click.argument("y", metavar="Y")
@naming_options
@click.option("--models", "names", metavar="LIST", help="Names of models, as in one,no-x,scaled,one-gain,"
              "groups,gains,gains+nuisance,free,symmetric,psd,mixed.  [default: all but groups, symmetric, "
              "psd and mixed]")  # fmt: skip
@click.option("--model", "own", type=Options(), multiple=True, help="A further model, with options of "
              """fastcov.cross_validate as JSON: --model inhibition='{"bounds": [0, 1]}' for gains between """
              "0 and 1. May be given several times.")  # fmt: skip
@click.option("--groups", metavar="FILE", help="The group of each channel of X, such as its animal, for the "
              "model groups: a text file with one label per line, a column of a table as in "
              "table.csv:animal, or a vector as in data.npz:animal.")  # fmt: skip
@click.option("--relative-ridges", type=Ridges(), help="Ridges for all models, over the largest eigenvalue "
              "of each model's Gram matrix.  [default: six for each model]")  # fmt: skip
@folds_option
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True,
              help="How often to draw the folds.")  # fmt: skip
@click.option("--nested/--no-nested", default=True, show_default=True,
              help="Whether inner folds choose the ridge of each fold.")  # fmt: skip
@score_option
@click.option("--shuffles", type=click.IntRange(0), default=0, show_default=True,
              help="Random orders of the conditions, for p of each model: at least 19, or 0.")  # fmt: skip
@click.option("--level", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.95,
              show_default=True, help="Coverage of the intervals.")  # fmt: skip
@permute_options
@click.option("--trials", metavar="FILE", help="If columns are single trials, the condition of each, one per "
              "line: trials of a condition are held out and shuffled together.")  # fmt: skip
@click.option("--nan-policy", type=click.Choice(["raise", "omit-trials", "pairwise"]), default="raise",
              show_default=True, help="What to do with missing values, as for 'fastcov study'.")  # fmt: skip
@pairs_option
@center_option
@seed_option
@click.option("--output", metavar="FILE", help="Save the comparison, which fastcov.load reads: .npz or .h5.")
@click.option("--csv", "table", metavar="FILE", help="Save the table of models: .csv or .tsv.")
@plot_option("the score of each model, and how far it is from the others")
@click.option("--report", metavar="FILE.html", help="Write a page that shows and explains the comparison.")
@json_option
def compare_command(
    x: str,
    y: str,
    channels: str | None,
    conditions: str | None,
    id_column: str | None,
    names: str | None,
    own: tuple[tuple[str, dict[str, Any]], ...],
    groups: str | None,
    folds: int | str | None,
    permute_within: str | None,
    permute_groups: str | None,
    trials: str | None,
    pairs: str | None,
    seed: int,
    output: str | None,
    table: str | None,
    figure: str | None,
    report: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Compare models of how the covariance of X becomes that of Y, on the same held-out conditions.

    X and Y are responses, channels x conditions, in files as for 'fastcov fit'. Each model predicts
    conditions that it was not fitted to: one gain for all channels, a gain for each, all connections among
    channels, and baselines without fitted gains.

    \b
    fastcov compare glomeruli.csv mitral.csv --models one,gains,free --plot models.png
    fastcov compare glomeruli.csv mitral.csv --groups animals.txt --shuffles 99 --report models.html
    """  # noqa: D301
    check_permute(permute_within, permute_groups)
    listed = [name.strip() for name in (names or "").split(",") if name.strip()]

    from .._inputs.container import SUFFIXES
    from .._inputs.files import check_output
    from .._inputs.optional import optional
    from .._whole.compare import USUAL, compare

    files = (x, y, file_of(groups), channels, conditions, permute_within, permute_groups, trials,
             pairs_file(pairs))  # fmt: skip
    read = [file for file in files if file is not None]
    results = None if output is None else check_output(output, SUFFIXES, name="--output", read=read)
    if results is not None and results.suffix.lower() != ".npz":
        optional("h5py", f"Writing {results.suffix.lower()} files", "h5")
    rows = None if table is None else check_output(table, TABLES, name="--csv", read=read)
    _, picture = outputs(None, figure, read)
    page = check_page(report, read)
    naming = InputNames(channels, conditions, id_column, None)
    X = naming.open_input(x)
    Y = naming.open(y, "Y")
    models: dict[str, dict[str, Any]] = {name: {} for name in listed or ([] if own and not names else USUAL)}
    if len(models) < len(listed):
        raise click.UsageError("--models must name each model once.")
    for name, options in own:
        if name in models:
            raise click.UsageError(f"--model must have a name of its own, and {name!r} is one of the others.")
        models[name] = options
    if groups is not None and not listed:
        models["groups"] = {}
    found = compare(
        X, Y, models, folds=folds or 5, rng=seed,
        groups=None if groups is None else read_groups(groups, X.shape[-2], "--groups", "channels of X"),
        trials=None if trials is None else read_labels(trials, X.shape[-1], "--trials"),
        **permuted_of(permute_within, permute_groups, X.shape[-1]), **problem_of((), pairs), **asked,
    )  # fmt: skip
    if results is not None:
        found.save(results)
        click.echo(f"Saved the comparison to {results}", err=True)
    if rows is not None:
        found.to_csv(rows)
        click.echo(f"Saved the table of models to {rows}", err=True)
    if picture is not None:
        from .. import plot

        save_figure(plot.models(found), picture)
    if page is not None:
        first, second = (pathlib.Path(file_of(file) or file).name for file in (x, y))
        found.report(page, title=f"Which model predicts: {first} to {second}")
        click.echo(f"Saved the report to {page}", err=True)
    click.echo(found.to_json() if as_json else str(found))
