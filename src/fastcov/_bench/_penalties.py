"""Operations on activations: each penalty on their covariance, with its gradient.

Activations are the responses of a simulation, with channels as units and conditions as samples. With fewer
samples m than units n, squared penalties go through an m x m product, and so does their floor.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastcov as fc

from ..datasets import Simulation
from ..penalties import SIGNS_PAY
from . import _naive
from ._operation import TINY, WIDE, Task, bare, bare_steps, bare_tiles, operation
from ._reference import near, require, rounding

Array = NDArray[Any]
# Takes rows of C and their units; returns f_ij, whose sum is the value, and ∂f/∂C.
Entries = Callable[[Array, slice], tuple[Array, Array]]

LAYER, WIDE_LAYER, LARGE_LAYER = (2000, 500), (4000, 250), (20_000, 500)
# A layer with fewer units than its batch has samples.
LONG_BATCH = (512, 4096)
LAYERS = (TINY, LAYER, WIDE_LAYER, LARGE_LAYER)
# Number of units in a block of a check, and of units whose gradients are compared sample by sample.
BLOCK_UNITS, CHECKED = 256, 20


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Compute Σ f(C_ij) and its gradient 2/(m − 1) F Ã from entries of C in float64, by blocks of units."""

    activations: Array
    entries: Entries
    beside: Array | None = None  # the target that C is compared with

    @functools.cached_property
    def signs(self) -> Array:
        """A random sign for each sample."""
        return np.random.default_rng(0).choice([-1.0, 1.0], self.activations.shape[1])

    @functools.cached_property
    def expected(
        self,
    ) -> tuple[float, float, list[tuple[slice, Array, Array]], list[tuple[int, Array, Array]]]:
        """The value; gradients of all units times signs; full gradients of some units; a bound after each.

        f is monotone on each side of its minimum, and F everywhere, so the effect of rounding in C_ij is
        largest at the largest possible error of C_ij. At a kink, where C_ij is zero, any subgradient is
        accepted: JAX takes another one than PyTorch and NumPy.
        """
        (n, m), A = self.activations.shape, self.activations.astype(np.float64)
        sizes = np.linalg.norm(A, axis=1)  # before the mean is subtracted
        A -= A.mean(axis=1, keepdims=True)
        share, scale = rounding(self.activations.dtype, n + m), 2.0 / (m - 1)
        some = np.random.default_rng(0).choice(n, min(n, CHECKED), replace=False)
        value, allowed, projected, rows = 0.0, 0.0, [], []
        for start in range(0, n, BLOCK_UNITS):
            units = slice(start, min(n, start + BLOCK_UNITS))
            C = A[units] @ A.T / (m - 1)
            magnitudes = np.outer(sizes[units], sizes) / (m - 1) + np.finfo(np.float64).tiny / share
            if self.beside is not None:
                magnitudes += np.abs(self.beside[units])
            f, F = self.entries(C, units)
            ends = [self.entries(C + sign * share * magnitudes, units) for sign in (-1.0, 1.0)]
            value += float(f.sum())
            allowed += float(sum(np.abs(end - f).sum() for end, _ in ends))
            allowed += share * float(self.entries(magnitudes, units)[0].sum())
            wrong = share * np.abs(F) + sum(np.abs(end - F) for _, end in ends)
            projected.append((units, scale * (F @ (A @ self.signs)), scale * (wrong @ sizes)))
            for i in some[(some >= start) & (some < units.stop)]:
                row = i - start
                rows.append((int(i), scale * (F[row] @ A), scale * (wrong[row] @ np.abs(A))))
        return value, allowed, projected, rows

    def check(self, result: Any) -> None:
        """Raise InaccurateError unless value and gradient are within rounding."""
        found, gradient = result
        require(np.shape(gradient) == self.activations.shape, f"shape {np.shape(gradient)}")
        value, allowed, projected, rows = self.expected
        near(found, value, allowed)
        for units, products, bound in projected:
            _close(gradient[units] @ self.signs, products, bound)
        for i, row, bound in rows:
            _close(gradient[i], row, bound)


def _close(result: Any, expected: Any, allowed: Any) -> None:
    """Check as `near` does, with a bound for each entry."""
    excess = np.abs(np.asarray(result, np.float64) - expected) - allowed
    require(np.max(excess) <= 0, f"off by {np.max(excess):.1e} more than rounding explains")


def _task(
    simulation: Simulation,
    ours: Callable[[], Any],
    naive: Callable[[], Any],
    entries: Entries,
    *,
    flops: float,
    floor: Callable[[], Any],
    beside: Array | None = None,
    given: tuple[Any, ...] = (),
) -> Task:
    """Make a task that reads activations and writes gradients, 2wnm bytes, and reads a target once.

    The naive version holds C and F, and takes 4n²m flops.
    """
    (n, m), w = simulation.X.shape, simulation.X.itemsize
    return Task(
        ours=ours, check=Reference(simulation.X, entries, beside).check, flops=flops,
        nbytes=2 * w * n * m + (0 if beside is None else 8 * n**2),
        naive=naive, naive_bytes=2.0 * w * n**2, naive_flops=4.0 * n**2 * m, floor=floor,
        given={"beside": given},
    )  # fmt: skip


@operation(
    "mean-covariance", ["penalties.mean_covariance"], LAYERS, singles=(LAYER,), peers="mean_covariance"
)
def mean_covariance(simulation: Simulation) -> Task:
    """Mean covariance, 5nm flops. The floor is one GEMV with ones, 2nm."""
    A, (n, m) = simulation.X, simulation.X.shape
    (gemv,), ones = bare(simulation, "gemv"), np.ones(n, A.dtype)
    return _task(
        simulation, lambda: fc.penalties.mean_covariance(A), lambda: _naive.mean_covariance(A),
        lambda C, units: (C / n**2, np.full_like(C, 1 / n**2)),
        flops=5.0 * n * m, floor=lambda: gemv(1.0, A.T, ones),
    )  # fmt: skip


@operation(
    "mean-absolute-covariance", ["penalties.mean_absolute_covariance"], LAYERS, singles=(LAYER,),
    peers="mean_absolute_covariance",
)  # fmt: skip
def mean_absolute_covariance(simulation: Simulation) -> Task:
    """Mean absolute covariance, 3n²m flops; for large layers n²m in float32 for signs, and n²m/6 additions.

    The floor is that of tiles, SYRK and GEMM, 3n²m, which the method of signs can undercut.
    """
    A, (n, m) = simulation.X, simulation.X.shape
    return _task(
        simulation, lambda: fc.penalties.mean_absolute_covariance(A),
        lambda: _naive.mean_absolute_covariance(A),
        lambda C, units: (np.abs(C) / n**2, np.sign(C) / n**2),
        flops=(7 / 6 if n >= SIGNS_PAY else 3.0) * n**2 * m, floor=bare_tiles(A),
    )  # fmt: skip


@operation(
    "smooth-absolute-covariance", ["penalties.mean_absolute_covariance"], (TINY, LAYER, WIDE_LAYER),
    singles=(LAYER,), peers="smooth_absolute_covariance",
)  # fmt: skip
def smooth_absolute_covariance(simulation: Simulation) -> Task:
    """Smooth version, ε a tenth of the mean variance: 3n²m flops, like the floor, SYRK and GEMM by tiles."""
    A, (n, m) = simulation.X, simulation.X.shape
    epsilon = 0.1 * float(A.var(axis=1, dtype=np.float64).mean())

    def entries(C: Array, units: slice) -> tuple[Array, Array]:
        roots = np.sqrt(C**2 + epsilon**2)
        return roots / n**2, C / roots / n**2

    return _task(
        simulation, lambda: fc.penalties.mean_absolute_covariance(A, epsilon=epsilon),
        lambda: _naive.smooth_absolute_covariance(A, epsilon), entries,
        flops=3.0 * n**2 * m, floor=bare_tiles(A), given=(np.float64(epsilon),),
    )  # fmt: skip


def _squares(simulation: Simulation) -> tuple[float, Callable[[], Any]]:
    """Return flops and floor of a squared penalty: SYRK and GEMM, by samples if these are fewer."""
    n, m = simulation.X.shape
    floor = bare_steps(simulation.X, 1) if m < n else bare_tiles(simulation.X)
    return 3.0 * n * m * min(n, m), floor


@operation(
    "mean-squared-covariance", ["penalties.mean_squared_covariance"], LAYERS, singles=(LAYER,),
    peers="mean_squared_covariance",
)  # fmt: skip
def mean_squared_covariance(simulation: Simulation) -> Task:
    """Mean squared covariance: 3nm² flops through samples, or 3n²m by tiles if m > n, like the floor."""
    A, n, (flops, floor) = simulation.X, len(simulation.X), _squares(simulation)
    return _task(
        simulation, lambda: fc.penalties.mean_squared_covariance(A),
        lambda: _naive.mean_squared_covariance(A),
        lambda C, units: (C**2 / n**2, 2 * C / n**2), flops=flops, floor=floor,
    )  # fmt: skip


def _different(C: Array, units: slice, weight: float) -> tuple[Array, Array]:
    """Return weighted squares of all entries off the diagonal, and their derivatives."""
    C = C.copy()
    C[np.arange(len(C)), np.arange(units.start, units.stop)] = 0.0
    return weight * C**2, 2 * weight * C


@operation("decov", ["penalties.decov"], (*LAYERS, LONG_BATCH), singles=(LAYER,), peers="decov")
def decov(simulation: Simulation) -> Task:
    """DeCov: 3nm² flops through samples, or 3n²m by tiles if m > n, like the floor."""
    A, (flops, floor) = simulation.X, _squares(simulation)
    return _task(
        simulation, lambda: fc.penalties.decov(A), lambda: _naive.decov(A),
        lambda C, units: _different(C, units, 0.5), flops=flops, floor=floor,
    )  # fmt: skip


@operation(
    "vicreg-covariance", ["penalties.vicreg_covariance"], LAYERS, singles=(LAYER,),
    peers="vicreg_covariance",
)  # fmt: skip
def vicreg_covariance(simulation: Simulation) -> Task:
    """Covariance term of VICReg; flops and floor are those of `decov`."""
    A, n, (flops, floor) = simulation.X, len(simulation.X), _squares(simulation)
    return _task(
        simulation, lambda: fc.penalties.vicreg_covariance(A), lambda: _naive.vicreg_covariance(A),
        lambda C, units: _different(C, units, 1 / n), flops=flops, floor=floor,
    )  # fmt: skip


@operation(
    "covariance-distance", ["penalties.covariance_distance"], (TINY, WIDE, LAYER, WIDE_LAYER),
    singles=(LAYER,), peers="covariance_distance",
)  # fmt: skip
def covariance_distance(simulation: Simulation) -> Task:
    """Distance from the covariance of Y, 3n²m flops by tiles, or 2n²m + 3nm² if 3m < n.

    The floor is SYRK and GEMM, by tiles or by samples; by samples it has one more GEMM, with the target.
    """
    A, (n, m) = simulation.X, simulation.X.shape
    S = np.cov(simulation.Y.astype(np.float64))
    single = S.astype(A.dtype)
    through = 3 * m < n
    flops, floor = 3.0 * n**2 * m, bare_tiles(A)
    if through:
        flops, floor = 2.0 * n**2 * m + 3.0 * n * m**2, bare_steps(A, 1)
    (gemm,), out = bare(simulation, "gemm"), np.empty_like(A)

    def with_target() -> None:
        floor()
        gemm(1.0, A.T, single.T, c=out.T, overwrite_c=1)

    return _task(
        simulation, lambda: fc.penalties.covariance_distance(A, S),
        lambda: _naive.covariance_distance(A, single),
        lambda C, units: (np.square(C - S[units]), 2 * (C - S[units])),
        flops=flops, floor=with_target if through else floor, beside=S, given=(S,),
    )  # fmt: skip
