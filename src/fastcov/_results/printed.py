"""A cross-validation as text and as tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from .nouns import nouns_of
from .score import FINE, Moments

# A `CrossValidation` is `Any` here: its class imports this module.

WIDTH = 108
# Columns of the second and third table: scores of held-out pairs, then of cross pairs.
COLUMNS = {
    "R2": "r2", "diagonal": "r2-diagonal", "off-diagonal": "r2-off-diagonal", "Pearson": "pearson",
    "RSA": "rsa", "cosine": "cosine",
}  # fmt: skip
CROSS = {"R2": "cross-r2", "off-diagonal": "cross-r2-off-diagonal", "Pearson": "cross-pearson",
         "RSA": "cross-rsa", "cosine": "cross-cosine"}  # fmt: skip

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]], list[str]]


def title(cv: Any) -> str:
    folds = f"{len(cv.folds)} folds" + (f" ({cv.repeats} repeats)" if cv.repeats > 1 else "")
    return f"CrossValidation: {size_text(cv.stats)}, {folds}, {cv.score} +- standard error"


def size_text(stats: Any) -> str:
    """How many channels and conditions a study is of, or trials of how many conditions."""
    (N, D), conditions = stats["shape"], stats.get("conditions")
    return f"{N} channels x " + (
        f"{D} conditions" if conditions is None else f"{D} trials of {conditions} conditions"
    )


def tables(cv: Any) -> Iterator[Table]:
    """Title, head, rows and notes of each table: scores at each ridge, then all scores at the best ridge."""
    width = ("ridge/largest" if cv.relative else "ridge", *cv.methods)
    yield title(cv), width, _ridge_rows(cv), [*_ridge_notes(cv), *conclusions(cv)]
    for name, columns in (("held-out pairs", COLUMNS), ("held-out x trained pairs", CROSS)):
        rows = [
            (label, *(_number(moments.pooled(score)) for score in columns.values()))
            for label, moments in _compared(cv)
        ]
        yield f"At the best ridge, all folds together, {name}", ("", *columns), rows, []


def text(cv: Any) -> str:
    lines: list[str] = []
    for k, (caption, head, rows, notes) in enumerate(tables(cv)):
        lines.append(caption if k == 0 else f"  {caption}")
        first, column = (14, 22) if k == 0 else (24, 13)
        lines.append(f"  {head[0]:<{first}}" + "".join(f"{name:>{column}}" for name in head[1:]))
        for value, *cells in rows:
            spaced = [cell if cell.endswith("*") or k else f"{cell} " for cell in cells]
            lines.append(f"  {value:<{first}}" + "".join(f"{cell:>{column}}" for cell in spaced))
        lines += [line for note in notes for line in _wrapped(note)]
    return "\n".join(lines)


def _wrapped(note: str) -> list[str]:
    return textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _number(value: Any) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _compared(cv: Any) -> Iterator[tuple[str, Moments]]:
    """Each method at its best ridge, and the baselines."""
    for name in cv.methods:
        if (k := cv.place(name)) >= 0:
            yield name, cv.scores[name].moments.at(k)
    for name, label in nouns_of(*cv.methods).labels.items():
        yield label, cv.baselines[name]


def _ridge_rows(cv: Any) -> list[tuple[str, ...]]:
    """The score at each ridge, with the best marked, and that of each baseline."""
    summaries = {name: cv.summary(name) for name in cv.methods}
    best = {name: cv.place(name) for name in cv.methods}
    rows = [
        (
            f"{cv.ridges[k]:.4g}",
            *(
                f"{values[k]:.3f} +- {error[k]:.3f}" + "*" * bool(k == best[name])
                for name, (values, error) in summaries.items()
            ),
        )
        for k in np.argsort(cv.ridges)[::-1]
    ]
    for name, label in nouns_of(*cv.methods).labels.items():
        value, error = cv.baseline(name)
        rows.append((label, f"{value:.3f} +- {error:.3f}", *("" for _ in cv.methods[1:])))
    return rows


def _ridge_notes(cv: Any) -> list[str]:
    one_se = ", ".join(f"{value:.4g}" for value in cv.choices("one-se").values())
    return [f"* best; largest within one standard error of the difference: {one_se}"]


def conclusions(cv: Any) -> list[str]:
    """What the numbers show, and how far to trust them."""
    several = len(cv.methods) > 1
    notes = []
    for name, table in cv.scores.items():
        of = f"{name}: " if several else ""
        notes.append(f"{of}{cv.verdicts()[name]}")
        k = cv.place(name)
        if k < 0:
            continue
        value = table.pooled(cv.score)[k]
        if table.nested is not None:
            inside = table.nested.moments.pooled(cv.score)
            notes.append(
                f"{of}Nested folds, which did not choose the ridge: {inside:.3f}; the choice flatters the "
                f"{value:.3f} above by {value - inside:.3f}."
            )
        elif len(cv.ridges) > 1:
            notes.append(
                f"{of}The {value:.3f} of the best ridge is that of the ridge it chose: nested=True says how "
                "far that flatters it."
            )
        agreed = cv.agreement(name)
        if agreed is not None:
            notes.append(
                f"{of}Gains of any two folds, which share most conditions, correlate by {agreed[k]:.2f}."
            )
    short = sum(int(np.sum(~np.isin(s.status.astype(str), FINE))) for s in cv.scores.values())
    if short:
        notes.append(f"{short} fits stopped short: see status")
    return notes
