"""How often a comparison of models errs, and what it finds on recordings.

    python bench/compare.py null --sets 100
    python bench/compare.py intervals --sets 12
    python bench/compare.py truths --sets 40
    FASTCOV_REAL_DATA=data.npz python bench/compare.py recordings [--figure docs/compare.png]

`null` counts, of data sets in which X says nothing of Y, how many have a p of 0.05 for each model.
`intervals` draws conditions anew for the same channels and cells, again and again. It counts how often the
interval of a difference leaves out the mean difference, and compares standard errors with the spread that
they estimate. `truths` simulates Y from one of the models, and counts how often each model scores highest.
`recordings` compares models on glomeruli and mitral cells. They print the tables of docs/compare.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
import warnings

import numpy as np
import scipy.stats

import fastcov as fc

N, M, D = 40, 200, 24
RANK, DECAY, NOISE = 8, 0.85, 0.5
FOLDS, LEVEL = 5, 0.05
GRID = (1e-3, 1e-2, 1e-1, 1.0)
MODELS = ["one", "no-x", "scaled", "gains", "free"]
SCORES = ("r2", "pearson", "cross-pearson")


class Population:
    """Channels and cells, whose responses to any conditions can be drawn."""

    def __init__(self, rng, truth):
        self.loads = rng.standard_normal((N, RANK)) * DECAY ** np.arange(RANK)
        self.mixture = np.linalg.qr(rng.standard_normal((M, N)))[0]  # keeps covariances
        self.truth = truth
        self.gains = np.exp(0.8 * rng.standard_normal((N, 1)))
        wide = rng.standard_normal((N, 4)) @ rng.standard_normal((4, N))
        self.W = wide / np.linalg.norm(wide, 2)  # of norm one: as large as what it is added to

    def draw(self, rng):
        X = self.loads @ rng.standard_normal((RANK, D))
        X = X + NOISE * X.std() * rng.standard_normal(X.shape)
        signal = {"as it is": X, "gains": self.gains * X, "free": X + 2.0 * self.W @ X}[self.truth]
        Y = self.mixture @ (signal - signal.mean(axis=0))
        return X, Y + NOISE * Y.std() * rng.standard_normal(Y.shape)


def compared(X, Y, models, seed, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"relative_ridges": GRID, "folds": FOLDS} | options
        return fc.compare(X, Y, models, rng=seed, **options)


def null(sets):
    """X and Y are of two populations that have nothing to do with each other."""
    low = {name: 0 for name in MODELS}
    apart = 0
    for seed in range(sets):
        rng = np.random.default_rng([seed, 1])
        X, _ = Population(rng, "gains").draw(rng)
        _, Y = Population(rng, "gains").draw(rng)
        found = compared(X, Y, MODELS, seed, shuffles=19, nested=False)
        for name in MODELS:
            low[name] += found.p(name) <= LEVEL
        apart += found.difference("gains", "free").p_shuffled <= LEVEL
    print("| model | p ≤ 0.05 where X says nothing of Y |\n|---|---|")
    for name in MODELS:
        print(f"| {name} | {low[name] / sets:.0%} |")
    print(f"| gains and free differ (`p_shuffled`) | {apart / sets:.0%} |")


def intervals(sets):
    """For each population, conditions are drawn 16 times; their mean difference is what intervals are of."""
    models, draws = ["one", "gains", "free"], 16
    t = scipy.stats.t(FOLDS - 1).ppf(1 - LEVEL / 2)
    rows = []
    for truth in ("gains", "free"):
        told = {}
        for seed in range(sets):
            population = Population(np.random.default_rng([seed, 2]), truth)
            each = []
            for k in range(draws):
                rng = np.random.default_rng([seed, k, 3])
                each.append(compared(*population.draw(rng), models, k, nested=False))
            for score, (a, b) in itertools.product(SCORES, itertools.combinations(models, 2)):
                found = [one.difference(a, b, score) for one in each]
                values = np.array([one.value for one in found])
                errors = np.array([one.se for one in found])
                # The mean of the draws differs from the one that is meant by 1/√draws of their spread.
                outside = np.abs(values - values.mean()) > t * errors * np.sqrt(1 - 1 / draws)
                told.setdefault((score, a, b), []).append(
                    (np.mean(errors**2), values.var(ddof=1), outside.mean())
                )
        for (score, a, b), parts in told.items():
            squared, spread, outside = np.mean(parts, axis=0)
            rows.append((truth, score, f"{a}, {b}", np.sqrt(squared / spread), outside))
    print("| Y is made by | score | models | standard error / spread | interval leaves out the mean |")
    print("|---|---|---|---|---|")
    for truth, score, pair, ratio, outside in rows:
        print(f"| {truth} | {score} | {pair} | {ratio:.2f} | {outside:.0%} |")


def truths(sets):
    """Which model scores highest, and how often the interval of a difference leaves out 0."""
    print("| Y is made by | scores highest | gains over free | free over gains | gains over one |")
    print("|---|---|---|---|---|")
    pairs = (("gains", "free"), ("free", "gains"), ("gains", "one"))
    for truth in ("as it is", "gains", "free"):
        first, above = dict.fromkeys(MODELS, 0), dict.fromkeys(pairs, 0)
        for seed in range(sets):
            rng = np.random.default_rng([seed, 4])
            X, Y = Population(rng, truth).draw(rng)
            found = compared(X, Y, MODELS, seed)
            first[max(MODELS, key=lambda name: found.value(name)[0])] += 1
            for pair in pairs:
                above[pair] += found.difference(*pair).lower > 0
        won = ", ".join(f"{name} {n / sets:.0%}" for name, n in first.items() if n)
        print(f"| {truth} | {won} | " + " | ".join(f"{n / sets:.0%}" for n in above.values()) + " |")


def recordings(figure):
    with np.load(os.environ["FASTCOV_REAL_DATA"]) as real:
        X, Y = (np.asarray(real[name], np.float64) for name in ("glomeruli", "mitral"))
        animals = real["glomerulus_animal"] if "glomerulus_animal" in real.files else None
    models = {name: {} for name in ("one", "no-x", "scaled", "one-gain", "groups", "gains", "gains+nuisance")}
    if animals is None:
        del models["groups"]
    models["only inhibition"] = {"bounds": (0, 1)}
    models |= {name: {} for name in ("free", "symmetric", "psd", "mixed")}
    for score in ("cross-pearson", "r2"):
        found = fc.compare(X, Y, models, groups=animals, repeats=6, score=score, shuffles=0)
        print(found, "\n")
        if figure and score == "cross-pearson":
            fc.plot.models(found).savefig(figure, dpi=130)
        for choice in ("nested", "best"):
            print(
                f"| {choice} ridges by {score} | mean R² | median R² | Pearson | λ |\n|---|---|---|---|---|"
            )
            for name in found.names:
                numbers = found.summary(name, choice)
                shown = (numbers[key] for key in ("r2_mean", "r2_median", "pearson_mean"))
                print(
                    f"| {name} | "
                    + " | ".join(f"{x:.2f}" for x in shown)
                    + f" | {found[name].best_ridge:.2g} |"
                )
            print()
    found = fc.compare(X, Y, ["one", "no-x", "gains", "free"], shuffles=99, nested=False)
    print("p, 99 shuffles:", {name: found.p(name) for name in found.names})
    started = time.perf_counter()
    fc.compare(X, Y, ["one", "one-gain", "gains", "gains+nuisance", "free"])
    print(f"five models, 5 folds x 6 λ, nested: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("null", "intervals", "truths", "recordings"))
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--figure")
    asked = parser.parse_args()
    if asked.what == "recordings":
        recordings(asked.figure)
    else:
        globals()[asked.what](asked.sets)
