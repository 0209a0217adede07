"""Groups of channels, such as animals: labels of those of X, and of the cells of populations."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.labels import Labelled, Labels, by_channel
from .._rows.responses import check_responses
from .._rows.rows import rows_of
from .._studies.held_out import ConstantError

# A covariance is one of channels about their mean: of one channel there is none.
LEAST = 2


@dataclasses.dataclass(frozen=True)
class Groups:
    """Names of groups, and the group of each channel of X and, where these have groups, of each cell of Y."""

    names: tuple[str, ...]
    places: NDArray[np.intp]  # (N,)
    cells: dict[str, NDArray[np.str_]]  # labels of cells by population; empty without

    @classmethod
    def of(cls, groups: Any, X: Any, populations: Mapping[str, Any], named: bool) -> Groups | None:
        """Check labels of channels of X, or a pair of these and of labels of the cells of Y."""
        if groups is None:
            return None
        mine, others = groups if is_pair(groups) else (groups, None)
        labels = channel_labels("groups", mine, X, "channel of X")
        names = tuple(dict.fromkeys(labels.tolist()))
        if len(names) < 2:
            raise ValueError(
                f"Argument 'groups' must name at least two groups, not only {names[0]!r}: leave it out."
            )
        _check_sizes("groups", labels, names, "channels")
        if others is None:
            return cls(names, _places(labels, names), {})
        if isinstance(others, Mapping) != named:
            raise TypeError(
                "Argument 'groups' must have labels of the cells of Y in the form of Y, "
                + ("a mapping by population, not one sequence." if named else "a sequence, not a mapping.")
            )
        by_name = others if isinstance(others, Mapping) else {name: others for name in populations}
        if set(map(str, by_name)) != set(populations):
            raise ValueError(
                f"Argument 'groups' must have labels of the cells of {', '.join(populations)}, not of "
                f"{', '.join(map(str, by_name))}: name the populations as in Y."
            )
        cells = {}
        for name, each in by_name.items():
            of = f"groups[1][{name!r}]" if named else "groups[1]"
            cells[str(name)] = channel_labels(of, each, populations[str(name)], "cell of Y")
            missing = [group for group in names if group not in set(cells[str(name)].tolist())]
            if missing:
                raise ValueError(
                    f"Argument '{of}' must have cells of each group of X, not none of {missing[0]!r}: leave "
                    "out these channels, or the groups of Y, so that each group is compared with all cells."
                )
            _check_sizes(of, cells[str(name)], names, "cells")
        return cls(names, _places(labels, names), cells)

    def channels(self, name: str) -> NDArray[np.intp]:
        """The channels of a group."""
        return np.flatnonzero(self.places == self.names.index(name))

    def target(self, name: str, population: str, Y: Any) -> Any:
        """The cells of a population that a group is compared with: its own, or all of them."""
        if population not in self.cells:
            return Y
        return some_rows("Y", Y, np.flatnonzero(self.cells[population] == name))


def why(error: Exception) -> str:
    """Why a group could not be studied by itself: its channels or cells, rather than X or Y, are to blame."""
    if not isinstance(error, ConstantError):
        return str(error)
    what = {"X": "its channels", "Y": "the cells that it is compared with"}[error.name]
    return f"in the training conditions of a fold {what} are silent, or all alike."


def some_rows(name: str, X: Any, places: NDArray[np.intp]) -> Labelled:
    """Some channels of responses, with the names that they have."""
    labels = Labels.of(name, X)
    names: Sequence[Any] | None = labels.channels
    return Labelled(
        rows_of(check_responses(name, X))[places],
        None if names is None else [names[i] for i in places.tolist()],
        labels.columns,
    )


def _places(labels: NDArray[np.str_], names: Sequence[str]) -> NDArray[np.intp]:
    index = {name: k for k, name in enumerate(names)}
    return np.array([index[label] for label in labels.tolist()], np.intp)


def _check_sizes(argument: str, labels: NDArray[np.str_], names: Iterable[str], what: str) -> None:
    sizes = collections.Counter(labels.tolist())
    small = next((name for name in names if sizes[name] < LEAST), None)
    if small is not None:
        raise ValueError(
            f"Argument '{argument}' must have at least {LEAST} {what} in each group, not {sizes[small]} in "
            f"{small!r}, which has no covariance: join it to another group, or leave it out."
        )


def channel_labels(argument: str, groups: Any, X: Any, each: str = "channel of X") -> NDArray[np.str_]:
    """A label, as text, for each row of responses."""
    rows, n = Labels.of("X", X), int(check_responses("X", X).shape[0])
    groups = by_channel(argument, groups, rows, like="its responses")
    if isinstance(groups, (str, bytes)) or not isinstance(groups, Iterable):
        raise TypeError(f"Argument '{argument}' must be a label for each {each}, not {groups!r}.")
    values = list(groups)
    if len(values) != n:
        raise ValueError(f"Argument '{argument}' must have a label for each {each}, {n}, not {len(values)}.")
    for i, value in enumerate(values):
        if value is None or value != value:
            raise ValueError(
                f"Argument '{argument}' must have a label for each {each}, not {value!r} for number {i}."
            )
    return np.array([value.decode() if isinstance(value, bytes) else str(value) for value in values])


def is_pair(groups: Any) -> bool:
    """Whether groups are a pair of labels of X and of Y, rather than labels of two channels."""
    return (
        isinstance(groups, (tuple, list))
        and len(groups) == 2
        and all(isinstance(each, Iterable) and not isinstance(each, (str, bytes)) for each in groups)
    )
