"""The numbers of docs/study.md: `FASTCOV_REAL_DATA=data.npz python examples/study.py`.

The file is that of when_to_trust.py, with the animal of each glomerulus. Without it, simulated responses are
taken. A number after the name of the script, as 19, is that of shuffles; 100 without.
"""

import os
import sys
import time

import numpy as np

import fastcov as fc

RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)

if path := os.environ.get("FASTCOV_REAL_DATA"):
    with np.load(path) as data:
        X, Y = data["glomeruli"], data["mitral"]
        animals = data["glomerulus_animal"]
else:
    sim = fc.datasets.simulate(60, 20, rng=0)
    X, Y = sim.X, sim.Y
    animals = np.arange(len(X)) % 3

shuffles = int(sys.argv[1]) if len(sys.argv) > 1 else 100
options = {"relative_ridges": RIDGES, "shuffles": shuffles}

started = time.perf_counter()
found = fc.study(X, Y, groups=animals, **options)
seconds = time.perf_counter() - started
print(found)
print(f"\n{seconds:.0f} s without page and figure")

best = fc.permutation_test(X, Y, **options).channels
print(f"q of at most 0.1 at the best ridge alone: {int((best.q <= 0.1).sum())} of {len(X)}")
print(f"the same over all ridges: {int((found.test.channels.q <= 0.1).sum())}")
print(f"of these, with an interval that leaves out one: {int(found.channels.changed.sum())}")

repeated = fc.study(X, Y, groups=animals, **{**options, "shuffles": 0}, repeats=6, nested=False)
cv = repeated.cv
each = {
    "gains of one": cv.baselines["one"],
    "one gain a group": repeated.groups.gains.moments,
    "one gain a channel": cv.scores["exact"].moments.at(cv.place("exact")),
}
for name, moments in each.items():
    pooled = float(moments.pooled(cv.score))
    folds = float(np.nanmean(moments.by_fold("pearson")))
    print(f"{name}: {cv.score} {pooled:.3f}; pearson in the mean over folds {folds:.3f}")
