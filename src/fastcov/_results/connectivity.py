"""Connectivity: a whole connectivity in place of gains, with its certificate, as returned to users."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import textwrap
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._connectivity.channels import ConnectivityOperator, diagonal, expanded
from .._connectivity.freedom import degrees_of_freedom
from .._inputs.container import save
from .._inputs.labels import places_of
from .applied import Applied, apply_connectivity
from .connectivity_modes import Modes, Scaling, modes_of, scaling_of
from .connectivity_text import remarks, rows
from .frames import connectivity_dataset, connectivity_frame
from .html import html_table
from .kept import problem_of
from .matched import Matched

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Connectivity(Matched):
    """A fitted connectivity W with its certificate; prints itself as a short table.

    W (N × N) turns responses X into (I + W)X, where gains would give diag(z)X. It has rank D at most and is
    never formed: W = x̂ Φ x̂ᵀ with x̂ = [X̃, 1/√N], where X̃ is X less its mean over channels, and a small Φ. For
    the free model W = X̃ΩXᵀ with Ω (D × D). For a stack of T targets every array has a leading axis of length
    T, and every number but the ridge is an array (T,); `select` gives the connectivity of one target.

    Attributes
    ----------
    phi : ndarray, shape (D + 1, D + 1), or (D, D) without centring
        Φ. Rows and columns refer to the columns of x̂, in units of X to the power −1 for each of X̃'s.
    loss, loss_at_one : float
        ½‖S − C‖²_F + (λ/2)‖W‖²_F at W, and at W = 0; units of X to the fourth.
    r2 : float
        1 − ‖C − S‖²_F / ‖S‖²_F, with nuisance terms and `pairs` as for `Fit`.
    ridge : float
        λ in units of X to the fourth.
    relative_ridge : float or None
        λ over the largest eigenvalue of GGᵀ for the atoms G of all entries of W, if it was given so. This
        is the largest eigenvalue of E ↦ 2(KEΓ + ΓEK) with K = XᵀX and Γ = XᵀJX: 4γ² for the largest
        eigenvalue γ of Γ where X has no mean over channels.
    residual : float
        Certificate, computed from Φ independently of the solver: the norm of the gradient in W over that at
        W = 0. For "free-linear" it is of the linearised loss, by plugging Ω in, in the eigenvectors of Γ. For
        "symmetric" the gradient is symmetrised; for "psd" it is projected onto the directions in which I + W
        stays positive semi-definite (KKT).
    status : str
        "converged", or if the residual is larger than `tol` or rounding explain: "max-iterations",
        "stagnated" or "inaccurate".
    method : str
        "free", "free-linear", "symmetric" or "psd".
    stats : dict
        How the fit was computed: shape, dtype, seconds, solver ("Newton", "trust region", "closed form"),
        iterations and products; ``several``, where there may be other minima (see docs/free.md), and
        ``outside``, where a W that leaves the span of X would be better; ``r2_at_one``, R² at W = 0;
        ``trace_ratio``; ``target_scale``, ``shared`` and ``trials`` as for `Fit`.
    channels, conditions : tuple or None
        Names of the N channels and D conditions.
    nuisance : dict
        β of "diagonal" and γ of "constant", as for `Fit`.
    """

    _OF_TARGETS = ("phi",)

    phi: Array
    loss: Any
    loss_at_one: Any
    r2: Any
    ridge: float
    relative_ridge: float | None
    residual: Any
    status: str
    method: str
    stats: dict[str, Any]
    channels: tuple[Any, ...] | None
    conditions: tuple[Any, ...] | None
    _covariance: Array
    _target: Array
    _covariance_at_one: Array
    _mean: Array  # √N times the mean over channels (D,); zero without centring
    nuisance: dict[str, Any] = dataclasses.field(default_factory=dict)
    _kept: Any = dataclasses.field(default=None, metadata={"saved": False})

    # --- the connectivity itself

    @property
    def omega(self) -> Array:
        """Ω (D, D) or (T, D, D) of the free W = X̃ΩXᵀ, in units of X to the power −2."""
        D = self._target.shape[-1]
        if self.phi.shape[-1] > D and self.phi[..., D, :].any():
            raise ValueError(
                f"Argument 'method' must be 'free' or 'free-linear' for omega, not {self.method!r}, whose W "
                "is x̂ Φ x̂ᵀ: use phi."
            )
        return self.phi[..., :D, :D].copy()

    @property
    def W(self) -> ConnectivityOperator:
        """W (N, N) as a SciPy LinearOperator with factors ``left`` and ``right``: see `operator`."""
        return self.operator()

    def operator(self, X: ArrayLike | None = None) -> ConnectivityOperator:
        """W (N, N) as a SciPy LinearOperator of rank D at most (D + 1 for "symmetric" and "psd").

        Parameters
        ----------
        X : array_like, shape (N, D), optional
            The fitted responses. A fit keeps X up to 64 MB, and refers to a larger array as long as it is
            elsewhere in memory. One that was loaded needs X, and so does one of X in a file.

        Notes
        -----
        4ND flops for a product with a vector. ``W.left @ W.right.T`` is W.
        """
        return ConnectivityOperator(self._problem(X), self._of_one("operator").phi)

    def diagonal(self, X: ArrayLike | None = None) -> Array:
        """W_ii (N,): what W does to a channel by itself, as a gain would; 2ND² flops. X as for `operator`."""
        return diagonal(self._problem(X), self._of_one("diagonal").phi)

    def rows(self, channels: Any, X: ArrayLike | None = None) -> Array:
        """Rows of W: what all channels contribute to one channel, (N,), or to k channels, (k, N).

        Parameters
        ----------
        channels : name, index, or sequence of these
        X : array_like, shape (N, D), optional
            As for `operator`.
        """
        phi, problem = self._of_one("rows").phi, self._problem(X)
        single = isinstance(channels, str) or np.ndim(channels) == 0
        places = places_of([channels] if single else channels, self.channels, problem.shape[0])
        basis = np.zeros((len(places), problem.shape[1] + problem.center))
        centred = problem.astype(np.float64).take(places).centred()
        basis[:, : problem.shape[1]] = problem.unscaled(centred, x=1)
        if problem.center:
            basis[:, -1] = problem.shape[0] ** -0.5
        found = expanded(problem, np.einsum("kp,pq->kq", basis, phi))
        return found[0] if single else found

    def norm(self) -> Any:
        """‖W‖_F, a number or (T,); O(D³), without X."""
        found = [np.sqrt(self._reduced.squared_norm(phi)) for phi in self._stack()]
        return np.array(found) if self.phi.ndim == 3 else float(found[0])

    def diagonal_share(self, X: ArrayLike | None = None) -> float:
        """Σ_i W_ii² / ‖W‖²_F: the share of W that gains could make. X as for `operator`."""
        square = self._reduced.squared_norm(self._of_one("diagonal_share").phi)
        return float(np.square(self.diagonal(X)).sum()) / square if square > 0 else 0.0

    @property
    def singular_values(self) -> Array:
        """Singular values of W, descending, (p,) or (T, p), p = D or D + 1; all others are zero."""
        found = np.array([
            np.linalg.svd(self._reduced.sandwiched(phi), compute_uv=False) for phi in self._stack()
        ])  # fmt: skip
        return found if self.phi.ndim == 3 else np.asarray(found[0])

    @property
    def degrees_of_freedom(self) -> float:
        """How many numbers of S the ridge lets a free W fit: the trace of S ↦ C of the linearised model.

        It lies between 0 and D(D + 1)/2. Without a mean over channels it is Σ_{i≤j} 4γ_iγ_j/(4γ_iγ_j + λ) for
        the eigenvalues γ of Γ. Nuisance terms and weights of pairs are left out of it.
        """
        return degrees_of_freedom(self._reduced, self.ridge)

    def modes(self, n_modes: int | None = None) -> Modes:
        """Singular vectors of W as patterns over conditions: which input patterns go to which outputs.

        Parameters
        ----------
        n_modes : int, optional
            How many; by default all with a singular value above rounding.
        """
        return modes_of(self._reduced, self._of_one("modes").phi, n_modes, self.conditions)

    def explain(self) -> Scaling:
        """How much of each error W corrects, in the eigenvectors of Γ = XᵀJX.

        Without a mean over channels the linearised fit leaves E_ij = E₀_ij / (1 + 4γ_iγ_j/λ) of the error
        E₀ = S − Γ between modes i and j: modes of large variance are corrected, small ones are not.
        """
        self._of_one("explain")
        return scaling_of(self._reduced, self._covariance, self._target, self.ridge, self.conditions)

    # --- new responses, files, tables

    def apply(
        self, X_new: ArrayLike, S: ArrayLike | None = None, *, responses: ArrayLike | None = None,
        X: ArrayLike | None = None,
    ) -> Applied:  # fmt: skip
        """Apply W to responses of the same channels to other conditions.

        The predicted covariance is C = X_newᵀ(I + W)ᵀJ(I + W)X_new, plus βI + γ11ᵀ if the fit has nuisance
        terms. If a target is given, C is scored as for `Fit.apply`.

        Parameters
        ----------
        X_new, S, responses
            As for `Fit.apply`.
        X : array_like, shape (N, D), optional
            The fitted responses, as for `operator`.

        Returns
        -------
        Applied

        Raises
        ------
        TypeError, ValueError
            As for `Fit.apply`; if X is needed and missing.

        Notes
        -----
        N·D_new·(2D + D_new) flops. X_new is held in memory in float64.
        """
        return apply_connectivity(self, X_new, S, responses, self._problem(X))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a .npz, .h5 or .hdf5 file, which `fastcov.load` reads; as `Fit.save` does."""
        readable = {"method": self.method, "status": self.status, "center": self.stats["center"]}
        readable["ridge"] = self.ridge
        readable["relative_ridge"] = np.nan if self.relative_ridge is None else self.relative_ridge
        save(self, path, readable)

    def to_frame(self, X: ArrayLike | None = None) -> Any:
        """A pandas DataFrame with a row for each channel: its W_ii, and the norms of its row and column of W.

        X as for `operator`. For T targets the index is (target, channel). Raises ImportError without pandas.
        """
        return connectivity_frame(self, self._problem(X))

    def to_xarray(self, X: ArrayLike | None = None) -> Any:
        """An xarray Dataset with all arrays and numbers of the connectivity that do not grow with N².

        It has diagonal, row_norm and column_norm over (channel), as `to_frame`; singular_values over (mode);
        norm; and covariance, target, covariance_at_one, loss, loss_at_one, r2, residual, ridge and
        relative_ridge, and attributes, as `Fit.to_xarray`. X as for `operator`. Raises ImportError without
        xarray.
        """
        return connectivity_dataset(self, self._problem(X))

    def report(
        self, path: str | os.PathLike[str], *, cv: Any = None, title: str | None = None
    ) -> pathlib.Path:
        """Write a report: one HTML page with figures, tables, and the meaning of each number.

        It shows the covariances of X, the target and the fit, the modes of W, what W makes of the modes of
        X's covariance, the channels that W changes most, and the certificate. Channels are left out where
        the responses are not kept: see `operator`. For a stack of targets it has one part for each.

        Parameters
        ----------
        path : path of a .html file
            Written as by `Fit.report`.
        cv : CrossValidation or PermutationTest, optional
            A study of the same responses and method, by default that of ``ridge="cv"``. The page then begins
            with its verdict on held-out conditions.
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
            If no .html file can be written there, or the study is of other data or another method.
        """
        from ..report import write

        return write(self, path, cv=cv, title=title)

    def __repr__(self) -> str:
        lines = ["Connectivity", *(f"  {name:<9}{value}" for name, value in rows(self))]
        for note in remarks(self):
            lines += textwrap.wrap(note, 108, initial_indent="  ", subsequent_indent="  ")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table("Connectivity", rows(self), notes=remarks(self))

    # --- inside

    def _stack(self) -> Array:
        return self.phi.reshape(-1, *self.phi.shape[-2:])

    def _problem(self, X: Any) -> Any:
        return problem_of(self, X, weighed=False)
