"""Find every compiled kernel, for tests, counts and the performance gate."""

from __future__ import annotations

import importlib
import pathlib
from types import ModuleType

import fastcov

from .._compute.jit import Kernel

# The last word of the name of each file that holds kernels.
_NAMED = "kernels"


def modules() -> list[ModuleType]:
    """Import and return all modules with kernels."""
    root = pathlib.Path(fastcov.__file__).parent
    paths = sorted(
        path.relative_to(root).with_suffix("") for path in root.rglob("*.py") if path.stem.endswith(_NAMED)
    )
    return [importlib.import_module(".".join(("fastcov", *path.parts))) for path in paths]


def kernels() -> dict[str, Kernel]:
    """Return all kernels by name; names are unique."""
    found: dict[str, Kernel] = {}
    for module in modules():
        for name, value in vars(module).items():
            if isinstance(value, Kernel) and value.__module__ == module.__name__:
                if name in found:
                    raise RuntimeError(f"Two kernels have the name {name!r}.")
                found[name] = value
    return found
