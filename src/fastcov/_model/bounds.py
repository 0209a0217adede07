"""Bounds of the gains."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.labels import UNLABELLED, Labels, by_channel
from .._inputs.validation import as_float64, check_array
from .groups import Groups

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Lower and upper bound of the gain of each channel (N,); where the two are equal, the gain is fixed."""

    lower: Array
    upper: Array

    @classmethod
    def of(
        cls, bounds: Any, n: int, labels: Labels = UNLABELLED, groups: Groups | None = None
    ) -> Bounds | None:
        """Check a pair (lower, upper) of numbers or vectors; None if there are no bounds.

        A vector has one number per channel, or per group, and is aligned by name where it has names.
        """
        if bounds is None:
            return None
        try:
            lower, upper = bounds
        except (TypeError, ValueError):
            raise ValueError(
                f"Argument 'bounds' must be a pair (lower, upper), not {_short(bounds)}: (0, None) keeps "
                "gains from being negative."
            ) from None
        axis = "channel" if groups is None else "group"
        lower, upper = (
            by_channel("bounds", side, labels) if groups is None else groups.vector("bounds", side)
            for side in (lower, upper)
        )
        low = _side("lower", -np.inf if lower is None else lower, n, axis)
        high = _side("upper", np.inf if upper is None else upper, n, axis)
        crossed = np.flatnonzero(low > high)
        if len(crossed):
            i = crossed[0]
            raise ValueError(
                f"Argument 'bounds' must have lower <= upper, not {low[i]:g} > {high[i]:g} at {axis} {i} "
                f"({len(crossed)} in all): exchange them."
            )
        empty = np.flatnonzero((low == np.inf) | (high == -np.inf))
        if len(empty):
            i = empty[0]
            raise ValueError(
                f"Argument 'bounds' must leave each {axis} a finite gain, not from {low[i]:g} to "
                f"{high[i]:g} at {axis} {i}: None stands for no bound."
            )
        return cls(low, high)

    def clip(self, gains: Array) -> Array:
        """The nearest gains within the bounds."""
        return np.clip(gains, self.lower, self.upper)

    def at(self, gains: Array) -> NDArray[np.bool_]:
        """Channels at a bound."""
        return (gains <= self.lower) | (gains >= self.upper)

    def active(self, gains: Array, gradient: Array, room: float = 0.0) -> NDArray[np.bool_]:
        """The active set: channels at a bound, or within `room` of it, that a step downhill would cross."""
        beyond = np.where(gradient > 0, gains <= self.lower + room, gains >= self.upper - room)
        return (self.upper <= self.lower) | (beyond & (gradient != 0))

    def longest(self, gains: Array, v: Array) -> float:
        """The largest t for which gains + t v are within the bounds."""
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(v > 0, self.upper - gains, self.lower - gains) / v
        return float(np.min(np.where(v == 0, np.inf, room)))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else text[:37] + "..."


def _side(name: str, values: Any, n: int, axis: str) -> Array:
    array = np.asarray(values, object if isinstance(values, (list, tuple)) else None)
    if array.ndim:
        array = check_array("bounds", values, (axis,))
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"Argument 'bounds' must hold real numbers, not a {name} bound of dtype {array.dtype}."
        )
    if array.ndim and len(array) != n:
        raise ValueError(
            f"Argument 'bounds' must have one {name} bound for all, or one for each of the {n} {axis}s, "
            f"not {len(array)}."
        )
    side = as_float64(np.broadcast_to(array, n))
    if np.isnan(side).any():
        raise ValueError(
            f"Argument 'bounds' must not be NaN, as the {name} bound of {axis} {np.isnan(side).argmax()}: "
            "None stands for no bound."
        )
    return side
