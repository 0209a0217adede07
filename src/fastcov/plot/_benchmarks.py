"""Draw the measurements of `fastcov bench`."""

from __future__ import annotations

import math
import os
import statistics
from typing import TYPE_CHECKING, Any

from .._timings.record import Record, Timed, load, others, size, times_ours
from .._timings.runs import FLOOR, NAIVE, OURS, UNITS
from ._style import COLOURS, finish, new_figure, require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Number of panels side by side, and width and height of each in inches; height of a line in the other figure.
_COLUMNS, _PANEL, _LINE = 3, (3.2, 2.5), 0.21
_OURS = {"color": COLOURS[0], "marker": "o", "markersize": 6, "linewidth": 2.2, "zorder": 5}
_NAIVE = {"color": "0.55", "marker": "s", "markersize": 4.5, "linewidth": 1.2, "zorder": 3}
_FLOOR = {"color": "0.1", "marker": "_", "markersize": 9, "linewidth": 1.2, "linestyle": ":", "zorder": 4}
# Shapes of the markers of peers: combinations of colour and shape repeat after twelve.
_SHAPES = ("^", "D", "v", "P")
_LABELS = {OURS: "fastcov", NAIVE: "naive NumPy", FLOOR: "bare BLAS or LAPACK"}


def scaling(record: Record | str | os.PathLike[str], *, dtype: str = "float64") -> Figure:
    """Draw the time of each operation against the size, for fastcov and all implementations beside it.

    Points are medians over rounds. Sizes are ordered by their number of responses, N × D.

    Parameters
    ----------
    record : path or Record
        Measurements saved by `fastcov bench --json`.
    dtype : {"float64", "float32"}
        The dtype of the cases to draw.

    Returns
    -------
    Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If no case has that dtype, or the file was not written by `fastcov bench`.
    """
    cases = [case for case in _opened(record).cases if case.dtype == dtype]
    if not cases:
        raise ValueError(f"Argument 'dtype' must be that of a case in the record, not {dtype!r}.")
    operations = list(dict.fromkeys(case.operation for case in cases))
    rows = -(-len(operations) // _COLUMNS)
    columns = min(_COLUMNS, len(operations))
    looks = _looks(cases)
    figure = new_figure(max(6.5, columns * _PANEL[0]), rows * _PANEL[1] + 0.8)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, operation in zip(panels, operations, strict=False):
        _draw_times(ax, [case for case in cases if case.operation == operation], looks)
        ax.set_title(operation, fontsize=10, loc="left")
        finish(ax)
    for ax in panels[len(operations) :]:
        ax.remove()
    figure.supxlabel(f"channels × conditions, {dtype}", fontsize=9)
    figure.supylabel("time", fontsize=9)
    _legend(figure, looks)
    return figure


def speedups(record: Record | str | os.PathLike[str]) -> Figure:
    """Draw how many times as long as fastcov each of the other implementations takes, case by case.

    Implementations right of the line at 1 are slower than fastcov. The bare BLAS or LAPACK work can lie left
    of the line; its distance from the line is that of fastcov from the bare work. Ratios are medians over the
    rounds in which both ran.

    Parameters
    ----------
    record : path or Record
        Measurements saved by `fastcov bench --json`.

    Returns
    -------
    Figure

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If nothing ran beside fastcov, or the file was not written by `fastcov bench`.
    """
    cases = [case for case in _opened(record).cases if len(case.seconds) > 1]
    if not cases:
        raise ValueError("Argument 'record' must have runs beside fastcov's, and has none: measure again.")
    looks = {run: look | {"linestyle": "none"} for run, look in _looks(cases).items() if run != OURS}
    if FLOOR in looks:
        looks[FLOOR] |= {"marker": "|", "markersize": 11, "markeredgewidth": 2.0}
    figure = new_figure(8.0, _LINE * len(cases) + 1.6)
    ax = figure.subplots()
    ax.axvline(1.0, color=COLOURS[0], linewidth=2.2, zorder=2)
    for run, look in looks.items():
        found = [(times_ours(case, run), -i) for i, case in enumerate(cases) if run in case.seconds]
        ax.plot(*zip(*found, strict=True), **look)
    ax.set_xscale("log")
    ax.set_yticks(
        [-i for i in range(len(cases))], [f"{c.operation}  {size(c, '×')}{_precision(c)}" for c in cases]
    )
    ax.set_ylim(-len(cases) + 0.4, 0.6)
    for i in range(1, len(cases)):
        if cases[i].operation != cases[i - 1].operation:
            ax.axhline(0.5 - i, color="0.85", linewidth=0.8, zorder=0)
    ax.grid(axis="x", which="major", color="0.92", zorder=0)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    ax.set_xlabel("time / time of fastcov (the line at 1×): further right is slower", fontsize=9)
    finish(ax)
    ax.tick_params(axis="y", length=0)
    _legend(figure, looks)
    return figure


def _opened(record: Any) -> Record:
    require_matplotlib()
    if isinstance(record, Record):
        return record
    if not isinstance(record, (str, os.PathLike)):
        raise TypeError(
            f"Argument 'record' must be the path of a file, not {type(record).__name__}: pass what "
            "'fastcov bench --json' wrote."
        )
    return load(record, "record")


def _draw_times(ax: Axes, cases: list[Timed], looks: dict[str, dict[str, Any]]) -> None:
    from matplotlib.ticker import NullFormatter

    cases = sorted(cases, key=lambda case: (case.shape[0] * case.shape[1], case.shape))
    for run, look in looks.items():
        found = [
            (i, statistics.median(case.seconds[run])) for i, case in enumerate(cases) if run in case.seconds
        ]
        if found:
            ax.plot(*zip(*found, strict=True), **look)
    times = [statistics.median(values) for case in cases for values in case.seconds.values()]
    ax.set_yscale("log")
    ax.set_ylim(10.0 ** math.floor(math.log10(min(times))), 10.0 ** math.ceil(math.log10(max(times)) + 1e-9))
    ax.yaxis.set_major_formatter(lambda value, _: _power(value))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(range(len(cases)), [f"{case.shape[0]}\n× {case.shape[1]}" for case in cases])
    ax.set_xlim(-0.4, len(cases) - 0.6)
    ax.grid(axis="y", which="major", color="0.92", zorder=0)


def _looks(cases: list[Timed]) -> dict[str, dict[str, Any]]:
    """Return the style of each implementation, the same in all panels."""
    peers = list(dict.fromkeys(run for case in cases for run in others(case)))
    looks: dict[str, dict[str, Any]] = {OURS: _OURS}
    looks |= {name: look for name, look in ((FLOOR, _FLOOR), (NAIVE, _NAIVE))
              if any(name in case.seconds for case in cases)}  # fmt: skip
    for k, name in enumerate(peers):
        colour, shape = COLOURS[1 + k % 3], _SHAPES[k % len(_SHAPES)]
        looks[name] = {"color": colour, "marker": shape, "markersize": 5, "linewidth": 1.2, "zorder": 3}
    return looks


def _legend(figure: Figure, looks: dict[str, dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **look) for look in looks.values()]
    figure.legend(
        handles, [_LABELS.get(name, name) for name in looks], loc="outside upper left", ncols=4,
        frameon=False, fontsize=9, handletextpad=0.5, columnspacing=1.6,
    )  # fmt: skip


def _power(seconds: float) -> str:
    """Write a power of ten with its unit, such as "10 ms"."""
    unit, scale = next((u for u in UNITS if seconds >= 0.999 * u[1]), UNITS[-1])
    return f"{seconds / scale:g} {unit}"


def _precision(case: Timed) -> str:
    return "" if case.dtype == "float64" else f"  {case.dtype}"
