"""GainModel: gains as a scikit-learn estimator, for its pipelines, searches and folds.

    model = fastcov.sklearn.GainModel(relative_ridge=0.1, method="exact").fit(X, y)
    model.gains_, model.transform(X), model.score(X_new, y_new)

Rows of X are conditions here and columns channels: the transpose of what `fastcov.fit` takes. Needs
scikit-learn 1.6 or newer: pip install "fastcov-gains[sklearn]".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError('GainModel needs scikit-learn >= 1.6: pip install "fastcov-gains[sklearn]"') from error

from ._fit import fit
from ._inputs.labels import Axis, Labelled, axis_names
from ._inputs.validation import check_choice, check_unmasked
from ._model.metric import OFF_DIAGONAL

# The default ridge, which is cautious on real recordings: see `fastcov.fit`.
RELATIVE_RIDGE = 0.1
FLOATS = [np.float64, np.float32]  # X keeps these dtypes; any other is converted to the first


class GainModel(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fit one gain per channel that turns the covariance of X over conditions into that of y.

    X has shape (n_conditions, n_channels). The gains z are those of `fastcov.fit` for X.T, with the loss

        L(z) = ½‖X diag(z) J diag(z) Xᵀ − S‖²_F + (λ/2)‖z − 1‖²

    where J removes the mean over channels from each condition. S = c · yJyᵀ for responses y of another
    population to the same conditions, with c = tr(XJXᵀ) / tr(yJyᵀ), or S = y if ``target="precomputed"``.

    Parameters
    ----------
    ridge : float, array_like or "cv", optional
        λ ≥ 0 as for `fastcov.fit`, in units of X to the fourth; "cv" chooses the best on held-out conditions
        in each call of `fit`, for responses only.
    relative_ridge : float, optional
        λ over the largest eigenvalue of GᵀG, instead of `ridge`; 0.1 if neither is given.
    method : {"linear", "line-search", "exact", "diagonal"}
    target : {"responses", "precomputed"}
        Whether y are responses or a target covariance. Cross-validation needs responses: it selects rows of
        y, but a covariance must be cut along both axes. If you only have a covariance, see the notes.
    center : bool, default True
        Whether to remove the mean over channels from the responses X and y before taking covariances. A y
        with one output would then be zero: it needs two, or ``center=False``.
    bounds : (lower, upper), optional
    solver : {"auto", "cholesky", "dual", "spectral", "pcg"}
    tol : float, optional
    max_iterations : int, default 1000
        As for `fastcov.fit`.
    random_state : int, RandomState, Generator or None, default 0
        `rng` of `fastcov.fit`, which draws pivots of a preconditioner, random starts, and the folds of
        ``ridge="cv"``.
    n_starts : int, default 1
        As for `fastcov.fit`.
    nuisance : {"diagonal", "constant"} or a sequence of both, optional
        As for `fastcov.fit`: S ≈ C(z) + βI + γ11ᵀ, with β and γ in ``fit_.nuisance``. `score` adds the fitted
        terms to the prediction of the gains.
    pairs : {"off-diagonal"}, optional
        Which pairs of conditions count, in `fit` and in `score`: all, or all except those of a condition with
        itself. A matrix is not accepted, because a search could not cut it to the conditions of its folds.

    Attributes
    ----------
    gains_ : ndarray, shape (n_channels,)
        z.
    delta_ : ndarray, shape (n_channels,)
        z − 1, which has more digits than z if gains are near one.
    fit_ : Fit
        The result of `fastcov.fit`, with loss, R², certificate, covariance, and the names of channels.
    target_scale_ : float
        c, by which the covariance of responses was multiplied; 1 for a precomputed target.
    n_features_in_ : int
        Number of channels.
    feature_names_in_ : ndarray of str, shape (n_channels,)
        Names of the channels, if X is a DataFrame that has them.

    Notes
    -----
    **Rows belong together by their places**, as everywhere in scikit-learn: row d of X and row d of y are
    one condition. An index of whole numbers, as pandas makes by itself, names nothing, and is not looked at.
    If both X and y have names of conditions (words, dates), these must be the same at each place, and are
    otherwise refused: y is never reordered, for that would undo what
    `sklearn.model_selection.permutation_test_score` does. If y is in another order by accident, pass
    ``y.loc[X.index]``; if rows are permuted on purpose, as in that test, pass ``y.to_numpy()``.

    `cross_val_score`, `permutation_test_score` and `learning_curve` take this estimator as any other
    (docs/sklearn.md). Samples are conditions: folds hold out conditions, a permutation gives each condition
    the responses of another in y, and a learning curve has the score against the number of conditions.
    `fastcov.permutation_test` also has p-values of all scores and of single gains, chooses the ridge in
    each shuffle, and compares with baselines.

    Weights of conditions are not supported, nor are sparse arrays: call ``.toarray()`` on them.

    X in Fortran order, such as ``responses.T``, is used without a copy. Any other X is copied to that order
    once, which takes ND numbers: fits of (148, 48) to (50000, 100) then take 0.73 to 0.98 of the time.

    A search over ridges gives the scores of `fastcov.cross_validate` on the same folds, but
    `cross_validate` shares work among ridges, and is faster. With ``n_jobs``, let joblib use processes, as
    it does by default: fits on several Python threads wait for each other.

    To cross-validate a covariance S, turn it into responses by its eigenvectors. Repeat each column with the
    opposite sign, so that their mean is zero: ``w, V = np.linalg.eigh(S)``,
    ``R = V * np.sqrt(w.clip(0))``, ``y = np.hstack([R, -R])``. The covariance of these responses is 2S, which
    c then brings to the scale of that of X.

    Examples
    --------
    >>> import fastcov as fc
    >>> from fastcov.sklearn import GainModel
    >>> from sklearn.model_selection import GridSearchCV
    >>> sim = fc.datasets.simulate(60, 20, rng=0)
    >>> X, y = sim.X.T, sim.Y.T  # rows are conditions
    >>> model = GainModel(method="exact").fit(X, y)
    >>> model.transform(X).shape, model.gains_.shape
    ((20, 60), (60,))
    >>> search = GridSearchCV(model, {"relative_ridge": [1e-2, 1e-1, 1.0]}, cv=4).fit(X, y)
    >>> sorted(search.best_params_)
    ['relative_ridge']
    """

    def __init__(
        self,
        ridge: Any = None,
        *,
        relative_ridge: float | None = None,
        method: str = "linear",
        target: str = "responses",
        center: bool = True,
        bounds: Any = None,
        solver: str = "auto",
        tol: float | None = None,
        max_iterations: int = 1000,
        random_state: Any = 0,
        n_starts: int = 1,
        nuisance: Any = None,
        pairs: str | None = None,
    ) -> None:
        self.ridge = ridge
        self.relative_ridge = relative_ridge
        self.method = method
        self.target = target
        self.center = center
        self.bounds = bounds
        self.solver = solver
        self.tol = tol
        self.max_iterations = max_iterations
        self.random_state = random_state
        self.n_starts = n_starts
        self.nuisance = nuisance
        self.pairs = pairs

    def fit(self, X: ArrayLike, y: ArrayLike) -> GainModel:
        """Fit the gains.

        Parameters
        ----------
        X : array_like, shape (n_conditions, n_channels)
        y : array_like, shape (n_conditions, n_outputs), (n_conditions,) or (n_conditions, n_conditions)
            Responses of another population, or with ``target="precomputed"`` the covariance S, a sum over
            channels on the scale of that of X.

        Returns
        -------
        GainModel
            This estimator.

        Raises
        ------
        TypeError, ValueError
            If X or y is not a real, dense, finite array, if they differ in their conditions or in the names
            of these at any place, if `fastcov.fit` does not accept a parameter, or if the covariance of y is
            zero, or not square and symmetric.

        Warns
        -----
        ConvergenceWarning
            As `fastcov.fit`.
        """
        if self.pairs is not None:
            check_choice("pairs", self.pairs, (OFF_DIAGONAL,))
        x, other = self._checked(X, y, reset=True, order="F")
        precomputed = self.target == "precomputed"
        random = self.random_state
        if isinstance(random, np.random.RandomState):  # older NumPy cannot make a Generator of it
            random = random.randint(np.iinfo(np.int32).max)
        neither = self.ridge is None and self.relative_ridge is None
        self.fit_ = fit(
            Labelled(x.T, channels=getattr(self, "feature_names_in_", None)),
            other if precomputed else None,
            responses=None if precomputed else other.T,
            ridge=self.ridge,
            relative_ridge=RELATIVE_RIDGE if neither else self.relative_ridge,
            method=self.method,
            solver=self.solver,
            center=self.center,
            nuisance=self.nuisance,
            pairs=self.pairs,
            bounds=self.bounds,
            n_starts=self.n_starts,
            tol=self.tol,
            max_iterations=self.max_iterations,
            rng=random,
        )
        self.gains_, self.delta_ = self.fit_.gains, self.fit_.delta
        self.target_scale_ = float(self.fit_.stats.get("target_scale", 1.0))
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Multiply X by the gains, channel by channel.

        Parameters
        ----------
        X : array_like, shape (n_conditions, n_channels)

        Returns
        -------
        ndarray, shape (n_conditions, n_channels)
            A new array; float32 for float32 X, otherwise float64. ND flops.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            Before `fit`; if X is not a real, dense, finite array of the channels that were fitted.
        """
        check_is_fitted(self)
        check_unmasked("X", X)
        x = validate_data(self, X, dtype=FLOATS, reset=False)
        return x * self.gains_.astype(x.dtype)

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return R² of the predicted covariance, 1 − ‖C(z) − S‖²_F / ‖S‖²_F, over the pairs that count.

        C(z) = X diag(z) J diag(z) Xᵀ is the covariance of these conditions. S = c · yJyᵀ, with c from the
        conditions that were fitted, as in `fastcov.cross_validate`, or S = y if ``target="precomputed"``.
        With nuisance terms, C(z) + βI + γ11ᵀ replaces C(z).

        Parameters
        ----------
        X : array_like, shape (n_conditions, n_channels)
            At least two conditions: a covariance of one says nothing about how conditions are arranged.
        y : array_like, shape (n_conditions, n_outputs), (n_conditions,) or (n_conditions, n_conditions)
            As for `fit`.

        Returns
        -------
        float
            R², at most 1; NaN or −∞ for a target of zero.

        Raises
        ------
        NotFittedError, TypeError, ValueError
            Before `fit`; as for `fit`, and if the channels are not those that were fitted.

        Notes
        -----
        (2N + M)D² flops for N channels, M outputs and D conditions.
        """
        check_is_fitted(self)
        x, other = self._checked(X, y, reset=False, ensure_min_samples=2)
        against = {"S": other} if self.target == "precomputed" else {"responses": other.T}
        return float(self.fit_.apply(x.T, **against).r2)

    def _checked(self, X: Any, y: Any, *, reset: bool, **x_checks: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return X and y as finite arrays with two axes and equal numbers of rows."""
        check_choice("target", self.target, ("responses", "precomputed"))
        check_unmasked("X", X)
        check_unmasked("y", y)
        x, other = validate_data(
            self, X, y, reset=reset,
            validate_separately=({"dtype": FLOATS, **x_checks}, {"dtype": np.float64, "ensure_2d": False}),
        )  # fmt: skip
        check_consistent_length(x, other)
        own = axis_names(y, other.ndim)
        if other.ndim == 1:
            other = other[:, np.newaxis]
        D = len(x)
        if self.target == "precomputed" and other.shape != (D, D):
            raise ValueError(
                f"Argument 'y' must be {D} x {D} for target='precomputed', a row and a column for each "
                f"condition, not of shape {other.shape}: pass responses to cross-validate."
            )
        names = axis_names(X, 2)[0]
        for axis in own if self.target == "precomputed" else own[:1]:
            _check_names(axis, names)
        if self.target == "responses" and self.center and other.shape[1] == 1:
            raise ValueError(
                "Argument 'y' must have two outputs or more for center=True, not 1: less its mean over "
                "outputs nothing is left. Pass center=False to GainModel for the covariance with the mean."
            )
        return x, other

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = not self.center
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _check_names(names: Axis | None, others: Axis | None) -> None:
    """Raise a ValueError if conditions of y and of X both have names, and not the same ones in one order."""
    if names is None or others is None or _counts(names) or _counts(others):
        return
    for place, (own, other) in enumerate(zip(map(str, names), map(str, others), strict=True)):
        if own != other:
            raise ValueError(
                f"Argument 'y' must have the conditions of 'X' in the same order, not {own!r} for {other!r} "
                f"in row {place}: pass y.loc[X.index], or y.to_numpy() to take rows by their places, as in a "
                "permutation test."
            )


def _counts(names: Axis) -> bool:
    """Whether an index has whole numbers alone: what pandas makes by itself, or what is left of that."""
    return isinstance(names, range) or all(isinstance(each, int) for each in names)
