"""Put the numbers of a fit into words for readers of a report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._results.connectivity import Connectivity
from .._results.fit import Fit
from .._results.fit_text import groups_text
from .._results.nouns import nouns_of
from ._sections import Row

# Number of digits that a reader takes in at once, and the range of magnitudes that are written without a
# power of ten.
_DIGITS, _SMALLEST, _LARGEST = 3, 1e-3, 1e6
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

METHODS = {
    "linear": "The gains of the problem linearised at gains of one: they explain, and hold while gains stay "
    "near one.",
    "line-search": "The direction of the linear fit, with the length at which the exact loss is least.",
    "exact": "A minimum of the exact loss, reached from gains of one or from where the fit was begun. There "
    "may be others.",
    "diagonal": "Each gain by itself, as if channels were not correlated. A baseline: with correlated "
    "channels all correct the same error, and overshoot together.",
}
STATUSES = {
    "converged": "The solver reached what it was asked for, or what rounding allows.",
    "minimum-norm": "The ridge is zero or too small to count: of all gains that solve the linear problem "
    "these are the nearest to one.",
    "approximate": "The diagonal fit does not solve the linear system; the residual is what it ignores.",
    "max-iterations": "The iterations ended before the tolerance was reached.",
    "stagnated": "Rounding kept the solver from coming closer.",
    "breakdown": "Numbers went beyond the precision there is.",
    "inaccurate": "The residual is larger than the tolerance or rounding explain.",
}


def number(value: Any) -> str:
    """Write a number with three digits, large ones in full or with a power of ten, and a true minus sign."""
    value = float(value)
    if not math.isfinite(value):
        return "not defined" if math.isnan(value) else "∞" if value > 0 else "−∞"
    size = abs(value)
    if 10**_DIGITS <= size < _LARGEST:
        text = f"{value:.0f}"
    elif _SMALLEST <= size < _LARGEST or size == 0:
        text = f"{value:.{_DIGITS}g}"
    else:
        mantissa, _, power = f"{value:.{_DIGITS - 1}e}".partition("e")
        text = f"{mantissa} × 10{str(int(power)).translate(_SUPERSCRIPTS)}"
    return text.replace("-", "−")


def score(value: Any) -> str:
    """Write R² with two decimals, unless it is too large for them to be informative."""
    return f"{value:.2f}".replace("-", "−") if abs(value) < 100 else number(value)


def share(fit: Fit | Connectivity) -> str:
    """Write the loss as a share of that at gains of one or W = 0, or the loss itself if that is zero."""
    if not fit.loss_at_one > 0:
        return number(fit.loss)
    ratio = fit.loss / fit.loss_at_one
    if ratio < 2:
        return f"{f'{100 * ratio:.0f}' if ratio > 0.1 else number(100 * ratio)}\u00a0%"
    return f"{number(ratio)} times"


def decimals(value: Any) -> str:
    """Write a gain with three decimals, for a column of a table."""
    return f"{value:.3f}".replace("-", "−") if abs(value) < 100 else number(value)


def span(gains: np.ndarray[Any, Any]) -> str:
    return f"{score(gains.min())} to {score(gains.max())}"


def lead(fit: Fit) -> str:
    """Say what was done, in a sentence for readers who are new to it."""
    N, D = fit.stats["shape"]
    to = "a target" if fit.delta.ndim == 1 else f"each of {plural(len(fit.delta), 'target')}"
    return (
        f"One gain was fitted to each of {plural(N, 'channel')}, so that the covariance of their responses "
        f"over {plural(D, 'condition')} comes close to {to}."
    )


def plural(count: int, word: str) -> str:
    return f"{count} {word}" + "s" * (count != 1)


def numbers(values: Any) -> str:
    """Write one number, or the range of several."""
    low, high = number(np.min(values)), number(np.max(values))
    return low if np.ndim(values) == 0 else f"{low} to {high}"


def _ridge_row(fit: Fit) -> Row:
    """Make the row of the ridge: one for all channels, one for each channel, or a matrix."""
    if np.ndim(fit.ridge) == 2:
        rows, columns = fit.ridge.shape
        return Row(
            "Penalty Γ", f"a matrix, {rows} × {columns}", "Gains pay half the squared norm of Γδ for leaving "
            "one by δ. Entries are in units of the responses squared.",
        )  # fmt: skip
    relative = ""
    if fit.relative_ridge is not None:
        relative = f" ({numbers(fit.relative_ridge)} of the largest eigenvalue of GᵀG)"
    of = "channel" if fit.groups is None else "group"
    each = f", one for each {of}" if np.ndim(fit.ridge) else ""
    return Row(
        "Ridge λ", numbers(fit.ridge) + relative + each, "What a gain pays for leaving one. The larger, the "
        "nearer it stays to one. In units of the responses to the fourth.",
    )  # fmt: skip


def data_row(fit: Fit | Connectivity) -> Row:
    N, D = fit.stats["shape"]
    centred = (
        "Their mean over channels is removed, condition by condition."
        if fit.stats["center"]
        else "Their mean over channels is kept."
    )
    return Row(
        "Data",
        f"{plural(N, 'channel')} × {plural(D, 'condition')}",
        f"Responses that were fitted. {centred}",
    )


def trace_row(fit: Fit | Connectivity, not_of: str) -> Row:
    return Row(
        "Trace of the target", f"{score(fit.stats['trace_ratio'])} times that of the input",
        "Total variance of the target over that of the input. Far from 1 it is a matter of units, not "
        f"{not_of}.",
    )  # fmt: skip


def nuisance_row(fit: Fit | Connectivity, what: str) -> list[Row]:
    """Make the row of the nuisance terms, which `what` need not explain; none without terms."""
    if not fit.nuisance:
        return []
    terms = ", ".join(f"{name} {number(value)}" for name, value in fit.nuisance.items())
    return [
        Row("Nuisance terms", terms, f"What of the target {what} need not explain: a value on the diagonal, "
            "as noise of each condition alone, or the same for all pairs. Loss and R² are with them; in "
            "units of the responses squared.")
    ]  # fmt: skip


def shared_row(fit: Fit | Connectivity) -> list[Row]:
    """Make the row of R² of each target, where several have one fit; none for a single target."""
    shared = fit.stats.get("shared")
    if not shared:
        return []
    nouns = nouns_of(fit.method)
    each = f"{span(shared['r2'])}; {span(shared['r2_at_one'])} with {nouns.with_one}"
    return [
        Row("R² of each target", each, f"Of {plural(len(shared['r2']), 'target')} with the same "
            f"{nouns.subject}. Everything else on this page is of their mean.")
    ]  # fmt: skip


def fit_rows(fit: Fit) -> list[Row]:
    """Make the table of a fit, with the meaning of each number."""
    N = fit.stats["shape"][0]
    gains, stats = fit.gains, fit.stats
    low, median, high = (score(q) for q in np.quantile(gains, [0.05, 0.5, 0.95]))
    rows = [
        Row("Method", fit.method, METHODS[fit.method]),
        data_row(fit),
        _ridge_row(fit),
        Row("Loss", f"{number(fit.loss)}; {number(fit.loss_at_one)} with all gains at one",
            "Half the squared distance from covariance to target, over all pairs of conditions, and what the "
            "ridge adds. A fit that helps has the smaller one."),
        Row("R²", f"{score(fit.r2)}; {score(stats['r2_at_one'])} with all gains at one",
            "1 − ‖C − S‖² / ‖S‖² of the fitted covariance C and the target S: 1 is perfect, 0 no better than "
            "zeros, below 0 worse."),
        Row("Gains", f"{span(gains)}; median {median}; 90\u00a0% from {low} to {high}", "Output "
            "over input of a channel: 1 leaves it unchanged, 2 doubles it, 0 silences it. " + _signs(gains)),
        trace_row(fit, "of gains"),
    ]  # fmt: skip
    if fit.groups is not None:
        rows.append(
            Row("Groups", groups_text(fit), "Channels of a group share one gain. The ridge keeps the gain of "
                "each group near one, however many channels it has.")
        )  # fmt: skip
    if stats.get("pairs", "all") != "all":
        rows.append(Row("Pairs that count", stats["pairs"], "Loss and R² are of these pairs of conditions."))
    rows += [*shared_row(fit), *nuisance_row(fit, "gains")]
    if "at_bounds" in stats:
        held = f"{stats['at_bounds']} of {N if fit.groups is None else len(fit.groups)} gains"
        rows.append(Row("At a bound", held, "Gains that would go further if they were allowed to."))
    if "step" in stats:
        rows.append(
            Row("Step", f"{number(stats['step'])} of the linear fit", "Below 1 the linear fit goes too far.")
        )
    if "losses" in stats:
        losses = ", ".join(number(loss) for loss in np.ravel(stats["losses"]))
        rows.append(Row("Losses of all starts", losses, "Where each start ended; the lowest was taken."))
    return rows


def _signs(gains: np.ndarray[Any, Any]) -> str:
    negative = int(np.count_nonzero(gains < 0))
    if not negative:
        return "None is negative."
    verb = "is" if negative == 1 else "are"
    return f"{negative} {verb} negative: these turn responses around, and bounds=(0, None) prevents it."


def certificate_rows(fit: Fit) -> list[Row]:
    """Say how the fit ended, and what that does and does not mean."""
    iterations = fit.stats.get("iterations")
    after = f" after {plural(int(iterations), 'iteration')}" if iterations is not None else ""
    if fit.method == "exact":
        name, meaning = "Gradient", "Norm of the gradient of the exact loss over that at gains of one"
        says = "the gains are a minimum of the exact loss, to within that gradient"
        silent = "that there is no lower minimum elsewhere, nor that the gains predict conditions not fitted"
    else:
        name, meaning = "Residual", "What is left of the linear system over its right-hand side"
        says = "the linearised problem was solved, and how exactly"
        silent = (
            "that the linearisation holds (compare the losses above), nor that the gains predict conditions "
            "not fitted"
        )
    if "at_bounds" in fit.stats and fit.method != "exact":
        name, meaning = (
            "Gradient",
            "Norm of the gradient, without channels that a bound holds, over that at one",
        )
    rank = f" (rank {fit.stats['rank']})" if fit.status == "minimum-norm" and "rank" in fit.stats else ""
    return [
        Row("Status", fit.status + rank, STATUSES[fit.status]),
        Row(name, number(fit.residual) + after, f"{meaning}, computed from the responses apart from the "
            "solver: 0 is a perfect solution."),
        Row("It says", f"that {says}."),
        Row("It does not say", f"{silent}."),
    ]  # fmt: skip


GLOSSARY = (
    Row("Channel", "One row of the responses: a glomerulus, a neuron, a unit of a network."),
    Row("Condition", "One column of the responses: an odour, an image, an input."),
    Row("Gain", "The factor that multiplies all responses of a channel. The fit finds one for each."),
    Row("Covariance", "For each pair of conditions, how alike the channels respond to both: the sum over "
        "channels of the products of their responses. A sum, not a mean."),
    Row("Target", "The covariance that a fit should give, mostly that of another population under the "
        "same conditions."),
    Row("Loss", "L(z) = ½‖Xᵀ diag(z) J diag(z) X − S‖² + ½λ‖z − 1‖² for responses X, gains z, target S and "
        "ridge λ. J removes the mean over channels, or does nothing where that is kept."),
    Row("Linear and exact", "The covariance is quadratic in the gains. The linear fit takes it for linear, "
        "which holds near gains of one; the exact fit does not."),
    Row("Overshoot", "Gains go further than the linearisation holds, and the exact loss ends above that at "
        "gains of one."),
    Row("Shrinkage", "The ridge draws gains to one, and several sets of gains give much the same covariance: "
        "a single gain is not a measurement of its channel."),
    Row("Held out", "Left out of the fit and predicted by it: the only test of prediction."),
)  # fmt: skip
