"""Draw matrices over pairs of conditions side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._style import is_narrow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .._results.connectivity import Connectivity
    from .._results.fit import Fit
    from .._results.mixed import Mixed

Array = NDArray[np.float64]

ORDERS = ("input", "cluster")

# A map from red to blue, both dark at the ends, and white at zero: no colour vision deficiency confuses them.
_COLOUR_MAP = "RdBu_r"
# Share of entries within the colour scale: the few largest variances, or the entries of a wild fit, would
# otherwise leave everything else white.
_SHOWN = 0.99
# Font size of condition names, and the room that each needs so that they do not touch, both in points.
_LABEL_SIZE, _LABEL_ROOM = 6.0, 7.5
# How often to choose the names that fit the room, because names change the room.
_TRIES = 2


def names_of(fit: Fit | Connectivity | Mixed, labels: Sequence[Any] | None) -> Sequence[Any] | None:
    """Return the names of the conditions: the labels if given, else those of the fit."""
    D = fit.stats["shape"][1]
    if labels is not None and len(labels) != D:
        raise ValueError(
            f"Argument 'labels' must name the {D} conditions, not {len(labels)}: pass one for each."
        )
    return fit.conditions if labels is None else labels


def draw_matrices(
    axes: Sequence[Axes],
    matrices: Sequence[Array],
    titles: Sequence[str],
    *,
    limit: float,
    order: str,
    names: list[str] | None,
    what: str,
    size: float = 10.0,
) -> None:
    """Draw matrices, already in order, in one colour scale from -limit to limit, labelled `what`."""
    from matplotlib.ticker import MaxNLocator

    for axis, matrix, title in zip(axes, matrices, titles, strict=True):
        image = axis.imshow(matrix, cmap=_COLOUR_MAP, vmin=-limit, vmax=limit, interpolation="nearest")
        axis.set_title(title, fontsize=size)
        # Rows and columns are the same, so the labels of one axis of one panel are enough.
        # If conditions are clustered, numbers would count places, not conditions.
        numbered = axis is axes[0] and (order == "input" or names is not None)
        axis.tick_params(labelsize=8, bottom=False, labelbottom=False, left=numbered, labelleft=numbered)
    axes[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    label = "condition" + (", clustered" if order == "cluster" else "")
    axes[0].set_ylabel(label, fontsize=9)
    beyond = np.mean([np.mean(np.abs(matrix) > limit) for matrix in matrices])
    narrow = is_narrow(axes[0].figure)  # then the panels need the full width
    bar = axes[0].figure.colorbar(
        image, ax=list(axes), extend="both" if beyond else "neither", fraction=0.02, pad=0.015,
        location="bottom" if narrow else "right",
    )  # fmt: skip
    clipped = f"\n{beyond:.1%} of entries beyond the ends" if beyond else ""
    bar.set_label(what + clipped, fontsize=min(size, 9.0))
    bar.ax.tick_params(labelsize=8)
    if names is not None:
        _name_conditions(axes[0], names, label)


def shown_limit(*matrices: Array) -> float:
    """Return a limit on the magnitude of all but the few largest entries; 1 if all are zero."""
    sizes = np.abs(np.concatenate([matrix.ravel() for matrix in matrices]))
    return float(np.quantile(sizes, _SHOWN)) or float(sizes.max()) or 1.0


def clustered(S: Array) -> NDArray[np.intp]:
    """Return an order of the conditions that puts those with correlated columns of S together."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import pdist

    if len(S) < 3:
        return np.arange(len(S))
    with np.errstate(invalid="ignore", divide="ignore"):
        distances = pdist(S, "correlation")
    # A column without variance is uncorrelated with all others.
    distances = np.clip(np.nan_to_num(distances, nan=1.0), 0.0, 2.0)
    order: NDArray[np.intp] = leaves_list(linkage(distances, "average", optimal_ordering=True)).astype(
        np.intp
    )
    return order


def _name_conditions(axis: Axes, names: list[str], label: str) -> None:
    """Write names beside a panel; if there is no room for all, only every k-th, and the label says so."""
    for _ in range(_TRIES):  # names reduce the width of a panel, and therefore its height
        height = _height(axis)
        step = int(max(1, -(-len(names) * _LABEL_ROOM // height)))
        ticks = np.arange(0, len(names), step)
        axis.set_yticks(ticks, [names[i] for i in ticks], fontsize=_LABEL_SIZE)
        axis.set_ylabel(label if step == 1 else f"{label}\n(1 in {step} named)", fontsize=9)


def _height(axis: Axes) -> float:
    """Return the height of a panel in points, after laying out everything drawn so far."""
    root = axis.figure.figure
    engine = root.get_layout_engine()
    if engine is not None:
        engine.execute(root)
    axis.apply_aspect()
    return float(axis.get_window_extent().height / root.dpi * 72)
