"""The checks at the door, each with one message: "Argument 'X' must be ..., not ..."."""

from __future__ import annotations

import math
import numbers
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

Array = NDArray[Any]

# Version 2 and version 1: folder, limit, what is used, and how much of that is file cache to drop.
_CGROUPS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)

# Below this many bytes the system is not asked what is free: it takes 0.1 ms, a third of a small fit.
SMALL = 1 << 24

_REMEDIES = {
    "c": "take its real part or its modulus",
    "O": "convert it with .astype(float)",
    "U": "convert it with .astype(float)",
    "S": "convert it with .astype(float)",
    "T": "convert it with .astype(float)",
    "M": "convert it to numbers",
    "m": "convert it to numbers",
    "V": "pass one field of it",
}


def check_array(name: str, value: Any, axes: Sequence[str]) -> Array:
    """`value` as a real, dense, non-empty ndarray with one axis for each name in `axes`; no copy."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"Argument '{name}' must be an array without a mask, not a masked array: "
            "fill it with .filled(value), or drop what is masked."
        )
    if hasattr(value, "nnz") and hasattr(value, "toarray"):
        raise TypeError(
            f"Argument '{name}' must be a dense array, not {type(value).__name__}: call .toarray() on it."
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise type(error)(f"Argument '{name}' must be an array of real numbers, not this: {error}") from None
    if array.dtype.kind not in "biuf":
        remedy = _REMEDIES.get(array.dtype.kind, "convert it to float64")
        raise TypeError(f"Argument '{name}' must hold real numbers, not dtype {array.dtype}: {remedy}.")
    if array.ndim != len(axes):
        raise ValueError(
            f"Argument '{name}' must have {len(axes)} axes ({', '.join(axes)}), not shape {array.shape}."
        )
    if array.size == 0:
        raise ValueError(
            f"Argument '{name}' must have at least one of each of {', '.join(axes)}, not shape {array.shape}."
        )
    return array


def nonfinite(name: str, array: Array, axes: Sequence[str]) -> ValueError | None:
    """The error for the NaNs and infinities of `array`; None if there are none."""
    step = max(1, (1 << 22) // max(1, array[0].size))  # rows at a time: the mask is not of X's size
    count, first = 0, None
    for start in range(0, len(array), step):
        with np.errstate(over="ignore"):  # a long double beyond float64 counts as infinite
            block = np.asarray(array[start : start + step], np.float64)
        bad = np.argwhere(~np.isfinite(block))
        count += len(bad)
        if first is None and len(bad):
            first = (bad[0][0] + start, *bad[0][1:])
    if first is None:
        return None
    where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, first, strict=True))
    places = "1 place" if count == 1 else f"{count} places"
    return ValueError(
        f"Argument '{name}' must be finite, not NaN or infinite in {places}, first at {where} "
        "(counted from 0)."
    )


def check_gains(name: str, value: Any, n: int, *, batch: bool = False) -> NDArray[np.float64]:
    """One vector (n,), or for `batch` also (K, n), as a copy: finite, C-ordered float64."""
    axes = ("candidate", "channel") if batch and np.ndim(value) == 2 else ("channel",)
    array = check_array(name, value, axes)
    if array.shape[-1] != n:
        raise ValueError(
            f"Argument '{name}' must have one entry for each of the {n} channels, not shape {array.shape}."
        )
    result = np.array(array, np.float64, order="C")
    if not np.isfinite(result).all() and (error := nonfinite(name, array, axes)):
        raise error
    return result


def check_nonnegative(name: str, value: Any) -> float:
    """A finite number >= 0."""
    if isinstance(value, numbers.Real) or (isinstance(value, np.ndarray) and value.ndim == 0):
        number = float(value)
        if math.isfinite(number) and number >= 0:
            return number
    raise (ValueError if isinstance(value, numbers.Real) else TypeError)(
        f"Argument '{name}' must be a finite number >= 0, not {value!r}."
    )


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f"Argument '{name}' must be one of {', '.join(map(repr, choices))}, not {value!r}.")
    return str(value)


def available_memory() -> int:
    """Bytes that can still be allocated: what the system has free, within this process's cgroup."""
    free = int(psutil.virtual_memory().available)
    for folder, limit, used, cache in _CGROUPS:
        root = pathlib.Path("/sys/fs/cgroup", folder)
        try:
            held = int((root / used).read_text())
            stat = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
            free = min(free, int((root / limit).read_text()) - held + int(stat[cache]))
        except (OSError, ValueError, KeyError):  # not in such a cgroup, or "max": no limit
            continue
    return max(free, 0)


def require_memory(nbytes: int, what: str, instead: str) -> None:
    """Raise MemoryError if `nbytes` more are not to be had, before anything is allocated."""
    if nbytes < SMALL:
        return
    free = available_memory()
    if nbytes > free:
        raise MemoryError(
            f"{what} takes {nbytes / 1e9:.3g} GB, and {free / 1e9:.3g} GB are available: {instead}."
        )
