"""pytest-benchmark over all cases: `pytest bench`, one group an operation, size and precision.

    pytest bench -k "gram and 1004x187"     some of it
    pytest bench --no-children              without first calls and memory, which take a fresh process each

Each result is checked. For ratios use `fastcov bench` or `python bench/table.py`: sequential timings on a
shared machine drift by more than what they are to show.
"""

import numpy as np  # first, as in nearly all programs  # noqa: F401

# isort: split
import functools
import time

import pytest

import fastcov as fc
from fastcov._bench._cases import OPERATIONS, SUITES, case
from fastcov._bench._children import in_fresh_process
from fastcov._bench._peers import PEERS
from fastcov._timings.runs import FLOOR, NAIVE, OURS
from fastcov.cli._doctor import examine

# Seconds of a benchmark, and the rounds that are neither too few to mean anything nor more than help.
BUDGET, FEWEST, MOST = 2.0, 3, 25

RUNS = [
    (key, run)
    for key in SUITES["full"]
    for run in (OURS, NAIVE, FLOOR, *PEERS.get(OPERATIONS[key[0]].peers, ()))
]


def name(key, run):
    operation, (N, D), dtype = key
    return f"{operation}-{N}x{D}-{dtype}-{run}"


@functools.lru_cache(maxsize=1)
def made(key):
    """The case of all its runs, which follow each other."""
    return case(*key)


@functools.cache
def machine():
    report = examine()
    return {part: report[part] for part in ("versions", "platform", "cores", "numba", "blas")}


@pytest.mark.parametrize(("key", "implementation"), RUNS, ids=[name(*each) for each in RUNS])
def test_speed(benchmark, request, key, implementation):
    found = made(key)
    if implementation not in found.runs:
        pytest.skip(found.skipped.get(implementation, "there is none"))
    run = found.runs[implementation]
    start = time.perf_counter()
    result = run()  # compiles, and touches what is to be touched
    first = time.perf_counter() - start
    if implementation != FLOOR:
        found.check(result)
    del result
    benchmark.group = found.name
    benchmark.extra_info.update(machine(), fastcov=fc.__version__, flops=found.flops, nbytes=found.nbytes)
    if implementation == OURS and not benchmark.disabled and not request.config.getoption("no_children"):
        benchmark.extra_info.update(in_fresh_process(key))
    rounds = int(min(MOST, max(FEWEST, BUDGET / first)))
    benchmark.pedantic(run, rounds=rounds, warmup_rounds=1 if first < BUDGET / MOST else 0)
