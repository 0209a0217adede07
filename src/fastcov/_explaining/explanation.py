"""Explanation: the decomposition of a linear fit, as returned to users."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._fitting.certificate import ConvergenceWarning
from .._fitting.settings import Settings
from .._fitting.start import Start
from .._inputs.labels import outside
from .._inputs.validation import check_whole, require_memory
from .._model.products import gram_columns, gram_triangle
from .._results.fit import Fit
from .._solvers import SOLVERS, System
from .channel_importance import Importances
from .contributions import Contributions
from .modes import Complete, Parts, Truncated
from .tables import remark, table

Array = NDArray[np.float64]

# Number of rows of the inverse that are solved for together, and of modes that are computed together.
TOGETHER = 256
# Filters are solved for to this relative residual.
FILTER_TOL = 1e-12
# A filter with a larger residual than this triggers a warning.
LOOSE = 1e-9


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Explanation(Importances):
    """Why a linear fit δ = (GᵀG + λI)⁻¹ Gᵀe₀ has the gains it has; prints itself as a table.

    G has the atoms g_i as columns, and e₀ is the error at gains of one; see `explain`. K of the modes
    G = U Σ Vᵀ, with singular values σ_k, are known: all above rounding if `complete`, else the largest.
    Channels are given by name or, unless names are numbers, by number from 0. Overlaps, σ² and squared norms
    of errors are in units of X to the fourth. Some methods read X again, so X has to stay as it is.

    Attributes
    ----------
    fit : Fit
        The linear fit, with its certificate.
    overlaps : ndarray, shape (N,)
        Gᵀe₀, the negative gradient of the loss at gains of one.
    squared_norms : ndarray, shape (N,)
        ‖g_i‖², the diagonal of GᵀG.
    spectrum : ndarray, shape (K,)
        σ_k², the eigenvalues of GᵀG, from the largest to the smallest.
    complete : bool
        Whether `spectrum` has every σ_k² that can be told from rounding, above N ε of the largest (ε: machine
        epsilon). In double precision these are singular values down to about 1e-7 of the largest.
    total : float
        ‖e₀‖² = ‖S − XᵀJX‖²_F, the sum of `reachable` and `unreachable`.
    reachable, unreachable : float
        Squared norms of e₀ projected on the range of G, and on its left null space. The linear loss cannot
        fall below half of the second. If complete, they are right to 1e-8 of their sum, because they resolve
        more modes than `spectrum`. One exception: directions in which atoms of norm one have a singular value
        between 1e-11 and 2e-6 of the largest may count as either. The part of an atom outside the span of the
        others is rounding if it is below √(N ε) of its norm (4e-7 where N is 871), and counts as unreachable.
        If N > P = D(D+1)/2 and the atoms do not span all, so do directions below 1e-9. If not complete, both
        are bounds from a Krylov space: more may be reachable.
    left_by_ridge : float
        Squared norm of the reachable part of e₀ that the fit leaves uncorrected because of λ. The fit leaves
        ‖e₀ − Gδ‖² = unreachable + left_by_ridge.
    linear_loss : float
        ½‖e₀ − Gδ‖² + (λ/2)‖δ‖².
    dof : float
        Effective degrees of freedom, Σ σ² / (σ² + λ) over all modes; a lower bound if not complete.
    dof_upper : float
        An upper bound of these, from the trace of GᵀG; equal to `dof` if complete.
    corrected_permuted, left_by_ridge_permuted : ndarray, shape (shuffles,)
        Shares of ‖e₀‖² that the same fit corrects, and that the ridge holds back, for each of `shuffles`
        targets made from S by permuting its conditions. They show how much gains correct where there is
        nothing to find. Empty if not complete.
    delta_correlations : ndarray, shape (shuffles,)
        Correlation of δ with the δ of each of these targets, over channels with an atom that is not zero.
    """

    fit: Fit
    overlaps: Array
    squared_norms: Array
    spectrum: Array
    complete: bool
    total: float
    reachable: float
    unreachable: float
    left_by_ridge: float
    linear_loss: float
    dof: float
    dof_upper: float
    corrected_permuted: Array
    left_by_ridge_permuted: Array
    delta_correlations: Array
    _start: Start
    _system: System
    _modes: Complete | Truncated
    _parts: Parts
    _settings: Settings

    @property
    def ridge(self) -> float:
        """λ, in units of X to the fourth."""
        return self.fit.ridge

    @property
    def delta(self) -> Array:
        """δ = z − 1, shape (N,)."""
        return self.fit.delta.copy()

    @property
    def stats(self) -> dict[str, Any]:
        """The stats of the fit, and the number of products with GᵀG so far, ``applications``."""
        return {"applications": self._modes.applications, **self.fit.stats}

    # --- channel by channel

    @property
    def diagonal_delta(self) -> Array:
        """δ of the diagonal fit, g_iᵀe₀ / (‖g_i‖² + λ), shape (N,)."""
        below = self.squared_norms + self.ridge
        return np.divide(self.overlaps, below, out=np.zeros_like(below), where=below > 0)

    def filter(self, channel: Any) -> Array:
        """Row i of (GᵀG + λI)⁻¹, shape (N,): ``filter(channel) @ overlaps`` is the channel's δ. One solve.

        It weights the overlaps of all channels, so that no error is corrected twice by different channels.
        Units: X to the power of −4.
        """
        return self._unscaled(self._solve(self._unit(self._index(channel))), -4)[0]

    def filters(self) -> Array:
        """(GᵀG + λI)⁻¹, shape (N, N): all filters, one in each row. MemoryError if it does not fit."""
        N = len(self.overlaps)
        require_memory(8 * N * (N + 6 * TOGETHER), f"Filters of {N} channels", "ask for filter(i) one by one")
        out = np.empty((N, N))
        for first in range(0, N, TOGETHER):
            rows = np.arange(first, min(first + TOGETHER, N))
            out[rows] = self._solve(self._unit(rows))
        return self._unscaled(out, -4)

    @functools.cached_property
    def whitened_overlaps(self) -> Array:
        """W Gᵀe₀ with W = (GᵀG + λI)^(−1/2), shape (N,), in units of X squared."""
        values = self._unscaled(self._parts.function(self._whiten), 2)
        values.flags.writeable = False
        return values

    def whitened_filter(self, channel: Any) -> Array:
        """Column i of W = (GᵀG + λI)^(−1/2), shape (N,), in units of X^−2.

        Its inner product with `whitened_overlaps` is the channel's δ. This splits a filter evenly in two:
        after multiplication by W, atoms are no longer correlated, so that a gain measures what its own filter
        and the error share.
        """
        parts = self._modes.parts(self._unit(self._index(channel))[0])
        _warn_beyond(parts.left)
        return self._unscaled(parts.function(self._whiten), -2)

    def whitened_filters(self) -> Array:
        """W = (GᵀG + λI)^(−1/2), shape (N, N). MemoryError if it does not fit.

        2N³ flops with all modes. With only some modes, each channel needs a Krylov space, which takes far
        longer.
        """
        N, K = len(self.overlaps), len(self.spectrum)
        require_memory(
            8 * N * (N + 2 * K), f"Filters of {N} channels", "ask for whitened_filter(i) one by one"
        )
        if not self.complete:
            return np.stack([self.whitened_filter(name) for name in self.channels])
        V, outside = self._modes.gain_modes(K), self._whiten(0.0)
        W = blas.product(V * (self._whiten(self._modes.values) - outside)[:, np.newaxis], V, ta=True)
        W.flat[:: N + 1] += outside
        return self._unscaled(W, -2)

    def coherence(self, channel: Any) -> Array:
        """Cosines g_i·g_j / ‖g_i‖‖g_j‖ of the channel's atom with all atoms, shape (N,); 0 for zero atoms.

        The diagonal fit is accurate if all cosines but the channel's own are near zero. 2ND flops.
        """
        index = self._index(channel)
        return self._cosines(index, self._column(index))

    def coherences(self) -> Array:
        """The cosines of all pairs of atoms, shape (N, N). N²D flops; MemoryError if they do not fit."""
        N, D = self.fit.stats["shape"]
        require_memory(8 * N * (N + D), f"Coherences of {N} channels", "ask for coherence(i) one by one")
        A = gram_triangle(self._start.problem, mirror=True)
        sizes = np.sqrt(self._start.norms)
        inverse = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        A *= inverse
        A *= inverse[:, np.newaxis]
        return A

    def overlap_pairs(self, channel: Any) -> Array:
        """The channel's overlap by pairs of conditions, shape (D, D): its atom times the error, by entry.

        This is (x_i x̃_iᵀ + x̃_i x_iᵀ) ∘ (S − XᵀJX), a symmetric matrix, with x_i and x̃_i as in `explain`. Its
        entries add up to the channel's overlap; each pair of two conditions occurs twice. An entry is
        positive if a larger gain brings the pair closer to the target. 4D² flops.
        """
        index = self._index(channel)
        if self.squared_norms[index] == 0:  # exactly zero, not up to rounding
            return np.zeros_like(self._start.error[0])
        row = self._start.problem.take(np.array([index]))
        atom = np.outer(row.responses()[0], row.centred()[0])
        error, metric = self._start.error[0], self._start.problem.metric
        return self._unscaled((atom + atom.T) * (error if metric is None else metric.weighed(error)), 4)

    def contributions(self, channel: Any) -> Contributions:
        """δ of the channel alone, and what each other channel adds to it, −(GᵀG)_ij δ_j / (‖g_i‖² + λ).

        2ND flops.
        """
        i = self._index(channel)
        column = self._column(i)
        below = float(self._start.norms[i]) + self._system.ridge
        others = np.zeros_like(column) if below == 0 else -column * self.fit.delta / below
        others[i] = 0.0
        names = self.channels
        return Contributions(
            names[i], i, float(self.fit.delta[i]), float(self.diagonal_delta[i]), others,
            self._cosines(i, column), names,
        )  # fmt: skip

    # --- mode by mode

    @property
    def shrinkage(self) -> Array:
        """σ_k² / (σ_k² + λ), shape (K,): the fraction of each mode of the error that is corrected."""
        return self._modes.values / (self._modes.values + self._system.ridge)

    @property
    def coefficients(self) -> Array:
        """σ_k u_kᵀe₀ / (σ_k² + λ) ≥ 0, shape (K,): δ is ``coefficients @ gain_modes() + remainder``."""
        return np.abs(self._parts.weights[: len(self.spectrum)]) / (self._modes.values + self._system.ridge)

    @property
    def remainder(self) -> Array:
        """The part of δ outside the K modes, shape (N,): almost zero if they are complete."""
        weights = self._parts.weights / (self._parts.values + self._system.ridge)
        weights[: len(self.spectrum)] = 0.0
        rest = self._parts.expand(weights)
        if self._parts.outside is not None:
            rest += self._parts.outside / self._system.ridge
        return rest

    @property
    def delta_shares(self) -> Array:
        """Share of ‖δ‖² in each mode, shape (K,). The shares of all modes add up to 1."""
        size = float(np.square(self.fit.delta).sum())
        return np.square(self.coefficients) / (size or 1.0)

    @property
    def loss_shares(self) -> Array:
        """Share of each mode in the reduction of the linear loss, shape (K,). All shares add up to 1.

        Mode k reduces the loss by ½ (u_kᵀe₀)² σ_k² / (σ_k² + λ), and all modes by ½ δᵀGᵀe₀.
        """
        removed = self._parts.weights**2 / (self._parts.values + self._system.ridge)
        return removed[: len(self.spectrum)] / (float(removed.sum()) or 1.0)

    @property
    def order(self) -> NDArray[np.intp]:
        """Indices of the modes, from 0, by falling share of ‖δ‖²: the modes that make the gains come first.

        The printed table shows the first of them; it counts modes from 1.
        """
        return np.argsort(-self.delta_shares, kind="stable")

    @property
    def remark(self) -> str:
        """Why single gains should not be interpreted at this ridge, in words; empty if they may be.

        They should not if the effective degrees of freedom are below half the number of channels whose atom
        is not zero. The part of a gain that is its own is 1 − λ (GᵀG + λI)⁻¹_ii; its mean over channels is
        `dof` over their number. Nor should they if the mean of `delta_correlations` is above 0.3.
        """
        return remark(self)

    def gain_modes(self, n: int | None = None) -> Array:
        """The first n columns of V as rows (n, N), of norm one, with the sign in which they occur in δ."""
        n = self._count(n)
        return self._modes.gain_modes(n) * self._signs(n)[:, np.newaxis]

    def covariance_modes(self, n: int | None = None) -> Array:
        """The first n columns of U as symmetric matrices (n, D, D), of norm one, with u_kᵀe₀ ≥ 0.

        A step of the gains along gain mode k moves the covariance along covariance mode k, σ_k times as far.
        2ND² flops each.
        """
        n = self._count(n)
        return self._modes.covariance_modes(n) * self._signs(n)[:, np.newaxis, np.newaxis]

    # --- the loss

    @property
    def linearisation_error(self) -> float:
        """The exact loss at the linear solution less its linear loss: the effect of second-order terms."""
        return float(self.fit.loss - self.linear_loss)

    # --- inside

    def _unscaled(self, values: Any, power: int) -> Any:
        return self._start.problem.unscaled(values, y=power)

    def _whiten(self, t: Any) -> Any:
        """1/√(σ² + λ); 0 where both σ² and λ are 0, for the minimum-norm solution."""
        with np.errstate(divide="ignore"):
            inverse = 1.0 / np.sqrt(t + self._system.ridge)
        return np.where((t == 0.0) & self._system.singular, 0.0, inverse)

    @functools.cached_property
    def _solver(self) -> tuple[Any, Any]:
        """Module and state of the solver for filters; if modes are not complete, it forms no matrix."""
        if isinstance(self._modes, Complete):
            return SOLVERS["spectral"], self._modes.state
        budget = self._settings.budget
        options = self._settings.options(math.inf if budget is None else budget)
        options = dataclasses.replace(options, tol=FILTER_TOL)
        return SOLVERS["pcg"], SOLVERS["pcg"].init(self._system, options)

    def _solve(self, rhs: Array) -> Array:
        module, state = self._solver
        value = module.solve(state, rhs).value
        if not isinstance(self._modes, Complete):
            left = blas.norms(rhs - self._system.product(value)) / blas.norms(rhs)
            _warn_beyond(float(left.max()))
        return value

    def _column(self, index: int) -> Array:
        return gram_columns(self._start.problem, np.array([index]))[:, 0]

    def _cosines(self, index: int, column: Array) -> Array:
        sizes = np.sqrt(self._start.norms * self._start.norms[index])
        return np.divide(column, sizes, out=np.zeros_like(column), where=sizes > 0)

    def _unit(self, index: Any) -> Array:
        """Rows of the identity matrix at `index`."""
        rows = np.atleast_1d(index)
        out = np.zeros((len(rows), len(self.overlaps)))
        out[np.arange(len(rows)), rows] = 1.0
        return out

    def _index(self, channel: Any) -> int:
        names, N = self.fit.channels or (), len(self.overlaps)
        plain = isinstance(channel, (str, numbers.Integral)) and not isinstance(channel, bool)
        if plain and channel in names:
            return names.index(channel)
        numbered = not any(isinstance(name, numbers.Integral) for name in names)  # no name is a number
        if plain and numbered and not isinstance(channel, str) and 0 <= int(channel) < N:
            return int(channel)
        known = [f"a number from 0 to {N - 1}"] * numbered
        known += ["a name, as " + ", ".join(map(repr, names[:3]))] * bool(names)
        raise ValueError(f"Argument 'channel' must be {' or '.join(known)}, not {channel!r}.")

    def _signs(self, n: int) -> Array:
        """1 or −1 for each mode, so that its coefficient in δ is positive."""
        return np.where(self._parts.weights[:n] < 0, -1.0, 1.0)

    def _count(self, n: int | None) -> int:
        K = len(self.spectrum)
        if n is None:
            return K
        if check_whole("n", n, 1) > K:
            raise ValueError(f"Argument 'n' must be at most the {K} modes there are, not {n}.")
        return n

    def __repr__(self) -> str:
        return table(self)


def _warn_beyond(left: float) -> None:
    """Warn if a filter is less accurate than promised."""
    if left > LOOSE:
        warnings.warn(
            f"A filter is solved to a relative residual of {left:.1e} only: use a larger ridge, more modes, "
            "or all of them.",
            ConvergenceWarning,
            stacklevel=outside(),
        )
