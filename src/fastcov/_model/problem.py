"""Problem: responses around an expansion point, validated, centred and scaled in one place.

Code that is given a Problem trusts its input, and goes over channels only through `Problem.blocks`. Here a
target with names is brought into the order of the conditions of X.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.linalg import blas as scipy_blas

from .._compute import blas, kernels
from .._compute.jit import ELEMENT_PRODUCTS, PARALLEL_SIZE, blas_for
from .._inputs.labels import UNLABELLED, Labelled, Labels, by_channel, by_condition
from .._inputs.validation import (
    LARGEST_EXPONENT,
    check_array,
    check_gains,
    nonfinite,
    require_memory,
    safe_exponent,
    symmetric,
)
from .._rows.responses import check_responses
from .._rows.rows import Rows, Watch, rows_of, summed
from .metric import Metric

Array = NDArray[Any]

# Bytes of a block of rows: the block, and what is computed from it, should stay in the caches.
BLOCK_BYTES = 1 << 21

# The most flops of a pass over one block: some 0.1 s, so that Ctrl-C is answered between blocks.
STREAMED_FLOPS = 10**10

# The most bytes of all parts of a sum of D x D products, unless one part alone takes more.
PART_BYTES = 1 << 24
# Up to this many conditions, a kernel that multiplies blocks of rows on all threads is faster than SYRK,
# which has half the work (1.3 times at 52 and 100 conditions, 1000 to 50000 channels; equally fast at 187).
NARROW = 128


def n_pairs(D: int) -> int:
    return D * (D + 1) // 2


def n_parts(n: int, D: int) -> int:
    """Number of parts of n rows whose D x D products are kept apart, so that as many threads can sum them.

    Together these products take less memory than X itself.
    """
    return max(1, min(n // (4 * max(D, 32)), 64, PART_BYTES // (8 * D * (D + 1))))


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Responses X (N, D) and gains z to expand around, in units that are safe to multiply.

    In these units, X is 2**exponent times the caller's X, and gains are 2**-gain_exponent times the caller's.
    With x_i a row of X in these units, y_i = z_i x_i. `mean` is m = (1/N) sum_i y_i, or zero when not
    `center`. y~_i = y_i - m, and the covariance is C = sum_i y~_i y~_i^T (not divided by N).
    """

    X: Array | Rows
    dtype: np.dtype[Any]  # precision of the products: float32 or float64; sums over blocks are float64
    center: bool
    gains: NDArray[np.float64]
    mean: NDArray[np.float64]
    sizes: NDArray[np.float64]  # max_j |x_ij|: zero for a dead channel
    exponent: int = 0
    gain_exponent: int = 0
    labels: Labels = UNLABELLED
    metric: Metric | None = None  # of the distance from targets; None: all pairs count alike
    watch: Watch | None = None  # is told which share of a pass over a file is done

    @classmethod
    def of(
        cls,
        X: Any,
        *,
        gains: ArrayLike | None = None,
        center: bool = True,
        name: str = "X",
    ) -> Problem:
        """Validate X and gains, which are ones by default; find the mean and the scale. X is not copied."""
        array, labels = check_responses(name, X), Labels.of(name, X)
        N = len(array)
        z = np.ones(N) if gains is None else check_gains("gains", by_channel("gains", gains, labels), N)
        return cls.measured(array, z, center=center, name=name, labels=labels)

    @classmethod
    def measured(
        cls,
        array: Array | Rows,
        z: NDArray[np.float64],
        *,
        center: bool,
        largest_gain: float = 0.0,
        name: str = "X",
        labels: Labels = UNLABELLED,
    ) -> Problem:
        """As `of`, for an array and gains that have been checked, except for NaN in X. One pass, 3ND flops.

        `largest_gain` is the largest magnitude of other gains, beside those in z, that the units must allow.
        """
        if not isinstance(center, (bool, np.bool_)):
            raise TypeError(f"Argument 'center' must be True or False, not {center!r}.")
        N, D = array.shape
        dtype = np.dtype(np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64)
        draft = cls(array, dtype, bool(center), z, np.zeros(D), np.empty(N), labels=labels)
        with np.errstate(over="ignore", invalid="ignore"):
            total, draft.sizes[:] = draft.rows.map_both(_chunk_sums, draft)
        if not np.isfinite(total).all():
            names = (labels.channels, labels.conditions)
            if error := nonfinite(name, array, ("channel", "condition"), names):
                raise error
        x = float(draft.sizes.max())
        largest_gain = max(largest_gain, float(np.abs(z).max()))
        if x > 0 and not (x > 2.0**-LARGEST_EXPONENT and x * max(1.0, largest_gain) < 2.0**LARGEST_EXPONENT):
            raise ValueError(
                f"Argument '{name}', and its product with the gains, must lie between 1e-72 and 1e+72 in "
                f"magnitude, not near {x * max(1.0, largest_gain) if x > 1 or largest_gain > 1 else x:.3g}: "
                f"rescale it ({name} / c with S / c**2 and ridge / c**4 leaves the gains unchanged)."
            )
        e, g = -safe_exponent(x), safe_exponent(largest_gain)
        if center:
            np.divide(total, N, out=draft.mean)
        if e == g == 0:
            return draft
        return dataclasses.replace(
            draft,
            exponent=e,
            gain_exponent=g,
            gains=np.ldexp(z, -g),
            mean=np.ldexp(draft.mean, e - g),
            sizes=np.ldexp(draft.sizes, e),
        )

    @summed()
    def trace(self) -> float:
        """The trace of C, Σ ‖ỹ_i‖², in scaled units. 5ND flops."""
        step, total = -(-self.block_rows // 4), 0.0
        buffer = np.empty((step, self.shape[1]))
        for rows, block in self.astype(np.float64).blocks(step=step):
            centred = self.centre(rows, block, buffer).ravel()
            total += float(scipy_blas.ddot(centred, centred))
        return total

    def at(self, gains: NDArray[np.float64]) -> Problem:
        """The same responses around other gains, in the units of this problem."""
        there = dataclasses.replace(self, gains=gains)
        rows = self.rows
        if not (self.center or rows.read_again):  # no mean is needed
            return there
        if rows.read_again:
            total, sizes = rows.map_both(_chunk_sums, there)
            moved = np.flatnonzero(sizes != self.sizes.astype(self.dtype))  # blocks round as X does
            if len(moved):
                raise rows.changed(f", first at channel {moved[0]}")
        else:
            total = _chunk_sum(there)
        return dataclasses.replace(there, mean=total / len(gains)) if self.center else there

    def safe(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
        """Values scaled by a power of 2, so that products with X in its dtype are safe.

        Also returns the exponent of 2 that the scaled values lack.
        """
        if self.dtype == np.float64:
            return values, 0
        flat = values.ravel()
        exponent = safe_exponent(abs(float(flat[scipy_blas.idamax(flat)])))
        return (np.ldexp(values, -exponent) if exponent else values), exponent

    def reusable(self, X: Any) -> Any:
        """The X from which this was made, for another use; on a cluster its chunks, which are loaded once."""
        there = self.rows.on_workers
        return Labelled(self.X, self.labels.rows, self.labels.columns) if there else X

    def watched(self, watch: Watch) -> Problem:
        """The same problem; `watch` is told which share of each pass is done, if passes read rows again."""
        return dataclasses.replace(self, watch=watch) if self.rows.read_again else self

    def with_metric(self, nuisance: Any, pairs: Any, labels: Labels) -> Problem:
        """The same problem with nuisance terms and weights of pairs; `labels` may come from a target, too."""
        if nuisance is None and pairs is None:
            return self
        return dataclasses.replace(self, metric=Metric.of(nuisance, pairs, self.shape[1], labels))

    @property
    def plain(self) -> Problem:
        """The same problem without a metric, which then need not be sent to workers."""
        return self if self.metric is None else dataclasses.replace(self, metric=None)

    def unlabelled(self) -> Problem:
        """The same problem without names, which then need not be sent to workers."""
        return dataclasses.replace(self, labels=UNLABELLED)

    def astype(self, dtype: DTypeLike) -> Problem:
        """The same responses with products in another precision."""
        return self if self.dtype == dtype else dataclasses.replace(self, dtype=np.dtype(dtype))

    def converted(self) -> Problem:
        """The same problem with a copy of X in dtype and units of the products, for many passes over it."""
        return dataclasses.replace(self, X=self.responses(), exponent=0)

    def fits_caches(self, targets: int = 1) -> bool:
        """Whether X is in memory and small, so that kernels finish this many targets before threads pay."""
        N, D = self.shape
        return (
            self.rows.in_memory and self.exponent == self.gain_exponent == 0
            and self.metric is None and D <= NARROW and targets * N * D * D < ELEMENT_PRODUCTS * PARALLEL_SIZE
        )  # fmt: skip

    def ready(self, X: Any) -> bool:
        """Whether kernels can take rows of X as they are, without a copy."""
        return (
            isinstance(X, np.ndarray) and X.dtype == self.dtype and self.exponent == 0
            and X.flags.c_contiguous and X.flags.aligned and X.flags.writeable
        )  # fmt: skip

    @functools.cached_property
    def rows(self) -> Rows:
        """X as rows, wherever they are."""
        return rows_of(self.X)

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and conditions, (N, D)."""
        return self.X.shape

    @property
    def at_ones(self) -> bool:
        """Whether all gains are one. A part of a problem may be at ones where the whole is not."""
        return self.gain_exponent == 0 and bool((self.gains == 1.0).all())

    @property
    def rounding_floor(self) -> float:
        """The |y~_ij| that rounding may leave of channels that are all alike, relative to the largest |x_ij|.

        A sum over SUM_ROWS rows, and then one over such sums, have at most as many roundings as terms.
        """
        N = self.shape[0]
        terms = min(N, kernels.SUM_ROWS) + N / kernels.SUM_ROWS + 8.0
        return terms * float(np.finfo(self.dtype).eps)

    @property
    def block_rows(self) -> int:
        """Number of rows in a block: as many as fit, with blocks of equal size."""
        N, D = self.shape
        blocks = -(-N // max(1, BLOCK_BYTES // (self.dtype.itemsize * D)))
        return -(-N // blocks)

    def blocks(self, *, step: int = 0, streamed: bool = False) -> Iterator[tuple[slice, Array]]:
        """Yield a slice of rows and the scaled block X[rows], C-ordered and writeable.

        A block is valid until the next one is asked for. It is a view of X where kernels can take X as it is,
        otherwise a copy in one buffer. It has `step` rows, or as many as fit in cache. With `streamed`, for
        callers that make no other array of a block, a view may be as long as the part of X in memory.
        """
        step = step or self.block_rows
        buffer = None
        for first, X in self.rows.chunks(self.block_rows, self.watch):
            as_is = self.ready(X)
            length = max(step, STREAMED_FLOPS // (2 * X.shape[1] ** 2)) if as_is and streamed else step
            if buffer is None and not as_is:
                buffer = np.empty((min(step, self.shape[0]), X.shape[1]), self.dtype)
            for start in range(0, len(X), length):
                part = X[start : start + length]
                if buffer is not None:
                    block = buffer[: len(part)]
                    if self.exponent:  # in float64, before the cast: float32 may not have the range
                        np.multiply(part, np.float64(2.0**self.exponent), out=block, casting="unsafe")
                    else:
                        np.copyto(block, part, casting="unsafe")
                    part = block
                yield slice(first + start, first + start + len(part)), part

    def centre(
        self, rows: slice, block: Array, out: Array, scales: NDArray[np.float64] | None = None
    ) -> Array:
        """The block of rows y~_i, or scales_i y~_i, written to the first rows of `out`."""
        if scales is None:
            scales = np.ones(len(block))
        centred = out[: len(block)]
        kernels.centred_rows(block, self.gains[rows], self.mean, scales, centred, size=block.size)
        return centred

    def take(self, channels: Any) -> Problem:
        """Some of the channels, with the mean of all of them."""
        return dataclasses.replace(
            self, X=self.X[channels], gains=self.gains[channels], sizes=self.sizes[channels]
        )

    def with_channels(self, other: Problem) -> Problem:
        """A problem with the channels of both, which are parts of one problem."""
        return dataclasses.replace(
            self,
            X=np.concatenate([self.X[:], other.X[:]]),
            gains=np.concatenate([self.gains, other.gains]),
            sizes=np.concatenate([self.sizes, other.sizes]),
        )

    def parts(self, *, step: int = 0) -> Iterator[tuple[slice, Problem]]:
        """Yield a slice of rows and the problem of these channels, in memory, with the mean of all channels.

        It is valid until the next one is asked for.
        """
        for rows, block in self.blocks(step=step):
            yield (
                rows,
                dataclasses.replace(
                    self, X=block, gains=self.gains[rows], sizes=self.sizes[rows], exponent=0
                ),
            )

    def responses(self) -> Array:
        """A copy of all of the scaled X (N, D)."""
        out = np.empty(self.shape, self.dtype)
        for rows, block in self.blocks():
            out[rows] = block
        return out

    def centred(self) -> Array:
        """All of Y~ (N, D), as a new array."""
        out = np.empty(self.shape, self.dtype)
        for rows, block in self.blocks(streamed=True):
            self.centre(rows, block, out[rows])
        return out

    @summed()
    def covariance(self) -> NDArray[np.float64]:
        """C (D, D) at the gains, in scaled units. ND² flops; twice that up to NARROW conditions."""
        D = self.shape[1]
        require_memory(16 * D * D, f"A covariance of {D} conditions", "rows are channels: transpose X?")
        C = np.zeros((D, D))
        if D <= NARROW:
            with blas_for(0):
                for rows, block in self.blocks(streamed=True):
                    parts = np.empty((n_parts(len(block), D), D, D))
                    kernels.centred_products(
                        block,
                        rows.start,
                        self.gains,
                        self.mean,
                        parts,
                        C,
                        size=block.size * D // ELEMENT_PRODUCTS,
                    )
        else:
            buffer = np.empty((self.block_rows, D), self.dtype)
            for rows, block in self.blocks():
                blas.add_self_product(C, self.centre(rows, block, buffer))
        kernels.mirror_lower(C, size=C.size)  # not every BLAS rounds A Aᵀ alike on both sides
        return C

    def target(self, S: ArrayLike, name: str = "S") -> NDArray[np.float64]:
        """S, validated, in the order of the conditions and in scaled units; always a stack (T, D, D)."""
        D = self.shape[1]
        forms = (("condition", "condition"), ("target", "condition", "condition"))
        given = check_array(name, S, *forms)
        if given.shape[-2] == given.shape[-1]:
            given = check_array(name, by_condition(name, S, self.labels), *forms)
        if given.shape[-2:] != (D, D):
            raise ValueError(
                f"Argument '{name}' must be {D} x {D}, one row and column for each condition of X, "
                f"not of shape {given.shape}."
            )
        require_memory(40 * given.size, "Checking targets of this size", "fit fewer at a time")
        names = (None, self.labels.conditions, self.labels.conditions)[-given.ndim :]
        given = self._known(name, given, forms[given.ndim - 2], names)
        values = symmetric(name, given, forms[given.ndim - 2], names).reshape(-1, D, D)
        size = float(np.abs(values).max())
        # The linear fit has gains of the order of S / X², and a loss of S⁴ / X⁴.
        exponent = 2 * (self.exponent - self.gain_exponent)
        x = float(self.sizes.max())
        if size > 0 and math.frexp(size)[1] + exponent > LARGEST_EXPONENT + min(0, math.frexp(x)[1]):
            raise ValueError(
                f"Argument '{name}' must be comparable with the covariance of X, not as large as "
                f"{size:.3g}: the loss would overflow."
            )
        return np.ldexp(values, exponent) if exponent else values

    def _known(self, name: str, given: Array, axes: Sequence[str], names: Sequence[Any]) -> Array:
        """The target with zero in place of NaN where pairs do not count; any other NaN is an error."""
        if given.dtype.kind != "f" or not (unknown := np.isnan(given)).any():
            return given
        metric = self.metric
        if metric is not None and metric.weights is not None:
            left_out = (unknown | np.swapaxes(unknown, -1, -2)) & (metric.weights == 0.0) & ~np.isinf(given)
            given = np.where(left_out, given.dtype.type(0), given)
        if np.isnan(given).any() and (error := nonfinite(name, given, axes, names)):
            raise ValueError(
                f"{str(error)[:-1]}: pass pairs=np.isfinite({name}) where pairs are unknown, and they do not "
                "count."
            )
        return given

    def unscaled(self, values: Any, *, x: int = 0, y: int = 0, lacking: int = 0) -> Any:
        """Values of order `x` in X and `y` in Y, in the caller's units.

        `lacking` is the exponent of 2 that the values lack, as `safe` gives it.
        """
        exponent = x * self.exponent + y * (self.exponent - self.gain_exponent) - lacking
        return np.ldexp(values, -exponent) if exponent else values


def _chunk_sums(problem: Problem) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sum Σ z_i x_i over channels (D,), and max_j |x_ij| (N,). 3ND flops."""
    total, sizes = np.zeros(problem.shape[1]), np.empty(problem.shape[0])
    whole = np.dtype(f"i{problem.dtype.itemsize}")
    mask = (1 << (8 * whole.itemsize - 1)) - 1
    for rows, block in problem.blocks(streamed=True):
        sums = np.empty((-(-len(block) // kernels.SUM_ROWS), len(total)))
        largest = np.empty(len(block), whole)
        kernels.weighted_sums(
            block, block.view(whole), mask, problem.gains[rows], sums, largest, size=block.size
        )
        sizes[rows] = largest.view(problem.dtype)
        total += sums.sum(axis=0)
    return total, sizes


@summed()
def _chunk_sum(problem: Problem) -> NDArray[np.float64]:
    """The sum Σ z_i x_i over channels (D,)."""
    return _chunk_sums(problem)[0]
