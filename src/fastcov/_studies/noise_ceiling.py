"""noise_ceiling(): the best score that a prediction can be expected to reach."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._compute import blas
from .._compute.jit import blas_for
from .._inputs.labels import Labels, outside
from .._inputs.trials import POLICIES, Stack, averaged, missing_in, pairwise_covariance
from .._inputs.validation import check_choice, check_generator, check_whole, require_memory
from .._results.noise_ceiling import NoiseCeiling, is_share
from .._results.score import CONSTANT, SCORES
from .._rows.responses import check_responses
from .._rows.rows import rows_of

Array = NDArray[np.float64]
Half = NDArray[np.intp]
# The covariances (K, D, D) of K halves; only their lower triangles are those of the halves.
Covariances = Callable[[Sequence[Half]], Array]

# A correlation over pairs of conditions needs three pairs.
LEAST_CONDITIONS = 3
# Bytes of the matrices, or of the means over trials, that are made at a time.
GROUP_BYTES = 1 << 24
# Threads gain nothing in products of fewer flops, some 0.1 s of one core, and lose much where cores are busy.
LONG_FLOPS = 1e9
# Where pairs of conditions need channels.
HALF = " in each half"
# Cells or trials that differ by less than this share of the largest value are alike: the rest is rounding.
ALIKE = 1e-13


def noise_ceiling(
    Y: Any,
    *,
    by: str | None = None,
    n_splits: int = 100,
    center: bool = True,
    folds: int = 5,
    nan_policy: str = "raise",
    rng: Any = 0,
) -> NoiseCeiling:
    """How well could any prediction of the covariance of Y score, as Y is noisy?

    The cells (or trials) are split into two random halves, whose covariances are A and B, each divided by its
    trace as the scale of a target is taken out. r says how far they agree over pairs of conditions:

    * for correlations, r = ⟨A, B⟩ / ‖A‖‖B‖,
    * for every R², which also counts errors of size, r = 2⟨A, B⟩ / (‖A‖² + ‖B‖²),

    about the mean for ``pearson`` and ``r2-off-diagonal``, about zero for ``cosine`` and the other R², and of
    correlation matrices for ``rsa``. Let S be the covariance of all of Y, Σ what it would be with endless
    cells, and E = S − Σ its noise, which does not correlate with Σ. The noise of a half has twice the
    variance. So

        r ≈ ‖Σ‖² / (‖Σ‖² + 2‖E‖²), and r_full = 2r / (1 + r) ≈ ‖Σ‖² / (‖Σ‖² + ‖E‖²)

    (Spearman and Brown). The best prediction is Σ itself. Its correlation with S, ⟨Σ, S⟩ / ‖Σ‖‖S‖, is near
    ‖Σ‖ / √(‖Σ‖² + ‖E‖²) = √r_full: this is the ceiling of correlations. Its R², 1 − ‖Σ − S‖² / ‖S‖², is near
    1 − ‖E‖² / (‖Σ‖² + ‖E‖²) = r_full: this is the ceiling of every R².

    Parameters
    ----------
    Y : array_like, shape (M, D) or (trials, M, D)
        Responses of M cells to D conditions, or those of each trial. Trials are the first axis, or the
        dimension of a DataArray that has the name "trial" or "repeat".
    by : {"cells", "trials"}, optional
        What to split. "cells" is for predictions of a population, of which these cells are a sample; trials
        are then averaged. "trials" is for predictions of these very cells: only noise over trials counts.
        By default "trials" if Y has trials, otherwise "cells".
    n_splits : int, default 100
        Number of splits. If no more are possible, as with few trials, each possible split is taken once.
    center : bool, default True
        Whether covariances are those of responses less their mean over cells, as in `fit`.
    folds : int, default 5
        Number of folds of the study whose scores are compared. The held-out blocks, of which ``r2`` and
        ``cosine`` are, have all variances, and of the pairs off the diagonal only those within a fold.
    nan_policy : {"raise", "omit-trials", "pairwise"}
        What to do with NaN: raise an error; take the mean over the trials that are there (in each half); or,
        if a cell has no trial there or Y has no trials, take for each pair of conditions the cells with both.
    rng : default 0
        Draws the halves.

    Returns
    -------
    NoiseCeiling

    Raises
    ------
    TypeError, ValueError
        If Y is not real and finite, or as `nan_policy` has it; if there are too few cells (4 to split cells,
        2 otherwise; half of that without centring), trials (2) or conditions (3); if all cells or all trials
        are alike; if ``by="trials"`` and Y has none.
    MemoryError
        If Y or the covariances do not fit.

    Warns
    -----
    UserWarning
        If r is undefined for a score in all splits, because all pairs have the same covariance.

    Notes
    -----
    Scores of cross pairs (of a held-out and a training condition) have the ceiling of all pairs off the
    diagonal: over the folds, each pair is either a cross pair or a held-out one. Scores are correlations
    about the mean of each fold, and the ceiling about that of all pairs, so it counts differences in level
    between folds.

    r is the mean over splits. With an odd number n of cells or trials, one is left out of each split, and
    r_full = k r / (1 + (k − 1) r) with k = n / ⌊n/2⌋. The ceiling is one in expectation: by chance a score
    may be higher. By "trials" the variances of S contain those of noise, which are alike in both halves and
    so count as predictable: for ``r2``, ``r2-diagonal`` and ``cosine`` take "cells".

    It takes n_splits · MD² flops by cells; by trials n_splits (4TMD + 2MD²). It needs a copy of Y in float64,
    and some 20 matrices for each of a few splits at a time.

    For split halves see Spearman, "Correlation calculated from faulty data" (1910), and Brown, "Some
    experimental results in the correlation of mental abilities" (1910); for the square root, Spearman, "The
    proof and measurement of association between two things" (1904).

    Examples
    --------
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(60, 20, rng=0)
    >>> ceiling = fc.noise_ceiling(sim.Y)
    >>> low, high = ceiling.band("cross-pearson")
    >>> bool(low <= ceiling.ceiling("cross-pearson") <= high <= 1)
    True
    """
    started = time.perf_counter()
    check_choice("nan_policy", nan_policy, POLICIES)
    n_splits, folds = check_whole("n_splits", n_splits, 1), check_whole("folds", folds, 2)
    random = check_generator(rng)
    if not isinstance(center, (bool, np.bool_)):
        raise TypeError(f"Argument 'center' must be True or False, not {center!r}.")
    stack = Stack.of("Y", Y)
    if by is None:
        by = "cells" if stack is None else "trials"
    check_choice("by", by, ("cells", "trials"))
    if by == "trials" and stack is None:
        raise ValueError(
            "Argument 'by' must be 'cells' where Y has no trials, not 'trials': pass Y as (trials, cells, "
            "conditions)."
        )
    values, labels, missing = _values(Y, stack, by, nan_policy)
    n, (M, D) = len(values), values.shape[-2:]
    _check_sizes(by, n, M, D, center)
    _scale(values, by)
    covariances = (_of_cells if by == "cells" else _of_trials)(values, center, nan_policy, labels)
    size, splits = n // 2, _splits(n, n_splits, random)
    group = max(1, GROUP_BYTES // (16 * D * D))
    require_memory(160 * min(group, len(splits)) * D * D, f"Covariances of {D} conditions", "select some")
    found = []
    with blas_for(0.0 if size * D * D < LONG_FLOPS else np.inf):
        for first in range(0, len(splits), group):
            some = splits[first : first + group]
            halves = covariances([half for split in some for half in split])
            found.append(_correlations(halves[::2], halves[1::2], folds))
    reliability = {score: np.concatenate([each[score] for each in found]) for score in SCORES}
    undefined = [score for score, r in reliability.items() if not np.isfinite(r).any()]
    if undefined:
        warnings.warn(
            f"There is no ceiling for {', '.join(undefined)}: in every split of Y all pairs of conditions "
            "have the same covariance, or none.",
            stacklevel=outside(),
        )
    return NoiseCeiling(
        by, reliability, n / size,
        {"shape": (M, D), "n_trials": None if stack is None else stack.shape[0], "center": bool(center),
         "folds": folds, "missing": missing, "seconds": time.perf_counter() - started},
    )  # fmt: skip


def _values(Y: Any, stack: Stack | None, by: str, nan_policy: str) -> tuple[Array, Labels, int]:
    """A copy of the responses of cells (M, D) or trials (T, M, D), their names, and how many are missing.

    What is missing is NaN.
    """
    if stack is None:
        values = np.array(rows_of(check_responses("Y", Y))[:], np.float64)
        labels = Labels.of("Y", Y)
        missing = missing_in("Y", values, labels, nan_policy)
        return values, labels, missing
    if by == "cells":
        mean, record = averaged(stack, nan_policy)
        return np.array(mean, np.float64), stack.labels, record["missing"]
    values = stack.array()
    return values, stack.labels, missing_in("Y", values, stack.labels, nan_policy)


def _check_sizes(by: str, n: int, M: int, D: int, center: bool) -> None:
    least_cells = (4 if by == "cells" else 2) if center else (2 if by == "cells" else 1)
    least = [("cells", M, least_cells), ("conditions", D, LEAST_CONDITIONS)]
    if by == "trials":
        least.insert(0, ("trials", n, 2))
    for what, found, wanted in least:
        if found < wanted:
            raise ValueError(
                f"Argument 'Y' must have at least {wanted} {what} to be split by {by}, not {found}: without "
                "them nothing tells noise from the rest."
            )


def _scale(values: Array, by: str) -> None:
    """Divide by the largest value, so that no square overflows; raise if there is nothing to split."""
    size = max(float(np.nanmax(values)), -float(np.nanmin(values)))
    if size > 0:
        values /= size
    there = ~np.isnan(values)
    axes = values.ndim - 2
    sums, counts = (np.sum(each, axis=axes) for each in (np.where(there, values, 0.0), there))
    left = values - np.expand_dims(sums / np.maximum(counts, 1), axes)
    if not np.nanmax(np.abs(left)) > ALIKE:
        raise ValueError(
            "Argument 'Y' must vary over its cells, not have cells that are all alike: pass responses of "
            "single cells."
        )
    if by != "trials":
        return
    repeated = there.sum(axis=0) > 1
    spread = np.fmax.reduce(values)[repeated] - np.fmin.reduce(values)[repeated]
    if spread.size and not spread.max() > ALIKE:
        raise ValueError(
            "Argument 'Y' must vary over its trials, not have trials that are all alike: pass responses of "
            "single trials, or by='cells'."
        )


def _splits(n: int, n_splits: int, random: np.random.Generator) -> list[tuple[Half, Half]]:
    """Pairs of disjoint halves of n // 2 each: each possible pair once, or if there are more, random ones."""
    size = n // 2
    possible = math.comb(n, size) * math.comb(n - size, size) // 2
    if possible > n_splits:
        orders = (random.permutation(n) for _ in range(n_splits))
        return [(np.sort(order[:size]), np.sort(order[size : 2 * size])) for order in orders]
    return [
        (np.array(a), np.array(b))
        for a in itertools.combinations(range(n), size)
        for b in itertools.combinations([i for i in range(n) if i not in a], size)
        if a < b
    ]


def _of_cells(values: Array, center: bool, nan_policy: str, labels: Labels) -> Covariances:
    there = ~np.isnan(values)
    if there.all():
        if center:  # by the mean of all, so that little is cancelled in a half
            values = values - values.mean(axis=0)
        return lambda halves: np.array([_covariance(values[half], center) for half in halves])
    filled, known = np.where(there, values, 0.0), there.astype(np.float64)

    def covariances(halves: Sequence[Half]) -> Array:
        return np.array([pairwise_covariance("Y", filled[a], known[a], center, labels, HALF) for a in halves])

    return covariances


def _of_trials(values: Array, center: bool, nan_policy: str, labels: Labels) -> Covariances:
    """Covariances of the mean over some of the trials."""
    T, M, D = values.shape
    there = ~np.isnan(values)
    known = None if there.all() else there.astype(np.float64).reshape(T, -1)
    flat = np.where(there, values, 0.0).reshape(T, -1)
    group = max(1, GROUP_BYTES // (8 * M * D))

    def of_some(halves: Sequence[Half]) -> list[Array]:
        weights = np.zeros((len(halves), T))
        for row, half in zip(weights, halves, strict=True):
            row[half] = 1.0
        sums = blas.product(weights, flat)
        if known is None:
            means = (sums / weights.sum(axis=1)[:, np.newaxis]).reshape(-1, M, D)
            return [_covariance(mean - mean.mean(axis=0) if center else mean, False) for mean in means]
        counts = blas.product(weights, known)
        if nan_policy == "omit-trials" and not counts.all():
            _, place = np.argwhere(counts == 0)[0]
            i, j = divmod(int(place), D)
            raise ValueError(
                "Argument 'Y' must have a trial of each cell and condition in each half, not only trials of "
                f"the other half at channel {i}, condition {j} (counted from 0): use by='cells', or "
                "nan_policy='pairwise'."
            )
        means = (sums / np.maximum(counts, 1.0)).reshape(-1, M, D)
        some = (counts > 0).astype(np.float64).reshape(-1, M, D)
        return [
            pairwise_covariance("Y", mean, known, center, labels, HALF)
            for mean, known in zip(means, some, strict=True)
        ]

    def covariances(halves: Sequence[Half]) -> Array:
        parts = [of_some(halves[first : first + group]) for first in range(0, len(halves), group)]
        return np.array([C for part in parts for C in part])

    return covariances


def _covariance(rows: Array, center: bool) -> Array:
    """Lower triangle of the covariance of these rows; the rest is finite. MD² flops."""
    D = rows.shape[1]
    C = blas.self_product(rows, transpose=True, out=np.zeros((D, D)))
    if center:
        total = rows.sum(axis=0)
        C -= np.outer(total, total) / len(rows)
    return C


def _correlations(A: Array, B: Array, folds: int) -> dict[str, Array]:
    """r of the lower triangles of pairs of covariances (K, D, D), for each score (K,)."""
    D = A.shape[-1]
    i, j = np.tril_indices(D, -1)
    pairs, variances, scaled = [], [], []
    for C in (A, B):
        v = np.diagonal(C, axis1=1, axis2=2)
        trace = v.sum(axis=1, keepdims=True)
        trace = np.where(trace > 0, trace, np.nan)
        pairs.append(C[:, i, j] / trace)
        variances.append(v / trace)
        v = np.where(variances[-1] > 0, variances[-1], np.inf)  # a zero variance gives a correlation of zero
        scaled.append(pairs[-1] / np.sqrt(v[:, i] * v[:, j]))
    diagonal, off = _sums(*variances), _sums(*pairs)
    # Of all pairs off the diagonal, the share that falls into one held-out block; each stands there twice.
    sizes = [len(part) for part in np.array_split(np.arange(D), min(folds, D))]
    block = diagonal + 2.0 * sum(k * (k - 1) for k in sizes) / (D * (D - 1)) * off
    centred = _about_mean(*pairs)
    sums = {
        "r2": block, "r2-diagonal": diagonal, "r2-off-diagonal": centred, "pearson": centred,
        "rsa": _about_mean(*scaled), "cosine": block, "cross-r2": off, "cross-cosine": off,
    }  # fmt: skip
    return {
        score: _r(sums.get(score, sums[score.removeprefix("cross-")]), share=is_share(score))
        for score in SCORES
    }


def _sums(a: Array, b: Array) -> Array:
    """Sums of a², b² and ab over the last axis (3, K)."""
    return np.array([np.einsum("kp,kp->k", x, y) for x, y in ((a, a), (b, b), (a, b))])


def _about_mean(a: Array, b: Array) -> Array:
    """Sums of a and b less their means; zero where they do not vary by more than rounding."""
    centred = _sums(a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True))
    centred[:2] = np.where(centred[:2] > CONSTANT * _sums(a, b)[:2], centred[:2], 0.0)
    return centred


def _r(sums: Array, *, share: bool) -> Array:
    """Agreement of a and b from their sums; NaN where one of them is zero."""
    aa, bb, ab = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        r = 2.0 * ab / (aa + bb) if share else ab / (np.sqrt(aa) * np.sqrt(bb))
        return np.where((aa > 0) & (bb > 0), r, np.nan)
