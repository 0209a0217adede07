"""The inputs of peers, the libraries that they need, and their settings."""

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
from .._case import error_summary

Array = NDArray[Any]

# Most bytes of arrays besides X that a peer may use.
LARGEST = 8e9
# Number of multiplications N D² in a product with G from which threads may pay. It is 3e5 at (148, 48), where
# threads gain nothing and lose much while others spin. At (1004, 187), with 4e7, two threads took 0.6 times
# as long as one on idle cores, but up to 7 times as long in NumPy and 30 times in PyTorch while other
# processes computed; above the threshold both are tried.
THREADS_PAY = 5e6
# A call that takes longer than this, in seconds, is not repeated to find the best setting.
LONG = 1.0
# The relative residual of direct fits by fastcov.
RESIDUAL = 1e-12

# For each module: the name of the library, and the package to install.
LIBRARIES = {
    "sklearn": ("scikit-learn", "scikit-learn"),
    "himalaya": ("himalaya", "himalaya"),
    "torch": ("PyTorch", "torch"),
    "jax": ("JAX", "jax"),
}


class Unavailable(Exception):
    """A peer is not available here; the message tells the user why."""


@dataclasses.dataclass(frozen=True)
class PeerInput:
    """An operation's data and settings.

    Attributes
    ----------
    X : ndarray, shape (N, D)
    S : ndarray, shape (D, D)
    ridge : float
        λ, in units of X to the fourth.
    tol : float
        Tolerance of iterative fits: the relative residual of the linear system, or the norm of the gradient
        of the exact loss over that at gains of one. By default 1e-12 and 1e-6.
    gains : ndarray, shape (N,)
    candidates : ndarray, shape (K, N)
        Many vectors of gains.
    ridges : ndarray, shape (K,)
        λ of a path.
    relative_ridges : ndarray, shape (K,)
        λ over the largest eigenvalue of GᵀG of the training conditions, for cross-validation.
    responses : ndarray, shape (M, D)
        Y, for cross-validation.
    folds : sequence of (train, test)
        Indices of conditions.
    beside : sequence of arrays
        The arguments of a penalty besides the activations X.
    matrices : ndarray, shape (Z, D, D)
        One matrix per unit. The rows of X are then the inputs of units: all units of the first sample, then
        those of the next.
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
        """Return X and S in float64."""
        return writeable(self.X, np.float64), writeable(self.S, np.float64)

    @property
    def work(self) -> float:
        """Number of multiplications in a product with G."""
        return float(self.X.size * self.X.shape[1])

    def alike(self, gains: Any) -> tuple[Array, Array, Array]:
        """Return X, S and gains, all in the precision of X."""
        dtype = self.X.dtype
        return self.X, writeable(self.S, dtype), writeable(gains, dtype)

    def by_units(self) -> tuple[Array, Array]:
        """Return inputs (L, Z, D) and matrices (Z, D, D)."""
        matrices = writeable(self.matrices, self.X.dtype)
        return self.X.reshape(-1, *matrices.shape[:2]), matrices

    def room(self, what: str, nbytes: float) -> None:
        """Raise Unavailable if arrays besides X would take more memory than a peer may use."""
        if nbytes > LARGEST:
            raise Unavailable(f"{what} would take {nbytes / 1e9:.2g} GB")


def writeable(array: Any, dtype: Any = None) -> Array:
    """Return a writeable array in C order, as PyTorch requires, copied only if necessary."""
    return np.require(array, dtype, ["C", "W"])


def library(name: str, *submodules: str) -> Any:
    """Import an optional library with its submodules; raise Unavailable if it is missing or broken."""
    title, distribution = LIBRARIES[name]
    try:
        module = importlib.import_module(name)
        for submodule in submodules:
            importlib.import_module(f"{name}.{submodule}")
    except Exception as error:  # broken libraries raise OSError for a missing part, RuntimeError, or anything
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise Unavailable(f"{title} is not installed: pip install {distribution}") from None
        raise Unavailable(f"{title} cannot be imported ({error_summary(error)}): install it anew") from error
    return module


def blas_threads(n: int | None) -> contextlib.AbstractContextManager[Any]:
    """Limit BLAS to a number of threads, or leave it as it is for None."""
    return contextlib.nullcontext() if n is None else blas().limit(limits=n)


@contextlib.contextmanager
def torch_threads(torch: Any, n: int | None) -> Iterator[None]:
    """Do the same for PyTorch, which has its own threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def jax_double(jax: Any) -> Any:
    """Return a context in which JAX uses float64, whatever the setting outside."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return importlib.import_module("jax.experimental").enable_x64(True)  # older releases


def within(context: Callable[[], contextlib.AbstractContextManager[Any]], run: Callable[[], Any]) -> Any:
    """Return a call that runs within a context, which it enters each time."""

    def inside() -> Any:
        with context():
            return run()

    return inside


def threaded(
    hold: Callable[[int | None], contextlib.AbstractContextManager[Any]], work: float, run: Callable[[], Any]
) -> Any:
    """Return a call with one thread for little work, else with one or all, as the first call decides."""
    one = within(lambda: hold(1), run)
    return one if work < THREADS_PAY else fastest(within(lambda: hold(None), run), one)


def fastest(*runs: Callable[[], Any]) -> Any:
    """Return a call of the fastest run, found at the first call; of the first run, if that takes long."""

    @functools.cache
    def chosen() -> Callable[[], Any]:
        seconds = [np.inf] * len(runs)
        for i, run in enumerate(runs):
            if _seconds(run) > LONG:  # the first call warms up
                break
            seconds[i] = _seconds(run)
        return runs[int(np.argmin(seconds))]

    return lambda: chosen()()


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
