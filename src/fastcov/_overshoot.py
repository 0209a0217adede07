"""Fits that end above the loss at gains of one: whether they do, what to do, and the warning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._labels import outside

if TYPE_CHECKING:
    from ._result import Fit

# What a covariance may be off by, in units of rounding of its size and √N: a few, from sums of N products in
# blocks.
ROUNDING = 8.0
# Ridges of a path that are named one by one.
NAMED = 6


class OvershootWarning(UserWarning):
    """A fit ended above the exact loss at gains of one; `Fit.overshoots` says of which targets."""


def beyond_rounding(fit: Fit) -> Any:
    """Whether the loss is above that at gains of one by more than rounding explains, for each target."""
    if not np.any(fit.overshoots):  # all that most fits take
        return fit.overshoots
    N = fit.stats["shape"][0]
    eps = np.finfo(np.float32 if np.dtype(fit.stats["dtype"]).itemsize < 8 else np.float64).eps
    with np.errstate(over="ignore", invalid="ignore"):
        each = (fit._covariance, fit._target, fit._covariance_at_one)
        sizes = [np.sqrt(np.einsum("...ij,...ij", matrix, matrix)) for matrix in each]
        off = ROUNDING * np.sqrt(N) * eps * sum(sizes)
        # ½‖E‖² with ‖E‖ off by so much, at both ends; and the sum of it and the ridge term.
        left = np.sqrt(2 * fit.loss) + np.sqrt(2 * fit.loss_at_one)
        return fit.loss - fit.loss_at_one > off * (left + off) + ROUNDING * eps * fit.loss


def remedy(fit: Fit) -> str:
    """What to do about a fit that overshoots."""
    return (
        "Use a larger ridge"
        + (", as relative_ridge=0.1" if fit.relative_ridge is None else "")
        + (", or method='line-search' or 'exact'." if fit.method != "exact" else ".")
    )


def warn_overshoot(fit: Fit, *, explained: bool = False) -> None:
    """Warn the caller of this package where a fit, or the linear fit that is explained, overshoots."""
    above = beyond_rounding(fit)
    if not np.any(above):
        return
    of = f" for {np.count_nonzero(above)} of {np.size(above)} targets" if np.ndim(above) else ""
    what, do = "this fit overshoots", remedy(fit)
    if explained:
        what, do = "the linear fit that is explained overshoots", "Use a larger ridge."
    warnings.warn(
        f"The exact loss is {_times(fit)}{of}: {what}. {do}", OvershootWarning, stacklevel=outside()
    )


def warn_overshoots(fits: Sequence[Fit]) -> None:
    """Warn the caller of this package once of all the fits of a path that overshoot."""
    above = [fit for fit in fits if np.any(beyond_rounding(fit))]
    if not above:
        return
    relative = above[0].relative_ridge is not None
    ridges = sorted(fit.relative_ridge if relative else fit.ridge for fit in above)
    named = [f"{ridge:.4g}" for ridge in ridges]
    if len(named) > NAMED:
        named[NAMED // 2 : -1] = ["…"]
    worst = max(above, key=_ratio)
    of = (
        f"{len(above)} of {len(fits)} ridges ({'relative_ridge' if relative else 'ridge'} {', '.join(named)})"
    )
    do = "." if above[0].method == "exact" else ", or method='line-search' or 'exact'."
    warnings.warn(
        f"The exact loss is above that at gains of one at {of}, at most {_times(worst)}: these fits "
        f"overshoot. Use larger ridges{do}",
        OvershootWarning,
        stacklevel=outside(),
    )


def _ratio(fit: Fit) -> float:
    """The loss over that at gains of one, of the worst target; infinite where that is zero."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratios = np.ravel(np.divide(fit.loss, fit.loss_at_one))
    return float(np.fmax.reduce(ratios, initial=0.0))  # both are zero where gains of one are the answer


def _times(fit: Fit) -> str:
    """By how many times the loss is above that at gains of one, of the worst target."""
    ratio = _ratio(fit)
    if not np.isfinite(ratio):
        return f"{np.max(fit.loss):.3g}, and 0 at gains of one"
    return f"{f'{ratio:.3g}' if ratio > 1.01 else f'{ratio:.12g}'} times that at gains of one"
