"""Draw a whole study on one page: scores, shuffles, held-out covariances, and gains with intervals."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._results.group_studies import group_baseline
from .._results.study import PopulationStudy, Study
from .._results.study_words import p_text
from ._held_out import WORDS, band
from ._ridge_scale import RidgeScale
from ._style import COLOURS, finish, new_figure, number, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

UP, DOWN, REST, SHUFFLED = COLOURS[1], COLOURS[0], "0.72", "0.55"
_WIDTH, _HEIGHT = 11.0, 8.2
# Left, bottom, width and height of each panel, as shares of the figure; names of lines need room.
_PLACES = (
    (0.065, 0.545, 0.305, 0.325), (0.548, 0.545, 0.145, 0.325), (0.76, 0.545, 0.215, 0.325),
    (0.065, 0.075, 0.455, 0.37), (0.665, 0.075, 0.275, 0.37),
)  # fmt: skip
# Channels that are named, in each direction, in the panel of the surest, and letters of their names.
_NAMED, _LETTERS = 8, 16
# Short names of baselines, beside their lines.
_BASES = {"one": "all gains one", "scaled": "X scaled, shifted", "no-x": "without X"}
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
    scores, null, pairs, gains, surest = (figure.add_axes(place) for place in _PLACES)
    draw_scores(scores, one)
    draw_null(null, one)
    draw_pairs(pairs, one)
    draw_gains(gains, study, one)
    draw_surest(surest, one)
    for letter, ax in zip("abcde", (scores, null, pairs, gains, surest), strict=True):
        ax.set_title(f"{letter}  {ax.get_title(loc='left')}", fontsize=9.5, loc="left", fontweight="bold")
    figure.suptitle(headline(study, one), fontsize=12, y=0.985)
    return figure


def headline(study: Study, one: PopulationStudy) -> str:
    """Say in two lines whether gains predict, and how many changed."""
    verdict = one.cv.verdicts()[one.method]
    value, _ = one.value()
    predicts = {
        True: "Gains predict held-out conditions",
        False: "That gains predict held-out conditions is not shown",
        None: "Whether gains predict held-out conditions was not tested",
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
        right.append((top, f"noise ceiling {number(top)}", COLOURS[2]))
    for name, label in _BASES.items():
        value = cv.baseline(name)[0]
        if np.isfinite(value) and value > -1.0:
            ax.axhline(value, color="0.35", linewidth=1.0, linestyle="--", zorder=1)
            right.append((value, f"{label} {number(value)}", "0.25"))
    if one.groups is not None:
        value, _ = group_baseline(one.groups.gains, cv.score, cv.times)
        ax.axhline(value, color=COLOURS[3], linewidth=1.2, linestyle="-.", zorder=1)
        right.append((value, f"one gain a group {number(value)}", COLOURS[3]))
    shuffled = cv.scores[method].shuffled
    if shuffled is not None:
        mean, below, above = (each[order] for each in band(shuffled.pooled(cv.score)))
        ax.fill_between(places, below, above, color=SHUFFLED, alpha=0.3, linewidth=0, zorder=0.5)
        ax.plot(places, mean, color=SHUFFLED, linewidth=1.0, linestyle=":", zorder=1)
    ax.errorbar(places, values, yerr=error, color=DOWN, marker="o", markersize=4.5, linewidth=1.8, zorder=4,
                capsize=2)  # fmt: skip
    k = cv.place(method)
    if k >= 0:
        at = int(np.flatnonzero(order == k)[0])
        ax.plot(
            places[at], values[at], marker="o", markersize=11, markerfacecolor="none", color=DOWN, zorder=5
        )
        ax.annotate(
            f"gains by channel {number(values[at])}", (places[at], values[at]), (8, 7),
            textcoords="offset points", fontsize=8, color=DOWN, fontweight="bold", zorder=6,
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
    ax.axvline(one.test.observed, color=DOWN, linewidth=2)
    ax.set_ylabel(f"shuffles (of {len(one.test.null)})", fontsize=8.5)
    low, high = ax.get_xlim()
    right = one.test.observed > (low + high) / 2
    ax.annotate(
        f"data {number(one.test.observed)}\np = {p_text(one.test.p)}", (one.test.observed, 0.97),
        (-4 if right else 4, 0), xycoords=ax.get_xaxis_transform(), textcoords="offset points",
        ha="right" if right else "left", va="top", fontsize=8, color=DOWN, fontweight="bold",
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
    ax.plot(x, y, linestyle="none", marker="o", markersize=2.6, markeredgewidth=0, color=DOWN, alpha=0.35,
            rasterized=len(x) > _MANY, zorder=2)  # fmt: skip
    ends = [max(x.min(), y.min()), min(x.max(), y.max())]
    ax.plot(ends, ends, color="0.35", linewidth=1, linestyle="--", zorder=3)
    ax.annotate("equal", (ends[1], ends[1]), (3, 2), textcoords="offset points", fontsize=7.5, color="0.35")
    ax.ticklabel_format(style="sci", scilimits=(-2, 3))
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_offset_text().set_fontsize(7.5)


def draw_gains(ax: Axes, study: Study, one: PopulationStudy) -> None:
    """All gains with intervals, from the smallest to the largest; those that changed are coloured."""
    by = study.stats["by"]
    ax.set_title("All gains", loc="left")
    finish(ax)
    table = one.channels
    if table is None:
        text = textwrap.fill(f"no intervals: {one.missing}", 50)
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=9)
        return
    order = np.argsort(table.gain, kind="stable")
    rank = np.empty(len(order))
    rank[order] = np.arange(1, len(order) + 1)
    width = float(np.clip(300.0 / len(order), 0.35, 2.0))
    for mask, colour, z in _kinds(table):
        ax.vlines(rank[mask], table.lower[mask], table.upper[mask], color=colour, linewidth=width, zorder=z,
                  alpha=0.5 if colour == REST else 0.8)  # fmt: skip
        ax.plot(rank[mask], table.gain[mask], linestyle="none", marker="o", markeredgewidth=0, color=colour,
                markersize=float(np.clip(400.0 / len(order), 1.6, 4.0)), zorder=z + 0.5)  # fmt: skip
    ax.axhline(1.0, color="0.25", linewidth=1, zorder=1)
    ax.set_yscale("symlog", linthresh=2.0, linscale=1.6)
    low, high = float(np.nanquantile(table.lower, 0.005)), float(np.nanquantile(table.upper, 0.995))
    low, high = min(low, float(table.gain.min()), 0.0), max(high, float(table.gain.max()), 2.0)
    ax.set_ylim(low - 0.15, high * 1.15)
    ticks = [
        t for t in (-5, -2, -1, 0, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100) if low - 0.15 <= t <= high * 1.15
    ]
    ax.set_yticks(ticks, [number(t).rstrip("0").rstrip(".") if t else "0" for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel("channels, by their gain", fontsize=8.5)
    ax.set_ylabel(f"gain, {study.stats['level']:.0%} interval over {by}", fontsize=8.5)
    legend = [
        (f"up: {table.up}", UP, 0.93), (f"down: {table.down}", DOWN, 0.86),
        (f"not shown to change: {len(table) - int(table.changed.sum())}", "0.5", 0.79),
    ]  # fmt: skip
    for text, colour, height in legend:
        ax.text(0.03, height, text, transform=ax.transAxes, fontsize=8.5, color=colour, fontweight="bold")
    rule = f"changed: interval without one{f', and q ≤ {table.fdr:g}' if table.tested else ''}"
    ax.text(0.03, 0.73, rule, transform=ax.transAxes, fontsize=7.5, color="0.3")


def _kinds(table: Any) -> list[tuple[Any, str, float]]:
    up, down = table.changed & (table.gain > 1), table.changed & (table.gain <= 1)
    return [(~table.changed, REST, 2.0), (down, DOWN, 3.0), (up, UP, 3.0)]


def draw_surest(ax: Axes, one: PopulationStudy) -> None:
    """The channels that changed most surely, by name, with interval and resolution."""
    finish(ax)
    table = one.channels
    if table is None:
        ax.set_title("Which channels", loc="left")
        ax.set_axis_off()
        return
    up = np.flatnonzero(table.changed & (table.gain > 1))
    down = np.flatnonzero(table.changed & (table.gain <= 1))
    n_up = min(len(up), max(_NAMED, 2 * _NAMED - len(down)))
    chosen = np.concatenate([up[:n_up], down[: 2 * _NAMED - n_up]])
    title = "Surest changes (right: resolution)"
    if not len(chosen):
        chosen, title = np.arange(min(len(table), 2 * _NAMED)), "None passes; the surest (right: resolution)"
    chosen = chosen[np.argsort(table.gain[chosen], kind="stable")]
    ax.set_title(title, loc="left")
    for row, i in enumerate(chosen):
        colour = REST if not table.changed[i] else UP if table.gain[i] > 1 else DOWN
        ax.plot([table.lower[i], table.upper[i]], [row, row], color=colour, linewidth=1.6, zorder=2)
        ax.plot(table.gain[i], row, marker="o", markersize=4.5, color=colour, zorder=3)
        text = "–" if np.isnan(table.resolution[i]) else number(table.resolution[i])
        ax.text(1.01, row, text, transform=ax.get_yaxis_transform(), fontsize=7.5, va="center", color="0.3")
    ax.axvline(1.0, color="0.25", linewidth=1, zorder=1)
    ax.set_yticks(range(len(chosen)), [shorten(_name(table.names[i]), _LETTERS) for i in chosen])
    ax.set_ylim(-0.7, len(chosen) - 0.3)
    ax.set_xscale("symlog", linthresh=2.0, linscale=1.6)
    low, high = float(table.lower[chosen].min()), float(table.upper[chosen].max())
    ticks = [
        t for t in (-5, -2, -1, 0, 1, 2, 3, 5, 10, 20, 50, 100) if min(low, 0.0) - 0.15 <= t <= max(high, 1.2)
    ]
    ax.set_xlim(min(low, 0.0) - 0.1, max(high, 1.2) * 1.08)
    ax.set_xticks(ticks, [number(t).rstrip("0").rstrip(".") if t else "0" for t in ticks])
    ax.minorticks_off()
    ax.tick_params(labelsize=8)
    ax.set_xlabel("gain (one: unchanged)", fontsize=8.5)


def _name(name: Any) -> str:
    return name if isinstance(name, str) else f"channel {name}"
