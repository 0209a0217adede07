"""Groups of channels that share a gain: labels of channels, and vectors over groups.

With gains g_a of A groups, the gains of the N channels are z = P g, where P (N, A) has a one where a channel
is in a group. P is never formed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.labels import Labels, Names, axis_names, by_channel, order_of, plain_names

Array = NDArray[Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """A groups of N channels, in the order in which they first occur."""

    names: Names  # (A,)
    places: NDArray[np.intp]  # the group of each channel (N,)
    argument: str = "groups"  # that they were given as

    @classmethod
    def of(cls, labels: Any, n: int, like: Labels, name: str = "groups") -> Groups:
        """Check labels of n channels, and bring them into the order of the channels where they have names."""
        given: Any = by_channel(name, labels, like)
        scalar = isinstance(given, np.ndarray) and given.ndim == 0
        if scalar or isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
            raise TypeError(
                f"Argument '{name}' must hold one label for each of the {n} channels, not "
                f"{_short(labels)}: pass a list, such as ['a', 'a', 'b', …]."
            )
        each = given.tolist() if isinstance(given, np.ndarray) else list(given)
        wanted = f"Argument '{name}' must hold one label for each of the {n} channels"
        alone = "channels of no group get a label of their own."
        if len(each) != n:
            raise ValueError(f"{wanted}, not {len(each)} labels: {alone}")
        missing = [i for i, label in enumerate(each) if _missing(label)]
        if missing:
            many = f" ({len(missing)} in all)" if len(missing) > 1 else ""
            raise ValueError(f"{wanted}, not {each[missing[0]]!r} at channel {missing[0]}{many}: {alone}")
        for i, label in enumerate(each):
            if isinstance(label, (list, dict, set, np.ndarray)):
                raise TypeError(
                    f"{wanted}, not {_short(label)} at channel {i}: pass numbers or texts along one axis."
                )
        known: dict[str, int] = {}
        names: list[Any] = []
        places = np.empty(n, np.intp)
        for i, label in enumerate(plain_names(each)):
            place = known.setdefault(str(label), len(names))
            if place == len(names):
                names.append(label)
            places[i] = place
        return cls(tuple(names), places, name)

    def __repr__(self) -> str:
        return f"{len(self)} groups"

    def __len__(self) -> int:
        return len(self.names)

    def vector(self, name: str, values: Any) -> Any:
        """An argument over groups, with or without names, in the order of the groups."""
        order = order_of(axis_names(values, 1)[0], self.names, "group", name, f"'{self.argument}'")
        return values if order is None else np.asarray(values)[..., order]

    @functools.cached_property
    def counts(self) -> NDArray[np.float64]:
        """The number of channels of each group (A,)."""
        return np.bincount(self.places, minlength=len(self)).astype(np.float64)

    @functools.cached_property
    def order(self) -> NDArray[np.intp]:
        """Channels, one group after another (N,)."""
        return np.argsort(self.places, kind="stable")

    @functools.cached_property
    def first(self) -> NDArray[np.intp]:
        """The first channel of each group (A,)."""
        return self.order[self._starts]

    @functools.cached_property
    def _starts(self) -> NDArray[np.intp]:
        """Where each group begins in `order`."""
        return np.searchsorted(self.places[self.order], np.arange(len(self)))

    def expand(self, V: Array) -> Array:
        """P v: values of groups (..., A) for each channel (..., N)."""
        return np.ascontiguousarray(V[..., self.places])

    def sums(self, V: Array) -> Array:
        """Pᵀ v: sums of values of channels (..., N) over each group (..., A)."""
        return np.add.reduceat(V[..., self.order], self._starts, axis=-1)

    def all_of(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether a mask (N,) holds for all channels of each group (A,)."""
        return np.logical_and.reduceat(mask[self.order], self._starts)


def _missing(label: Any) -> bool:
    """Whether a label is None, NaN, or one of the missing values of pandas."""
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, (float, np.floating, np.datetime64)) and bool(label != label)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else text[:37] + "..."
