"""`fastcov study`: which channels' gains change, how surely, and whether they predict."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import click

from ._files import InputNames, read_labels, save_figure
from ._group_files import TABLES, file_of, read_groups
from ._options import (
    CONNECTED,
    METHOD_HELP,
    METHODS,
    Ridges,
    at_most_one,
    bound_options,
    bounds_of,
    center_option,
    json_option,
    limit_options,
    naming_options,
    only_gains,
    plot_option,
    seed_option,
    solver_option,
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
from ._study_report import check_page


@click.command("study", short_help="Find which gains change, how surely, and whether they predict.")
@click.argument("x", metavar="X")
@click.argument("ys", metavar="Y...", nargs=-1, required=True)
@naming_options
@click.option("--groups-x", metavar="FILE", help="The group of each channel of X, such as its animal: a text "
              "file with one label per line, a column of a table as in table.csv:animal, or a vector as in "
              "data.npz:animal. Each group is studied by itself, too.")  # fmt: skip
@click.option("--groups-y", metavar="FILE", multiple=True, help="The group of each cell of Y: the channels "
              "of a group of X are then compared with its own cells. Give one for each Y.")  # fmt: skip
@click.option("--shuffles", type=click.IntRange(0), default=100, show_default=True,
              help="Random orders of the conditions, for p-values: at least 19, or 0 for none.")  # fmt: skip
@click.option("--nested/--no-nested", default=True, show_default=True,
              help="Whether inner folds choose the ridge of each fold, too.")  # fmt: skip
@click.option("--method", type=click.Choice(METHODS), default="exact", show_default=True,
              help=METHOD_HELP)  # fmt: skip
@click.option("--n-starts", type=click.IntRange(1), default=1, show_default=True,
              help="Starts of the exact fit of all conditions; the table says if they agree.")  # fmt: skip
@score_option
@click.option("--ridges", type=Ridges(), help="Ridges, in units of X to the fourth.")
@click.option("--relative-ridges", type=Ridges(), help="Ridges over the largest eigenvalue of the Gram "
              "matrix of the atoms.  [default: 1e-3 to 0.1 in half decades, and 1]")  # fmt: skip
@folds_option
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True,
              help="How often to draw the folds.")  # fmt: skip
@click.option("--by", type=click.Choice(["cells", "conditions", "both"]), default="cells", show_default=True,
              help="What intervals of gains are over.")  # fmt: skip
@click.option("--level", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.95,
              show_default=True, help="Coverage of the intervals.")  # fmt: skip
@click.option("--n-boot", type=click.IntRange(0), default=0, show_default=True,
              help="Bootstraps for the intervals, in place of the jackknife.")  # fmt: skip
@click.option("--fdr", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.1,
              show_default=True, help="False discovery rate at which gains count as changed.")  # fmt: skip
@click.option("--group-shuffles", type=click.IntRange(0), default=0, show_default=True,
              help="Shuffles of the study of each group.")  # fmt: skip
@click.option("--deals", type=click.IntRange(0), default=0, show_default=True,
              help="How often to deal cells of two populations anew, for p of their difference.")  # fmt: skip
@permute_options
@click.option("--trials", metavar="FILE", help="If columns are single trials, the condition of each, one per "
              "line: trials of a condition are held out and shuffled together.")  # fmt: skip
@click.option("--nan-policy", type=click.Choice(["raise", "omit-trials", "pairwise"]), default="raise",
              show_default=True, help="What to do with missing values: refuse them, take the mean over the "
              "trials that are there, or for each pair of conditions the cells with both.")  # fmt: skip
@problem_options
@bound_options
@center_option
@solver_option
@limit_options
@seed_option
@click.option("--output", metavar="FILE", help="Save the whole study, which fastcov.load reads: .npz or .h5.")
@click.option("--table", metavar="FILE", help="Save the table of channels: .csv or .tsv.")
@plot_option("the study on one page: scores, shuffles, gains with intervals, and covariances")
@click.option("--report", metavar="FILE.html", help="Write a page that shows and explains the study.")
@json_option
def study_command(
    x: str,
    ys: tuple[str, ...],
    channels: str | None,
    conditions: str | None,
    id_column: str | None,
    groups_x: str | None,
    groups_y: tuple[str, ...],
    ridges: list[float] | None,
    relative_ridges: list[float] | None,
    folds: int | str | None,
    permute_within: str | None,
    permute_groups: str | None,
    trials: str | None,
    nuisance: tuple[str, ...],
    pairs: str | None,
    lower: float | None,
    upper: float | None,
    seed: int,
    output: str | None,
    table: str | None,
    figure: str | None,
    report: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Find which channels' gains change from X to Y, how surely, and whether they predict.

    X and Y are responses, channels x conditions, in files as for 'fastcov fit'. Several Y are populations
    with the names of their files, which are studied on the same folds and compared. What is printed ends in
    what the numbers do not say.

    \b
    fastcov study glomeruli.csv mitral.csv --table channels.csv --report study.html
    fastcov study glomeruli.csv mitral.csv tufted.csv --groups-x animals.txt --plot study.png
    """  # noqa: D301
    at_most_one("--ridges", ridges, "--relative-ridges", relative_ridges)
    check_permute(permute_within, permute_groups)
    solver = None if asked["solver"] == "auto" else asked["solver"]
    only_gains(
        [asked["method"]],
        lower=lower,
        upper=upper,
        solver=solver,
        table=table,
        n_boot=asked["n_boot"] or None,
    )
    bounds = bounds_of(lower, upper)
    if groups_y and groups_x is None:
        raise click.UsageError("--groups-y needs --groups-x: the groups of both are matched.")
    if groups_y and len(groups_y) != len(ys):
        raise click.UsageError(f"Give one --groups-y for each Y, {len(ys)}, not {len(groups_y)}.")
    names = _names(ys)

    from .._inputs.container import SUFFIXES
    from .._inputs.files import check_output
    from .._inputs.optional import optional
    from .._whole.study import study

    files = (x, *ys, *map(file_of, (groups_x, *groups_y)), channels, conditions, permute_within,
             permute_groups, trials)  # fmt: skip
    read = [file for file in (*files, pairs_file(pairs)) if file is not None]
    results = None if output is None else check_output(output, SUFFIXES, name="--output", read=read)
    if results is not None and results.suffix.lower() != ".npz":
        optional("h5py", f"Writing {results.suffix.lower()} files", "h5")
    rows = None if table is None else check_output(table, TABLES, name="--table", read=read)
    picture = _picture(figure, read)
    page = check_page(report, read)
    naming = InputNames(channels, conditions, id_column, None)
    X = naming.open_input(x)
    populations = {
        name: _open(x, X, y, name if len(ys) > 1 else None, naming) for name, y in zip(names, ys, strict=True)
    }
    several = len(ys) > 1
    found = study(
        X, populations if several else populations[names[0]], ridges=ridges, relative_ridges=relative_ridges,
        folds=folds or 5, bounds=bounds, rng=seed,
        groups=_groups(groups_x, groups_y, X, populations, several),
        trials=None if trials is None else read_labels(trials, X.shape[-1], "--trials"),
        **permuted_of(permute_within, permute_groups, X.shape[-1]), **problem_of(nuisance, pairs), **asked,
    )  # fmt: skip
    if results is not None:
        found.save(results)
        click.echo(f"Saved the study to {results}", err=True)
    if rows is not None:
        found.to_csv(rows)
        click.echo(f"Saved the table of channels to {rows}", err=True)
    if picture is not None:
        from .. import plot

        save_figure(plot.study(found), picture)
    if page is not None:
        to = ", ".join(pathlib.Path(file_of(y) or y).name for y in ys)
        what = "Does a connectivity predict" if asked["method"] in CONNECTED else "Which gains change"
        found.report(page, title=f"{what}: {pathlib.Path(x).name} to {to}")
        click.echo(f"Saved the report to {page}", err=True)
    click.echo(found.to_json() if as_json else str(found))


def _names(ys: Sequence[str]) -> list[str]:
    """Return names of populations: those of the files, or of the arrays in a file."""
    from .._inputs.files import SPEC

    names = []
    for y in ys:
        match = SPEC.fullmatch(y)
        path, key = (match[1], match[2]) if match else (y, None)
        names.append(str(key) if key else pathlib.Path(path).stem)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise click.UsageError(
            f"Each Y needs a name of its own, and two are called {twice!r}: rename a file."
        )
    return names


def _open(x: str, X: Any, y: str, name: str | None, naming: InputNames) -> Any:
    """Open the responses of a population; its names are compared with those of X later."""
    argument = "Y" if name is None else f"Y[{name!r}]"
    Y = naming.open(y, argument)
    if Y.ndim == 2 and Y.shape[1] != X.shape[1]:
        from .._inputs.labels import Labels

        if Labels.of(argument, Y).conditions is None or Labels.of("X", X).conditions is None:
            hint = naming.hint({"X": x, "Y": y}, {"X": X, "Y": Y})
            raise ValueError(
                f"Argument '{argument}' must have the {X.shape[1]} conditions of X in its columns, not "
                f"{Y.shape[1]}: is one of them conditions x channels?{hint}"
            )
    return Y


def _picture(figure: str | None, read: list[str]) -> pathlib.Path | None:
    from ._files import outputs

    return outputs(None, figure, read)[1]


def permuted_of(within: str | None, groups: str | None, n: int) -> dict[str, Any]:
    found = permuted(within, groups, n)
    return {"condition_groups" if name == "groups" else name: value for name, value in found.items()}


def _groups(x: str | None, ys: Sequence[str], X: Any, populations: dict[str, Any], several: bool) -> Any:
    """Return groups as `study` takes them."""
    if x is None:
        return None
    mine = read_groups(x, X.shape[-2], "--groups-x", "channels of X")
    if not ys:
        return mine
    theirs = {
        name: read_groups(y, Y.shape[-2], "--groups-y", f"cells of {name}")
        for y, (name, Y) in zip(ys, populations.items(), strict=True)
    }
    return mine, theirs if several else next(iter(theirs.values()))
