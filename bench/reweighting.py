"""Weights beside gains on the recordings, and weights where there is nothing to find.

    FASTCOV_REAL_DATA=recordings.npz python bench/reweighting.py recordings
    python bench/reweighting.py null --sets 200

`recordings` predicts correlations of held-out odours among mitral cells from glomeruli: with equal weights,
with one weight a channel as frrsa fits them, with `fc.reweight`, and with gains. All see the same folds and
choose their ridge in inner folds of the training odours. frrsa's own search is written here from its
description: the weights that its ridge leaves have fractions 0.1 to 1 of the length of those without a ridge,
and the fraction is chosen by Pearson's r. `null` has the scores of `fc.reweight` on data in which X and Y
have nothing to do with each other. They print the tables of docs/rsa.md.
"""

from __future__ import annotations

import argparse
import os
import warnings

import numpy as np

import fastcov as fc
from fastcov._results.agreement import pearson, spearman

FOLDS, INNER = 5, 5
FRACTIONS = np.linspace(0.1, 1.0, 20)
OPTIONS = ({}, {"bounds": (0, None)})
WIDE = 10.0 ** np.arange(-4, 0.5, 0.5)
# Singular values below this share of the largest are left out.
RANK = 1e-10


def folds_of(conditions, n, random):
    parts = np.array_split(random.permutation(conditions), n)
    return [(np.setdiff1d(conditions, part), np.sort(part)) for part in parts]


def design(X, conditions, atoms):
    a, b = np.triu_indices(len(conditions), 1)
    x = X[:, conditions]
    return (x[:, a] * x[:, b] if atoms == "product" else np.square(x[:, a] - x[:, b])).T


def pairs_of(S, conditions):
    a, b = np.triu_indices(len(conditions), 1)
    return S[conditions[a], conditions[b]]


def fractional(A, t):
    """Weights whose length is a fraction of that of the least-squares weights, for each of FRACTIONS."""
    A, t = A - A.mean(axis=0), t - t.mean()
    U, s, V = np.linalg.svd(A, full_matrices=False)
    some = s > RANK * s[0]
    U, s, V = U[:, some], s[some], V[some]
    b = U.T @ t
    ridges = np.append(0.0, 10.0 ** np.arange(-8.0, 6.0, 0.1) * s[0] ** 2)
    lengths = np.array([np.linalg.norm(s * b / (s * s + ridge)) for ridge in ridges])
    found = np.interp(FRACTIONS, (lengths / lengths[0])[::-1], ridges[::-1])
    return np.stack([V.T @ (s * b / (s * s + ridge)) for ridge in found])


def frrsa(X, S, split, random, atoms):
    """The prediction of held-out pairs as frrsa has it."""
    train, test = split
    within = []
    for a, b in folds_of(train, INNER, random):
        B = design(X, b, atoms)
        within.append(
            [pearson(B @ w, pairs_of(S, b)) for w in fractional(design(X, a, atoms), pairs_of(S, a))]
        )
    place = int(np.nanargmax(np.nanmean(within, axis=0)))
    return design(X, test, atoms) @ fractional(design(X, train, atoms), pairs_of(S, train))[place]


def gains(X, Y, splits):
    """Correlations of held-out odours from exact gains, whose ridge inner folds choose by this score."""
    cv = fc.cross_validate(X, Y, folds=splits, method="exact", nested=True, score="rsa", refit=None)
    found = []
    for (train, test), place in zip(splits, cv.scores["exact"].nested.places, strict=True):
        ridge = cv.ridges[place]
        fit = fc.fit(X[:, train], responses=Y[:, train], relative_ridge=ridge, method="exact")
        C = fit.apply(X[:, test]).covariance
        found.append(pairs_of(correlations(C), np.arange(len(test))))
    return found


def correlations(C):
    sizes = np.sqrt(np.diag(C))
    return C / np.outer(sizes, sizes)


def row(name, *scores):
    cells = " | ".join(f"{np.mean(each):.2f} ± {np.std(each, ddof=1):.2f}" for each in scores)
    print(f"| {name} | {cells} |", flush=True)


def line(name, predicted, S, splits):
    held_out = [pairs_of(S, test) for _, test in splits]
    row(name, *(
        [correlation(p, s) for p, s in zip(predicted, held_out, strict=True)]
        for correlation in (pearson, spearman)
    ))  # fmt: skip


def recordings(repeats):
    with np.load(os.environ["FASTCOV_REAL_DATA"]) as file:
        X, Y = (file[name].astype(np.float64) for name in ("glomeruli", "mitral"))
    D, random = X.shape[1], np.random.default_rng(0)
    splits = [pair for _ in range(repeats) for pair in folds_of(np.arange(D), FOLDS, random)]
    R = correlations(fc.covariance(Y))
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    print(f"{repeats} x {FOLDS} folds, mean ± standard deviation over folds")
    print("| prediction of correlations | Pearson | Spearman |\n|---|---|---|")
    line(
        "correlations of X", [pairs_of(correlations(fc.covariance(X)), test) for _, test in splits], R, splits
    )
    for atoms in ("product", "squared-euclidean"):
        S = R if atoms == "product" else 1.0 - R
        equal = [design(X - X.mean(axis=0), test, atoms).sum(axis=1) for _, test in splits]
        line(f"equal weights, {atoms}", equal, S, splits)
        for scaled, data in (("", X - X.mean(axis=0)), (", standardised", Z)):
            found = [frrsa(data, S, split, random, atoms) for split in splits]
            line(f"weights, {atoms}{scaled}, fractions 0.1 to 1", found, S, splits)
            for options in (*OPTIONS, *([] if scaled else [{"shrink_to": 1.0}])):
                study = fc.reweight(
                    data, S, "cv", atoms=atoms, offset=True, folds=splits, relative_ridges=WIDE, **options
                ).scores
                what = ", ".join(f"{name}={value}" for name, value in options.items())
                row(f"`fc.reweight`, {atoms}{scaled} {what}".rstrip(), study.nested["pearson"],
                    study.nested["spearman"])  # fmt: skip
    line("gains, exact", gains(X, Y, splits), R, splits)


def null(sets):
    """Scores where X and Y are independent, of one spectrum, or Y's conditions are shuffled."""
    print("| | atoms | Pearson | Spearman | cross Pearson | cross Spearman |\n|---|---|---|---|---|---|")
    for kind in ("independent", "shuffled"):
        for atoms in ("product", "squared-euclidean"):
            found = []
            for k in range(sets):
                random = np.random.default_rng(k)
                sim = fc.datasets.simulate(40, 24, rng=k)
                Y = sim.Y[:, random.permutation(24)]
                if kind == "independent":
                    Y = fc.datasets.simulate(40, 24, rng=sets + k).Y
                C = fc.covariance(Y)
                S = C if atoms == "product" else np.add.outer(np.diag(C), np.diag(C)) - 2 * C
                study = fc.reweight(
                    sim.X, S, "cv", atoms=atoms, offset=True, rng=k, relative_ridges=[1e-3, 1e-2, 1e-1, 1.0]
                ).scores
                found.append([study.mean(name) for name in study.nested])
            mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(sets)
            cells = " | ".join(f"{m:+.3f} ± {e:.3f}" for m, e in zip(mean, error, strict=True))
            print(f"| {kind} | {atoms} | {cells} |", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("recordings", "null"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sets", type=int, default=200)
    asked = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if asked.what == "recordings":
            recordings(asked.repeats)
        else:
            null(asked.sets)


if __name__ == "__main__":
    main()
