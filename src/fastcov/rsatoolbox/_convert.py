"""Datasets and RDMs of rsatoolbox as arrays, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rsatoolbox.data import Dataset, average_dataset_by
from rsatoolbox.rdm import RDMs

from .._inputs.labels import Labelled, Labels
from .._inputs.validation import check_array
from .._model.channel_atoms import SQUARED_EUCLIDEAN
from .._model.distances import Distances
from .._results.reweighting import Reweighting
from .._rows.responses import check_responses
from .._rows.rows import rows_of


def responses(data: Any, by: str | None = None, channel: str | None = None) -> Labelled:
    """Responses X (channels, conditions) of a dataset, as all functions of fastcov take them.

    Parameters
    ----------
    data : rsatoolbox.data.Dataset
        Measurements (observations, channels).
    by : str, optional
        The descriptor of observations that names conditions. Observations of one condition are averaged.
        Without it, each observation is a condition without a name.
    channel : str, optional
        The descriptor of channels that names them.

    Returns
    -------
    Labelled
        An array with names, for X, Y or `like`; ``np.asarray`` gives the numbers.

    Raises
    ------
    TypeError, ValueError
        If it is no dataset, or has no such descriptor.
    """
    if not isinstance(data, Dataset):
        raise TypeError(
            f"Argument 'data' must be a Dataset of rsatoolbox, not a {type(data).__name__}: pass arrays as "
            "they are, channels x conditions."
        )
    names = None
    if channel is not None:
        names = list(descriptor("channel", data.channel_descriptors, channel))
    if by is None:
        return Labelled(np.ascontiguousarray(np.asarray(data.measurements).T), names, None)
    descriptor("by", data.obs_descriptors, by)
    values, conditions, _ = average_dataset_by(data, by)
    return Labelled(np.ascontiguousarray(np.asarray(values).T), names, list(conditions))


def dataset(X: ArrayLike) -> Any:
    """The `rsatoolbox.data.Dataset` of responses X (channels, conditions).

    Names, as of a DataFrame, become the descriptors ``"condition"`` of observations and ``"channel"``.

    Raises TypeError or ValueError if X is not a real array with two axes, or names repeat.
    """
    labels, values = Labels.of("X", X), rows_of(check_responses("X", X))
    N, D = values.shape
    conditions = np.arange(D) if labels.conditions is None else np.array(labels.conditions)
    channels = np.arange(N) if labels.channels is None else np.array(labels.channels)
    return Dataset(
        np.array(values[:], np.float64).T,
        obs_descriptors={"condition": conditions},
        channel_descriptors={"channel": channels},
    )


def matrices(data: Any, by: str | None = None) -> Any:
    """Dissimilarities of RDMs, as `fastcov.reweight` takes them for its targets.

    Parameters
    ----------
    data : rsatoolbox.rdm.RDMs
    by : str, optional
        The descriptor of patterns that names conditions.

    Returns
    -------
    Labelled or ndarray, shape (D, D) or (T, D, D)
        A matrix with names of its conditions for a single RDM, if `by` is given; otherwise an array, a
        stack for more than one RDM. The diagonal is zero.

    Raises
    ------
    TypeError, ValueError
        If it is no RDMs object, or has no such descriptor.
    """
    if not isinstance(data, RDMs):
        raise TypeError(
            f"Argument 'data' must be RDMs of rsatoolbox, not a {type(data).__name__}: pass a matrix itself."
        )
    found = np.array(data.get_matrices(), np.float64)
    places = np.arange(data.n_cond)
    found[:, places, places] = 0.0
    names = None if by is None else list(descriptor("by", data.pattern_descriptors, by))
    if data.n_rdm > 1:
        return found
    return found[0] if names is None else Labelled(found[0], names, names)


def rdms(S: Any, *, measure: str | None = None) -> Any:
    """The `rsatoolbox.rdm.RDMs` of dissimilarities, or of the prediction of a `Reweighting`.

    Names of conditions become the descriptor ``"condition"`` of patterns. A prediction of products has no
    dissimilarities: the distances P_aa + P_bb − 2P_ab are taken.

    Parameters
    ----------
    S : array_like of shape (D, D) or (T, D, D), or Reweighting
    measure : str, optional
        Name of the dissimilarity.
    """
    if isinstance(S, Reweighting):
        names, values = S.conditions, S.prediction
        if S.atoms != SQUARED_EUCLIDEAN:
            values = Distances.between(values)
        measure = measure or "squared euclidean, reweighted"
    else:
        names = Labels.of("S", S).conditions if np.ndim(S) == 2 else None
        values = np.asarray(
            check_array("S", S, ("condition", "condition"), ("target", "condition", "condition")), np.float64
        )
    values = np.array(values, np.float64).reshape(-1, *np.shape(values)[-2:])
    patterns = {} if names is None else {"condition": np.array([str(each) for each in names])}
    return RDMs(values, dissimilarity_measure=measure, pattern_descriptors=patterns)


def descriptor(argument: str, descriptors: Any, name: str) -> Sequence[Any]:
    if name not in descriptors:
        known = ", ".join(map(repr, descriptors)) or "none"
        raise ValueError(f"Argument '{argument}' must be one of the descriptors {known}, not {name!r}.")
    found: Sequence[Any] = descriptors[name]
    return found
