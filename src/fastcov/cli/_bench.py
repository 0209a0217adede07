"""`fastcov bench` and `fastcov bench compare`."""

from __future__ import annotations

import pathlib
import re
from typing import TYPE_CHECKING

import click

from ._files import save_figure
from ._group import say
from ._options import FIGURES

if TYPE_CHECKING:
    from .._bench._record import Record
    from .._bench._run import Key

SUITES = ("quick", "standard", "full")
# As `_bench._compare.ACROSS` has them, which --help must not import NumPy for.
ACROSS = (
    "machine", "fastcov", "python", "numpy", "scipy", "numba", "peers", "blas", "threads", "environment",
    "cases",
)  # fmt: skip


@click.group("bench", invoke_without_command=True, short_help="Measure how fast it is here, and compare.")
@click.option("--suite", type=click.Choice(SUITES), help="What to measure.  [default: standard]")
@click.option("--quick", is_flag=True, help="The same as --suite quick, under a minute.")
@click.option("--only", metavar="REGEX", help="Only the cases in whose name this is found, as in 'gram|loss' "
              "or '^fit .*float32'; see --list.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1), default=25, show_default=True,
              help="At most; in each, all implementations of all cases take their turn.")  # fmt: skip
@click.option("--budget", type=click.FloatRange(0, min_open=True), help="Seconds for a case, on average.  "
              "[default: 1, 10 and 60 for the three suites]")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="For Numba and BLAS.  [default: as the process has]")
@click.option("--no-peers", is_flag=True, help="Leave out what one would take instead, as scikit-learn.")
@click.option("--json", "json_file", metavar="FILE", help="Save all rounds, to compare with: .json.")
@click.option("--figure", metavar="FILE", help="Draw seconds by size, and beside it, with _ratios in its "
              "name, all relative to fastcov: .png, .pdf or .svg.")  # fmt: skip
@click.option("--markdown", is_flag=True, help="Print the table for a page.")
@click.option("--list", "listing", is_flag=True, help="Print the names of the cases, and measure none.")
@click.pass_context
def bench(
    ctx: click.Context,
    suite: str | None,
    quick: bool,
    only: str | None,
    rounds: int,
    budget: float | None,
    threads: int | None,
    no_peers: bool,
    json_file: str | None,
    figure: str | None,
    markdown: bool,
    listing: bool,
) -> None:
    """Measure the operations on this machine beside what else would do the same.

    Each is timed beside the naive NumPy version, the bare BLAS or LAPACK work, and what one would
    take instead, in the same rounds; first it is checked that all give the right result.

    \b
    fastcov bench --quick
    fastcov bench --quick --json before.json
    fastcov bench compare before.json after.json --fail-above 1.10
    """  # noqa: D301
    if ctx.invoked_subcommand is not None:
        return
    if quick and suite not in (None, "quick"):
        raise click.UsageError(f"Give one of --quick and --suite {suite}, not both.")
    name = "quick" if quick else suite or "standard"

    from .._bench import _cases

    keys = _chosen(_cases.SUITES[name], only, name)
    if listing:
        click.echo("\n".join(map(_name, keys)))
        return

    from .._bench._record import SUFFIXES, save
    from .._bench._run import BUDGETS, run
    from .._bench._table import markdown as page
    from .._bench._table import table
    from .._io import check_output

    target = check_output(json_file, SUFFIXES, name="--json") if json_file is not None else None
    pictures = _pictures(figure) if figure is not None else None
    try:
        record = run(
            keys, suite=name, rounds=rounds, budget=BUDGETS[name] if budget is None else budget,
            threads=threads, peers=not no_peers,
        )  # fmt: skip
    except KeyboardInterrupt:
        if target is not None or pictures is not None:
            say("Warning", "no file was written; what was there is as it was.")
        raise
    if target is not None:
        save(record, target)
        click.echo(f"Saved the rounds to {target}", err=True)
    if pictures is not None:
        _draw(record, pictures)
    click.echo(page(record) if markdown else table(record))


def _chosen(keys: list[Key], only: str | None, suite: str) -> list[Key]:
    """The cases of a suite whose names match."""
    if only is None:
        return keys
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise click.UsageError(f"--only must be a regular expression, not {only!r} ({error}).") from None
    found = [key for key in keys if pattern.search(_name(key))]
    if not found:
        raise click.UsageError(
            f"--only {only!r} is in the name of no case of the suite {suite!r}: see them with --list."
        )
    return found


def _name(key: Key) -> str:
    from .._bench._case import case_name

    return case_name(*key)


def _pictures(figure: str) -> tuple[pathlib.Path, pathlib.Path]:
    """Where the two figures go, checked before anything is measured."""
    from .. import plot
    from .._io import check_output

    first = check_output(figure, FIGURES, name="--figure")
    second = check_output(
        str(pathlib.Path(figure).with_name(f"{first.stem}_ratios{first.suffix}")), FIGURES, name="--figure"
    )
    plot.require_matplotlib()
    return first, second


def _draw(record: Record, paths: tuple[pathlib.Path, pathlib.Path]) -> None:
    from .. import plot

    for figure, path in zip((plot.scaling(record), plot.speedups(record)), paths, strict=True):
        save_figure(figure, path)


@bench.command(short_help="Fail where an operation became slower from one file to another.")
@click.argument("before", metavar="BEFORE.json")
@click.argument("after", metavar="AFTER.json")
@click.option("--fail-above", type=click.FloatRange(1, 100), default=1.1, show_default=True,
              help="Times as long as before that an operation may take.")  # fmt: skip
@click.option("--across", type=click.Choice(ACROSS), multiple=True,
              help="Compare over this difference, which is otherwise refused. May be given several "
              "times.")  # fmt: skip
@click.pass_context
def compare(ctx: click.Context, before: str, after: str, fail_above: float, across: tuple[str, ...]) -> None:
    """Say which operations became slower between two files of 'fastcov bench --json'.

    Seconds mean little where others use the machine, so times are taken relative to the bare BLAS or
    LAPACK work (or else the naive version) that ran beside them in the same rounds. The interval is at
    95 %.

    \b
    Exit codes:
      0  nothing became slower by more than --fail-above
      1  something did: above the line, and surely slower
      2  something cannot be told: a damaged file, another machine, other versions or threads, a case
         that one file has not, or more noise than the line allows
    A slower operation beside others that cannot be told is 1. Nothing passes that was not compared.
    """  # noqa: D301
    from .._bench._compare import NOISY, SLOWER, UNSURE
    from .._bench._compare import compare as compared
    from .._bench._record import load

    found = compared(
        load(before, "BEFORE.json"), load(after, "AFTER.json"), fail_above=fail_above, across=across
    )
    for note in found.notes:
        click.echo(note)
    if found.changes:
        click.echo(str(found))
    for reason in (*found.apart, *found.missing):
        say("Cannot compare", reason)
    for change in found.named(UNSURE):
        say("Cannot tell", f"{change}, and it may be noise: measure again, with more --rounds.")
    for change in found.named(NOISY):
        say("Cannot tell", f"{change}, and a change of {fail_above:g} would not show: give more --rounds.")
    for change in found.named(SLOWER):
        say("Slower", str(change))
    ctx.exit(found.code)
