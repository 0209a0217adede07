"""Libraries that only some functions need."""

from __future__ import annotations

import importlib
from typing import Any


def optional(module: str, what: str, extra: str | None = None) -> Any:
    """Import a module that only some functions need; an ImportError says how to install it.

    The extra of the package has the name of the module, unless `extra` is given.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'{what} needs {module}: pip install "fastcov-gains[{extra or module}]"') from error
