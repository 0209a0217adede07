"""Timing on a noisy machine: paired, interleaved ratios, and fresh processes for time and memory."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

# Before a measurement in a child: `peak()` is then what a call held at most beyond what was there.
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


def paired(a: Callable[[], Any], b: Callable[[], Any], pairs: int) -> float:
    """Median of time(a) / time(b) over pairs of runs, interleaved A B B A in one process."""
    clock = time.perf_counter
    a(), b()
    ratios = []
    for i in range(pairs):
        took = {}
        for name, run in ([("a", a), ("b", b)], [("b", b), ("a", a)])[i % 2]:
            start = clock()
            result = run()
            took[name] = clock() - start
            del result  # freed outside the clock
        ratios.append(took["a"] / took["b"])
    return statistics.median(ratios)


def child(code: str, runs: int = 0) -> float:
    """Median of the number that a fresh process prints; the first run of several warms the caches."""
    values = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(runs + 1)
    ]
    return statistics.median(values[1:] or values)
