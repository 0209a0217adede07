"""What peers are given, the libraries that they need, and their settings."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._compute.jit import blas
from .._case import told

Array = NDArray[Any]

# Bytes of arrays beyond X that a peer may take.
LARGEST = 8e9
# Multiplications of a product with G from which threads may pay, N D²: 3e5 at (148, 48), where they gain
# nothing and lose much while others spin. At (1004, 187), 4e7, two took 0.6 times as long as one on idle
# cores, but up to 7 times in NumPy and 30 in PyTorch where other processes computed: there it is tried.
THREADS_PAY = 5e6
# Seconds of a call that is not repeated to find a setting.
LONG = 1.0
# The relative residual of the linear system that direct fits have here.
RESIDUAL = 1e-12

# Module -> what its users call it, and what they install.
LIBRARIES = {
    "sklearn": ("scikit-learn", "scikit-learn"),
    "himalaya": ("himalaya", "himalaya"),
    "torch": ("PyTorch", "torch"),
    "jax": ("JAX", "jax"),
}


class Unavailable(Exception):
    """A peer does not exist here; the reason is for the user."""


@dataclasses.dataclass(frozen=True)
class Given:
    """An operation's data and settings.

    Attributes
    ----------
    X : ndarray, shape (N, D)
    S : ndarray, shape (D, D)
    ridge : float
        λ, in units of X to the fourth.
    tol : float
        Of iterative fits: the relative residual of the linear system, or the norm of the gradient of the
        exact loss over that at gains of one. By default 1e-12 and 1e-6.
    gains : ndarray, shape (N,)
    candidates : ndarray, shape (K, N)
        Gains.
    ridges : ndarray, shape (K,)
        λ of a path.
    relative_ridges : ndarray, shape (K,)
        λ over the largest eigenvalue of GᵀG of the training conditions, for cross-validation.
    responses : ndarray, shape (M, D)
        Y, for cross-validation.
    folds : sequence of (train, test)
        Indices of conditions.
    beside : sequence of arrays
        What a penalty takes beside activations X.
    matrices : ndarray, shape (Z, D, D)
        One a unit. X then holds its inputs, sample by sample and in each unit by unit.
    """

    X: Array
    S: Array
    ridge: float = 0.0
    tol: float | None = None
    gains: Any = None
    candidates: Any = None
    ridges: Any = None
    relative_ridges: Any = None
    responses: Any = None
    folds: Sequence[tuple[Any, Any]] = ()
    beside: Sequence[Any] = ()
    matrices: Any = None

    @functools.cached_property
    def double(self) -> tuple[Array, Array]:
        """X and S in float64."""
        return writeable(self.X, np.float64), writeable(self.S, np.float64)

    @property
    def work(self) -> float:
        """Multiplications of a product with G."""
        return float(self.X.size * self.X.shape[1])

    def alike(self, gains: Any) -> tuple[Array, Array, Array]:
        """X, S and gains, all in the precision of X."""
        dtype = self.X.dtype
        return self.X, writeable(self.S, dtype), writeable(gains, dtype)

    def by_units(self) -> tuple[Array, Array]:
        """Inputs (L, Z, D) and matrices (Z, D, D)."""
        matrices = writeable(self.matrices, self.X.dtype)
        return self.X.reshape(-1, *matrices.shape[:2]), matrices

    def room(self, what: str, nbytes: float) -> None:
        """Raise Unavailable where arrays beyond X would take more than a peer may."""
        if nbytes > LARGEST:
            raise Unavailable(f"{what} would take {nbytes / 1e9:.2g} GB")


def writeable(array: Any, dtype: Any = None) -> Array:
    """An array in C order that may be written to, which PyTorch wants of all; copied only where need be."""
    return np.require(array, dtype, ["C", "W"])


def library(name: str, *submodules: str) -> Any:
    """An optional library, with its submodules; Unavailable where it is missing or broken."""
    title, distribution = LIBRARIES[name]
    try:
        module = importlib.import_module(name)
        for submodule in submodules:
            importlib.import_module(f"{name}.{submodule}")
    except Exception as error:  # broken ones raise OSError for a missing part, RuntimeError, or anything
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise Unavailable(f"{title} is not installed: pip install {distribution}") from None
        raise Unavailable(f"{title} cannot be imported ({told(error)}): install it anew") from error
    return module


def blas_threads(n: int | None) -> contextlib.AbstractContextManager[Any]:
    """Hold BLAS at a number of threads, or at what the process has for None."""
    return contextlib.nullcontext() if n is None else blas().limit(limits=n)


@contextlib.contextmanager
def torch_threads(torch: Any, n: int | None) -> Iterator[None]:
    """The same for PyTorch, which has threads of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def jax_double(jax: Any) -> Any:
    """A block in which JAX has float64, whatever the process has set outside."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return importlib.import_module("jax.experimental").enable_x64(True)  # of older releases


def within(context: Callable[[], contextlib.AbstractContextManager[Any]], run: Callable[[], Any]) -> Any:
    """A call that runs within a context that is entered anew each time."""

    def inside() -> Any:
        with context():
            return run()

    return inside


def threaded(
    hold: Callable[[int | None], contextlib.AbstractContextManager[Any]], work: float, run: Callable[[], Any]
) -> Any:
    """A call with one thread for little work, else with one or all, as its first call finds faster."""
    one = within(lambda: hold(1), run)
    return one if work < THREADS_PAY else fastest(within(lambda: hold(None), run), one)


def fastest(*runs: Callable[[], Any]) -> Any:
    """The fastest of some calls, found when it is first made; the first of them where that takes long."""

    @functools.cache
    def chosen() -> Callable[[], Any]:
        seconds = [np.inf] * len(runs)
        for i, run in enumerate(runs):
            if _seconds(run) > LONG:  # the first call is to warm it
                break
            seconds[i] = _seconds(run)
        return runs[int(np.argmin(seconds))]

    return lambda: chosen()()


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
