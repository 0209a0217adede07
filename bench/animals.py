"""How often intervals hold the expected gain where cells come from animals: a table of docs/uncertainty.md.

    python bench/animals.py [--sets 200] [--draws 600]

Each animal has gains of its own, the true ones times exp(s · normal), and so its cells have something in
common. A data set is so many animals with 25 cells each, drawn anew. The *expected gain* is the mean over
`--draws` data sets of the fitted gain. Columns are the share of gains of live channels whose 95 % interval
holds it: over cells one by one; over animals, `cell_groups=`, by the jackknife and by 300 bootstraps; and
over the targets of the animals, of gains that these share.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import argparse
import dataclasses
import time
import warnings

import fastcov as fc

CELLS = 25  # of each animal
RIDGE = 0.1  # λ/λ_max
BOOTSTRAPS = 300
SETTINGS = [(spread, animals) for spread in (0.0, 0.5) for animals in (6, 12, 24)]
COLUMNS = (
    "gains of animals", "animals", "over cells", "over animals", "over animals, bootstrap",
    "shared gains, over targets", "the same, bootstrap",
)  # fmt: skip


def cells_of(sim: fc.datasets.Simulation, spread: float, animals: int, *seed: int) -> np.ndarray:
    """The cells of each animal (animals, CELLS, D)."""
    random = np.random.default_rng((7, *seed))
    found = []
    for k in range(animals):
        own = sim.gains * np.exp(spread * random.standard_normal(len(sim.gains)))
        found.append(dataclasses.replace(sim, gains=own).fresh_cells((*seed, k), n_cells=CELLS))
    return np.stack(found)


def targets_of(cells: np.ndarray, X: np.ndarray) -> np.ndarray:
    """The target of each animal."""
    return np.stack([fc.target_covariance(own, like=X) for own in cells])


def row(sim: fc.datasets.Simulation, spread: float, animals: int, sets: int, draws: int) -> list[float]:
    """Shares of intervals that hold the expected gain, in the order of COLUMNS."""
    live, D = sim.X.any(axis=1), sim.X.shape[1]
    ridge = fc.fit(sim.X, sim.S, relative_ridge=RIDGE).ridge
    pooled, shared = [], []
    for k in range(draws):
        cells = cells_of(sim, spread, animals, 1, k)
        pooled.append(fc.target_covariance(cells.reshape(-1, D), like=sim.X))
        shared.append(targets_of(cells, sim.X).mean(axis=0))
    expected = fc.fit(sim.X, np.stack(pooled), ridge=ridge).gains.mean(axis=0)
    expected_shared = fc.fit(sim.X, np.stack(shared), ridge=ridge).gains.mean(axis=0)
    held: list[list[float]] = [[] for _ in range(5)]
    labels = np.repeat(np.arange(animals), CELLS)
    for k in range(sets):
        cells = cells_of(sim, spread, animals, 2, k)
        Y = cells.reshape(-1, D)
        one = fc.fit(sim.X, responses=Y, ridge=ridge)
        several = fc.fit(sim.X, targets_of(cells, sim.X), ridge=ridge, shared=True)
        for place, (found, wanted) in enumerate((
            (one.uncertainty(Y), expected),
            (one.uncertainty(Y, cell_groups=labels), expected),
            (one.uncertainty(Y, cell_groups=labels, n_boot=BOOTSTRAPS, rng=k), expected),
            (several.uncertainty(by="targets"), expected_shared),
            (several.uncertainty(by="targets", n_boot=BOOTSTRAPS, rng=k), expected_shared),
        )):  # fmt: skip
            inside = (found.lower <= wanted) & (wanted <= found.upper)
            held[place].append(float(inside[live].mean()))
    return [float(np.mean(each)) for each in held]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=200, help="data sets with intervals")
    parser.add_argument("--draws", type=int, default=600, help="data sets of whose gains the mean is taken")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", fc.OvershootWarning)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    sim, start = fc.datasets.simulate(60, 20, rng=0), time.monotonic()
    for spread, animals in SETTINGS:
        shares = row(sim, spread, animals, asked.sets, asked.draws)
        alike = "all alike" if spread == 0 else f"exp({spread:g} · normal) apart"
        print(f"| {alike} | {animals} | {' | '.join(f'{100 * each:.1f} %' for each in shares)} |", flush=True)
    print(f"\n{asked.sets} data sets, {asked.draws} draws; {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
