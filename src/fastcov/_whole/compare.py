"""compare(): models of how X becomes Y, scored on the same held-out conditions."""

from __future__ import annotations

import copy
import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._compute.progress import Progress, watching
from .._inputs.validation import check_between, check_choice, check_generator, check_whole
from .._model.target import ALL_NEEDED
from .._results import evidence
from .._results.comparison import Comparison, ModelScores
from .._results.cross_validation import CrossValidation
from .._results.score import SCORE, SCORES
from .._rows.responses import check_responses, over_trials
from .._studies.cross_validation import run_study
from .._studies.folds import apart, as_given
from .._studies.noise_ceiling import noise_ceiling
from .._studies.trial_columns import unrepeated
from .checks import Populations
from .freedom import degrees_of_freedom
from .groups import channel_labels
from .models import PARAMETERS, PLAIN, Model, models_of
from .progress import Bar

# The models that are compared by default.
USUAL = ("one", "no-x", "scaled", "one-gain", "gains", "gains+nuisance", "free")
# Fewer shuffles cannot give a p of 0.05.
LEAST_SHUFFLES = 19


def compare(
    X: ArrayLike,
    Y: ArrayLike | None = None,
    models: Sequence[str] | Mapping[str, Mapping[str, Any]] = USUAL,
    *,
    S: ArrayLike | None = None,
    groups: Any = None,
    relative_ridges: ArrayLike | None = None,
    folds: Any = 5,
    repeats: int = 1,
    nested: bool = True,
    score: str = SCORE,
    shuffles: int = 0,
    level: float = 0.95,
    permute: str = "conditions",
    condition_groups: Any = None,
    trials: Any = None,
    nan_policy: str = "raise",
    pairs: Any = None,
    center: bool = True,
    rng: Any = 0,
    memory_budget: float | None = None,
    callback: Callable[[Progress], object] | None = None,
) -> Comparison:
    """Compare models of how the covariance of X becomes that of Y, on the same held-out conditions.

    Each model is fitted and scored as by `cross_validate`, on the same folds and the same shuffled orders.
    Inner folds choose its ridge λ, each model from a grid of its own. With J = I − 11ᵀ/N, X (N, D) and
    C(Z) = XᵀZᵀJZX, the models differ in Z (N, N):

    ================ ======================================================================
    one              Z = I: X as it is
    no-x             no X: one variance and one covariance for all conditions
    scaled           a C(I) + βI + γ11ᵀ, by least squares
    one-gain         Z = zI, one gain for all channels
    groups           Z diagonal, one gain for each group of channels (needs `groups`)
    gains            Z = diag(z), a gain for each channel
    gains+nuisance   the same, and βI + γ11ᵀ beside C(Z)
    free             Z = I + W with any W: all connections among channels
    symmetric, psd   Z symmetric; and positive semi-definite, too
    mixed            Z = diag(z) + W, gains and connections, with one λ for both
    ================ ======================================================================

    The first three are baselines, in which nothing is chosen.

    Parameters
    ----------
    X : array_like, shape (N, D) or (trials, N, D)
        Responses of the input channels, as for `cross_validate`.
    Y : array_like, shape (M, D) or (trials, M, D)
        Responses of the other population to the same conditions. Conditions with names are aligned.
    models : list of str, or mapping of str to mapping
        Names of the table above. Or a mapping of name to options of `cross_validate`: "method", "ridges",
        "relative_ridges", "nuisance", "bounds", "channel_groups", "free_ridge", "solver", "tol",
        "max_iterations". They amend the model of that name; with any other name, they amend "gains". So
        ``{"gains": {}, "inhibition": {"bounds": (0, 1)}}`` compares gains with gains that only inhibit.
    S : array_like, shape (D, D), optional
        In place of Y, a target covariance, as for `cross_validate`.
    groups : sequence of N labels, optional
        The group of each channel, such as its animal, for the model "groups".
    relative_ridges : array_like, shape (K,), optional
        A grid for all models that have none of their own: λ over the largest eigenvalue of the model's Gram
        matrix of the training block. By default each model has its own.
    folds, repeats, score
        As for `cross_validate`.
    nested : bool, default True
        Let inner folds of the training conditions choose λ for each fold. Otherwise models are compared at
        the ridge that suits the folds best, which flatters those that have one.
    shuffles : int, default 0
        How often to repeat all of it with shuffled conditions, for p-values; at least 19, or 0.
    level : float, default 0.95
        Coverage of the intervals of differences.
    permute, condition_groups
        What a shuffle permutes, and the group of each condition for it: `permute` and `groups` of
        `cross_validate`.
    trials, nan_policy, pairs, center, memory_budget
        As for `cross_validate`.
    rng : default 0
        Draws folds, shuffles and the halves of the noise ceiling, the same for all models. A generator is
        left as it was.
    callback : callable, optional
        Called with a `Progress` of stage "study".

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError, MemoryError
        As for `cross_validate`; if there is no such model or option; if no model is fitted; if "groups" is
        asked for without labels, or they do not cover the channels.

    Warns
    -----
    ConvergenceWarning, LabelWarning, MissingValuesWarning
        As for `cross_validate`.

    Notes
    -----
    Pairs of models are compared on the same folds, so that what both owe to a fold cancels; see
    `Comparison.difference`. With shuffled conditions no model has anything to predict. So p says whether a
    model predicts, and not whether it predicts better than another.

    The effective degrees of freedom of a fit with a ridge are Σ σ² / (σ² + λ), σ² being the eigenvalues of
    GᵀG at the fitted gains, and one more for each nuisance term. They are those of the fit of all conditions
    at the best ridge. Gains at a bound do not count.

    The cost is that of one `cross_validate` for each model.

    Examples
    --------
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(40, 14, rng=0)
    >>> found = fc.compare(sim.X, sim.Y, ["one", "no-x", "gains"], folds=4, relative_ridges=[1e-2, 1e-1])
    >>> found.value("gains") > found.value("one")
    True
    >>> found.to_frame().shape
    (6, 13)
    """
    started = time.perf_counter()
    X = over_trials("X", unrepeated("X", X, trials), nan_policy, rows=ALL_NEEDED)
    check_choice("score", score, tuple(SCORES))
    level, seed, folds = check_between("level", level, 0.95), check_generator(rng), as_given(folds)
    if 0 < check_whole("shuffles", shuffles, 0) < LEAST_SHUFFLES:
        raise ValueError(
            f"Argument 'shuffles' must be at least {LEAST_SHUFFLES} for a p of 0.05, or 0 for none, not "
            f"{shuffles}."
        )
    labels = None if groups is None else channel_labels("groups", groups, X)
    wanted = models_of(models, labels, int(check_responses("X", X).shape[0]), relative_ridges)
    raw = Y
    if Y is not None:
        populations = Populations.of(X, Y, trials, nan_policy, center)
        (Y,), (raw,) = populations.responses.values(), populations.given.values()
        with warnings.catch_warnings():  # what one split refuses, all would
            warnings.simplefilter("ignore")
            noise_ceiling(raw, by="cells", n_splits=1, center=center, nan_policy=nan_policy)
    shared: dict[str, Any] = {
        "S": S, "folds": folds, "repeats": repeats, "score": score, "shuffles": shuffles, "nested": nested,
        "groups": condition_groups, "permute": permute, "trials": trials, "pairs": pairs, "center": center,
        "memory_budget": memory_budget, "refit": "best",
        "level": evidence.LEVEL if shuffles else 1.0,
    }  # fmt: skip
    fitted = [model for model in wanted if not model.is_baseline]
    found: dict[str, ModelScores] = {}
    with watching(callback) as watch:
        bar = Bar(watch, float(len(fitted)))
        for model in fitted:
            found[model.name] = _fitted(model, X, Y, shared, seed, bar.step(1.0))
        like = next(iter(found.values())).cv
        assert like is not None
        if Y is not None:
            top = noise_ceiling(
                raw,
                by="cells",
                center=center,
                nan_policy=nan_policy,
                folds=apart(like),
                rng=copy.deepcopy(seed),
            )
        bar.end()
    scores = {
        model.name: _baseline(model, like) if model.is_baseline else found[model.name] for model in wanted
    }
    comparison = Comparison(
        models=scores, score=score, reference=fitted[0].name, ceiling=None if Y is None else top,
        stats={
            "shape": like.stats["shape"], "folds": len(like.folds), "repeats": like.repeats,
            "shuffles": shuffles, "level": level,
            **{name: like.stats[name] for name in ("conditions",) if name in like.stats},
            "seconds": time.perf_counter() - started,
        },
    )  # fmt: skip
    return dataclasses.replace(comparison, reference=_reference(comparison))


def _fitted(
    model: Model, X: Any, Y: Any, shared: dict[str, Any], seed: np.random.Generator,
    callback: Callable[[Progress], object],
) -> ModelScores:  # fmt: skip
    """Cross-validate one model, with the folds and orders that all have."""
    began = time.perf_counter()
    cv, study, _ = run_study(X, Y, rng=copy.deepcopy(seed), callback=callback, **shared, **model.options)
    fit = cv.fits.get(cv.methods[0])
    seconds = time.perf_counter() - began
    freedom = degrees_of_freedom(fit, study)
    return ModelScores(model.name, model.words, cv, None, None, freedom, seconds)


def _baseline(model: Model, cv: CrossValidation) -> ModelScores:
    return ModelScores(
        model.name, model.words, None, cv.baselines[model.name], cv.baselines_shuffled.get(model.name),
        float(PARAMETERS[model.name]), 0.0,
    )  # fmt: skip


def _reference(found: Comparison) -> str:
    """Gains, if they are among the models, else the model with the best score."""
    if PLAIN in found.models:
        return PLAIN
    values = [float(np.nan_to_num(found.value(name)[0], nan=-np.inf)) for name in found.fitted]
    return found.fitted[int(np.argmax(values))]
