"""Describe a comparison of models: which one scores highest, by how much, and what each one is."""

from __future__ import annotations

import math

from .._results.comparison import Comparison
from .._results.comparison_words import sentences, tables
from .._results.study_words import p_text
from ..plot._models import draw_models, headline, height_of
from ._evidence import STUDIED
from ._sections import Headline, Part, Picture, Row, Section, Table
from ._words import plural, score

# Terms of this part, for the glossary.
COMPARED = (
    Row("Nested", "Each fold is scored at the ridge that inner folds of its training conditions chose, "
        "without the conditions scored."),
    Row("Noise ceiling", "The score above which no prediction is expected, as Y is noisy."),
    Row("Degrees of freedom", "How many numbers of a model the data determine; the ridge sets the rest."),
    Row("Difference", "The score of one model less that of another on the same folds, so that what both owe "
        "to a fold cancels. Its interval and p are over conditions, for these very channels and cells."),
)  # fmt: skip


def lead(found: Comparison) -> str:
    N, D = found.stats["shape"]
    return (
        f"{plural(len(found.models), 'model')} of how the covariance of {plural(N, 'channel')} over "
        f"{plural(D, 'condition')} becomes a target were fitted to some of the conditions, and predicted the "
        "covariances of those that were held out."
    )


def parts(found: Comparison) -> list[Part]:
    words = headline(found, found.score, None).splitlines()[0]
    values = {name: found.value(name) for name in found.names}
    tiles = []
    for name in sorted(found.names, key=lambda name: -_known(values[name][0]))[:4]:
        value, error = values[name]
        spread = f"\u00a0±\u00a0{score(error)}" if math.isfinite(error) else ""
        p = found.p(name)
        tested = "" if p is None else f"; p = {p_text(p)}"
        shown = score(value) + spread if math.isfinite(value) else "not defined"
        tiles.append(Row(name, shown, f"{found[name].words}{tested}"))
    return [Part("", Headline(words, _kind(found), [" ".join(sentences(found))], tiles), _sections(found))]


def _known(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _kind(found: Comparison) -> str:
    """Good if a model that is fitted scores highest and predicts; open if that is not known."""
    best = max(found.names, key=lambda name: _known(found.value(name)[0]))
    p = found.p(best)
    if found[best].is_baseline:
        return "bad"
    return "open" if p is None or p > 0.05 else "good"


def _sections(found: Comparison) -> list[Section]:
    picture = Picture(
        "Scores and differences",
        f"The {found.score} of each model with its interval and folds, and the difference of each to "
        f"{found.reference}.",
        "Baselines, in which nothing is chosen, are grey. Arrows at the edge are folds far below the others.",
        lambda figure: draw_models(figure, found, found.score, None, found.reference),
        (height_of(found) - 0.3, height_of(found, narrow=True) - 0.3),
    )
    listed = [Table(caption, head, rows) for caption, head, rows, _ in tables(found)]
    return [
        Section("Which model predicts best?", pictures=[picture]),
        Section("In numbers", tables=listed, notes=next(tables(found))[3]),
        Section("The models", rows=[Row(name, one.words) for name, one in found.models.items()]),
    ]


def glossary() -> tuple[Row, ...]:
    return (*STUDIED, *COMPARED)
