"""A comparison of models as text, as tables, and as plain values."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._version import __version__
from . import evidence
from .frames import Table
from .printed import size_text
from .score import SCORES
from .study_record import plain
from .study_words import SCORE_WORDS, exceeding, number, p_text, pm
from .summaries import CHOICES, SUMMARIES

# A `Comparison` is `Any` here: its class imports this module.

WIDTH = 108
Shown = tuple[str, tuple[str, ...], list[tuple[str, ...]], list[str]]


def title(found: Any) -> str:
    stats = found.stats
    folds = f"{stats['folds']} folds" + (f" ({stats['repeats']} repeats)" if stats["repeats"] > 1 else "")
    shuffles = f", {stats['shuffles']} shuffles" if stats["shuffles"] else ""
    models = "1 model" if len(found.models) == 1 else f"{len(found.models)} models"
    return f"Comparison: {models}, {size_text(stats)}, {folds}{shuffles}, {found.score}"


def tables(found: Any) -> Iterator[Shown]:
    """Title, head, rows and notes of the table of models and of that of differences."""
    head = ("", f"{found.score}", *(label for label, _, _ in SUMMARIES.values()), "d.o.f.", "λ", "p", "s")
    rows = [_row(found, name) for name in found.names]
    how = {
        "nested": "at the ridge that inner folds chose for each fold",
        "best": "at the best ridge, which flatters models that have one",
    }[found.choice]
    notes = [
        f"{found.score}: of all folds together, ± its standard error over conditions; scores are {how}. Mean "
        "and median R², Pearson and cross-Pearson are over folds. d.o.f.: effective degrees of freedom; λ: "
        "the best ridge"
        + (" over the largest eigenvalue" if any(_relative(found, name) for name in found.fitted) else "")
        + "; s: seconds."
    ]
    yield title(found), head, rows, notes
    if len(found.names) > 1:
        level = f"{found.stats['level']:.0%} interval"
        compared: list[tuple[str, ...]] = [
            (
                each.first,
                number(each.value),
                f"{number(each.lower)} to {number(each.upper)}",
                p_text(each.p),
            )
            for each in found.differences()
        ]
        caption = f"Difference of {found.score} to {found.reference}, on the same folds"
        yield caption, ("", "difference", level, "p"), compared, sentences(found)


def _relative(found: Any, name: str) -> bool:
    return bool(found[name].cv.relative)


def _row(found: Any, name: str) -> tuple[str, ...]:
    one, summary = found[name], found.summary(name)
    return (
        name,
        pm(*found.value(name)),
        *(_cell(value) for value in summary.values()),
        "-" if math.isnan(one.degrees_of_freedom) else f"{one.degrees_of_freedom:.3g}",
        "-" if math.isnan(one.best_ridge) else f"{one.best_ridge:.2g}",
        "-" if found.p(name) is None else p_text(found.p(name)),
        "-" if one.is_baseline else f"{one.seconds:.2g}",
    )


def _cell(value: float) -> str:
    return number(value) if math.isfinite(value) else "-"


def text(found: Any) -> str:
    lines: list[str] = []
    for k, (caption, head, rows, notes) in enumerate(tables(found)):
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines += ([""] if k else []) + [caption]
        for name, *cells in (head, *rows):
            spaced = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
            lines.append("  " + "  ".join((name.ljust(widths[0]), *spaced)).rstrip())
        for note in notes:
            lines += textwrap.wrap(
                note, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
            )
    return "\n".join(lines)


# ---- the verdict


def sentences(found: Any) -> list[str]:
    """What the comparison shows, and what it does not."""
    values = {name: found.value(name)[0] for name in found.names}
    known = {name: value for name, value in values.items() if math.isfinite(value)}
    if not known:
        return [f"The score {found.score} is defined for no model: is Y constant?"]
    first = max(known, key=lambda name: known[name])
    said = [f"Of {len(found.names)} models, {first} scores highest: {pm(*found.value(first))}."]
    said += _beside(found, first, known)
    said += _chance(found)
    said += _ceiling(found, first, known[first])
    said.append(
        "Intervals and p of differences are over conditions, for these very channels and cells: others may "
        "give another difference."
    )
    if found.choice == "best":
        said.append(
            "Each model is scored at the ridge that suits these folds best, which flatters it: nested=True "
            "chooses ridges without the conditions scored."
        )
    return said


def _beside(found: Any, first: str, known: dict[str, float]) -> list[str]:
    """How far the best model is above the others."""
    clear: list[str] = []
    open_: list[str] = []
    for name in known:
        if name != first:
            each = found.difference(first, name)
            (clear if each.lower > 0 else open_).append(f"{name} ({number(each.value)})")
    said = []
    if clear:
        said.append(f"It scores higher than {', '.join(clear)}, by an interval that leaves out 0.")
    if open_:
        said.append(f"That it predicts better than {', '.join(open_)} is not shown.")
    return said


def _chance(found: Any) -> list[str]:
    """Which models predict at all."""
    n = found.stats["shuffles"]
    if not n:
        return ["No conditions were shuffled, so that no model was tested: shuffles=99 does it."]
    tested = {name: found.p(name) for name in found.names}
    yes = [name for name, p in tested.items() if p is not None and p <= evidence.LEVEL]
    no = [name for name in tested if name not in yes]
    what = SCORE_WORDS[found.score.removeprefix("cross-")]
    said = []
    if yes:
        said.append(
            f"With the conditions of Y in random order, {what} is as high in at most {evidence.LEVEL:.0%} of "
            f"{n} shuffles for {', '.join(yes)}: they predict."
        )
    if no:
        said.append(f"That {', '.join(no)} {'predict' if len(no) > 1 else 'predicts'} is not shown.")
    return said


def _ceiling(found: Any, first: str, value: float) -> list[str]:
    if found.ceiling is None:
        return []
    top = found.ceiling.ceiling(found.score)
    if not math.isfinite(top) or not top > 0:
        return []
    if value > found.ceiling.band(found.score)[1]:
        return [exceeding(top, found.ceiling.by)]
    reached = f"; {first} reaches {value / top:.0%} of that" if 0 < value < top else ""
    return [f"As Y is noisy, no model is expected to score above {number(top)}{reached}."]


# ---- plain values


def table(found: Any) -> Table:
    """A row for each model and choice of ridges."""
    choices = [choice for choice in CHOICES if choice == "best" or found.choice == "nested"]
    rows = [(name, choice) for choice in choices for name in found.names]
    models = [found[name] for name, _ in rows]
    values = np.array([found.value(name, choice=choice) for name, choice in rows])
    p = [found.p(name) for name, _ in rows]
    return {
        "model": np.array([name for name, _ in rows], dtype=object),
        "choice": np.array([choice for _, choice in rows], dtype=object),
        "score": values[:, 0],
        "standard_error": values[:, 1],
        **{
            key: np.array([found.summary(name, choice)[key] for name, choice in rows]) for key in SUMMARIES
        },
        "degrees_of_freedom": np.array([one.degrees_of_freedom for one in models]),
        "best_ridge": np.array([one.best_ridge for one in models]),
        "p": np.array([math.nan if each is None else each for each in p]),
        "seconds": np.array([one.seconds for one in models]),
    }  # fmt: skip


def record(found: Any) -> dict[str, Any]:
    """All that a comparison says, without the arrays of shuffles."""
    (N, D), top = found.stats["shape"], found.ceiling
    written: dict[str, Any] = plain({
        "version": __version__,
        "channels": N,
        "conditions": D,
        "score": found.score,
        "choice": found.choice,
        "reference": found.reference,
        **{name: found.stats[name] for name in ("folds", "repeats", "shuffles", "level", "seconds")},
        "verdict": found.verdict,
        "ceiling": None if top is None else {name: top.ceiling(name) for name in SCORES},
        "models": {name: _model(found, name) for name in found.names},
        "differences": [
            {"first": one.first, "second": one.second, "value": one.value, "standard_error": one.se,
             "lower": one.lower, "upper": one.upper, "level": one.level, "p": one.p,
             "p_shuffled": one.p_shuffled}
            for i, first in enumerate(found.names)
            for one in (found.difference(first, second) for second in found.names[i + 1 :])
        ],
    })  # fmt: skip
    return written


def _model(found: Any, name: str) -> dict[str, Any]:
    one = found[name]
    return {
        "words": one.words,
        "method": one.method or None,
        "best_ridge": one.best_ridge,
        "relative": None if one.cv is None else one.cv.relative,
        "degrees_of_freedom": one.degrees_of_freedom,
        "seconds": one.seconds,
        "p": found.p(name),
        "scores": {
            choice: {
                **dict(zip(("score", "standard_error"), found.value(name, choice=choice), strict=True)),
                **found.summary(name, choice),
                "pooled": {score: found.value(name, score, choice)[0] for score in SCORES},
                "by_fold": found.by_fold(name, choice=choice),
            }
            for choice in CHOICES
            if choice == "best" or found.choice == "nested"
        },
    }
