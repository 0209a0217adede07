"""No public call wakes the threads of NumPy's own BLAS, in a process that imports NumPy first.

They would spin for a tenth of a second on the cores that the kernels need. Child processes call everything of
the library beside the threads of that pool, and the system tells whether one of them was given a core.
"""

import json
import os
import pathlib

import pytest
from cases import needs_jit, run_python, slow_but
from pools import TASKS

HERE = pathlib.Path(__file__).parent
# As a user's, and with NumPy's pool left as it is: what is shown holds whatever is done to it.
PLAIN = {
    "FASTCOV_KEEP_BLAS": "1",
    **dict.fromkeys(name for name in os.environ if name.startswith("OPENBLAS")),
}

pytestmark = [
    needs_jit,  # interpreted, kernels multiply with NumPy
    pytest.mark.skipif(
        not os.path.exists(f"{TASKS}/{os.getpid()}/schedstat"), reason="the system does not tell"
    ),
]


def run(script, **environment):
    """Output of a script that finds `pools`; skips where NumPy's BLAS has no threads."""
    output = run_python(f"import sys; sys.path.insert(0, {str(HERE)!r})\n{script}", **PLAIN | environment)
    if output.startswith("no pool"):
        pytest.skip("NumPy's BLAS has no threads of its own")
    return output


def woken(*groups):
    """Calls that woke a thread, each with how often, and how many calls there were."""
    *found, count = map(json.loads, run(f"from pool_calls import main; main({groups!r})").splitlines())
    return {name: turns for _, name, turns in found}, count


@pytest.mark.slow
def test_a_product_and_a_norm_of_numpy_are_seen():
    found, count = woken("controls")
    assert set(found) == {"product", "norm"}
    assert count == 2


@pytest.mark.slow
def test_one_norm_of_numpy_put_back_into_the_library_is_seen():
    found, count = woken("put-back")
    assert set(found) == {"fit linear"}
    assert count == 1


@pytest.mark.slow
@pytest.mark.covering(2)
@pytest.mark.parametrize("dtype", slow_but({"float64"}, ["float64", "float32"]))
@pytest.mark.parametrize("kind", slow_but({"fits"}, ["fits", "studies"]))
@pytest.mark.parametrize(
    "sizes",
    [("148x48", "871x52", "1004x187"), pytest.param(("30000x60",), marks=pytest.mark.slow)],
    ids="-".join,
)
def test_no_fit_or_study_wakes_numpys_threads(sizes, kind, dtype):
    found, count = woken(*(f"{kind} {size} {dtype}" for size in sizes))
    assert found == {}
    assert count >= 4 * len(sizes)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", slow_but({"float64"}, ["float64", "float32"]))
def test_no_penalty_or_quadratic_form_wakes_numpys_threads(dtype):
    found, count = woken(f"functions {dtype}")
    assert found == {}
    assert count > 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "needed"),
    [
        pytest.param("figures", "matplotlib", marks=pytest.mark.slow),
        pytest.param("workers", "distributed", marks=pytest.mark.slow),
        ("more", "numpy"),
    ],
)
def test_no_figure_worker_or_report_wakes_numpys_threads(group, needed):
    pytest.importorskip(needed)
    found, count = woken(group)
    assert found == {}
    assert count >= 3


@pytest.mark.slow
def test_vectors_of_30000_channels_do_not_wake_scipys_threads():
    """An iteration of pcg has six products of vectors, and with Γ as a matrix two with that."""
    output = run("""
from pools import Pool
from pool_calls import NUMPY, penalty_rows
SCIPY = Pool.of_scipy()
import numpy as np
from scipy.linalg import blas
from fastcov._compute import blas as own
from fastcov._model.ridge_penalty import Penalty

if not SCIPY.ids:
    print("no pool")
    raise SystemExit
V = np.ones((2, 30000))
penalty = Penalty(1.0, penalty_rows(30000))
for call in (
    lambda: blas.ddot(V[0], V[0]),
    lambda: own.dots(V, V),
    lambda: own.norms(V),
    lambda: own.squares(V.reshape(2, 150, 200)),
    lambda: own.add_scaled(V.copy(), [1.0, 2.0], V),
    lambda: penalty.products(V[:1]),
    lambda: penalty.quadratic(V[0]),
):
    turns = []
    with SCIPY.watched(turns):
        call()
    print(turns[0])
""")
    control, *turns = map(int, output.split())
    assert control > 0
    assert turns == [0] * 6
