"""Fits that end above the loss at gains of one, or at W = 0: the test for it, the remedy, and the warning."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .._connectivity.solve import LINEAR
from .._inputs.labels import outside
from .nouns import GAINS, nouns_of

# A `Fit` and a `RidgePath` are `Any` here: their classes import this module.

# Assumed error of a covariance, in units of eps √N times its norm. A few units are enough, because the sums
# of N products are computed in blocks.
ROUNDING = 8.0
# The warning lists at most this many ridges of a path.
NAMED = 6


class OvershootWarning(UserWarning):
    """The exact loss of a fit is above that at gains of one, or at W = 0.

    `Fit.overshoots` and `Connectivity.overshoots` say for which targets.
    """


def beyond_rounding(fit: Any) -> Any:
    """Whether the loss is above that at gains of one by more than rounding explains, for each target."""
    if not np.any(fit.overshoots):  # most fits need no more than this
        return fit.overshoots
    each = (fit._covariance, fit._target, fit._covariance_at_one)
    return beyond(fit.loss, fit.loss_at_one, sum(map(sizes, each)), fit.stats)


def sizes(matrices: Any) -> Any:
    """Frobenius norm of a matrix, or of each matrix of a stack."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sqrt(np.einsum("...ij,...ij", matrices, matrices))


def beyond(loss: Any, at_one: Any, size: Any, stats: dict[str, Any]) -> Any:
    """Whether losses exceed those at gains of one by more than rounding explains.

    `size` is the sum of the norms of both covariances and the target.
    """
    N, dtype = stats["shape"][0], np.dtype(stats["dtype"])
    eps = np.finfo(np.float32 if dtype.itemsize < 8 else np.float64).eps
    with np.errstate(over="ignore", invalid="ignore"):
        off = ROUNDING * np.sqrt(N) * eps * size
        # The error of ½‖E‖² where ‖E‖ is off by this much, at both gains; then that of adding the ridge term.
        left = np.sqrt(2 * loss) + np.sqrt(2 * at_one)
        return loss - at_one > off * (left + off) + ROUNDING * eps * loss


def remedy(fit: Any) -> str:
    """What to do about a fit that overshoots."""
    size = ", as relative_ridge=0.1" if fit.relative_ridge is None else ""
    return f"Use a larger ridge{size}{_or_method(fit.method)}."


def _or_method(method: str) -> str:
    """The methods that do not overshoot where this one does."""
    if nouns_of(method) is not GAINS:
        return ", or method='free'" if method == LINEAR else ""
    return ", or method='line-search' or 'exact'" if method != "exact" else ""


def warn_overshoot(fit: Any, *, explained: bool = False) -> None:
    """Warn the caller of this package if a fit, or the linear fit being explained, overshoots."""
    above = beyond_rounding(fit)
    if not np.any(above):
        return
    of = f" for {np.count_nonzero(above)} of {np.size(above)} targets" if np.ndim(above) else ""
    what, do = "this fit overshoots", remedy(fit)
    if explained:
        what, do = "the linear fit that is explained overshoots", "Use a larger ridge."
    warnings.warn(
        f"The exact loss is {_times(fit.loss, fit.loss_at_one, fit.method)}{of}: {what}. {do}",
        OvershootWarning,
        stacklevel=outside(),
    )


def warn_overshoots(path: Any) -> None:
    """Warn the caller of this package once about all fits of a path that overshoot."""
    above = path._overshooting()
    if not len(above):
        return
    relative = path.relative_ridges
    ridges = sorted((path.ridges if relative is None else relative)[above])
    named = [f"{ridge:.4g}" for ridge in ridges]
    if len(named) > NAMED:
        named[NAMED // 2 : -1] = ["…"]
    losses, at_one = path.loss[above], path.loss_at_one
    worst = losses[np.argmax(_ratios(losses, at_one))]
    name = "ridge" if relative is None else "relative_ridge"
    of = f"{len(above)} of {len(path)} ridges ({name} {', '.join(named)})"
    warnings.warn(
        f"The exact loss is above that at {nouns_of(path.method).at_one} at {of}, at most "
        f"{_times(worst, at_one, path.method)}: these fits overshoot. Use larger "
        f"ridges{_or_method(path.method)}.",
        OvershootWarning,
        stacklevel=outside(),
    )


def _ratios(losses: Any, at_one: Any) -> Any:
    """Losses (K,) or (K, T) over those at gains of one, for the worst target; infinite where these are 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratios = np.divide(losses, at_one).reshape(len(losses), -1)
    return np.fmax.reduce(ratios, axis=1, initial=0.0)  # 0 / 0, where gains of one are the answer, gives 0


def _times(loss: Any, at_one: Any, method: str) -> str:
    """The loss over that at gains of one, for the worst target, in words."""
    ratio, named = float(_ratios(np.asarray(loss)[np.newaxis], at_one)[0]), nouns_of(method).at_one
    if not np.isfinite(ratio):
        return f"{np.max(loss):.3g}, and 0 at {named}"
    return f"{f'{ratio:.3g}' if ratio > 1.01 else f'{ratio:.12g}'} times that at {named}"
