"""Validate, centre and scale activations in one place, and read them by blocks of units."""

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

# Largest size of a block of units: two blocks and their products stay in the caches of all cores.
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
    """Activations of n units to m samples, scaled so that products neither overflow nor underflow.

    `array` (n, m) is a view of the caller's array. Ã is `array` times 2**exponent, less the mean of each unit
    over samples if the activations are centred; it is made block by block. The covariance is
    C = Ã Ãᵀ / (m - 1), in these scaled units.
    """

    array: Array
    dtype: np.dtype[Any]  # of the products
    samples_axis: int  # of the caller's array
    means: NDArray[np.float64] | None  # None if the activations are not centred
    exponent: int = 0
    silent: NDArray[np.intp] = dataclasses.field(default_factory=lambda: np.empty(0, np.intp))  # Ã is zero

    @classmethod
    def of(cls, value: Any, *, samples_axis: int, center: bool, beside: float = 0.0) -> Activations:
        """Validate; find the means, and a scale that is also safe for numbers like `beside`. 3nm flops."""
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
        if exponent:  # after scaling, some of the smallest numbers may be zero
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
        """m - 1, or 1 if there are no samples, since all sums are then empty."""
        return max(self.shape[1] - 1, 1)

    def slices(self, most: int | None = None, least: int = 1) -> Iterator[slice]:
        """Split all units into nearly equal blocks of SAMPLE_BLOCK_BYTES, but `least` to `most` units."""
        n, m = self.shape
        step = max(least, SAMPLE_BLOCK_BYTES // (8 * max(m, 1)))
        if most is not None:
            step = min(step, most)
        blocks = -(-n // step)
        for b in range(blocks):
            yield slice(n * b // blocks, n * (b + 1) // blocks)

    def block(self, units: slice) -> Array:
        """Return Ã of some units, C-ordered: a view of `array` if that needs no change, else a copy."""
        n, m = self.shape
        if units == slice(0, n) and n * m * self.dtype.itemsize <= SAMPLE_BLOCK_BYTES:
            return self._whole
        return self._made(units)

    @functools.cached_property
    def _whole(self) -> Array:
        """Ã as a single block, made once."""
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
            with np.errstate(over="ignore"):  # a long double may exceed the range of float64
                if self.exponent:  # scale in float64, before the cast: the range of float32 may be too small
                    part = np.ldexp(part.astype(np.float64), self.exponent)
                np.copyto(block, part, casting="unsafe")
        if self.means is None:
            return block
        out = np.empty_like(block) if out is None else out
        kernels.shifted_rows(block, self.means[units], out, size=block.size)
        return out

    def zeros(self) -> tuple[Array, Array]:
        """Make a zero gradient in the caller's shape, and a view of it with units first (n, m)."""
        n, m = self.shape
        require_memory(
            n * m * self.dtype.itemsize,
            f"The gradient of {n} x {m} activations",
            "take fewer samples at a time",
        )
        gradient = np.zeros(self.shape[:: 1 if self.samples_axis == 1 else -1], self.dtype)
        return gradient, gradient if self.samples_axis == 1 else gradient.T
