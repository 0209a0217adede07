"""The printed table of an explanation, and a remark if single gains should not be interpreted."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from .._model.problem import n_pairs

# Number of modes in the printed table.
SHOWN = 6
# Number of channels that are named for each kind of importance.
CHANNELS = 4
# Characters in a line of text.
WIDTH = 100
# Single gains should not be interpreted with fewer effective degrees of freedom per channel than this. Their
# number per channel is the mean of the diagonal of GᵀG (GᵀG + λI)⁻¹, the part of a gain that shows in its own
# fit. Below this value, less than half of a gain is its own.
RESOLUTION = 0.5
# Nor should they be if gains fitted to permuted targets correlate with them by more than this. In 40 fits to
# simulations with known gains (60 x 12 to 871 x 52), such fits correlated with the known gains by at most
# 0.42. Fits that correlated with the known gains by more than 0.5 correlated with permuted targets' gains by
# at most 0.25. In recordings (871 x 52) this correlation was 0.76 at λ/λ_max 0.1, 0.51 at 0.01, and 0.34 at
# 0.001.
ALIKE = 0.3


def remark(explanation: Any) -> str:
    """Why single gains say little, in a sentence or two; empty if they do not."""
    live = int(np.count_nonzero(explanation.squared_norms))
    reasons, alike = [], permuted_mean(explanation.delta_correlations)
    if explanation.dof_upper < RESOLUTION * live:
        most = "" if explanation.complete else "at most "
        reasons.append(f"{most}{explanation.dof_upper:.3g} effective degrees of freedom for {live} gains")
    if alike is not None and alike > ALIKE:
        reasons.append(f"gains fitted to permuted conditions correlate {alike:.2f} with these")
    if not reasons:
        return ""
    return (
        f"At this ridge single gains say little: {', and '.join(reasons)}. Read patterns, not single gains."
    )


def permuted_mean(values: Any) -> float | None:
    """The mean over permuted targets; None if there are none."""
    return float(np.mean(values)) if len(values) else None


def important(explanation: Any) -> list[str]:
    """The channels whose gains matter most, in two lines; none if that would take long."""
    removed = explanation.loss_removed
    if not (explanation._quick and removed > 0):
        return []
    # Silence has a ridge term of its own, which would hide what it does to the error.
    kinds = {"held at one": explanation.importance, "silenced": explanation.loss_rise(0.0, own_ridge=False)}
    lines = ["  channels       share of the reduction lost if one gain is held, and the others refitted"]
    for name, values in kinds.items():
        first = np.argsort(-values, kind="stable")[:CHANNELS]
        parts = [f"{explanation.channels[i]} {values[i] / removed:.2%}" for i in first]
        lines.append(f"    {name:<13}{', '.join(parts)}")
    return lines


def table(explanation: Any) -> str:
    """An explanation as printed text."""
    N, D = explanation.fit.stats["shape"]
    K, n = len(explanation.spectrum), min(N, n_pairs(D))
    fit, relative = explanation.fit, explanation.fit.relative_ridge
    share = "" if relative is None else f" ({relative:g} of the largest eigenvalue)"
    total = explanation.total or 1.0
    bound = "" if explanation.complete else "at most; "
    modes = f"all {K} above rounding" if explanation.complete else f"the first {K} of {n}"
    dof = f"{explanation.dof:.4g}" + ("" if explanation.complete else f" to {explanation.dof_upper:.4g}")
    above = f", {fit.loss_at_one:.4g} at gains of one"
    if fit.overshoots:
        above += "\n                 overshoots: its exact loss is above that at gains of one"
    means = (permuted_mean(a) for a in (explanation.corrected_permuted, explanation.left_by_ridge_permuted))
    corrected, left = ("" if mean is None else f" ({mean:.2%} with permuted conditions)" for mean in means)
    e0, held, out = explanation.total, explanation.left_by_ridge, explanation.unreachable
    lines = [
        f"Explanation of a linear fit: {N} channels x {D} conditions, ridge {explanation.ridge:.4g}{share}",
        f"  error          ||e0||^2 = {e0:.4g}",
        f"    corrected    {(e0 - out - held) / total:8.2%}{corrected and ' ' + corrected}",
        f"    left         {held / total:8.2%}  reachable, but held back by the ridge{left}",
        f"    unreachable  {out / total:8.2%}  {bound}no gains correct it, to first order",
        f"  loss           {explanation.linear_loss:.4g} linear, {fit.loss:.4g} exact{above}",
    ]
    alike = permuted_mean(explanation.delta_correlations)
    if alike is not None:
        lines.append(f"  delta          correlates {alike:.2f} with that of permuted conditions")
    lines += important(explanation)
    lines.append(f"  modes          {modes}; {dof} effective degrees of freedom")
    lines.append("    by their share of delta, the largest first")
    lines.append("    mode   sigma^2/largest   corrected   of delta   of the loss removed")
    sizes = explanation.spectrum / (explanation.spectrum[0] if K else 1.0)
    columns = sizes, explanation.shrinkage, explanation.delta_shares, explanation.loss_shares
    for k in explanation.order[:SHOWN]:
        size, shrink, of_delta, of_loss = (float(column[k]) for column in columns)
        lines.append(f"    {k + 1:>4}   {size:15.3g}   {shrink:9.1%}   {of_delta:8.1%}   {of_loss:19.1%}")
    return "\n".join([*lines, *(f"  {line}" for line in textwrap.wrap(remark(explanation), WIDTH))])
