"""Draw an explanation: which part of the error is corrected, and through which modes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._explaining.explanation import Explanation
from .._inputs.validation import check_choice, check_whole
from ._channels import contributions, overlaps
from ._matrices import ORDERS, clustered, draw_matrices, names_of, shown_limit
from ._style import COLOURS, checked, decimals, finish, is_narrow, legend_above, new_figure, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

# Shares of a mode that the right-hand axis of a spectrum labels, keyed by the most decades that it spans.
_SHARES = {
    1.5: (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99),
    16: (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999),
    np.inf: (0.01, 0.5, 0.99),
}
# Range, in decades, below which ticks at powers of ten alone are too few; and how many decades a ridge may
# lie beyond the spectrum.
_FEW_DECADES, _BEYOND = 1.5, 3
# Number of modes above which the first few would be crowded on a linear axis.
_FEW_MODES = 20
# Letters of a condition's name that fit in a wide and in a narrow figure.
_LETTERS = (24, 14)
# Number of modes side by side in a figure of their own.
_COLUMNS = 4
# Contributions of each sign that a waterfall names if it shares the figure.
_NAMED = 5


def spectrum(explanation: Explanation, *, ax: Axes | None = None) -> Axes:
    """Draw the spectrum σ² of the atoms, and how much of each mode the ridge lets the fit correct.

    The corrected share, or shrinkage, σ² / (σ² + λ), depends on σ² alone, so that one curve shows both: σ²
    over its largest value on the left-hand axis, and the shrinkage on the right-hand one. The shrinkage is
    one half where the curve crosses λ.

    Parameters
    ----------
    explanation : Explanation
    ax : matplotlib Axes, optional
        Where to draw; by default in a new Figure outside pyplot, which is ``ax.figure``.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError
        If `explanation` is not an Explanation.
    """
    checked(explanation)
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    if ax is None:
        ax = new_figure(6.0, 4.0).subplots()
    K = len(explanation.spectrum)
    if K == 0:
        return _say(ax, "No modes: no gain changes the covariance.")
    largest = explanation.spectrum[0]
    sizes, ridge = explanation.spectrum[:K] / largest, explanation.ridge / largest
    modes, most = np.arange(1, K + 1), explanation.shrinkage[:K] >= 0.5
    size = float(np.clip(60.0 / np.sqrt(K), 2.0, 6.0))
    ax.plot(modes, sizes, color=COLOURS[0], linewidth=0.8, zorder=2)
    for those, fill, words in ((most, COLOURS[0], "half or more"), (~most, "white", "less")):
        if those.any():
            ax.plot(
                modes[those], sizes[those], linestyle="none", marker="o", markersize=size, color=COLOURS[0],
                markerfacecolor=fill, markeredgewidth=0.8, zorder=3, clip_on=False,
                label=f"corrected by {words}: {_plural(int(those.sum()), 'mode')}",
            )  # fmt: skip
    low, high = sizes[-1], 1.0
    shown = low / 10**_BEYOND <= ridge <= high * 10**_BEYOND
    if shown:
        low, high = min(low, ridge), max(high, ridge)
    room = (high / low) ** 0.06 * 1.2
    low, high = low / room, high * room
    words = f"λ: {ridge:.3g} of the largest σ²" if ridge > 0 else "λ = 0: all modes are corrected in full"
    ax.plot(
        [], [], color=COLOURS[1], linestyle="--", linewidth=1.4 if shown else 0,
        label=words + ("" if shown or ridge == 0 else f", {'above' if ridge > 1 else 'below'} the picture"),
    )  # fmt: skip
    if shown:
        ax.axhline(ridge, color=COLOURS[1], linestyle="--", linewidth=1.4, zorder=1)
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    if np.log10(high / low) < _FEW_DECADES:
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    if K > _FEW_MODES:
        ax.set_xscale("log")
        ax.set_xlim(0.9, 1.1 * K)
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_xlim(0.5, K + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    n = min(explanation.fit.stats["shape"][0], _pairs(explanation))
    ax.set_xlabel("mode" if explanation.complete else f"mode: the first {K} of {n}", fontsize=9)
    ax.set_ylabel("σ² / largest", fontsize=9)
    finish(ax)
    _name_shares(ax, ridge, low, high)
    dof = f"{explanation.dof:.3g}" + ("" if explanation.complete else f" to {explanation.dof_upper:.3g}")
    legend_above(
        ax, 1, title=f"{dof} effective degrees of freedom", title_fontsize=9, alignment="left",
        markerscale=5 / size,
    )  # fmt: skip
    return ax


def _name_shares(ax: Axes, ridge: float, low: float, high: float) -> None:
    """Draw the right-hand axis, with the values of σ² / (σ² + λ)."""
    from matplotlib.ticker import NullLocator

    decades = np.log10(high / low)
    shares = np.array(next(shares for most, shares in _SHARES.items() if decades <= most))
    places = ridge * shares / (1.0 - shares)
    inside = (places > low) & (places < high)
    if not inside.any():
        return
    axis = ax.secondary_yaxis("right")
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_yticks(places[inside], [f"{share:.3g}%" for share in 100 * shares[inside]])
    axis.tick_params(labelsize=8)
    axis.set_ylabel("corrected: σ² / (σ² + λ)", fontsize=9)


def covariance_modes(
    explanation: Explanation,
    n: int = 4,
    *,
    axes: Sequence[Axes] | None = None,
    labels: Sequence[Any] | None = None,
    order: str = "input",
) -> NDArray[Any]:
    """Draw the first covariance modes as matrices: the changes of the covariance that gains make most easily.

    All matrices have the conditions in the same order and the same colour scale, symmetric about zero, which
    spans 99 % of their entries. The sign of a mode is arbitrary; here it is that of
    `Explanation.covariance_modes`. Titles say how much of the error along a mode the ridge lets the fit
    correct, and the mode's share in the reduction of the loss and in ‖δ‖².

    Parameters
    ----------
    explanation : Explanation
    n : int, default 4
        How many modes to draw, the largest σ² first; all, if there are fewer.
    axes : n matplotlib Axes, optional
        Where to draw; by default in a new Figure outside pyplot, which is ``axes[0].figure``.
    labels : sequence of D str, optional
        Names of the conditions, written beside the first panel, as many as there is room for. By default
        those of the explanation, if it has any.
    order : {"input", "cluster"}
        ``"cluster"`` puts conditions with similar columns of the target next to each other, as in
        `covariances`.

    Returns
    -------
    ndarray of n Axes
        Axes without a mode stay empty.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        If `explanation` is not an Explanation, or there are not n axes or D labels.
    """
    checked(explanation)
    check_whole("n", n, 1)
    check_choice("order", order, ORDERS)
    target = explanation.fit.target()
    D = len(target)
    labels = names_of(explanation.fit, labels)
    if axes is None:
        rows, columns = -(-n // _COLUMNS), min(n, _COLUMNS)
        figure = new_figure(0.8 + 1.4 * (labels is not None) + 2.0 * max(columns, 2), 2.9 * rows)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for empty in axes[n:]:
            empty.remove()
        axes = axes[:n]
    if len(axes) != n:
        raise ValueError(f"Argument 'axes' must be {n} Axes, not {len(axes)}: one for each mode.")
    K = min(n, len(explanation.spectrum))
    for axis in axes[K:]:
        axis.set_axis_off()
    if K == 0:
        _say(axes[0], "No modes: no gain\nchanges the covariance.")
        return np.array(axes, dtype=object)
    places = clustered(target) if order == "cluster" else np.arange(D)
    modes = explanation.covariance_modes(K)[:, places][:, :, places]
    shares = zip(explanation.shrinkage, explanation.loss_shares, explanation.delta_shares, strict=True)
    titles = [
        f"Mode {k + 1}\n{_percent(shrunk)} corrected\n{_percent(loss)} of loss removed\n"
        f"{_percent(delta)} of ‖δ‖²"
        for k, (shrunk, loss, delta) in enumerate(shares)
    ]
    letters = _LETTERS[is_narrow(axes[0].figure)]
    names = None if labels is None else [shorten(str(labels[i]), letters) for i in places]
    draw_matrices(
        axes[:K], list(modes), titles[:K], limit=shown_limit(modes), order=order, names=names,
        what="covariance mode, of norm one", size=8.0,
    )  # fmt: skip
    return np.array(axes, dtype=object)


def reachable(explanation: Explanation, *, ax: Axes | None = None) -> Axes:
    """Draw what becomes of the error at gains of one: corrected, left by the ridge, or out of reach of gains.

    One bar shows ‖e₀‖² = ‖S − C(1)‖²_F. All parts are computed to first order in the gains. If not all modes
    are known, the unreachable part is an upper bound, and the legend says so.

    Parameters
    ----------
    explanation : Explanation
    ax : matplotlib Axes, optional
        Where to draw; by default in a new Figure outside pyplot, which is ``ax.figure``.

    Returns
    -------
    Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError
        If `explanation` is not an Explanation.
    """
    checked(explanation)
    if ax is None:
        ax = new_figure(7.0, 2.0).subplots()
    total = explanation.total or 1.0
    left, unreachable = explanation.left_by_ridge / total, explanation.unreachable / total
    corrected = max(0.0, 1.0 - left - unreachable) if explanation.total > 0 else 0.0
    least, most = ("", "") if explanation.complete else ("at least ", "at most ")
    parts = (
        (corrected, COLOURS[0], 1.0, "corrected by the fit: "),
        (left, COLOURS[0], 0.35, f"reachable, but held back by the ridge: {least}"),
        (unreachable, COLOURS[1], 1.0, f"unreachable by any gains, to first order: {most}"),
    )
    start = 0.0
    for share, colour, alpha, words in parts:
        ax.barh(
            [0], [100 * share], left=100 * start, height=0.6, color=colour, alpha=alpha, linewidth=0,
            label=f"{words}{_percent(share)}",
        )  # fmt: skip
        start += share
    if explanation.total == 0:
        ax.text(50.0, 0.0, "no error at gains of one", ha="center", va="center", fontsize=9)
    ax.set_xlim(0.0, 100.0)
    ax.set_ylim(-0.4, 0.4)
    ax.set_yticks([])
    ax.set_xlabel("% of the squared error at gains of one, ‖e₀‖²", fontsize=9)
    finish(ax)
    ax.spines["left"].set_visible(False)
    legend_above(ax, 1)
    return ax


def explanation(explanation: Explanation, channel: Any = None, *, labels: Any = None) -> Figure:
    """Draw a figure that explains a linear fit: its error, modes and overlaps, and one channel's gain.

    Parameters
    ----------
    explanation : Explanation
    channel : name or int, optional
        The channel whose gain is decomposed; by default the one with the largest |δ|.
    labels
        As for `covariance_modes`.

    Returns
    -------
    Figure
        9 x 12.3 inches, in no window: call its ``savefig``, or make it the last line of a notebook cell.

    Raises
    ------
    ImportError, TypeError, ValueError
        As for `contributions` and `covariance_modes`.
    """
    checked(explanation)
    fit = explanation.fit
    if channel is None:
        channel = explanation.channels[int(np.argmax(np.abs(fit.delta)))]
    figure = new_figure(9.0, 12.3)
    # Lay out each row separately, so that long names of channels in one do not squeeze the others.
    rows = figure.subfigures(4, 1, squeeze=False, height_ratios=(1.7, 4.0, 3.4, 2.8)).flat
    top, middle, lower, bottom = rows
    reachable(explanation, ax=top.subplots())
    one, two = middle.subplots(1, 2, width_ratios=(1.0, 1.15))
    spectrum(explanation, ax=one)
    contributions(explanation, channel, _NAMED, ax=two)
    overlaps(explanation, axes=lower.subplots(1, 2))
    covariance_modes(explanation, _COLUMNS, axes=bottom.subplots(1, _COLUMNS), labels=labels, order="cluster")
    N, D = fit.stats["shape"]
    ridge = f"{fit.ridge:.3g}"
    if fit.relative_ridge is not None:
        ridge = f"{fit.relative_ridge:g} of the largest eigenvalue"
    worse = ": it overshoots" if fit.overshoots else ""
    figure.suptitle(
        f"Linear fit of {_plural(N, 'channel')}, {_plural(D, 'condition')}, ridge {ridge}\n"
        f"loss at gains of one {fit.loss_at_one:.3g}; of the fit "
        f"{explanation.linear_loss:.3g} to first order, {fit.loss:.3g} exactly{worse}",
        fontsize=10,
    )
    return figure


def _pairs(explanation: Explanation) -> int:
    D = explanation.fit.stats["shape"][1]
    return int(D * (D + 1) // 2)


def _say(ax: Axes, words: str) -> Axes:
    """Write words in place of a picture."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", fontsize=9)
    return ax


def _plural(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _percent(share: float) -> str:
    return decimals(100.0 * share, 1) + "%"
