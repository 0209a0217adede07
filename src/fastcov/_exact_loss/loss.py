"""The exact loss, of fourth order in the gains, and its gradient, for one vector of gains or a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._compute import blas, pair_kernels
from .._compute.jit import blas_for
from .._inputs.labels import Labels, by_channel, conditions_of
from .._inputs.validation import check_gains
from .._model.problem import NARROW, Problem
from .._model.products import apply_adjoint
from .._model.ridge_penalty import Penalty
from .._rows.responses import check_responses
from .small import plain_loss

Array = NDArray[np.float64]

# From this many candidates on, and up to this many conditions, a batch is evaluated through products of pairs
# of conditions, with one large GEMM for all candidates. Otherwise one candidate is evaluated after another,
# each with a threaded SYRK. The two were compared on 2 cores at N = 148 to 2000: at D = 48
# the pairs win from 16 candidates on (4.8 times at 256), at D = 186 never by more than the noise.
PAIR_CANDIDATES = 16
PAIR_CONDITIONS = 96
# Bytes of the products of pairs for a block of rows, and of the packed errors of a group of candidates.
PAIR_BYTES = 1 << 22
GROUP_BYTES = 1 << 27
# With pairs, the mean is subtracted after the product. Where that leaves a smaller share of the trace than
# this, three digits are lost, and the candidate is evaluated alone, with its mean subtracted first.
CANCELLATION = 1e-3


def loss(
    X: ArrayLike, S: ArrayLike, gains: ArrayLike, *, ridge: Any = 0.0, center: bool = True,
    nuisance: str | Sequence[str] | None = None, pairs: str | ArrayLike | None = None,
) -> Any:  # fmt: skip
    """Exact loss of gains z, L(z) = ½‖C(z) − S‖²_F + (λ/2)‖z − 1‖² with C(z) = Xᵀ diag(z) J diag(z) X.

    C(z) is the covariance of the responses X with gains z, and S is its target. J removes the mean over
    channels, and λ is the ridge.

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses: one row per channel, one column per condition. It may be a dask array, as for `fit`.
    S : array_like, shape (D, D) or (T, D, D)
        Target covariance, or a stack of T. A stack goes with T vectors of gains, pair by pair, or with one.
    gains : array_like, shape (N,) or (K, N)
        Gains z, or K candidates, which are evaluated in parallel.
    ridge : float, or array_like of shape (N,) or (K, N), default 0.0
        λ ≥ 0 in units of X to the fourth, or one λ per channel, or a matrix Γ with ½‖Γ(z − 1)‖² as the last
        term of the loss, as for `fit`.
    center : bool, default True
        Whether the mean over channels is removed from the responses. If not, J is the identity.
    nuisance, pairs
        As for `fit`, with nuisance terms β, γ and weights w of pairs of conditions. The loss is
        ½ min over β, γ of Σ_ab w_ab (C + βI + γ11ᵀ − S)²_ab, plus the ridge term.

    Returns
    -------
    float, or ndarray of shape (K,) or (T,)
        The loss, in units of X to the fourth.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape, S is not symmetric or λ < 0.

    Notes
    -----
    Each candidate takes ND² flops (one symmetric rank-N update), or twice that up to 128 conditions, where a
    kernel on all threads is faster. It needs memory for a block of rows and for D × D numbers; no candidate
    has a copy of X. From 16 candidates on and up to 96 conditions, the errors of all candidates are held
    together, 4D² bytes each but at most 128 MB. With nuisance terms or pairs, one candidate is evaluated
    after another. For float32 X, products within a block of rows are summed in float32, and the loss is
    accurate to some 1e-6 of ‖S‖² or ‖C‖².

    Examples
    --------
    >>> import fastcov as fc
    >>> X = [[1.0, 2.0], [3.0, 5.0], [4.0, 1.0]]
    >>> fc.loss(X, fc.covariance(X), [1.0, 1.0, 1.0])
    0.0
    """
    losses, _ = _evaluate(X, S, gains, ridge, center, nuisance, pairs, gradient=False)
    return losses


def loss_and_gradient(
    X: ArrayLike, S: ArrayLike, gains: ArrayLike, *, ridge: Any = 0.0, center: bool = True,
    nuisance: str | Sequence[str] | None = None, pairs: str | ArrayLike | None = None,
) -> tuple[Any, Array]:  # fmt: skip
    """Exact loss of gains z and its gradient, ∇L = 2 rowsum(X ∘ (Ỹ E)) + λ(z − 1).

    Here Ỹ = J diag(z) X, where J removes the mean over channels, and E = ỸᵀỸ − S. With nuisance terms or
    pairs, E = w ∘ (ỸᵀỸ + βI + γ11ᵀ − S) with the best β and γ. The symbols are those of `loss`.

    Parameters
    ----------
    X, S, gains, ridge, center, nuisance, pairs
        As for `loss`.

    Returns
    -------
    loss : float, or ndarray of shape (K,) or (T,)
        As `loss` returns it.
    gradient : ndarray, shape (N,), (K, N) or (T, N)
        float64, in units of X to the fourth.

    Raises
    ------
    TypeError, ValueError
        As for `loss`.

    Notes
    -----
    It takes 2ND² flops per candidate more than `loss`, and otherwise the same.

    Examples
    --------
    `scipy.optimize.minimize` takes a function that returns both, with ``jac=True``:

    >>> import fastcov as fc
    >>> from scipy.optimize import minimize
    >>> sim = fc.datasets.simulate(20, 6)
    >>> found = minimize(lambda z: fc.loss_and_gradient(sim.X, sim.S, z), sim.gains, jac=True)
    """
    losses, gradients = _evaluate(X, S, gains, ridge, center, nuisance, pairs, gradient=True)
    assert gradients is not None
    return losses, gradients


def _evaluate(
    X: ArrayLike, S: ArrayLike, gains: ArrayLike, ridge: Any, center: bool, nuisance: Any, pairs: Any, *,
    gradient: bool,
) -> tuple[Any, Array | None]:  # fmt: skip
    if nuisance is None and pairs is None:
        found = plain_loss(X, S, gains, ridge, center, gradient=gradient)
        if found is not None:
            return found
    responses = check_responses("X", X)
    labels = Labels.of("X", X)
    penalty = Penalty.of("ridge", by_channel("ridge", ridge, labels), len(responses))
    given = check_gains("gains", by_channel("gains", gains, labels), len(responses), batch=True)
    Z = np.atleast_2d(given)
    problem = Problem.measured(
        responses, Z[0], center=center, largest_gain=float(max(Z.max(), -Z.min())), labels=labels
    )
    problem = problem.with_metric(nuisance, pairs, labels.with_conditions_from(conditions_of(S)))
    target = problem.target(S)
    K, T = len(Z), len(target)
    if K != T and K > 1 and T > 1:
        raise ValueError(
            f"Argument 'gains' must hold one vector, or one for each of the {T} targets, not {K}."
        )
    if K < T:
        Z = np.repeat(Z, T, axis=0)
    scaled = np.ldexp(Z, -problem.gain_exponent) if problem.gain_exponent else Z
    losses, gradients = exact_losses(problem, target, scaled, gradient=gradient)
    with np.errstate(over="ignore"):  # a loss beyond float64 is infinite
        losses = problem.unscaled(losses, y=4)
        if gradients is not None:
            gradients = problem.unscaled(gradients, x=1, y=3)
        if penalty.largest > 0:
            delta = Z - 1.0
            losses += 0.5 * penalty.quadratic(delta)
            if gradients is not None:
                gradients += penalty.products(delta)
    if given.ndim == 1 and np.ndim(S) == 2:
        return float(losses[0]), None if gradients is None else gradients[0]
    return losses, gradients


def exact_losses(
    problem: Problem, target: Array, Z: Array, *, gradient: bool = False
) -> tuple[Array, Array | None]:
    """The losses ½‖C(z_k) − S_k‖² (K,) without ridge, in scaled units, and with `gradient` gradients (K, N).

    `problem` is at the first candidate.
    `target` (T, D, D) holds one matrix for all candidates or one for each.
    """
    K, (N, D) = len(Z), problem.shape
    losses = np.empty(K)
    gradients = np.empty((K, N)) if gradient else None
    alone = np.ones(K, bool)
    pairs = K >= PAIR_CANDIDATES and D <= PAIR_CONDITIONS
    if (
        pairs and problem.metric is None and not problem.rows.on_workers
    ):  # on workers, sums for each candidate need no pairs
        size = max(1, GROUP_BYTES // (4 * D * (D + 1)))
        for start in range(0, K, size):
            group = slice(start, min(start + size, K))
            S = target if len(target) == 1 else target[group]
            part = None if gradients is None else gradients[group]
            alone[group] = _by_pairs(problem, S, Z[group], losses[group], part)
    with blas_for(0.0 if D <= NARROW else np.inf):  # held once for all, where only kernels multiply
        for k in np.flatnonzero(alone):
            at_k = problem if k == 0 else problem.at(Z[k])
            error = at_k.covariance() - target[k if len(target) > 1 else 0]
            if problem.metric is not None:
                error = problem.metric.image(error)
            losses[k] = 0.5 * np.square(error).sum()
            if gradients is not None:
                gradients[k] = apply_adjoint(at_k, error[np.newaxis])[0]
    return losses, gradients


def _by_pairs(
    problem: Problem, target: Array, Z: Array, losses: Array, gradients: Array | None
) -> NDArray[np.bool_]:
    """Fill losses and gradients of a group of candidates; returns which candidates lost digits.

    C = Σ z_i² x_i x_iᵀ − N ȳ ȳᵀ, with ȳ the mean of z_i x_i over channels. The first term is linear in the
    products x_ia x_ib of pairs of conditions, and so is the gradient
    2 x_iᵀ E ỹ_i = 2 (z_i x_iᵀ E x_i − x_iᵀ E ȳ).
    """
    K, (N, D) = len(Z), problem.shape
    dtype = problem.dtype
    packed, w, kept = np.zeros((K, D * (D + 1) // 2)), np.zeros((K, D)), np.empty(K)
    for rows, block, pairs in _pair_blocks(problem):
        z = np.ascontiguousarray(Z[:, rows], dtype)
        blas.add_product(packed, z * z, pairs)
        if problem.center:
            blas.add_product(w, z, block)
    w /= np.sqrt(N)  # w wᵀ = N ȳ ȳᵀ
    # An element takes four times as long as in other kernels: 0.3 ms for 256 candidates and 48 conditions.
    pair_kernels.packed_errors(packed, w, target, losses, kept, size=4 * packed.size)
    if gradients is not None:
        Ew = np.empty((K, D))
        pair_kernels.packed_products(packed, w / np.sqrt(N), Ew, size=2 * packed.size)
        errors, Ew = packed.astype(dtype, copy=False), Ew.astype(dtype, copy=False)
        for rows, block, pairs in _pair_blocks(problem):
            quadratic = blas.product(errors, pairs, tb=True)
            linear = blas.product(Ew, block, tb=True)
            gradients[:, rows] = 2.0 * (Z[:, rows] * quadratic - linear)
    return kept < CANCELLATION


def _pair_blocks(problem: Problem) -> Iterator[tuple[slice, NDArray[Any], NDArray[Any]]]:
    """Yield a slice of rows, X[rows], and its products x_ia x_ib of pairs of conditions a <= b."""
    N, D = problem.shape
    step = max(32, PAIR_BYTES // (4 * D * (D + 1)))
    buffer = np.empty((min(step, N), D * (D + 1) // 2), problem.dtype)
    for rows, block in problem.blocks(step=step):
        pairs = buffer[: len(block)]
        pair_kernels.pair_products(block, pairs, size=pairs.size)
        yield rows, block, pairs
