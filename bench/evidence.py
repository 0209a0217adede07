"""How often the permutation test finds what is not there, and which score finds best what is.

    python bench/evidence.py power --sets 60
    python bench/evidence.py unshuffled --sets 200
    python bench/evidence.py spread --sets 60
    python bench/evidence.py null --sets 400
    python bench/evidence.py differences --sets 100

`power` compares the scores: of data sets of several kinds in which gains do predict, which share has a p of
0.05 by each score, and how far the observed score is from those of shuffles, in their standard deviations.
`unshuffled` counts how often, without shuffles, the best score is some standard errors above the baseline
without X, where there is nothing to find and where there is; `spread`, how scores spread over data sets.
`null` counts, of data sets in which there is nothing to find, how many have a p of 0.05 nevertheless, by the
default score, by its gain over each baseline, and of single gains; `differences`, how often two samples of
cells from one population differ. They print the tables of docs/evidence.md and docs/study.md.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np

import fastcov as fc
from fastcov._results.evidence import gain_over, maxima
from fastcov._results.permutation_test import FDR
from fastcov._results.score import BASELINES, SCORES

N, M, D = 40, 50, 16
RIDGES = (3e-3, 3e-2, 0.3)
FOLDS = 4
LEVEL = 0.05


def latent(rng, n, rank=5, decay=0.6):
    """Responses with a low-dimensional signal, as populations have, and noise of their own."""
    strengths = decay ** np.arange(rank)
    return (rng.standard_normal((n, rank)) * strengths) @ rng.standard_normal((rank, D))


def noisy(rng, A, noise):
    return A + noise * A.std() * rng.standard_normal(A.shape)


def independent(rng):
    """X and Y have nothing to do with each other."""
    return noisy(rng, latent(rng, N), 0.5), noisy(rng, latent(rng, M), 0.5)


def geometry(rng):
    """Both have one spectrum and one spread of variances over conditions, in an order of their own each."""
    sizes = np.exp(0.5 * rng.standard_normal(D))
    basis = rng.standard_normal((5, D)) * (0.6 ** np.arange(5))[:, None]
    X = noisy(rng, rng.standard_normal((N, 5)) @ basis, 0.5) * sizes
    order = rng.permutation(D)
    Y = (noisy(rng, rng.standard_normal((M, 5)) @ basis, 0.5) * sizes)[:, order]
    return X, Y


def heavy(rng):
    """Responses with heavy tails: few channels and entries make most of the covariance."""
    return rng.standard_t(2.5, (N, D)) * np.exp(rng.standard_normal((N, 1))), (
        rng.standard_t(2.5, (M, D)) * np.exp(rng.standard_normal((M, 1)))
    )


def ordered(rng):
    """Not exchangeable: X and Y are independent, and neighbouring conditions are alike in both."""

    def smooth(n):
        A = rng.standard_normal((n, D))
        for j in range(1, D):
            A[:, j] = 0.8 * A[:, j - 1] + 0.6 * A[:, j]
        return A

    return smooth(N), smooth(M)


def gained(rng, X, noise, spread):
    """Another population that is the first with gains, mixed orthogonally, and noise."""
    gains = np.exp(spread * rng.standard_normal(len(X)))
    mixed = np.linalg.qr(rng.standard_normal((M, len(X))))[0] @ (gains[:, None] * X)
    return noisy(rng, mixed, noise)


def flat(rng):
    """Gains, in few dimensions, under noise."""
    X = noisy(rng, latent(rng, N), 0.3)
    return X, gained(rng, X, 2.5, 0.7)


def faint(rng):
    """Gains, in many dimensions, under more noise."""
    X = noisy(rng, latent(rng, N, rank=8, decay=0.9), 0.3)
    return X, gained(rng, X, 4.0, 0.7)


def diagonal(rng):
    """Gains, and noise of each condition's own size in Y, which adds to its variances."""
    X = noisy(rng, latent(rng, N, rank=8, decay=0.9), 0.3)
    Y = gained(rng, X, 1.0, 0.7)
    return X, Y + 1.5 * Y.std() * rng.standard_normal(Y.shape) * np.exp(0.7 * rng.standard_normal(D))


def offset(rng):
    """Gains, and a component of Y that is alike for all conditions, which adds a constant."""
    X = noisy(rng, latent(rng, N, rank=8, decay=0.9), 0.3)
    Y = gained(rng, X, 1.5, 0.7)
    return X, Y + 1.0 * Y.std() * rng.standard_normal((M, 1))


def tails(rng):
    """Gains, with heavy tails."""
    X = rng.standard_t(2.5, (N, D))
    return X, gained(rng, X, 1.5, 0.7)


def partial(rng):
    """Half of the target is of gains, half of something else."""
    X = noisy(rng, latent(rng, N, rank=8, decay=0.9), 0.3)
    Y, other = gained(rng, X, 0.5, 0.7), latent(rng, M, rank=8, decay=0.9)
    return X, Y / Y.std() + 1.5 * other / other.std()


NULLS = (independent, geometry, heavy)
NO_NULL = (ordered,)
TRUTHS = (flat, faint, diagonal, offset, tails, partial)


def tested(X, Y, shuffles, seed, *, channels):
    return fc.permutation_test(
        X, Y, shuffles=shuffles, relative_ridges=RIDGES, folds=FOLDS, rng=seed, channels=channels
    )


def first_line(function):
    return function.__doc__.splitlines()[0].rstrip(".")


def power(sets, shuffles):
    """Share found at 5 %, and distance from shuffles, by score and kind."""
    found = np.zeros((len(SCORES), len(TRUTHS)))
    distance = np.zeros((len(SCORES), len(TRUTHS), sets))
    for j, kind in enumerate(TRUTHS):
        for seed in range(sets):
            result = tested(*kind(np.random.default_rng([7, j, seed])), shuffles, seed, channels=False)
            for i, score in enumerate(SCORES):
                found[i, j] += result.p_values[score] <= LEVEL
                observed, null = maxima(result.cv, result.method, score)
                null = null[np.isfinite(null)]
                distance[i, j, seed] = (observed - null.mean()) / null.std(ddof=1)
    print("| score |", *(f"{kind.__name__} |" for kind in TRUTHS), "all |")
    print("|---|" + "---|" * (len(TRUTHS) + 1))
    median = np.median(distance, axis=2)
    for i, score in enumerate(SCORES):
        cells = (f"{100 * f / sets:.0f} % ({d:.1f}) |" for f, d in zip(found[i], median[i], strict=True))
        print(f"| `{score}` |", *cells, f"{100 * found[i].mean() / sets:.0f} % ({median[i].mean():.1f}) |")
    for kind in TRUTHS:
        print(f"- {kind.__name__}: {first_line(kind)}")


def null(sets, shuffles):
    """Share with a p of 0.05 where there is nothing to find."""
    names = ["score", *(f"over {label}" for label in BASELINES.values()), "single gains", f"any q ≤ {FDR:g}"]
    print("| null data |", *(f"{name} |" for name in names))
    print("|---|" + "---|" * len(names))
    for j, kind in enumerate((*NULLS, *NO_NULL)):
        counts, gains, any_found = np.zeros(1 + len(BASELINES)), [], 0
        for seed in range(sets):
            result = tested(*kind(np.random.default_rng([3, j, seed])), shuffles, seed, channels=True)
            counts += [result.p <= LEVEL, *(p <= LEVEL for p in result.p_over.values())]
            gains.append((result.channels.p <= LEVEL).mean())
            any_found += bool((result.channels.q <= FDR).any())
        cells = [f"{100 * count / sets:.1f} % |" for count in counts]
        cells += [f"{100 * np.mean(gains):.1f} % |", f"{100 * any_found / sets:.1f} % |"]
        print(f"| {kind.__name__}: {first_line(kind)} |", *cells, flush=True)


def unshuffled(sets, _):
    """Share in which the score is so many standard errors above that without X."""
    errors = (1.0, 2.0, 4.0)
    print("| data |", *(f"{e:g} standard errors |" for e in errors))
    print("|---|" + "---|" * len(errors))
    for j, kind in enumerate((*NULLS, *TRUTHS)):
        found = np.zeros(len(errors))
        for seed in range(sets):
            X, Y = kind(np.random.default_rng([5, j, seed]))
            cv = fc.cross_validate(X, Y, relative_ridges=RIDGES, folds=FOLDS, rng=seed, refit=None)
            gained, error = gain_over(cv, "exact", "no-x")
            found += [gained > e * error for e in errors]
        print(
            f"| {kind.__name__}{' (null)' * (kind in NULLS)} |", *(f"{100 * f / sets:.0f} % |" for f in found)
        )


def spread(sets, _):
    """How scores spread over data sets, beside the jackknife's error of each."""
    print("| data | spread over data sets | jackknife error, mean |\n|---|---|---|")
    for kind in (faint, offset, independent):
        found = []
        for seed in range(sets):
            X, Y = kind(np.random.default_rng([11, seed]))
            cv = fc.cross_validate(X, Y, relative_ridges=[3e-2], folds=FOLDS, rng=seed, refit=None)
            found.append([values[0] for values in cv.summary("exact")])
        scores, errors = np.transpose(found)
        print(f"| {kind.__name__} | {scores.std(ddof=1):.3f} | {errors.mean():.3f} |")


def differences(sets, deals):
    """How often two samples of cells from one population differ, by the interval and by cells dealt anew."""
    print(f"| simulation, cells of each | interval leaves out 0 | p ≤ {LEVEL:g} with cells dealt anew |")
    print("|---|---|---|")
    for realistic, cells in ((False, 300), (True, 300), (True, 100)):
        sim, apart, found = fc.datasets.simulate(60, 24, rng=0, realistic=realistic), 0, 0
        for seed in range(sets):
            samples = {name: sim.fresh_cells((k, seed), n_cells=cells) for k, name in enumerate("ab", 1)}
            one = fc.study(
                sim.X,
                samples,
                shuffles=0,
                nested=False,
                relative_ridges=[0.1],
                method="linear",
                deals=deals,
                rng=seed,
            ).differences[0]
            apart += one.lower > 0 or one.upper < 0
            found += one.p <= LEVEL
        name = f"{'realistic' if realistic else 'default'}, {cells}"
        print(f"| {name} | {100 * apart / sets:.0f} % | {100 * found / sets:.0f} % |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["power", "unshuffled", "spread", "null", "differences"])
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--shuffles", type=int, default=19)
    asked = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fc.ConvergenceWarning)
        kinds = (power, unshuffled, spread, null, differences)
        {kind.__name__: kind for kind in kinds}[asked.what](asked.sets, asked.shuffles)
