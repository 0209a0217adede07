"""Make the tables of a study of held-out conditions: scores beside baselines, and how far to trust them."""

from __future__ import annotations

import math

import numpy as np

from .._results.connectivity import Connectivity
from .._results.cross_validation import CrossValidation
from .._results.evidence import gain_over, maxima
from .._results.fit import Fit
from .._results.mixed import Mixed
from .._results.nouns import nouns_of
from .._results.permutation_test import PermutationTest
from .._results.score import BASELINES, FINE, SCORES
from ..plot._held_out import WORDS
from ._sections import Row, Section, Table
from ._words import decimals, number, plural, score

# Number of conditions, and of channels of a test, that are listed; number of folds up to which all are
# listed.
_LISTED, _FOLDS = 10, 20
BASELINE_WORDS = {
    "no-x": "Two numbers of the training conditions and nothing of X: the mean variance of the target, and "
    "its mean covariance.",
    "one": "The covariance of X as it is.",
    "scaled": "Three numbers, fitted to the training conditions, that scale the covariance C of X and add to "
    "its variances and to all of it.",
}
_PERMUTED = {
    "conditions": "all conditions", "within": "conditions within their groups", "groups": "groups as wholes",
}  # fmt: skip


def without_of(*methods: str) -> dict[str, str]:
    """Return baselines as they are named in sentences; BASELINE_WORDS explains them."""
    return nouns_of(*methods).labels | {"no-x": "without X"}


def _heads(method: str) -> dict[str, str]:
    """Return shorter names, so that a table fits a phone."""
    return nouns_of(method).labels | {"no-x": "no X", "scaled": "scaled X"}


def called(name: str) -> str:
    """Return the name of a score in words."""
    what, pairs = WORDS[name]
    return f"{what[0].upper()}{what[1:]}, {pairs}"


def text(value: float) -> str:
    return score(value + 0.0 if abs(value) >= 0.005 else 0.0) if math.isfinite(value) else "not defined"


def _order(cv: CrossValidation) -> list[str]:
    """Return all scores, with the one that chose the ridge first."""
    return [cv.score, *(name for name in SCORES if name != cv.score)]


def score_tables(cv: CrossValidation, method: str) -> list[Table]:
    """Make tables of all scores at the best ridge beside the baselines, and of their p-values."""
    k = cv.place(method)
    if k < 0:
        return []
    names = ("no-x", "one", "scaled")
    rows = [
        (
            called(name),
            text(float(cv.scores[method].pooled(name)[k])),
            *(text(cv.baseline(each, name)[0]) for each in names),
        )
        for name in _order(cv)
    ]
    heads = _heads(method)
    head = ("Score", method, *(heads[each] for each in names))
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
                *(_over(cv, method, name, each) for each in names),
            )
            for name in _order(cv)
        ]
        head = ("Score", "itself", *(f"over {heads[each]}" for each in names))
        n = len(cv.baselines_shuffled["one"].sums)
        tables.append(
            Table(
                f"p of each score, and of its gain over baselines, from {plural(n, 'shuffle')}", head, tested
            )
        )
    return tables


def _over(cv: CrossValidation, method: str, name: str, baseline: str) -> str:
    """Return p of the gain over a baseline, if there is a gain."""
    gained, _ = maxima(cv, method, name, baseline)
    return _p(cv.p_value(method, name, over=baseline)) if gained > 0 else "below it"


def _p(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2g}"


def baseline_notes(cv: CrossValidation, method: str) -> list[str]:
    one = nouns_of(method).at_one
    starts = {"no-x": "No X", "one": one[0].upper() + one[1:], "scaled": f"Scaled X, {BASELINES['scaled']}"}
    notes = [f"{words}: {BASELINE_WORDS[name]}" for name, words in starts.items()]
    if cv.baselines_shuffled:
        notes.append(
            "Of many p-values some are small by chance. The verdict is that of the first row alone, over "
            "what is predicted without X."
        )
    return notes


def meaning_rows() -> list[Row]:
    return [Row(called(name), f"{name}: {meaning}.") for name, meaning in SCORES.items()]


def trust_rows(cv: CrossValidation, method: str) -> list[Row]:
    """Make the rows that say how far to trust the score at the best ridge."""
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
            Row(f"Gain over {without_of(method)[name]}", f"{text(gained)}{spread}{tested}", "Score of the "
                "best ridge less that of the baseline, with the standard error of the difference.")
        )  # fmt: skip
    return [*rows, *_choice(cv, method, k), *_stability(cv, method, k)]


def _choice(cv: CrossValidation, method: str, k: int) -> list[Row]:
    """Say which ridge was chosen, and how far the choice inflates the score."""
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
            Row("Nested folds", text(inside), "The score where the ridge of each fold was chosen by folds "
                f"within it. The choice flatters the {text(value)} above by {text(value - inside)}.")
        )  # fmt: skip
    elif len(cv.ridges) > 1:
        rows.append(
            Row("Nested folds", "not asked for", f"The {text(value)} is that of the ridge it chose, which "
                "flatters it: nested=True, or --nested, says how far.")
        )  # fmt: skip
    return rows


def _stability(cv: CrossValidation, method: str, k: int) -> list[Row]:
    """Report the agreement of folds, the shuffles, and fits that stopped short."""
    table, rows = cv.scores[method], []
    agreed = cv.agreement(method)
    if agreed is not None:
        rows.append(
            Row("Agreement of gains", text(float(agreed[k])), "Mean correlation of the gains that any two "
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


def _names(fit: Fit | Connectivity | Mixed | None, D: int) -> tuple[list[str], list[str]]:
    """Return the names of conditions, and a note if they have none."""
    if fit is not None and fit.conditions is not None:
        return [str(name) for name in fit.conditions], []
    return [str(d) for d in range(D)], ["Conditions are numbered by their column; the first is 0."]


def conditions(cv: CrossValidation, method: str, fit: Fit | Connectivity | Mixed | None, of: str) -> Section:
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


def folds(cv: CrossValidation, methods: tuple[str, ...], fit: Fit | Connectivity | Mixed | None) -> Section:
    """Make the section of the conditions that each fold held out, and of its score."""
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
            *(text(float(by_fold[name][f])) for name in methods),
        )
        for f in shown
    ]
    if len(cv.folds) > _FOLDS:
        notes = [f"The first {_FOLDS} of {len(cv.folds)} folds.", *notes]
    if cv.repeats > 1:
        notes = ["Folds are numbered by repeat and fold.", *notes]
    caption = f"{called(cv.score)}, at the best ridge"
    return Section("Folds", tables=[Table(caption, ("Fold", "Held out", *methods), rows)], notes=notes)


def channels(test: PermutationTest) -> Section:
    """Make the section of the channels whose gains differ most from those of shuffled targets."""
    found = test.channels
    assert found is not None
    N, n = len(found.p), int(found.different().sum())
    known = found.correlation[np.isfinite(found.correlation)]
    alike = text(float(known.mean()) if len(known) else math.nan)
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
            f"10\u00a0%. Gains correlate by {alike} with those of shuffled targets: so much of them has "
            "nothing to do with which condition is which."
        ],
        tables=[Table("Channels with the least q", ("Channel", "Gain", "Shuffled", "p", "q"), rows)],
        notes=["q is p adjusted for the number of channels (Benjamini and Hochberg)."],
    )
