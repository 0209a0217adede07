"""A short spin for BLAS threads that are there already: those of the NumPy that was imported first.

Idle threads of OpenBLAS spin for a tenth of a second after each product, on the cores that kernels need. It
reads OPENBLAS_THREAD_TIMEOUT when it is loaded, so that of `fastcov/__init__.py` comes too late for NumPy's.
The wheels' library exports what makes it read it again (`openblas_read_env`), what ends its threads
(`blas_thread_shutdown_`, which each fork of a process calls as well) and what starts them. Its products are
as fast then (2.8 ms at 600 x 600, 0.14 at 200), and a fit of (871, 52) right after one takes 1.03 times as
long as alone, in place of 2 to 10. Of spins from 2**4 to 2**16 cycles all are as good.

It must not happen while the library works for some other thread. So only on the main thread, and at a
moment in which every other thread of the process sleeps, while this one keeps the lock of the interpreter, so
that none can begin. Linux tells; elsewhere, and where anything is not as expected, all stays as it is.
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
# Folders in which the wheels of NumPy and SciPy bring the library.
BUNDLES = ("numpy.libs", "scipy.libs")
TASKS = "/proc/self/task"
# Seconds to wait for other threads to sleep: a spin takes some 0.1.
LONGEST_WAIT = 0.3
# Seconds before this thread has to let others run: far more than the milliseconds that are needed.
UNDISTURBED = 0.05

# What was done to each library, or why it was left, by the name of its file: for `fastcov doctor`.
done: dict[str, str] = {}


def shorten_spins() -> None:
    """Have the threads of NumPy's BLAS, and of SciPy's, spin briefly where that is safe; `done` says it."""
    if sys.platform != "linux":
        return
    for library in ThreadpoolController().select(internal_api="openblas").lib_controllers:
        folder, name = os.path.split(library.filepath)
        if os.path.basename(folder) in BUNDLES:
            done[name] = _shortened(library)


@dataclasses.dataclass(frozen=True)
class _Routines:
    """What is called of a library, while the lock of the interpreter is kept."""

    spin: Callable[[], int]  # what it has read: the logarithm of cycles, 0 for its default
    read: Callable[[], object]
    end: Callable[[], object]
    start: Callable[[], object]
    running: ctypes.c_int  # whether there are threads

    @classmethod
    def of(cls, file: str) -> _Routines:
        """Raises OSError, AttributeError or ValueError where there are no such."""
        library = ctypes.PyDLL(file, mode=os.RTLD_NOLOAD)
        return cls(
            library.openblas_thread_timeout, library.openblas_read_env,
            library.blas_thread_shutdown_, library.blas_thread_init,
            ctypes.c_int.in_dll(library, "blas_server_avail"),
        )  # fmt: skip


def _shortened(library: LibController) -> str:
    """What was done, or why nothing."""
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
        if had:  # one that is held at one thread has none
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
    """Wait until all other threads sleep; the lock of the interpreter is then kept since they do."""
    deadline = time.perf_counter() + LONGEST_WAIT
    while not _others_sleep():
        if time.perf_counter() > deadline:
            return False
        time.sleep(0.01)
    return True


def _others_sleep() -> bool:
    """Whether there was a moment in which no thread but this one ran, and the lock is kept since."""
    others = set(os.listdir(TASKS)) - {str(threading.get_native_id())}
    first = {thread: _sleep(f"{TASKS}/{thread}/status") for thread in others}
    if None in first.values():
        return False
    # One that woke between has been counted, and one that started too.
    again = {thread: _sleep(f"{TASKS}/{thread}/status") for thread in others}
    return first == again and _field(_read("/proc/self/status"), b"Threads:") == b"%d" % (len(others) + 1)


def _sleep(status: str) -> tuple[bytes, bytes] | None:
    """How often a thread gave up its core, by itself or not, if it sleeps; None for one that runs."""
    lines = _read(status)
    if not _field(lines, b"State:").startswith(b"S"):
        return None
    return _field(lines, b"voluntary_ctxt_switches:"), _field(lines, b"nonvoluntary_ctxt_switches:")


def _field(lines: bytes, name: bytes) -> bytes:
    return next((line[len(name) :].strip() for line in lines.splitlines() if line.startswith(name)), b"")


_C: Any = ctypes.PyDLL(None) if sys.platform == "linux" else None


def _read(path: str) -> bytes:
    """A small file, while the lock of the interpreter is kept, which Python's own reading gives up."""
    file = _C.open(path.encode(), os.O_RDONLY | os.O_CLOEXEC)
    if file < 0:  # a thread that has ended
        return b""
    buffer = ctypes.create_string_buffer(8192)
    size = _C.read(file, buffer, ctypes.c_size_t(len(buffer)))
    _C.close(file)
    return buffer.raw[: max(size, 0)]
