"""The verdict of a study in words that readers understand who know neither the method nor the library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import evidence
from .group_studies import group_baseline, over_groups
from .intervals import OF, RESOLVED
from .nouns import GAINS, nouns_of
from .score import BASELINES

# A `Study` and its parts are `Any` here: their classes import this module.

# Channels that are named in a sentence, in each direction.
NAMED = 3
# What each score is, in a sentence.
SCORE_WORDS = {
    "r2": "the R² of predicted covariances and variances",
    "r2-diagonal": "the R² of predicted variances",
    "r2-off-diagonal": "the R² of predicted covariances, beyond their mean",
    "pearson": "the correlation of predicted and observed covariances",
    "rsa": "the correlation of predicted and observed correlations",
    "cosine": "the cosine of predicted and observed covariances",
}
PAIRS = {True: "pairs of a held-out and a trained condition", False: "pairs of held-out conditions"}


def title(study: Any) -> str:
    N, D = study.stats["shape"]
    names = list(study.populations)
    to = f", to {', '.join(names)}" if study.stats["named"] else ""
    shuffles = study.stats["shuffles"]
    return f"Study: {N} channels x {D} conditions{to}, {shuffles} shuffles, score {study.score}"


def score_rows(study: Any) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Scores of the fit, baselines and ceiling, with a column for each population."""
    found = list(study.populations.values())
    head = ("held out", *(one.name if study.stats["named"] else "score" for one in found))
    nouns = nouns_of(study.method)
    rows = [(nouns.row, *(pm(*one.value()) for one in found))]
    if any(one.cv.scores[one.method].nested is not None for one in found):
        rows.append(("ridge chosen by inner folds", *(number(nested(one)) for one in found)))
    if any(one.groups is not None for one in found):
        rows.append(("one gain a group", *(pm(*_group_baseline(one)) for one in found)))
    rows += [(label, *(pm(*one.cv.baseline(name)) for one in found)) for name, label in nouns.labels.items()]
    if any(one.test is not None for one in found):
        rows.append(("shuffles, mean", *(number(_null_mean(one)) for one in found)))
    rows.append(("noise ceiling", *(number(one.ceiling.ceiling(study.score)) for one in found)))
    if any(one.test is not None for one in found):
        rows.append(("p", *(p_text(one.p) for one in found)))
    return head, rows


def paragraphs(study: Any) -> list[tuple[str, str]]:
    """Headings and paragraphs of the verdict."""
    found = []
    for one in study.populations.values():
        of = f" of {one.name}" if study.stats["named"] else ""
        found.append((f"Prediction{of}", " ".join(prediction(study, one))))
        if has_gains(one):
            found.append((f"Channels{of}", " ".join(channels(study, one))))
        if one.groups is not None:
            found.append((f"Groups{of}", " ".join(groups(one))))
    if study.differences:
        found.append(("Between populations", " ".join(differences(study))))
    found.append(("What not to conclude", " ".join(cautions(study))))
    return found


def prediction(study: Any, one: Any) -> list[str]:
    """Whether a fit predicts held-out conditions, how much better than what, and how near to the ceiling."""
    cv, method, nouns = one.cv, one.method, nouns_of(one.method)
    verdict = cv.verdicts()[method]
    value, error = one.value()
    if not math.isfinite(value):
        return [f"The score {cv.score} is defined for no ridge: is Y constant?"]
    base = {name: cv.baseline(name)[0] for name in BASELINES}
    cross = cv.score.startswith("cross-")
    what = SCORE_WORDS[cv.score.removeprefix("cross-")]
    pairs = PAIRS[cross] if cv.score != "r2-diagonal" else "held-out conditions"
    what_predicts = (
        f"the {nouns.subject} {nouns.do('predict')} conditions that {nouns.they} {nouns.do('were')} not "
        "fitted to"
    )
    claim = {
        True: f"T{what_predicts[1:]}.",
        False: f"That {what_predicts} is not shown.",
        None: f"Whether {what_predicts} was not tested.",
    }[verdict.better]
    best = (
        f"λ/λ_max = {cv.ridges[cv.place(method)]:.3g}"
        if cv.relative
        else f"λ = {cv.ridges[cv.place(method)]:.3g}"
    )
    said = [
        claim,
        f"Over {pairs}, {what} is {pm(value, error)} at the best ridge ({best}); it is "
        f"{number(base['no-x'])} without X, {number(base['one'])} with {nouns.with_one}, and "
        f"{number(base['scaled'])} for the covariance of X scaled and shifted by three numbers.",
    ]
    k = cv.place(method)
    if len(cv.ridges) > 1 and cv.ridges[k] == cv.ridges.min() > 0:
        said.append("That is the smallest ridge that was tried: smaller ones may predict better.")
    if one.test is None:
        said.append("No conditions were shuffled, so there is no p-value: shuffles=100 gives one.")
    else:
        n = len(one.test.null)
        good = round(one.test.p * (n + 1)) - 1
        none = "none" if good == 0 else str(good)
        said.append(
            f"Of {n} studies with the conditions of Y in random order, {none} scored as high "
            f"(p = {p_text(one.test.p)})."
        )
        over = one.test.p_over
        helps = {
            True: f"{nouns.do('add')} to what X itself says",
            None: f"{nouns.do('are')} not shown to add to what X itself says",
            False: f"{nouns.do('do')} not predict better than X itself",
        }[verdict.gains_help if verdict.better else False]
        if verdict.better:
            said.append(
                f"The fitted {nouns.subject} {helps} (over {nouns.at_one} p = {p_text(over['one'])}, over "
                f"the scaled covariance p = {p_text(over['scaled'])})."
            )
    inside = nested(one)
    if math.isfinite(inside):
        said.append(
            f"A ridge that inner folds choose, without the conditions scored, gives {number(inside)}."
        )
    said.append(_ceiling(one, value))
    pattern = cv.score.removeprefix("cross-")
    left = float(cv.scores[method].pooled(("cross-" if cross else "") + "r2-off-diagonal")[cv.place(method)])
    if verdict.better and pattern in evidence.PATTERNS and left < 0:
        said.append(
            "The pattern of the covariances is predicted, not their size: R² of the same pairs is "
            f"{number(left)}, and 0 for the mean of the training pairs."
        )
    return said


def _ceiling(one: Any, value: float) -> str:
    top, by = one.ceiling.ceiling(one.cv.score), one.ceiling.by
    if not math.isfinite(top):
        return f"The noise ceiling is not defined: all halves of the {by} of Y have one covariance."
    if not top > 0:
        return f"The noise ceiling is 0: two halves of the {by} of Y have no covariance in common."
    said = f"As Y is noisy, no prediction is expected to score above {number(top)} (from halves of its {by})"
    nouns = nouns_of(one.method)
    reached = f"the {nouns.subject} {nouns.do('reach')}"
    if value <= 0:
        return f"{said}."
    if value < top:
        return f"{said}; {reached} {value / top:.0%} of that."
    if value <= one.ceiling.band(one.cv.score)[1]:
        return f"{said}; {reached} that."
    return exceeding(top, by)


def exceeding(top: float, by: str) -> str:
    """What to think of a score above the noise ceiling."""
    return (
        f"The score exceeds the noise ceiling, {number(top)} (from halves of the {by} of Y), above which no "
        "prediction was expected to score. That can be where Y has few cells, of which a half says little of "
        "the whole, where X and Y share noise, or by chance."
    )


def channels(study: Any, one: Any) -> list[str]:
    """How many gains changed, which ones most surely, and how well they are determined."""
    table = one.channels
    if table is None:
        return [f"There are no intervals of single gains: {one.missing}"]
    N, by = len(table), OF[study.stats["by"]]
    n, fdr = int(table.changed.sum()), study.stats["fdr"]
    interval = f"{study.stats['level']:.0%}"
    if n:
        rule = f"their {interval} intervals over {by} leave out one"
        if table.tested:
            rule += f", and they differ from gains of shuffled conditions (false discovery rate {fdr:.0%})"
        said = [f"The gains of {n} of {N} channels changed: {rule}."]
        for word, mask in (("rose", table.gain > 1), ("fell", table.gain < 1)):
            places = np.flatnonzero(table.changed & mask)
            some = ", ".join(f"{called(table.names[i])} ({number(table.gain[i])})" for i in places[:NAMED])
            surely = "most surely " if len(places) > NAMED else ""
            said.append(f"{len(places)} {word}, {surely}{some}." if len(places) else f"None {word}.")
    else:
        rule = f"a {interval} interval over {by} that leaves out one"
        if table.tested:
            rule += f", and a difference from gains of shuffled conditions (false discovery rate {fdr:.0%})"
        said = [f"No gain is shown to have changed; that takes {rule}."]
        outside = int(((table.lower > 1) | (table.upper < 1)).sum())
        if table.tested and outside:
            said.append(f"The intervals of {outside} gains leave out one, but the difference is not shown.")
    if not table.tested:
        said.append("Gains were not compared with those of shuffled conditions.")
    resolution = table.resolution[np.isfinite(table.resolution)]
    if len(resolution):
        well = int((resolution > RESOLVED).sum())
        of = table.resolution[table.changed & np.isfinite(table.resolution)]
        changed = f", {int((of > RESOLVED).sum())} of them among those that changed" if n else ""
        said.append(
            f"The data determine more than {RESOLVED:.0%} of a gain, and the ridge the rest, for {well} "
            f"channels{changed}; the median of this resolution is {np.median(resolution):.2f}."
        )
    agreed = one.cv.agreement(one.method)
    if agreed is not None and np.isfinite(agreed[one.cv.place(one.method)]):
        said.append(
            "Gains of two folds, which share most conditions, correlate by "
            f"{number(agreed[one.cv.place(one.method)])}: that says how stable they are, not how right."
        )
    return said


def groups(one: Any) -> list[str]:
    """What one gain for each group predicts, and in how many groups the fit predicts."""
    found, nouns = one.groups, nouns_of(one.method)
    base, _ = _group_baseline(one)
    gained, error, p = over_groups(one.cv, one.method, found.gains)
    tested = "" if p is None else f", p = {p_text(p)}"
    listed = ", ".join(
        f"{name}: {number(gain)}" for name, gain in zip(found.names, found.gains.gains, strict=True)
    )
    said = [
        f"One gain for each of the {len(found.names)} groups ({listed}) scores {number(base)}; "
        f"{nouns.each} scores {number(abs(gained))} {'more' if gained >= 0 else 'less'} "
        f"(± {number(error)}{tested})."
    ]
    scores = found.scores()
    known = scores[np.isfinite(scores)]
    cells = "its own cells" if found.own else "all cells"
    if len(known):
        spread = f" ± {number(known.std(ddof=1))} (standard deviation)" if len(known) > 1 else ""
        said.append(
            f"Fitted to {cells} from the channels of one group alone, {nouns.some} {nouns.do('score')} "
            f"{number(known.mean())}"
            f"{spread} over groups, from {number(known.min())} to {number(known.max())}."
        )
    k, n, p_sign = found.above("one")
    if n:
        said.append(
            f"{nouns.they.capitalize()} {nouns.do('predict')} better than {nouns.at_one} in {k} of {n} "
            f"groups (sign test, p = {p_text(p_sign)})."
        )
    said += undefined(found)
    agreed = found.agreement[np.isfinite(found.agreement)]
    if len(agreed):
        said.append(
            f"Gains of a group's own fit and of the fit of all channels correlate by {number(agreed.mean())} "
            "in the mean."
        )
    return said


def undefined(found: Any) -> list[str]:
    """Which groups have no study of their own, and why."""
    return [f"Group {name} has no study of its own: {reason}" for name, reason in found.missing.items()]


def differences(study: Any) -> list[str]:
    """Which population is predicted better, on the same folds.

    An interval over folds does not say it: two samples of cells from one population differ by as much.
    """
    said = []
    for one in study.differences:
        first, second, value = one.first, one.second, one.value
        if not math.isfinite(value):
            said.append(f"{first} and {second} cannot be compared: a score is not defined.")
            continue
        if value < 0:
            first, second = second, first
        low, high = sorted((one.lower, one.upper) if value >= 0 else (-one.upper, -one.lower))
        size = f"{number(abs(value))} ± {number(one.se)}"
        more = f"{one.level:.0%} interval {number(low)} to {number(high)}, over the same folds"
        if one.p is not None:
            more += f"; p = {p_text(one.p)} with cells dealt anew"
        if number(abs(value)) == number(0):
            said.append(f"{first} and {second} score alike: the difference is {size} ({more}).")
        elif low > 0 and one.p is None:
            said.append(
                f"{first} scores {size} more than {second} ({more}). Whether other cells would, too, was not "
                "tested: two samples of cells from one population can differ as much. deals=99 tests it."
            )
        elif low > 0 and one.p <= evidence.LEVEL:
            said.append(f"{first} is predicted better than {second} by {size} ({more}).")
        else:
            said.append(f"{first} scores {size} more than {second} ({more}): a difference is not shown.")
        said += unequal(study, first, second)
    return said


def unequal(study: Any, first: str, second: str) -> list[str]:
    """A caution where the noise of two populations allows them different scores."""
    tops = [study.populations[name].ceiling.ceiling(study.score) for name in (first, second)]
    if len(set(map(number, tops))) == 1:
        return []
    return [
        f"Their noise ceilings are {number(tops[0])} and {number(tops[1])}: noise of Y alone can make a "
        "difference between scores."
    ]


def cautions(study: Any) -> list[str]:
    """What the numbers do not say."""
    if nouns_of(study.method) is not GAINS:
        return [
            "W is one connectivity of many: rotations of the outputs among channels leave their covariance "
            "as it is. The ridge takes of all W with one covariance that of least norm.",
            "So an entry of W is no measurement of a synapse, and of a channel it says less than a gain "
            "does. What the data determine is how patterns over conditions are strengthened and weakened.",
            "A connectivity has many more numbers than gains. That it fits better says nothing: compare how "
            "both predict conditions that are held out (fastcov.compare).",
        ]
    by = OF[study.stats["by"]]
    return [
        f"An interval is that of the shrunken gain, which this ridge would give with other {by}: it need not "
        f"hold the gain that a circuit has, least of all where the resolution is below {RESOLVED:g}.",
        "A channel that is not named may have changed, too.",
        "A gain says how much a channel has to count for the covariances to match; it is no measurement of a "
        "synapse, and another cause that moves the covariances in the same way has the same gains.",
    ]


def has_gains(one: Any) -> bool:
    """Whether gains were fitted to a population, rather than a connectivity."""
    return nouns_of(one.method) is GAINS


# ---- numbers


def called(name: Any) -> str:
    """A channel in a sentence: by its name, or by its number."""
    return f"channel {name}" if isinstance(name, int) else str(name)


def number(value: Any) -> str:
    value = float(value)
    if not math.isfinite(value):
        return "not defined"
    text = f"{value:.2f}"
    return ("0.00" if text == "-0.00" else text).replace("-", "−")


def pm(value: float, error: float) -> str:
    return number(value) + (f" ± {number(error)}" if math.isfinite(error) and math.isfinite(value) else "")


def p_text(p: float | None) -> str:
    return "not tested" if p is None else "not defined" if math.isnan(p) else f"{p:.2g}"


def nested(one: Any) -> float:
    """The score at ridges that inner folds chose; NaN without them."""
    found = one.cv.scores[one.method].nested
    return math.nan if found is None else float(found.moments.pooled(one.cv.score))


def _null_mean(one: Any) -> float:
    return math.nan if one.test is None else float(np.mean(one.test.null))


def _group_baseline(one: Any) -> tuple[float, float]:
    if one.groups is None:
        return math.nan, math.nan
    return group_baseline(one.groups.gains, one.cv.score, one.cv.times)
