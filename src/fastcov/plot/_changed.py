"""Draw the channels whose gains changed: all gains with their intervals, and by name those that changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.validation import check_whole
from .._results.channel_table import ChannelTable
from .._results.intervals import OF, RESOLVED
from ._style import COLOURS, finish, new_figure, require_matplotlib, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UP, DOWN, SAME = COLOURS[1], COLOURS[0], "0.75"
# The same colours, paler: the interval leaves out one, and the test finds nothing.
PALE_UP, PALE_DOWN = "#F0B98A", "#8FBFDD"
# Letters of a name, and inches of height for each name.
_LETTERS, _HEIGHT = 24, 0.19
# Names are drawn for at most so many channels by default.
NAMED = 25
# Room around the gains, as a share of their range.
_MARGIN = 0.06


def changed_channels(
    table: ChannelTable, *, n: int = NAMED, axes: Sequence[Axes] | None = None
) -> NDArray[Any]:
    """Draw all gains with their intervals, and beside them by name the channels that changed most surely.

    On the left all channels are sorted by gain; the frame is that of the gains, and cuts long intervals. On
    the right are n of those that changed, as many from above one as from below where there are enough, sorted
    by gain. Pale are channels whose interval leaves out one although the test against shuffled targets does
    not find them; they are named where no channel changed. A full point is a gain that the data determine
    (resolution above 0.8); the ridge largely sets an open one.

    Parameters
    ----------
    table : ChannelTable
        As from ``fit.uncertainty(Y).table(test)``.
    n : int, default 25
        Channels to name.
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
        If `table` is not a ChannelTable, n is not 1 or more, or there are not two axes.
    """
    require_matplotlib()
    if not isinstance(table, ChannelTable):
        raise TypeError(
            f"Argument 'table' must be a ChannelTable, not {type(table).__name__}: pass "
            "fit.uncertainty(Y).table()."
        )
    check_whole("n", n, 1)
    groups = _groups(table)
    named = _named(table, groups, n)
    if axes is None:
        height = max(3.6, 1.3 + _HEIGHT * len(named))
        axes = list(new_figure(9.0, height).subplots(1, 2, width_ratios=(1.15, 1.0)))
    if len(axes) != 2:
        raise ValueError(f"Argument 'axes' must be two Axes, not {len(axes)}: use subplots(1, 2).")
    _draw_all(axes[0], table, groups)
    _draw_named(axes[1], table, groups, named)
    return np.array(axes, dtype=object)


Groups = list[tuple[str, str, NDArray[np.bool_]]]


def _groups(table: ChannelTable) -> Groups:
    """Colours, names and masks of channels: those that changed, those the test does not find, the rest."""
    above, below = table.lower > 1.0, table.upper < 1.0
    groups: Groups = [
        (UP, "above one", above & table.changed),
        (DOWN, "below one", below & table.changed),
        (PALE_UP, "above by interval, not by test", above & ~table.changed),
        (PALE_DOWN, "below by interval, not by test", below & ~table.changed),
        (SAME, "not told from one", ~(above | below)),
    ]
    return [group for group in groups if group[2].any()]


def _named(table: ChannelTable, groups: Groups, n: int) -> NDArray[np.intp]:
    """Places in the table of the channels to name, sorted by gain."""
    wanted = (UP, DOWN) if table.changed.any() else (PALE_UP, PALE_DOWN)
    sides = [np.flatnonzero(mask) for colour, _, mask in groups if colour in wanted] or [
        np.arange(len(table))
    ]
    shares = [min(len(side), n // len(sides)) for side in sides]
    for k, side in enumerate(sides):  # one side may have too few
        shares[k] = min(len(side), n - sum(shares) + shares[k])
    some = np.concatenate([side[:share] for side, share in zip(sides, shares, strict=True)])
    return np.asarray(some[np.argsort(table.gain[some], kind="stable")], np.intp)


def _draw_all(ax: Axes, table: ChannelTable, groups: Groups) -> None:
    order = np.argsort(table.gain, kind="stable")
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    many = len(order) > 300
    for colour, name, some in groups:
        ends = (table.lower[some], table.upper[some])
        width, size = (0.5, 2.5) if many else (1.0, 4.0)
        front = 1.0 if colour == SAME else 2.0
        ax.vlines(place[some], *ends, colors=colour, linewidth=width, rasterized=many, zorder=front)
        ax.plot(
            place[some], table.gain[some], ".", color=colour, markersize=size, rasterized=many,
            label=f"{some.sum()} {name}", zorder=front + 0.5,
        )  # fmt: skip
    ax.axhline(1.0, color="black", linewidth=0.8, zorder=0)
    ax.set_ylim(*_limits(table.gain))
    ax.set_xlabel(f"{len(order)} channels, sorted by gain")
    ax.set_ylabel(f"gain, with its {table.level:.0%} interval over {OF[table.by]}")
    ax.legend(loc="upper left", frameon=False, fontsize=8, handletextpad=0.2, markerscale=2.0)
    finish(ax)


def _draw_named(ax: Axes, table: ChannelTable, groups: Groups, named: NDArray[np.intp]) -> None:
    for at, i in enumerate(named):
        colour = next(colour for colour, _, mask in groups if mask[i])
        full = table.resolution[i] > RESOLVED
        ax.plot([table.lower[i], table.upper[i]], [at, at], color=colour, linewidth=1.2)
        ax.plot(
            table.gain[i], at, "o", color=colour, markerfacecolor=colour if full else "white", markersize=4.5
        )
    ax.axvline(1.0, color="black", linewidth=0.8, zorder=0)
    ax.set_xlim(*_limits(np.concatenate([[1.0], table.lower[named], table.upper[named]])))
    ax.set_ylim(-0.7, len(named) - 0.3)
    ax.set_yticks(range(len(named)), [shorten(str(table.names[i]), _LETTERS) for i in named])
    ax.set_xlabel(f"gain (full: resolution above {RESOLVED:g})")
    total = int(table.changed.sum())
    if total:
        title = f"The surest {len(named)} of {total} gains that changed"
    elif table.tested:
        title = "No gain passes the test; the surest intervals"
    else:
        title = "No interval leaves out one; the nearest"
    ax.set_title(title, fontsize=9, loc="left")
    finish(ax)
    ax.tick_params(axis="y", labelsize=7, length=0)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = _MARGIN * (high - low) or 0.1
    return low - room, high + room
