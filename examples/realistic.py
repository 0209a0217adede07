"""How near `simulate(realistic=True)` is to recordings.

    FASTCOV_REAL_DATA=data.npz python examples/realistic.py 10

The file holds responses of the input channels, `glomeruli` (N, D), and of another population, `mitral`
(M, D). Without it, the column of the recordings is left out. The number is that of seeds: a column of the
simulations has the mean over seeds, and in brackets the least and the largest.
"""

import os
import sys

import numpy as np

import fastcov as fc

RIDGES = (0.1, 0.03, 0.01, 0.003)


def reliability(Y, splits=50):
    """√ of the correlation of the covariances of two halves of the cells, for all cells."""
    rng, pairs = np.random.default_rng(0), np.triu_indices(Y.shape[1], 1)
    found = []
    for _ in range(splits):
        cells = rng.permutation(len(Y))[: len(Y) // 2 * 2].reshape(2, -1)
        found.append(np.corrcoef(*(fc.covariance(Y[half])[pairs] for half in cells))[0, 1])
    r = np.mean(found)
    return np.sqrt(max(2 * r / (1 + r), 0))


def figures(X, Y):
    """Statistics of responses and scores of held-out conditions, by name."""
    pairs = np.triu_indices(X.shape[1], 1)
    C, S = fc.covariance(X), fc.covariance(Y)
    eigenvalues = np.linalg.eigvalsh(S) / np.trace(S)
    centred = (Y - Y.mean()) / Y.std()
    cv = fc.cross_validate(X, Y, relative_ridges=RIDGES, folds=5, repeats=2, refit=None)
    found = {
        "Y: zeros": np.mean(Y == 0),
        "Y: share of responses < 0": np.mean(Y < 0) / np.mean(Y != 0),
        "Y: skewness": np.mean(centred**3),
        "S: largest eigenvalue over trace": eigenvalues[-1],
        "S: effective rank tr(S)² / tr(S²)": 1 / np.square(eigenvalues).sum(),
        "S: variances, standard deviation over mean": np.std(np.diag(S)) / np.mean(np.diag(S)),
        "C(1) and S: correlation of variances": np.corrcoef(np.diag(C), np.diag(S))[0, 1],
        "C(1) and S: correlation of covariances": np.corrcoef(C[pairs], S[pairs])[0, 1],
        "noise ceiling of the correlation, by halves of cells": reliability(Y),
    }
    for score in ("r2", "pearson", "cross-r2", "cross-pearson"):
        found[f"held out, `{score}`: exact gains, best λ"] = cv.summary("exact", score)[0].max()
        found[f"held out, `{score}`: gains of one"] = cv.baseline("one", score)[0]
        if score.endswith("r2"):
            found[f"held out, `{score}`: no X"] = cv.baseline("no-x", score)[0]
    return found


def simulated(realistic, seeds):
    """A column of means and ranges."""
    made = (fc.datasets.simulate(871, 52, rng=seed, realistic=realistic) for seed in range(seeds))
    all_figures = [figures(sim.X, sim.Y) for sim in made]
    values = {name: [each[name] for each in all_figures] for name in all_figures[0]}
    return {name: f"{np.mean(v):.2f} ({min(v):.2f} to {max(v):.2f})" for name, v in values.items()}


seeds = int((sys.argv[1:] or ["10"])[0])
columns = {"realistic": simulated(True, seeds), "default": simulated(False, seeds)}
if path := os.environ.get("FASTCOV_REAL_DATA"):
    with np.load(path) as data:
        real = figures(data["glomeruli"].astype(float), data["mitral"].astype(float))
    columns = {"recordings": {name: f"{value:.2f}" for name, value in real.items()}} | columns
print("| 871 channels, 642 cells (default: 871), 52 conditions |", *(f"{name} |" for name in columns))
print("|---|" + "---|" * len(columns))
for name in columns["realistic"]:
    print(f"| {name} |", *(f"{column[name]} |" for column in columns.values()))
