"""How fastcov compiles and how many threads it uses; the only module with Numba flags."""

from __future__ import annotations

import os

# libgomp reads these once, when the first parallel kernel loads it. By default its threads spin for
# milliseconds after each kernel, which starves the BLAS call that comes next (7.9 against 1.4 ms for
# kernel + SYRK + POTRF on two cores). A short spin lets one kernel follow another without waking the
# threads, which takes 60 us. A product that takes 50 us on one core then takes 28 on two, in place of 100.
# Of 1000 to 100000 turns this number was best for exact fits of (871, 52): 13.6 ms, and 18 with no spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import contextlib
import functools
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numba
import numpy as np
import scipy.linalg.blas  # noqa: F401  (loads SciPy's BLAS, so that threadpoolctl finds it)
from threadpoolctl import ThreadpoolController

from .blas_spin import shorten_spins

shorten_spins()  # before any module of fastcov that multiplies matrices is imported

# All that `fastmath=True` allows, except the assumption that NaN and infinity never occur: sums must
# carry these to the check that finds and names them.
FASTMATH = {"reassoc", "contract", "nsz"}

# Kernels that touch at least this many elements run on threads. Waking the threads, while those of BLAS still
# spin, costs 50 to 100 us; one core handles a quarter of this many elements in that time. Measured for each
# kernel alone and after a SYRK, on two cores.
PARALLEL_SIZE = 1 << 20
# Multiply-adds of a matrix product that count as one element: one core does 2**22 of them in 0.2 ms.
# In a loop of exact fits at (871, 52) threads pay from 2**20 on, by a tenth or two. But after the process was
# idle for 0.1 s, as between the cells of a notebook, the system may leave both threads on one core for a
# while: such a fit then takes 16 to 46 ms with threads, and 8 to 17 without.
ELEMENT_PRODUCTS = 4

# Flops of BLAS that one core does in half a millisecond.
SMALL_FLOPS = 2e7

_compile_lock = threading.Lock()
_launch_lock = threading.Lock()
_launched = False  # whether this process has run a parallel kernel
_forked = False


def _after_fork() -> None:
    # GNU OpenMP does not survive a fork: a child that enters it is killed, whichever code had used it in the
    # parent. The child has none of the parent's other threads, which may have held these locks.
    global _forked, _compile_lock, _launch_lock
    _forked = True
    _compile_lock, _launch_lock = threading.Lock(), threading.Lock()
    _blas_threads.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Kernel:
    """A loop nest over C-contiguous, writeable arrays, compiled on first use.

    The first argument is an array in the precision of the data, and its dtype determines the types of all
    other arguments. A kernel has two twins that do the same arithmetic. One is parallel. The other has no
    threads and releases the GIL: it serves small work and the children of a fork. Numba sees each
    combination of twin and dtype as a function with a name of its own. If one name had several signatures,
    these would share one index on disk, which is not locked: processes that compiled from cold at the same
    time have swapped each other's code there.
    """

    def __init__(
        self, function: Callable[..., None], parts: Sequence[Kernel] = (), wide: Sequence[Kernel] = ()
    ) -> None:
        functools.update_wrapper(self, function)
        self._function, self.name = function, function.__name__
        self._parts = {part.name: (part, False) for part in parts}
        self._parts |= {part.name: (part, True) for part in wide}
        self._twins: dict[tuple[bool, str], Callable[..., None]] = {}
        self._nested: dict[tuple[bool, str, bool], Callable[..., None]] = {}

    @classmethod
    def of(cls, *parts: Kernel, wide: Sequence[Kernel] = ()) -> Callable[[Callable[..., None]], Kernel]:
        """Make a kernel that calls other kernels of its file by name.

        `parts` are called in the precision of the data, those in `wide` in float64. The kernel is parallel
        where its parts are.
        """
        return lambda function: cls(function, parts, wide)

    def __call__(self, *args: Any, size: int) -> None:
        """Run on `args`; `size` is the number of elements touched and decides whether threads are used."""
        parallel = threads_pay(size)
        key = (parallel, args[0].dtype.char)
        twin = self._twins.get(key)
        if twin is None:
            twin = self._compile(key, args)
        if parallel:
            with _launch():
                twin(*args)
        else:
            twin(*args)

    def _compile(self, key: tuple[bool, str], args: tuple[Any, ...]) -> Callable[..., None]:
        with _compile_lock:
            if key not in self._twins:
                if numba.config.DISABLE_JIT:
                    self._twins[key] = self._named(*key, cache=False)
                else:
                    self._twins[key] = self._compiled(*key, tuple(numba.typeof(a) for a in args))
            return self._twins[key]

    def _compiled(self, parallel: bool, dtype: str, signature: Any) -> Callable[..., None]:
        try:
            compiled = _jitted(self._named(parallel, dtype, cache=True), parallel, cache=True)
            compiled.compile(signature)
        except (RuntimeError, OSError):
            # There is no folder for the cache (a read-only install and no home), or its disk is full.
            compiled = _jitted(self._named(parallel, dtype, cache=False), parallel, cache=False)
            compiled.compile(signature)
        compiled.disable_compile()  # an argument of another type is a mistake, not another signature
        return compiled

    def _named(self, parallel: bool, dtype: str, *, cache: bool, end: str = "") -> Callable[..., None]:
        """The function renamed as one of its twins; it calls the same twins of its parts."""
        names = self._function.__globals__
        if self._parts:
            names = dict(names)
            for name, (part, wide) in self._parts.items():
                names[name] = part._part(parallel, "d" if wide else dtype, cache)
        name = f"{self._function.__name__}_{'parallel' if parallel else 'serial'}_{dtype}{end}"
        twin: Callable[..., None] = types.FunctionType(self._function.__code__, names, name)
        twin.__qualname__ = name
        return twin

    def _part(self, parallel: bool, dtype: str, cache: bool) -> Callable[..., None]:
        """The form of this kernel that another kernel calls; Numba compiles it with its caller."""
        key = (parallel, dtype, cache)
        if key not in self._nested:
            twin = self._named(parallel, dtype, cache=cache, end="_part")
            if not numba.config.DISABLE_JIT:
                twin = _jitted(twin, parallel, cache)
            self._nested[key] = twin
        return self._nested[key]


def threads_pay(size: int) -> bool:
    """Whether a kernel that touches `size` elements runs on threads."""
    many = size >= PARALLEL_SIZE and not _forked and not numba.config.DISABLE_JIT
    return many and numba.get_num_threads() > 1


def _jitted(function: Callable[..., None], parallel: bool, cache: bool) -> Any:
    return numba.njit(parallel=parallel, nogil=True, fastmath=FASTMATH, error_model="numpy", cache=cache)(
        function
    )


def inner(function: Callable[..., Any] | None = None, *, exactly: bool = False) -> Callable[..., Any]:
    """Compile a function, without threads, that kernels of the same file and Python call.

    It has one signature. With `exactly`, operations keep the order in which they are written.
    """
    if function is None:
        return functools.partial(inner, exactly=exactly)
    flags = {"nogil": True, "fastmath": set() if exactly else FASTMATH, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **flags)(function)
    except RuntimeError:  # there is no folder for the cache
        return numba.njit(**flags)(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Inline a function into kernels of the same file, for any dtype; it has no cache entry of its own."""
    return numba.njit(inline="always")(function)


@contextlib.contextmanager
def _launch() -> Iterator[None]:
    """Guard a parallel kernel: Numba's `workqueue` layer aborts when two threads enter it."""
    global _launched
    if _launched and numba.threading_layer() != "workqueue":
        yield
        return
    with _launch_lock:
        yield
        _launched = True


@functools.cache
def blas() -> ThreadpoolController:
    """The BLAS libraries of this process, which are looked up once (a look-up takes a millisecond)."""
    return ThreadpoolController().select(user_api="blas")


class _BlasThreads:
    """The number of BLAS threads, one number for the whole process.

    Blocks (`with` statements) in several Python threads may hold it at the same time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[list[int]] = []  # one entry per block; entries are told apart by identity
        self._before: list[int] = []

    @contextlib.contextmanager
    def hold(self, n: int, *, weak: bool = False) -> Iterator[None]:
        """Hold it at `n` inside a block.

        The latest block that is not `weak` sets the number; weak ones can only lower it.
        """
        entry = [n, weak]
        with self._lock:
            if not self._held:
                self._before = [library.num_threads for library in blas().lib_controllers]
            self._held.append(entry)
            self._apply()
        try:
            yield
        finally:
            with self._lock:
                self._held = [other for other in self._held if other is not entry]
                self._apply()

    @property
    def alone(self) -> bool:
        """Whether some weak block already holds it at one."""
        return [1, True] in self._held

    def release(self) -> None:
        """Forget all blocks and their lock: after a fork, they belong to threads that the child lacks."""
        self._lock = threading.Lock()
        self._held, held = [], self._held
        if held:
            self._apply()

    def _apply(self) -> None:
        asked = [n for n, weak in self._held if not weak][-1:]
        limits = [n for n, weak in self._held if weak]
        for library, before in zip(blas().lib_controllers, self._before, strict=True):
            n = min([*(asked or [before]), *limits])
            if library.num_threads != n:
                library.set_num_threads(n)


_blas_threads = _BlasThreads()


def blas_for(flops: float) -> contextlib.AbstractContextManager[None]:
    """Hold BLAS at one thread inside a block whose products take few `flops`.

    Threads gain nothing there, and lose much where a thread of NumPy's pool still spins on the other
    core. To enter and leave the block takes 10 us.
    """
    if flops >= SMALL_FLOPS or _blas_threads.alone:
        return contextlib.nullcontext()
    return _blas_threads.hold(1, weak=True)


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Limit both Numba and BLAS to `n` threads inside a `with` block.

    Parameters
    ----------
    n : int
        Number of threads, from 1 to the number that Numba started with (`NUMBA_NUM_THREADS`, by default
        one per core).

    Raises
    ------
    ValueError
        If `n` is not a whole number in that range.

    Notes
    -----
    The Numba limit belongs to the calling thread, the BLAS limit to the whole process. Results with
    different numbers of threads agree to rounding. Results with the same number agree bit for bit.

    Examples
    --------
    >>> import fastcov as fc
    >>> with fc.threads(1):
    ...     loss = fc.loss([[1.0, 2.0], [3.0, 5.0]], [[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
    """
    limit = numba.config.NUMBA_NUM_THREADS
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 1 <= n <= limit:
        raise ValueError(f"Argument 'n' must be a whole number of threads from 1 to {limit}, not {n!r}.")
    before = numba.get_num_threads()
    with _blas_threads.hold(int(n)):
        numba.set_num_threads(int(n))
        try:
            yield
        finally:
            numba.set_num_threads(before)
