"""How fastcov compiles and how many threads it uses; the one place with Numba flags."""

from __future__ import annotations

import os

# libgomp reads these once, when the first parallel kernel loads it. Its default, spinning for
# milliseconds after each kernel, starves the BLAS call that comes next (7.9 against 1.4 ms for
# kernel + SYRK + POTRF on two cores). A short spin lets one kernel follow another without waking the
# threads, which takes 60 us: on two cores a product of 50 us on one then takes 28, in place of 100. Of 1000
# to 100000 turns this many was best for exact fits of (871, 52): 13.6 ms, and 18 with none.
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

from .pools import shorten_spins

shorten_spins()  # nothing of fastcov that multiplies is imported before

# Everything `fastmath=True` allows except assuming that NaN and infinity never happen: sums must
# carry them to where they are found and named.
FASTMATH = {"reassoc", "contract", "nsz"}

# Waking the threads, while those of BLAS still spin, costs 50 to 100 us: one core does a quarter of
# this many elements in that time. Measured for each kernel alone and after a SYRK, on two cores.
PARALLEL_SIZE = 1 << 20
# Multiplications and additions of a matrix product that count as one of these: one core does 2**22 in 0.2 ms.
# In a loop of exact fits at (871, 52) threads pay from 2**20 on, by a tenth or two; but where the process was
# idle for 0.1 s, as between the cells of a notebook, the system may leave both threads on one core for a
# while: there such a fit takes 16 to 46 ms with them, and 8 to 17 without.
ELEMENT_PRODUCTS = 4

# BLAS work that one core does in half a millisecond.
SMALL_FLOPS = 2e7

_compile_lock = threading.Lock()
_launch_lock = threading.Lock()
_launched = False  # has this process run a parallel kernel?
_forked = False


def _after_fork() -> None:
    # GNU OpenMP does not survive a fork: a child that enters it is killed, whoever had used it before.
    # Other threads, which may have held locks, are not in the child.
    global _forked, _compile_lock, _launch_lock
    _forked = True
    _compile_lock, _launch_lock = threading.Lock(), threading.Lock()
    _blas_threads.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Kernel:
    """A loop nest over C-contiguous, writeable arrays, compiled on first use.

    Its first argument is an array in the precision of the data; all others follow from that dtype.
    It has two twins that do the same arithmetic: a parallel one, and one without threads that
    releases the GIL, for small work and for children of a fork. Each combination of twin and dtype
    is a function of its own name to Numba. One name with several signatures shares one on-disk
    index, which is not locked: processes that compile from cold at the same time have swapped each
    other's code there.
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
        """A kernel that calls others of its file by their names, as precise as the data or, `wide`, float64.

        It is parallel where its parts are.
        """
        return lambda function: cls(function, parts, wide)

    def __call__(self, *args: Any, size: int) -> None:
        """Run on `args`; `size` counts the elements touched and decides whether threads pay."""
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
            # No place to keep the cache (a read-only install and no home), or that place is full.
            compiled = _jitted(self._named(parallel, dtype, cache=False), parallel, cache=False)
            compiled.compile(signature)
        compiled.disable_compile()  # an argument of another type is a mistake, not another signature
        return compiled

    def _named(self, parallel: bool, dtype: str, *, cache: bool, end: str = "") -> Callable[..., None]:
        """The function under the name of a twin, with the twins of its parts."""
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
        """What another kernel calls; compiled as that needs it."""
        key = (parallel, dtype, cache)
        if key not in self._nested:
            twin = self._named(parallel, dtype, cache=cache, end="_part")
            if not numba.config.DISABLE_JIT:
                twin = _jitted(twin, parallel, cache)
            self._nested[key] = twin
        return self._nested[key]


def threads_pay(size: int) -> bool:
    """Whether a kernel that touches so many elements runs on threads."""
    many = size >= PARALLEL_SIZE and not _forked and not numba.config.DISABLE_JIT
    return many and numba.get_num_threads() > 1


def _jitted(function: Callable[..., None], parallel: bool, cache: bool) -> Any:
    return numba.njit(parallel=parallel, nogil=True, fastmath=FASTMATH, error_model="numpy", cache=cache)(
        function
    )


def inner(function: Callable[..., Any] | None = None, *, exactly: bool = False) -> Callable[..., Any]:
    """Compile what kernels of the same file call, and Python too: of one signature, without threads.

    `exactly`: in the order of operations as written.
    """
    if function is None:
        return functools.partial(inner, exactly=exactly)
    flags = {"nogil": True, "fastmath": set() if exactly else FASTMATH, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **flags)(function)
    except RuntimeError:  # no place to keep the cache
        return numba.njit(**flags)(function)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Write the code of a function into kernels of the same file, for any dtype; nothing of it is cached."""
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
    """The BLAS libraries of this process, looked up once (a look-up takes a millisecond)."""
    return ThreadpoolController().select(user_api="blas")


class _BlasThreads:
    """The number of BLAS threads: one for the process, held at once by blocks in many Python threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[list[int]] = []  # one entry a block, told apart by identity
        self._before: list[int] = []

    @contextlib.contextmanager
    def hold(self, n: int, *, weak: bool = False) -> Iterator[None]:
        """Hold it at `n`; the latest block counts, and a `weak` one only lowers what others ask for."""
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
        """Whether some block holds it at one as it is."""
        return [1, True] in self._held

    def release(self) -> None:
        """Forget all blocks, as those of threads that a fork left behind, and their lock."""
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
    """Hold BLAS at one thread in a block of little work.

    Threads gain nothing there, and lose much where a thread of NumPy's pool still spins on the other
    core. Entering and leaving takes 10 us.
    """
    if flops >= SMALL_FLOPS or _blas_threads.alone:
        return contextlib.nullcontext()
    return _blas_threads.hold(1, weak=True)


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Limit Numba and BLAS together to `n` threads inside a `with` block.

    Parameters
    ----------
    n : int
        Threads, from 1 to the number that Numba started with (`NUMBA_NUM_THREADS`, by default one a
        core).

    Raises
    ------
    ValueError
        If `n` is not a whole number in that range.

    Notes
    -----
    The Numba limit belongs to the calling thread, the BLAS limit to the whole process. Results for
    different numbers of threads agree to rounding; for the same number they are the same bits.

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
