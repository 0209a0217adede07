"""Fresh processes: what a first call takes, and what memory a call holds at most."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from .._compute.environment import as_given
from ._operation import Key

# Before a measurement in a child: `peak()` is then what a call held at most beyond what was there. Of Linux.
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
# Making the case counts as part of the first call: it finds a ridge, and products to be counted, and so loads
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
    """What a fresh Python process prints, with the variables that this one was given, and others.

    Raises RuntimeError with its last words where it fails.
    """
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=as_given() | variables)
    if done.returncode:
        raise RuntimeError(f"A measuring process failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def child(code: str, runs: int = 0) -> float:
    """Median of the number that a fresh process prints; the first run of several warms the caches."""
    values = [float(output(code)) for _ in range(runs + 1)]
    return statistics.median(values[1:] or values)


def in_fresh_process(key: Key) -> dict[str, float | None]:
    """Seconds from X to the first result, without and with the import, and of a second call; peaks of bytes.

    NumPy is imported before, outside the clock, as in nearly all programs.
    The seconds are those of a cache that holds the compiled code, once it has been filled. The resident peak
    is what the process held beyond what it held before the call, the traced one what NumPy and Python
    allocated: without buffers of compiled code and BLAS. None where the system does not say.
    """
    found: dict[str, float | None] = json.loads(output(_CASE, json.dumps(key)))
    return found
