"""Draw an explanation channel by channel: overlaps, contributions of others to a gain, and importances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._explaining.explanation import Explanation
from .._inputs.validation import check_whole
from ._style import COLOURS, checked, decimals, finish, new_figure, number, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

# Letters of a channel's name that fit in a scatter plot, and beside a waterfall.
_SHORT, _LONG = 18, 28
# Number of channels named in a scatter plot, and the least distance of two names, as a share of the range of
# δ.
_EXTREMES, _APART = 4, 0.07
# With more points than this, a vector graphic becomes slow to open, so points are drawn as pixels.
_MANY = 2000
# Values that vary by a smaller share than this are equal up to rounding.
_CONSTANT = 1e-12
# Room for each letter of the numbers at the ends of the bars, as a share of the range of the bars.
_LETTER = 0.04


def overlaps(explanation: Explanation, *, axes: Sequence[Axes] | None = None) -> NDArray[Any]:
    """Draw each channel's δ against its overlap with the error, raw and whitened.

    The raw overlap, Gᵀe₀, shows what a channel alone could correct. Channels off the dashed line share the
    error with others, or have an atom that is not of median size. The whitened overlap,
    (GᵀG + λI)^(−1/2) Gᵀe₀, shows what is left to a channel after the common part of the atoms is divided
    among them. Both panels name the channels with extreme δ.

    Parameters
    ----------
    explanation : Explanation
    axes : two matplotlib Axes, optional
        Where to draw; by default in a new Figure outside pyplot, which is ``axes[0].figure``.

    Returns
    -------
    ndarray of two Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If `explanation` is not an Explanation, or there are not two axes.
    """
    checked(explanation)
    if axes is None:
        axes = list(new_figure(9.0, 3.8).subplots(1, 2))
    if len(axes) != 2:
        raise ValueError(f"Argument 'axes' must be two Axes, not {len(axes)}: use subplots(1, 2).")
    delta = explanation.delta
    y = _range(delta)
    named = _extremes(delta, y[1] - y[0])
    panels = (
        (
            "Raw", "raw overlap with the error, Gᵀe₀", explanation.overlaps,
            "dashed: a channel of median size, alone",
        ),
        (
            "Whitened", "whitened overlap, (GᵀG + λI)^(−½) Gᵀe₀", explanation.whitened_overlaps,
            "correlations among atoms taken out",
        ),
    )  # fmt: skip
    for ax, (word, label, values, below) in zip(axes, panels, strict=True):
        size = float(np.clip(60.0 / np.sqrt(len(delta)), 1.5, 5.0))
        rest = np.setdiff1d(np.arange(len(delta)), named)
        style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgewidth": 0}
        style |= {"rasterized": len(delta) > _MANY}
        ax.plot(values[rest], delta[rest], markersize=size, color=COLOURS[0], alpha=0.6, zorder=2, **style)
        ax.plot(values[named], delta[named], markersize=5, color=COLOURS[1], zorder=3, **style)
        x = _range(values)
        _name(ax, explanation.channels, named, values, delta, x)
        for line in (ax.axhline, ax.axvline):
            line(0.0, color="0.8", linewidth=1, zorder=0)
        ax.set_xlim(*x)
        ax.set_ylim(*y)
        ax.set_xlabel(label, fontsize=9)
        ax.set_ylabel("δ = gain − 1", fontsize=9)
        ax.set_title(f"{word}: {_correlation(values, delta)}\n{below}", fontsize=9)
        finish(ax)
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_offset_text().set_fontsize(8)
    _draw_alone(axes[0], explanation)
    return np.array(axes, dtype=object)


def contributions(explanation: Explanation, channel: Any, n: int = 6, *, ax: Axes | None = None) -> Axes:
    """Draw a channel's δ as a sum: its value alone, what other channels add or take, and the total.

    The figure is a waterfall: each bar begins where the one above it ends. Another channel takes from δ if
    its atom resembles that of the channel and its gain moves the same way, because both correct the same
    error.

    Parameters
    ----------
    explanation : Explanation
    channel : name or int
        The channel's name, or its number, counted from 0.
    n : int, default 6
        How many of the largest contributions of each sign get their own bar; all others share one.
    ax : matplotlib Axes, optional
        Where to draw; by default in a new Figure outside pyplot, which is ``ax.figure``.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If `explanation` is not an Explanation, there is no such channel, or n is not 1 or more.
    """
    checked(explanation)
    found = explanation.contributions(channel)
    up, down = found.largest(n)
    steps = [(_channel(name, _LONG), value) for name, value in up + down]
    others = len(found.others) - 1 - len(steps)
    if others:
        rest = float(found.others.sum()) - sum(value for _, value in steps)
        steps.append((f"all {others} others", rest))
    rows = [("alone (diagonal fit)", found.diagonal), *steps, ("together: δ", found.delta)]
    if ax is None:
        ax = new_figure(7.0, 1.4 + 0.24 * len(rows)).subplots()
    ends = found.diagonal + np.concatenate([[0.0], np.cumsum([value for _, value in steps])])
    starts = np.concatenate([[0.0], ends[:-1], [0.0]])
    ends = np.append(ends, found.delta)
    last = len(rows) - 1
    texts = [decimals(value, None) for _, value in rows]
    for k, (start, end, text) in enumerate(zip(starts, ends, texts, strict=True)):
        change = end - start
        total = k in (0, last)
        colour = "0.4" if total else COLOURS[1] if change > 0 else COLOURS[0]
        ax.barh([k], [change], left=start, height=0.7, color=colour, linewidth=0, zorder=2)
        if k < last:  # join the end of a bar to the start of the next
            ax.plot([end, end], [k, k + 1], color="0.6", linewidth=0.8, zorder=1)
        ax.annotate(
            text, (end, k), (3 if change >= 0 else -3, 0), textcoords="offset points",
            ha="left" if change >= 0 else "right", va="center", fontsize=8,
        )  # fmt: skip
    ax.axvline(0.0, color="0.35", linewidth=1, zorder=1)
    low, high = min(0.0, ends.min()), max(0.0, ends.max())
    room = _LETTER * max(map(len, texts)) * (high - low) or 0.5
    ax.set_xlim(low - room, high + room)
    ax.set_ylim(last + 0.6, -0.6)
    ax.set_yticks(range(len(rows)), [name for name, _ in rows])
    ax.set_xlabel("δ = gain − 1\norange raises it, blue lowers it", fontsize=9)
    gain, alone = number(1.0 + found.delta), number(1.0 + found.diagonal)
    ax.set_title(
        f"{_channel(found.channel, _LONG)}\ngain {gain}; alone it would be {alone}", fontsize=9, loc="left"
    )
    finish(ax)
    ax.xaxis.get_offset_text().set_fontsize(8)
    return ax


def importance(explanation: Explanation, n: int = 10, *, axes: Sequence[Axes] | None = None) -> NDArray[Any]:
    """Draw the channels that matter most: what is lost if one gain is held, and all others are fitted again.

    Left, the gain is held at one: the importance of its change, ½ δ_i² / (A⁻¹)_ii with A = GᵀG + λI. Right,
    the channel is silenced: the importance of the channel, without the ridge term of its own gain. Both are
    shares of what the fit takes off the linear loss. A channel is of little importance if others can do the
    same.

    Parameters
    ----------
    explanation : Explanation
    n : int, default 10
        How many channels each panel shows, the most important first; all, if there are fewer.
    axes : two matplotlib Axes, optional
        Where to draw; by default in a new Figure outside pyplot, which is ``axes[0].figure``.

    Returns
    -------
    ndarray of two Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If `explanation` is not an Explanation, there are not two axes, or n is not 1 or more.
    MemoryError
        As `Explanation.importance`, if not all modes are known.
    """
    checked(explanation)
    check_whole("n", n, 1)
    if axes is None:
        axes = list(new_figure(9.0, 1.2 + 0.24 * min(n, len(explanation.overlaps))).subplots(1, 2))
    if len(axes) != 2:
        raise ValueError(f"Argument 'axes' must be two Axes, not {len(axes)}: use subplots(1, 2).")
    removed = explanation.loss_removed or 1.0
    panels = (
        ("Held at one", "the importance of its change", explanation.importance),
        ("Silenced", "the importance of the channel", explanation.loss_rise(0.0, own_ridge=False)),
    )
    for ax, colour, (word, below, values) in zip(axes, COLOURS, panels, strict=False):
        first = np.argsort(-values, kind="stable")[:n]
        shares = 100.0 * values[first] / removed
        ax.barh(np.arange(len(first)), shares, height=0.7, color=colour, linewidth=0, zorder=2)
        texts = [decimals(share, 1) + "%" for share in shares]
        for k, (share, text) in enumerate(zip(shares, texts, strict=True)):
            ax.annotate(
                text, (max(share, 0.0), k), (3, 0), textcoords="offset points", va="center", fontsize=8
            )  # fmt: skip
        high = float(shares.max(initial=0.0)) or 1.0
        ax.set_xlim(min(0.0, float(shares.min(initial=0.0))), high * (1.0 + _LETTER * max(map(len, texts))))
        ax.set_ylim(len(first) - 0.4, -0.6)
        ax.set_yticks(range(len(first)), [_channel(explanation.channels[i], _SHORT) for i in first])
        ax.set_xlabel("% of the loss removed", fontsize=9)
        ax.set_title(f"{word}, the others refitted\n{below}", fontsize=9, loc="left")
        finish(ax)
    return np.array(axes, dtype=object)


def _channel(name: Any, most: int) -> str:
    """Write a channel's name, shortened, or its number."""
    return shorten(name if isinstance(name, str) else f"channel {name}", most)


def _range(values: Array) -> tuple[float, float]:
    """Return the range of an axis: all values and zero, with room for names."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    room = 0.08 * (high - low) or 0.5
    return low - room, high + room


def _extremes(delta: Array, span: float) -> NDArray[np.intp]:
    """Choose the channels with the largest nonzero |δ| whose names do not overlap."""
    chosen: list[int] = []
    for i in np.argsort(-np.abs(delta), kind="stable"):
        if len(chosen) == _EXTREMES or delta[i] == 0:
            break
        if all(abs(delta[i] - delta[j]) > _APART * span for j in chosen):
            chosen.append(int(i))
    return np.array(chosen, dtype=np.intp)


def _name(
    ax: Axes, names: Sequence[Any], chosen: NDArray[np.intp], values: Array, delta: Array,
    x: tuple[float, float],
) -> None:  # fmt: skip
    """Write names beside points, on the side with more room."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2, foreground="white")]
    for i in chosen:
        left = values[i] - x[0] > x[1] - values[i]
        ax.annotate(
            _channel(names[i], _SHORT), (values[i], delta[i]), (-5 if left else 5, 0),
            textcoords="offset points", ha="right" if left else "left", va="center", fontsize=8, zorder=4,
            path_effects=halo,
        )  # fmt: skip


def _correlation(a: Array, b: Array) -> str:
    a, b = (values / (np.abs(values).max() or 1.0) for values in (a, b))
    a, b = (values - values.mean() for values in (a, b))
    sizes = float(blas.norm(a)), float(blas.norm(b))
    if min(sizes) < _CONSTANT:
        return "no correlation"
    return f"correlation {decimals(blas.dot(a, b) / sizes[0] / sizes[1], 2)}"


def _draw_alone(ax: Axes, explanation: Explanation) -> None:
    """Draw the diagonal fit of a channel with an atom of median size, within the ranges of the axes."""
    sizes = explanation.squared_norms[explanation.squared_norms > 0]
    if not len(sizes):
        return
    below = float(np.median(sizes)) + explanation.ridge
    x, y = ax.get_xlim(), ax.get_ylim()
    ends = np.array([max(x[0], y[0] * below), min(x[1], y[1] * below)])
    ax.plot(ends, ends / below, color="0.35", linestyle="--", linewidth=1, zorder=1)
