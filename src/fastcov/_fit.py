"""fit() and Fit: responses and a target in, gains and their certificate out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._certificate import certificate, squares
from ._jit import blas_for
from ._problem import Problem
from ._products import apply_adjoint, largest_eigenvalue, squared_norms
from ._progress import watching
from ._solvers import SOLVERS, Options, Progress, Solution, System, base_bytes, choose, solver_budget
from ._sources import Stored
from ._validation import (
    check_budget,
    check_choice,
    check_generator,
    check_nonnegative,
    check_tolerance,
    check_whole,
)

Array = NDArray[np.float64]

METHODS = ("linear", "diagonal")

# Traces of target and input further apart than this are a matter of units, not of gains.
COMPARABLE = 10.0


def fit(
    X: ArrayLike,
    S: ArrayLike,
    *,
    ridge: float | None = None,
    relative_ridge: float | None = None,
    method: str = "linear",
    solver: str = "auto",
    center: bool = True,
    tol: float = 1e-8,
    max_iterations: int = 1000,
    rank: int | None = None,
    rng: Any = 0,
    memory_budget: float | None = None,
    callback: Callable[[Progress], object] | None = None,
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
        Responses: one row a channel, one column a condition. It may be larger than memory: a
        `numpy.memmap`, an HDF5 or a Zarr array, or anything with ``shape``, ``dtype`` and slices of
        rows is read block by block, ahead of the work. float32 halves the memory and the time of the
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
    solver : {"auto", "cholesky", "dual", "spectral", "pcg"}
        For ``method="linear"``: "cholesky" factors GᵀG (N × N), "dual" GGᵀ (P × P for the
        P = D(D+1)/2 pairs of conditions), "spectral" takes eigenvectors of the smaller of the two, and
        "pcg" iterates without either. "auto" is the fastest that fits the memory, see `plan`; which
        one and why is in `Fit.stats`. Where λ is below 1e-10 of the trace of GᵀG, "spectral" takes the
        place of any: only eigenvectors tell what counts.
    center : bool, default True
        Whether the covariance is that of responses less their mean over channels.
    tol : float, default 1e-8
        "pcg" stops at this relative residual, ‖b − Aδ‖ / ‖b‖ computed anew. The others solve to rounding.
    max_iterations : int, default 1000
        Of "pcg".
    rank : int, optional
        Of the preconditioner of "pcg", from 0 to N; as it pays by default.
    rng : default 0
        What `numpy.random.default_rng` takes: draws the pivots of the preconditioner.
    memory_budget : float, optional
        Bytes that the fit may take beyond X; what is available by default.
    callback : callable, optional
        Called with a `Progress` as the solver goes on. What it raises ends the fit.

    Returns
    -------
    Fit

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real, finite array of the right shape, S is not symmetric, λ < 0, or
        not exactly one of `ridge` and `relative_ridge` is given.
    MemoryError
        If the solver does not fit the memory that is available, before it is begun.
    OSError
        If X is in a file that cannot be read.

    Warns
    -----
    ConvergenceWarning
        If the residual of the linear system is larger than `tol` or rounding explain.

    Notes
    -----
    ``linear``: what the solver takes (see `plan`), and 7ND² flops more for each target. ``diagonal``:
    8ND² flops and no memory to speak of. A relative ridge takes 7 products with GᵀG, 4ND² flops each.

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
    check_choice("solver", solver, ("auto", *SOLVERS))
    options, memory_budget = _options(tol, max_iterations, rank, rng), check_budget(memory_budget)
    if callback is not None and not callable(callback):
        raise TypeError(f"Argument 'callback' must be a function of a Progress, not {callback!r}.")
    given = Problem.of(X, center=center)
    problem = given.astype(np.float64)  # for all but the solver, whatever the dtype of X
    target = problem.target(S)
    N, D = problem.shape
    if options.rank is not None and options.rank > N:
        raise ValueError(f"Argument 'rank' must be at most the {N} channels, not {options.rank}.")

    with blas_for(N * N * (D + N / 3)), watching(callback) as watch:
        if isinstance(given.X, Stored):
            given.X.watch = lambda done: watch(Progress("read", done))
        at_one = problem.covariance()
        error = target - at_one  # e₀
        norms = squared_norms(problem)
        # What rounding leaves of channels that are all alike is no atom.
        alike = norms.sum() <= N * (16.0 * D * np.finfo(np.float64).eps * problem.sizes.max() ** 2) ** 2
        if alike:
            norms[:] = 0.0
        ridge, scaled_ridge = _ridges(problem, norms, at_one, ridge, relative_ridge)
        overlaps = apply_adjoint(problem, error)  # Gᵀe₀
        if alike:
            overlaps[:] = 0.0
        system = System(given, scaled_ridge, norms)
        if method == "linear":
            plan = choose(
                N, D, solver, share=system.share, n_targets=len(target), tol=options.tol,
                itemsize=given.dtype.itemsize, budget=memory_budget, rank=options.rank,
            )  # fmt: skip
            budget = solver_budget(plan.available - base_bytes(N, D, len(target)), memory_budget)
            options = dataclasses.replace(options, budget=budget, watch=watch)
            chosen = SOLVERS[plan.solver]
            if isinstance(given.X, Stored):
                given.X.watch = None  # the solver tells more
            solution = chosen.solve(chosen.init(system, options), overlaps)
            stats = {"solver": plan.solver, "reason": plan.reason, **solution.stats}
        else:
            solution = _diagonal(system, overlaps)
            stats = {"solver": None}
        delta = solution.value
        delta[:, problem.sizes == 0] = 0.0  # the gain of a dead channel is exactly 1

        residual, status = certificate(system, error, overlaps, solution, options.tol)
        covariance = np.stack([problem.at(1.0 + row).covariance() for row in delta])

    one = slice(None) if np.ndim(S) == 3 else 0
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        left = squares(covariance - target)
        losses = problem.unscaled(0.5 * left, y=4) + 0.5 * ridge * np.square(delta).sum(axis=1)
        r2 = 1.0 - left / squares(target)
        r2_at_one = 1.0 - squares(error) / squares(target)
        traces = np.trace(target, axis1=1, axis2=2) / np.trace(target - error, axis1=1, axis2=2)
    stats = {
        "shape": (N, D),
        "r2_at_one": r2_at_one[one],
        "trace_ratio": traces[one],
        "dtype": str(given.dtype),
        "center": problem.center,
        **stats,
        "seconds": time.perf_counter() - started,
    }
    delta.flags.writeable = False  # the loss, and all else that a Fit says, is of these gains
    return Fit(
        delta=delta[one],
        loss=losses[one],
        loss_at_one=problem.unscaled(0.5 * squares(error), y=4)[one],
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
        ``"approximate"`` for the diagonal fit, whose residual is what it ignores. Where the residual is
        more than `tol` or rounding explain: ``"max-iterations"``, ``"stagnated"`` (rounding keeps the
        solver from gaining more digits), ``"breakdown"`` (what should be positive definite is not,
        in the precision there is), or ``"inaccurate"``.
    method : str
    stats : dict
        What the fit took: shape, dtype, seconds, solver and the reason for it, and what the solver says of
        itself, as rank and iterations; and ``r2_at_one``, R² at gains of one, and
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
        rank = f", rank {self.stats['rank']} of {N}" if self.status == "minimum-norm" else ""
        solver = f" ({self.stats['solver']})" if self.stats["solver"] else ""
        iterations = f" after {self.stats['iterations']} iterations" if "iterations" in self.stats else ""
        rows = [
            ("method", f"{self.method}{solver}: {self.status}{rank}"),
            ("data", f"{N} channels x {D} conditions" + _targets(self.r2)),
            ("ridge", f"{self.ridge:.4g}{relative}"),
            ("loss", _span(self.loss) + share),
            ("R2", f"{_span(self.r2)} ({_span(self.stats['r2_at_one'])} at gains of one)"),
            (
                "gains",
                f"{self.gains.min():.3g} to {self.gains.max():.3g}, median {np.median(self.gains):.3g}",
            ),
            ("residual", _span(self.residual, ".1e") + iterations),
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


def _options(tol: float, max_iterations: int, rank: int | None, rng: Any) -> Options:
    return Options(
        tol=check_tolerance(tol),
        max_iterations=check_whole("max_iterations", max_iterations, 1),
        rank=None if rank is None else check_whole("rank", rank, 0),
        rng=check_generator(rng),
    )


def _ridges(
    problem: Problem, norms: Array, covariance: Array, ridge: float | None, relative: float | None
) -> tuple[float, float]:
    """λ in the caller's units and in scaled ones."""
    if (ridge is None) == (relative is None):
        given = "neither" if ridge is None else "both"
        raise ValueError(
            f"Argument 'ridge' or 'relative_ridge' must be given, one of the two, not {given}: "
            "relative_ridge=0.1 is a cautious start."
        )
    if relative is not None:
        share = check_nonnegative("relative_ridge", relative)
        scaled = share * largest_eigenvalue(problem, norms, covariance)
        with np.errstate(over="ignore"):
            ridge = float(problem.unscaled(scaled, y=4))
        if not np.isfinite(ridge):
            raise ValueError(f"Argument 'relative_ridge' must give a finite ridge, not {relative!r}.")
        return ridge, min(scaled, 1e300)
    ridge = check_nonnegative("ridge", ridge)
    with np.errstate(over="ignore", under="ignore"):
        scaled = float(np.ldexp(ridge, 4 * problem.exponent))
    return ridge, min(scaled, 1e300)  # so far above any eigenvalue all gains are one anyway


def _diagonal(system: System, overlaps: Array) -> Solution:
    """δ_i = g_iᵀe₀ / (‖g_i‖² + λ); zero where both are."""
    denominator = system.diagonal + system.ridge
    with np.errstate(invalid="ignore", divide="ignore"):
        delta = np.where(denominator > 0, overlaps / denominator, 0.0)
    return Solution(delta, "approximate", {})
