"""explain(): why a linear fit has the gains it has."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._compute.jit import blas_for
from .._compute.progress import Progress, watching
from .._fitting.describe import describe
from .._fitting.methods import certified
from .._fitting.settings import Settings
from .._fitting.start import Ridge, Start
from .._inputs.validation import check_whole
from .._model.problem import Problem, n_pairs
from .._model.products import apply_atoms
from .._model.target import Target
from .._results.fit import Fit
from .._results.overshoot import warn_overshoot
from .._solvers import Solution, System
from .atom_range import range_of
from .explanation import Explanation
from .modes import Complete, Parts, Truncated
from .permuted import Permuted, permuted

Array = NDArray[np.float64]

# Up to this order all modes are computed by default: eigenvectors then take some seconds.
ALL_MODES = 2500
# Default number of modes for larger problems.
FIRST_MODES = 50
# A Krylov space with a larger residual than this, relative to the overlaps, triggers a warning.
ENOUGH = 1e-10
# Default number of permuted targets. Their means are accurate to a quarter of their spread, and each target
# takes a hundredth of the time.
SHUFFLES = 19
_STATS = {"solver": "modes", "reason": "they are computed anyway"}
EPSILON = float(np.finfo(np.float64).eps)


def explain(
    X: ArrayLike,
    S: ArrayLike | None = None,
    ridge: float | None = None,
    *,
    responses: ArrayLike | None = None,
    relative_ridge: float | None = None,
    center: bool = True,
    nuisance: str | Sequence[str] | None = None,
    pairs: str | ArrayLike | None = None,
    modes: int | None = None,
    shuffles: int = SHUFFLES,
    rng: Any = 0,
    memory_budget: float | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> Explanation:
    """Explain the linear fit: which errors it corrects, through which modes, and why each gain moves.

    Let x_i be row i of X, and x̃_i row i of JX, where J removes the mean over channels. G has the atoms
    g_i = vec(x_i x̃_iᵀ + x̃_i x_iᵀ) as columns, and the error is e₀ = vec(S − XᵀJX). The linear fit is
    δ = (GᵀG + λI)⁻¹ Gᵀe₀. It is explained in four ways:

    * each gain is the inner product of a filter, row i of (GᵀG + λI)⁻¹, and the overlaps Gᵀe₀; or, split
      evenly, of a whitened filter W e_i and the whitened overlaps W Gᵀe₀, W = (GᵀG + λI)^(−1/2);
    * in the modes G = U Σ Vᵀ, δ = Σ_k v_k σ_k (u_kᵀe₀) / (σ_k² + λ): a covariance mode u_k of the error is
      corrected by the gain mode v_k, shrunk by σ_k² / (σ_k² + λ);
    * no gains can reach, to first order, the part of e₀ outside the range of G;
    * each channel's gain is that of the diagonal fit, plus or minus what channels with similar atoms
      contribute; and its importance is what the loss rises by if the gain is held at one, and all others are
      fitted again.

    Parameters
    ----------
    X, S, responses
        As for `fit`, with one target. X and responses may be dask arrays; arrays with an entry for each
        channel and mode are then brought to this process.
    ridge, relative_ridge : float
        λ, or λ over the largest eigenvalue of GᵀG, as for `fit`. 0 gives the minimum-norm solution, whose
        filters are the rows of the pseudoinverse.
    center : bool, default True
        Whether the mean over channels is removed from responses; otherwise J is the identity.
    nuisance, pairs
        As for `fit`. Errors, atoms and covariance modes then have nuisance terms projected out, and are
        multiplied by √w for weights w of pairs.
    modes : int, optional
        How many modes to compute, the largest first. By default all if min(N, D(D+1)/2) is at most 2500, else
        50. With fewer than all, no N x N matrix is formed. The rest of each vector is then found in a Krylov
        space, and quantities that need all modes are bounds, as said in `Explanation`.
    shuffles : int, default 19
        Number of targets with permuted conditions that are fitted for comparison, from the same
        decomposition; none unless all modes are computed.
    rng : default 0
        Anything that `numpy.random.default_rng` takes. It draws the first Lanczos vector, and permutations.
    memory_budget : float, optional
        Bytes beyond X for the solvers of filters, if not all modes are computed.
    callback : callable, optional
        Called with a `Progress` as the work goes on. An exception that it raises ends the work.

    Returns
    -------
    Explanation

    Raises
    ------
    TypeError, ValueError
        As for `fit`; for several targets, for a ridge that is not one number, or for a ridge too small to
        count beside GᵀG if not all modes are computed.
    MemoryError
        If the modes do not fit the available memory.

    Warns
    -----
    ConvergenceWarning
        If the Krylov space of the overlaps is too small for so small a ridge.
    OvershootWarning
        If the exact loss of the linear fit is above that at gains of one. The explained fit is then no help.

    Notes
    -----
    All modes take N²D + 9n³ flops for n = min(N, P), P = D(D+1)/2 (NP² in place of N²D if P < N), and 24n²
    bytes. The reachable part takes N³/3 more (4NP² + 4P³ if P < N and atoms do not span all), and each
    permuted target 2N (D² + 2n). K modes take about 3 to 5 products with GᵀG (4ND² flops) each, and
    8N(6K + 200) bytes at most.
    With all modes, `unreachable` is right to 1e-8 of ‖e₀‖². The exception is directions in which atoms of
    norm one have a singular value between 1e-11 and 2e-6 of the largest, which may count either way.
    X is not copied. Filters and other later results read it again, so it has to stay as it is.

    Examples
    --------
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(60, 12, rng=0)
    >>> why = fc.explain(sim.X, sim.S, relative_ridge=0.1)
    >>> bool(abs(why.filter(3) @ why.overlaps - why.delta[3]) < 1e-12)
    True
    >>> bool(why.unreachable < 0.1 * why.total)
    True
    """
    started = time.perf_counter()
    given = Problem.of(X, center=center)
    target = Target.of(S, responses, given)
    if np.ndim(target.S) != 2:
        raise ValueError(
            f"Argument 'S' must be one target, not of shape {np.shape(target.S)}: explain them one by one, "
            "or their mean."
        )
    given = given.with_metric(nuisance, pairs, target.labels)
    settings = Settings.of("linear", given, rng=rng, tol=ENOUGH, memory_budget=memory_budget)
    N, D = given.shape
    n, shuffles = min(N, n_pairs(D)), check_whole("shuffles", shuffles, 0)
    wanted = (n if n <= ALL_MODES else FIRST_MODES) if modes is None else check_whole("modes", modes, 1)
    with blas_for(given.X.size * sum(given.shape)), watching(callback) as watch:
        start = Start.of(given, target.S, watch, settings.budget)
        chosen = start.ridge(ridge, relative_ridge)
        if not chosen.penalty.uniform:
            raise ValueError(
                "Argument 'ridge' must be one number for all channels, not one for each or a matrix: modes "
                "are those of the plain norm."
            )
        system = start.system(chosen).astype(np.float64)
        found: Complete | Truncated
        if wanted >= n or not start.norms.any():
            found = Complete.of(system, watch)
        elif system.singular:
            raise ValueError(
                f"Argument 'ridge' must be larger for {wanted} modes of {n}, not {chosen.value:.3g}, which "
                f"is too small beside GᵀG to count: pass modes={n} for all of them."
            )
        else:
            found = Truncated.of(system, wanted, settings.rng, watch)
        # Modes too small to be told from rounding contribute to the part of the overlaps outside known modes.
        parts = found.parts(start.overlaps[0], within=system.singular)
        outcome = certified(start, chosen, settings, _solved(start, chosen, found, parts), _STATS)
        if outcome.status == "max-iterations":
            few = f"The Krylov space of the overlaps leaves a relative residual of {outcome.residual[0]:.1e}"
            outcome = dataclasses.replace(
                outcome,
                warning=f"{few}: use a larger ridge or more modes, or modes={n} for all of them.",
            )
        outcome.warn()
        fit = describe(
            start, chosen, outcome, method="linear", stacked=False, labels=target.labels, extra=target.stats,
            seconds=time.perf_counter() - started,
        )  # fmt: skip
        explanation = _explanation(start, system, settings, found, parts, fit, shuffles)
    warn_overshoot(fit, explained=True)
    return explanation


def _solved(start: Start, ridge: Ridge, modes: Complete | Truncated, parts: Parts) -> Solution:
    """Solve for δ with the modes."""
    if isinstance(modes, Complete):
        return modes.state.solve(start.overlaps)
    delta = parts.function(lambda t: 1.0 / (t + ridge.penalty.largest))
    status = "converged" if parts.left <= ENOUGH else "max-iterations"
    return Solution(delta[np.newaxis], status, {"iterations": modes.applications})


def _explanation(
    start: Start, system: System, settings: Settings, modes: Complete | Truncated, parts: Parts, fit: Fit,
    shuffles: int,
) -> Explanation:  # fmt: skip
    """Build the explanation from the quantities that need the whole error or the whole spectrum."""
    problem, error, values = start.problem, start.error[0], modes.values
    others = Permuted.none()
    if isinstance(modes, Complete):
        span = range_of(start, modes)
        image = error - span.residual(error)
        others = permuted(start, system, modes, span, fit.delta, shuffles, settings.rng)
    else:
        image = _best(start, parts)
    fitted = apply_atoms(problem, fit.delta.copy()[np.newaxis])[0]
    matrices = (error, error - image, image - fitted, error - fitted)
    total, unreachable, left_by_ridge, left = (
        float(problem.unscaled(np.square(M).sum(), y=4)) for M in matrices
    )
    # The unknown modes share the rest of the trace of GᵀG. Sharing it unevenly gives the lower bound of the
    # degrees of freedom; sharing it evenly, the upper.
    n = min(problem.shape[0], n_pairs(problem.shape[1])) - len(values)
    rest = 0.0 if modes.complete else max(0.0, float(start.norms.sum() - values.sum()))

    def frozen(array: Array) -> Array:
        array.flags.writeable = False
        return array

    def read_only(array: Array) -> Array:
        """A copy in the caller's units."""
        return frozen(np.array(problem.unscaled(array, y=4)))

    dof = float((values / (values + system.ridge)).sum())
    return Explanation(
        fit=fit,
        overlaps=read_only(start.overlaps[0]), squared_norms=read_only(start.norms),
        spectrum=read_only(values), complete=modes.complete, total=total,
        reachable=max(0.0, total - unreachable), unreachable=unreachable, left_by_ridge=left_by_ridge,
        linear_loss=0.5 * (left + fit.ridge * float(np.square(fit.delta).sum())),
        dof=dof + (rest / (values[-1] + system.ridge) if rest else 0.0),
        dof_upper=dof + (rest / (rest / n + system.ridge) if rest else 0.0),
        corrected_permuted=frozen(others.corrected), left_by_ridge_permuted=frozen(others.left_by_ridge),
        delta_correlations=frozen(others.correlations),
        _start=start, _system=system, _modes=modes, _parts=parts, _settings=settings,
    )  # fmt: skip


def _best(start: Start, parts: Parts) -> Array:
    """Projection of e₀ on the known modes and Krylov space, as a matrix: a bound of the reachable part."""
    rounding = start.problem.shape[0] * EPSILON * float(parts.values.max(initial=0.0))

    def inverse(t: Any) -> Any:
        return np.divide(1.0, t, out=np.zeros_like(t), where=t > rounding)

    return apply_atoms(start.problem, parts.function(inverse)[np.newaxis])[0]
