"""What held-out conditions say of gains: the part of a page that a study adds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import plot
from .._baselines import BASELINES
from .._evidence import gain_over
from .._moments import SCORES
from .._permutation import PermutationTest
from .._result import Fit
from .._scores import FINE, CrossValidation
from ..plot._held_out import WORDS, band
from ._sections import Picture, Row, Section, Table
from ._words import decimals, number, plural, score

# Conditions, and channels of a test, that are listed; folds that are listed all.
_LISTED, _FOLDS = 10, 20
# What stands in the head of a table, and after it what it means.
_WITHOUT = {"one": "gains of one", "no-x": "without X", "scaled": BASELINES["scaled"]}
# The same in so few letters that a table fits a phone.
_HEADS = _WITHOUT | {"scaled": "scaled X"}
_BASELINE_WORDS = {
    "no-x": "Two numbers of the training conditions and nothing of X: the mean variance of the target, and "
    "its mean covariance.",
    "one": "The covariance of X as it is.",
    "scaled": "Three numbers, fitted to the training conditions, that scale the covariance C of X and add to "
    "its variances and to all of it.",
}
_PERMUTED = {
    "conditions": "all conditions", "within": "conditions within their groups", "groups": "groups as wholes",
}  # fmt: skip
_PAIRS = {
    "held-out pairs": "pairs of held-out conditions",
    "held-out variances": "variances of held-out conditions",
    "held-out pairs and variances": "pairs of held-out conditions, and their variances",
    "held-out × trained pairs": "pairs of a held-out and a trained condition",
}
_VERDICT = {True: "good", None: "open", False: "bad"}

# Words of this part, for the glossary.
STUDIED = (
    Row("Baseline", "A prediction without fitted gains, scored on the same held-out conditions: what gains "
        "have to beat to be worth anything."),
    Row("Without X", _BASELINE_WORDS["no-x"]),
    Row("Shuffled", "The whole study again, the choice of the ridge with it, after the conditions of the "
        "target were put in random order: what the same procedure finds where there is nothing to find."),
    Row("p", "The share of shuffles that reach at least the observed score, what was observed counted as "
        "one. Below 0.05 is taken for evidence; one in (shuffles + 1) is the least there can be."),
    Row("Held-out and cross pairs", "Pairs of two held-out conditions, and of a held-out with a trained one. "
        "No fit saw either; there are many more of the second."),
)  # fmt: skip


def study_of(cv: Any, fit: Fit | None = None) -> tuple[CrossValidation, PermutationTest | None] | None:
    """The study that is behind an argument `cv`, or behind the fit, and its test: None without one."""
    if cv is None and fit is not None and fit.delta.ndim == 1:
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
    if fit.delta.ndim == 2:
        raise ValueError(
            f"Argument 'cv' must be left out for a stack of targets, not given with {len(fit.delta)}: report "
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
    return study, test


def called(name: str) -> str:
    """A score in words."""
    what, pairs = WORDS[name]
    return f"{what[0].upper()}{what[1:]}, {pairs}"


def verdict_of(cv: CrossValidation, method: str) -> tuple[str, str]:
    """The verdict of a method in words, and whether that is good, bad or open."""
    found = cv.verdicts()[method]
    return found.words, _VERDICT[found.better]


def held_out(cv: CrossValidation, method: str) -> tuple[float, float]:
    """The score of a method at its best ridge, and its standard error; NaN where there is none."""
    k = cv.place(method)
    if k < 0:
        return math.nan, math.nan
    values, error = cv.summary(method)
    return float(values[k]), float(error[k])


def tile(cv: CrossValidation, method: str) -> Row:
    """The held-out score beside baselines and shuffles."""
    value, error = held_out(cv, method)
    spread = f"\u00a0±\u00a0{score(error)}" if math.isfinite(error) else ""
    beside = [f"{_WITHOUT[name]} {_text(cv.baseline(name)[0])}" for name in ("no-x", "one")]
    found = cv.scores[method].shuffled
    if found is not None and cv.place(method) >= 0:
        _, low, high = (ends[cv.place(method)] for ends in band(found.pooled(cv.score)))
        beside.append(f"shuffled {_text(low)} to {_text(high)} (5–95\u00a0%)")
    else:
        beside.append("not compared to shuffles")
    what, _ = WORDS[cv.score]
    return Row(f"Held out: {what}", _text(value) + spread, "; ".join(beside))


def _text(value: float) -> str:
    return score(value + 0.0 if abs(value) >= 0.005 else 0.0) if math.isfinite(value) else "not defined"


def sentences(cv: CrossValidation, method: str) -> list[str]:
    """What the verdict rests on."""
    found = cv.verdicts()[method]
    if found.better is True:
        first = "The same procedure on shuffled conditions hardly ever does as well."
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
        first = "Gains of shuffled conditions do as well: the fit says nothing of conditions it has not seen."
    value, _ = held_out(cv, method)
    what, pairs = WORDS[cv.score]
    what = f"{what} of predicted and target covariances" if what == "correlation" else what
    said = (
        f"The score is the {what}, over {_PAIRS.get(pairs, pairs)}, of {plural(len(cv.folds), 'fold')} "
        f"together: {_text(value)}."
    )
    more = " ".join(found.more).replace(" -", " −")
    return [f"{first} {said}", *([more] if more else [])]


def sections(
    cv: CrossValidation, methods: tuple[str, ...], test: PermutationTest | None = None, fit: Fit | None = None
) -> list[Section]:
    """All about the prediction of held-out conditions by some methods."""
    fit = fit or next(iter(cv.fits.values()), None)
    many = len(methods) > 1
    made = [Section("Do the gains predict?", pictures=[picture(cv, methods)])]
    for method in methods:
        of = f": {method}" if many else ""
        made.append(
            Section(
                f"Held-out scores beside baselines{of}", tables=_score_tables(cv, method), notes=_notes(cv)
            )
        )
        made.append(Section(f"How far to trust them{of}", rows=_trust(cv, method)))
        made.append(_conditions(cv, method, fit, of))
    if test is not None and test.channels is not None:
        made.append(_channels(test))
    return [*made, _folds(cv, methods, fit), Section("What the scores mean", rows=_meanings())]


def picture(cv: CrossValidation, methods: tuple[str, ...]) -> Picture:
    """The score against the ridge, beside baselines and shuffles."""
    best = "; ".join(
        f"{name} is best at {number(cv.ridges[cv.place(name)])} with {_text(held_out(cv, name)[0])}"
        for name in methods
        if cv.place(name) >= 0
    )
    bases = ", ".join(f"{_WITHOUT[name]} {_text(cv.baseline(name)[0])}" for name in BASELINES)
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
        "Each fold was predicted by gains that were fitted to the other conditions. Where points are above "
        "the lines of the baselines, gains predict better than without them. To the right gains stay near "
        f"one, to the left they fit what is peculiar to the conditions they saw. {shown}",
        lambda figure: plot.cross_validation(cv, ax=figure.subplots(), legend="above"),
        (4.6, 5.4),
    )


def _order(cv: CrossValidation) -> list[str]:
    """All scores, that which chose first."""
    return [cv.score, *(name for name in SCORES if name != cv.score)]


def _score_tables(cv: CrossValidation, method: str) -> list[Table]:
    """All scores at the best ridge beside the baselines, and their p-values."""
    k = cv.place(method)
    if k < 0:
        return []
    names = ("no-x", "one", "scaled")
    rows = [
        (
            called(name),
            _text(float(cv.scores[method].pooled(name)[k])),
            *(_text(cv.baseline(each, name)[0]) for each in names),
        )
        for name in _order(cv)
    ]
    head = ("Score", method, *(_HEADS[each] for each in names))
    tables = [
        Table(
            f"At the ridge {number(cv.ridges[k])}, all folds together; the first score chose the ridge",
            head,
            rows,
        )
    ]
    if cv.baselines_shuffled:
        tested = [
            (
                called(name),
                _p(cv.p_value(method, name)),
                *(_p(cv.p_value(method, name, over=each)) for each in names),
            )
            for name in _order(cv)
        ]
        head = ("Score", "itself", *(f"over {_HEADS[each]}" for each in names))
        n = len(cv.baselines_shuffled["one"].sums)
        tables.append(
            Table(
                f"p of each score, and of its gain over baselines, from {plural(n, 'shuffle')}", head, tested
            )
        )
    return tables


def _p(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2g}"


def _notes(cv: CrossValidation) -> list[str]:
    starts = {"no-x": "Without X", "one": "Gains of one", "scaled": f"Scaled X, {BASELINES['scaled']}"}
    notes = [f"{words}: {_BASELINE_WORDS[name]}" for name, words in starts.items()]
    if cv.baselines_shuffled:
        notes.append(
            "Of many p-values some are small by chance. The verdict is that of the first row alone, over "
            "what is predicted without X."
        )
    return notes


def _meanings() -> list[Row]:
    return [Row(called(name), f"{name}: {meaning}.") for name, meaning in SCORES.items()]


def _trust(cv: CrossValidation, method: str) -> list[Row]:
    """What else there is to say of the score at the best ridge."""
    k = cv.place(method)
    if k < 0:
        return [Row("Score", "not defined", "At no ridge: is the held-out target of all folds zero?")]
    rows = []
    for name in ("no-x", "one", "scaled"):
        gained, error = gain_over(cv, method, name)
        spread = f" ± {score(error)}" if math.isfinite(error) else ""
        p = cv.p_value(method, over=name)
        tested = f"; p = {_p(p)}" if p is not None else "; not tested by shuffles"
        rows.append(
            Row(f"Gain over {_WITHOUT[name]}", f"{_text(gained)}{spread}{tested}", "Score of the best ridge "
                "less that of the baseline, with the standard error of the difference.")
        )  # fmt: skip
    return [*rows, *_choice(cv, method, k), *_stability(cv, method, k)]


def _choice(cv: CrossValidation, method: str, k: int) -> list[Row]:
    """Which ridge was chosen, and how far that flatters the score."""
    table = cv.scores[method]
    value, one_se = float(table.pooled(cv.score)[k]), cv.ridges[cv.place(method, "one-se")]
    unit = " of the largest eigenvalue" if cv.relative else ""
    rows = [
        Row("Best ridge", f"{number(cv.ridges[k])}{unit}", f"Of {plural(len(cv.ridges), 'ridge')}. The "
            f"largest within one standard error of the difference to it is {number(one_se)}.")
    ]  # fmt: skip
    if table.nested is not None:
        inside = float(table.nested.moments.pooled(cv.score))
        rows.append(
            Row("Nested folds", _text(inside), "The score where the ridge of each fold was chosen by folds "
                f"within it. The choice flatters the {_text(value)} above by {_text(value - inside)}.")
        )  # fmt: skip
    elif len(cv.ridges) > 1:
        rows.append(
            Row("Nested folds", "not asked for", f"The {_text(value)} is that of the ridge it chose, which "
                "flatters it: nested=True, or --nested, says how far.")
        )  # fmt: skip
    return rows


def _stability(cv: CrossValidation, method: str, k: int) -> list[Row]:
    """Agreement of folds, shuffles, and fits that stopped short."""
    table, rows = cv.scores[method], []
    agreed = cv.agreement(method)
    if agreed is not None:
        rows.append(
            Row("Agreement of gains", _text(float(agreed[k])), "Mean correlation of the gains that any two "
                "folds found. Folds share most of their conditions, so that it is high even where there is "
                "nothing to find.")
        )  # fmt: skip
    n = 0 if table.shuffled is None else len(table.shuffled.sums)
    permuted = _PERMUTED[cv.stats.get("permute", "conditions")]
    says = f"Of {permuted}. The least p there can be is {1 / (n + 1):.2g}."
    missing = "Only they tell how much of the score is about which condition is which."
    rows.append(Row("Shuffles", str(n) if n else "none", says if n else missing))
    short = int(np.sum(~np.isin(table.status.astype(str), FINE)))
    rows.append(Row("Fits that stopped short", f"{short} of {table.status.size}", "Their scores are kept."))
    return rows


def _names(fit: Fit | None, D: int) -> tuple[list[str], list[str]]:
    """Names of conditions, and what to say where they have none."""
    if fit is not None and fit.conditions is not None:
        return [str(name) for name in fit.conditions], []
    return [str(d) for d in range(D)], ["Conditions are numbered by their column; the first is 0."]


def _conditions(cv: CrossValidation, method: str, fit: Fit | None, of: str) -> Section:
    D = cv.stats["shape"][1]
    names, notes = _names(fit, D)
    heading = f"Conditions that are predicted worst{of}"
    if cv.place(method) < 0:
        return Section(heading, ["There are no scores, and so no errors to share out."])
    shares = np.nan_to_num(cv.condition_shares(method))
    order = np.argsort(-shares, kind="stable")[: min(_LISTED, D)]
    rows = [(names[d], f"{100 * shares[d]:.1f}\u00a0%") for d in order]
    notes = [f"Shared out evenly, each of {D} conditions would have {100 / D:.1f}\u00a0%.", *notes]
    caption = "Share of the squared error of held-out pairs, at the best ridge"
    return Section(heading, tables=[Table(caption, ("Condition", "Share"), rows)], notes=notes)


def _folds(cv: CrossValidation, methods: tuple[str, ...], fit: Fit | None) -> Section:
    """Which conditions each fold held out, and how well it did."""
    names, notes = _names(fit, cv.stats["shape"][1])
    each, places = len(cv.folds) // cv.repeats, {name: cv.place(name) for name in methods}
    by_fold = {
        name: cv.scores[name].by_fold(cv.score)[:, places[name]]
        if places[name] >= 0
        else np.full(len(cv.folds), np.nan)
        for name in methods
    }
    shown = range(min(len(cv.folds), _FOLDS))
    rows = [
        (
            f"{f // each + 1}.{f % each + 1}" if cv.repeats > 1 else str(f + 1),
            ", ".join(names[d] for d in cv.folds[f][1]),
            *(_text(float(by_fold[name][f])) for name in methods),
        )
        for f in shown
    ]
    if len(cv.folds) > _FOLDS:
        notes = [f"The first {_FOLDS} of {len(cv.folds)} folds.", *notes]
    if cv.repeats > 1:
        notes = ["Folds are numbered by repeat and fold.", *notes]
    caption = f"{called(cv.score)}, at the best ridge"
    return Section("Folds", tables=[Table(caption, ("Fold", "Held out", *methods), rows)], notes=notes)


def _channels(test: PermutationTest) -> Section:
    """Channels whose gains differ most from those of shuffled targets."""
    found = test.channels
    assert found is not None
    N, n = len(found.p), int(found.different().sum())
    order = np.lexsort((-np.abs(found.gains - found.mean), found.q))[:_LISTED]
    names = found.names if found.names is not None else range(N)
    rows = [
        (str(names[i]), decimals(found.gains[i]), f"{score(found.mean[i])} ± {score(found.deviation[i])}",
         _p(float(found.p[i])), _p(float(found.q[i])))
        for i in order
    ]  # fmt: skip
    return Section(
        "Which gains differ from those of shuffled targets",
        [
            f"{n} of {plural(N, 'gain')} {'differs' if n == 1 else 'differ'} at a false discovery rate of "
            f"10\u00a0%. Gains correlate by {_text(float(np.nanmean(found.correlation)))} with those of "
            "shuffled targets: so much of them has nothing to do with which condition is which."
        ],
        tables=[Table("Channels with the least q", ("Channel", "Gain", "Shuffled", "p", "q"), rows)],
        notes=["q is p adjusted for the number of channels (Benjamini and Hochberg)."],
    )
