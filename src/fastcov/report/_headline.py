"""Make the top of a page: a verdict, a few numbers beside those to compare them with, and warnings."""

from __future__ import annotations

import math

import numpy as np

from .._results.cross_validation import CrossValidation
from .._results.fit import Fit
from .._results.fit_text import remarks
from .._results.score import FINE
from ._evidence import sentences as evidence
from ._evidence import tile, verdict_of
from ._sections import Headline, Row
from ._words import STATUSES, score, share, span

# A loss above this share of the loss at gains of one is hardly an improvement.
HARDLY = 0.95


def verdict(fit: Fit, cv: CrossValidation | None = None) -> tuple[str, str]:
    """Say whether the gains predict, or what is wrong with them, and whether that is good, bad or open.

    A close fit to the conditions it was fitted to is never good by itself, because a fit to shuffled
    conditions comes close, too.
    """
    if fit.overshoots:
        return "Overshoots: worse than with all gains at one", "bad"
    if fit.status not in FINE:
        return "Stopped short: not the gains that were asked for", "bad"
    if not fit.loss < fit.loss_at_one:
        return "Changes nothing: no better than all gains at one", "open"
    if cv is not None:
        return verdict_of(cv, fit.method)
    if fit.loss > HARDLY * fit.loss_at_one:
        return "Hardly closer to the target than with all gains at one; prediction is not known", "open"
    return "Closer to the target on the conditions that were fitted; prediction is not known", "open"


def headline(fit: Fit, cv: CrossValidation | None = None) -> Headline:
    words, kind = verdict(fit, cv)
    at_one = fit.stats["r2_at_one"]
    median = score(np.median(fit.gains))
    unknown = Row("Held out", "not known", "No conditions were held out: nothing is known of prediction")
    tiles = [
        unknown if cv is None else tile(cv, fit.method),
        Row("R², conditions that were fitted", score(fit.r2), f"{score(at_one)} with all gains at one; 1 is "
            "perfect; says nothing of prediction"),
        Row("Loss", share(fit), _loss_is(fit)),
        Row("Gains", span(fit.gains), f"median {median}; 1 is unchanged"),
    ]  # fmt: skip
    if cv is None:
        told = [
            "This is said of the conditions that were fitted, and shuffled ones may be fitted as closely. "
            "Whether the gains predict others, only conditions that are held out can tell: "
            "fastcov.cross_validate, or fastcov report --ridge cv --shuffles 99."
        ]
    else:
        told = evidence(cv, fit.method)
    warnings = remarks(fit)
    if fit.status not in FINE:
        warnings.append(f"The fit stopped short ({fit.status}). {STATUSES[fit.status]}")
    return Headline(
        words, kind, [*told, f"On the conditions that were fitted: {_closeness(fit)}"], tiles, warnings
    )


def study_headline(cv: CrossValidation, method: str) -> Headline:
    """Make the headline of one method of a study."""
    words, kind = verdict_of(cv, method)
    N, D = cv.stats["shape"]
    shuffled = cv.scores[method].shuffled
    n = 0 if shuffled is None else len(shuffled.sums)
    p = cv.p_value(method, over="no-x")
    tiles = [
        tile(cv, method),
        Row("p, over without X", "not tested" if p is None else f"{p:.2g}",
            f"{n} shuffles" if n else "needs shuffles"),
        Row("Folds", str(len(cv.folds)), f"{cv.repeats} repeat{'s' * (cv.repeats > 1)}; {D} conditions, {N} "
            "channels"),
    ]  # fmt: skip
    return Headline(words, kind, evidence(cv, method), tiles)


def _loss_is(fit: Fit) -> str:
    """Explain the loss, in words that follow its share."""
    of = "of " if share(fit).endswith("%") else ""
    compared = f"{of}that with all gains at one: " if fit.loss_at_one > 0 else ""
    return f"{compared}squared distance from the target, and the ridge"


def _closeness(fit: Fit) -> str:
    at_one = fit.stats["r2_at_one"]
    if not (math.isfinite(fit.r2) and math.isfinite(at_one)):
        return "R² is not defined: the target has no size. The loss says how far the covariance is from it."
    scores = f"R² is {score(fit.r2)}, and was {score(at_one)} with all gains at one"
    if not fit.loss_at_one > 0:
        return "With all gains at one the covariance is the target: there is nothing to fit."
    falls = "falls to" if fit.loss < HARDLY * fit.loss_at_one else "is"
    of = "of that" if share(fit).endswith("%") else "that"
    below = " Below 0, the covariance is further from the target than none at all." if fit.r2 < 0 else ""
    return f"The exact loss {falls} {share(fit)} {of} at gains of one: {scores}.{below}"
