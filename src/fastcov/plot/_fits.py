"""Draw a fit: covariances side by side, and the gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._inputs.validation import check_choice
from .._model.problem import Problem
from .._results.connectivity import Connectivity
from .._results.fit import Fit
from .._results.fit_text import ridge_text
from .._results.mixed import Mixed
from .._results.nouns import nouns_of
from ._matrices import ORDERS, clustered, draw_matrices, names_of, shown_limit
from ._style import (
    CARET_DOWN,
    CARET_UP,
    by_name,
    finish,
    legend_above,
    look,
    new_figure,
    r2_text,
    require_matplotlib,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


def covariances(
    X: ArrayLike,
    S: ArrayLike,
    fit: Fit | Connectivity | Mixed,
    *,
    axes: Sequence[Axes] | None = None,
    labels: Sequence[Any] | None = None,
    order: str = "input",
) -> NDArray[Any]:
    """Draw the covariance of the input, the target, and the fitted covariance side by side.

    All three have the conditions in the same order and the same colour scale, symmetric about zero. It
    spans 99 % of the entries of input and target; entries beyond it have the colour of its end, and
    the colour bar says how many there are. Titles give R² = 1 − ‖C − S‖²_F / ‖S‖²_F against the target.

    Parameters
    ----------
    X : array_like, shape (N, D)
        The responses that were fitted.
    S : array_like, shape (D, D)
        The target covariance that was fitted.
    fit : Fit, Connectivity or Mixed
        The fit of one target.
    axes : three matplotlib Axes, optional
        Where to draw; by default in a new Figure outside pyplot, which is ``axes[0].figure``.
    labels : sequence of D str, optional
        Names of the conditions, written beside the first panel, as many as there is room for; by default
        those of the fit, if it has any.
    order : {"input", "cluster"}
        ``"cluster"`` puts conditions with similar columns of S next to each other (average linkage on
        correlation distance, optimally ordered leaves), so that groups show as blocks.

    Returns
    -------
    ndarray of three Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If X, S and the fit do not belong together, or there are not three axes or D labels.

    Notes
    -----
    ND² flops for the covariance of X, and D² log D for ``order="cluster"``.
    """
    require_matplotlib()
    given, target = _checked(X, S, fit)
    return draw_covariances(given, target, fit, axes=axes, labels=labels, order=order)


def draw_covariances(
    given: Array,
    target: Array,
    fit: Fit | Connectivity | Mixed,
    *,
    axes: Sequence[Axes] | None = None,
    labels: Sequence[Any] | None = None,
    order: str = "input",
) -> NDArray[Any]:
    """Draw the same as `covariances`, from the covariance of the input and the target themselves."""
    check_choice("order", order, ORDERS)
    D = len(target)
    labels = names_of(fit, labels)
    if axes is None:
        axes = list(new_figure(9.0, 3.4).subplots(1, 3))
    if len(axes) != 3:
        raise ValueError(f"Argument 'axes' must be three Axes, not {len(axes)}: use subplots(1, 3).")

    fitted, nouns = fit.covariance(), nouns_of(fit.method)
    limit = shown_limit(given, target)
    places = clustered(target) if order == "cluster" else np.arange(D)
    panels = (
        (given, f"Input\n{nouns.with_one}: {r2_text(_r2(given, target))}"),
        (target, f"Target\nwhat {nouns.short} should give"),
        (fitted, f"Fitted\n{fit.method} {nouns.kind}: {r2_text(fit.r2)}"),
    )
    draw_matrices(
        axes, [matrix[np.ix_(places, places)] for matrix, _ in panels], [title for _, title in panels],
        limit=limit, order=order, names=None if labels is None else [str(labels[i]) for i in places],
        what="covariance (units of X squared)",
    )  # fmt: skip
    return np.array(axes, dtype=object)


def gains(fits: Fit | Mapping[str, Fit], *, ax: Axes | None = None) -> Axes:
    """Draw the gain of each channel, sorted by the first fit, and other fits at the same channels.

    The vertical range is that of the first fit, with some room around it. Gains of other fits beyond it,
    of which a diagonal fit may have thousands, are marked at the edge and counted in the legend.

    Parameters
    ----------
    fits : Fit, or mapping of name to Fit
        Fits of one target to the same channels; the first one determines the order.
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
        If `fits` is empty or contains anything but fits of gains, or if the fits differ in their channels.
    """
    named = _named(fits)
    if ax is None:
        ax = new_figure(9.0, 3.0).subplots()
    leader, first = next(iter(named.items()))
    sorting = np.argsort(first.delta, kind="stable")
    low, high = min(1.0, first.gains.min()), max(1.0, first.gains.max())
    room = (0.4 if len(named) > 1 else 0.1) * (high - low) or 0.5
    low, high = low - room, high + room
    N = len(sorting)
    channels = np.arange(1, N + 1)
    size = float(np.clip(60.0 / np.sqrt(N), 1.5, 5.0))
    for k, (name, fit) in enumerate(named.items()):
        values = fit.gains[sorting]
        above, below = values > high, values < low
        inside, outside = ~(above | below), int(np.count_nonzero(above | below))
        label = f"{name}: {r2_text(fit.r2)}" + (f", {outside} of {N} off the scale" if outside else "")
        colour, marker = look(k)
        style: dict[str, Any] = {"color": colour, "markeredgewidth": 0}
        style |= {"linestyle": "none", "clip_on": False, "zorder": 3 - 0.1 * k}  # the first on top
        ax.plot(channels[inside], values[inside], marker=marker, markersize=size, label=label, **style)
        for beyond, edge, caret in ((above, high, CARET_UP), (below, low, CARET_DOWN)):  # tips at the edge
            if beyond.any():
                at_edge = np.full(np.count_nonzero(beyond), edge)
                ax.plot(channels[beyond], at_edge, marker=caret, markersize=size + 2, **style)
    ax.axhline(1.0, color="0.35", linewidth=1, linestyle="--", zorder=1, label="gain 1: unchanged")
    ax.set_xlim(1 - 0.01 * N, 1.01 * N)
    ax.set_ylim(low, high)
    ax.set_xlabel(f"channel, in order of its {leader} gain", fontsize=9)
    ax.set_ylabel("gain (output / input)", fontsize=9)
    finish(ax)
    legend_above(ax, 2 if len(named) > 2 else 3, markerscale=6 / size)
    return ax


def summary(
    X: ArrayLike,
    S: ArrayLike,
    fits: Fit | Mapping[str, Fit],
    *,
    labels: Sequence[str] | None = None,
    order: str = "input",
) -> Figure:
    """Draw a figure of the covariances of the first fit, above the gains of all fits.

    Parameters
    ----------
    X, S, labels, order
        As for `covariances`.
    fits
        As for `gains`.

    Returns
    -------
    Figure
        9 x 6 inches, in no window: call its ``savefig``, or make it the last line of a notebook cell.

    Raises
    ------
    ImportError, TypeError, ValueError
        As for `covariances` and `gains`.
    """
    named = _named(fits)
    figure = new_figure(9.0, 6.0)
    grid = figure.add_gridspec(2, 3, height_ratios=(1.25, 1.0))
    panels = [figure.add_subplot(grid[0, i]) for i in range(3)]
    covariances(X, S, next(iter(named.values())), axes=panels, labels=labels, order=order)
    gains(named, ax=figure.add_subplot(grid[1, :]))
    first = next(iter(named.values()))
    N, D = first.stats["shape"]
    ridge = (
        ridge_text(first.ridge, None, first.groups is not None)
        if np.ndim(first.ridge)
        else f"{first.ridge:.3g}"
    )
    if first.relative_ridge is not None and np.ndim(first.relative_ridge) == 0:
        ridge = f"{first.relative_ridge:g} of the largest eigenvalue"
    figure.suptitle(f"{N} channels, {D} conditions, ridge {ridge}", fontsize=10)
    return figure


def _named(fits: Any) -> dict[str, Fit]:
    """Return fits by name; raise unless there are any, each of one target and all of the same channels."""
    values = list(fits.values()) if isinstance(fits, Mapping) else [fits]
    if any(isinstance(value, Connectivity) for value in values):
        raise TypeError(
            "Argument 'fits' must be of gains, not a Connectivity, which has none: use plot.connectivity."
        )
    name = fits.method if isinstance(fits, Fit) else ""
    named = by_name("fits", fits, Fit, name, "{'linear': fit}")
    for name, fit in named.items():
        _require_one_target(f"fits[{name!r}]", fit)
    sizes = {name: len(fit.delta) for name, fit in named.items()}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} of {size}" for name, size in sizes.items())
        raise ValueError(f"Argument 'fits' must hold fits of the same channels, not {found}: fit the same X.")
    return named


def _require_one_target(name: str, fit: Any, kinds: tuple[type[Any], ...] = (Fit,)) -> None:
    if not isinstance(fit, kinds):
        raise TypeError(
            f"Argument '{name}' must be a Fit, not {type(fit).__name__}: pass what fastcov.fit returns."
        )
    if np.ndim(fit.r2):
        raise ValueError(
            f"Argument '{name}' must be a fit of one target, not of {len(fit.r2)}: fit them one by one."
        )


def _checked(X: ArrayLike, S: ArrayLike, fit: Fit | Connectivity | Mixed) -> tuple[Array, Array]:
    """Return the covariance of X, and S, in the caller's units; raise if they do not belong to the fit."""
    _require_one_target("fit", fit, (Fit, Connectivity, Mixed))
    problem = Problem.of(X, center=fit.stats["center"])
    if problem.shape != fit.stats["shape"]:
        raise ValueError(
            f"Argument 'X' must be the {fit.stats['shape']} responses that were fitted, not {problem.shape}."
        )
    target = problem.target(S)
    if len(target) != 1:
        raise ValueError(f"Argument 'S' must be one target, not {len(target)}: draw them one by one.")
    return problem.unscaled(problem.covariance(), y=2), problem.unscaled(target[0], y=2)


def _r2(C: Array, S: Array) -> float:
    size = np.square(S).sum()
    return float(1.0 - np.square(C - S).sum() / size) if size > 0 else float("nan")
