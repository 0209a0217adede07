"""The rows of penalties and quadratic forms in the table: `python bench/layers.py [--pairs 25]`, two minutes.

Others run on as many threads as ours. Memory is what a fresh process holds at most beyond activations and the
gradient.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py  # noqa: F401

# isort: split
import argparse
from collections.abc import Iterator

from fastcov._bench._case import data
from fastcov._bench._cases import case
from fastcov._bench._children import PEAK, child
from fastcov._bench._timing import paired
from fastcov._timings.runs import NAIVE, OURS
from study import Row

LAYER, WIDE_LAYER, UNITS = (2000, 500), (4000, 250), (131_072, 64)
TORCH, EINSUM = "PyTorch", "NumPy einsum, optimised"
ROWS = [  # operation, at which size, beside what, in words, the aim
    ("mean-absolute-covariance", LAYER, NAIVE,
     "NumPy value and gradient / `mean_absolute_covariance`", "≥ 1.8"),
    ("decov", WIDE_LAYER, NAIVE, "NumPy value and gradient / `decov`", "≥ 12"),
    ("quadratic-forms", UNITS, NAIVE, "`np.einsum` / `quadratic_forms`", "≥ 25"),
    ("quadratic-forms", UNITS, EINSUM, "`np.einsum(optimize=True)` / `quadratic_forms`", "≥ 4"),
    ("mean-absolute-covariance", LAYER, TORCH,
     "PyTorch forward and backward / `mean_absolute_covariance`", "≥ 1.2"),
    ("decov", WIDE_LAYER, TORCH, "PyTorch forward and backward / `decov`", "≥ 1.2"),
    ("quadratic-forms-and-gradients", UNITS, TORCH,
     "PyTorch forward and backward / `quadratic_forms_and_gradients`", "≥ 1.2"),
]  # fmt: skip
MEMORY = (
    PEAK
    + """
import numpy as np
import fastcov as fc
random = np.random.default_rng(0)
fc.penalties.mean_absolute_covariance(random.standard_normal((1000, 500)), center={center})  # loads all of it
A = random.standard_normal((20000, 500))
start_peak()
value, gradient = fc.penalties.mean_absolute_covariance(A, center={center})
print((peak() - gradient.nbytes) / 1e6)
"""
)


def rows(pairs: int) -> Iterator[Row]:
    """What, at which size, the aim, the value and its format."""
    for operation, shape, other, what, bound in ROWS:
        found = case(operation, shape)
        if other not in found.runs:  # the library is not installed
            continue
        for name in (OURS, other):
            found.check(found.runs[name]())
        at = "L 512, Z 256, I 64" if shape == UNITS else f"{shape}"
        yield what, at, bound, paired(found.runs[other], found.runs[OURS], pairs), ".2f"
        del found
        data.cache_clear()
    for center in (True, False):
        value = child(MEMORY.format(center=center))
        what = f"peak memory of `mean_absolute_covariance(center={center})` beyond A and its gradient, MB"
        yield what, "(20000, 500)", "≤ 64", value, ".0f"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=25)
    print("| what | at | aim | measured |\n|---|---|---|---|")
    for what, at, bound, value, form in rows(parser.parse_args().pairs):
        print(f"| {what} | {at} | {bound} | {value:{form}} |", flush=True)


if __name__ == "__main__":
    main()
