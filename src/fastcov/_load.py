"""load(): results from the files that their `save` wrote."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ._inputs.container import FORMAT_VERSION, SUFFIXES, checksum, decoded, entry, read_entries, text
from ._inputs.text_tables import intact
from ._results.channel_table import COLUMNS, ChannelTable
from ._results.comparison import Comparison, ModelScores
from ._results.connectivity import Connectivity
from ._results.cross_validation import CrossValidation, Nested, Scores
from ._results.fit import Fit
from ._results.group_studies import GroupGains, GroupStudies
from ._results.held_out_pairs import HeldOutPairs
from ._results.mixed import Mixed
from ._results.noise_ceiling import NoiseCeiling
from ._results.permutation_test import ChannelTest, PermutationTest
from ._results.reweighting import Reweighting
from ._results.ridge_path import RidgePath
from ._results.score import SCORES, Moments
from ._results.study import Difference, PopulationStudy, Study
from ._results.uncertainty import Uncertainty
from ._version import __version__


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` of a result wrote to a file.

    Parameters
    ----------
    path : path
        A .npz, .h5 or .hdf5 file.

    Returns
    -------
    Fit, Connectivity, RidgePath, CrossValidation, PermutationTest, NoiseCeiling, …
        The object that was saved, equal bit by bit: arrays, names, stats, and the fits and studies in it.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    ImportError
        If the file is HDF5 and h5py is missing.
    ValueError
        If fastcov did not write the file, its format is of a later version, it holds a study of version 1,
        which had other scores, or it is damaged.

    Notes
    -----
    Nothing in the file is executed: numbers are arrays, everything else is JSON. ``numpy.load(path)`` reads
    the file without fastcov. A fit has entries ``"gains"``, ``"delta"``, ``"covariance"``, ``"target"``,
    ``"loss"`` and more; a path ``"ridges"``, ``"loss"`` and ``"fits.0.gains"``; a study ``"ridges"`` and
    ``"scores.exact.r2"``; a test ``"p"`` and ``"null"``.

    Examples
    --------
    >>> import os, tempfile, fastcov as fc
    >>> sim = fc.datasets.simulate(20, 6, rng=0)
    >>> fit = fc.fit(sim.X, sim.S, relative_ridge=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "fit.npz")
    ...     fit.save(path)
    ...     same = fc.load(path)
    >>> bool((same.gains == fit.gains).all())
    True
    """
    file = pathlib.Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"Argument 'path' must end in .npz, .h5 or .hdf5, not be {str(file)!r}: rename it.")
    if file.is_dir():
        raise IsADirectoryError(
            f"Argument 'path' must be a file, and {str(file)!r} is a folder: check the path."
        )
    if not file.exists():
        raise FileNotFoundError(
            f"Argument 'path' must be a file, and {str(file)!r} is missing: check the path."
        )
    entries = read_entries(file)
    form = None if entries is None else text(entries.get("format"))
    if entries is None or form is None or not form.startswith("fastcov."):
        raise ValueError(
            f"Argument 'path' must be a file that save of a result wrote, and {str(file)!r} is none: fit "
            "again and save the fit."
        )
    with intact(file, "path"):
        version = int(entry(entries, "format_version"))
        writer = text(entries.get("version")) or "unknown"
    if form not in _FORMATS:
        raise ValueError(
            f"Argument 'path' must hold a result, and {str(file)!r} is of class "
            f"{form.removeprefix('fastcov.')}, of fastcov {writer}: upgrade fastcov to that."
        )
    if version > FORMAT_VERSION:
        raise ValueError(
            f"Argument 'path' must be of format version {FORMAT_VERSION}, which fastcov {__version__} reads, "
            f"and {str(file)!r} is of version {version}, of fastcov {writer}: upgrade fastcov to that."
        )
    with intact(file, "path"):
        metadata = bytes(entry(entries, "metadata")[()])
    if version == 1 and b'"class": "CrossValidation"' in metadata:
        raise ValueError(
            f"Argument 'path' must hold a study of format version {FORMAT_VERSION}, and {str(file)!r} holds "
            f"one of version 1, of fastcov {writer}, with other scores: cross-validate again."
        )
    with intact(file, "path"):
        record, places = json.loads(metadata), set[str]()
        value = decoded(record, entries, places, _made)
        if version < 1 or text(entry(entries, "checksum")) != checksum(
            metadata, {place: entries[place] for place in places}
        ):
            raise ValueError("its checksum is that of other content")
        if type(value).__name__ != _FORMATS[form]:
            raise ValueError(f"it holds no {_FORMATS[form]}")
    return value


# ---- checks: a ValueError unless all shapes agree


def _agree(wanted: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    """Raise unless each shape is the one that the other arrays imply."""
    for name, (found, shape) in wanted.items():
        if tuple(found) != tuple(shape):
            raise ValueError(f"the shape of {name!r} is {tuple(found)}, and others say {tuple(shape)}")


def _check_fit(fit: Fit) -> None:
    N, D = fit.stats["shape"]
    T = fit.delta.shape[:-1]
    if len(T) > 1:
        raise ValueError(f"the shape of 'gains' is {fit.delta.shape}, and others say {(N,)}")
    if (fit.groups is None) != (fit.group_places is None):
        raise ValueError("it has groups without their channels, or the other way round")
    if fit.groups is not None and fit.group_places is not None:
        A = len(fit.groups)
        _agree({"group_places": (np.shape(fit.group_places), (N,))})
        if not np.array_equal(np.unique(fit.group_places), np.arange(A)):
            raise ValueError(f"'group_places' are of other groups than {A}")
    square = (*T, D, D)
    _agree({
        "delta": (fit.delta.shape, (*T, N)),
        "gains": (fit._gains.shape, (*T, N)),
        "covariance": (fit._covariance.shape, square),
        "target": (fit._target.shape, square),
        "covariance_at_one": (fit._covariance_at_one.shape, (D, D)),
        **{name: (np.shape(getattr(fit, name)), T) for name in ("loss", "loss_at_one", "r2", "residual")},
        **{f"nuisance.{name}": (np.shape(value), T) for name, value in fit.nuisance.items()},
        **{
            name: ((len(names),), (n,))
            for name, names, n in (("channels", fit.channels, N), ("conditions", fit.conditions, D))
            if names is not None
        },
    })  # fmt: skip
    fit.delta.flags.writeable = False


def _check_connectivity(found: Connectivity) -> None:
    _, D = found.stats["shape"]
    p = D + bool(found.stats["center"])
    _check_matched(found, found.phi.shape[:-2], {"phi": (found.phi.shape, (p, p))})


def _check_mixed(found: Mixed) -> None:
    N, D = found.stats["shape"]
    parts = {"delta": (found.delta.shape, (N,)), "omega": (found.omega.shape, (D, D)),
             "covariance_at_gains": (found._covariance_at_gains.shape, (D, D))}  # fmt: skip
    _check_matched(found, found.delta.shape[:-1], parts)


def _check_matched(found: Any, T: tuple[int, ...], parts: dict[str, Any]) -> None:
    """Check what any connectivity of T targets has, and parts, whose shapes are given for each target."""
    N, D = found.stats["shape"]
    _agree({
        **{name: (shape, (*T, *wanted)) for name, (shape, wanted) in parts.items()},
        "mean": (found._mean.shape, (D,)),
        "covariance": (found._covariance.shape, (*T, D, D)),
        "target": (found._target.shape, (*T, D, D)),
        "covariance_at_one": (found._covariance_at_one.shape, (D, D)),
        **{name: (np.shape(getattr(found, name)), T) for name in ("loss", "loss_at_one", "r2", "residual")},
        **{
            name: ((len(names),), (n,))
            for name, names, n in (("channels", found.channels, N), ("conditions", found.conditions, D))
            if names is not None
        },
    })  # fmt: skip


def _check_path(path: RidgePath) -> None:
    kinds: set[Any] = {type(fit) for fit in path.fits}
    if kinds not in ({Fit}, {Connectivity}, {Mixed}):
        raise ValueError("it is not of fits")
    name = "phi" if kinds == {Connectivity} else "delta"
    first = path.fits[0]
    for k, fit in enumerate(path.fits):
        _agree({
            f"fits.{k}": (fit.stats["shape"], first.stats["shape"]),
            f"fits.{k}.{name}": (getattr(fit, name).shape, getattr(first, name).shape),
        })  # fmt: skip


def _check_study(cv: CrossValidation) -> None:
    """Check the fields that are known here; others may have any shape."""
    N, D = cv.stats["shape"]
    F, K = len(cv.folds), len(cv.ridges)
    if not all(np.all((part >= 0) & (part < D)) for fold in cv.folds for part in fold):
        raise ValueError(f"'folds' hold out other conditions than {D}")
    wanted: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "ridges": (np.shape(cv.ridges), (K,)),
        **{f"baselines.{name}": (moments.sums.shape[:-1], (F,)) for name, moments in cv.baselines.items()},
    }
    for method, scores in cv.scores.items():
        wanted[f"scores.{method}.moments"] = scores.moments.sums.shape[:-1], (K, F)
        if scores.shuffled is not None:
            wanted[f"scores.{method}.shuffled"] = scores.shuffled.sums.shape[1:-1], (K, F)
        if scores.nested is not None:
            wanted[f"scores.{method}.nested.places"] = np.shape(scores.nested.places), (F,)
            wanted[f"scores.{method}.nested.moments"] = scores.nested.moments.sums.shape[:-1], (F,)
        for name in ("residual", "status", "errors", "gains"):
            if (values := getattr(scores, name)) is not None:
                wanted[f"scores.{method}.{name}"] = np.shape(values)[:2], (F, K)
    for name, moments in cv.baselines_shuffled.items():
        wanted[f"baselines_shuffled.{name}"] = moments.sums.shape[1:-1], (F,)
    wanted |= {f"fits.{method}": (fit.stats["shape"], (N, D)) for method, fit in cv.fits.items()}
    _agree(wanted)


def _check_test(test: PermutationTest) -> None:
    N, _ = test.cv.stats["shape"]
    K = len(test.null)
    wanted = {f"null_over.{name}": (np.shape(null), (K,)) for name, null in test.null_over.items()}
    for method, scores in test.cv.scores.items():
        found = () if scores.shuffled is None else scores.shuffled.sums.shape[:1]
        wanted[f"cv.scores.{method}.shuffled"] = found, (K,)
    if test.channels is not None:
        for name in ("gains", "mean", "deviation", "p", "q"):
            wanted[f"channels.{name}"] = np.shape(getattr(test.channels, name)), (N,)
        wanted["channels.correlation"] = np.shape(test.channels.correlation), (K,)
        if test.channels.largest is not None:
            wanted["channels.largest"] = np.shape(test.channels.largest), (N,)
    _agree(wanted)


def _check_uncertainty(found: Uncertainty) -> None:
    shape, n = found.gains.shape, len(found.places)
    wanted = {name: (getattr(found, name).shape, shape) for name in ("se", "lower", "upper", "resolution")}
    wanted["gains"] = shape[-1:], (n,)
    wanted["held"] = found.held.shape, shape
    if found.draws is not None:
        wanted["draws"] = found.draws.shape[1:], shape
    if found.channels is not None:
        wanted["channels"] = (len(found.channels),), (n,)
    _agree(wanted)


def _check_table(table: ChannelTable) -> None:
    names = (*COLUMNS, "changed")
    _agree({name: (np.shape(getattr(table, name)), (len(table),)) for name in names})


def _check_ceiling(ceiling: NoiseCeiling) -> None:
    if missing := set(SCORES) - set(ceiling.reliability):
        raise ValueError(f"'reliability' lacks {sorted(missing)}")
    n = np.size(ceiling.reliability[next(iter(SCORES))])
    _agree({f"reliability.{name}": (np.shape(r), (n,)) for name, r in ceiling.reliability.items()})


def _check_reweighting(found: Reweighting) -> None:
    N, D = found.stats["shape"]
    T = found.weights.shape[:-1]
    wanted = {
        "weights": (found.weights.shape, (*T[:1], N)),
        **{name: (getattr(found, name).shape, (*T, D, D)) for name in ("prediction", "target")},
        **{
            name: (np.shape(getattr(found, name)), T)
            for name in ("offset", "loss", "r2", "pearson", "spearman", "residual")
        },
        **{
            name: ((len(names),), (n,))
            for name, names, n in (("channels", found.channels, N), ("conditions", found.conditions, D))
            if names is not None
        },
    }
    if found.scores is not None:
        wanted["scores.predicted"] = found.scores.predicted.shape, (D, D)
    _agree(wanted)


def _check_pairs(found: HeldOutPairs) -> None:
    F, K, D = len(found.folds), len(found.relative_ridges), len(found.predicted)
    if not all(np.all((part >= 0) & (part < D)) for fold in found.folds for part in fold):
        raise ValueError(f"'folds' hold out other conditions than {D}")
    _agree({
        "chosen": (np.shape(found.chosen), (F,)),
        "predicted": (np.shape(found.predicted), (D, D)),
        **{f"nested.{name}": (np.shape(values), (F,)) for name, values in found.nested.items()},
        **{f"equal.{name}": (np.shape(values), (F,)) for name, values in found.equal.items()},
        **{f"by_ridge.{name}": (np.shape(values), (F, K)) for name, values in found.by_ridge.items()},
    })  # fmt: skip


def _check_groups(found: GroupStudies) -> None:
    A, F = len(found.names), len(found.gains.folds)
    wanted = {
        "gains.gains": (np.shape(found.gains.gains), (A,)),
        "gains.folds": (np.shape(found.gains.folds), (F, A)),
        "gains.moments": (found.gains.moments.sums.shape[:-1], (F,)),
        "agreement": (np.shape(found.agreement), (A,)),
    }
    if found.gains.shuffled is not None:
        wanted["gains.shuffled"] = found.gains.shuffled.sums.shape[1:-1], (F,)
    _agree(wanted)
    if {*found.studies, *found.missing} != set(found.names) or set(found.studies) & set(found.missing):
        raise ValueError(f"'studies' are of {sorted(found.studies)}, and groups are {sorted(found.names)}")
    if not np.all((found.places >= 0) & (found.places < A)):
        raise ValueError(f"'places' are of other groups than {A}")


def _check_population(one: PopulationStudy) -> None:
    if not isinstance(one.evidence, (CrossValidation, PermutationTest)):
        raise ValueError("it has no study of held-out conditions")
    N, D = one.cv.stats["shape"]
    wanted: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    if one.predicted is not None:
        wanted["predicted"] = np.shape(one.predicted), (D, D)
    if one.uncertainty is not None:
        wanted["uncertainty.gains"] = np.shape(one.uncertainty.gains), (N,)
    if one.channels is not None:
        wanted["channels"] = (len(one.channels),), (N,)
    if one.groups is not None:
        wanted["groups.places"] = np.shape(one.groups.places), (N,)
    _agree(wanted)


def _check_whole(study: Study) -> None:
    if not study.populations or not all(
        isinstance(one, PopulationStudy) and one.name == name for name, one in study.populations.items()
    ):
        raise ValueError("it is not of populations")
    shape = tuple(study.stats["shape"])
    _agree({name: (one.cv.stats["shape"], shape) for name, one in study.populations.items()})
    if not all({one.first, one.second} <= set(study.populations) for one in study.differences):
        raise ValueError("'differences' are of other populations")


def _check_comparison(found: Comparison) -> None:
    if not found.models or not all(
        isinstance(one, ModelScores) and one.name == name for name, one in found.models.items()
    ):
        raise ValueError("it is not of models")
    if not found.fitted or found.reference not in found.models:
        raise ValueError(f"'reference' is {found.reference!r}, and models are {sorted(found.models)}")
    shape, F = tuple(found.stats["shape"]), found.stats["folds"]
    wanted: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for name, one in found.models.items():
        if one.cv is not None:
            wanted[f"models.{name}.cv"] = one.cv.stats["shape"], shape
            wanted[f"models.{name}.folds"] = (len(one.cv.folds),), (F,)
        elif one.baseline is None:
            raise ValueError(f"the model {name!r} has no scores")
        else:
            wanted[f"models.{name}.baseline"] = one.baseline.sums.shape[:-1], (F,)
        if one.shuffled is not None:
            wanted[f"models.{name}.shuffled"] = one.shuffled.sums.shape[1:-1], (F,)
    _agree(wanted)


def _made(name: str, fields: dict[str, Any]) -> Any:
    """Make an object of a file, and check its shapes."""
    made = _CLASSES[name](**fields)
    if name in _CHECKS:
        _CHECKS[name](made)
    return made


# Classes that a file may hold, alone or inside another: frozen dataclasses. Fields that an older file lacks
# take their defaults.
_CLASSES: dict[str, type[Any]] = {
    "Fit": Fit,
    "Connectivity": Connectivity,
    "Mixed": Mixed,
    "RidgePath": RidgePath,
    "CrossValidation": CrossValidation,
    "Scores": Scores,
    "Moments": Moments,
    "Nested": Nested,
    "PermutationTest": PermutationTest,
    "ChannelTest": ChannelTest,
    "Uncertainty": Uncertainty,
    "ChannelTable": ChannelTable,
    "NoiseCeiling": NoiseCeiling,
    "Comparison": Comparison,
    "ModelScores": ModelScores,
    "Study": Study,
    "PopulationStudy": PopulationStudy,
    "Difference": Difference,
    "GroupStudies": GroupStudies,
    "GroupGains": GroupGains,
    "Reweighting": Reweighting,
    "HeldOutPairs": HeldOutPairs,
}
# Classes that are part of others only; a file may be of any other class, by the name of its format.
_PARTS = {
    "Scores",
    "Moments",
    "Nested",
    "ModelScores",
    "ChannelTest",
    "PopulationStudy",
    "Difference",
    "GroupStudies",
    "GroupGains",
    "HeldOutPairs",
}
_FORMATS = {f"fastcov.{name}": name for name in _CLASSES if name not in _PARTS}
# Checks of each class, wherever it stands.
_CHECKS: dict[str, Callable[[Any], None]] = {
    "Fit": _check_fit,
    "Connectivity": _check_connectivity,
    "Mixed": _check_mixed,
    "RidgePath": _check_path,
    "CrossValidation": _check_study,
    "PermutationTest": _check_test,
    "Uncertainty": _check_uncertainty,
    "ChannelTable": _check_table,
    "NoiseCeiling": _check_ceiling,
    "PopulationStudy": _check_population,
    "GroupStudies": _check_groups,
    "Study": _check_whole,
    "Reweighting": _check_reweighting,
    "HeldOutPairs": _check_pairs,
    "Comparison": _check_comparison,
}
