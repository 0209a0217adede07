"""Describe a whole study: prediction, channels that changed, groups, and differences of populations."""

from __future__ import annotations

import math
from typing import Any

from .._results.channel_table import ChannelTable
from .._results.connectivity import Connectivity
from .._results.intervals import shrunken
from .._results.nouns import GAINS, nouns_of
from .._results.study import PopulationStudy, Study
from .._results.study_words import (
    cautions,
    channels,
    differences,
    groups,
    has_gains,
    p_text,
    prediction,
    score_rows,
)
from ..plot._style import is_narrow
from ._connectivity import pictures as connectivity_pictures
from ._evidence import STUDIED, verdict_of
from ._evidence import sections as evidence_sections
from ._sections import Headline, Part, Picture, Row, Section, Table
from ._words import plural, score

# Rows of the table of channels on a page; all of them are in the table that `to_csv` writes.
_LISTED = 30

# Terms of this part, for the glossary.
WHOLE = (
    Row("Noise ceiling", "The score above which no prediction is expected, as Y is noisy: from how alike the "
        "covariances of two halves of its cells are."),
    Row("Interval", "Where the fitted gain would be with other cells, or other conditions, at the same "
        "ridge."),
    Row("Resolution", "The share of a gain that the data determine; the ridge, which draws it to one, "
        "determines the rest."),
    Row("q", "p, corrected for the number of channels: of all gains with q of 0.1 or less, a tenth is "
        "expected to be there by chance."),
)  # fmt: skip


def lead(study: Study) -> str:
    N, D = study.stats["shape"]
    to = " and ".join(study.populations) if study.stats["named"] else "another population"
    nouns = nouns_of(study.method)
    return (
        f"{nouns.lead.format(channels=plural(N, 'channel'))}, so that the covariance of their responses "
        f"over {plural(D, 'condition')} becomes that of {to}. Conditions were held out to see whether the "
        f"{nouns.subject} {nouns.do('predict')}."
    )


def title(study: Study) -> str:
    N, D = study.stats["shape"]
    nouns = nouns_of(study.method)
    what = "Which gains change" if nouns is GAINS else f"Does {nouns.some} predict"
    return f"{what}: {plural(N, 'channel')}, {plural(D, 'condition')}"


def parts(study: Study) -> list[Part]:
    """One part for each population."""
    return [
        Part(one.name if study.stats["named"] else "", _headline(study, one), _sections(study, one))
        for one in study.populations.values()
    ]


def overview(study: Study) -> list[Section]:
    """Compare populations, if there are several."""
    if not study.stats["named"] or len(study.populations) < 2:
        return []
    head, rows = score_rows(study)
    return [Section("All populations", differences(study), tables=[Table("Held-out scores", head, rows)])]


def after(study: Study) -> list[Section]:
    return [Section("What not to conclude", cautions(study))]


def glossary(study: Study) -> tuple[Row, ...]:
    return (*STUDIED, *(WHOLE if nouns_of(study.method) is GAINS else WHOLE[:1]))


def _headline(study: Study, one: PopulationStudy) -> Headline:
    cv, nouns = one.cv, nouns_of(one.method)
    words, kind = verdict_of(cv, one.method)
    value, error = one.value()
    spread = f"\u00a0±\u00a0{score(error)}" if math.isfinite(error) else ""
    shown = score(value) + spread if math.isfinite(value) else "not defined"
    top = one.ceiling.ceiling(cv.score)
    tiles = [
        Row("Held-out score", shown, f"without X {score(cv.baseline('no-x')[0])}; {nouns.at_one} "
            f"{score(cv.baseline('one')[0])}; {cv.score}"),
        Row("Noise ceiling", score(top) if math.isfinite(top) else "not defined",
            "no score is expected above it"),
        Row("p", p_text(one.p), f"{study.stats['shuffles']} shuffles of the conditions of Y"),
    ]  # fmt: skip
    if one.channels is not None:
        table = one.channels
        tiles.append(
            Row(
                "Gains that changed",
                f"{int(table.changed.sum())} of {len(table)}",
                f"{table.up} up, {table.down} down",
            )
        )
    told = [prediction(study, one), *([channels(study, one)] if has_gains(one) else [])]
    return Headline(words, kind, [" ".join(text) for text in told], tiles)


def _sections(study: Study, one: PopulationStudy) -> list[Section]:
    found = [
        Section(
            "Which gains change?" if has_gains(one) else "What the connectivity does",
            pictures=_pictures(study, one),
            tables=_tables(one),
            notes=_notes(study, one),
        )
    ]
    if one.groups is not None:
        found.append(_groups(one))
    return [*found, *evidence_sections(one.cv, (one.method,), None, one.fit)]


def _pictures(study: Study, one: PopulationStudy) -> list[Picture]:
    from ..plot import _whole_study as drawn

    made = []
    if one.channels is not None:
        table = one.channels
        made.append(
            Picture(
                "All gains with intervals, and the surest changes",
                f"Gains of {len(table)} channels with intervals: {table.up} rose, {table.down} fell. Beside "
                "them by name those that changed most surely.",
                "The scale is linear up to a gain of 2, and logarithmic beyond. Intervals that leave out one "
                "are pale where gains of shuffled conditions may do as well.",
                lambda figure: drawn.draw_channels(_side_by_side(figure), one),
                (4.6, 8.0),
            )
        )
    if isinstance(one.fit, Connectivity):
        made += connectivity_pictures(one.fit)
    if one.predicted is not None and one.fit is not None:
        made.append(
            Picture(
                "Pairs of conditions", "Covariances of pairs of conditions as predicted and as observed.",
                "Each dot is a pair of conditions, of which one or both were held out.",
                lambda figure: drawn.draw_pairs(figure.subplots(), one), (4.0, 4.0),
            )
        )  # fmt: skip
    return made


def _side_by_side(figure: Any) -> Any:
    """Two axes beside each other, or in a narrow figure one above the other."""
    return figure.subplots(*((2, 1) if is_narrow(figure) else (1, 2)))


def _tables(one: PopulationStudy) -> list[Table]:
    if one.channels is None:
        return []
    table: ChannelTable = one.channels
    head, rows = table.cells(_LISTED)
    shown = f"The first {len(rows)} of {len(table)} channels" if len(rows) < len(table) else "All channels"
    return [Table(f"{shown}; those that changed most surely come first", head, rows)]


def _notes(study: Study, one: PopulationStudy) -> list[str]:
    return [] if one.channels is None else [shrunken(study.stats["by"])]


def _groups(one: PopulationStudy) -> Section:
    found: Any = one.groups
    scores, over = found.scores(), found.scores("one")

    def text(value: float) -> str:
        return score(value) if math.isfinite(value) else "–"

    rows = [
        (
            name,
            str(int(found.sizes[k])),
            text(found.gains.gains[k]),
            text(scores[k]),
            text(over[k]),
            *([text(found.agreement[k])] if has_gains(one) else []),
        )
        for k, name in enumerate(found.names)
    ]
    head = ["Group", "Channels", "One gain", "Own score", f"Over {nouns_of(one.method).at_one}"]
    note = "One gain: that of all channels of the group, fitted to all conditions."
    if has_gains(one):
        head.append("Agreement")
        note += (
            " Agreement: how far the gains of a group's own fit correlate with those in the fit of all "
            "channels."
        )
    return Section(
        "Groups of channels",
        groups(one),
        tables=[Table("Each group by itself", head, rows)],
        notes=[note],
    )
