"""Names of channels and conditions, as pandas and xarray have them; brings arrays into their order."""

from __future__ import annotations

import collections
import dataclasses
import difflib
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Names = tuple[Any, ...]
# Axes are compared by their names. An axis that only counts 0, 1, 2, … is a range: an order without names.
Axis = Names | range

# Names of a dimension of an xarray DataArray that counts trials, in any case.
TRIALS = ("trial", "trials", "repeat", "repeats", "repetition", "repetitions")

# The most names that an error or a warning spells out.
LISTED = 5
# The most names among which the closest is searched.
SEARCHED = 2000

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class LabelWarning(UserWarning):
    """Two arguments have the same labels in different orders: one was brought into the order of the other.

    Most users want this alignment. To avoid the warning, pass both arguments in the same order, or silence it
    with ``warnings.filterwarnings("ignore", category=fastcov.LabelWarning)``.
    """


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labels by which the rows and columns of responses are compared; None for an axis without labels."""

    rows: Axis | None = None
    columns: Axis | None = None

    @property
    def channels(self) -> Names | None:
        """Names of the rows; None where the rows only count 0, 1, 2, …"""
        return None if isinstance(self.rows, range) else self.rows

    @property
    def conditions(self) -> Names | None:
        """Names of the columns; None where the columns only count 0, 1, 2, …"""
        return None if isinstance(self.columns, range) else self.columns

    @classmethod
    def of(cls, name: str, X: Any) -> Labels:
        """The labels of responses of any type; a ValueError if a label repeats."""
        rows, columns = axis_names(X, 2, name)
        return cls(_unique(name, "channel", rows), _unique(name, "condition", columns))

    def with_conditions_from(self, others: Labels) -> Labels:
        """These labels, with the conditions of `others` where these have no names for conditions.

        Numbers that count in another order are not taken over: columns without names may well be in order.
        """
        names = others.columns
        if self.conditions is not None or names is None or _reorders(names):
            return self
        return dataclasses.replace(self, columns=names)


UNLABELLED = Labels()


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """An array, in memory or outside, with names of its rows and columns, as a table in text has them."""

    values: Any
    channels: Sequence[Any] | None = None
    conditions: Sequence[Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        values = np.asarray(self.values[...], dtype)
        return values.copy() if copy else values


def without_names(X: Any) -> Any:
    """The object that holds the numbers of X: an xarray array in memory need not be read by rows."""
    if isinstance(X, Labelled):
        return X.values
    library = sys.modules.get("xarray")
    if library is not None and isinstance(X, library.DataArray):
        in_memory = isinstance(getattr(X.variable, "_data", None), np.ndarray)
        return X.values if in_memory else X
    return X


def kind_of(X: Any) -> str | None:
    """``"pandas"`` or ``"xarray"`` for their arrays, otherwise None. Neither is imported to find out."""
    for module, name in (("pandas", "DataFrame"), ("xarray", "DataArray")):
        library = sys.modules.get(module)
        if library is not None and isinstance(X, getattr(library, name)):
            return module
    return None


def trial_axis(X: Any, name: str = "X") -> int | None:
    """The axis of trials, of responses (trials, channels, conditions); None for responses without trials.

    A list of arrays with two axes is one of trials. A dimension of an xarray array may have the name of one,
    wherever it stands; otherwise trials come first. A ValueError if several dimensions have such names.
    """
    if isinstance(X, (list, tuple)):
        return 0 if _depth(X) == 3 else None
    try:
        shape = getattr(X, "shape", ())
    except (ValueError, RuntimeError):  # of a file that is closed; it is refused where it is opened
        return None
    if not isinstance(shape, tuple) or len(shape) != 3:  # of a delayed value it is another one
        return None
    if kind_of(X) == "xarray":
        named = [axis for axis, dimension in enumerate(X.dims) if str(dimension).lower() in TRIALS]
        if len(named) > 1:
            dimensions = " and ".join(repr(str(X.dims[axis])) for axis in named)
            raise ValueError(
                f"Argument '{name}' must have one dimension of trials, not {dimensions}: rename those "
                "that are of channels or conditions, or take the mean over one of them."
            )
        return named[0] if named else 0
    return 0


def _depth(X: Any) -> int:
    """How many axes lists of lists or arrays have, by their first entries."""
    if isinstance(X, (list, tuple)):
        return 1 + _depth(X[0]) if len(X) else 1
    return len(getattr(X, "shape", ()))


def axis_names(X: Any, ndim: int, name: str = "X") -> list[Axis | None]:
    """Names along the last `ndim` axes of X; a range where they only count, None where there are none."""
    none: list[Axis | None] = [None] * ndim
    if isinstance(X, Labelled):
        return [None if names is None else plain_names(names) for names in (X.channels, X.conditions)][-ndim:]
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(X, pandas.DataFrame):
        axes = [X.index, X.columns]
    elif pandas is not None and isinstance(X, pandas.Series):
        axes = [X.index]
    elif kind_of(X) == "xarray":
        trials = trial_axis(X, name) if ndim == 2 else None
        axes = [X.indexes.get(dimension) for axis, dimension in enumerate(X.dims) if axis != trials]
    else:
        return none
    if len(axes) < ndim:
        return none
    return [None if axis is None else plain_names(axis) for axis in axes[-ndim:]]


def plain_names(names: Iterable[Any]) -> Axis:
    """Names: whole numbers stay numbers, all others become texts; a range where pandas made the index."""
    if isinstance(names, range):
        return names
    if type(names).__name__ == "RangeIndex":
        index: Any = names
        if (index.start, index.step) == (0, 1):
            return range(len(index))
    plain: list[Any] = []
    for name in names:
        if isinstance(name, (int, np.integer)) and not isinstance(name, bool):
            plain.append(int(name))
        elif isinstance(name, bytes):
            plain.append(name.decode("utf-8", "replace"))
        else:
            plain.append(" / ".join(map(str, name)) if isinstance(name, tuple) else str(name))
    return tuple(plain)


def _counting(names: Axis) -> bool:
    """Whether names are the whole numbers from 0, in any order."""
    return isinstance(names, range) or set(map(str, names)) == set(map(str, range(len(names))))


def _reorders(names: Axis) -> bool:
    """Whether names are the whole numbers from 0, in another order than 0, 1, 2, …"""
    return _counting(names) and any(str(each) != str(i) for i, each in enumerate(names))


def _unique(name: str, axis: str, names: Axis | None) -> Axis | None:
    if names is not None and not isinstance(names, range) and len(set(map(str, names))) < len(names):
        twice = [each for each, times in collections.Counter(map(str, names)).items() if times > 1]
        remedy = "rename them, or pass an array without names"
        if axis == "condition":
            remedy += (
                ". If columns are trials of one condition, average them "
                f"({name}.T.groupby(level=0).mean().T), or pass trials=labels to study, cross_validate or "
                "permutation_test"
            )
        raise ValueError(
            f"Argument '{name}' must name each {axis} once, not {_some(twice)} more than once: {remedy}."
        )
    return names


def _some(names: Iterable[Any]) -> str:
    return _listed([repr(str(name)) for name in names])


def _listed(listed: list[str]) -> str:
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return ", ".join(listed[:LISTED]) + more


def order_of(
    names: Axis | None, wanted: Axis | None, axis: str, name: str, like: str, *, quiet: bool = False
) -> NDArray[np.intp] | None:
    """The places of the wanted names among `names`; None where there is nothing to compare or to change.

    Another order gives a `LabelWarning`, another set of names a ValueError. An axis that only counts is
    compared with numbers from 0, in any order, and with no other names.
    """
    if names is None or wanted is None or not _comparable(names, wanted):
        return None
    _unique(name, axis, names)
    given, asked = [str(each) for each in names], [str(each) for each in wanted]
    if given == asked:
        return None
    places = {each: i for i, each in enumerate(given)}
    there = set(asked)
    missing = [each for each in asked if each not in places]
    unknown = [each for each in given if each not in there]
    if missing or unknown:
        raise ValueError(
            f"Argument '{name}' must have the {axis}s of {like}, not {_difference(missing, unknown)}: rename "
            f"or select the {axis}s so that both have the same, or pass arrays without names."
        )
    if not quiet:
        warnings.warn(
            f"{axis}s of '{name}' are in another order than those of {like}: aligned by name.",
            LabelWarning,
            stacklevel=outside(),
        )
    return np.array([places[each] for each in asked], np.intp)


def _comparable(names: Axis, wanted: Axis) -> bool:
    """Whether two axes can be compared. They cannot where one only counts and the other has other names."""
    if isinstance(names, range) == isinstance(wanted, range):
        return not isinstance(names, range)
    return len(names) == len(wanted) and _counting(names) and _counting(wanted)


def _difference(missing: list[str], unknown: list[str]) -> str:
    """Say what is wrong with names: which wanted ones are missing, and the closest name given for each."""
    spelled = {_folded(each): each for each in unknown}
    if len(missing) == len(unknown) == len(spelled) and {_folded(each) for each in missing} == set(spelled):
        pairs = [f"{spelled[_folded(each)]!r} for {each!r}" for each in missing]
        return f"{_listed(pairs)}, which {'differs' if len(pairs) == 1 else 'differ'} only in case or spaces"
    left = dict.fromkeys(unknown)
    beside = []
    for each in missing[:LISTED]:
        close = [spelled[_folded(each)]] if _folded(each) in spelled else []
        close += difflib.get_close_matches(each, list(left)[:SEARCHED], 1)
        match = next((found for found in close if found in left), None)
        if match is not None:
            beside.append(match)
            del left[match]
    found = [f"without {_some(missing)}"] * bool(missing)
    found += [f"with {_some([*beside, *left])}"] * bool(unknown)
    return f"be {' and '.join(found)}"


def _folded(name: str) -> str:
    return "".join(name.split()).casefold()


def outside() -> int:
    """The stack level of the first frame outside this package, counted from the caller of this function."""
    level, frame = 1, sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    return level + 1


def by_channel(name: str, values: Any, labels: Labels, *, like: str = "'X'") -> Any:
    """A vector over channels, with or without names, in the order of the channels of X."""
    order = order_of(axis_names(values, 1)[0], labels.rows, "channel", name, like)
    return values if order is None else np.asarray(values)[..., order]


def by_condition(name: str, S: Any, labels: Labels, *, like: str = "'X'", axis: str = "condition") -> Any:
    """Matrices over conditions (or another axis), with or without names, in the order of those of X."""
    if isinstance(S, (list, tuple)) and any(_has_names(each) for each in S):
        return [by_condition(name, each, labels, like=like, axis=axis) for each in S]
    rows, columns = (_unique(name, axis, names) for names in axis_names(S, 2, name))
    if rows is None and columns is None:
        return S
    if rows is None or columns is None or isinstance(rows, range) != isinstance(columns, range):
        named = [each for each in (columns, rows) if each is not None and not isinstance(each, range)]
        if rows is None or columns is None or not _comparable(rows, columns):
            rows = columns = named[0] if named else rows or columns
    down = order_of(rows, labels.columns, axis, name, like)
    across = order_of(columns, rows, axis, name, "its rows", quiet=down is not None)
    if across is None and down is None:
        return S
    everything = np.arange(len(rows or ()))
    across, down = (everything if order is None else order for order in (across, down))
    return np.asarray(S)[..., down[:, np.newaxis], across[down]]


def _has_names(value: Any) -> bool:
    return isinstance(value, Labelled) or kind_of(value) is not None


def conditions_of(S: Any) -> Labels:
    """The names of the conditions of a target, or of the first of several targets."""
    return Labels(None, axis_names(S[0] if isinstance(S, (list, tuple)) and S else S, 2)[0])


def like_matrix(values: Array, X: Any, names: Axis | None) -> Any:
    """A matrix over conditions, as a pandas or xarray object with these names where X is one."""
    kind = kind_of(X)
    if kind == "pandas":
        index = None if names is None or isinstance(names, range) else list(names)
        return sys.modules["pandas"].DataFrame(values, index=index, columns=index)
    if kind == "xarray":
        trials = trial_axis(X)
        last = [dimension for axis, dimension in enumerate(X.dims) if axis != trials][-1]
        dims = (last, f"{last}_2")
        along: Any = None if names is None else list(names)
        if isinstance(names, range):
            along = sys.modules["pandas"].RangeIndex(len(names))
        coords = {} if along is None else dict.fromkeys(dims, along)
        return sys.modules["xarray"].DataArray(values, dims=dims, coords=coords)
    return values


def places_of(channels: Any, names: Names | None, N: int) -> NDArray[np.intp]:
    """Indices of channels that are chosen by names, indices or a mask (N,); all of them for None."""
    if channels is None:
        return np.arange(N)
    if isinstance(channels, str) or not isinstance(channels, (Sequence, np.ndarray)) or not len(channels):
        raise TypeError(
            f"Argument 'channels' must be a list of names or indices, not {channels!r}: [0, 5], or names."
        )
    mask = np.asarray(channels)
    if mask.dtype == bool and mask.shape == (N,) and mask.any():
        return np.flatnonzero(mask)
    known = {} if names is None else {str(name): i for i, name in enumerate(names)}
    places = []
    for each in channels:
        whole = isinstance(each, (int, np.integer)) and not isinstance(each, bool)
        if str(each) in known:
            places.append(known[str(each)])
        elif not known and whole and -N <= each < N:
            places.append(int(each) % N)
        else:
            among = f"the {N} channels" if not known else f"the names of the {N} channels"
            raise ValueError(f"Argument 'channels' must be among {among}, not {each!r}: see fit.to_frame().")
    if len(set(places)) < len(places):
        raise ValueError("Argument 'channels' must name each channel once, not twice.")
    return np.array(places, np.intp)
