"""`fastcov bench` and `fastcov bench compare`."""

from __future__ import annotations

import math
import pathlib
import re
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ._again import restart_with_numpy_first
from ._files import save_figure
from ._group import say
from ._options import FIGURES

if TYPE_CHECKING:
    from .._bench._operation import Key
    from .._timings.record import Record

RATIOS = "ratios"
SUITES = ("quick", "standard", "full")
# A copy of `_bench._compare.ACROSS`, because --help must not import NumPy.
ACROSS = (
    "machine", "fastcov", "python", "numpy", "scipy", "numba", "peers", "blas", "threads", "environment",
    "cases",
)  # fmt: skip


class Finite(click.FloatRange):
    """A range of finite numbers; it also refuses nan, which passes comparisons, and inf at an open end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return found


@click.group("bench", invoke_without_command=True, short_help="Measure speed on this machine, and compare.")
@click.option("--suite", type=click.Choice(SUITES), help="Set of cases to measure.  [default: standard]")
@click.option("--quick", is_flag=True, help="The same as --suite quick; takes less than a minute.")
@click.option("--only", metavar="REGEX", help="Measure only cases whose names match, such as 'gram|loss' or "
              "'^fit .*float32'; see --list.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1, 1000), default=50, show_default=True,
              help="Most rounds. In each round, all implementations of all cases take a turn.")  # fmt: skip
@click.option("--budget", type=Finite(0, min_open=True), help="Seconds for a case, on average.  "
              "[default: 1, 10 and 60 for the three suites]")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="Threads for Numba and BLAS.  [default: those of the "
              "process]")  # fmt: skip
@click.option("--no-peers", is_flag=True, help="Leave out alternatives to fastcov, such as scikit-learn.")
@click.option("--json", "json_file", metavar="FILE", help="Save all rounds for later comparison: .json.")
@click.option("--figure", metavar="FILE", help="Draw seconds by size: .png, .pdf or .svg. Further files are "
              "written beside it: with _float32 in the name, float32 if both dtypes are measured; with "
              "_ratios, all times relative to fastcov.")  # fmt: skip
@click.option("--markdown", is_flag=True, help="Print the table in Markdown.")
@click.option("--list", "listing", is_flag=True, help="Print the names of the cases, and measure nothing.")
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
    """Measure the operations on this machine beside alternative implementations.

    Each operation is timed in the same rounds as the naive NumPy version, the bare BLAS or LAPACK work,
    and the alternatives from other packages. First all results are checked. The measurement runs in a
    process that imports NumPy before fastcov, as nearly all programs do.

    \b
    fastcov bench --quick
    fastcov bench --quick --json before.json
    fastcov bench compare before.json after.json --fail-above 1.10
    """  # noqa: D301
    if ctx.invoked_subcommand is not None:
        _refuse_options(ctx)
        return
    if quick and suite not in (None, "quick"):
        raise click.UsageError(f"Give one of --quick and --suite {suite}, not both.")
    name = "quick" if quick else suite or "standard"
    if ctx.obj["process"] and not listing:
        restart_with_numpy_first()

    from .._bench import _cases

    keys = _chosen(_cases.SUITES[name], only, name)
    if listing:
        click.echo("\n".join(map(_name, keys)))
        return

    from .._bench._run import BUDGETS, run
    from .._bench._table import markdown as page
    from .._bench._table import table
    from .._inputs.files import check_output
    from .._timings.record import SUFFIXES, save

    target = check_output(json_file, SUFFIXES, name="--json") if json_file is not None else None
    pictures = _pictures(figure, keys) if figure is not None else {}
    try:
        record = run(
            keys, suite=name, rounds=rounds, budget=BUDGETS[name] if budget is None else budget,
            threads=threads, peers=not no_peers,
        )  # fmt: skip
    except KeyboardInterrupt:
        if target is not None or pictures:
            say("Warning", "no file was written; what was there is as it was.")
        raise
    if target is not None:
        save(record, target)
        click.echo(f"Saved the rounds to {target}", err=True)
    click.echo(page(record) if markdown else table(record))
    _draw(record, pictures)


def _chosen(keys: list[Key], only: str | None, suite: str) -> list[Key]:
    """Return the cases of a suite whose names match."""
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
    from .._timings.runs import case_name

    return case_name(*key)


def _refuse_options(ctx: click.Context) -> None:
    """Raise an error for options of measurements that precede a command that measures nothing."""
    given = [
        option.opts[-1]
        for option in ctx.command.params
        if ctx.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"{ctx.invoked_subcommand!r} measures nothing, and takes no {', '.join(given)}: give its own "
            "options after it."
        )


def _pictures(figure: str, keys: list[Key]) -> dict[str, pathlib.Path]:
    """Return the paths of the figures, by precision and "ratios"; check them before anything is measured."""
    from .. import plot
    from .._inputs.files import check_output

    file = check_output(figure, FIGURES, name="--figure")
    first, *others = sorted({dtype for _, _, dtype in keys}, reverse=True)
    beside = {each: file.with_name(f"{file.stem}_{each}{file.suffix}") for each in (*others, RATIOS)}
    for each in beside.values():
        check_output(str(each), FIGURES, name="--figure")
    plot.require_matplotlib()
    return {first: file, **beside}


def _draw(record: Record, pictures: dict[str, pathlib.Path]) -> None:
    from .. import plot

    for each, path in pictures.items():
        if each != RATIOS:
            save_figure(plot.scaling(record, dtype=each), path)
        elif any(len(case.seconds) > 1 for case in record.cases):
            save_figure(plot.speedups(record), path)
        else:
            say("Warning", f"{path} was not drawn: nothing ran beside fastcov.")


@bench.command(short_help="Fail if an operation became slower from one file to another.")
@click.argument("before", metavar="BEFORE.json")
@click.argument("after", metavar="AFTER.json")
@click.option("--fail-above", type=Finite(1, 100, min_open=True), default=1.1, show_default=True,
              help="Largest allowed ratio of an operation's time to its time before.")  # fmt: skip
@click.option("--across", type=click.Choice(ACROSS), multiple=True,
              help="Compare in spite of this difference, which is otherwise refused. May be given "
              "several times.")  # fmt: skip
@click.pass_context
def compare(ctx: click.Context, before: str, after: str, fail_above: float, across: tuple[str, ...]) -> None:
    """Say which operations became slower between two files of 'fastcov bench --json'.

    Seconds mean little if others use the machine, so times are taken relative to the bare BLAS or
    LAPACK work (or else the naive version) that ran in the same rounds. The confidence interval is at
    99 %.

    \b
    Exit codes:
      0  nothing became slower by more than --fail-above
      1  some operation did: above the limit, and significantly slower
      2  some comparison is impossible: a damaged file, another machine, other versions or threads, a
         case that is missing from one file, or too much noise for the limit
    If both 1 and 2 apply, the exit code is 1. No case passes without a comparison.
    """  # noqa: D301
    from .._bench._compare import NOISY, SLOWER, UNSURE
    from .._bench._compare import compare as compared
    from .._timings.record import load

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
    if noisy := found.named(NOISY):
        say(
            "Cannot tell",
            f"a change of {fail_above:g} would not show in the noise of {', '.join(c.name for c in noisy)}: "
            "measure again, with more --rounds, --threads 1, or less else at work.",
        )
    for change in found.named(SLOWER):
        say("Slower", str(change))
    ctx.exit(found.code)
