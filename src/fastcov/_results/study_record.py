"""A study as plain values, which JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .._version import __version__
from .channel_table import COLUMNS
from .group_studies import group_baseline, over_groups
from .score import BASELINES, SCORES
from .study_words import nested, paragraphs

# A `Study` and its parts are `Any` here, as in `study_words`.

COMPARED = ("first", "second", "value", "se", "lower", "upper", "level", "p")


def record(study: Any) -> dict[str, Any]:
    """All that a study says, without the arrays of folds and shuffles."""
    N, D = study.stats["shape"]
    found: dict[str, Any] = plain({
        "version": __version__,
        "channels": N,
        "conditions": D,
        "score": study.score,
        **{name: study.stats[name] for name in ("by", "level", "fdr", "shuffles", "seconds", "cells")},
        "verdict": [{"heading": heading, "text": text} for heading, text in paragraphs(study)],
        "populations": {name: _population(one) for name, one in study.populations.items()},
        "differences": [{name: getattr(one, name) for name in COMPARED} for one in study.differences],
    })  # fmt: skip
    return found


def _population(one: Any) -> dict[str, Any]:
    cv, method, test = one.cv, one.method, one.test
    value, error = one.value()
    verdict = cv.verdicts()[method]
    return {
        "predicts": verdict.better,
        "gains_help": verdict.gains_help,
        "method": method,
        "best_ridge": float(cv.choices("best")[method]),
        "relative": cv.relative,
        "score": value,
        "standard_error": error,
        "nested": nested(one),
        "scores": {name: one.value(name)[0] for name in SCORES},
        "baselines": {name: {each: cv.baseline(name, each)[0] for each in SCORES} for name in BASELINES},
        "ceiling": {name: one.ceiling.ceiling(name) for name in SCORES},
        "p": one.p,
        "p_over": None if test is None else test.p_over,
        "p_values": None if test is None else test.p_values,
        "changed": None if one.channels is None else {"up": one.channels.up, "down": one.channels.down},
        "table": None if one.channels is None else _table(one.channels),
        "missing": one.missing,
        "groups": None if one.groups is None else _groups(one),
    }


def _table(table: Any) -> list[dict[str, Any]]:
    columns = {
        "channel": table.names,
        **{name: getattr(table, name) for name in COLUMNS},
        "changed": table.changed,
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*map(list, columns.values()), strict=True)]


def _groups(one: Any) -> dict[str, Any]:
    found, cv = one.groups, one.cv
    value, error = group_baseline(found.gains, cv.score, cv.times)
    gained, gained_error, p = over_groups(cv, one.method, found.gains)
    above, of, sign_p = found.above("one")
    scores, over = found.scores(), found.scores("one")
    return {
        "one_gain_a_group": {"score": value, "standard_error": error},
        "gains_by_channel_over_it": {"value": gained, "standard_error": gained_error, "p": p},
        "above_gains_of_one": {"groups": above, "of": of, "sign_test_p": sign_p},
        "own_cells": found.own,
        "groups": [
            {"name": name, "channels": int(found.sizes[k]), "gain": found.gains.gains[k], "score": scores[k],
             "over_gains_of_one": over[k], "agreement": found.agreement[k],
             "missing": found.missing.get(name, "")}
            for k, name in enumerate(found.names)
        ],
    }  # fmt: skip


def plain(value: Any) -> Any:
    """Values of types that JSON has; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):  # a NumPy array or number
        return plain(value.tolist())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
