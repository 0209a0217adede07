"""Evidence from held-out scores: p-values, verdicts, and how well gains of different folds agree."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .nouns import nouns_of

# A `CrossValidation` is `Any` here: its class imports this module.

Array = NDArray[np.float64]

# The significance level of a verdict.
LEVEL = 0.05
# Scores that do not depend on the size of covariances.
PATTERNS = ("pearson", "rsa", "cosine")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether held-out covariances are predicted better than without X, with the evidence.

    Attributes
    ----------
    better : bool or None
        Whether the prediction beats the baseline that ignores X, which has only two numbers. None: not
        shown, because there are too few shuffles.
    gains_help : bool or None
        Whether the fitted gains, or the connectivity, also beat gains of one and aC + βI + γ11ᵀ; None: not
        shown. If `better` is true and this is not, X carries information about the target, but it is not
        shown that the fit adds any.
    p : float or None
        p-value, from shuffles, of the improvement over the baseline without X.
    words : str
        The verdict in one sentence.
    more : tuple of str
        Sentences about the other baselines, and about errors of size rather than pattern.
    """

    better: bool | None
    gains_help: bool | None
    p: float | None
    words: str
    more: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.words, *self.more))


def p_value(cv: Any, method: str, score: str, over: str | None = None) -> float | None:
    """(1 + #{max over λ of a shuffle ≥ max over λ observed}) / (shuffles + 1)."""
    table = cv.scores[method]
    if table.shuffled is None:
        return None
    observed, null = maxima(cv, method, score, over)
    return exceeded(observed, null)


def exceeded(observed: float, null: Array) -> float:
    """The fraction of values, observed and null, that reach the observed one; an undefined null counts."""
    if math.isnan(observed):
        return float("nan")
    return float((1 + np.count_nonzero(~(null < observed))) / (len(null) + 1))


def maxima(cv: Any, method: str, score: str, over: str | None = None) -> tuple[float, Array]:
    """The largest pooled score over all ridges, observed and for each shuffle.

    With `over`, the score of that baseline is subtracted.
    """
    table = cv.scores[method]
    assert table.shuffled is not None
    observed, null = largest(table.pooled(score)), largest(table.shuffled.pooled(score))
    if over is not None:
        observed = observed - cv.baselines[over].pooled(score)
        null = null - cv.baselines_shuffled[over].pooled(score)
    return float(observed), np.asarray(null)


def largest(values: Array) -> Any:
    """The largest finite value over the last axis; NaN if none is finite."""
    finite = np.isfinite(values)
    found = np.where(finite, values, -np.inf).max(axis=-1)
    return np.where(finite.any(axis=-1), found, np.nan)


def gain_over(cv: Any, method: str, name: str) -> tuple[float, float]:
    """The best score less that of a baseline, and the standard error of this difference."""
    from .chosen_ridge import jackknife

    k, moments, score = cv.place(method), cv.scores[method].moments, cv.score
    gained = moments.pooled(score)[k] - cv.baselines[name].pooled(score)
    with np.errstate(invalid="ignore"):
        apart = moments.without(score)[k] - cv.baselines[name].without(score)
    return float(gained), float(jackknife(apart, cv.times))


def verdict(cv: Any, method: str) -> Verdict:
    """The verdict, in words that a reader of a paper understands."""
    k, table, nouns = cv.place(method), cv.scores[method], nouns_of(method)
    claim = "Held-out covariances are predicted better than without X"
    if k < 0:
        return Verdict(False, False, None, f"{claim}: no, {cv.score} is defined for no ridge.")
    better, p, says = _compared(cv, method, "no-x")
    words = f"{claim}: {says}."
    if better is False:
        return Verdict(False, False, p, words)
    beaten, more = [], []
    for name in ("one", "scaled"):
        beats, _, said = _compared(cv, method, name)
        beaten.append(beats)
        more.append(f"Better than {nouns.labels[name]}: {said}.")
    gains_help = False if False in beaten else None if None in beaten else True
    if better and not gains_help:
        more.append(
            f"So X tells something of the target, and that {nouns.fitted} {nouns.do('add')} to it is not "
            "shown."
        )
    prefix, pattern = ("cross-" if cv.score.startswith("cross-") else ""), cv.score.removeprefix("cross-")
    left = table.pooled(f"{prefix}r2-off-diagonal")[k]
    if pattern in PATTERNS and left < 0:
        mend = "" if cv.stats.get("nuisance") else '; nuisance=("diagonal", "constant") may mend that'
        more.append(
            f"That is the pattern, not the size: R² of the same pairs is {left:.2f}, and 0 for the mean of "
            f"the training pairs{mend}."
        )
    return Verdict(better, gains_help, p, words, tuple(more))


def _compared(cv: Any, method: str, name: str) -> tuple[bool | None, float | None, str]:
    """Whether a baseline is beaten, the p-value, and both in words."""
    value = cv.scores[method].pooled(cv.score)[cv.place(method)]
    base = cv.baselines[name].pooled(cv.score)
    numbers = f"{cv.score} {value:.2f}, and {base:.2f} {'without X' if name == 'no-x' else 'there'}"
    p = cv.p_value(method, over=name)
    if not value > base:
        tested = f", p = {p:.2g}" if p is not None and p > LEVEL else ""
        return False, p, f"no{tested} ({numbers})"
    if p is None:
        return None, None, f"not shown without shuffles ({numbers}); shuffles=99 tests it"
    n = len(cv.scores[method].shuffled.sums)
    least = 1 / (n + 1)
    if least > LEVEL and p <= least * 1.001:  # none of these few shuffles is as good
        words = f"not shown, p = {p:.2g}, the least that {n} shuffle{'s' * (n > 1)} can give ({numbers})"
        return None, p, f"{words}; shuffles=99 tests it"
    # Shuffling also takes from the other baselines the part of the pattern that they predict. An improvement
    # over these therefore has to reach more than chance level, and falling short is no proof against it.
    if p <= LEVEL:
        return True, p, f"yes, p = {p:.2g} ({numbers})"
    if name == "no-x":
        return False, p, f"no, p = {p:.2g} ({numbers})"
    return None, p, f"not shown, p = {p:.2g} ({numbers})"


def agreement(cv: Any, method: str) -> Array | None:
    """Mean correlation between the gains of two folds of a repeat, over all pairs, at each ridge (K,)."""
    gains = cv.scores[method].gains
    each = len(cv.folds) // cv.repeats
    if gains is None or each < 2:
        return None
    delta = gains - gains.mean(axis=-1, keepdims=True)
    sizes = np.linalg.norm(delta, axis=-1, keepdims=True)
    unit = np.divide(delta, sizes, out=np.zeros_like(delta), where=sizes > 0)
    found = []
    for first in range(0, len(gains), each):
        part = unit[first : first + each]  # Σ_{f≠g} u_f·u_g = ‖Σ u_f‖² − Σ ‖u_f‖²
        cross = np.square(part.sum(axis=0)).sum(axis=-1) - np.square(part).sum(axis=(0, 2))
        found.append(cross / (each * (each - 1)))
    return np.asarray(np.mean(found, axis=0))
