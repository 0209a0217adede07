"""What is done to threads of the NumPy that was imported first: that it takes, and that it breaks nothing."""

import os
import sys
import types

import numpy as np
import pytest
from cases import needs_jit, run_python
from optional import needs
from pools import TASKS
from test_pools import HERE, PLAIN

from fastcov._compute import blas_spin

pytestmark = [
    needs_jit,
    pytest.mark.skipif(not os.path.exists(TASKS), reason="the system does not tell of threads"),
]

# NumPy first, as users do, with a pool whose ids are known, and a product to check it by; all in integers.
FIRST = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from pools import Pool, threads
POOL = Pool.of_numpy()
import os, threading
import numpy as np
if not POOL.ids:
    print("no pool")
    raise SystemExit
A = np.random.default_rng(0).integers(-9, 10, (300, 300)).astype(float)
expected = np.einsum("ij,jk->ik", A, A)

def use():
    import fastcov as fc
    sim = fc.datasets.simulate(60, 8, rng=0)
    assert fc.fit(sim.X, sim.S, relative_ridge=0.1).residual < 1e-8

def words():
    from fastcov._compute import blas_spin
    return next(words for file, words in blas_spin.done.items() if "64" in file or len(blas_spin.done) == 1)

def right():
    return all(np.array_equal(A @ A, expected) for _ in range(5))

def kept():
    return set(POOL.ids) <= threads()
"""
SHORT = "idle threads spin 2**16 cycles, since fastcov was first used"


def run(script, **environment):
    """Lines of a script after FIRST; skips where NumPy's BLAS is no OpenBLAS of a wheel with threads."""
    plain = {**PLAIN, blas_spin.KEEP: None, "OMP_NUM_THREADS": None}
    output = run_python(FIRST + script, **{**plain, **environment})
    if output.startswith("no pool"):
        pytest.skip("NumPy's BLAS has no threads of its own")
    return output.splitlines()


def spin_time(**environment):
    """Nanoseconds of the threads after a product, the least of five."""
    (least,) = run(
        """
use()
before = threads()
A @ A
pool = POOL if kept() else Pool(before - {threading.get_native_id()})
times = []
for _ in range(5):
    pool.settle()
    first = pool.used()[0]
    A @ A
    pool.settle()
    times.append(pool.used()[0] - first)
print(min(times))
""",
        **environment,
    )
    return int(least)


@pytest.mark.slow
def test_the_spin_after_a_product_becomes_short_unless_it_is_to_be_kept():
    # 2**16 cycles in place of 2**26: a share of processor time, for what the product takes is in both.
    assert spin_time() < 0.2 * spin_time(FASTCOV_KEEP_BLAS="1")


@pytest.mark.slow
def test_threads_are_others_after_the_first_use_and_products_right():
    assert run("use(); print(words()); print(kept(), right())") == [SHORT, "False True"]


@pytest.mark.slow
def test_a_second_time_changes_nothing():
    lines = run("""
use()
before = threads()
from fastcov._compute import blas_spin
blas_spin.shorten_spins()
print(words())
print(threads() == before, right())
""")
    assert lines == ["idle threads spin 2**16 cycles, as OPENBLAS_THREAD_TIMEOUT says", "True True"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"FASTCOV_KEEP_BLAS": "1"}, "left alone, as FASTCOV_KEEP_BLAS says"),
        (
            {"OPENBLAS_THREAD_TIMEOUT": "20"},
            "idle threads spin 2**20 cycles, as OPENBLAS_THREAD_TIMEOUT says",
        ),
    ],
)
def test_what_a_user_set_is_left(environment, expected):
    assert run("use(); print(words()); print(kept(), right())", **environment) == [expected, "True True"]


@pytest.mark.slow
def test_what_a_user_set_after_numpy_was_imported_is_left():
    script = "os.environ['OPENBLAS_THREAD_TIMEOUT'] = '22'; use(); print(words()); print(kept(), right())"
    assert run(script) == ["left alone, as OPENBLAS_THREAD_TIMEOUT has been set to 22 since", "True True"]


@pytest.mark.slow
def test_it_is_not_done_while_another_thread_works():
    lines = run("""
import hashlib
from fastcov._compute import blas_spin
blas_spin.LONGEST_WAIT = 0.0
worker = threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha512", b"a", b"b", 3_000_000), daemon=True)
worker.start()
while not (worker.native_id and Pool([worker.native_id]).used()[0] > 1_000_000):
    pass
use()
assert worker.is_alive()
print(words())
print(kept(), right())
os._exit(0) if sys.stdout.flush() is None else None
""")
    assert lines == ["left alone: other threads were at work when fastcov was first used", "True True"]


@pytest.mark.slow
def test_threads_that_multiply_at_that_moment_go_on_with_right_products():
    lines = run(
        """
import ctypes, time
from fastcov._compute import blas_spin
from threadpoolctl import ThreadpoolController
blas_spin.LONGEST_WAIT = 0.02
(library,) = ThreadpoolController().select(internal_api="openblas").lib_controllers
routines = ctypes.PyDLL(library.filepath)
wrong, products, going = [], [], True

def multiply():
    while going:
        products.append(1)
        if not np.array_equal(A @ A, expected):
            wrong.append(1)

workers = [threading.Thread(target=multiply) for _ in range(2)]
for worker in workers:
    worker.start()
while len(products) < 300:
    os.environ.pop("OPENBLAS_THREAD_TIMEOUT", None)
    routines.openblas_read_env()  # as if it had read nothing
    os.environ["OPENBLAS_THREAD_TIMEOUT"] = blas_spin.SPIN
    blas_spin.shorten_spins()
going = False
for worker in workers:
    worker.join()
print(len(wrong), right())
""",
        OPENBLAS_THREAD_TIMEOUT="12",  # there are moments at which all sleep
    )
    assert lines == ["0 True"]


@pytest.mark.slow
def test_it_is_not_done_when_first_used_beside_the_main_thread():
    lines = run("""
worker = threading.Thread(target=use)
worker.start()
worker.join()
print(words())
print(kept(), right())
""")
    assert lines == ["left alone: fastcov was first used in another thread than the main one", "True True"]


@pytest.mark.slow
def test_a_worker_of_dask_leaves_them():
    pytest.importorskip("distributed")
    lines = run("""
import distributed
with (
    distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
    distributed.Client(cluster) as client,
):
    client.submit(use).result()
    print(words())
    print(kept(), client.submit(right).result())
""")
    assert lines[:2] == [
        "left alone: fastcov was first used in another thread than the main one",
        "True True",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("first", ["use()", "pass"], ids=["used before", "not used before"])
def test_a_fork_goes_on_in_parent_and_child(first):
    lines = run(f"""
{first}
child = os.fork()
if not child:
    use()
    os._exit(0 if right() else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
use()
print(words())
print(right())
""")
    assert lines == ["0", SHORT, "True"]


@pytest.mark.slow
def test_the_number_of_threads_of_a_user_is_kept():
    lines = run("""
from threadpoolctl import ThreadpoolController, threadpool_limits
(library,) = ThreadpoolController().select(internal_api="openblas").lib_controllers
most = library.num_threads
with threadpool_limits(1):
    use()
    print(words())
    print(library.num_threads, right())
print(library.num_threads == most, right())
""")
    assert lines == [SHORT, "1 True", "True True"]


@pytest.mark.slow
def test_one_thread_from_the_start_stays_one():
    script = f"""
import sys, threading, os
sys.path.insert(0, {str(HERE)!r})
import numpy as np
from pools import threads
before = threads()
import fastcov as fc
from fastcov._compute import jit, blas_spin
print([library.num_threads for library in jit.blas().lib_controllers], len(threads() - before))
print([words for file, words in blas_spin.done.items()])
"""
    threads, words = run_python(
        script, **{**PLAIN, blas_spin.KEEP: None}, OPENBLAS_NUM_THREADS="1"
    ).splitlines()
    assert threads == "[1, 1] 0"
    assert "left" not in words


@pytest.mark.parametrize("order", ["import torch; use()", "use(); import torch"], ids=["before", "after"])
def test_torch_multiplies_beside_it(order):
    needs("torch")
    lines = run(f"""
{order}
T = torch.from_numpy(A)
print(bool(torch.equal(T @ T, torch.from_numpy(expected))), right())
use()
print(bool(torch.equal(T @ T, torch.from_numpy(expected))), right())
""")
    assert lines == ["True True"] * 2


# --- libraries that are not as expected


def library(**other):
    known = {"filepath": "/nowhere/lib.so", "threading_layer": "pthreads", "num_threads": 2}
    return types.SimpleNamespace(**{**known, **other})


class Routines:
    """Those of a library that notes what is called; any of them may be wrong."""

    def __init__(self, reads=16, ends=True):
        self.reads, self.ends, self.value, self.called = reads, ends, 0, []
        self.running = types.SimpleNamespace(value=1)

    def spin(self):
        return self.value

    def read(self):
        self.called.append("read")
        self.value = self.reads

    def end(self):
        self.called.append("end")
        self.running.value = int(not self.ends)

    def start(self):
        self.called.append("start")
        self.running.value = 1


def shortened(monkeypatch, routines, **other):
    monkeypatch.setattr(blas_spin._Routines, "of", lambda file: routines)
    monkeypatch.setattr(blas_spin, "_rest", lambda: True)
    monkeypatch.setenv(blas_spin.VARIABLE, blas_spin.SPIN)
    monkeypatch.delenv(blas_spin.KEEP, raising=False)
    return blas_spin._shortened(library(**other))


def test_what_is_not_loaded_or_has_no_such_routines_is_left(monkeypatch):
    import _ctypes

    assert blas_spin._shortened(library()).startswith("left alone: /nowhere/lib.so")
    assert "undefined symbol" in blas_spin._shortened(library(filepath=_ctypes.__file__))
    assert blas_spin._shortened(library(threading_layer="openmp")) == "left alone: its threads are of openmp"


@pytest.mark.parametrize(
    ("routines", "called", "words"),
    [
        (Routines(), ["read", "end", "start"], SHORT),
        (Routines(reads=0), ["read"], "left alone: it does not read OPENBLAS_THREAD_TIMEOUT again"),
        (Routines(ends=False), ["read", "end"], "left alone: its threads did not end"),
    ],
    ids=["right", "does not read", "does not end"],
)
def test_a_routine_that_does_something_else_ends_it(monkeypatch, routines, called, words):
    assert shortened(monkeypatch, routines) == words
    assert routines.called == called


def test_a_number_of_threads_that_was_lost_is_set_again(monkeypatch):
    numbers = iter([3, 1])

    class Library(types.SimpleNamespace):
        num_threads = property(lambda self: next(numbers))

        def set_num_threads(self, n):
            self.number = n

    monkeypatch.setattr(sys.modules[__name__], "library", Library)
    found = Library(filepath="", threading_layer="pthreads")
    monkeypatch.setattr(sys.modules[__name__], "library", lambda **_: found)
    shortened(monkeypatch, Routines())
    assert found.number == 3


def test_nothing_is_done_elsewhere_than_on_linux(monkeypatch):
    monkeypatch.setattr(blas_spin, "done", {})
    monkeypatch.setattr(sys, "platform", "darwin")
    blas_spin.shorten_spins()
    assert blas_spin.done == {}


def test_a_thread_that_is_gone_counts_as_one_that_runs():
    assert blas_spin._sleep(f"{TASKS}/{np.iinfo(np.int32).max}/status") is None
    assert blas_spin._sleep(f"{TASKS}/{os.getpid()}/status") is None  # the one that asks, or its main one
