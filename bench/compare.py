"""How often a comparison of models errs: where nothing predicts, where two models are alike, and which one wins.

    python bench/compare.py null --sets 200
    python bench/compare.py alike --sets 200
    python bench/compare.py truths --sets 50

`null` counts, of data sets in which X says nothing of Y, how many have a p of 0.05 for each model. `alike`
compares two models that are alike: the gains of one half of the channels, or of the other, drawn at random. It
counts how often the interval of their difference leaves out 0, and in how many of these sets p of shuffled
conditions is 0.05. `truths` simulates Y from one of the models, and counts how often each model scores highest.
They print the tables of docs/compare.md.
"""

from __future__ import annotations

import argparse
import itertools
import warnings

import numpy as np

import fastcov as fc

N, M, D = 40, 200, 24
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
FOLDS = 5
LEVEL = 0.05


def responses(rng, n, rank=8, decay=0.85, noise=0.5):
    """Channels of a few patterns over conditions, and noise of their own."""
    patterns = rng.standard_normal((rank, D)) * decay ** np.arange(rank)[:, np.newaxis]
    A = rng.standard_normal((n, rank)) @ patterns
    return A + noise * A.std() * rng.standard_normal(A.shape)


def measured(rng, signal, noise=0.5, cells=M):
    """M cells, each a random mixture of the channels of a signal, with noise."""
    centred = signal - signal.mean(axis=0)
    Y = rng.standard_normal((cells, len(signal))) @ centred / np.sqrt(len(signal))
    return Y + noise * Y.std() * rng.standard_normal(Y.shape)


def through_gains(rng, X, spread=0.8):
    return measured(rng, np.exp(spread * rng.standard_normal(len(X)))[:, np.newaxis] * X)


def through_one_gain(rng, X):
    return measured(rng, X)


def through_connections(rng, X, size=1.0, rank=4):
    """Y = (I + W) X with a W of low rank that maps patterns of channels to others."""
    W = rng.standard_normal((len(X), rank)) @ rng.standard_normal((rank, len(X))) / (np.sqrt(rank) * len(X))
    return measured(rng, X + size * np.sqrt(len(X)) * (W @ X))


def compared(X, Y, models, seed, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fc.compare(X, Y, models, rng=seed, folds=FOLDS, **options)


def halves(rng):
    """Two models: gains of one half of the channels, the others at one, and the reverse."""
    held = np.zeros(N, bool)
    held[rng.permutation(N)[: N // 2]] = True
    low, high = np.where(held, 1.0, -np.inf), np.where(held, 1.0, np.inf)
    other_low, other_high = np.where(held, -np.inf, 1.0), np.where(held, np.inf, 1.0)
    grid = {"relative_ridges": RIDGES}
    return {
        "first": {"bounds": (low, high), **grid},
        "second": {"bounds": (other_low, other_high), **grid},
    }


def alike(sets):
    for repeats, folds in itertools.product((1, 5), (5,)):
        outside = dict.fromkeys(("nested", "best"), 0)
        tested = 0
        for seed in range(sets):
            rng = np.random.default_rng([seed, 1])
            X = responses(rng, N)
            Y = through_gains(rng, X)
            found = compared(X, Y, halves(rng), seed, repeats=repeats, shuffles=19 if repeats == 1 else 0)
            for choice in outside:
                each = found.difference("first", "second", choice=choice)
                outside[choice] += not each.lower <= 0.0 <= each.upper
            p = found.difference("first", "second").p_shuffled
            tested += p is not None and p <= LEVEL
        print(
            f"{folds} folds x {repeats}: interval leaves out 0: ",
            {k: f"{v / sets:.0%}" for k, v in outside.items()},
            f"p_shuffled {tested / sets:.0%}",
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("null", "alike", "truths"))
    parser.add_argument("--sets", type=int, default=50)
    asked = parser.parse_args()
    globals()[asked.what](asked.sets)
