"""Shortens the spin of BLAS threads that already run, those of a NumPy that was imported before fastcov.

Idle threads of OpenBLAS spin for a tenth of a second after each product, on the cores that kernels need.
OpenBLAS reads OPENBLAS_THREAD_TIMEOUT when it is loaded, so the value that `fastcov/__init__.py` sets comes
too late for NumPy's. The library in the wheels exports one function that makes it read the variable again
(`openblas_read_env`), one that ends its threads (`blas_thread_shutdown_`, which each fork of a process calls
as well), and one that starts them. Afterwards its products are as fast as before (2.8 ms at 600 x 600, 0.14
at 200), and a fit of (871, 52) right after a product takes 1.03 times as long as alone, in place of 2 to 10.
Spins from 2**4 to 2**16 cycles are all as good.

This must not happen while the library works for another thread. So it is done only on the main thread, and
at a moment in which every other thread of the process sleeps. This thread holds the interpreter lock (GIL)
meanwhile, so that no other thread can begin. Linux tells which threads sleep. On other systems, and where
anything is not as expected, everything stays as it is.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from threadpoolctl import LibController, ThreadpoolController

VARIABLE, SPIN = "OPENBLAS_THREAD_TIMEOUT", "16"  # as `fastcov/__init__.py` sets it
KEEP = "FASTCOV_KEEP_BLAS"
# Folders in which the wheels of NumPy and SciPy keep the library.
BUNDLES = ("numpy.libs", "scipy.libs")
TASKS = "/proc/self/task"
# Longest wait, in seconds, until other threads sleep: a spin takes some 0.1.
LONGEST_WAIT = 0.3
# Switch interval of the interpreter meanwhile, in seconds: far more than the milliseconds that are needed.
UNDISTURBED = 0.05

# For each library, by its file name: what was done, or why nothing was done. `fastcov doctor` shows it.
done: dict[str, str] = {}


def shorten_spins() -> None:
    """Shorten the spin of NumPy's and SciPy's BLAS threads where that is safe; `done` records the outcome."""
    if sys.platform != "linux":
        return
    for library in ThreadpoolController().select(internal_api="openblas").lib_controllers:
        folder, name = os.path.split(library.filepath)
        if os.path.basename(folder) in BUNDLES:
            done[name] = _shortened(library)


@dataclasses.dataclass(frozen=True)
class _Routines:
    """The functions of a library that are called while the interpreter lock (GIL) is held."""

    spin: Callable[[], int]  # the value it has read: the base-2 logarithm of cycles, or 0 for its default
    read: Callable[[], object]
    end: Callable[[], object]
    start: Callable[[], object]
    running: ctypes.c_int  # whether there are threads

    @classmethod
    def of(cls, file: str) -> _Routines:
        """Find them; raises OSError, AttributeError or ValueError where the library lacks one."""
        library = ctypes.PyDLL(file, mode=os.RTLD_NOLOAD)
        return cls(
            library.openblas_thread_timeout, library.openblas_read_env,
            library.blas_thread_shutdown_, library.blas_thread_init,
            ctypes.c_int.in_dll(library, "blas_server_avail"),
        )  # fmt: skip


def _shortened(library: LibController) -> str:
    """Shorten the spin of one library; says what was done, or why nothing was done."""
    if library.threading_layer != "pthreads":
        return f"left alone: its threads are of {library.threading_layer}"
    try:
        routines = _Routines.of(library.filepath)
    except (OSError, AttributeError, ValueError) as error:
        return f"left alone: {error}"
    if spin := routines.spin():
        return f"idle threads spin 2**{spin} cycles, as {VARIABLE} says"
    if os.environ.get(KEEP, "0") not in ("", "0"):
        return f"left alone, as {KEEP} says"
    if os.environ.get(VARIABLE) != SPIN:
        return f"left alone, as {VARIABLE} has been set to {os.environ.get(VARIABLE)} since"
    if threading.current_thread() is not threading.main_thread():
        return "left alone: fastcov was first used in another thread than the main one"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "left alone: this Python runs threads at the same time"
    had, threads, interval = routines.running.value, library.num_threads, sys.getswitchinterval()
    sys.setswitchinterval(UNDISTURBED)
    try:
        if not _rest():
            return "left alone: other threads were at work when fastcov was first used"
        routines.read()
        if routines.spin() != int(SPIN):
            return f"left alone: it does not read {VARIABLE} again"
        if had:  # a library that is held at one thread has no threads to end
            routines.end()
            if routines.running.value:
                return "left alone: its threads did not end"
            routines.start()
    finally:
        sys.setswitchinterval(interval)
    if library.num_threads != threads:
        library.set_num_threads(threads)
    return f"idle threads spin 2**{SPIN} cycles, since fastcov was first used"


def _rest() -> bool:
    """Wait until all other threads sleep; True if they do. This thread has held the GIL since then."""
    deadline = time.perf_counter() + LONGEST_WAIT
    while not _others_sleep():
        if time.perf_counter() > deadline:
            return False
        time.sleep(0.01)
    return True


def _others_sleep() -> bool:
    """Whether there was a moment in which no other thread ran; this thread has held the GIL since then."""
    others = set(os.listdir(TASKS)) - {str(threading.get_native_id())}
    first = {thread: _sleep(f"{TASKS}/{thread}/status") for thread in others}
    if None in first.values():
        return False
    # A thread that woke in between has other counts of switches; a new one raises the number of threads.
    again = {thread: _sleep(f"{TASKS}/{thread}/status") for thread in others}
    return first == again and _field(_read("/proc/self/status"), b"Threads:") == b"%d" % (len(others) + 1)


def _sleep(status: str) -> tuple[bytes, bytes] | None:
    """How often a sleeping thread has given up its core, voluntarily or not; None for one that runs."""
    lines = _read(status)
    if not _field(lines, b"State:").startswith(b"S"):
        return None
    return _field(lines, b"voluntary_ctxt_switches:"), _field(lines, b"nonvoluntary_ctxt_switches:")


def _field(lines: bytes, name: bytes) -> bytes:
    return next((line[len(name) :].strip() for line in lines.splitlines() if line.startswith(name)), b"")


_C: Any = ctypes.PyDLL(None) if sys.platform == "linux" else None


def _read(path: str) -> bytes:
    """Read a small file without releasing the GIL, which Python's own reading would release."""
    file = _C.open(path.encode(), os.O_RDONLY | os.O_CLOEXEC)
    if file < 0:  # the thread has ended
        return b""
    buffer = ctypes.create_string_buffer(8192)
    size = _C.read(file, buffer, ctypes.c_size_t(len(buffer)))
    _C.close(file)
    return buffer.raw[: max(size, 0)]
