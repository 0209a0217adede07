"""Problem: responses around an expansion point, validated, centred and scaled in one place.

Below this module everything trusts its input, and whatever walks over channels does it through
`Problem.blocks`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _blas, _kernels
from ._validation import check_array, check_gains, nonfinite

Array = NDArray[Any]

# What is made of a block of rows should stay in the caches.
BLOCK_BYTES = 1 << 21

# Typical |x| = 2**e with |e| up to this keeps every product of four responses, and their sums, well
# inside the range of the dtype. Beyond, X is multiplied by a power of two, which is exact.
SAFE_EXPONENT = {"f": 20, "d": 120}
# Beyond this the loss, of fourth order in X, has no float64 value of its own.
LARGEST_EXPONENT = 240


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Responses X (N, D) and gains z to expand around, in units of 2**-exponent of the caller's.

    With x_i a row of X in those units: y_i = z_i x_i; `mean` is m = (1/N) sum_i y_i, or zero when
    not `center`; y~_i = y_i - m; the covariance is C = sum_i y~_i y~_i^T (not divided by N).
    """

    X: Array
    dtype: np.dtype[Any]  # of the products: float32 or float64; sums over blocks are float64
    center: bool
    gains: NDArray[np.float64]
    exponent: int
    mean: NDArray[np.float64]
    sizes: NDArray[np.float64]  # sum_j |x_ij|: zero for a dead channel

    @classmethod
    def of(
        cls,
        X: ArrayLike | Problem,
        *,
        gains: ArrayLike | None = None,
        center: bool = True,
        dtype: DTypeLike | None = None,
        reach: float = 1.0,
        name: str = "X",
    ) -> Problem:
        """Validate X and find its mean and scale, in one pass of 3ND flops; X is not copied.

        `reach` is the largest gain in magnitude that the scale has to bear, beside `gains`.
        """
        if isinstance(X, Problem):
            return X
        array = check_array(name, X, ("channels", "conditions"))
        if dtype is None:
            dtype = np.float32 if array.dtype.itemsize <= 4 and array.dtype.kind == "f" else np.float64
        N, D = array.shape
        z = np.ones(N) if gains is None else check_gains("gains", gains, N)
        draft = cls(array, np.dtype(dtype), bool(center), z, 0, np.zeros(D), np.empty(N))
        with np.errstate(over="ignore", invalid="ignore"):
            total = draft._sums()
        if not np.isfinite(total).all() and (error := nonfinite(name, array, ("channel", "condition"))):
            raise error
        typical = float(draft.sizes.max()) / D
        largest = typical * max(reach, float(np.abs(z).max()))
        if typical > 0 and not (typical > 2.0**-LARGEST_EXPONENT and largest < 2.0**LARGEST_EXPONENT):
            raise ValueError(
                f"Argument '{name}', and its product with the gains, must lie between 1e-72 and 1e+72 in "
                f"magnitude, not near {largest if largest > 1 else typical:.3g}: rescale it "
                f"({name} / c with S / c**2 and ridge / c**4 leaves the gains unchanged)."
            )
        exponent = -math.frexp(largest)[1] if largest > 0 else 0
        if abs(exponent) <= SAFE_EXPONENT[draft.dtype.char]:
            exponent = 0
        mean = total / N if center else draft.mean
        return dataclasses.replace(
            draft, exponent=exponent, mean=np.ldexp(mean, exponent), sizes=np.ldexp(draft.sizes, exponent)
        )

    def at(self, gains: NDArray[np.float64]) -> Problem:
        """The same responses, in the same units, around other gains."""
        other = dataclasses.replace(self, gains=gains, sizes=np.empty_like(self.sizes))
        if not self.center:
            return dataclasses.replace(other, sizes=self.sizes)
        return dataclasses.replace(other, mean=other._sums() / len(gains))

    def _sums(self) -> NDArray[np.float64]:
        """sum_i y_i, and `sizes` filled in. 3ND flops."""
        total = np.zeros(self.shape[1])
        for rows, block in self.blocks(streamed=True):
            sums = np.empty((-(-len(block) // _kernels.SUM_ROWS), len(total)))
            _kernels.weighted_sums(block, self.gains[rows], sums, self.sizes[rows], size=block.size)
            total += sums.sum(axis=0)
        return total

    def astype(self, dtype: DTypeLike) -> Problem:
        """The same responses with products of another precision."""
        return dataclasses.replace(self, dtype=np.dtype(dtype))

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and conditions, (N, D)."""
        return self.X.shape

    @property
    def block_rows(self) -> int:
        """Rows in a block."""
        return min(max(1, BLOCK_BYTES // (8 * self.shape[1])), self.shape[0])

    def blocks(self, *, streamed: bool = False) -> Iterator[tuple[slice, Array]]:
        """Rows and the scaled block X[rows], C-ordered and writeable; good until the next one.

        A block is a view of X where X is as the kernels want it, otherwise a copy in one buffer. With
        `streamed`, where nothing else is made of a block, such a view is all of X.
        """
        X = self.X
        as_is = (X.dtype == self.dtype and self.exponent == 0
                 and X.flags.c_contiguous and X.flags.aligned and X.flags.writeable)  # fmt: skip
        step = len(X) if as_is and streamed else self.block_rows
        buffer = np.empty((0 if as_is else step, X.shape[1]), self.dtype)
        for start in range(0, len(X), step):
            rows = slice(start, min(start + step, len(X)))
            if as_is:
                yield rows, X[rows]
            else:
                block = buffer[: rows.stop - start]
                np.copyto(block, X[rows], casting="unsafe")
                if self.exponent:
                    block *= self.dtype.type(2.0**self.exponent)
                yield rows, block

    def centred_blocks(
        self, scales: NDArray[np.float64] | None = None
    ) -> Iterator[tuple[slice, Array, Array]]:
        """Rows, X[rows] and the block of rows scales_i y~_i; both good until the next one."""
        if scales is None:
            scales = np.ones(len(self.X))
        buffer = np.empty((self.block_rows, self.shape[1]), self.dtype)
        for rows, block in self.blocks():
            centred = buffer[: len(block)]
            _kernels.centred_rows(block, self.gains[rows], self.mean, scales[rows], centred, size=block.size)
            yield rows, block, centred

    def take(self, channels: Any) -> Problem:
        """Some of the channels, with the mean of all of them."""
        return dataclasses.replace(
            self, X=self.X[channels], gains=self.gains[channels], sizes=self.sizes[channels]
        )

    def centred(self) -> Array:
        """All of Y~ (N, D), a copy."""
        out = np.empty(self.shape, self.dtype)
        for rows, block in self.blocks(streamed=True):
            _kernels.centred_rows(
                block, self.gains[rows], self.mean, np.ones(len(block)), out[rows], size=block.size
            )
        return out

    def covariance(self) -> NDArray[np.float64]:
        """C (D, D) at the gains, in scaled units. ND² flops."""
        C = np.zeros((self.shape[1],) * 2)
        for _, _, centred in self.centred_blocks():
            _blas.add_self_product(C, centred)
        _kernels.mirror_lower(C, size=C.size)
        return C

    def target(self, S: ArrayLike, name: str = "S") -> NDArray[np.float64]:
        """S validated and in scaled units, always as a stack (T, D, D)."""
        D = self.shape[1]
        stacked = np.ndim(S) == 3
        axes = ("target", "condition", "condition") if stacked else ("condition", "condition")
        given = check_array(name, S, axes)
        if given.shape[-2:] != (D, D):
            raise ValueError(
                f"Argument '{name}' must be {D} x {D}, one row and column for each condition of X, "
                f"not of shape {given.shape}."
            )
        values = np.asarray(given, np.float64).reshape(-1, D, D)
        with np.errstate(invalid="ignore", over="ignore"):
            skew = np.abs(values - values.transpose(0, 2, 1))
        largest, size = skew.max(), np.abs(values).max()
        if not np.isfinite(largest) and (error := nonfinite(name, given, axes)):
            raise error
        # A product of three matrices rounds to some D units in the last place of its largest entry.
        single = given.dtype.kind == "f" and given.dtype.itemsize < 8
        epsilon = np.finfo(given.dtype if single else np.float64).eps
        if largest > 8 * D * epsilon * size:
            t, i, j = np.unravel_index(skew.argmax(), skew.shape)
            where = (f"target {t}, " if stacked else "") + f"conditions {i} and {j}"
            raise ValueError(
                f"Argument '{name}' must be symmetric, not different by {largest:.3g} at {where}: "
                f"use ({name} + {name}.T) / 2 if that is meant."
            )
        scaled = values if largest == 0 else 0.5 * (values + values.transpose(0, 2, 1))
        if self.exponent:
            scaled = np.ldexp(scaled, 2 * self.exponent)
        with np.errstate(over="ignore"):
            if not np.ldexp(size, 2 * self.exponent) < 2.0**500:
                raise ValueError(
                    f"Argument '{name}' must be comparable with the covariance of X, not as large as "
                    f"{size:.3g}: the loss would overflow."
                )
        return np.ascontiguousarray(scaled)

    def unscaled(self, values: Any, power: int) -> Any:
        """Values of order `power` in X, in the caller's units."""
        return np.ldexp(values, -power * self.exponent) if self.exponent else values


def covariance(X: ArrayLike, *, gains: ArrayLike | None = None, center: bool = True) -> NDArray[np.float64]:
    """Covariance over conditions of responses, C = Xᵀ diag(z) J diag(z) X.

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses: one row a channel, one column a condition.
    gains : array_like, shape (N,), optional
        One gain z a channel; ones by default.
    center : bool, default True
        Remove the mean over channels, condition by condition (J = I − 11ᵀ/N). With ``False``, J = I
        and C is the "overlap" of the conditions.

    Returns
    -------
    ndarray, shape (D, D)
        Symmetric, in units of X squared. It is a sum over channels: divide by N or N − 1 for a mean.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape.

    Notes
    -----
    ND² flops; 8D² bytes and one block of rows beside X, which is not copied. The mean is subtracted
    before the product, so that a large common offset costs no digits.
    """
    problem = Problem.of(X, gains=gains, center=center)
    return problem.unscaled(problem.covariance(), 2)


def target_covariance(
    Y: ArrayLike, *, like: ArrayLike | None = None, center: bool = True
) -> NDArray[np.float64]:
    """Target covariance S from the responses of another population, on the scale of X's.

    S = c · YᵀJY with c = tr(XᵀJX) / tr(YᵀJY), so that the number of channels and the units of the
    two recordings do not matter.

    Parameters
    ----------
    Y : array_like, shape (M, D)
        Responses of the other population to the same conditions in the same order.
    like : array_like, shape (N, D), optional
        The input responses X whose covariance gives the trace. Without it c = 1.
    center : bool, default True
        As in `covariance`; the same as in the fit.

    Returns
    -------
    ndarray, shape (D, D)

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array, the conditions differ in number, or Y does not
        vary over its channels (its covariance has no trace to match).

    Notes
    -----
    (M + N)D² flops at most.
    """
    output = Problem.of(Y, center=center, name="Y")
    S: NDArray[np.float64] = output.unscaled(output.covariance(), 2)
    if like is None:
        return S
    reference = Problem.of(like, center=center, name="like")
    if output.shape[1] != reference.shape[1]:
        raise ValueError(
            f"Argument 'Y' must have the {reference.shape[1]} conditions of 'like', not {output.shape[1]}."
        )
    trace = np.trace(S)
    # What rounding leaves of channels that are all alike.
    noise = (np.finfo(output.dtype).eps * output.unscaled(output.sizes.max(), 1)) ** 2 * len(output.X)
    if not trace > noise:
        raise ValueError("Argument 'Y' must vary over its channels, not have a covariance of zero.")
    wanted = reference.unscaled(np.trace(reference.covariance()), 2)
    return S * (wanted / trace)
