"""pytest-benchmark suites: `pytest bench`, one group an operation and size.

For ratios use `python bench/table.py`: sequential timings on a shared machine drift by more than
what they are to show.
"""

import fastcov as fc  # first, as in operations.py

# isort: split
import numba
import numpy as np
import pytest
import scipy

from fastcov._jit import blas
from operations import GROUPS, SIZES, case

CASES = [(group, shape) for group in GROUPS for shape in SIZES]
CASES += [("loss", (8000, 187)), ("losses", (148, 48))]
CASES += [(group, shape) for group in ("pcg", "application") for shape in [(8000, 187), (4000, 100)]]


@pytest.mark.parametrize("implementation", ["ours", "naive", "floor"])
@pytest.mark.parametrize(("group", "shape"), CASES, ids=lambda value: str(value).replace(", ", "x"))
def test_speed(benchmark, group, shape, implementation):
    found = case(group, shape)
    run = getattr(found, implementation)
    if run is None:
        pytest.skip("there is none, or G and its temporaries do not fit")
    result = run()  # compiles, and touches what is to be touched
    if implementation == "ours":
        found.check(result)
    benchmark.group = found.name
    benchmark.extra_info.update(
        fastcov=fc.__version__, numpy=np.__version__, scipy=scipy.__version__, numba=numba.__version__,
        numba_threads=numba.get_num_threads(), blas=[library["version"] for library in blas().info()],
        blas_threads=[library["num_threads"] for library in blas().info()],
    )  # fmt: skip
    slow = implementation == "naive" and shape[0] * shape[1] ** 2 > 1e7
    benchmark.pedantic(run, rounds=3 if slow else 25, warmup_rounds=0 if slow else 3)
