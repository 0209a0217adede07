"""Fit: gains with their certificate, as returned to users."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._compute.progress import Progress
from .._exact_loss.single_gains import SingleGainLosses
from .._inputs.container import save
from .._model.metric import nuisance_matrix
from .applied import Applied, apply
from .fit_text import remarks, rows
from .frames import fit_dataset, fit_frame
from .html import html_table
from .single_gains import losses_of

if TYPE_CHECKING:
    from .uncertainty import Uncertainty

Array = NDArray[np.float64]

# Stats of an outcome that hold one value for each target.
STACKED = ("step", "losses", "gains_of_starts", "at_bounds", "lower_elsewhere")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """Fitted gains with their certificate; prints itself as a short table.

    The symbols are those of `fit`. For a stack of T targets every array has a leading axis of length T, and
    every number but the ridge is an array (T,).

    Attributes
    ----------
    gains : ndarray, shape (N,)
        The gains z.
    delta : ndarray, shape (N,)
        δ = z − 1, with more digits where gains are near one.
    loss, loss_at_one : float
        Exact loss, ridge term included, at the gains and at gains of one; units of X to the fourth.
    r2 : float
        1 − ‖C(z) − S‖²_F / ‖S‖²_F; NaN or −∞ if S is zero. With nuisance terms, C(z) + βI + γ11ᵀ replaces
        C(z). With `pairs`, both norms are weighted by √w entry by entry, over the pairs that count.
    ridge : float, ndarray of shape (N,), or matrix (K, N)
        λ in units of X to the fourth, one λ for each channel, or the Tikhonov matrix Γ. A Γ with at most one
        entry in each row is stored as one λ for each channel.
    relative_ridge : float, ndarray or None
        λ over the largest eigenvalue of GᵀG, for a fit with a relative ridge.
    residual : float
        Certificate, computed from X independently of the solver. Linear fit: ‖Gᵀ(e₀ − Gδ) − λδ‖ / ‖Gᵀe₀‖;
        the error of δ can be larger by the condition number of GᵀG + λI. Exact fit: ‖∇L(z)‖ / ‖∇L(1)‖; at
        very large gains, rounding alone can exceed it. With bounds, for either: the norm of the gradient
        over the channels that no bound holds (KKT), over that at gains of one. Line search: the residual of
        the linear fit that gave the direction.
    status : str
        ``"converged"``; ``"minimum-norm"`` if λ is below 1e-10 of the trace of GᵀG, or too small to make
        GᵀG + λI regular to working precision (`stats` then has the numerical rank); ``"approximate"`` for
        the diagonal fit, whose residual measures the terms it ignores. If the residual is larger than `tol`
        or rounding explains: ``"max-iterations"``, ``"stagnated"`` (rounding keeps the solver from gaining
        more digits), ``"breakdown"`` (a matrix that should be positive definite is not, in working
        precision), or ``"inaccurate"``.
    method : str
    stats : dict
        How the fit was computed: shape, dtype, seconds, solver and the reason for it, and the solver's own
        counts, such as rank, iterations and products with the curvature. Also ``r2_at_one``, R² at gains of
        one; ``trace_ratio``, the trace of the target over that of X's covariance; ``step``, the step length
        of a line search; ``bounds``, and ``at_bounds``, how many gains are at one; ``pairs``, which pairs
        count; ``nuisance_at_one``, β and γ at gains of one; ``cv``, the `CrossValidation` behind
        ``ridge="cv"``; ``target_scale``, the scale c of a target given as responses (see
        `target_covariance`); ``trials``, for X and responses, if they have trials or missing values:
        ``n_trials``, ``n_channels``, ``noise_variance`` (D,), the variance of the mean over trials in its
        mean over channels, ``missing``, the number of missing values, and ``moved``, by which share of its
        norm their covariance was moved to be positive semi-definite; ``shared``, for gains that T targets
        share: ``r2`` and ``r2_at_one`` (T,) of each target, ``targets`` (T, D, D), and ``spread``, which is
        (1/2T) Σ_t ‖S_t − S̄‖² for their mean S̄: `loss` plus it is the mean loss over targets. For
        an exact fit, ``losses`` and ``gains_of_starts``, where each of several starts ended; ``escapes``, how
        often a gain moved to a lower minimum along its own axis; ``lower_elsewhere``, how many gains still
        have such a minimum.
    channels, conditions : tuple or None
        Names of the N channels and D conditions, if X has them. If X has no names of conditions, those of
        the target.
    nuisance : dict
        ``{"diagonal": β, "constant": γ}``, the terms requested in S ≈ C(z) + βI + γ11ᵀ, in units of X
        squared. Each loss and R² is computed at the β and γ that are best for its own gains.
    groups : tuple or None
        Names of the A groups, in the order in which `groups` has them first, if groups of channels share a
        gain. `ridge` and ``stats["bounds"]``, where they are vectors, then have one entry for each group.
    group_places : ndarray, shape (N,), or None
        The place of each channel's group in `groups`.
    """

    delta: Array
    loss: Any
    loss_at_one: Any
    r2: Any
    ridge: Any
    relative_ridge: Any
    residual: Any
    status: str
    method: str
    stats: dict[str, Any]
    channels: tuple[Any, ...] | None
    conditions: tuple[Any, ...] | None
    _gains: Array
    _covariance: Array
    _target: Array
    _covariance_at_one: Array
    nuisance: dict[str, Any] = dataclasses.field(default_factory=dict)
    groups: tuple[Any, ...] | None = None
    group_places: NDArray[np.intp] | None = None
    _single_gains: Array | None = None
    _kept: Any = dataclasses.field(default=None, metadata={"saved": False})

    @property
    def gains(self) -> Array:
        """z = 1 + δ, shape (N,) or (T, N)."""
        return self._gains.copy()

    @property
    def group_gains(self) -> Array | None:
        """The gain of each group, shape (A,) or (T, A); None if each channel has a gain of its own."""
        if self.group_places is None:
            return None
        _, first = np.unique(self.group_places, return_index=True)
        return self._gains[..., first]

    @property
    def overshoots(self) -> Any:
        """Whether the exact loss is above that at gains of one, so that a larger ridge is needed."""
        return self.loss > self.loss_at_one

    def covariance(self) -> Array:
        """Covariance C(z), without nuisance terms, shape (D, D) or (T, D, D), in units of X squared."""
        return self._covariance.copy()

    def prediction(self) -> Array:
        """C(z) + βI + γ11ᵀ, with the nuisance terms of the fit: the fitted S, in units of X squared."""
        if not self.nuisance:
            return self.covariance()
        return self._covariance + nuisance_matrix(self.nuisance, self._covariance.shape[-1])

    def target(self) -> Array:
        """The target S that was fitted, shape (D, D) or (T, D, D), in units of X squared.

        Entries that were NaN, whose pairs do not count, are 0.
        """
        return self._target.copy()

    def covariance_at_one(self) -> Array:
        """Covariance C(1) at gains of one, shape (D, D), in units of X squared."""
        return self._covariance_at_one.copy()

    def apply(
        self, X_new: ArrayLike, S: ArrayLike | None = None, *, responses: ArrayLike | None = None
    ) -> Applied:
        """Apply the gains to responses of the same channels to other conditions.

        The predicted covariance is C = X_newᵀ diag(z) J diag(z) X_new, where J removes the mean over
        channels, plus βI + γ11ᵀ if the fit has nuisance terms. If a target S of these conditions is given, C
        is scored as `cross_validate` scores held-out conditions.

        Parameters
        ----------
        X_new : array_like, shape (N, D_new)
            Responses of the fitted channels. If X_new and the fit both name the channels, their order does
            not matter; if the fit has no names, its channels are numbered from 0.
        S : array_like, shape (D_new, D_new), optional
            Target covariance of the new conditions, on the scale of the fitted S. For a fit of T targets,
            one for all of them, or a stack (T, D_new, D_new).
        responses : array_like, shape (M, D_new), optional
            In place of S, responses Y_new of the other population: S = c · Y_newᵀJY_new, with the scale c
            from the fitted conditions, ``stats["target_scale"]``. Named conditions are aligned.

        Returns
        -------
        Applied

        Raises
        ------
        TypeError, ValueError
            If an argument is not a real, finite array of the right shape, names of channels or conditions
            differ, or `responses` is given although the fit was given S.

        Warns
        -----
        LabelWarning
            If channels or conditions are in a different order. They are then aligned by name.

        Notes
        -----
        (T + 1)ND² flops. Memory for a block of rows and D × D matrices; `Applied.responses` needs more when
        it is read.
        """
        return apply(self, X_new, S, responses)

    def single_gain_losses(self, X: ArrayLike | None = None) -> SingleGainLosses:
        """The exact loss as one gain varies and all others stay fixed: a quartic for each channel.

        The quartic L(z_i + t) = c₀ + c₁t + c₂t² + c₃t³ + c₄t⁴ shows how steeply the loss rises on either side
        of the fitted gain, and where a second minimum is. In an exact fit, no gain has a lower one.

        Parameters
        ----------
        X : array_like, shape (N, D), optional
            The fitted responses. An exact fit stores the coefficients; other fits need X.

        Returns
        -------
        SingleGainLosses
            With ``coefficients`` (N, 5), or (T, N, 5) for T targets, and ``lowest()``.

        Raises
        ------
        TypeError, ValueError
            If X is needed and missing, if X has a different shape or different names, or if pairs have
            individual weights, which a fit does not store.

        Notes
        -----
        About 6ND² flops for each target; none for an exact fit.

        Examples
        --------
        >>> import fastcov as fc
        >>> sim = fc.datasets.simulate(60, 12, rng=0)
        >>> fit = fc.fit(sim.X, sim.S, relative_ridge=0.01, method="exact")
        >>> losses = fit.single_gain_losses()
        >>> gains, lowest = losses.lowest()
        >>> bool(abs(gains - fit.gains).max() < 1e-3), bool((lowest <= fit.loss).all())
        (True, True)
        """
        return losses_of(self, X)

    def uncertainty(
        self,
        Y: Any = None,
        by: str = "cells",
        *,
        X: ArrayLike | None = None,
        cell_groups: Any = None,
        channels: Any = None,
        level: float = 0.95,
        n_boot: int = 0,
        rng: Any = 0,
        nan_policy: str = "raise",
        memory_budget: float | None = None,
        callback: Callable[[Progress], object] | None = None,
    ) -> Uncertainty:
        """Standard errors and intervals of the gains, and how far the data determine each gain.

        The infinitesimal jackknife asks how the gains z would move if each cell of Y, or each condition,
        counted a little more. One factorisation of H, the Hessian of the loss at z, answers for all gains.
        With E = C(z) − S, x̃_i a row of X less the mean over channels, and ỹ_i that of diag(z) X,

            H = 2 (XXᵀ ∘ ỸỸᵀ + XỸᵀ ∘ ỸXᵀ) + 2 (X E Xᵀ) ∘ J + λI                      exact
            H = GᵀG + λI                                                               linear

        Let u_m be the derivative of −∇L with respect to the weight of cell (or condition) m. The influence of
        m on the gains is f_m = H⁻¹ u_m, and SE_i² = M/(M − 1) (Σ_m f_im² − (Σ_m f_im)²/M) for M cells or
        conditions. A condition's weight counts in every pair that has it. The intervals are z ± t SE, with
        the quantile t of Student's distribution with 2v² / (Σ_m (f_im − f̄_i)⁴ − v²/M) degrees of freedom,
        v = Σ_m (f_im − f̄_i)², at most M − 1: few where few cells have most of the influence.

        The resolution of a gain is 1 − λ(H⁻¹)_ii: near 1 the data determine the gain, near 0 the ridge does.
        A ridge shrinks gains towards one, so an interval tells where this *shrunken* gain would be with
        other cells, not where the gain without a ridge is. Read it so, above all where the resolution is low.
        Where groups share gains z = P g, H is PᵀHP for the H of channels, with a ridge for each group, and
        all channels of a group have one error.

        Parameters
        ----------
        Y : array_like, shape (M, D), optional
            Responses of the other population, of which the target of the fit is the covariance. Needed for
            "cells". Conditions with names are aligned. For a fit of T targets, a list of T of them.
        by : {"cells", "conditions", "both", "targets"}
            What might have been otherwise: the cells of Y, the conditions, or both independently; or the
            targets, as those of animals, of a fit with ``shared=True``, which needs no Y. All refer to the
            channels of X that were recorded.
        X : array_like, shape (N, D), optional
            The fitted responses. A fit keeps X up to 64 MB, and refers to a larger array as long as it is
            elsewhere in memory. A fit that was loaded needs X, and so does one of X in a file.
        cell_groups : array_like of shape (M,), optional
            A label for each cell, as its animal. Whole groups might then have been otherwise: the influence
            of a group is the sum of those of its cells, M in the formulas is the number of groups, and
            bootstraps draw groups. Cells of one animal that are alike count as less than so many cells. For
            T targets, a list of T.
        channels : sequence of names or indices, or a mask (N,), optional
            Some channels only. Where N x N matrices do not fit the memory, this is the way: each channel
            then takes a linear system, solved by conjugate gradients.
        level : float, default 0.95
            Coverage of the intervals.
        n_boot : int, default 0
            Draw so many bootstraps in place of the jackknife: cells, conditions or both are drawn with
            replacement, and the gains are fitted again, each from the fitted gains. Errors are then standard
            deviations over the draws, and intervals are percentiles. It works for every method.
        rng : default 0
            What `numpy.random.default_rng` takes; draws the bootstraps.
        nan_policy : {"raise", "omit-trials"}
            What to do with NaN in trials of Y, as for `fit`. After a fit with "pairwise" only covariances are
            known, and not cells: use ``by="conditions"``.
        memory_budget : float, optional
            Bytes that may be taken beyond X; what is available by default.
        callback : callable, optional
            Called with a `Progress`.

        Returns
        -------
        Uncertainty

        Raises
        ------
        TypeError, ValueError
            If Y is missing, has fewer than three cells (two without centring), or does not have the fitted
            target as its covariance; if X is needed, or is not what was fitted; if the fit is not at a
            minimum with a positive definite Hessian; if there is no such channel; for "line-search" and
            "diagonal" without `n_boot`.
        MemoryError
            If an N x N matrix does not fit the memory, and `channels` is not given.

        Warns
        -----
        ConvergenceWarning
            If bootstrapped fits stop short.
        LabelWarning
            If conditions of Y are in another order than those of X. They are aligned by name.

        Notes
        -----
        2N³ + 2N²M + 4N²D flops for M cells (for conditions, M = D) and 8N² bytes, plus 8N times a few hundred
        columns. Bootstraps of cells for a linear fit without bounds are one product of all counts with the
        cells' right-hand sides 2 (XY_cᵀ ∘ X̃Y_cᵀ), Y_c the centred cells, and one with H⁻¹: 2N (M + N + 2D)
        flops each, or those over pairs of conditions where they are fewer. Chosen channels: 4ND² flops for
        each iteration, some 20 to 200. The ridge is held fixed at its value in units of X. The scale of a
        target varies with the cells and conditions where its trace is that of X's covariance. For "both" the
        two variances are added, which holds to first order, and so are those of the cells of T targets that
        share gains. Efron, "Jackknife-after-bootstrap standard errors and influence functions" (1992);
        Jaeckel, "The infinitesimal jackknife" (1972).

        Examples
        --------
        >>> import fastcov as fc
        >>> sim = fc.datasets.simulate(60, 12, rng=0)
        >>> fit = fc.fit(sim.X, responses=sim.Y, relative_ridge=0.1, method="exact")
        >>> found = fit.uncertainty(sim.Y, by="cells")
        >>> found.se.shape, bool((found.lower <= fit.gains).all())
        ((60,), True)
        """
        from .._uncertainty.estimate import estimate

        return estimate(
            self, Y, by, X=X, cell_groups=cell_groups, channels=channels, level=level, n_boot=n_boot,
            rng=rng, nan_policy=nan_policy, memory_budget=memory_budget, callback=callback,
        )  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole fit to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads.

        It is written to a temporary file beside `path` and then renamed, without pickle. Entries have the
        names of the attributes, so that ``numpy.load(path)["gains"]`` works.

        Raises
        ------
        ValueError, OSError
            If such a file cannot be written there.
        TypeError
            If a value added to `stats` consists of anything but numbers, strings, lists and dicts.
        ImportError
            If h5py is needed and missing.
        """
        readable = {"method": self.method, "status": self.status, "center": self.stats["center"]}
        for name in ("ridge", "relative_ridge"):
            readable[name] = np.nan if (value := getattr(self, name)) is None else value
        if self.group_gains is not None:
            readable["group_gains"] = self.group_gains
        for name in ("channels", "conditions", "groups"):
            if (names := getattr(self, name)) is not None:
                readable[name] = np.array([str(each) for each in names])
        save(self, path, readable)

    def to_frame(self) -> Any:
        """A pandas DataFrame with columns gain and delta and one row for each channel.

        The index, ``"channel"``, has the names of the channels, or numbers from 0. For T targets it is
        (target, channel). Raises ImportError without pandas.
        """
        return fit_frame(self)

    def to_xarray(self) -> Any:
        """An xarray Dataset with all arrays and numbers of the fit.

        It has gains and delta over (channel); covariance, target and covariance_at_one over (condition,
        condition_2), with names where known; loss, loss_at_one, r2, residual, ridge and relative_ridge,
        unless a ridge is a sparse matrix. method and status are attributes. For T targets the first axis is
        target, and S is called ``"target_covariance"``. Raises ImportError without xarray.
        """
        return fit_dataset(self)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        cv: Any = None,
        explanation: Any = None,
        channel: Any = None,
        title: str | None = None,
    ) -> pathlib.Path:
        """Write a report: one HTML page with figures, tables, and the meaning of each number.

        The page needs no other file, no network and no scripts. It can be read on a phone, and printed. For
        a stack of targets it has one part for each.

        Parameters
        ----------
        path : path of a .html file
            The page is written to a temporary file and renamed, so that no partial page is left behind.
        cv : CrossValidation or PermutationTest, optional
            A study of the same responses and method, by default that of ``ridge="cv"``. The page then begins
            with its verdict on held-out conditions. Without a study, it says that nothing is known of these.
        explanation : Explanation, optional
            An explanation of the same responses, target and ridge, whose figures and tables are added. If
            the ridge differs by channel or is a matrix, the explanation may have any single ridge.
        channel : name or int, optional
            The channel whose gain the explanation decomposes; by default the one furthest from one.
        title : str, optional
            The default states the numbers of channels and conditions.

        Returns
        -------
        pathlib.Path
            Path of the page.

        Raises
        ------
        ImportError
            Without jinja2 or matplotlib: pip install "fastcov-gains[report]".
        TypeError, ValueError, OSError
            If no .html file can be written there, if the study or the explanation is of other data, or if
            there is no such channel.

        Notes
        -----
        About 0.4 MB and a second or two; 2 MB for hundreds of conditions. Each further target of a stack
        adds as much again.
        """
        from ..report import write

        return write(self, path, cv=cv, explanation=explanation, channel=channel, title=title)

    def __repr__(self) -> str:
        lines = ["Fit", *(f"  {name:<9}{value}" for name, value in rows(self))]
        for note in remarks(self):
            lines += textwrap.wrap(note, 108, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table("Fit", rows(self), notes=remarks(self))


def target_of_stack(fit: Fit, k: int) -> Fit:
    """The fit of the k-th target of a stack."""
    numbers = ("r2_at_one", "trace_ratio", *STACKED)
    stats = {name: value[k] if name in numbers else value for name, value in fit.stats.items()}
    if "nuisance_at_one" in stats:
        stats["nuisance_at_one"] = {name: value[k] for name, value in stats["nuisance_at_one"].items()}
    nuisance = {name: value[k] for name, value in fit.nuisance.items()}
    arrays = ("delta", "loss", "loss_at_one", "r2", "residual", "_gains", "_covariance", "_target")
    parts = {name: getattr(fit, name)[k] for name in arrays}
    if fit._single_gains is not None:
        parts["_single_gains"] = fit._single_gains[k]
    return dataclasses.replace(fit, stats=stats, nuisance=nuisance, **parts)
