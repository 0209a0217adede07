"""The loss along each gain alone: a quartic, whose coefficients for all channels come from one pass.

With gain i at z_i + t, the error of the covariance is E + t g_i + t² s x_i x_iᵀ, where s = 1 − 1/N, or s = 1
if no mean is removed. So the loss is c₀ + c₁t + c₂t² + c₃t³ + c₄t⁴ with

    c₁ = ∂L/∂z_i,    c₂ = ½‖g_i‖² + s x_iᵀE x_i + ½P_ii,    c₃ = s ⟨g_i, x_i x_iᵀ⟩,    c₄ = ½s² ‖x_i x_iᵀ‖²

With a metric, E, g_i and x_i x_iᵀ stand for their images.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._compute import kernels
from .._compute.trust_region_kernels import least_either_way, quartic_change
from .._model import metric_atoms
from .._model.problem import Problem
from .._rows.rows import by_channels

Array = NDArray[np.float64]


def share(problem: Problem) -> float:
    """The share s of x_i x_iᵀ that remains when the mean over channels is removed."""
    return 1.0 - 1.0 / problem.shape[0] if problem.center else 1.0


def quartics(problem: Problem, gradient: Array, norms: Array, second_diagonal: Array, weights: Any) -> Array:
    """c₁ to c₄ of all channels (4, N), around the gains of the problem; `weights` is the diagonal of P."""
    s, (skew, square) = share(problem), pair_products(problem)
    return np.stack([gradient, 0.5 * (norms + s * second_diagonal + weights), s * skew, 0.5 * s * s * square])


@by_channels()
def pair_products(problem: Problem) -> Array:
    """⟨g_i, x_i x_iᵀ⟩ and ‖x_i x_iᵀ‖² (2, N), for images under a metric. 8ND flops, two passes over X."""
    N, D = problem.shape
    metric, plain = problem.metric, dataclasses.replace(problem, gains=np.ones(N), mean=np.zeros(D))
    out = np.empty((2, N))
    if metric is not None and not metric_atoms.of_low_rank(metric):
        maker = metric_atoms.Images(metric, np.dtype(np.float64))
        for rows, part in problem.astype(np.float64).parts():
            X = part.responses()
            pairs = 0.5 * maker.of(X, X)
            out[0, rows] = np.einsum("ij,ij->i", maker.of(X, part.centred()), pairs)
            out[1, rows] = np.einsum("ij,ij->i", pairs, pairs)
        return out
    sums = np.empty((2, N, 2))
    for rows, block in problem.blocks(streamed=True):
        for there, found in ((problem, sums[0]), (plain, sums[1])):
            kernels.atom_sums(block, there.gains[rows], there.mean, found[rows], size=block.size)
    xy, xx = sums[0, :, 0], sums[1, :, 0]
    out[0], out[1] = 2.0 * xx * xy, xx * xx
    if metric is not None:
        atoms, pairs = (
            metric_atoms.removed_products(metric, problem),
            0.5 * metric_atoms.removed_products(metric, plain),
        )
        out[0] -= np.einsum("ij,ij->i", atoms, pairs)
        out[1] -= np.einsum("ij,ij->i", pairs, pairs)
        np.maximum(out[1], 0.0, out=out[1])
    return out


@dataclasses.dataclass(frozen=True, eq=False)
class SingleGainLosses:
    """The exact loss as a function of each gain alone, with all other gains as fitted.

    Along one gain the loss is a quartic. It shows how steeply the loss rises on either side of the fitted
    gain, and whether there is a second minimum, as at a gain of the other sign.

    Attributes
    ----------
    gains : ndarray, shape (N,)
        The gains z that were fitted.
    coefficients : ndarray, shape (N, 5)
        c₀ to c₄ of L(z_i + t) = c₀ + c₁t + c₂t² + c₃t³ + c₄t⁴, in units of X to the fourth.

    For a stack of T targets, each array has a first axis of length T.
    """

    gains: Array
    coefficients: Array

    def __call__(self, gains: ArrayLike) -> Array:
        """Losses with each gain, alone, at a value of its own, or each at the same value.

        `gains` broadcasts against the gains of the fit, (N,) or (T, N), so that values (K, 1) give (K, N).
        """
        t = np.asarray(gains, np.float64) - self.gains
        c = np.moveaxis(self.coefficients, -1, 0)
        return np.asarray((((c[4] * t + c[3]) * t + c[2]) * t + c[1]) * t + c[0])

    def lowest(self) -> tuple[Array, Array]:
        """The gain at which each quartic is least, and the loss there; both are (N,), or (T, N)."""
        steps = np.zeros_like(self.gains)
        drops = np.zeros_like(self.gains)
        for place in np.ndindex(self.gains.shape):
            c = [float(value) for value in self.coefficients[place][1:]]
            if c[3] > 0.0 or (c[2] == 0.0 and c[1] > 0.0):
                steps[place] = least_either_way(*c, -np.inf, np.inf)
                drops[place] = quartic_change(*c, steps[place])
        return self.gains + steps, self.coefficients[..., 0] + drops
