"""Models of rsatoolbox with one parameter for each channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rsatoolbox.data import Dataset
from rsatoolbox.model import Model
from rsatoolbox.rdm import RDMs
from rsatoolbox.util.inference_util import pool_rdm

from .._compute import blas
from .._fit import fit
from .._inputs.validation import check_array, check_choice
from .._model.channel_atoms import SQUARED_EUCLIDEAN
from .._model.distances import Distances
from .._model.target import covariance
from .._results.fit import Fit
from .._results.reweighting import Reweighting
from .._reweighting.reweight import reweight
from ._convert import descriptor

Array = NDArray[np.float64]

# The default ridge, as in `fastcov.sklearn`.
RELATIVE_RIDGE = 0.1
# The descriptor that rsatoolbox gives to all patterns.
INDEX = "index"


class _ChannelModel(Model):
    """A model with one parameter for each channel, fitted by fastcov in place of a search."""

    def __init__(self, name: str, features: Any, *, pattern_descriptors: Any = None) -> None:
        super().__init__(name)
        self.features, found = _features(features)
        self.n_cond, self.n_param = self.features.shape[::-1][0], self.features.shape[0]
        descriptors = {**found, **(pattern_descriptors or {})}
        self.rdm_obj = RDMs(
            self._distances(np.ones(self.n_param))[np.newaxis],
            dissimilarity_measure="squared euclidean",
            pattern_descriptors=descriptors,
        )
        self.n_rdm = 1
        self.default_fitter = _fitted

    def _distances(self, theta: Array) -> Array:
        raise NotImplementedError

    def _theta(self, features: Array, target: Array) -> Array:
        raise NotImplementedError

    def predict(self, theta: ArrayLike | None = None) -> Array:
        """Predict the dissimilarities of all pairs (D(D−1)/2,) from parameters (N,); by default ones."""
        values = np.ones(self.n_param) if theta is None else np.asarray(theta, np.float64).reshape(-1)
        if len(values) != self.n_param:
            raise ValueError(
                f"Argument 'theta' must have one entry for each of the {self.n_param} channels, not "
                f"{len(values)}."
            )
        return self._distances(values)[np.triu_indices(self.n_cond, 1)]

    def predict_rdm(self, theta: ArrayLike | None = None) -> Any:
        """Predict all dissimilarities as RDMs; see `predict`."""
        return RDMs(
            self.predict(theta)[np.newaxis],
            dissimilarity_measure=self.rdm_obj.dissimilarity_measure,
            pattern_descriptors=dict(self.rdm_obj.pattern_descriptors),
        )

    def places(self, pattern_idx: Any, pattern_descriptor: str | None) -> NDArray[np.intp]:
        """Conditions that have these values of a descriptor, in the order that rsatoolbox gives them."""
        if pattern_idx is None:
            return np.arange(self.n_cond)
        known = np.asarray(
            descriptor("pattern_descriptor", self.rdm_obj.pattern_descriptors, pattern_descriptor or INDEX)
        )
        return np.sort(np.concatenate([np.flatnonzero(known == each) for each in pattern_idx]))


def _fitted(
    model: _ChannelModel, data: Any, method: str = "cosine", pattern_idx: Any = None,
    pattern_descriptor: str | None = None, sigma_k: Any = None,
) -> Array:  # fmt: skip
    """A fitter as rsatoolbox calls it: parameters for the mean of RDMs, pooled as `method` has it."""
    del sigma_k  # of whitened measures; squares of all pairs count alike
    places = model.places(pattern_idx, pattern_descriptor)
    target = np.array(pool_rdm(data, method=method).get_matrices()[0], np.float64)
    if len(target) != len(places):
        raise ValueError(
            f"Argument 'data' must have the {len(places)} conditions of the model that are fitted, not "
            f"{len(target)}: pass the pattern_idx of these RDMs."
        )
    return model._theta(np.ascontiguousarray(model.features[:, places]), target)


class WeightModel(_ChannelModel):
    """One weight a channel: dissimilarities Σ_i w_i (x_ia − x_ib)², fitted by `fastcov.reweight`.

    Parameters
    ----------
    name : str
    features : rsatoolbox.data.Dataset, or array_like of shape (D, N)
        Measurements, one row a condition and one column a channel. A dataset must have one observation of
        each condition; see `responses`.
    relative_ridge : float, default 0.1
        λ over the largest eigenvalue of the Gram matrix of the pairs; or "cv" to choose it on held-out
        conditions in each call of `fit`, among the conditions that are fitted.
    offset : bool, default True
        Whether a common offset of all dissimilarities is fitted beside the weights. It is not part of the
        prediction. Correlations do not depend on it, and it makes up for what RDMs lose when they are pooled
        for a correlation or for ranks.
    center : bool, default False
        Whether the mean over channels is subtracted from each condition.
    shrink_to : float, default 0
    bounds : (lower, upper), default (0, None)
        With negative weights a dissimilarity may be negative; None allows them.
    pattern_descriptors : dict, optional
        Descriptors of conditions, by which rsatoolbox selects; those of the observations of a dataset are
        taken over.
    **options
        Others of `fastcov.reweight`, such as `folds` and `score`.

    Attributes
    ----------
    fit_ : Reweighting
        The last fit, after `fit` has been called.

    Notes
    -----
    The target is the mean of RDMs, pooled as rsatoolbox does for a measure of comparison: scaled for
    ``"cosine"``, standardised for ``"corr"``, ranked for ``"spearman"``. The weights are those of the ridge
    regression on it, not those that are best by the measure itself. Pairs without a dissimilarity, as those
    of a condition with its copy in a bootstrap, do not count.

    A fit takes the flops of `fastcov.reweight`. `rsatoolbox.model.fit_regress` does the same with the
    design matrix of a `ModelWeighted` with an RDM for each channel: PN numbers for P pairs and N channels.

    Examples
    --------
    >>> import numpy as np, rsatoolbox
    >>> from fastcov.rsatoolbox import WeightModel
    >>> random = np.random.default_rng(0)
    >>> features, other = random.standard_normal((12, 30)), random.standard_normal((12, 20))
    >>> rdms = rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(other), method="euclidean")
    >>> model = WeightModel("layer", features)
    >>> theta = model.fit(rdms, method="corr")
    >>> theta.shape, model.predict(theta).shape
    ((30,), (66,))
    """

    def __init__(
        self,
        name: str,
        features: Any,
        *,
        relative_ridge: Any = RELATIVE_RIDGE,
        offset: bool = True,
        center: bool = False,
        shrink_to: float = 0.0,
        bounds: Any = (0.0, None),
        pattern_descriptors: Any = None,
        **options: Any,
    ) -> None:
        chosen = {"ridge": "cv"} if isinstance(relative_ridge, str) else {"relative_ridge": relative_ridge}
        if isinstance(relative_ridge, str):
            check_choice("relative_ridge", relative_ridge, ("cv",))
        self.center = bool(center)
        self.fit_: Reweighting | None = None
        self.options = {
            **options, **chosen, "offset": offset, "center": center, "shrink_to": shrink_to, "bounds": bounds,
        }  # fmt: skip
        super().__init__(name, features, pattern_descriptors=pattern_descriptors)

    def _distances(self, theta: Array) -> Array:
        X = self.features - self.features.mean(axis=0) if self.center else self.features
        X = X - X.mean(axis=1, keepdims=True)
        return _symmetric(Distances.between(blas.product(theta[:, np.newaxis] * X, X, ta=True)))

    def _theta(self, features: Array, target: Array) -> Array:
        known = np.isfinite(target) & ~np.eye(len(target), dtype=bool)
        found = reweight(
            features, np.where(known, target, 0.0), atoms=SQUARED_EUCLIDEAN, pairs=known.astype(np.float64),
            **self.options,
        )  # fmt: skip
        self.fit_ = found
        return found.weights


class GainModel(_ChannelModel):
    """One gain a channel: squared distances of z_i x_i, fitted by `fastcov.fit`.

    The RDM is turned into the covariance that has these squared distances and no mean over conditions,
    −½ J T J, and scaled to the trace of that of X. So the target has to be of squared distances, as those of
    ``"euclidean"``, ``"mahalanobis"`` and ``"crossnobis"`` in rsatoolbox are.

    Parameters
    ----------
    name : str
    features : rsatoolbox.data.Dataset, or array_like of shape (D, N)
        As for `WeightModel`.
    relative_ridge : float, default 0.1
    method : {"exact", "linear", "line-search", "diagonal"}
    center : bool, default True
        Whether the mean over channels is subtracted after weighing, as in `fastcov.fit`.
    pattern_descriptors : dict, optional
        As for `WeightModel`.
    **options
        Others of `fastcov.fit`, such as `bounds`.

    Attributes
    ----------
    fit_ : Fit
        The last fit, after `fit` has been called.

    Raises
    ------
    ValueError
        In `fit`, if a dissimilarity is unknown, as in bootstraps that draw a condition twice: use
        `WeightModel`, or cross-validation without bootstraps.
    """

    def __init__(
        self,
        name: str,
        features: Any,
        *,
        relative_ridge: float = RELATIVE_RIDGE,
        method: str = "exact",
        center: bool = True,
        pattern_descriptors: Any = None,
        **options: Any,
    ) -> None:
        self.center = bool(center)
        self.fit_: Fit | None = None
        self.options = {**options, "relative_ridge": relative_ridge, "method": method, "center": center}
        super().__init__(name, features, pattern_descriptors=pattern_descriptors)

    def _distances(self, theta: Array) -> Array:
        X = self.features - self.features.mean(axis=1, keepdims=True)
        return _symmetric(Distances.between(covariance(X, gains=theta, center=self.center)))

    def _theta(self, features: Array, target: Array) -> Array:
        known = np.isfinite(target) | np.eye(len(target), dtype=bool)
        if not known.all():
            raise ValueError(
                "Argument 'data' must have all dissimilarities, not NaN for some, as in a bootstrap that "
                "draws conditions twice: use WeightModel, or crossval."
            )
        T = np.where(np.eye(len(target), dtype=bool), 0.0, target)
        means = T.mean(axis=0)
        S = -0.5 * (T - means - means[:, np.newaxis] + means.mean())
        X = features - features.mean(axis=1, keepdims=True)
        scale = float(np.trace(covariance(X, center=self.center))) / float(np.trace(S))
        found = fit(X, S * scale, **self.options)
        self.fit_ = found
        return found.gains


def _symmetric(M: Array) -> Array:
    M = 0.5 * (M + M.T)
    np.fill_diagonal(M, 0.0)
    return M


def _features(features: Any) -> tuple[Array, dict[str, Any]]:
    """Responses (N, D), and the descriptors of conditions."""
    found: dict[str, Any] = {}
    if isinstance(features, Dataset):
        found = {name: list(values) for name, values in features.obs_descriptors.items()}
        features = features.measurements
    values = check_array("features", features, ("condition", "channel"))
    return np.ascontiguousarray(values.T, np.float64), found
