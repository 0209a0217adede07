"""Convert studies of held-out conditions to JSON, and to arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._version import __version__
from ._files import fit_record, names_of
from ._options import CONNECTED
from ._study_options import SCORES

if TYPE_CHECKING:
    from .._results.cross_validation import CrossValidation
    from .._results.permutation_test import PermutationTest
    from .._results.score import Moments


def _shared(cv: CrossValidation) -> dict[str, Any]:
    N, D = cv.stats["shape"]
    return {
        "version": __version__,
        "channels": N,
        "conditions": D,
        **names_of(next(iter(cv.fits.values()), None)),
        "center": cv.stats["center"],
        "seconds": cv.stats["seconds"],
        "ridges": cv.ridges,
        "relative": cv.relative,
        "repeats": cv.repeats,
        "score": cv.score,
    }


def _verdict(cv: CrossValidation, method: str) -> dict[str, Any]:
    found = cv.verdicts()[method]
    return {"better": found.better, "p": found.p, "words": found.words, "more": list(found.more)}


def cv_record(cv: CrossValidation) -> dict[str, Any]:
    """Return a study for JSON, by method and baseline: each score by fold and ridge, and over all folds."""
    best, one_se = cv.choices("best"), cv.choices("one-se")
    methods = {}
    for name, table in cv.scores.items():
        fit = cv.fits.get(name)
        summaries = {score: cv.summary(name, score) for score in SCORES}
        nested = table.nested
        methods[name] = {
            "verdict": _verdict(cv, name),
            "best_ridge": best[name],
            "one_se_ridge": one_se[name],
            "scores": {score: table.by_fold(score) for score in SCORES},
            "pooled": {score: value for score, (value, _) in summaries.items()},
            "standard_error": {score: error for score, (_, error) in summaries.items()},
            "shuffled": None if table.shuffled is None else _pooled(table.shuffled),
            "p": {score: cv.p_value(name, score) for score in SCORES},
            "p_over": {base: cv.p_value(name, over=base) for base in cv.baselines},
            "nested": None
            if nested is None
            else {"ridges": cv.ridges[nested.places], "pooled": _pooled(nested.moments)},
            "agreement": cv.agreement(name),
            "residual": table.residual,
            "status": table.status,
            "fit": None if fit is None else fit_record(fit),
        }
    return {
        **_shared(cv),
        "held_out": [test for _, test in cv.folds],
        "baselines": {
            name: {"scores": {score: one.by_fold(score) for score in SCORES}, "pooled": _pooled(one)}
            for name, one in cv.baselines.items()
        },
        "methods": methods,
    }


def _pooled(moments: Moments) -> dict[str, Any]:
    return {score: moments.pooled(score) for score in SCORES}


def cv_arrays(cv: CrossValidation) -> dict[str, Any]:
    """Return a study as one array per score, methods or baselines first; names have _ in place of -."""
    import numpy as np

    held_out = np.zeros((len(cv.folds), cv.stats["shape"][1]), bool)
    for row, (_, test) in zip(held_out, cv.folds, strict=True):
        row[test] = True
    tables, bases = list(cv.scores.values()), list(cv.baselines.values())
    arrays: dict[str, Any] = {}
    for score in SCORES:
        key = score.replace("-", "_")
        summaries = [cv.summary(name, score) for name in cv.methods]
        arrays[key] = np.stack([table.by_fold(score) for table in tables])
        arrays[f"pooled.{key}"] = np.stack([value for value, _ in summaries])
        arrays[f"standard_error.{key}"] = np.stack([error for _, error in summaries])
        arrays[f"baselines.{key}"] = np.stack([one.by_fold(score) for one in bases])
        arrays[f"pooled_baselines.{key}"] = np.array([one.pooled(score) for one in bases])
        shuffled = [table.shuffled.pooled(score) for table in tables if table.shuffled is not None]
        if shuffled:
            arrays[f"shuffled.{key}"] = np.stack(shuffled)
            arrays[f"p.{key}"] = np.array([cv.p_value(name, score) for name in cv.methods])
    if cv.baselines_shuffled:
        arrays["p_over"] = np.array([[cv.p_value(m, over=base) for base in cv.baselines] for m in cv.methods])
    nested = [table.nested for table in tables if table.nested is not None]
    if nested:
        arrays["nested_ridge"] = np.stack([cv.ridges[each.places] for each in nested])
        arrays["nested"] = np.array([each.moments.pooled(cv.score) for each in nested])
    if cv.fits:
        arrays["fit_methods"] = list(cv.fits)
        arrays["fit_ridge"] = [fit.ridge for fit in cv.fits.values()]
        none = np.full(cv.stats["shape"][0], np.nan)  # a connectivity has no gains
        gains = [none if method in CONNECTED else fit.gains for method, fit in cv.fits.items()]
        arrays |= {} if all(each is none for each in gains) else {"gains": np.stack(gains)}
    return {
        **_shared(cv),
        "methods": list(cv.methods),
        "baselines": list(cv.baselines),
        "verdict": [str(verdict) for verdict in cv.verdicts().values()],
        "held_out": held_out,
        **arrays,
        "residual": np.stack([table.residual for table in tables]),
        "status": np.stack([table.status for table in tables]).astype(str),
        "best_ridge": list(cv.choices("best").values()),
        "one_se_ridge": list(cv.choices("one-se").values()),
    }  # fmt: skip


def test_record(test: PermutationTest) -> dict[str, Any]:
    """Return a test for JSON: its p-values, the scores of shuffles, and the channels."""
    cv = test.cv
    channels = None
    if test.channels is not None:
        names = ("gains", "mean", "deviation", "p", "q", "correlation")
        channels = {name: getattr(test.channels, name) for name in names}
    return {
        **_shared(cv),
        "method": test.method,
        "shuffles": len(test.null),
        "verdict": _verdict(cv, test.method),
        "observed": test.observed,
        "null": test.null,
        "p": test.p,
        "gain_over": test.gain_over,
        "p_over": test.p_over,
        "p_values": test.p_values,
        "gains": channels,
    }


def test_arrays(test: PermutationTest) -> dict[str, Any]:
    """Return the same as arrays."""
    import numpy as np

    record = test_record(test)
    channels = record.pop("gains") or {}
    baselines = list(test.p_over)
    return {
        **record,
        "verdict": str(test.verdict),
        "baselines": baselines,
        "gain_over": np.array([test.gain_over[name] for name in baselines]),
        "p_over": np.array([test.p_over[name] for name in baselines]),
        "null_over": np.stack([test.null_over[name] for name in baselines]),
        "scores": list(test.p_values),
        "p_values": np.array(list(test.p_values.values())),
        **{f"gains.{name}": values for name, values in channels.items()},
    }


def test_table(test: PermutationTest) -> dict[str, Any]:
    """Return a table with a row for each channel."""
    import numpy as np

    from .._results.frames import named

    found = test.channels
    assert found is not None
    return {
        "channel": np.array(named(found.names, len(found.p)), dtype=object),
        "gain": found.gains, "shuffled_mean": found.mean, "shuffled_deviation": found.deviation,
        "p": found.p, "q": found.q,
    }  # fmt: skip
