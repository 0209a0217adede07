"""Draw a whole study on one page: scores, shuffles, held-out covariances, and gains with intervals."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .._results.connectivity import Connectivity
from .._results.group_studies import group_baseline
from .._results.nouns import nouns_of
from .._results.study import PopulationStudy, Study
from .._results.study_words import p_text
from ._changed import changed_channels
from ._connectivity import draw_scaling, draw_shares
from ._held_out import WORDS, band
from ._ridge_scale import RidgeScale
from ._style import COLOURS, finish, new_figure, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

DATA, SHUFFLED = COLOURS[0], "0.55"
_WIDTH, _HEIGHT = 11.0, 8.2
# Left, bottom, width and height of each panel, as shares of the figure; names of lines need room.
_PLACES = (
    (0.065, 0.545, 0.305, 0.325), (0.548, 0.545, 0.145, 0.325), (0.76, 0.545, 0.215, 0.325),
    (0.065, 0.075, 0.455, 0.37), (0.665, 0.075, 0.275, 0.37),
)  # fmt: skip
# Of the two lower panels without names.
_WIDE = ((0.065, 0.075, 0.4, 0.37), (0.555, 0.075, 0.42, 0.37))
# Channels that are named.
_NAMED = 18
# Gains above this need an axis that is not linear throughout, and where its ticks may be.
_LINEAR = 4.0
_TICKS = (-100, -50, -20, -10, -5, -2, -1, 0, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)
# Short names of baselines, beside their lines.
_BASES = {"scaled": "X scaled, shifted", "no-x": "without X"}
_LINE = 118
# Beyond this many points, dots are drawn as an image, for a small file.
_MANY = 2000


def whole_study(study: Study, population: str | None = None) -> Figure:
    """Draw one population of a study: `plot.study` has what is drawn."""
    names = list(study.populations)
    if population is None:
        population = names[0]
    if population not in names:
        raise ValueError(f"Argument 'population' must be one of {', '.join(names)}, not {population!r}.")
    one = study.populations[population]
    figure = new_figure(_WIDTH, _HEIGHT)
    figure.set_layout_engine("none")
    scores, null, pairs, fourth, fifth = (figure.add_axes(place) for place in _PLACES)
    draw_scores(scores, one)
    draw_null(null, one)
    draw_pairs(pairs, one)
    if isinstance(one.fit, Connectivity):
        fourth.set_position(_WIDE[0])
        fifth.set_position(_WIDE[1])
        draw_shares(fourth, one.fit.modes())
        draw_scaling(fifth, one.fit.explain())
        for ax, title in ((fourth, "Modes of W"), (fifth, "Modes of X, before and after")):
            ax.set_title("")
            ax.set_title(title, loc="left")
    else:
        draw_channels((fourth, fifth), one)
        fourth.set_title("All gains", loc="left")
    for letter, ax in zip("abcde", (scores, null, pairs, fourth, fifth), strict=True):
        ax.set_title(f"{letter}  {ax.get_title(loc='left')}", fontsize=9.5, loc="left", fontweight="bold")
    figure.suptitle(headline(study, one), fontsize=12, y=0.985)
    return figure


def headline(study: Study, one: PopulationStudy) -> str:
    """Say in two lines whether the fit predicts, and how many gains changed."""
    nouns = nouns_of(one.method)
    claim = f"{nouns.some} {nouns.do('predict')} held-out conditions"
    verdict = one.cv.verdicts()[one.method]
    value, _ = one.value()
    predicts = {
        True: claim[0].upper() + claim[1:],
        False: f"That {claim} is not shown",
        None: f"Whether {claim} was not tested",
    }[verdict.better]
    p = "" if one.p is None else f", p = {p_text(one.p)}"
    what, _ = WORDS[one.cv.score]
    of = f"{one.name}: " if study.stats["named"] else ""
    first = f"{of}{predicts} ({what} {number(value) if np.isfinite(value) else 'not defined'}{p})"
    if one.channels is None:
        return first
    table = one.channels
    changed = int(table.changed.sum())
    second = f"{changed} of {len(table)} gains changed: {table.up} up, {table.down} down"
    if not changed:
        second = f"None of {len(table)} gains is shown to have changed"
    return textwrap.fill(first, _LINE) + "\n" + second


def draw_scores(ax: Axes, one: PopulationStudy) -> None:
    """The score against the ridge, between baselines and the noise ceiling."""
    cv, method = one.cv, one.method
    order = np.argsort(cv.ridges)
    scale = RidgeScale(cv.ridges)
    places = scale(cv.ridges[order])
    values, error = (each[order] for each in cv.summary(method))
    right: list[tuple[float, str, str]] = []
    top = one.ceiling.ceiling(cv.score)
    if np.isfinite(top):
        low, high = one.ceiling.band(cv.score)
        ax.axhspan(low, high, color=COLOURS[2], alpha=0.15, linewidth=0, zorder=0)
        ax.axhline(top, color=COLOURS[2], linewidth=1.2, zorder=1)
        right.append((top, f"noise ceiling: {number(top)}", COLOURS[2]))
    nouns = nouns_of(method)
    for name, label in ({"one": nouns.at_one} | _BASES).items():
        value = cv.baseline(name)[0]
        if np.isfinite(value) and value > -1.0:
            ax.axhline(value, color="0.35", linewidth=1.0, linestyle="--", zorder=1)
            right.append((value, f"{label}: {number(value)}", "0.25"))
    if one.groups is not None:
        value, _ = group_baseline(one.groups.gains, cv.score, cv.times)
        ax.axhline(value, color=COLOURS[3], linewidth=1.2, linestyle="-.", zorder=1)
        right.append((value, f"one gain a group: {number(value)}", COLOURS[3]))
    shuffled = cv.scores[method].shuffled
    if shuffled is not None:
        mean, below, above = (each[order] for each in band(shuffled.pooled(cv.score)))
        ax.fill_between(places, below, above, color=SHUFFLED, alpha=0.3, linewidth=0, zorder=0.5)
        ax.plot(places, mean, color=SHUFFLED, linewidth=1.0, linestyle=":", zorder=1)
    ax.errorbar(places, values, yerr=error, color=DATA, marker="o", markersize=4.5, linewidth=1.8, zorder=4,
                capsize=2)  # fmt: skip
    k = cv.place(method)
    if k >= 0:
        at = int(np.flatnonzero(order == k)[0])
        ax.plot(
            places[at], values[at], marker="o", markersize=11, markerfacecolor="none", color=DATA, zorder=5
        )
        from matplotlib.patheffects import withStroke

        ax.annotate(
            f"{nouns.row}: {number(values[at])}", (places[at], values[at]), (8, 7),
            textcoords="offset points", fontsize=8, color=DATA, fontweight="bold", zorder=6,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
    scale.apply(ax, cv.relative)
    _label_right(ax, right)
    what, pairs = WORDS[cv.score]
    ax.set_ylabel(f"{what}, {pairs}", fontsize=8.5)
    ax.xaxis.label.set_fontsize(8.5)
    shown = "; grey: shuffled, 5–95 %" if shuffled is not None else ""
    ax.set_title(f"Held-out score{shown}", loc="left")
    finish(ax)


def _label_right(ax: Axes, lines: list[tuple[float, str, str]]) -> None:
    """Write what lines are beside them, at the right, without overlap."""
    low, high = ax.get_ylim()
    low = min([low, *(value for value, _, _ in lines)])
    high = max([high, *(value for value, _, _ in lines)])
    ax.set_ylim(low - 0.02 * (high - low), high + 0.04 * (high - low))
    low, high = ax.get_ylim()
    gap, last = 0.062 * (high - low), -np.inf
    for value, text, colour in sorted(lines):
        last = max(value, last + gap)
        ax.annotate(
            text, (1.0, value), (1.015, last), xycoords=ax.get_yaxis_transform(),
            textcoords=ax.get_yaxis_transform(), fontsize=7.5, color=colour, va="center",
            annotation_clip=False,
        )  # fmt: skip


def draw_null(ax: Axes, one: PopulationStudy) -> None:
    """The scores of shuffled conditions beside the one of the data."""
    ax.set_title("Shuffled conditions", loc="left")
    finish(ax)
    what, _ = WORDS[one.cv.score]
    ax.set_xlabel(f"{what}, at its best ridge", fontsize=8.5)
    if one.test is None:
        ax.set_yticks([])
        ax.text(
            0.5,
            0.5,
            "not tested:\nshuffles=100",
            transform=ax.transAxes,
            ha="center",
            va="center",
            fontsize=9,
        )
        return
    null = one.test.null[np.isfinite(one.test.null)]
    if len(null):
        ax.hist(null, bins=min(20, max(5, len(null) // 5)), color=SHUFFLED, alpha=0.8)
    ax.axvline(one.test.observed, color=DATA, linewidth=2)
    ax.set_ylabel(f"shuffles (of {len(one.test.null)})", fontsize=8.5)
    low, high = ax.get_xlim()
    right = one.test.observed > (low + high) / 2
    ax.annotate(
        f"data {number(one.test.observed)}\np = {p_text(one.test.p)}", (one.test.observed, 0.97),
        (-4 if right else 4, 0), xycoords=ax.get_xaxis_transform(), textcoords="offset points",
        ha="right" if right else "left", va="top", fontsize=8, color=DATA, fontweight="bold",
    )  # fmt: skip


def draw_pairs(ax: Axes, one: PopulationStudy) -> None:
    """Each pair of conditions: its covariance as predicted when held out, and as observed."""
    ax.set_title("Pairs of conditions", loc="left")
    finish(ax)
    ax.set_xlabel("predicted covariance (held out)", fontsize=8.5)
    ax.set_ylabel("observed covariance", fontsize=8.5)
    if one.predicted is None or one.fit is None:
        ax.text(0.5, 0.5, "gains of folds\nwere not kept", transform=ax.transAxes, ha="center", va="center",
                fontsize=9)  # fmt: skip
        return
    i, j = np.tril_indices(len(one.predicted), -1)
    x, y = one.predicted[i, j], (one.fit.target() / one.fit.stats["target_scale"])[i, j]
    known = np.isfinite(x)
    x, y = x[known], y[known]
    ax.plot(x, y, linestyle="none", marker="o", markersize=2.6, markeredgewidth=0, color=DATA, alpha=0.35,
            rasterized=len(x) > _MANY, zorder=2)  # fmt: skip
    ends = [max(x.min(), y.min()), min(x.max(), y.max())]
    ax.plot(ends, ends, color="0.35", linewidth=1, linestyle="--", zorder=3)
    ax.annotate("equal", (ends[1], ends[1]), (3, 2), textcoords="offset points", fontsize=7.5, color="0.35")
    ax.ticklabel_format(style="sci", scilimits=(-2, 3))
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_offset_text().set_fontsize(7.5)


def draw_channels(axes: Sequence[Axes], one: PopulationStudy) -> None:
    """All gains with intervals, and by name those that changed most surely."""
    if one.channels is None:
        for ax, text in zip(axes, (f"no intervals: {one.missing}", ""), strict=True):
            ax.text(
                0.5,
                0.5,
                textwrap.fill(text, 50),
                transform=ax.transAxes,
                ha="center",
                va="center",
                fontsize=9,
            )
            ax.set_axis_off()
        return
    changed_channels(one.channels, n=_NAMED, axes=axes)
    for ax, axis, limits in ((axes[0], "y", axes[0].get_ylim()), (axes[1], "x", axes[1].get_xlim())):
        if limits[1] > _LINEAR:
            _spread(ax, axis, limits)
        ax.tick_params(labelsize=8)
        for label in (ax.xaxis.label, ax.yaxis.label):
            label.set_fontsize(8.5)


def _spread(ax: Axes, axis: str, limits: tuple[float, float]) -> None:
    """Scale an axis linearly up to a gain of 2, and logarithmically beyond."""
    low, high = limits
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    texts = [f"{tick:g}".replace("-", "−") for tick in ticks]
    if axis == "y":
        ax.set_yscale("symlog", linthresh=2.0, linscale=1.6)
        ax.set_yticks(ticks, texts)
        ax.set_ylim(low, high)
    else:
        ax.set_xscale("symlog", linthresh=2.0, linscale=1.6)
        ax.set_xticks(ticks, texts)
        ax.set_xlim(low, high)
    ax.minorticks_off()
