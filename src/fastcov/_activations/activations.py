"""Activations, validated, centred and scaled in one place, and read by blocks of units."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._inputs.validation import check_array, nonfinite, require_memory, safe_exponent
from . import kernels

Array = NDArray[Any]

# What a block of units takes at most: two of them, and what is made of them, stay in the caches of all cores.
SAMPLE_BLOCK_BYTES = 1 << 23


def check_samples_axis(value: Any) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value not in (0, 1):
        raise ValueError(
            f"Argument 'samples_axis' must be 0 or 1, not {value!r}: 1 where each row is a unit, "
            "0 where each is a sample."
        )
    return int(value)


@dataclasses.dataclass(frozen=True, eq=False)
class Activations:
    """Activations of n units to m samples, in units that are safe to multiply.

    `array` (n, m) is a view of the caller's. Blocks of it are times 2**exponent and, where they are centred,
    less the mean of each unit over samples: Ã. The covariance is C = Ã Ãᵀ / (m - 1).
    """

    array: Array
    dtype: np.dtype[Any]  # of the products
    samples_axis: int  # of the caller's
    means: NDArray[np.float64] | None  # None where the activations are taken as they are
    exponent: int = 0
    silent: NDArray[np.intp] = dataclasses.field(default_factory=lambda: np.empty(0, np.intp))  # Ã is zero

    @classmethod
    def of(cls, value: Any, *, samples_axis: int, center: bool, beside: float = 0.0) -> Activations:
        """Validate; find the means and the scale, which is to bear numbers like `beside` too. 3nm flops."""
        check_samples_axis(samples_axis)
        if not isinstance(center, (bool, np.bool_)):
            raise TypeError(f"Argument 'center' must be True or False, not {center!r}.")
        axes = ("unit", "sample") if samples_axis == 1 else ("sample", "unit")
        array = check_array("activations", value, axes, empty=True)
        if array.shape[samples_axis] == 1:
            raise ValueError(
                "Argument 'activations' must have two samples at least, not one "
                f"(shape {array.shape}, samples along axis {samples_axis}): "
                "a covariance is divided by their number less one; leave such a batch out."
            )
        dtype = np.dtype(np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64)
        draft = cls(array if samples_axis == 1 else array.T, dtype, samples_axis, None)
        if array.size == 0:
            return draft
        means, lowest, highest = draft._ranges()
        if not np.isfinite(means).all() and (error := nonfinite("activations", array, axes)):
            raise error
        exponent = -safe_exponent(max(float(highest.max()), -float(lowest.min()), beside))
        draft = dataclasses.replace(draft, exponent=exponent)
        if exponent:  # in these units some of the smallest may be zero
            means, lowest, highest = draft._ranges()
        silent = np.flatnonzero(lowest == highest if center else (lowest == 0.0) & (highest == 0.0))
        return dataclasses.replace(draft, means=means if center else None, silent=silent)

    def _ranges(self) -> list[NDArray[np.float64]]:
        """Mean, smallest and largest activation of each unit."""
        ranges = [np.empty(len(self.array)) for _ in range(3)]
        for units in self.slices():
            block = self.block(units)
            kernels.row_ranges(block, *(each[units] for each in ranges), size=block.size)
        return ranges

    @property
    def shape(self) -> tuple[int, int]:
        """Units and samples, (n, m)."""
        return self.array.shape

    @property
    def divisor(self) -> int:
        """m - 1; 1 where there are no samples, whose sums are empty."""
        return max(self.shape[1] - 1, 1)

    def slices(self, most: int | None = None, least: int = 1) -> Iterator[slice]:
        """All units in blocks of nearly the same size: SAMPLE_BLOCK_BYTES, and `least` to `most` units."""
        n, m = self.shape
        step = max(least, SAMPLE_BLOCK_BYTES // (8 * max(m, 1)))
        if most is not None:
            step = min(step, most)
        blocks = -(-n // step)
        for b in range(blocks):
            yield slice(n * b // blocks, n * (b + 1) // blocks)

    def block(self, units: slice) -> Array:
        """Ã of some units, C-ordered; a view where it is as it should be, else a copy."""
        n, m = self.shape
        if units == slice(0, n) and n * m * self.dtype.itemsize <= SAMPLE_BLOCK_BYTES:
            return self._whole
        return self._made(units)

    @functools.cached_property
    def _whole(self) -> Array:
        """Ã where it is one block: it is made once."""
        return self._made(slice(0, len(self.array)))

    def _made(self, units: slice) -> Array:
        part = self.array[units]
        flags = part.flags
        if (
            part.dtype == self.dtype and self.exponent == 0
            and flags.c_contiguous and flags.aligned and flags.writeable
        ):  # fmt: skip
            block, out = part, None
        else:
            block = out = np.empty(part.shape, self.dtype)
            with np.errstate(over="ignore"):  # a long double beyond float64
                if self.exponent:  # in float64, before the cast: the range of float32 may not do
                    part = np.ldexp(part.astype(np.float64), self.exponent)
                np.copyto(block, part, casting="unsafe")
        if self.means is None:
            return block
        out = np.empty_like(block) if out is None else out
        kernels.shifted_rows(block, self.means[units], out, size=block.size)
        return out

    def zeros(self) -> tuple[Array, Array]:
        """An array like the caller's, for a gradient, and its view with units first (n, m)."""
        n, m = self.shape
        require_memory(
            n * m * self.dtype.itemsize,
            f"The gradient of {n} x {m} activations",
            "take fewer samples at a time",
        )
        gradient = np.zeros(self.shape[:: 1 if self.samples_axis == 1 else -1], self.dtype)
        return gradient, gradient if self.samples_axis == 1 else gradient.T
