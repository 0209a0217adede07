"""How often intervals of gains hold what they are of: the table of docs/identifiability.md.

    python bench/intervals.py [--sets 200] [--draws 1000] [--only REGEX]

Cells are drawn anew from a simulation whose X and gains stay as they are. The *expected gain* of a channel is
the mean of the fitted gain over `--draws` such draws. Of `--sets` other draws each has its fit and intervals:
coverage is the share of gains of live channels whose 95 % interval holds the expected gain. Beside it stand
the coverage of the true gain, for all channels and for those of high resolution; the error that the jackknife
says, over the standard deviation of gains over draws; and over that of a bootstrap of the same cells.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import argparse
import dataclasses
import re
import time
import warnings

import fastcov as fc

LEVEL = 0.95
RESOLVED = 0.8
BATCH = 250  # draws that are fitted in one call
BOOTSTRAPPED = 5  # data sets of each setting that are bootstrapped, too
BOOTSTRAPS = 300


@dataclasses.dataclass(frozen=True)
class Setting:
    """A simulation and a fit of it."""

    realistic: bool
    cells: int
    method: str
    relative_ridge: float

    @property
    def name(self) -> str:
        shape = "realistic, (148, 48)" if self.realistic else "default, (60, 20)"
        return f"{shape}, {self.cells} cells, {self.method}, {self.relative_ridge:g}"

    def simulation(self) -> fc.datasets.Simulation:
        """The truth."""
        shape = (148, 48) if self.realistic else (60, 20)
        return fc.datasets.simulate(*shape, rng=0, realistic=self.realistic)

    def cells_of(self, sim: fc.datasets.Simulation, *seed: int) -> np.ndarray:
        """A draw of its cells."""
        return sim.fresh_cells(seed, n_cells=self.cells)

    def fit(self, X: np.ndarray, **target: object) -> fc.Fit:
        """The fit of a target, or of responses."""
        return fc.fit(X, **target, method=self.method, relative_ridge=self.relative_ridge)


# As many cells as recordings have; and, in the last two, few of them, of which few make most of the target.
SETTINGS = [
    Setting(False, 300, "linear", 0.1),
    Setting(False, 300, "exact", 0.1),
    Setting(True, 642, "exact", 0.1),
    Setting(True, 642, "exact", 0.01),
    Setting(False, 60, "exact", 0.1),
    Setting(True, 109, "exact", 0.01),
]
COLUMNS = (
    "simulation, method, λ/λ_max", "expected gain held", "single channels, 5 % to 95 %", "error / spread",
    "error / bootstrap", "true gain held", f"with resolution > {RESOLVED:g}",
)  # fmt: skip


def draws(sim: fc.datasets.Simulation, setting: Setting, n: int) -> np.ndarray:
    """Gains fitted to n draws of cells (n, N)."""
    found = []
    for start in range(0, n, BATCH):
        seeds = range(start, min(start + BATCH, n))
        S = np.stack([fc.target_covariance(setting.cells_of(sim, 1, seed), like=sim.X) for seed in seeds])
        found.append(setting.fit(sim.X, S=S).gains)
    return np.concatenate(found)


def row(setting: Setting, sets: int, n: int) -> str:
    """The measured row of a setting."""
    sim = setting.simulation()
    live = sim.X.any(axis=1)
    scale = np.trace(fc.covariance(sim.X)) / np.trace(fc.covariance(sim.X, gains=sim.gains))
    true = np.sqrt(scale) * sim.gains[live]
    gains = draws(sim, setting, n)[:, live]
    expected, spread = gains.mean(axis=0), gains.std(axis=0, ddof=1)
    held, held_true, resolved, errors, ratios = [], [], [], [], []
    for seed in range(sets):
        Y = setting.cells_of(sim, 2, seed)
        fit = setting.fit(sim.X, responses=Y)
        found = fit.uncertainty(Y, by="cells", level=LEVEL)
        lower, upper = found.lower[live], found.upper[live]
        held.append((lower <= expected) & (expected <= upper))
        held_true.append((lower <= true) & (true <= upper))
        resolved.append(found.resolution[live] > RESOLVED)
        errors.append(found.se[live])
        if seed < BOOTSTRAPPED:
            boot = fit.uncertainty(Y, by="cells", n_boot=BOOTSTRAPS, rng=seed)
            ratios.append(np.median(found.se[live] / boot.se[live]))
    by_channel = np.mean(held, axis=0)
    high = np.array(held_true)[np.array(resolved)]
    cells = [
        f"{100 * np.mean(held):.1f} %",
        f"{100 * np.quantile(by_channel, 0.05):.0f} to {100 * np.quantile(by_channel, 0.95):.0f} %",
        f"{np.median(np.sqrt(np.square(errors).mean(axis=0)) / spread):.2f}",
        f"{np.median(ratios):.2f}",
        f"{100 * np.mean(held_true):.0f} %",
        f"{100 * high.mean():.0f} % of {100 * np.mean(resolved):.0f} %" if high.size else "none",
    ]
    return " | ".join((setting.name, *cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=200, help="data sets with intervals")
    parser.add_argument("--draws", type=int, default=1000, help="data sets of whose gains the mean is taken")
    parser.add_argument("--only", metavar="REGEX", default="", help="settings in whose name this is found")
    asked = parser.parse_args()
    warnings.simplefilter("ignore", fc.OvershootWarning)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    start = time.monotonic()
    for setting in SETTINGS:
        if re.search(asked.only, setting.name):
            print(f"| {row(setting, asked.sets, asked.draws)} |", flush=True)
    print(f"\n{asked.sets} data sets, {asked.draws} draws; {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
