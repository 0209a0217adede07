"""Describe what held-out conditions say about gains: the part of a page that a study adds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import plot
from .._results.connectivity import Connectivity
from .._results.cross_validation import CrossValidation
from .._results.fit import Fit
from .._results.mixed import Mixed
from .._results.nouns import nouns_of
from .._results.permutation_test import PermutationTest
from ..plot._held_out import WORDS, band
from ._evidence_tables import (
    BASELINE_WORDS,
    baseline_notes,
    called,
    channels,
    conditions,
    folds,
    meaning_rows,
    score_tables,
    text,
    trust_rows,
    without_of,
)
from ._sections import Picture, Row, Section
from ._words import number, plural, score

_PAIRS = {
    "held-out pairs": "pairs of held-out conditions",
    "held-out variances": "variances of held-out conditions",
    "held-out pairs and variances": "pairs of held-out conditions, and their variances",
    "held-out × trained pairs": "pairs of a held-out and a trained condition",
}
_VERDICT = {True: "good", None: "open", False: "bad"}

# Terms of this part, for the glossary.
STUDIED = (
    Row("Baseline", "A prediction without a fit, scored on the same held-out conditions: what a fit has to "
        "beat to be worth anything."),
    Row("Without X", BASELINE_WORDS["no-x"]),
    Row("Shuffled", "The whole study again, the choice of the ridge with it, after the conditions of the "
        "target were put in random order: what the same procedure finds where there is nothing to find."),
    Row("p", "The share of shuffles that reach at least the observed score, what was observed counted as "
        "one. 0.05 or less is taken for evidence; one in (shuffles + 1) is the least there can be."),
    Row("Held-out and cross pairs", "Pairs of two held-out conditions, and of a held-out with a trained one. "
        "No fit saw either; there are many more of the second."),
)  # fmt: skip


def study_of(
    cv: Any, fit: Fit | Connectivity | None = None
) -> tuple[CrossValidation, PermutationTest | None] | None:
    """Return the study in an argument `cv`, or the one behind the fit, and its test; None without a study."""
    if cv is None and fit is not None and not np.ndim(fit.r2):
        cv = fit.stats.get("cv")
    if cv is None:
        return None
    test = cv if isinstance(cv, PermutationTest) else None
    study = cv if test is None else test.cv
    if not isinstance(study, CrossValidation):
        raise TypeError(
            f"Argument 'cv' must be a CrossValidation or a PermutationTest, not {type(cv).__name__}: pass "
            "what fastcov.cross_validate returns."
        )
    if fit is None:
        return study, test
    if np.ndim(fit.r2):
        raise ValueError(
            f"Argument 'cv' must be left out for a stack of targets, not given with {len(fit.r2)}: report "
            "the fits of its targets one by one."
        )
    if fit.method not in study.methods:
        raise ValueError(
            f"Argument 'cv' must have the method of the fit, {fit.method!r}, not only "
            f"{', '.join(study.methods)}: pass it to cross_validate."
        )
    if tuple(study.stats["shape"]) != tuple(fit.stats["shape"]):
        (N, D), (n, d) = fit.stats["shape"], study.stats["shape"]
        raise ValueError(
            f"Argument 'cv' must be a study of the {N} channels x {D} conditions of the fit, not of {n} x "
            f"{d}."
        )
    asked = {"nuisance": tuple(fit.nuisance), "center": fit.stats["center"]}
    for name, value in asked.items():
        if study.stats.get(name, value) != value:
            raise ValueError(
                f"Argument 'cv' must be a study with the {name} of the fit, {value!r}, not "
                f"{study.stats[name]!r}: pass the same to both."
            )
    return study, test


def verdict_of(cv: CrossValidation, method: str) -> tuple[str, str]:
    """Return the verdict of a method in words, and whether it is good, bad or open."""
    found, nouns = cv.verdicts()[method], nouns_of(method)
    if found.better and not found.gains_help:
        return (
            f"{found.words} That {nouns.fitted} {nouns.do('add')} to X is not shown.",
            "good" if found.gains_help is None else "open",
        )
    return found.words, _VERDICT[found.better]


def held_out(cv: CrossValidation, method: str) -> tuple[float, float]:
    """Return the score of a method at its best ridge, and its standard error; NaN if there is none."""
    k = cv.place(method)
    if k < 0:
        return math.nan, math.nan
    values, error = cv.summary(method)
    return float(values[k]), float(error[k])


def tile(cv: CrossValidation, method: str) -> Row:
    """Make the tile with the held-out score, beside baselines and shuffles."""
    value, error = held_out(cv, method)
    spread = f"\u00a0±\u00a0{score(error)}" if math.isfinite(error) else ""
    without = without_of(method)
    beside = [f"{without[name]} {text(cv.baseline(name)[0])}" for name in ("no-x", "one")]
    found = cv.scores[method].shuffled
    if found is not None and cv.place(method) >= 0:
        _, low, high = (ends[cv.place(method)] for ends in band(found.pooled(cv.score)))
        beside.append(f"shuffled {text(low)} to {text(high)} (5–95\u00a0%)")
    else:
        beside.append("not compared to shuffles")
    what, _ = WORDS[cv.score]
    return Row(f"Held out: {what}", text(value) + spread, "; ".join(beside))


def sentences(cv: CrossValidation, method: str) -> list[str]:
    """Write the sentences that justify the verdict."""
    found = cv.verdicts()[method]
    if found.better is True:
        first = f"Of the same study with shuffled conditions {_as_good(found.p)} does as well."
    elif cv.scores[method].shuffled is None:
        first = (
            "No shuffles were made: how much of the score is about which condition is which, nothing here "
            "tells. cross_validate(shuffles=99), or --shuffles 99, does."
        )
        if found.better is False:
            first = "Two numbers of the training conditions, without X, predict as well or better."
    elif found.better is None:
        first = "There are too few shuffles for a p below 0.05: 99 or more tell."
    else:
        first = (
            f"Of the same study with shuffled conditions {_as_good(found.p)} does as well: that the fit says "
            "anything of conditions it has not seen is not shown."
        )
    value, _ = held_out(cv, method)
    what, pairs = WORDS[cv.score]
    what = f"{what} of predicted and target covariances" if what == "correlation" else what
    said = (
        f"The score is the {what}, over {_PAIRS.get(pairs, pairs)}, of {plural(len(cv.folds), 'fold')} "
        f"together: {text(value)}."
    )
    more = " ".join(found.more).replace(" -", " −")
    return [f"{first} {said}", *([more] if more else [])]


def _as_good(p: float | None) -> str:
    """Say how many shuffles are as good, from their p."""
    return "a share" if p is None else f"{100 * p:.2g}\u00a0%, itself counted,"


def sections(
    cv: CrossValidation,
    methods: tuple[str, ...],
    test: PermutationTest | None = None,
    fit: Fit | Connectivity | Mixed | None = None,
) -> list[Section]:
    """Make all sections about the prediction of held-out conditions by these methods."""
    fit = fit or next(iter(cv.fits.values()), None)
    many, nouns = len(methods) > 1, nouns_of(*methods)
    asked = f"{nouns.do('Do')} the {nouns.subject} predict?"
    made = [Section(asked, pictures=[picture(cv, methods)])]
    for method in methods:
        of = f": {method}" if many else ""
        made.append(
            Section(
                f"Held-out scores beside baselines{of}",
                tables=score_tables(cv, method),
                notes=baseline_notes(cv, method),
            )
        )
        made.append(Section(f"How far to trust them{of}", rows=trust_rows(cv, method)))
        made.append(conditions(cv, method, fit, of))
    if test is not None and test.channels is not None:
        made.append(channels(test))
    return [*made, folds(cv, methods, fit), Section("What the scores mean", rows=meaning_rows())]


def picture(cv: CrossValidation, methods: tuple[str, ...]) -> Picture:
    """Make the picture of the score against the ridge, beside baselines and shuffles."""
    best = "; ".join(
        f"{name} is best at {number(cv.ridges[cv.place(name)])} with {text(held_out(cv, name)[0])}"
        for name in methods
        if cv.place(name) >= 0
    )
    nouns = nouns_of(*methods)
    bases = ", ".join(f"{label} {text(cv.baseline(name)[0])}" for name, label in without_of(*methods).items())
    shuffled = "; dotted with a band, the same of shuffled conditions" if cv.baselines_shuffled else ""
    shown = (
        "The dotted line and the band are the same study with conditions in random order, mean and middle "
        "90\u00a0%: what is found where there is nothing to find."
        if cv.baselines_shuffled
        else "How much of the score is about which condition is which, only shuffles tell, "
        "cross_validate(shuffles=…)."
    )
    return Picture(
        f"{called(cv.score)}, against the ridge",
        f"Curves of a score of held-out conditions against the ridge: {best or 'not defined'}. Lines of "
        f"baselines: {bases}{shuffled}.",
        f"Each fold was predicted by {nouns.some} fitted to the other conditions. Where points are above the "
        f"lines of the baselines and the band of shuffles, {nouns.some} {nouns.do('predict')} better than "
        f"those. To the right the ridge keeps {nouns.near}, to the left {nouns.they} {nouns.do('fit')} what "
        f"is peculiar to the conditions {nouns.they} saw. "
        f"{shown}",
        lambda figure: plot.cross_validation(cv, ax=figure.subplots(), legend="above"),
        (4.6, 5.4),
    )
