"""Columns that are single trials: names that repeat, and folds that keep trials of a condition together."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._inputs.labels import Labelled, axis_names
from .._results.score import Indices, Split

Members = Sequence[Indices]  # the columns of each condition


def unrepeated(name: str, X: Any, trials: Any) -> Any:
    """Responses whose columns have names that repeat, with a number behind each: trials are given."""
    if trials is None or isinstance(X, (list, tuple)) or len(getattr(X, "shape", ())) != 2:
        return X
    rows, columns = axis_names(X, 2, name)
    if columns is None or isinstance(columns, range) or len(set(map(str, columns))) == len(columns):
        return X
    counts: collections.Counter[str] = collections.Counter()
    names = []
    for column in map(str, columns):
        counts[column] += 1
        names.append(f"{column} / {counts[column]}")
    return Labelled(X.values if hasattr(X, "values") else np.asarray(X), rows, names)


def expanded(splits: Sequence[Split], members: Members) -> list[Split]:
    """Splits of conditions as splits of columns."""
    return [(_columns(train, members), _columns(test, members)) for train, test in splits]


def _columns(chosen: Indices, members: Members) -> Indices:
    return np.sort(np.concatenate([members[int(g)] for g in chosen]))


def check_whole_conditions(splits: Sequence[Split], members: Members) -> None:
    """Raise if a fold trains on trials of a condition that it holds out."""
    for k, (train, test) in enumerate(splits):
        for part in members:
            if np.isin(part, train).any() and np.isin(part, test).any():
                raise ValueError(
                    "Argument 'folds' must keep the trials of a condition together, not train on some of "
                    f"columns {', '.join(map(str, part[:5]))} and hold out others, as in fold {k}: pass a "
                    "number of folds, or labels that agree with 'trials'."
                )


def within(columns: Indices, members: Members) -> list[Indices]:
    """The places of each condition among some of the columns, which are sorted."""
    found = [np.flatnonzero(np.isin(columns, part)) for part in members]
    return [part for part in found if len(part)]
