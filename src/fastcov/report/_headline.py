"""Make the top of a page: a verdict, a few numbers beside those to compare them with, and warnings."""

from __future__ import annotations

import math

import numpy as np

from .._results import connectivity_text, fit_text
from .._results.connectivity import Connectivity
from .._results.cross_validation import CrossValidation
from .._results.fit import Fit
from .._results.nouns import nouns_of
from .._results.overshoot import beyond_rounding
from .._results.score import FINE
from ._connectivity import tile as tile_of_connectivity
from ._evidence import sentences as evidence
from ._evidence import tile, verdict_of
from ._sections import Headline, Row
from ._words import STATUSES, score, share, span

# A loss above this share of the loss at gains of one is hardly an improvement.
HARDLY = 0.95


def verdict(fit: Fit | Connectivity, cv: CrossValidation | None = None) -> tuple[str, str]:
    """Say whether the fit predicts, or what is wrong with it, and whether that is good, bad or open.

    A close fit to the conditions it was fitted to is never good by itself, because a fit to shuffled
    conditions comes close, too.
    """
    nouns = nouns_of(fit.method)
    if beyond_rounding(fit):
        return f"Overshoots: worse than with {nouns.with_one}", "bad"
    if fit.status not in FINE:
        return f"Stopped short: not the {nouns.subject} that {nouns.do('were')} asked for", "bad"
    if not fit.loss < fit.loss_at_one:
        return f"Changes nothing: no better than {nouns.with_one}", "open"
    if cv is not None:
        return verdict_of(cv, fit.method)
    if fit.loss > HARDLY * fit.loss_at_one:
        return f"Hardly closer to the target than with {nouns.with_one}; prediction is not known", "open"
    return "Closer to the target on the conditions that were fitted; prediction is not known", "open"


def headline(fit: Fit | Connectivity, cv: CrossValidation | None = None) -> Headline:
    words, kind = verdict(fit, cv)
    at_one, nouns = fit.stats["r2_at_one"], nouns_of(fit.method)
    unknown = Row("Held out", "not known", "No conditions were held out: nothing is known of prediction")
    tiles = [
        unknown if cv is None else tile(cv, fit.method),
        Row("R², conditions that were fitted", score(fit.r2), f"{score(at_one)} with {nouns.with_one}; 1 is "
            "perfect; says nothing of prediction"),
        Row("Loss", share(fit), _loss_is(fit)),
        _size(fit),
    ]  # fmt: skip
    if cv is None:
        told = [
            "This is said of the conditions that were fitted, and shuffled ones may be fitted as closely. "
            f"Whether the {nouns.subject} {nouns.do('predict')} others, only conditions that are held out "
            "can tell: fastcov.cross_validate, or fastcov report --ridge cv --shuffles 99."
        ]
    else:
        told = evidence(cv, fit.method)
    warnings = (connectivity_text if isinstance(fit, Connectivity) else fit_text).remarks(fit)
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


def _size(fit: Fit | Connectivity) -> Row:
    """How far the fit goes from leaving X as it is."""
    if isinstance(fit, Connectivity):
        return tile_of_connectivity(fit)
    return Row("Gains", span(fit.gains), f"median {score(np.median(fit.gains))}; 1 is unchanged")


def _loss_is(fit: Fit | Connectivity) -> str:
    """Explain the loss, in words that follow its share."""
    of = "of " if share(fit).endswith("%") else ""
    compared = f"{of}that with {nouns_of(fit.method).with_one}: " if fit.loss_at_one > 0 else ""
    return f"{compared}squared distance from the target, and the ridge"


def _closeness(fit: Fit | Connectivity) -> str:
    nouns = nouns_of(fit.method)
    at_one = fit.stats["r2_at_one"]
    if not (math.isfinite(fit.r2) and math.isfinite(at_one)):
        return "R² is not defined: the target has no size. The loss says how far the covariance is from it."
    scores = f"R² is {score(fit.r2)}, and was {score(at_one)} with {nouns.with_one}"
    if not fit.loss_at_one > 0:
        return f"With {nouns.with_one} the covariance is the target: there is nothing to fit."
    falls = "falls to" if fit.loss < HARDLY * fit.loss_at_one else "is"
    of = "of that" if share(fit).endswith("%") else "that"
    below = " Below 0, the covariance is further from the target than none at all." if fit.r2 < 0 else ""
    return f"The exact loss {falls} {share(fit)} {of} at {nouns.at_one}: {scores}.{below}"
