"""How near noise ceilings are to what the true covariance scores: the figures of docs/trials.md.

    python bench/ceiling.py [--sets 150] [--only REGEX]

Each row draws `--sets` data sets of a population whose covariance is known. *Reached* is the mean score of
that covariance as a prediction of the one of the data, and *ceiling* the mean of `fc.noise_ceiling`, both of
`pearson`. Beside them stand the largest difference of the two means over scores, ceiling less reached, and
how often the band holds the score that was reached (of `pearson`).

By cells, the covariance is that of the population, and scores are all. By trials, it is what is expected of
these very cells: their covariance, and that of noise over the number of trials. Scores then are those of
pairs of two conditions. *Noise* is the variance of noise in a trial over that of the signal; where conditions
share it, half of it is of three factors.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import argparse
import dataclasses
import itertools
import re
import time

import fastcov as fc

FOLDS = 5
FACTORS = 5
WITH_VARIANCES = ("r2", "r2-diagonal", "cosine")
COLUMNS = ("population", "reached", "ceiling", "largest difference", "of", "band holds")


@dataclasses.dataclass(frozen=True)
class Cells:
    """A population of which cells are drawn: few factors and noise of each condition."""

    kind: str
    n_cells: int
    by = "cells"

    @property
    def name(self) -> str:
        return f"by cells, {self.kind}, {self.n_cells} cells"

    def draw(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Responses, and the covariance that they are expected to have."""
        D = 20
        loadings = 0.5 * np.random.default_rng(1).standard_normal((D, FACTORS))
        sd = 1 + np.arange(D) / D
        factors = random.standard_normal((self.n_cells, FACTORS))
        variance = 1.0
        if self.kind == "heavy-tailed":  # Student's t with 5 degrees of freedom has a variance of 5/3
            factors *= random.standard_t(5, (self.n_cells, 1))
            variance = 5 / 3
        Y = factors @ loadings.T + sd * random.standard_normal((self.n_cells, D))
        return Y, variance * loadings @ loadings.T + np.diag(sd**2)


@dataclasses.dataclass(frozen=True)
class Trials:
    """Cells whose responses are drawn in several trials."""

    noise: float
    n_trials: int
    shared: bool = False
    by = "trials"

    @property
    def name(self) -> str:
        return f"by trials, {self.n_trials} trials, noise {self.noise:g}{', shared' if self.shared else ''}"

    def draw(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Responses, and the covariance that they are expected to have."""
        M, D, T = 60, 15, self.n_trials
        fixed = np.random.default_rng(1)
        loadings, common = fixed.standard_normal((D, FACTORS)), fixed.standard_normal((D, 3))
        covariance = np.eye(D)
        if self.shared:
            common /= np.sqrt(np.square(common).sum(axis=1, keepdims=True))
            covariance = 0.5 * (np.eye(D) + common @ common.T)
        covariance *= self.noise * np.square(loadings).sum() / D
        cells = random.standard_normal((M, FACTORS)) @ loadings.T
        noise = random.standard_normal((T, M, D)) @ np.linalg.cholesky(covariance).T
        return cells + noise, np.cov(cells.T) + covariance / T


SETTINGS = [
    *itertools.starmap(Cells, itertools.product(("normal", "heavy-tailed"), (60, 200))),
    *itertools.starmap(Trials, itertools.product((0.5, 5.0), (2, 3, 6), (False, True))),
]


def compared(C: np.ndarray, score: str) -> np.ndarray:
    """What a score compares of a covariance of trace 1, as a vector."""
    D = len(C)
    diagonal, pairs = np.diag(C), C[np.triu_indices(D, 1)]
    if score in ("r2", "cosine"):  # of held-out blocks: all variances, and few of the pairs
        sizes = [len(part) for part in np.array_split(np.arange(D), FOLDS)]
        share = sum(k * (k - 1) for k in sizes) / (D * (D - 1))
        return np.concatenate([diagonal, np.sqrt(2 * share) * pairs])
    if score == "r2-diagonal":
        return diagonal
    if score.endswith("rsa"):
        pairs = (C / np.sqrt(np.outer(diagonal, diagonal)))[np.triu_indices(D, 1)]
    return pairs if score in ("cross-r2", "cross-cosine") else pairs - pairs.mean()


def reached(expected: np.ndarray, Y: np.ndarray, score: str) -> float:
    """The score of a covariance as a prediction of that of responses."""
    S = np.cov(Y.T)
    p, s = (compared(C / np.trace(C), score) for C in (expected, S))
    if "r2" in score:
        return float(1 - np.square(p - s).sum() / np.square(s).sum())
    return float(p @ s / np.sqrt((p @ p) * (s @ s)))


def row(setting: Cells | Trials, sets: int) -> str:
    """The measured row of a setting."""
    random, held = np.random.default_rng(0), []
    found: dict[str, list[tuple[float, float]]] = {}
    for k in range(sets):
        Y, expected = setting.draw(random)
        ceiling = fc.noise_ceiling(Y, by=setting.by, folds=FOLDS, rng=k)
        mean = Y if Y.ndim == 2 else Y.mean(axis=0)
        for score in ceiling.reliability:
            if setting.by == "trials" and score in WITH_VARIANCES:
                continue
            both = reached(expected, mean, score), ceiling.ceiling(score)
            found.setdefault(score, []).append(both)
        low, high = ceiling.band("pearson")
        held.append(low <= found["pearson"][-1][0] <= high)
    means = {score: np.mean(both, axis=0) for score, both in found.items()}
    differences = {score: ceiling - true for score, (true, ceiling) in means.items()}
    most = max(differences, key=lambda score: abs(differences[score]))
    cells = [*(f"{each:.3f}" for each in means["pearson"]), f"{differences[most]:+.3f}", f"`{most}`"]
    return " | ".join([setting.name, *cells, f"{100 * np.mean(held):.0f} %"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=150, help="data sets of each population")
    parser.add_argument("--only", metavar="REGEX", default="", help="populations in whose name this is found")
    asked = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    start = time.monotonic()
    for setting in SETTINGS:
        if re.search(asked.only, setting.name):
            print(f"| {row(setting, asked.sets)} |", flush=True)
    print(f"\n{asked.sets} data sets; {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
