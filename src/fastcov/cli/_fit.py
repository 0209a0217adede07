"""`fastcov fit` and `fastcov report`."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ._cluster import cluster_of
from ._files import (
    InputNames,
    fit_record,
    open_target,
    outputs,
    print_json,
    save_figure,
    save_fit,
)
from ._group import say
from ._group_files import file_of, labels_of
from ._options import (
    CONNECTED,
    RELATIVE_RIDGE,
    at_most_one,
    bounds_of,
    exactly_one,
    fit_options,
    json_option,
    only_gains,
    output_option,
    plot_option,
)
from ._study_options import pairs_file, problem_of, problem_options

if TYPE_CHECKING:
    from .._results.connectivity import Connectivity
    from .._results.cross_validation import CrossValidation
    from .._results.fit import Fit


@dataclasses.dataclass(frozen=True)
class Request:
    """The options of a fit on the command line, by the names of `fit_options`."""

    responses: str | None
    target: str | None
    channels: str | None
    conditions: str | None
    id_column: str | None
    ridge: float | str | None
    relative_ridge: float | None
    method: str
    groups: str | None
    lower: float | None
    upper: float | None
    center: bool
    solver: str
    tol: float | None
    max_iterations: int
    memory_budget: float | None
    nuisance: tuple[str, ...]
    pairs: str | None
    rank: int | None
    n_starts: int
    seed: int
    dask: str | None
    dask_workers: int | None

    @classmethod
    def of(cls, **given: Any) -> Request:
        """Check the given options, and add the default ridge."""
        asked = cls(**given)
        exactly_one("--responses", asked.responses, "--target", asked.target)
        if asked.ridge is None and asked.relative_ridge is None:
            asked = dataclasses.replace(asked, relative_ridge=RELATIVE_RIDGE)
        exactly_one("--ridge", asked.ridge, "--relative-ridge", asked.relative_ridge)
        if asked.ridge == "cv" and asked.responses is None:
            raise click.UsageError("--ridge cv holds out conditions of --responses, not of --target.")
        if asked.n_starts > 1 and asked.method != "exact":
            raise click.UsageError(f"--n-starts is for --method exact, not for {asked.method}.")
        only_gains(
            [asked.method], lower=asked.lower, upper=asked.upper, rank=asked.rank,
            solver=None if asked.solver == "auto" else asked.solver,
        )  # fmt: skip
        bounds_of(asked.lower, asked.upper)
        at_most_one("--dask", asked.dask, "--dask-workers", asked.dask_workers)
        return asked

    @property
    def options(self) -> dict[str, Any]:
        """Return the arguments that fits of any method and ridge share."""
        return {
            "center": self.center, "solver": self.solver, "tol": self.tol, "rank": self.rank,
            "max_iterations": self.max_iterations, "bounds": bounds_of(self.lower, self.upper),
            "memory_budget": self.memory_budget, "rng": self.seed,
            **problem_of(self.nuisance, self.pairs),
        }  # fmt: skip

    def files(self, x: str) -> list[str]:
        """List the files that are read, X and its target first."""
        files = (
            x,
            self.responses,
            self.target,
            self.channels,
            self.conditions,
            pairs_file(self.pairs),
            file_of(self.groups),
        )
        return [file for file in files if file is not None]

    def open(self, x: str, *, drawn: bool) -> tuple[Any, dict[str, Any]]:
        """Open X, and the target that its gains are fitted to."""
        cluster = cluster_of(self.dask, self.dask_workers)
        naming = InputNames(self.channels, self.conditions, self.id_column, cluster)
        return open_target(x, self.responses, self.target, self.center, naming, drawn=drawn)

    def labels(self, X: Any) -> list[Any] | None:
        """Read the group of each channel."""
        return labels_of(self.groups, X)

    def study(self, X: Any, of: dict[str, Any], **asked: Any) -> CrossValidation:
        """Cross-validate to choose the ridge, or at the given ridge."""
        from .._studies.cross_validation import cross_validate

        options = {name: value for name, value in self.options.items() if name != "rank"}
        options["channel_groups"] = self.labels(X)
        grid: dict[str, Any] = {
            "relative_ridges": None if self.relative_ridge is None else [self.relative_ridge]
        }
        if self.ridge is not None and self.ridge != "cv":
            grid = {"ridges": [self.ridge]}
        return cross_validate(
            X, of.get("responses"), S=of.get("S"), **grid, folds=min(5, max(2, X.shape[1] // 2)),
            method=self.method, refit=None, **asked, **options,
        )  # fmt: skip

    def fit(
        self, x: str, X: Any, of: dict[str, Any], cv: CrossValidation | None = None
    ) -> Fit | Connectivity:
        """Fit at the ridge that a study chose, if there is one; the fit keeps its inputs."""
        from .._fit import fit

        ridge, relative_ridge = self.ridge, self.relative_ridge
        if cv is not None and ridge == "cv":
            ridge, relative_ridge = None, cv.best_ridge
            if math.isnan(relative_ridge):
                raise ValueError("--responses must not be zero in all folds for --ridge cv: give a number.")
        fitted = fit(
            X, **of, ridge=ridge, relative_ridge=relative_ridge, method=self.method, n_starts=self.n_starts,
            groups=self.labels(X), **self.options,
        )  # fmt: skip
        if cv is not None:
            fitted.stats["cv"] = cv
        source = {
            "X": x, "responses": self.responses, "target": self.target, "channels": self.channels,
            "conditions": self.conditions, "bounds": self.options["bounds"], "seed": self.seed,
            "n_starts": self.n_starts, "groups": self.groups, "nuisance": list(self.nuisance) or None,
            "pairs": self.pairs,
        }  # fmt: skip
        fitted.stats["source"] = {name: value for name, value in source.items() if value is not None}
        return fitted


@click.command("fit")
@click.argument("x", metavar="X")
@fit_options
@problem_options
@output_option(
    "the whole fit, which fastcov.load reads, or a table of the gains, or for a connectivity of "
    "each channel's entry of its diagonal and the norms of its row and column"
)
@plot_option(
    "the covariances, and the gains beside those of the linear and the diagonal fit, or the modes of "
    "a connectivity"
)
@json_option
def fit_command(x: str, output: str | None, figure: str | None, as_json: bool, **given: Any) -> None:
    """Fit gains, or a connectivity, to a file of responses.

    X has one row per channel and one column per condition. Y has its own channels and the same
    conditions, in the same order or, if both X and Y name them, in any order.

    Files: name.npy, name.npz:key, name.mat:key, name.csv, name.tsv, name.h5:dataset, or a folder
    name.zarr (name.zarr:array in a group). The key may be omitted if there is only one choice. X and Y in
    .npy, .h5 and .zarr may be larger than memory. A table may have a header row with names of conditions,
    and a first column with names of channels. Numbers there are read as data, unless the corner is empty
    or, for the first column, --id-column x, y or both is given. Numbers that only count from 0 are not
    names, but the same numbers in another order are aligned with them.

    \b
    fastcov fit data.npz:glomeruli --responses data.npz:mitral --relative-ridge 0.1 --plot fit.png
    fastcov fit data.npz:glomeruli --responses data.npz:mitral --method exact --ridge cv --lower 0
    fastcov fit data.npz:glomeruli --responses data.npz:mitral --method free --ridge cv --plot free.png
    """  # noqa: D301
    asked = Request.of(**given)
    from .._results.connectivity import Connectivity

    results, picture = outputs(output, figure, asked.files(x))
    X, of = asked.open(x, drawn=picture is not None)
    fitted = asked.fit(x, X, of)
    cv = fitted.stats.get("cv")

    # Write files first, so that they are complete even if the reader of stdout closes it early.
    if results is not None:
        save_fit(results, fitted, X)
    if picture is not None and isinstance(fitted, Connectivity):
        from .. import plot

        save_figure(plot.connectivity(fitted, order="cluster"), picture)
    elif picture is not None:
        from .. import plot
        from .._fit import fit
        from .._results.overshoot import OvershootWarning

        others = [other for other in ("linear", "diagonal") if other != asked.method]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OvershootWarning)  # the user did not ask for these fits
            fits = {asked.method: fitted} | {
                other: fit(X, **of, ridge=fitted.ridge, method=other, groups=asked.labels(X), **asked.options)
                for other in others
            }
        save_figure(plot.summary(X, fitted.target(), fits, order="cluster"), picture)
    if as_json:
        chosen = {} if cv is None else {"cv": _cv_record(cv, asked.method)}
        print_json(fit_record(fitted, X) | chosen)
    else:
        click.echo(str(fitted) if cv is None else f"{fitted}\n\n{cv}")


def _cv_record(cv: CrossValidation, method: str) -> dict[str, Any]:
    """Return the scores that chose the ridge."""
    found = cv.verdicts()[method]
    return {
        "relative_ridges": cv.ridges, "score": cv.score, "pooled": cv.summary(method)[0], "r2": cv.r2,
        "baselines": {name: cv.baseline(name)[0] for name in cv.baselines},
        "verdict": {"better": found.better, "p": found.p, "words": str(found)},
    }  # fmt: skip


@click.command("report", short_help="Fit, and write a page that shows and explains it.")
@click.argument("x", metavar="X")
@fit_options
@problem_options
@click.option("--output", metavar="FILE.html", default="report.html", show_default=True, help="The page.")
@click.option("--title", help="Title of the page.  [default: the names of the files]")
@click.option(
    "--explain/--no-explain",
    default=True,
    show_default=True,
    help="Whether to explain the gains, from the linear fit with the same ridge.",
)
@click.option("--channel", metavar="NAME|NUMBER", help="The channel whose gain is decomposed, by name or by "
              "number, counted from 0.  [default: the one with the gain furthest from one]")  # fmt: skip
@click.option("--repeats", type=click.IntRange(1), help="How often to draw the folds of held-out "
              "conditions.  [default: 1]")  # fmt: skip
@click.option("--shuffles", type=click.IntRange(0), help="Number of repetitions with the conditions of Y in "
              "random order, for p-values.  [default: 0]")  # fmt: skip
@click.option("--nested", is_flag=True, help="Choose the ridge of each fold by inner folds, and say how much "
              "choosing the best ridge inflates its score.")  # fmt: skip
def report_command(
    x: str,
    output: str,
    title: str | None,
    explain: bool,
    channel: str | None,
    repeats: int | None,
    shuffles: int | None,
    nested: bool,
    **given: Any,
) -> None:
    """Fit gains, or a connectivity, to a file of responses, and write a report: one self-contained HTML page.

    With --ridge cv, the report begins with a verdict: whether gains predict held-out conditions better
    than baselines, and with --shuffles how certain this is. With another ridge, --repeats, --shuffles or
    --nested hold out conditions at that ridge. The page shows and explains covariances and gains, and says
    what each number means; it can be read on a phone, and printed. X, Y and their files are as for
    'fastcov fit'.

    \b
    fastcov report data.npz:glomeruli --responses data.npz:mitral --method exact --ridge cv --shuffles 99
    """  # noqa: D301
    asked = Request.of(**given)
    if asked.method in CONNECTED:
        only_gains([asked.method], channel=channel)
        explain = False  # the page of a connectivity explains itself
    if channel is not None and not explain:
        raise click.UsageError("--channel says whose gain is explained, and --no-explain leaves that out.")
    if channel is not None and asked.groups is not None:
        raise click.UsageError("--channel says whose gain is explained, and gains of --groups are not.")

    import numpy as np

    from .._inputs.files import check_output
    from .._inputs.labels import Labels
    from .._results.fit import Fit
    from ..report import require

    read = asked.files(x)
    page = check_output(output, (".html",), name="--output", read=read)
    require()
    X, of = asked.open(x, drawn=False)
    if channel is not None and getattr(of.get("S"), "ndim", 2) == 3:
        raise click.UsageError("--channel is for one target, and --target holds a stack of them.")
    names = [pathlib.Path(file).name for file in read]
    chosen = None if channel is None else _channel(channel, Labels.of("X", X).channels, X.shape[0])
    held_out = {"repeats": repeats, "shuffles": shuffles, "nested": nested or None}
    study = {option: value for option, value in held_out.items() if value is not None}
    if study and getattr(of.get("S"), "ndim", 2) == 3:
        raise click.UsageError(
            f"--{next(iter(study))} is for one target, and --target holds a stack of them."
        )
    cv = asked.study(X, of, **study) if study else None
    fitted, why = asked.fit(x, X, of, cv), None
    cv = fitted.stats.get("cv")
    if explain and np.ndim(fitted.r2) == 0 and asked.groups is None:
        from .._explaining.explain import explain as explained
        from .._results.overshoot import OvershootWarning

        S = fitted.target()  # in the order of the conditions of X
        try:
            with warnings.catch_warnings():
                if fitted.overshoots:  # already reported
                    warnings.simplefilter("ignore", OvershootWarning)
                why = explained(X, S, fitted.ridge, center=asked.center, memory_budget=asked.memory_budget)
        except (ValueError, MemoryError) as error:
            say("Warning", f"No explanation: {error}")
            chosen = None
    what = "Connectivity" if asked.method in CONNECTED else "Gains"
    title = title or f"{what} from {names[0]} to {names[1]}"
    if isinstance(fitted, Fit):
        fitted.report(page, explanation=why, channel=chosen, title=title)
    else:
        fitted.report(page, title=title)
    click.echo(f"Saved the report to {page}", err=True)
    click.echo(str(fitted) if cv is None else f"{fitted}\n\n{cv}")


def _channel(given: str, names: Sequence[Any] | None, n: int) -> Any:
    """Return the channel with this name, or else with this number, counted from 0."""
    for name in names or ():
        if str(name) == given:
            return name
    if given.isdecimal() and int(given) < n:
        return int(given)
    known = f"a name, as {', '.join(map(repr, names[:3]))}, or " if names else ""
    raise click.UsageError(f"--channel must be {known}a number from 0 to {n - 1}, not {given!r}.")
