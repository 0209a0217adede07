"""Describe a connectivity on a page: figures, tables, and the meaning of each number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._results.connectivity import Connectivity
from ..plot._connectivity import MODES, draw_modes, draw_scaling, draw_shares
from ..plot._style import is_narrow
from ._figures import covariances_picture
from ._sections import Picture, Row, Section, Table
from ._words import (
    GLOSSARY,
    STATUSES,
    data_row,
    nuisance_row,
    number,
    numbers,
    plural,
    score,
    shared_row,
    trace_row,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Modes and channels in tables, and conditions that are named for a mode.
_LISTED, _NAMED = 8, 3
# Shares below this are rounding.
_ROUNDING = 1e-10

METHODS = {
    "free": "The minimum of the exact loss over all connectivities. The loss is convex in the covariance: "
    "there is no lower one.",
    "free-linear": "The connectivity of the problem linearised at W = 0: it holds while W is small.",
    "symmetric": "A minimum of the exact loss over symmetric connectivities.",
    "psd": "A minimum of the exact loss over symmetric connectivities for which I + W turns no pattern "
    "around (it is positive semi-definite).",
}
_KEPT = ("Channel", "Condition", "Covariance", "Target", "Held out")
CONNECTED = (
    *(row for row in GLOSSARY if row.name in _KEPT[:2]),
    Row("Connectivity", "A matrix W over channels: every channel’s output is its own response plus a "
        "weighted sum of all responses, (I + W)X. With gains, W would be diagonal."),
    *(row for row in GLOSSARY if row.name in _KEPT[2:4]),
    Row("Loss", "L(W) = ½‖Xᵀ(I + W)ᵀ J (I + W)X − S‖² + ½λ‖W‖² for responses X, target S and ridge λ. J "
        "removes the mean over channels, or does nothing where that is kept."),
    Row("Mode of W", "A pair of patterns over channels, W = Σ σ u vᵀ: how far responses have the input "
        "pattern v decides how much of the output pattern u is added. σ says how strongly."),
    Row("Mode of X", "An eigenvector of X's covariance: a pattern over conditions that channels share. The "
        "first has the largest variance."),
    Row("Overshoot", "W goes further than the linearisation holds, and the exact loss ends above that at "
        "W = 0."),
    Row("Shrinkage", "The ridge draws W to 0. Rotations of the outputs among channels leave their covariance "
        "as it is, and the ridge takes the least of these connectivities: an entry of W is not a measurement "
        "of a synapse."),
    *(row for row in GLOSSARY if row.name in _KEPT[4:]),
)  # fmt: skip


def lead(found: Connectivity) -> str:
    """Say what was done, in a sentence for readers who are new to it."""
    N, D = found.stats["shape"]
    to = "a target" if found.phi.ndim == 2 else f"each of {plural(len(found.phi), 'target')}"
    return (
        f"A connectivity W among {plural(N, 'channel')} was fitted, so that the covariance of the outputs "
        f"(I + W)X over {plural(D, 'condition')} comes close to {to}."
    )


def tile(found: Connectivity) -> Row:
    share = found.modes().share
    first = f"the first mode is {100 * share[0]:.0f}\u00a0% of it; " if len(share) else ""
    return Row("Norm of W", number(found.norm()), f"{first}0 leaves X as it is")


def pictures(found: Connectivity) -> list[Picture]:
    """Return the pictures of the covariances, the modes of W, and what W makes of modes of X."""
    return [covariances_picture(found), *mode_pictures(found)]


def mode_pictures(found: Connectivity) -> list[Picture]:
    modes = found.modes()
    n = min(MODES, len(modes))
    first = f"{100 * modes.share[n - 1]:.0f} %" if n else "nothing"
    return [
        Picture(
            "The modes of W, and of X",
            "Two panels. The share of the squared norm of W of each mode, and of the first modes together: "
            f"the first {n} have {first}. And the variance of X, of the target and of the fit along each "
            "mode of X.",
            "Left: W is a sum of modes; the sooner the curve is at 100\u00a0%, the fewer patterns it takes "
            "to describe W. The curve of WᵀW is that of the correlations which W makes among its inputs, and "
            "among its outputs. Right: where the fit is below the dashed line W weakens a pattern that "
            "channels share, and above it W strengthens one. Modes of small variance stay as they are: there "
            "the ridge costs more than the error.",
            lambda figure: _values(figure, found),
            (3.0, 5.6),
        ),
        Picture(
            f"The first {plural(n, 'mode')} of W over conditions",
            f"For each of the first {plural(n, 'mode')} the response of every condition along the output "
            "pattern, before W, and what W adds to it, in the order of what it adds.",
            "A mode reads how far a condition drives its input pattern, and adds so much of its output "
            "pattern. Open dots are what was there before. Where both are on one side of 0 W strengthens the "
            "response, elsewhere it weakens or turns it.",
            lambda figure: draw_modes(figure, modes, MODES),
            (3.2, 8.0),
        ),
    ]  # fmt: skip


def _values(figure: Figure, found: Connectivity) -> None:
    axes = figure.subplots(*((2, 1) if is_narrow(figure) else (1, 2)))
    draw_shares(axes[0], found.modes())
    draw_scaling(axes[1], found.explain())


def tables(found: Connectivity) -> list[Section]:
    """Make the tables of modes, and of channels if the responses are at hand."""
    return [_modes(found), _scaling(found), *_channels(found)]


def _names(found: Connectivity) -> tuple[list[str], list[str]]:
    D = found.stats["shape"][1]
    if found.conditions is not None:
        return [str(name) for name in found.conditions], []
    return [str(d) for d in range(D)], ["Conditions are numbered by their column; the first is 0."]


def _modes(found: Connectivity) -> Section:
    modes, (names, notes) = found.modes(), _names(found)
    rows = []
    for k in range(min(_LISTED, len(modes))):
        driven = np.argsort(-np.abs(modes.inputs[k]), kind="stable")[:_NAMED]
        rows.append((
            str(k + 1), number(modes.singular_values[k]), f"{100 * modes.share[k]:.0f}\u00a0%",
            f"{100 * modes.share_of_correlations[k]:.0f}\u00a0%", ", ".join(names[d] for d in driven),
        ))  # fmt: skip
    shown = f"The first {len(rows)} of {plural(len(modes), 'mode')}"
    return Section(
        "Modes of W",
        tables=[Table(f"{shown}; shares add up", ("Mode", "σ", "Of W", "Of WᵀW", "Strongest inputs"), rows)],
        notes=["Of W: the share of ‖W‖² that this mode and those before it have. Of WᵀW: the same for the "
               "correlations that W makes. Strongest inputs: the conditions that drive the mode "
               "most.", *notes],
    )  # fmt: skip


def _scaling(found: Connectivity) -> Section:
    scaling = found.explain()
    total = float(scaling.variances.sum()) or 1.0
    rows = [
        (
            str(k + 1),
            *(f"{100 * values[k] / total:.2g}\u00a0%".replace("-", "−")
              for values in (scaling.variances, scaling.target, scaling.fitted)),
            score(scaling.scaled[k]) if np.isfinite(scaling.scaled[k]) else "–",
            f"{100 * scaling.left[k, k]:.2g}\u00a0%",
        )
        for k in range(min(_LISTED, len(scaling.variances)))
    ]  # fmt: skip
    head = ("Mode", "Of X", "Of the target", "Of the fit", "Scaled by", "Error left")
    return Section(
        "What W makes of the modes of X",
        tables=[Table("Variances along the modes of X, over the trace of X's covariance", head, rows)],
        notes=["Scaled by: variance of the fit over that of X. Error left: the share 1 / (1 + 4γ²/λ) of its "
               "error that the ridge leaves to a mode of variance γ, if W is small and X has no mean over "
               "channels."],
    )  # fmt: skip


def _channels(found: Connectivity) -> list[Section]:
    if found._kept is None or found._kept.get() is None:
        return []
    from .._results.frames import connectivity_table

    table = connectivity_table(found, found._problem(None))
    order = np.argsort(-table["row_norm"], kind="stable")[: 2 * _LISTED]
    rows = [
        (
            str(table["channel"][i]),
            *(number(table[name][i]) for name in ("diagonal", "row_norm", "column_norm")),
        )
        for i in order
    ]
    N = found.stats["shape"][0]
    shown = "All channels" if len(rows) == N else f"The first {len(rows)} of {N} channels"
    notes = [
        "Own: W_ii, what W does to a channel by itself, as a gain would. Receives: the norm of its row of W, "
        "how much all channels add to it. Gives: the norm of its column, how much it adds to all.",
        f"W_ii are {found.diagonal_share():.1%} of ‖W‖²: so much of W gains could make.",
    ]
    if found.channels is None:
        notes.append("Channels are numbered by their row in the responses; the first is 0.")
    head = ("Channel", "Own", "Receives", "Gives")
    caption = f"{shown}; those that receive most come first"
    return [Section("Channels that W changes most", tables=[Table(caption, head, rows)], notes=notes)]


def fit_rows(found: Connectivity) -> list[Row]:
    """Make the table of a connectivity, with the meaning of each number."""
    _, D = found.stats["shape"]
    stats, ridge = found.stats, numbers(found.ridge)
    if found.relative_ridge is not None:
        ridge += f" ({numbers(found.relative_ridge)} of the largest eigenvalue)"
    rows = [
        Row("Method", found.method, _method(found)),
        data_row(found),
        Row("Ridge λ", ridge, "What W pays for its squared entries. The larger, the nearer W stays to 0. In "
            "units of the responses to the fourth; the eigenvalue is that of the curvature at W = 0."),
        Row("Loss", f"{number(found.loss)}; {number(found.loss_at_one)} with W = 0",
            "Half the squared distance from covariance to target, over all pairs of conditions, and what the "
            "ridge adds. A fit that helps has the smaller one."),
        Row("R²", f"{score(found.r2)}; {score(stats['r2_at_one'])} with W = 0",
            "1 − ‖C − S‖² / ‖S‖² of the fitted covariance C and the target S: 1 is perfect, 0 no better than "
            "zeros, below 0 worse."),
        Row("Norm of W", number(found.norm()), "The root of the sum of its squared entries. The identity, "
            f"which leaves X as it is, would have {number(np.sqrt(stats['shape'][0]))}."),
        Row("Degrees of freedom", f"{found.degrees_of_freedom:.0f} of {D * (D + 1) // 2}", "How many numbers "
            "of the target the ridge lets W fit freely. Near the second a close fit is no achievement."),
        Row("Out of reach", f"{_percent(found.unreachable)} of the target", "The least distance that "
            "any connectivity leaves, over the norm of the target, if all pairs count."),
        trace_row(found, "of W"),
    ]  # fmt: skip
    if stats.get("pairs", "all") != "all":
        rows.append(Row("Pairs that count", stats["pairs"], "Loss and R² are of these pairs of conditions."))
    return [*rows, *shared_row(found), *nuisance_row(found, "W")]


def _method(found: Connectivity) -> str:
    """What the method finds; a free fit by another solver than Newton's need not be the only minimum."""
    if found.method == "free" and found.stats["solver"] != "Newton":
        return (
            "A minimum of the exact loss over all connectivities, reached from W = 0. With so few channels, "
            "or a condition to which all respond alike, there may be others."
        )
    return METHODS[found.method]


def _percent(share: float) -> str:
    """A share in percent, with rounding as 0."""
    return f"{100 * share:.2g}\u00a0%" if share > _ROUNDING else "0\u00a0%"


def certificate_rows(found: Connectivity) -> list[Row]:
    """Say how the fit ended, and what that does and does not mean."""
    steps = found.stats.get("iterations")
    after = f" after {plural(int(steps), 'step')}" if steps is not None else ""
    within = {
        "symmetric": " Its symmetric part, as W is.",
        "psd": " Without what would lead out of the allowed connectivities.",
    }.get(found.method, "")
    linear = found.method == "free-linear"
    loss = "linearised" if linear else "exact"
    says = f"W is a minimum of the {loss} loss, to within that gradient"
    elsewhere = "that the linearisation holds (compare the losses above)" if linear else (
        "that an entry of W is determined by the covariance alone"
    )  # fmt: skip
    return [
        Row("Status", found.status, STATUSES[found.status]),
        Row("Gradient", number(found.residual) + after, f"Norm of the gradient of the {loss} loss in W over "
            f"that at W = 0, computed apart from the solver: 0 is a perfect solution.{within}"),
        Row("It says", f"that {says}."),
        Row("It does not say", f"{elsewhere}, nor that W predicts conditions not fitted."),
    ]  # fmt: skip
