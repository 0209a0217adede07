"""Draw a comparison of models: the score of each, and how far each is from one of them."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._results.comparison import Comparison
from .._results.study_words import p_text
from ._held_out import WORDS
from ._style import COLOURS, finish, is_narrow, new_figure, number, require_matplotlib, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

MODEL, BASELINE, TOP = COLOURS[0], "0.45", COLOURS[2]
_WIDTH = 10.5
# Inches of a row; of the title; of what stands above and below the rows of a panel; and of all but the rows.
_ROW, _TITLE, _HEAD, _FOOT = 0.46, 0.6, 0.43, 0.72
_REST = _TITLE + _HEAD + _FOOT
# Inches at the left, for names, in a wide and in a narrow figure; between panels; and at the right, for p.
_LEFT, _LEFT_NARROW, _GAP, _RIGHT = 2.2, 1.5, 0.6, 0.72
# Folds further below the lowest score than the range of scores are drawn at the edge.
_BELOW = 0.6
# Half the height of a row within which dots of folds are spread.
_SPREAD = 0.16
# Letters in a line of the title, and of the name of a model and of what it is, in a wide and a narrow figure.
_LINE, _NAME, _WORDS = 105, (26, 16), (40, 24)


def models(
    comparison: Comparison,
    *,
    score: str | None = None,
    choice: str | None = None,
    reference: str | None = None,
) -> Figure:
    """Draw the score of each model, and how far it is from one of them.

    On the left, each model has a row: its score of all folds together with an interval, and a dot for each
    fold. Baselines, in which nothing is chosen, are grey. The line is the noise ceiling, above which no score
    is expected. On the right is how much higher each model scores than the reference, on the same folds, with
    the interval of the difference and its p; the point is full where the interval leaves out 0.

    Parameters
    ----------
    comparison : Comparison
        What `fastcov.compare` returns.
    score, choice : str, optional
        As for `Comparison.value`.
    reference : str, optional
        The model that others are compared with, by default that of the comparison.

    Returns
    -------
    Figure
        In no window: call its ``savefig``, or make it the last line of a notebook cell.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, KeyError, ValueError
        If it is no Comparison, or there is no such score, choice or model.
    """
    require_matplotlib()
    if not isinstance(comparison, Comparison):
        raise TypeError(
            f"Argument 'comparison' must be a Comparison, not {type(comparison).__name__}: pass what "
            "fastcov.compare returns."
        )
    score = comparison.score if score is None else score
    reference = comparison.reference if reference is None else comparison[reference].name
    comparison.value(reference, score, choice)  # raises if there is no such score or choice
    figure = new_figure(_WIDTH, height_of(comparison))
    draw_models(figure, comparison, score, choice, reference)
    figure.suptitle(headline(comparison, score, choice), fontsize=11.5, y=1.0 - 0.12 / height_of(comparison))
    return figure


def height_of(comparison: Comparison, *, narrow: bool = False) -> float:
    """Inches of a figure: panels are beside each other, or in a narrow figure one above the other."""
    n = len(comparison.names)
    return 2 * (_REST + _ROW * n) - _TITLE if narrow else _REST + _ROW * n


def draw_models(
    figure: Figure, comparison: Comparison, score: str, choice: str | None, reference: str
) -> None:
    """Draw both panels into an empty figure of `height_of`, with room for a title."""
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    rows = _ROW * len(comparison.names)
    if is_narrow(figure):
        box = (_LEFT_NARROW, width - _LEFT_NARROW - _RIGHT)
        first = (box[0], rows + _HEAD + 2 * _FOOT, box[1], rows)
        second = (box[0], _FOOT, box[1], rows)
    else:
        wide = (width - _LEFT - _GAP - _RIGHT) / 2
        first = (_LEFT, _FOOT, wide, rows)
        second = (_LEFT + wide + _GAP, _FOOT, wide, rows)
    scores, compared = (
        figure.add_axes((left / width, bottom / height, wide / width, tall / height))
        for left, bottom, wide, tall in (first, second)
    )
    draw_scores(scores, comparison, score, choice)
    draw_differences(compared, comparison, score, choice, reference)
    if is_narrow(figure):  # the right panel is below, and needs names of its own
        _names(compared, comparison)


def headline(comparison: Comparison, score: str, choice: str | None) -> str:
    """Which model scores highest, which ones may be as good, and of how many."""
    N, D = comparison.stats["shape"]
    values = {name: comparison.value(name, score, choice)[0] for name in comparison.names}
    known = {name: value for name, value in values.items() if math.isfinite(value)}
    size = f"{N} channels, {D} conditions, {comparison.stats['folds']} folds"
    if not known:
        return f"No model has a score\n{size}"
    best = max(known, key=lambda name: known[name])
    alike = [
        name
        for name in known
        if name != best and not comparison.difference(best, name, score, choice).lower > 0.0
    ]
    others = f"; {', '.join(alike)} may be as good" if alike else ", and clearly"
    if len(known) == 1:
        others = ""
    return textwrap.fill(f"{best} scores highest{others}", _LINE) + f"\n{size}"


def draw_scores(ax: Axes, comparison: Comparison, score: str, choice: str | None) -> None:
    """A row for each model: its score with an interval, and its folds."""
    names = comparison.names
    values = [comparison.value(name, score, choice) for name in names]
    folds = [comparison.by_fold(name, score, choice) for name in names]
    low, high = _range(values, folds, comparison, score)
    t = _quantile(comparison)
    if comparison.ceiling is not None and np.isfinite(top := comparison.ceiling.ceiling(score)):
        ax.axvline(top, color=TOP, linewidth=1.5, zorder=1)
        ax.annotate(
            f"noise ceiling {number(top)}", (top, 1.0), (0, 3), xycoords=ax.get_xaxis_transform(),
            textcoords="offset points", ha="right", va="bottom", fontsize=8, color=TOP,
        )  # fmt: skip
    if low < 0.0 < high:
        ax.axvline(0.0, color="0.8", linewidth=1, zorder=0)
    for k, (name, (value, error), each) in enumerate(zip(names, values, folds, strict=True)):
        colour = _colour(comparison, name)
        each = each[np.isfinite(each)]
        heights = k + _SPREAD * (2.0 * ((np.arange(len(each)) * 0.618) % 1.0) - 1.0)  # evenly, without order
        inside = each >= low
        dots: dict[str, Any] = {"linestyle": "none", "color": colour, "markeredgewidth": 0}
        ax.plot(each[inside], heights[inside], marker="o", markersize=3.2, alpha=0.35, zorder=2, **dots)
        edge = np.full(int((~inside).sum()), low)
        ax.plot(edge, heights[~inside], marker="<", markersize=4, alpha=0.6, clip_on=False, zorder=3, **dots)
        half = t * error if np.isfinite(error) else 0.0
        _point(ax, k, value, (max(low, value - half), min(high, value + half)), colour, full=True)
    ax.set_xlim(low, high)
    what, pairs = WORDS[score]
    ax.set_xlabel(
        f"{what}, {pairs}\nall folds with {_level(comparison)} interval; dots: single folds", fontsize=8.5
    )
    ax.set_title("Held-out score", fontsize=9.5, loc="left", fontweight="bold", pad=16)
    _rows(ax, len(names))
    _names(ax, comparison)


def draw_differences(
    ax: Axes, comparison: Comparison, score: str, choice: str | None, reference: str
) -> None:
    """A row for each model: how much higher it scores than the reference."""
    names = comparison.names
    found = {each.first: each for each in comparison.differences(reference, score, choice)}
    ax.axvline(0.0, color="0.35", linewidth=1.2, linestyle="--", zorder=1)
    ends: list[float] = [0.0]
    for each in found.values():
        ends += [end for end in (each.value, each.lower, each.upper) if np.isfinite(end)]
    room = 0.06 * (max(ends) - min(ends) or 1.0)
    low, high = min(ends) - room, max(ends) + room
    for k, name in enumerate(names):
        if name == reference:
            right = high > -low
            ax.annotate(
                "the reference", (0.0, k), (6 if right else -6, 0), textcoords="offset points", fontsize=8,
                color="0.35", va="center", ha="left" if right else "right",
            )  # fmt: skip
            continue
        each = found[name]
        apart = np.isfinite(each.se) and not each.lower <= 0.0 <= each.upper
        _point(ax, k, each.value, (each.lower, each.upper), _colour(comparison, name), full=bool(apart))
        p = "p < 0.001" if each.p < 0.001 else f"p = {p_text(each.p)}"
        ax.annotate(
            p if np.isfinite(each.p) else "", (1.0, k), (6, 0), xycoords=ax.get_yaxis_transform(),
            textcoords="offset points", fontsize=8, va="center", color="0.25", annotation_clip=False,
        )  # fmt: skip
    ax.set_xlim(low, high)
    ax.set_xlabel(
        f"difference of scores, with {_level(comparison)} interval\nfull where it leaves out 0", fontsize=8.5
    )
    title = f"Difference to {shorten(reference, _NAME[0])}, same folds"
    ax.set_title(title, fontsize=9.5, loc="left", fontweight="bold", pad=16)
    _rows(ax, len(names))


def _point(ax: Axes, k: int, value: float, ends: tuple[float, float], colour: str, *, full: bool) -> None:
    """A value with its interval, and the number above it."""
    from matplotlib.patheffects import withStroke

    if not np.isfinite(value):
        return
    if np.isfinite(ends).all():
        ax.plot(ends, [k, k], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=4)
    ax.plot(value, k, marker="o", markersize=8, color=colour, markeredgecolor=colour, markeredgewidth=1.5,
            markerfacecolor=colour if full else "white", zorder=5)  # fmt: skip
    ax.annotate(
        number(value), (value, k), (0, 6.5), textcoords="offset points", fontsize=8, ha="center",
        color=colour, fontweight="bold", zorder=6,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )  # fmt: skip


def _colour(comparison: Comparison, name: str) -> str:
    return BASELINE if comparison[name].is_baseline else MODEL


def _level(comparison: Comparison) -> str:
    return f"{comparison.stats['level']:.0%}".replace("%", " %")


def _names(ax: Axes, comparison: Comparison) -> None:
    """Write the name of each model, and what it is, beside its row."""
    narrow = is_narrow(ax.figure)
    for k, name in enumerate(comparison.names):
        for text, offset, size, weight, colour in (
            (
                shorten(name, _NAME[narrow]),
                5.5,
                9.5,
                "bold",
                "0.4" if comparison[name].is_baseline else "black",
            ),
            (shorten(comparison[name].words, _WORDS[narrow]), -5.5, 7.5 - narrow, "normal", "0.35"),
        ):
            ax.annotate(
                text, (0.0, k), (-8, offset), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
                ha="right", va="center", fontsize=size, fontweight=weight, color=colour,
                annotation_clip=False,
            )  # fmt: skip


def _rows(ax: Axes, n: int) -> None:
    ax.set_ylim(n - 0.5, -0.5)
    for k in range(0, n, 2):
        ax.axhspan(k - 0.5, k + 0.5, color="0.965", linewidth=0, zorder=-1)
    finish(ax)
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])


def _range(
    values: list[tuple[float, float]], folds: list[Array], comparison: Comparison, score: str
) -> tuple[float, float]:
    """Limits of the axis: all scores and the ceiling, and of the folds what is not far below."""
    known = [value for value, _ in values if np.isfinite(value)] or [0.0]
    top = math.nan if comparison.ceiling is None else comparison.ceiling.ceiling(score)
    all_folds: Any = np.concatenate([each[np.isfinite(each)] for each in folds] or [np.zeros(1)])
    high = max([*known, *all_folds, top if np.isfinite(top) else -np.inf, 0.1])
    low = min([*known, 0.0])
    lowest = low - _BELOW * (high - low)
    low = max(lowest, min([low, *all_folds]))
    room = 0.04 * (high - low)
    return low - room, high + room


def _quantile(comparison: Comparison) -> float:
    """Student's t of the intervals of the comparison."""
    import scipy.stats

    freedom = max(1, comparison.stats["folds"] // comparison.stats["repeats"] - 1)
    return float(scipy.stats.t.ppf(0.5 + comparison.stats["level"] / 2, freedom))
