"""Results as tables: columns of plain arrays, pandas frames, and xarray datasets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._connectivity.channels import diagonal
from .._inputs.labels import Names
from .._inputs.optional import optional
from .score import SCORES, scored

# Results are `Any` here: their classes import this module.
Table = dict[str, NDArray[Any]]


def named(names: Names | None, n: int) -> list[Any]:
    """The names, or numbers from 0 if there are none."""
    return list(range(n)) if names is None else list(names)


def fit_frame(fit: Any) -> Any:
    pandas = optional("pandas", "to_frame()")
    channels = named(fit.channels, fit.delta.shape[-1])
    if fit.delta.ndim == 1:
        index = pandas.Index(channels, name="channel")
    else:
        index = pandas.MultiIndex.from_product([range(len(fit.delta)), channels], names=["target", "channel"])
    columns = {"gain": fit.gains.ravel(), "delta": fit.delta.ravel()}
    if getattr(fit, "groups", None) is not None:  # of gains beside a connectivity there are none
        columns["group"] = np.tile(group_names(fit), fit.delta.size // fit.delta.shape[-1])
    return pandas.DataFrame(columns, index=index)


def group_names(fit: Any) -> NDArray[Any]:
    """The name of the group of each channel (N,)."""
    return np.array(fit.groups, dtype=object)[fit.group_places]


def connectivity_frame(found: Any, problem: Any) -> Any:
    """A row for each channel, or for each target and channel: see `connectivity_columns`."""
    pandas = optional("pandas", "to_frame()")
    columns = connectivity_columns(found, problem)
    channels = named(found.channels, problem.shape[0])
    index = pandas.Index(channels, name="channel")
    if found.phi.ndim == 3:
        index = pandas.MultiIndex.from_product([range(len(found.phi)), channels], names=["target", "channel"])
    return pandas.DataFrame({name: values.ravel() for name, values in columns.items()}, index=index)


def connectivity_table(found: Any, problem: Any) -> Table:
    """A row for each channel: its name, W_ii and norms. Several targets have three columns each."""
    table: Table = {"channel": np.array(named(found.channels, problem.shape[0]), dtype=object)}
    columns = connectivity_columns(found, problem)
    if found.phi.ndim == 2:
        return table | columns
    for t in range(len(found.phi)):
        table |= {f"{name}_{t}": values[t] for name, values in columns.items()}
    return table


def connectivity_columns(found: Any, problem: Any) -> Table:
    """W_ii of each channel, and the norms of its row and column of W, (N,) or (T, N).

    ‖row i‖² = x̂_iᵀ Φ (x̂ᵀx̂) Φᵀ x̂_i, a quadratic form as W_ii is.
    """
    reduced, stack = found._reduced, found._stack()
    columns: dict[str, list[NDArray[Any]]] = {"diagonal": [], "row_norm": [], "column_norm": []}
    for phi in stack:
        inner = reduced.gram(len(phi))
        columns["diagonal"].append(diagonal(problem, phi))
        for name, M in (("row_norm", phi), ("column_norm", phi.T)):
            form = np.linalg.multi_dot([M, inner, M.T])
            columns[name].append(np.sqrt(np.maximum(diagonal(problem, form), 0.0)))
    stacked = found.phi.ndim == 3
    return {name: np.stack(parts) if stacked else parts[0] for name, parts in columns.items()}


def explanation_columns(explanation: Any) -> Table:
    """The columns of an explanation, with an entry for each channel."""
    columns = {
        "delta": explanation.delta,
        "diagonal_delta": explanation.diagonal_delta,
        "overlap": explanation.overlaps,
        "whitened_overlap": explanation.whitened_overlaps,
        "squared_norm": explanation.squared_norms,
    }
    if explanation.complete:
        columns |= {
            name: getattr(explanation, name) for name in ("importance", "importance_silenced", "resolution")
        }
    return columns


def explanation_frame(explanation: Any) -> Any:
    pandas = optional("pandas", "to_frame()")
    columns = explanation_columns(explanation)
    return pandas.DataFrame(columns, index=pandas.Index(list(explanation.channels), name="channel"))


def fit_table(fit: Any) -> Table:
    """A row for each channel: its name, gain and delta. Several targets have a pair of columns each."""
    table: Table = {"channel": np.array(named(fit.channels, fit.delta.shape[-1]), dtype=object)}
    if getattr(fit, "groups", None) is not None:
        table["group"] = group_names(fit)
    if fit.delta.ndim == 1:
        return table | {"gain": fit.gains, "delta": fit.delta}
    for t, (gains, delta) in enumerate(zip(fit.gains, fit.delta, strict=True)):
        table |= {f"gain_{t}": gains, f"delta_{t}": delta}
    return table


def path_table(path: Any) -> Table:
    """A row for each ridge, or for each ridge and target of a stack."""
    losses = path.loss
    T = losses[0].size

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([np.broadcast_to(np.asarray(value), T) for value in path._each(name)])

    table: Table = {"method": column("method"), "ridge": column("ridge")}
    if path.relative_ridges is not None:
        table["relative_ridge"] = column("relative_ridge")
    if losses.ndim > 1:
        table["target"] = np.tile(np.arange(T), len(path))
    return table | {name: column(name) for name in ("loss", "loss_at_one", "r2", "residual", "status")}


def cv_table(cv: Any) -> Table:
    """All scores: a row for each method, fold and ridge, then a row for each baseline and fold."""
    (F, K) = len(cv.folds), len(cv.ridges)
    each, B = F // cv.repeats, len(cv.baselines)
    rows = [np.repeat(np.arange(F), K)] * len(cv.methods) + [np.arange(F)] * B
    folds = np.concatenate(rows)
    moments = [table.moments.sums.swapaxes(0, 1).reshape(F * K, -1) for table in cv.scores.values()]
    sums = np.concatenate([*moments, *(one.sums for one in cv.baselines.values())])
    certificates = {
        name: [getattr(table, name).ravel() for table in cv.scores.values()]
        for name in ("residual", "status")
    }
    none = np.full(F * B, np.nan)
    return {
        "method": np.concatenate(
            [
                np.repeat(np.array(cv.methods, dtype=object), F * K),
                np.repeat(np.array([f"baseline: {name}" for name in cv.baselines], dtype=object), F),
            ]
        ),
        "repeat": folds // each,
        "fold": folds,
        "relative_ridge" if cv.relative else "ridge": np.concatenate(
            [np.tile(cv.ridges, F * len(cv.methods)), none]
        ),
        **{name: scored(name, sums) for name in SCORES},
        "residual": np.concatenate([*certificates["residual"], none]),
        "status": np.concatenate([*certificates["status"], np.full(F * B, "", dtype=object)]),
    }


def frame(table: Table) -> Any:
    return optional("pandas", "to_frame()").DataFrame(table)


def fit_dataset(fit: Any) -> Any:
    return _dataset(fit, {"gains": ("channel", fit.gains), "delta": ("channel", fit.delta.copy())})


def connectivity_dataset(found: Any, problem: Any) -> Any:
    columns = connectivity_columns(found, problem)
    return _dataset(
        found, {
            **{name: ("channel", values) for name, values in columns.items()},
            "singular_values": ("mode", found.singular_values), "norm": (None, np.asarray(found.norm())),
        },
    )  # fmt: skip


def _dataset(fit: Any, own: dict[str, tuple[str | None, NDArray[Any]]]) -> Any:
    """A dataset of a fit, with variables of its `own` over at most one dimension beside the targets."""
    xarray = optional("xarray", "to_xarray()")
    target = ("target",) * np.ndim(fit.r2)
    square = ("condition", "condition_2")
    variables: dict[str, Any] = {
        **{name: (target if dim is None else (*target, dim), values) for name, (dim, values) in own.items()},
        "covariance": ((*target, *square), fit.covariance()),
        "target": ((*target, *square), fit.target()),
        "covariance_at_one": (square, fit.covariance_at_one()),
    }
    for name in ("loss", "loss_at_one", "r2", "residual"):
        variables[name] = (target, np.asarray(getattr(fit, name)))
    for name, value in fit.nuisance.items():
        variables[f"nuisance_{name}"] = (target, np.asarray(value))
    groups = getattr(fit, "groups", None)
    gain = "channel" if groups is None else "group"
    if groups is not None:
        variables["group_gains"] = ((*target, "group"), fit.group_gains)
        variables["group_of_channel"] = ("channel", fit.group_places.copy())
    dims = {0: (), 1: (gain,), 2: ("penalty", gain)}
    for name in ("ridge", "relative_ridge"):
        value = getattr(fit, name)
        if value is not None and not hasattr(value, "nnz"):  # a sparse matrix is left out
            variables[name] = (dims[np.ndim(value)], np.asarray(value))
    coordinates = {"channel": fit.channels, "group": groups, **dict.fromkeys(square, fit.conditions)}
    if target:  # a variable with the name of a dimension would become its coordinate
        variables["target_covariance"] = variables.pop("target")
    attributes = {"method": fit.method, "status": fit.status, "center": int(fit.stats["center"])}
    return xarray.Dataset(
        variables,
        coords={dim: list(names) for dim, names in coordinates.items() if names is not None},
        attrs=attributes,
    )
