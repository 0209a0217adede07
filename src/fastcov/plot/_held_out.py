"""Draw scores on held-out conditions, beside baselines and the scores of shuffled conditions."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.validation import check_choice
from .._results.cross_validation import CrossValidation
from .._results.nouns import nouns_of
from .._results.score import SCORES
from ._held_out_legend import Entry, draw_legend, is_small, letters
from ._ridge_scale import RidgeScale
from ._style import CARET_DOWN, finish, look, new_figure, number, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

# Description of each score, and of the pairs of conditions that it covers, for readers who know neither.
WORDS = {
    "r2": ("R²", "held-out pairs and variances"),
    "r2-diagonal": ("R²", "held-out variances"),
    "r2-off-diagonal": ("R² beyond the mean", "held-out pairs"),
    "pearson": ("correlation", "held-out pairs"),
    "rsa": ("correlation of correlations", "held-out pairs"),
    "cosine": ("cosine", "held-out pairs and variances"),
    "cross-r2": ("R²", "held-out × trained pairs"),
    "cross-r2-off-diagonal": ("R² beyond the mean", "held-out × trained pairs"),
    "cross-pearson": ("correlation", "held-out × trained pairs"),
    "cross-rsa": ("correlation of correlations", "held-out × trained pairs"),
    "cross-cosine": ("cosine", "held-out × trained pairs"),
}
# A method or baseline whose best score is below this predicts nothing, and does not set the vertical range.
_WORST_SHOWN = -1.0
# Quantiles that bound the band of shuffles, whose scores are pooled over folds.
_BAND = (0.05, 0.95)
# Dashes that can be distinguished if lines coincide.
_DASHES = {"one": (0, (6, 2)), "no-x": "-", "scaled": (3, (1, 2, 4, 2))}
_GREYS = {"one": "0.3", "no-x": "0.5", "scaled": "0.1"}
# Letters in a line of the title of a wide figure.
_LINE = 110
_LEGENDS = ("auto", "above", "inside", False)
_RING: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "none", "zorder": 8}
_SIGNS = {"best": ("o", 12.0), "one-se": ("D", 11.0)}


def cross_validation(
    cv: CrossValidation, *, ax: Axes | None = None, score: str | None = None, legend: str | bool = "auto"
) -> Axes:
    """Draw a score of held-out conditions against the ridge, beside baselines and shuffled conditions.

    Points are scores of all folds together at each ridge, with standard errors; thin lines are single folds.
    Each baseline is a line, labelled with its score. A ring marks the ridge that `cv.score` chose for each
    method, and a diamond the largest ridge within one standard error of it. If the study has shuffles, a
    dotted line shows their mean and a band their middle 90 %, ridge by ridge. The vertical range covers the
    methods and baselines that predict something; points below it, such as those of linear fits at small
    ridges, are marked at the edge.

    Parameters
    ----------
    cv : CrossValidation
        The result of `fastcov.cross_validate`.
    ax : matplotlib Axes, optional
        Where to draw; by default in a new Figure with a title, outside pyplot, which is ``ax.figure``. A
        figure without a layout engine gets the constrained one, so that nothing is cut off. The width of a
        column of a paper, 3.4 by 2.6 inches, is enough.
    score : str, optional
        One of the scores of `CrossValidation`; by default `cv.score`.
    legend : {"auto", "above", "inside", False}
        Where to put the legend: "auto" puts it above large axes and inside small ones, and extends their
        range to make room.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If `cv` is not a CrossValidation, or there is no such score or place for a legend.
    """
    require_matplotlib()
    if not isinstance(cv, CrossValidation):
        raise TypeError(
            f"Argument 'cv' must be a CrossValidation, not {type(cv).__name__}: pass what "
            "fastcov.cross_validate returns."
        )
    score = cv.score if score is None else check_choice("score", score, tuple(SCORES))
    if not any(legend is place or legend == place for place in _LEGENDS) or legend is True:
        raise ValueError(
            f"Argument 'legend' must be 'auto', 'above', 'inside' or False, not {legend!r}: leave it out."
        )
    if ax is None:
        figure = new_figure(9.0, 5.0)
        figure.suptitle(title_of(cv), fontsize=10)
        ax = figure.subplots()
    else:
        _lay_out(ax)
    small = is_small(ax)
    scale, order = RidgeScale(cv.ridges), np.argsort(cv.ridges)
    drawing = _ScorePlot(ax, cv, score, order, scale(cv.ridges[order]), small, _range(cv, score))
    entries: list[Entry] = []
    for k in range(len(cv.methods)):
        entries += drawing.method(k)
    entries += drawing.baselines()
    entries += drawing.signs()
    size = letters(ax, small)
    scale.apply(ax, cv.relative, "" if small else f" (larger: {nouns_of(*cv.methods).larger})")
    ax.set_ylim(drawing.low, drawing.high)
    name, pairs = WORDS[score]
    of = "" if "correlation of" in name else " of covariances" if name == "correlation" else ""
    more = " ± standard error" if len(cv.folds) > 1 and not small else ""
    ax.set_ylabel(f"{name}{of}{more}\n{pairs}")
    finish(ax)
    ax.tick_params(labelsize=min(8.0, size))
    ax.xaxis.label.set_fontsize(size)
    ax.yaxis.label.set_fontsize(size)
    if legend is not False:
        place = ("inside" if small else "above") if legend == "auto" else str(legend)
        draw_legend(ax, entries, place, small)
    return ax


def _lay_out(ax: Axes) -> None:
    """Keep labels within a figure that has no layout engine."""
    figure: Any = ax.figure
    root = getattr(figure, "figure", figure) or figure
    if root.get_layout_engine() is None and ax.get_subplotspec() is not None:
        root.set_layout_engine("constrained")


def title_of(cv: CrossValidation) -> str:
    """Describe the study, and the verdict of each method."""
    N, D = cv.stats["shape"]
    repeats = f" ({cv.repeats} repeats)" if cv.repeats > 1 else ""
    folds = f"{len(cv.folds)} fold{'s' * (len(cv.folds) > 1)}"
    of = f"Prediction of conditions that were held out: {N} channels, {D} conditions, {folds}{repeats}"
    if len(cv.methods) > 1:
        return of
    return textwrap.fill(of, _LINE) + "\n" + textwrap.fill(next(iter(cv.verdicts().values())).words, _LINE)


def _finite(values: Any) -> list[float]:
    found = np.ravel(values)
    kept: list[float] = found[np.isfinite(found)].tolist()
    return kept


def band(values: Array) -> tuple[Array, Array, Array]:
    """Return the mean and the ends of the middle 90 % over shuffles (shuffles, K); NaN if none is finite."""
    known = np.isfinite(values)
    kept = np.where(known, values, np.nan)
    some = known.any(axis=0)
    ends = np.full((3, values.shape[1]), np.nan)
    if some.any():
        ends[0, some] = np.nanmean(kept[:, some], axis=0)
        ends[1:, some] = np.nanquantile(kept[:, some], _BAND, axis=0)
    return ends[0], ends[1], ends[2]


def _range(cv: CrossValidation, score: str) -> tuple[float, float]:
    """Return the vertical range of baselines, and of the best of each method, that predict something."""
    least, bests, greatest = [0.0], [], [0.0]
    for name, table in cv.scores.items():
        values, error = cv.summary(name, score)
        greatest += _finite(table.by_fold(score))
        if np.isfinite(values).any():
            best = int(np.argmax(np.where(np.isfinite(values), values, -np.inf)))
            bests.append((values[best], values[best] - np.nan_to_num(error[best])))
            if table.shuffled is not None:
                _, below, above = band(table.shuffled.pooled(score))
                least += [value for value in _finite(below[best]) if value > _WORST_SHOWN]
                greatest += _finite(above[best])
    if bests:  # include at least the best of all, however bad
        least += [below for best, below in bests if best > _WORST_SHOWN or best == max(bests)[0]]
    bases = [value for name in cv.baselines for value in _finite(cv.baseline(name, score)[0])]
    least += [value for value in bases if value > _WORST_SHOWN]
    greatest += bases
    low, high = min(least), max(greatest)
    high = min(1.0, high) if high > low else low + 1.0
    return low - 0.12 * (high - low), high + 0.04 * (high - low)


class _ScorePlot:
    """The axes, study and ranges of one figure, and methods that draw its parts."""

    def __init__(
        self, ax: Axes, cv: CrossValidation, score: str, order: NDArray[np.intp], places: Array, small: bool,
        limits: tuple[float, float],
    ) -> None:  # fmt: skip
        self.ax, self.cv, self.score, self.order, self.places = ax, cv, score, order, places
        self.small, (self.low, self.high) = small, limits
        self.below = self.hidden = 0  # numbers of points, and of values of folds, below the range

    def method(self, k: int) -> list[Entry]:
        """Draw points, folds, shuffles and chosen ridges of the k-th method; return their legend entries."""
        cv, ax, name = self.cv, self.ax, self.cv.methods[k]
        colour, marker = look(k)
        values, error = (each[self.order] for each in cv.summary(name, self.score))
        folds, F = cv.scores[name].by_fold(self.score)[:, self.order], len(cv.folds)
        if F > 1:
            ax.plot(
                self.places, self._within(folds.T), color=colour, linewidth=0.6,
                alpha=float(np.clip(3.0 / F, 0.12, 0.45)), zorder=2,
                marker="." if len(self.places) == 1 else None,
            )  # fmt: skip
            self.hidden += int(np.count_nonzero(folds < self.low))
        below = values < self.low
        size = (4.5 if self.small else 6.5) - 0.9 * k  # later methods are smaller and on top
        drawn = ax.errorbar(
            self.places, self._within(values), yerr=np.where(below, np.nan, error) if F > 1 else None,
            color=colour, marker=marker, markersize=max(2.5, size), linewidth=1.4 if self.small else 2,
            elinewidth=1.0 if self.small else 1.4, capsize=0 if self.small else 2.5, zorder=4 + 0.1 * k,
        )  # fmt: skip
        for part in (*drawn.lines[1], *drawn.lines[2]):  # clip error bars, so that none extends into a legend
            part.set_clip_path(self._frame())
        if below.any():
            self.below += int(below.sum())
            ax.plot(
                self.places[below], np.full(int(below.sum()), self.low), linestyle="none", marker=CARET_DOWN,
                markersize=8 - 1.5 * k, color=colour, markeredgewidth=0, clip_on=False, zorder=5 + 0.1 * k,
            )  # fmt: skip
        shuffled = self._shuffled(name, colour)
        self._choices(name, values, colour)
        return [Entry(*self._label(name, values, error, below), drawn), *shuffled]

    def _frame(self) -> Any:
        """Return the rectangle of the range before a legend extends it, to which drawing is clipped."""
        from matplotlib.patches import Rectangle

        return Rectangle((0.0, self.low), 1.0, self.high - self.low, transform=self.ax.get_yaxis_transform())

    def _within(self, values: Array) -> Array:
        """Clip values to a distance beyond the range that can still be drawn."""
        far = 1e4 * (self.high - self.low)
        return np.clip(values, self.low - far, self.high + far)

    def _label(self, name: str, values: Array, error: Array, below: NDArray[Any]) -> tuple[str, str]:
        """Write the legend entry of a method, in full and short: its score at the chosen ridge."""
        if not np.isfinite(values).any():
            text = f"{name}: {WORDS[self.score][0]} is not defined"
            return text, f"{name}: not defined"
        at = int(np.flatnonzero(self.order == self.cv.place(name))[0]) if self.cv.place(name) >= 0 else int(
            np.nanargmax(values)
        )  # fmt: skip
        short = f"{name}: {_with_error(values[at], error[at])}"
        ridge = self.cv.ridges[self.order[at]]
        full = f"{short} at {'λ/λ_max' if self.cv.relative else 'λ'} = {ridge:.3g}"
        count = f", {below.sum()} of {len(values)} below the scale" if below.any() else ""
        return full + count, short

    def _shuffled(self, name: str, colour: str) -> list[Entry]:
        moments = self.cv.scores[name].shuffled
        if moments is None:
            return []
        pooled = moments.pooled(self.score)
        mean, lower, upper = band(pooled)
        (line,) = self.ax.plot(
            self.places, self._within(mean[self.order]), color=colour, linewidth=1.4, linestyle=":", zorder=3,
            marker="." if len(self.places) == 1 else None,
        )  # fmt: skip
        handles: tuple[Any, ...] = (line,)
        n, of = len(pooled), f"{name}, " if len(self.cv.methods) > 1 else ""
        times = f"{n} shuffle" + "s" * (n > 1)
        text = short = f"{of}{times}"
        if n > 1:
            lower, upper = (self._within(each[self.order]) for each in (lower, upper))
            ends: Any
            if len(self.places) == 1:  # one point makes no band
                ends = self.ax.vlines(
                    self.places, lower, upper, color=colour, alpha=0.3, linewidth=6, zorder=1
                )
            else:
                ends = self.ax.fill_between(
                    self.places, lower, upper, color=colour, alpha=0.13, linewidth=0, zorder=1
                )
            handles = (ends, line)
            text, short = f"{text}: mean, 5–95 %", f"{short}: 5–95 %"
        place = self.cv.place(name)
        if place >= 0 and np.isfinite(mean[place]):
            text = f"{of}{times}: mean {number(mean[place])} there"
            if n > 1:
                ends_of = np.nanquantile(pooled[:, place], _BAND)
                text += f", 5–95 % {number(ends_of[0])} to {number(ends_of[1])}"
        return [Entry(text, short, handles)]

    def _choices(self, name: str, values: Array, colour: str) -> None:
        for choice, (marker, size) in _SIGNS.items():
            place = self.cv.place(name, choice)
            if place < 0:
                continue
            k = int(np.flatnonzero(self.order == place)[0])
            if values[k] >= self.low:
                self.ax.plot(
                    self.places[k : k + 1], values[k : k + 1], marker=marker,
                    markersize=size * (0.7 if self.small else 1.0), color=colour,
                    markeredgewidth=1.0 if self.small else 1.3, **_RING,
                )  # fmt: skip

    def baselines(self) -> list[Entry]:
        entries = []
        for name, label in nouns_of(*self.cv.methods).labels.items():
            value, _ = self.cv.baseline(name, self.score)
            known = np.isfinite(value)
            below = " (below the scale)" if known and value < self.low else ""
            line = self.ax.axhline(
                value if known else np.nan, color=_GREYS[name], linestyle=_DASHES[name], linewidth=1.1,
                zorder=1.5,
            )  # fmt: skip
            text = f"{label}: {number(value) if known else 'not defined'}{below}"
            entries.append(Entry(text, text, line))
        return entries

    def signs(self) -> list[Entry]:
        """Return the legend entries of signs that mean the same for all methods."""
        cv, total = self.cv, len(self.cv.folds) * len(self.places) * len(self.cv.methods)
        chosen = "" if self.score == cv.score else f" by {cv.score}"
        hidden = f" ({self.hidden} of {total} values below the scale)" if self.hidden else ""
        signs: list[tuple[str, str, dict[str, Any]]] = []
        if any(cv.place(name) >= 0 for name in cv.methods):
            ring = {"color": "0.1", **_RING, "markersize": 5 if self.small else 9}
            signs = [
                (f"best ridge{chosen}", "best ridge", {"marker": "o", **ring}),
                (f"largest ridge within one standard error{chosen}", "within one error",
                 {"marker": "D", **ring, "markersize": ring["markersize"] * 0.8}),
            ]  # fmt: skip
        if len(cv.folds) > 1:
            signs.append(
                (f"single folds{hidden}", "single folds", {"color": "0.5", "linewidth": 0.7})
            )  # fmt: skip
        else:
            signs = signs[:1]
        if self.below:
            caret = {"marker": CARET_DOWN, "color": "0.4", "linestyle": "none", "markeredgewidth": 0}
            signs.append(("below the scale", "below the scale", caret))
        return [Entry(full, short, self.ax.plot([], [], **style)[0]) for full, short, style in signs]


def _with_error(value: float, error: float) -> str:
    if not np.isfinite(value):
        return "not defined"
    return number(value) + (f" ± {number(error)}" if np.isfinite(error) else "")
