"""What a fit prints: the rows of its table, and reasons not to use its gains."""

from __future__ import annotations

from typing import Any

import numpy as np

from .overshoot import remedy

# If the traces of target and input differ by more than this factor, the cause is units, not gains.
COMPARABLE = 10.0
# The most groups whose gains are listed.
LISTED = 6


def rows(fit: Any) -> list[tuple[str, str]]:
    """Rows of the table that a fit prints."""
    N, D = fit.stats["shape"]
    share = ""
    if np.all(fit.loss_at_one > 0):
        share = f" ({span(fit.loss / fit.loss_at_one)} of the loss at gains of one)"
    n = N if fit.groups is None else len(fit.groups)
    rank = f", rank {fit.stats['rank']} of {n}" if fit.status == "minimum-norm" else ""
    solver = f" ({fit.stats['solver']})" if fit.stats["solver"] else ""
    iterations = f" after {fit.stats['iterations']} iterations" if "iterations" in fit.stats else ""
    others = f", target of {fit.stats['n_responses']} channels" if "n_responses" in fit.stats else ""
    if trials := fit.stats.get("trials", {}).get("responses", {}).get("n_trials"):
        others += f" in {trials} trials"
    rows = [
        ("method", f"{fit.method}{solver}: {fit.status}{rank}"),
        ("data", f"{N} channels x {D} conditions" + targets_text(fit.r2) + others),
        ("ridge", ridge_text(fit.ridge, fit.relative_ridge, fit.groups is not None)),
        ("loss", span(fit.loss) + share),
        ("R2", f"{span(fit.r2)} ({span(fit.stats['r2_at_one'])} at gains of one)"),
        (
            "gains",
            f"{fit.gains.min():.3g} to {fit.gains.max():.3g}, median {np.median(fit.gains):.3g}",
        ),
        (
            "gradient" if fit.method == "exact" else "residual",
            span(fit.residual, ".1e")
            + (" of that at gains of one" if fit.method == "exact" else "")
            + iterations,
        ),
    ]
    add_shared(rows, fit, "one vector of gains", "gains of one")
    if fit.nuisance:
        terms = [f"{name} {span(value)}" for name, value in fit.nuisance.items()]
        rows.insert(-2, ("nuisance", ", ".join(terms)))
    if fit.stats.get("pairs", "all") != "all":
        rows.insert(2, ("pairs", fit.stats["pairs"]))
    if fit.groups is not None:
        rows.insert(2, ("groups", groups_text(fit)))
    if "at_bounds" in fit.stats:
        rows.insert(-1, ("bounds", f"{span(fit.stats['at_bounds'], 'd')} of {n} gains at a bound"))
    if "step" in fit.stats:
        rows.insert(-1, ("step", f"{span(fit.stats['step'])} of the linear fit"))
    return rows


def add_shared(rows: list[tuple[str, str]], fit: Any, what: str, at_one: str) -> None:
    """Say of rows where R² is the fifth that it is of a mean target, and add R² of each target."""
    if shared := fit.stats.get("shared"):
        each = f"R2 of each {span(shared['r2'])} ({span(shared['r2_at_one'])} at {at_one})"
        rows[4] = ("R2", f"{rows[4][1]}, of the mean target")
        rows.insert(5, ("shared", f"{what} for {len(shared['r2'])} targets; {each}"))


def remarks(fit: Any) -> list[str]:
    """Reasons not to use the gains, each with its remedy."""
    found = []
    if np.any(fit.overshoots):
        found.append(f"The exact loss is above that at gains of one: this fit overshoots. {remedy(fit)}")
    ratio = np.ravel(fit.stats["trace_ratio"])[0]
    if ratio < 1 / COMPARABLE or ratio > COMPARABLE:
        found.append(
            f"The trace of the target is {ratio:.3g} times that of X's covariance. Covariances are "
            "sums over channels here, not means: target_covariance(Y, like=X) brings S to this scale."
        )
    return found


def groups_text(fit: Any) -> str:
    """Groups that share a gain; the gains of few of them, for one target."""
    A = len(fit.groups)
    text = f"one gain for each of {A} groups" if A > 1 else "one gain for all channels"
    if fit.delta.ndim > 1 or not 1 < A <= LISTED:
        return text
    pairs = zip(fit.groups, fit.group_gains, strict=True)
    return f"{text}: " + ", ".join(f"{name} {gain:.3g}" for name, gain in pairs)


def ridge_text(ridge: Any, relative: Any, of_groups: bool = False) -> str:
    """A ridge in words: one number, one for each channel or group, or a matrix."""
    if np.ndim(ridge) == 2:
        return f"a matrix, {ridge.shape[0]} x {ridge.shape[1]}"
    each = (" by group" if of_groups else " by channel") if np.ndim(ridge) else ""
    share = "" if relative is None else f" ({span(relative, 'g')} of the largest eigenvalue)"
    return f"{span(ridge)}{share}{each}"


def targets_text(values: Any) -> str:
    return f", {len(values)} targets" if np.ndim(values) else ""


def span(values: Any, form: str = ".4g") -> str:
    low, high = np.min(values), np.max(values)
    return f"{low:{form}}" if np.ndim(values) == 0 else f"{low:{form}} to {high:{form}}"
