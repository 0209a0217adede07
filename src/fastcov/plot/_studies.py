"""Draw results over many ridges: a path of fits, alone or with scores on held-out conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._results.cross_validation import CrossValidation
from .._results.nouns import CONNECTIVITY, nouns_of
from .._results.ridge_path import RidgePath
from .._results.study import Study
from ._held_out import cross_validation, title_of
from ._ridge_scale import RidgeScale
from ._style import (
    CARET_UP,
    by_name,
    finish,
    legend_above,
    look,
    new_figure,
    require_matplotlib,
)
from ._whole_study import whole_study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

# Quantiles of the gains: the ends of the middle 90 %, and the median.
_QUANTILES = (0.05, 0.5, 0.95)
# Where gains, and the norm of W, are where X is left as it is.
_REST = {False: 1.0, True: 0.0}
# Most letters in the names of all paths together that leave room for three columns above a small panel.
_SHORT = 30


def ridge_path(
    path: RidgePath | Mapping[str, RidgePath], *, axes: Sequence[Axes] | None = None
) -> NDArray[Any]:
    """Draw the exact loss, and the range of the gains or ‖W‖, along the ridges of one path or several.

    The loss includes the ridge term and is relative to that at gains of one, or at W = 0, so that a fit above
    1 is worse than none. Gains are shown by their median and by a band that contains 90 % of them. Vertical
    ranges are those of the first path, with some room around it; losses beyond it, such as those of linear
    fits at small ridges, are marked at the edge and counted in the legend.

    Parameters
    ----------
    path : RidgePath, or mapping of name to RidgePath
        Paths of one target each.
    axes : two matplotlib Axes, optional
        Where to draw; by default in a new Figure with a title, outside pyplot, which is ``axes[0].figure``.

    Returns
    -------
    ndarray of two Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If `path` is empty, contains anything but paths, has fits of several targets, or paths of gains beside
        paths of connectivities; if there are not two axes.
    """
    named = _paths(path)
    if axes is None:
        figure = new_figure(9.0, 3.8)
        first = next(iter(named.values()))
        N, D = first[0].stats["shape"]
        figure.suptitle(f"Fits from large ridges to small: {N} channels, {D} conditions", fontsize=10)
        axes = list(figure.subplots(1, 2))
    if len(axes) != 2:
        raise ValueError(f"Argument 'axes' must be two Axes, not {len(axes)}: use subplots(1, 2).")
    shared = [each.relative_ridges for each in named.values()]
    relative = all(values is not None for values in shared)
    grids: dict[str, Array] = {
        name: each.ridges if values is None or not relative else values
        for (name, each), values in zip(named.items(), shared, strict=True)
    }
    scale = RidgeScale(np.concatenate(list(grids.values())))
    losses, spread = axes
    shares = {name: _shares(each) for name, each in named.items()}
    top = max(1.0, *_finite(next(iter(shares.values())))) * 1.25
    nouns = nouns_of(*(each[0].method for each in named.values()))
    bands = {name: _band(each) for name, each in named.items()}
    rest = _REST[nouns is CONNECTIVITY]
    low, high = _range(next(iter(bands.values())), len(named), rest)
    off_scale = False
    for k, name in enumerate(named):
        colour, marker = look(k)
        order = np.argsort(grids[name])
        places = scale(grids[name][order])
        share = shares[name][order]
        above = share > top
        off_scale |= bool(above.any())
        losses.plot(
            places, _within(share, 0.0, top), color=colour, marker=marker, markersize=5, linewidth=2,
            zorder=4 - 0.1 * k, label=name,
        )  # fmt: skip
        _at_edge(losses, places[above], top, CARET_UP, colour, 7.5 - 1.5 * k)
        lower, median, upper = (_within(row[order], low, high) for row in bands[name])
        spread.fill_between(places, lower, upper, color=colour, alpha=0.12, linewidth=0, zorder=2)
        for edge in (lower, upper):
            style: dict[str, Any] = {"marker": "_" if len(places) == 1 else None}  # one point makes no line
            spread.plot(places, edge, color=colour, linewidth=1, zorder=3 - 0.1 * k, **style)
        spread.plot(
            places, median, color=colour, marker=marker, markersize=4, linewidth=2, zorder=4 - 0.1 * k,
        )  # fmt: skip
    losses.axhline(1.0, color="0.35", linewidth=1, linestyle="--", zorder=1, label=nouns.at_one)
    spread.axhline(rest, color="0.35", linewidth=1, linestyle="--", zorder=1)
    if off_scale:
        losses.plot(
            [], [], linestyle="none", marker=CARET_UP, color="0.35", markeredgewidth=0, label="off the scale"
        )
    losses.set_ylim(0.0, top)
    losses.set_ylabel(f"exact loss / loss at {nouns.at_one}", fontsize=9)
    spread.set_ylim(low, high)
    spread.set_ylabel("norm of W" if nouns is CONNECTIVITY else "gains: median and middle 90 %", fontsize=9)
    for ax in axes:
        scale.apply(ax, relative)
        finish(ax)
    legend_above(losses, 3 if sum(map(len, named)) < _SHORT else 1)
    return np.array(axes, dtype=object)


def study(
    cv: CrossValidation | Study,
    path: RidgePath | Mapping[str, RidgePath] | None = None,
    *,
    population: str | None = None,
) -> Figure:
    """Draw a whole study on one page; or scores of held-out conditions above the path of fits.

    Of a `Study` it draws (a) the held-out score against the ridge, between baselines, shuffled conditions
    and the noise ceiling; (b) the scores of shuffled conditions beside that of the data, with p; (c) the
    covariance of each pair of conditions as predicted when it was held out, and as observed; (d) all gains
    with intervals, and those that changed in colour; (e) the channels that changed most surely, by name, with
    interval and resolution. Of a connectivity, (d) and (e) are the shares of its modes, and the variance
    along modes of X, as in `connectivity`.

    Parameters
    ----------
    cv : Study or CrossValidation
        What `fastcov.study` returns, or as for `cross_validation`.
    path
        With a CrossValidation: as for `ridge_path`.
    population : str, optional
        Which population of a Study; by default the first.

    Returns
    -------
    Figure
        11 x 8.2 inches, or with a path 9 x 8, in no window: call its ``savefig``, or make it the last line
        of a notebook cell.

    Raises
    ------
    ImportError, TypeError, ValueError
        As for `cross_validation` and `ridge_path`; if there is no such population; if a path is given with
        a Study, or none with a CrossValidation.
    """
    if isinstance(cv, Study):
        if path is not None:
            raise TypeError("Argument 'path' must be left out with a Study: it has all that is drawn.")
        require_matplotlib()
        figure: Figure = whole_study(cv, population)
        return figure
    if population is not None:
        raise TypeError("Argument 'population' must be left out with a CrossValidation, which has but one.")
    if path is None:
        raise TypeError(
            "Argument 'path' must be a RidgePath with a CrossValidation, not None: pass what "
            "fastcov.ridge_path returns, or draw cv alone with plot.cross_validation."
        )
    figure = new_figure(9.0, 8.0)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.2, 1.0))
    cross_validation(cv, ax=figure.add_subplot(grid[0, :]), legend="above")
    ridge_path(path, axes=[figure.add_subplot(grid[1, i]) for i in range(2)])
    figure.suptitle(title_of(cv), fontsize=10)
    return figure


def _finite(values: Array) -> list[float]:
    kept: list[float] = values[np.isfinite(values)].tolist()
    return kept


def _within(values: Array, low: float, high: float) -> Array:
    """Clip values to a distance beyond the range that can still be drawn."""
    far = 1e4 * (high - low)
    return np.clip(values, low - far, high + far)


def _at_edge(ax: Axes, places: Array, edge: float, caret: int, colour: str, size: float) -> None:
    if len(places):
        ax.plot(
            places, np.full(len(places), edge), linestyle="none", marker=caret, markersize=max(3.0, size),
            color=colour, markeredgewidth=0, clip_on=False, zorder=5,
        )  # fmt: skip


def _paths(path: Any) -> dict[str, RidgePath]:
    """Return paths by name; raise unless there is at least one, each with a ridge and of one target."""
    name = path[0].method if isinstance(path, RidgePath) and len(path) else ""
    named = by_name("path", path, RidgePath, name, "what fastcov.ridge_path returns")
    for name, each in named.items():
        if np.ndim(each[0].r2):
            raise ValueError(
                f"Argument 'path[{name!r}]' must be a path to one target, not to {len(each[0].r2)}: fit "
                "them one by one."
            )
    if len({nouns_of(each[0].method) is CONNECTIVITY for each in named.values()}) > 1:
        raise ValueError(
            "Argument 'path' must be of gains or of connectivities, not of both, which have no axis in "
            "common: draw them one by one."
        )
    return named


def _band(path: RidgePath) -> Array:
    """The lower end, the middle and the upper end (3, K) of gains; or three times the norm of W."""
    if nouns_of(path[0].method) is CONNECTIVITY:
        found: Any = path.fits
        return np.tile([fit.norm() for fit in found], (3, 1))
    return np.quantile(path.gains, _QUANTILES, axis=1)


def _shares(path: RidgePath) -> Array:
    """Return the loss divided by that at gains of one, or 1 if both are zero."""
    loss, at_one = path.loss, path.loss_at_one
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(loss == at_one, 1.0, loss / at_one)


def _range(band: Array, n: int, rest: float) -> tuple[float, float]:
    low, high = min(rest, float(band.min())), max(rest, float(band.max()))
    room = (0.3 if n > 1 else 0.1) * (high - low) or 0.5
    return (low - room if rest else -0.03 * high), high + room
