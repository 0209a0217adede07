"""Measure in fresh processes the time of a first call, and the peak memory of a call."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from .._compute.environment import as_given
from ._operation import Key

# Code to run in a child before a measurement: `peak()` then returns the peak memory of a call beyond the
# memory in use before it. Linux only.
PEAK = """
def status(key):
    return 1024 * int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1])
def start_peak():
    global before
    open("/proc/self/clear_refs", "w").write("5")
    before = status("VmRSS")
def peak():
    return status("VmHWM") - before
"""
# Making the case counts as part of the first call: it finds a ridge, and products to count, and thus loads
# what the call would load.
_CASE = (
    PEAK
    + """
import json, os, sys, time, tracemalloc
operation, shape, dtype = json.loads(sys.argv[1])
import numpy
start = time.perf_counter()
import fastcov
from fastcov._bench._cases import OURS, case
imported = time.perf_counter()
run = case(operation, tuple(shape), dtype, peers=False).runs[OURS]
run()
first = time.perf_counter()
run()
warm = time.perf_counter()
found = {
    "first_call_seconds": first - imported,
    "first_call_seconds_with_import": first - start,
    "second_call_seconds": warm - first,
    "resident_peak_bytes": None,
}
if os.path.exists("/proc/self/clear_refs"):
    start_peak()
    run()
    found["resident_peak_bytes"] = peak()
tracemalloc.start()
run()
found["traced_peak_bytes"] = tracemalloc.get_traced_memory()[1]
print(json.dumps(found))
"""
)


def output(code: str, *arguments: str, **variables: str) -> str:
    """Return the output of a fresh Python process, with the user's environment variables and further ones.

    Raises RuntimeError with the last lines of its output if the process fails.
    """
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=as_given() | variables)
    if done.returncode:
        raise RuntimeError(f"A measuring process failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def child(code: str, runs: int = 0) -> float:
    """Return the median number that fresh processes print; the first of several only warms the caches."""
    values = [float(output(code)) for _ in range(runs + 1)]
    return statistics.median(values[1:] or values)


def in_fresh_process(key: Key) -> dict[str, float | None]:
    """Measure seconds from X to the first result, with and without the import, of a second call, and memory.

    NumPy is imported before, outside the clock, as in nearly all programs. Times are measured after the cache
    has been filled with compiled code. The resident peak is the peak memory of the process beyond its memory
    before the call. The traced peak is the memory that NumPy and Python allocated, without buffers of
    compiled code and BLAS. A number is None if the system does not report it.
    """
    found: dict[str, float | None] = json.loads(output(_CASE, json.dumps(key)))
    return found
