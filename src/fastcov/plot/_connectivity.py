"""Draw a connectivity: what it makes of the covariance, of modes of X, and its own modes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._results.connectivity import Connectivity
from .._results.connectivity_modes import Modes, Scaling
from .._results.fit_text import ridge_text
from ._fits import draw_covariances
from ._style import COLOURS, finish, is_narrow, new_figure, number, require_matplotlib, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

# Modes of W that are drawn one by one, and modes of either kind on an axis: further ones are small.
MODES, SHOWN = 3, 30
# Variances of modes below this share of the largest are rounding.
_ROUNDING = 1e-12
# Room on a logarithmic axis beyond what is drawn, as a factor.
_ROOM = 1.3
# Conditions that are all named, and letters of a name there, and where only the first and last are named.
_NAMED, _LETTERS, _LETTERS_OF_ENDS = 16, 12, 18
_GREY = "0.35"
_SIDES = "Where both are on one side of 0, W strengthens the response; elsewhere it weakens or turns it."


def connectivity(found: Connectivity, *, labels: Sequence[Any] | None = None, order: str = "input") -> Figure:
    """Draw a connectivity W of one target on one page, without the responses.

    At the top are the covariance of X, the target and the fit side by side, as `covariances` draws them. In
    the middle: the share of ‖W‖² that each mode of W has, and the variance of X, of the target and of the fit
    along each eigenvector of X's covariance (`Connectivity.explain`). At the bottom the first three modes of
    W, as `modes` draws them.

    Parameters
    ----------
    found : Connectivity
    labels, order
        As for `covariances`.

    Returns
    -------
    Figure
        9 x 9.2 inches, in no window: call its ``savefig``, or make it the last line of a notebook cell.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If `found` is no Connectivity of one target, or there are not D labels.
    """
    require_matplotlib()
    _require(found)
    figure = new_figure(9.0, 9.2)
    grid = figure.add_gridspec(3, 1, height_ratios=(1.25, 1.0, 1.2))
    top, middle, bottom = (figure.add_subfigure(grid[k]) for k in range(3))
    draw_covariances(
        found.covariance_at_one(), found.target(), found, axes=list(top.subplots(1, 3)), labels=labels,
        order=order,
    )  # fmt: skip
    shares, variances = middle.subplots(1, 2)
    draw_shares(shares, found.modes())
    draw_scaling(variances, found.explain())
    draw_modes(bottom, found.modes(), MODES, labels)
    N, D = found.stats["shape"]
    figure.suptitle(
        f"A connectivity W turns responses X into (I + W)X: {N} channels, {D} conditions\n"
        f"{found.method}, ridge {ridge_text(found.ridge, found.relative_ridge)}, R² "
        f"{number(found.stats['r2_at_one'])} at W = 0, {number(found.r2)} fitted",
        fontsize=10,
    )
    return figure


def modes(
    found: Connectivity, n_modes: int | None = None, *, labels: Sequence[Any] | None = None
) -> NDArray[Any]:
    """Draw the first modes of W as patterns over conditions: what is there, and what W adds.

    W = Σ_k σ_k u_k v_kᵀ. Along the output pattern u_k over channels, a panel shows for each condition the
    response u_kᵀX̃ before W, and the response σ_k v_kᵀX that W adds to it. Conditions are in the order of what
    is added. Where both have the same sign, W strengthens the response, and otherwise weakens it.

    Parameters
    ----------
    found : Connectivity
        Of one target.
    n_modes : int, optional
        How many modes; by default three, or fewer if W has fewer.
    labels : sequence of D str, optional
        Names of the conditions; by default those of the fit, if it has any.

    Returns
    -------
    ndarray of Axes, one a mode
        In a new Figure outside pyplot, which is ``axes[0].figure``.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If `found` is no Connectivity of one target, or there are not D labels or so many modes.
    """
    require_matplotlib()
    _require(found)
    some = found.modes(n_modes)
    n = min(len(some), MODES if n_modes is None else n_modes)
    return draw_modes(new_figure(max(4.5, 3.0 * n), 3.2), some, n, labels)


def draw_modes(figure: Any, found: Modes, n_modes: int, labels: Sequence[Any] | None = None) -> NDArray[Any]:
    """Draw the first modes side by side, or in a narrow figure one above the other."""
    n, D = max(1, min(n_modes, len(found))), found.inputs.shape[1]
    names = found.conditions if labels is None else labels
    if names is not None and len(names) != D:
        raise ValueError(
            f"Argument 'labels' must name the {D} conditions, not {len(names)}: pass one for each."
        )
    shape = (n, 1) if is_narrow(figure) else (1, n)
    axes = np.atleast_1d(figure.subplots(*shape)).ravel()
    if not len(found):
        _say(axes[0], "W is zero:\nit has no modes")
        return axes
    for k, ax in enumerate(axes):
        _draw_mode(ax, found, k, names)
    handles, texts = axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle(
        textwrap.fill(_SIDES, 52) if is_narrow(figure) else _SIDES, fontsize=8.5, color=_GREY,
    )  # fmt: skip
    for ax in axes if shape[1] == 1 else axes[:1]:
        ax.set_ylabel("response along the\noutput pattern (units of X)", fontsize=8.5)
    return axes


def _draw_mode(ax: Axes, found: Modes, k: int, names: Sequence[Any] | None) -> None:
    added, before = found.singular_values[k] * found.inputs[k], found.outputs[k]
    if added[np.abs(added).argmax()] < 0:  # the sign of a mode is arbitrary: the largest addition is positive
        added, before = -added, -before
    order = np.argsort(-added, kind="stable")
    places = np.arange(len(order))
    size = float(np.clip(60.0 / np.sqrt(len(order)), 2.0, 5.0))
    style: dict[str, Any] = {"linestyle": "none", "markersize": size, "clip_on": False}
    ax.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    ax.vlines(places, 0.0, added[order], color=COLOURS[0], linewidth=1.0, alpha=0.5, zorder=1)
    ax.plot(
        places, before[order], marker="o", markerfacecolor="none", color=_GREY, label="before W", zorder=2,
        **style,
    )  # fmt: skip
    ax.plot(
        places, added[order], marker="o", color=COLOURS[0], markeredgewidth=0, label="added by W", zorder=3,
        **style,
    )  # fmt: skip
    before_that = found.share[k - 1] if k else 0.0
    ax.set_title(f"Mode {k + 1}: {100 * (found.share[k] - before_that):.2g} % of W", fontsize=9)
    ax.set_xlabel("condition, in order of what W adds", fontsize=8.5)
    finish(ax)
    _name(ax, order, names)


def _name(ax: Axes, order: NDArray[np.intp], names: Sequence[Any] | None) -> None:
    """Name all conditions if there are few, else the first and the last."""
    D = len(order)
    letters = _LETTERS if D <= _NAMED else _LETTERS_OF_ENDS
    texts = [str(i) if names is None else shorten(str(names[i]), letters) for i in order]
    if D <= _NAMED:
        turned = 0 if all(len(text) <= 2 for text in texts) else 90
        ax.set_xticks(np.arange(D), texts, fontsize=7, rotation=turned)
        return
    ax.set_xticks([0, D - 1], [texts[0], texts[-1]], fontsize=7)
    first, last = ax.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def draw_shares(ax: Axes, found: Modes) -> None:
    """Draw the share of ‖W‖² of each mode, and of the first modes together."""
    finish(ax)
    ax.set_title("How much of W its modes are", fontsize=9)
    if not len(found):
        _say(ax, "W is zero:\nit has no modes")
        return
    n = min(len(found), SHOWN)
    places, share = np.arange(1, n + 1), 100 * found.share[:n]
    single = np.diff(share, prepend=0.0)
    ax.bar(places, single, color=COLOURS[0], alpha=0.5, width=0.8, label="each mode, σ² / ‖W‖²")
    ax.plot(places, share, color=COLOURS[0], marker="o", markersize=3.5, label="the first modes together")
    ax.plot(
        places, 100 * found.share_of_correlations[:n], color=COLOURS[1], marker="s", markersize=3,
        label="the same of WᵀW",
    )  # fmt: skip
    ax.set_ylim(0, 105)
    ax.set_ylabel("share, %", fontsize=8.5)
    ax.set_xlabel("mode of W, largest first" + _of(n, len(found)), fontsize=8.5)
    ax.legend(loc="center right", fontsize=7.5, frameon=False)
    _whole(ax)


def draw_scaling(ax: Axes, found: Scaling) -> None:
    """Draw the variance of X, of the target and of the fit along each eigenvector of X's covariance."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    finish(ax)
    ax.set_title("Variance along the modes of X, before and after", fontsize=9)
    total = float(found.variances.sum())
    if not total > 0:
        _say(ax, "X does not vary")
        return
    known = int(np.count_nonzero(found.variances > _ROUNDING * found.variances[0]))
    n = min(known, SHOWN)
    places, drawn = np.arange(1, n + 1), []
    for values, label, style in (
        (found.variances, "X", {"color": _GREY, "linestyle": "--", "linewidth": 1.2}),
        (found.target, "target", {"color": COLOURS[1], "linestyle": "none", "marker": "s", "markersize": 4.5,
                                  "markerfacecolor": "none"}),
        (found.fitted, "fit", {"color": COLOURS[0], "marker": "o", "markersize": 3.5, "linewidth": 1.2}),
    ):  # fmt: skip
        shown = np.where(values[:n] > 0, 100 * values[:n] / total, np.nan)  # a target may be indefinite
        ax.plot(places, shown, label=label, **style)  # type: ignore[arg-type]
        drawn.append(shown[np.isfinite(shown)])
    shown_values = np.concatenate(drawn)
    ax.set_ylim(shown_values.min() / _ROOM, shown_values.max() * _ROOM)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel("share of X's variance, %", fontsize=8.5)
    ax.set_xlabel("mode of X's covariance, largest first" + _of(n, known), fontsize=8.5)
    ax.legend(loc="upper right", fontsize=7.5, frameon=False)
    _whole(ax)


def _of(shown: int, total: int) -> str:
    return "" if shown == total else f" ({shown} of {total})"


def _whole(ax: Axes) -> None:
    """Ticks at whole numbers."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _say(ax: Axes, text: str) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize=9)


def _require(found: Any) -> None:
    if not isinstance(found, Connectivity):
        raise TypeError(
            f"Argument 'found' must be a Connectivity, not {type(found).__name__}: pass what "
            "fastcov.fit(method='free') returns."
        )
    if found.phi.ndim != 2:
        raise ValueError(
            f"Argument 'found' must be a connectivity of one target, not of {len(found.phi)}: use "
            "found.select(0)."
        )
