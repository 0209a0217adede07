"""Folds of held-out conditions, from any of the forms that users may give."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .._inputs.validation import check_whole
from .._results.cross_validation import CrossValidation
from .._results.score import Indices, Split
from .trial_columns import Members, check_whole_conditions, expanded, within

# Training needs two conditions, because the covariance of one says nothing about how conditions are arranged.
# One held-out condition is enough, because it forms pairs with the training conditions.
LEAST_TRAINED, LEAST_HELD_OUT = 2, 1
# Number of inner folds if the outer folds are explicit splits, which do not say how to split further.
INNER = 5
LEAVE_OUT = {"leave-one-out": 1, "leave-two-out": 2}


def as_given(folds: Any) -> Any:
    """Folds in a form that can be read twice, because inner folds are made from them too."""
    if isinstance(folds, np.ndarray) and folds.ndim == 0:
        return folds.item()
    if isinstance(folds, (str, bytes)) or callable(getattr(folds, "split", None)):
        return folds
    return list(folds) if isinstance(folds, Iterable) else folds


def apart(cv: CrossValidation) -> int:
    """The number of folds of a repeat; where these overlap, of folds as large that do not."""
    n, D = len(cv.folds) // cv.repeats, int(cv.stats["shape"][1])
    held_out = sum(len(test) for _, test in cv.folds[:n])
    return n if held_out == D else max(2, round(n * D / held_out))


def make_folds(
    folds: Any, repeats: int, D: int, random: np.random.Generator, members: Members | None = None
) -> list[Split]:
    """(train, test) for every fold of every repeat.

    `folds` is a number, "leave-one-out" or "leave-two-out", a splitter with a method ``split``, pairs of
    indices or masks, or a label for each condition. With `members`, the columns of each condition, folds of
    the first three kinds are drawn of conditions, and given ones must keep the columns of one together.
    """
    if members is not None:
        counted = isinstance(folds, (str, bytes, int, np.integer)) or callable(getattr(folds, "split", None))
        if counted:
            return expanded(make_folds(folds, repeats, len(members), random), members)
        splits = make_folds(folds, repeats, D, random)
        check_whole_conditions(splits, members)
        for k, (train, _) in enumerate(splits):
            if (n := len(within(train, members))) < LEAST_TRAINED:
                raise ValueError(
                    f"Argument 'folds' must train on at least {LEAST_TRAINED} conditions in each fold, not "
                    f"on trials of {n} as in fold {k}. Use more or smaller folds."
                )
        return splits
    repeats = check_whole("repeats", repeats, 1)
    if isinstance(folds, str) and folds in LEAVE_OUT:
        if repeats > 1:
            raise ValueError(
                f"Argument 'repeats' must be 1 with folds={folds!r}, not {repeats}: they are the "
                "same each time."
            )
        every = np.arange(D)
        tests = [np.array(test, np.intp) for test in itertools.combinations(range(D), LEAVE_OUT[folds])]
        splits = [(np.setdiff1d(every, test), test) for test in tests]
    elif isinstance(folds, (int, np.integer)) and not isinstance(folds, bool):
        splits = _numbered(int(folds), repeats, D, random)
    elif callable(getattr(folds, "split", None)) and not isinstance(folds, (str, bytes)):
        rounds = [_split(folds, D) for _ in range(repeats)]
        first, second = rounds[0], rounds[-1]
        same = len(first) == len(second) and all(
            np.array_equal(a, b)
            for one, other in zip(first, second, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        if len({len(each) for each in rounds}) > 1:
            raise ValueError(
                "Argument 'folds' must split into as many folds each time, not into "
                f"{', '.join(str(len(each)) for each in rounds)}: pass another splitter, or repeats=1."
            )
        if repeats > 1 and same:
            raise ValueError(
                f"Argument 'repeats' must be 1 where folds are the same each time, not {repeats}: pass a "
                "splitter that shuffles."
            )
        splits = [pair for each in rounds for pair in each]
    else:
        if repeats > 1:
            raise ValueError(
                f"Argument 'repeats' must be 1 where folds are given one by one, not {repeats}: they would "
                "be the same each time."
            )
        splits = _given(folds, D)
    if not splits:
        raise ValueError("Argument 'folds' must hold at least one fold, not none.")
    for k, (train, test) in enumerate(splits):
        if len(train) < LEAST_TRAINED:
            raise ValueError(
                f"Argument 'folds' must train on at least {LEAST_TRAINED} conditions in each fold, not "
                f"{len(train)} as in fold {k}: a covariance needs two. Use more or smaller folds."
            )
        if len(test) < LEAST_HELD_OUT:
            raise ValueError(
                f"Argument 'folds' must hold out at least {LEAST_HELD_OUT} condition in each fold, not "
                f"{len(test)} as in fold {k}: use fewer or larger folds."
            )
    return splits


def _split(splitter: Any, D: int) -> list[Split]:
    try:
        pairs = list(splitter.split(np.zeros((D, 1))))
    except Exception as error:  # a splitter may raise anything
        raise ValueError(
            f"Argument 'folds' must split {D} conditions without y or groups, and it could not "
            f"({' '.join(str(error).split())}): pass list(splitter.split(X.T, y, groups))."
        ) from error
    return [_pair(pair, D) for pair in pairs]


def _numbered(n: int, repeats: int, D: int, random: np.random.Generator) -> list[Split]:
    """n folds of nearly the same size, drawn anew for each repeat."""
    check_whole("folds", n, 2)
    if n > D:
        raise ValueError(f"Argument 'folds' must be at most the {D} conditions, not {n}.")
    tests = [test for _ in range(repeats) for test in np.array_split(random.permutation(D), n)]
    return [(np.setdiff1d(np.arange(D), test), np.sort(test)) for test in tests]


def _given(folds: Any, D: int) -> list[Split]:
    if isinstance(folds, (str, bytes)) or not isinstance(folds, Iterable):
        raise TypeError(
            "Argument 'folds' must be a number, 'leave-one-out', 'leave-two-out', a splitter as of "
            "scikit-learn, (train, test) pairs of "
            f"indices, or a label for each of the {D} conditions, not {folds!r}."
        )
    entries = list(folds)
    if _are_labels(entries):
        labels = np.array([str(entry) for entry in entries])
        if len(labels) != D:
            raise ValueError(
                f"Argument 'folds' must have a label for each of the {D} conditions, not {len(labels)}."
            )
        groups = np.unique(labels)
        if len(groups) < 2:
            raise ValueError("Argument 'folds' must have labels of at least two groups, not of one.")
        return [(np.flatnonzero(labels != g), np.flatnonzero(labels == g)) for g in groups]
    return [_pair(entry, D) for entry in entries]


def _pair(entry: Any, D: int) -> Split:
    try:
        train, test = entry
    except (TypeError, ValueError):
        raise ValueError(
            f"Argument 'folds' must hold (train, test) pairs of indices, not {entry!r}."
        ) from None
    pair = (_indices(train, D), _indices(test, D))
    both = np.intersect1d(*pair)
    if len(both):
        raise ValueError(
            f"Argument 'folds' must keep training and held-out conditions apart, not have condition "
            f"{both[0]} in both."
        )
    return pair


def _indices(values: Any, D: int) -> Indices:
    try:
        chosen = np.asarray(values)
    except ValueError:  # ragged
        chosen = np.asarray(None)
    if chosen.ndim == 1 and chosen.dtype == bool and len(chosen) == D:
        return np.flatnonzero(chosen)
    if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
        raise TypeError(
            f"Argument 'folds' must hold indices of conditions or masks of length {D}, not {values!r}."
        )
    chosen = chosen.astype(np.intp)
    if chosen.size and not (chosen.min() >= -D and chosen.max() < D):
        wrong = chosen[(chosen < -D) | (chosen >= D)][0]
        raise ValueError(f"Argument 'folds' must hold conditions from 0 to {D - 1}, not {wrong}.")
    chosen = np.sort(chosen % D)
    if (np.diff(chosen) == 0).any():
        twice = chosen[:-1][np.diff(chosen) == 0][0]
        raise ValueError(f"Argument 'folds' must hold each condition once in a fold, not {twice} twice.")
    return chosen


def inner_folds(
    folds: Any, train: Indices, random: np.random.Generator, members: Members | None = None
) -> list[Split]:
    """Folds of the training conditions of one fold, of the same kind as the outer folds if possible."""
    inside = None if members is None else within(train, members)
    n = len(train) if inside is None else len(inside)
    if isinstance(folds, (int, np.integer)) or (isinstance(folds, str) and folds in LEAVE_OUT):
        kind: Any = folds if isinstance(folds, str) else min(int(folds), n)
    elif isinstance(folds, (np.ndarray, Sequence)) and _are_labels(folds):
        kind = [folds[i] for i in train]
        if len({str(label) for label in kind}) < 2:
            kind = min(INNER, n)
    else:
        kind = min(INNER, n)
    return [(train[a], train[b]) for a, b in make_folds(kind, 1, len(train), random, inside)]


def _are_labels(folds: Any) -> bool:
    return not any(
        isinstance(entry, (Sequence, np.ndarray)) and not isinstance(entry, str) for entry in folds
    )
