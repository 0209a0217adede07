"""Figures of many ridges: scores on held-out conditions, and a path of fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._path import RidgePath
from .._scores import CrossValidation
from ._ridge_scale import RidgeScale
from ._style import (
    CARET_DOWN,
    CARET_UP,
    by_name,
    finish,
    is_narrow,
    legend_above,
    look,
    new_figure,
    number,
    require_matplotlib,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

# A method whose best R² is below this predicts nothing, and does not set the range of a picture.
_WILD = -1.0
# Of the gains: the middle 90 % and the median.
_QUANTILES = (0.05, 0.5, 0.95)
# Letters in the names of all paths that leave room for three columns above a small panel.
_SHORT = 30
# Letters of a legend beside its signs, that fit above a panel on a phone.
_LINE = 36


def cross_validation(cv: CrossValidation, *, ax: Axes | None = None) -> Axes:
    """Draw R² on held-out conditions against the ridge, for each method, beside that of gains of one.

    Points are means over folds with their standard errors, thin lines single folds. A ring marks the
    best ridge of each method, a diamond the largest within one standard error of it. Where the study has
    shuffles, dotted lines are their means, and bands their range. The vertical range is that of what
    predicts something; means below it, as of linear fits at small ridges, are marked at the edge and
    counted in the legend.

    Parameters
    ----------
    cv : CrossValidation
        What `fastcov.cross_validate` returns.
    ax : matplotlib Axes, optional
        Where to draw; by default a new Figure with a title, which belongs to nobody: ``ax.figure``.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError
        If `cv` is something else.
    """
    require_matplotlib()
    if not isinstance(cv, CrossValidation):
        raise TypeError(
            f"Argument 'cv' must be a CrossValidation, not {type(cv).__name__}: pass what "
            "fastcov.cross_validate returns."
        )
    if ax is None:
        figure = new_figure(9.0, 5.0)
        figure.suptitle(_cv_title(cv), fontsize=10)
        ax = figure.subplots()
    scale = RidgeScale(cv.ridges)
    order = np.argsort(cv.ridges)
    ridges, F, K, M = cv.ridges[order], len(cv.folds), len(cv.ridges), len(cv.methods)
    with np.errstate(all="ignore"):  # folds may have no finite R²
        summaries = {name: [values[order] for values in cv.summary(name)] for name in cv.methods}
        base, base_error = float(cv.r2_at_one.mean()), float(cv.standard_error(cv.r2_at_one))
    low, high = _r2_range(cv, summaries, base, base_error)

    entries: dict[str, Any] = {}  # of the legend, in its order
    hidden = 0
    for k, (name, (mean, error)) in enumerate(summaries.items()):
        colour, marker = look(k)
        places = scale(ridges) * scale.aside(k, M)
        folds = cv.scores[name].r2[:, order]
        if F > 1:
            ax.plot(
                places, _within(folds.T, low, high), color=colour, linewidth=0.7,
                alpha=float(np.clip(3.0 / F, 0.12, 0.45)), zorder=2, marker="." if K == 1 else None,
            )  # fmt: skip
            hidden += int(np.count_nonzero(folds < low))
        _draw_shuffled(ax, cv.scores[name].r2_shuffled, order, places, colour, low, high)
        below = mean < low
        entries[_cv_label(cv, name, mean, error, below)] = ax.errorbar(
            places, _within(mean, low, high), yerr=np.where(below, np.nan, error) if F > 1 else None,
            color=colour, marker=marker, markersize=5, linewidth=2, elinewidth=1.4, capsize=2.5,
            zorder=4 - 0.1 * k,
        )  # fmt: skip
        _at_edge(ax, places[below], low, CARET_DOWN, colour)
        _mark_choices(ax, cv, name, mean, ridges, places, low, colour)
    at_one: list[Any] = [
        ax.axhline(base if np.isfinite(base) else np.nan, color="0.35", linestyle="--", linewidth=1)
    ]
    if base_error > 0:
        ends = base - base_error, base + base_error
        at_one.append(ax.axhspan(*ends, color="0.5", alpha=0.13, linewidth=0, zorder=0))
    entries[f"gains of one: {_with_error(base, base_error, F)}"] = tuple(at_one)
    entries |= _signs(ax, cv, hidden, F * K * M)
    apart = "\n" if is_narrow(ax.figure) else " "
    scale.apply(ax, cv.relative, f"{apart}(larger: gains closer to 1)")
    ax.set_ylim(low, high)
    ax.set_ylabel("R² of held-out conditions" + (f"\nmean of {F} folds ± standard error" if F > 1 else ""),
                  fontsize=9)  # fmt: skip
    finish(ax)
    legend_above(ax, 2, letters=_LINE, handles=list(entries.values()), labels=list(entries))
    return ax


def ridge_path(
    path: RidgePath | Mapping[str, RidgePath], *, axes: Sequence[Axes] | None = None
) -> NDArray[Any]:
    """Draw the exact loss, and the range of the gains, along the ridges of one path or several.

    The loss includes the ridge term and is relative to that at gains of one, so that above 1 a fit is
    worse than none. The gains are shown by their median and the band with 90 % of them. Vertical
    ranges are those of the first path with room around it; losses beyond it, as of linear fits at small
    ridges, are marked at the edge and counted in the legend.

    Parameters
    ----------
    path : RidgePath, or mapping of name to RidgePath
        Of one target each.
    axes : two matplotlib Axes, optional
        Where to draw; by default a new Figure with a title, which belongs to nobody: ``axes[0].figure``.

    Returns
    -------
    ndarray of two Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If `path` is empty, holds something else or fits of several targets, or there are not two axes.
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
    bands = {name: np.quantile(each.gains, _QUANTILES, axis=1) for name, each in named.items()}
    low, high = _gain_range(next(iter(bands.values())), len(named))
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
        _at_edge(losses, places[above] * scale.aside(k, len(named), 0.03), top, CARET_UP, colour)
        lower, median, upper = (_within(row[order], low, high) for row in bands[name])
        spread.fill_between(places, lower, upper, color=colour, alpha=0.12, linewidth=0, zorder=2)
        for edge in (lower, upper):
            style: dict[str, Any] = {"marker": "_" if len(places) == 1 else None}  # one point makes no line
            spread.plot(places, edge, color=colour, linewidth=1, zorder=3 - 0.1 * k, **style)
        spread.plot(
            places, median, color=colour, marker=marker, markersize=4, linewidth=2, zorder=4 - 0.1 * k,
        )  # fmt: skip
    losses.axhline(1.0, color="0.35", linewidth=1, linestyle="--", zorder=1, label="gains of one")
    spread.axhline(1.0, color="0.35", linewidth=1, linestyle="--", zorder=1)
    if off_scale:
        losses.plot(
            [], [], linestyle="none", marker=CARET_UP, color="0.35", markeredgewidth=0, label="off the scale"
        )
    losses.set_ylim(0.0, top)
    losses.set_ylabel("exact loss / loss at gains of one", fontsize=9)
    spread.set_ylim(low, high)
    spread.set_ylabel("gains: median and middle 90 %", fontsize=9)
    for ax in axes:
        scale.apply(ax, relative)
        finish(ax)
    legend_above(losses, 3 if sum(map(len, named)) < _SHORT else 1)
    return np.array(axes, dtype=object)


def study(cv: CrossValidation, path: RidgePath | Mapping[str, RidgePath]) -> Figure:
    """Figure of R² on held-out conditions, above the loss and the gains along the ridges.

    Parameters
    ----------
    cv
        As for `cross_validation`.
    path
        As for `ridge_path`.

    Returns
    -------
    Figure
        9 x 8 inches, in no window: ``savefig`` it, or leave it as the last line of a notebook cell.

    Raises
    ------
    ImportError, TypeError, ValueError
        As for `cross_validation` and `ridge_path`.
    """
    figure = new_figure(9.0, 8.0)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.2, 1.0))
    cross_validation(cv, ax=figure.add_subplot(grid[0, :]))
    ridge_path(path, axes=[figure.add_subplot(grid[1, i]) for i in range(2)])
    figure.suptitle(_cv_title(cv), fontsize=10)
    return figure


def _cv_title(cv: CrossValidation) -> str:
    N, D = cv.stats["shape"]
    repeats = f" ({cv.repeats} repeats)" if cv.repeats > 1 else ""
    folds = f"{len(cv.folds)} fold{'s' * (len(cv.folds) > 1)}"
    return f"Prediction of conditions that were held out: {N} channels, {D} conditions, {folds}{repeats}"


def _with_error(mean: float, error: float, n_folds: int) -> str:
    if not np.isfinite(mean):
        return "R² is not finite"
    return number(mean) + (f" ± {number(error)}" if n_folds > 1 else "")


def _ridge_name(cv: CrossValidation) -> str:
    return "λ/λ_max" if cv.relative else "λ"


def _cv_label(cv: CrossValidation, name: str, mean: Array, error: Array, below: NDArray[Any]) -> str:
    if not np.isfinite(mean).any():
        return f"{name}: R² is not finite"
    best = int(np.nanargmax(np.where(np.isfinite(mean), mean, np.nan)))
    ridge = np.sort(cv.ridges)[best]
    text = f"{name}: {_with_error(mean[best], error[best], len(cv.folds))} at {_ridge_name(cv)} = {ridge:.3g}"
    return text + (f", {below.sum()} of {len(mean)} below the scale" if below.any() else "")


def _finite(values: Array) -> list[float]:
    kept: list[float] = values[np.isfinite(values)].tolist()
    return kept


def _r2_range(
    cv: CrossValidation, summaries: Mapping[str, Sequence[Array]], base: float, base_error: float
) -> tuple[float, float]:
    """Vertical range of what predicts something: gains of one, and each method at its best."""
    least, bests, greatest = [0.0], [], [0.0]
    for name, (mean, error) in summaries.items():
        greatest += _finite(cv.scores[name].r2)
        if np.isfinite(mean).any():
            best = int(np.nanargmax(np.where(np.isfinite(mean), mean, np.nan)))
            bests.append((mean[best], mean[best] - np.nan_to_num(error[best])))
    if bests:  # the best of all at least, however bad
        least += [below for best, below in bests if best > _WILD or best == max(bests)[0]]
    if np.isfinite(base):
        least.append(base - np.nan_to_num(base_error))
        greatest.append(base)
    low, high = min(least), max(greatest)
    high = min(1.0, high) if high > low else low + 1.0
    return low - 0.25 * (high - low), high + 0.04 * (high - low)


def _within(values: Array, low: float, high: float) -> Array:
    """Values no further beyond the range than can be drawn."""
    far = 1e4 * (high - low)
    return np.clip(values, low - far, high + far)


def _at_edge(ax: Axes, places: Array, edge: float, caret: int, colour: str) -> None:
    if len(places):
        ax.plot(
            places, np.full(len(places), edge), linestyle="none", marker=caret, markersize=7, color=colour,
            markeredgewidth=0, clip_on=False, zorder=5,
        )  # fmt: skip


def _draw_shuffled(
    ax: Axes, r2: Array | None, order: NDArray[Any], places: Array, colour: str, low: float, high: float
) -> None:
    """Means over folds of each shuffle: their mean and their range."""
    if r2 is None:
        return
    means = _within(r2.mean(axis=1)[:, order], low, high)
    ax.plot(places, means.mean(axis=0), color=colour, linewidth=1.4, linestyle=":", zorder=2)
    if len(means) > 1:
        ax.fill_between(
            places, means.min(axis=0), means.max(axis=0), color=colour, alpha=0.12, linewidth=0, zorder=1
        )


_RING: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "none", "zorder": 6}
_SIGNS = {"best": ("o", 12), "one-se": ("D", 10)}


def _mark_choices(
    ax: Axes,
    cv: CrossValidation,
    name: str,
    mean: Array,
    ridges: Array,
    places: Array,
    low: float,
    colour: str,
) -> None:
    if not np.isfinite(mean).any():
        return
    for choice, (marker, size) in _SIGNS.items():
        k = int(np.flatnonzero(ridges == cv.choices(choice)[name])[0])
        if mean[k] >= low:
            ax.plot(places[k : k + 1], mean[k : k + 1], marker=marker, markersize=size, color=colour, **_RING)


def _signs(ax: Axes, cv: CrossValidation, hidden: int, total: int) -> dict[str, Any]:
    """Legend entries of what stands for the same thing in all methods."""
    below = f" ({hidden} of {total} values below the scale)" if hidden else ""
    signs: list[tuple[str, dict[str, Any]]] = [
        ("best ridge", {"marker": "o", "markersize": 9, "color": "0.1", **_RING}),
        (
            "largest ridge within one standard error",
            {"marker": "D", "markersize": 7, "color": "0.1", **_RING},
        ),
        (f"single folds{below}", {"color": "0.5", "linewidth": 0.7}),
    ]
    shuffled = next(iter(cv.scores.values())).r2_shuffled
    if shuffled is not None:
        times = "once" if len(shuffled) == 1 else f"{len(shuffled)} times, mean and range"
        signs.append((f"conditions of Y shuffled {times}", {"color": "0.3", "linestyle": ":"}))
    drawn = signs if len(cv.folds) > 1 else signs[:1] + signs[3:]
    return {label: ax.plot([], [], **style)[0] for label, style in drawn}


def _paths(path: Any) -> dict[str, RidgePath]:
    """Paths by name: at least one, with at least one ridge, of one target."""
    name = path[0].method if isinstance(path, RidgePath) and len(path) else ""
    named = by_name("path", path, RidgePath, name, "what fastcov.ridge_path returns")
    for name, each in named.items():
        if each.delta.ndim != 2:
            raise ValueError(
                f"Argument 'path[{name!r}]' must be a path to one target, not to {each.delta.shape[1]}: fit "
                "them one by one."
            )
    return named


def _shares(path: RidgePath) -> Array:
    """Loss over that at gains of one, which is 1 where both are zero."""
    loss, at_one = path.loss, path.loss_at_one
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(loss == at_one, 1.0, loss / at_one)


def _gain_range(band: Array, n: int) -> tuple[float, float]:
    low, high = min(1.0, float(band.min())), max(1.0, float(band.max()))
    room = (0.3 if n > 1 else 0.1) * (high - low) or 0.5
    return low - room, high + room
