"""What peers are given, the libraries that they need, and their settings."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._jit import blas

Array = NDArray[Any]

# Bytes of arrays beyond X that a peer may take.
LARGEST = 8e9
# Multiplications of a product with G from which threads pay, N D²: 3e5 at (148, 48), where they gain nothing
# and lose much while others spin, and 4e7 at (1004, 187), where two take 0.6 times as long as one.
THREADS_PAY = 5e6

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

    @functools.cached_property
    def double(self) -> tuple[Array, Array]:
        """X and S in float64."""
        return np.ascontiguousarray(self.X, np.float64), np.ascontiguousarray(self.S, np.float64)

    @property
    def work(self) -> float:
        """Multiplications of a product with G."""
        return float(self.X.size * self.X.shape[1])

    def room(self, what: str, nbytes: float) -> None:
        """Raise Unavailable where arrays beyond X would take more than a peer may."""
        if nbytes > LARGEST:
            raise Unavailable(f"{what} would take {nbytes / 1e9:.0f} GB")


def library(name: str, *submodules: str) -> Any:
    """An optional library, with its submodules; Unavailable where it is missing."""
    title, distribution = LIBRARIES[name]
    try:
        module = importlib.import_module(name)
        for submodule in submodules:
            importlib.import_module(f"{name}.{submodule}")
    except ImportError:
        raise Unavailable(f"{title} is not installed: pip install {distribution}") from None
    return module


def blas_threads(work: float) -> contextlib.AbstractContextManager[Any]:
    """Hold BLAS at one thread where the work is too little for more."""
    return blas().limit(limits=1) if work < THREADS_PAY else contextlib.nullcontext()


@contextlib.contextmanager
def torch_threads(torch: Any, work: float) -> Iterator[None]:
    """The same for PyTorch, which has threads of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if work < THREADS_PAY else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def jax_double(jax: Any, on: bool = True) -> Any:
    """A block in which JAX has float64, whatever the process has set outside."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(on)
    return importlib.import_module("jax.experimental").enable_x64(on)  # before 0.8


def within(context: Callable[[], contextlib.AbstractContextManager[Any]], run: Callable[[], Any]) -> Any:
    """A call that runs within a context that is entered anew each time."""

    def inside() -> Any:
        with context():
            return run()

    return inside
