"""All compiled kernels, for whatever looks at each of them: tests, counts, the gate."""

from __future__ import annotations

import importlib
import pkgutil

import fastcov

from .._jit import Kernel


def kernels() -> dict[str, Kernel]:
    """By name: those of all private modules, whose names differ."""
    found: dict[str, Kernel] = {}
    for each in pkgutil.iter_modules(fastcov.__path__):
        if each.name.startswith("_") and each.name != "__main__":
            module = importlib.import_module(f"fastcov.{each.name}")
            for name, value in vars(module).items():
                if isinstance(value, Kernel) and value.__module__ == module.__name__:
                    if name in found:
                        raise RuntimeError(f"Two kernels have the name {name!r}.")
                    found[name] = value
    return found
