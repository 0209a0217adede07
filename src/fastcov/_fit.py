"""fit() and Fit: responses and a target in, gains and their certificate out."""

from __future__ import annotations

import dataclasses
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._jit import blas_for
from ._operators import apply_adjoint, apply_atoms, largest_eigenvalue, squared_norms
from ._problem import Problem
from ._solvers import SOLVERS, Solution
from ._validation import check_choice, check_nonnegative

Array = NDArray[np.float64]

METHODS = ("linear", "diagonal")

# A backward stable solver leaves a residual of a few units of rounding in ‖A‖‖δ‖ + ‖b‖.
BACKWARD_ERROR = 1e-13
# Traces of target and input further apart than this are a matter of units, not of gains.
COMPARABLE = 10.0


class ConvergenceWarning(UserWarning):
    """A solver stopped short of its tolerance; `Fit.status` and `Fit.residual` say how far."""


def fit(
    X: ArrayLike,
    S: ArrayLike,
    *,
    ridge: float | None = None,
    relative_ridge: float | None = None,
    method: str = "linear",
    solver: str = "cholesky",
    center: bool = True,
) -> Fit:
    """Fit one gain a channel so that the covariance of the responses becomes the target.

    The covariance loss L(z) = ½‖Xᵀ diag(z) J diag(z) X − S‖²_F + (λ/2)‖z − 1‖² is linearised at
    gains of one, where it is a ridge problem in δ = z − 1:

    * ``method="linear"``: δ = (GᵀG + λI)⁻¹ Gᵀe₀,
    * ``method="diagonal"``: δ_i = g_iᵀe₀ / (‖g_i‖² + λ), which ignores the correlations among atoms
      and is usually poor.

    G = [vec(x_i x̃_iᵀ + x̃_i x_iᵀ)] and e₀ = vec(S − XᵀJX); G is never formed.

    Parameters
    ----------
    X : array_like, shape (N, D)
        Responses: one row a channel, one column a condition. float32 halves the memory of the
        factorisation; the answer keeps the accuracy of float64.
    S : array_like, shape (D, D) or (T, D, D)
        Target covariance on the scale of X's, a sum over channels: from `target_covariance`, not
        `numpy.cov`. A stack of T targets shares one factorisation.
    ridge : float
        λ ≥ 0, in units of X to the fourth. 0 gives the solution of minimum norm.
    relative_ridge : float
        λ divided by the largest eigenvalue of GᵀG, instead of `ridge`. On real recordings 0.1 is
        cautious; below some 0.03 the linear fit tends to overshoot.
    method : {"linear", "diagonal"}
    solver : {"cholesky"}
        For ``method="linear"``.
    center : bool, default True
        Whether the covariance is that of responses less their mean over channels.

    Returns
    -------
    Fit

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape, S is not symmetric, λ < 0, or
        not exactly one of `ridge` and `relative_ridge` is given.
    MemoryError
        If the factorisation does not fit the memory that is available, before it is begun.

    Warns
    -----
    ConvergenceWarning
        If the residual of the linear system is larger than rounding explains.

    Notes
    -----
    ``linear``: N²D + N³/3 flops and 8N² bytes, and 2N² + 7ND² flops more for each target; without a
    ridge to speak of, some 9N³ flops and 32N² bytes. ``diagonal``: 8ND² flops and no memory to speak
    of. A relative ridge takes some 10 to 20 products with GᵀG, 4ND² flops each.

    The linear fit can be trusted while it lowers the exact loss: compare `Fit.loss` with
    `Fit.loss_at_one`, as the printed table does. At small λ it overshoots, and the exact loss at
    the linear solution can be thousands of times that at gains of one.

    Examples
    --------
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(60, 12, rng=0)
    >>> fit = fc.fit(sim.X, sim.S, relative_ridge=0.1)
    >>> bool(fit.loss < fit.loss_at_one), fit.status
    (True, 'converged')
    """
    started = time.perf_counter()
    check_choice("method", method, METHODS)
    check_choice("solver", solver, tuple(SOLVERS))
    given = Problem.of(X, center=center)
    problem = given.astype(np.float64)  # for all but the factorisation, whatever the dtype of X
    target = problem.target(S)
    N, D = problem.shape

    with blas_for(N * N * (D + N / 3)):
        ridge, scaled_ridge = _ridges(problem, ridge, relative_ridge)
        error = target - problem.covariance()  # e₀
        overlaps = apply_adjoint(problem, error)  # Gᵀe₀
        if method == "linear":
            chosen = SOLVERS[solver]
            solution = chosen.solve(chosen.init(given, scaled_ridge), overlaps)
        else:
            solution = _diagonal(problem, scaled_ridge, overlaps)
        delta = solution.value
        delta[:, problem.sizes == 0] = 0.0  # the gain of a dead channel is exactly 1

        residual, status = _certificate(problem, scaled_ridge, error, overlaps, solution)
        covariance = np.stack([problem.at(1.0 + row).covariance() for row in delta])

    one = slice(None) if np.ndim(S) == 3 else 0
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        left = _squares(covariance - target)
        losses = problem.unscaled(0.5 * left, y=4) + 0.5 * ridge * np.square(delta).sum(axis=1)
        r2 = 1.0 - left / _squares(target)
        r2_at_one = 1.0 - _squares(error) / _squares(target)
        traces = np.trace(target, axis1=1, axis2=2) / np.trace(target - error, axis1=1, axis2=2)
    stats = {
        "shape": (N, D),
        "r2_at_one": r2_at_one[one],
        "trace_ratio": traces[one],
        "dtype": str(given.dtype),
        "center": problem.center,
        "solver": solver if method == "linear" else None,
        **solution.stats,
        "seconds": time.perf_counter() - started,
    }
    delta.flags.writeable = False  # the loss, and all else that a Fit says, is of these gains
    return Fit(
        delta=delta[one],
        loss=losses[one],
        loss_at_one=problem.unscaled(0.5 * _squares(error), y=4)[one],
        r2=r2[one],
        ridge=ridge,
        relative_ridge=relative_ridge,
        residual=residual[one],
        status=status,
        method=method,
        stats=stats,
        _covariance=problem.unscaled(covariance, y=2)[one],
    )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """Fitted gains with their certificate; prints itself as a short table.

    For a stack of T targets every array has a leading axis of length T, and every number but
    the ridge is an array (T,).

    Attributes
    ----------
    delta : ndarray, shape (N,)
        δ = z − 1.
    loss, loss_at_one : float
        Exact loss, ridge term included, at the gains and at gains of one; units of X to the fourth.
    r2 : float
        1 − ‖C(z) − S‖²_F / ‖S‖²_F; NaN or −∞ for a target of zero.
    ridge : float
        λ, in units of X to the fourth.
    relative_ridge : float or None
        λ over the largest eigenvalue of GᵀG, where the fit was asked for it.
    residual : float
        Certificate: ‖Gᵀ(e₀ − Gδ) − λδ‖ / ‖Gᵀe₀‖, computed from X, apart from the solver. The error of
        δ can be larger by the condition of GᵀG + λI.
    status : str
        ``"converged"``; ``"minimum-norm"`` where λ is below 1e-10 of the trace of GᵀG, or too small to
        make GᵀG + λI regular to working precision, with the rank that counts in `stats`;
        ``"approximate"`` for the diagonal fit, whose residual is what it ignores; ``"inaccurate"``
        where the residual is more than rounding explains.
    method : str
    stats : dict
        What the fit took: shape, dtype, solver, rank, seconds; and ``r2_at_one``, R² at gains of one, and
        ``trace_ratio``, the trace of the target over that of X's covariance.
    """

    delta: Array
    loss: Any
    loss_at_one: Any
    r2: Any
    ridge: float
    relative_ridge: float | None
    residual: Any
    status: str
    method: str
    stats: dict[str, Any]
    _covariance: Array

    @property
    def gains(self) -> Array:
        """z = 1 + δ, shape (N,) or (T, N)."""
        return 1.0 + self.delta

    @property
    def overshoots(self) -> Any:
        """Whether the exact loss is above that at gains of one: then a larger ridge is needed."""
        return self.loss > self.loss_at_one

    def covariance(self) -> Array:
        """Covariance C(z) at the gains, shape (D, D) or (T, D, D), in units of X squared."""
        return self._covariance.copy()

    def __repr__(self) -> str:
        N, D = self.stats["shape"]
        share = ""
        if np.all(self.loss_at_one > 0):
            share = f" ({_span(self.loss / self.loss_at_one)} of the loss at gains of one)"
        relative = (
            "" if self.relative_ridge is None else f" ({self.relative_ridge:g} of the largest eigenvalue)"
        )
        rank = f", rank {self.stats['rank']} of {N}" if "rank" in self.stats else ""
        rows = [
            ("method", f"{self.method}: {self.status}{rank}"),
            ("data", f"{N} channels x {D} conditions" + _targets(self.r2)),
            ("ridge", f"{self.ridge:.4g}{relative}"),
            ("loss", _span(self.loss) + share),
            ("R2", f"{_span(self.r2)} ({_span(self.stats['r2_at_one'])} at gains of one)"),
            (
                "gains",
                f"{self.gains.min():.3g} to {self.gains.max():.3g}, median {np.median(self.gains):.3g}",
            ),
            ("residual", _span(self.residual, ".1e")),
        ]
        lines = ["Fit", *(f"  {name:<9}{value}" for name, value in rows)]
        if np.any(self.overshoots):
            lines.append(
                "  The exact loss is above that at gains of one: this fit overshoots. Use a larger ridge"
                + (", or method='linear'." if self.method == "diagonal" else ".")
            )
        ratio = np.ravel(self.stats["trace_ratio"])[0]
        if ratio < 1 / COMPARABLE or ratio > COMPARABLE:
            lines.append(
                f"  The trace of the target is {ratio:.3g} times that of X's covariance. Covariances are\n"
                "  sums over channels here, not means: target_covariance(Y, like=X) brings S to this scale."
            )
        return "\n".join(lines)


def _targets(values: Any) -> str:
    return f", {len(values)} targets" if np.ndim(values) else ""


def _span(values: Any, form: str = ".4g") -> str:
    low, high = np.min(values), np.max(values)
    return f"{low:{form}}" if np.ndim(values) == 0 else f"{low:{form}} to {high:{form}}"


def _squares(matrices: Array) -> Array:
    """‖·‖²_F of each matrix of a stack."""
    return np.square(matrices).sum(axis=(1, 2))


def _ridges(problem: Problem, ridge: float | None, relative: float | None) -> tuple[float, float]:
    """λ in the caller's units and in scaled ones."""
    if (ridge is None) == (relative is None):
        given = "neither" if ridge is None else "both"
        raise ValueError(
            f"Argument 'ridge' or 'relative_ridge' must be given, one of the two, not {given}: "
            "relative_ridge=0.1 is a cautious start."
        )
    if relative is not None:
        scaled = check_nonnegative("relative_ridge", relative) * largest_eigenvalue(problem)
        with np.errstate(over="ignore"):
            ridge = float(problem.unscaled(scaled, y=4))
        if not np.isfinite(ridge):
            raise ValueError(f"Argument 'relative_ridge' must give a finite ridge, not {relative!r}.")
        return ridge, min(scaled, 1e300)
    ridge = check_nonnegative("ridge", ridge)
    with np.errstate(over="ignore", under="ignore"):
        scaled = float(np.ldexp(ridge, 4 * problem.exponent))
    return ridge, min(scaled, 1e300)  # so far above any eigenvalue all gains are one anyway


def _diagonal(problem: Problem, ridge: float, overlaps: Array) -> Solution:
    """δ_i = g_iᵀe₀ / (‖g_i‖² + λ); zero where both are."""
    denominator = squared_norms(problem) + ridge
    with np.errstate(invalid="ignore", divide="ignore"):
        delta = np.where(denominator > 0, overlaps / denominator, 0.0)
    return Solution(delta, "approximate", {})


def _certificate(
    problem: Problem, ridge: float, error: Array, overlaps: Array, solution: Solution
) -> tuple[Array, str]:
    """Relative residual of the linear system for each target, and the status it leaves."""
    left = apply_adjoint(problem, error - apply_atoms(problem, solution.value))
    left -= ridge * solution.value
    size = np.linalg.norm(left, axis=1)
    b = np.linalg.norm(overlaps, axis=1)
    residual = np.divide(size, b, out=np.zeros_like(b), where=b > 0)
    if solution.status == "approximate":
        return residual, solution.status
    if solution.status == "minimum-norm" and ridge > 0:
        warnings.warn(
            "The ridge is too small beside GᵀG to count in double precision: these are the gains of "
            "minimum norm. Use a larger ridge, or ridge=0 if that is meant.",
            ConvergenceWarning,
            stacklevel=3,
        )
    if np.all(residual <= BACKWARD_ERROR):
        return residual, solution.status
    # ‖GᵀG‖ is at most its trace. What a minimum-norm solution leaves out has singular values up to
    # √(N ε) of the largest.
    norm = squared_norms(problem).sum()
    rounding = BACKWARD_ERROR * ((norm + ridge) * np.linalg.norm(solution.value, axis=1) + b)
    if solution.status == "minimum-norm":
        rounding += np.sqrt(len(solution.value[0]) * np.finfo(np.float64).eps * norm * _squares(error))
    if np.all(size <= rounding):
        return residual, solution.status
    warnings.warn(
        f"The linear system is solved to a relative residual of {residual.max():.1e} only, more than "
        "rounding explains: use a larger ridge.",
        ConvergenceWarning,
        stacklevel=3,
    )
    return residual, "inaccurate"
