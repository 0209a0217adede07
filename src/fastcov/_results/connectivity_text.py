"""What a connectivity prints: the rows of its table, and reasons not to use it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .fit_text import COMPARABLE, add_shared, ridge_text, span, targets_text
from .overshoot import beyond_rounding, remedy

# The share of a target out of reach from which on a table says so.
NOTED = 0.005


def rows(found: Any) -> list[tuple[str, str]]:
    """Rows of the table that a connectivity prints."""
    N, D = found.stats["shape"]
    share = ""
    if np.all(found.loss_at_one > 0):
        share = f" ({span(found.loss / found.loss_at_one)} of the loss at W = 0)"
    iterations = f" after {found.stats['iterations']} steps" if "iterations" in found.stats else ""
    others = f", target of {found.stats['n_responses']} channels" if "n_responses" in found.stats else ""
    size = f"norm {np.max(found.norm()):.4g}"
    if hasattr(found, "degrees_of_freedom"):
        size += f"; {found.degrees_of_freedom:.0f} degrees of freedom of {D * (D + 1) // 2}"
    table = [
        ("method", f"{found.method} ({found.stats['solver']}): {found.status}"),
        ("data", f"{N} channels x {D} conditions{targets_text(found.r2)}{others}"),
        ("ridge", ridge_text(found.ridge, found.relative_ridge)),
        ("loss", span(found.loss) + share),
        ("R2", f"{span(found.r2)} ({span(found.stats['r2_at_one'])} at W = 0)"),
        ("W", size),
        ("gradient", f"{span(found.residual, '.1e')} of that at W = 0{iterations}"),
    ]
    add_shared(table, found, "one connectivity", "W = 0")
    if found.nuisance:
        terms = [f"{name} {span(value)}" for name, value in found.nuisance.items()]
        table.insert(-2, ("nuisance", ", ".join(terms)))
    if found.stats.get("pairs", "all") != "all":
        table.insert(2, ("pairs", found.stats["pairs"]))
    return table


def mixed_rows(found: Any) -> list[tuple[str, str]]:
    """Rows of the table that gains with a connectivity print."""
    table = dict(rows(found))
    table["ridge"] = f"gains {ridge_text(found.ridge, found.relative_ridge)}"
    table["of W"] = ridge_text(found.free_ridge, found.relative_free_ridge)
    gains = found.gains
    table["gains"] = (
        f"{gains.min():.3g} to {gains.max():.3g}, norm of z - 1 {np.linalg.norm(found.delta):.4g}"
    )
    order = ("method", "data", "pairs", "ridge", "of W", "loss", "R2", "nuisance", "gains", "W", "gradient")
    return [(name, table[name]) for name in order if name in table]


def remarks(found: Any) -> list[str]:
    """Reasons not to use W, each with its remedy."""
    notes = []
    if np.any(beyond_rounding(found)):
        notes.append(f"The exact loss is above that at W = 0: this fit overshoots. {remedy(found)}")
    ratio = np.ravel(found.stats["trace_ratio"])[0]
    if ratio < 1 / COMPARABLE or ratio > COMPARABLE:
        notes.append(
            f"The trace of the target is {ratio:.3g} times that of X's covariance. Covariances are sums over "
            "channels here, not means: target_covariance(Y, like=X) brings S to this scale."
        )
    far = float(np.max(found.unreachable))
    if far > NOTED and not found.nuisance and found.stats.get("pairs", "all") == "all":
        percent = f"{100 * far:.{0 if far > 0.1 else 1}f}"
        notes.append(
            f"No connectivity comes nearer to the target than {percent} % of its norm: it is not "
            "positive semi-definite, or of a higher rank than X."
        )
    if found.stats.get("outside"):
        notes.append(
            "Some direction over conditions lies in the mean over channels alone, and a W that leaves the "
            "span of X would lower the loss further: drop conditions to which all channels respond alike."
        )
    elif found.stats.get("several"):
        notes.append(
            "The mean over channels, which is removed, lies in the span of X, as with no more channels than "
            "conditions. There may be other minima; this is the one that is reached from W = 0."
        )
    return notes
