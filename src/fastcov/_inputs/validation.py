"""Checks of arguments; each error is one message: "Argument 'X' must be ..., not ..."."""

from __future__ import annotations

import math
import numbers
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

Array = NDArray[Any]

OWN_CGROUPS = pathlib.Path("/proc/self/cgroup")
CGROUPS = pathlib.Path("/sys/fs/cgroup")

# For fewer bytes than this, the system is not asked how much memory is free. To ask takes 0.1 to 0.4 ms, some
# per cent of any fit so small, and Python and its libraries have already taken more memory than this.
SMALL = 1 << 26

# If the largest |x| is 2**e with |e| up to this, every product of four responses, and their sums, are well
# inside the range of float32, in which solvers multiply where that is precise enough. Otherwise X is
# multiplied by a power of two, which is exact. So are gains, vectors and matrices that are multiplied by X.
SAFE_EXPONENT = 20
# The largest magnitude of the exponent of 2 of X: beyond it the loss, which is of fourth order in X, leaves
# the range of float64.
LARGEST_EXPONENT = 240

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


def check_array(name: str, value: Any, *forms: Sequence[str], empty: bool = False) -> Array:
    """`value` as a real, dense ndarray, without a copy. It must not be empty, unless `empty` is set.

    Each of `forms` names the axes of a shape that is allowed.
    """
    check_unmasked(name, value)
    if hasattr(value, "nnz") and hasattr(value, "toarray"):
        raise TypeError(
            f"Argument '{name}' must be a dense array, not {type(value).__name__}: call .toarray() on it."
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        if hasattr(value, "requires_grad"):
            raise TypeError(
                f"Argument '{name}' must be an array, not a tensor that cannot be seen as one: call "
                ".detach().cpu().double() on it. fastcov.torch has what gradients pass through."
            ) from None
        raise type(error)(f"Argument '{name}' must be an array of real numbers, not this: {error}") from None
    check_form(name, array, *forms, empty=empty)
    return array


def check_unmasked(name: str, value: Any) -> None:
    """Raise for an array with a mask, which conversion to an array would drop."""
    parts = value if isinstance(value, (list, tuple)) else (value,)
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        raise TypeError(
            f"Argument '{name}' must be an array without a mask, not a masked array: "
            "fill it with .filled(value), or drop what is masked."
        )


def check_form(name: str, array: Any, *forms: Sequence[str], empty: bool = False) -> None:
    """Raise unless `array`, which need not be in memory, holds real numbers in one of these forms."""
    if array.dtype.kind not in "biuf":
        remedy = _REMEDIES.get(array.dtype.kind, "convert it to float64")
        raise TypeError(f"Argument '{name}' must hold real numbers, not dtype {array.dtype}: {remedy}.")
    if array.ndim not in map(len, forms):
        wanted = " or ".join(
            f"{len(axes)} {'axis' if len(axes) == 1 else 'axes'} ({', '.join(axes)})" for axes in forms
        )
        raise ValueError(f"Argument '{name}' must have {wanted}, not shape {array.shape}.")
    if array.size == 0 and not empty:
        raise ValueError(f"Argument '{name}' must have no empty axis, not shape {array.shape}.")


def as_float64(array: Array) -> NDArray[np.float64]:
    """The array in C-ordered float64; a long double beyond the range of float64 becomes infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.float64)


def nonfinite(
    name: str, array: Any, axes: Sequence[str], names: Sequence[Sequence[Any] | None] = ()
) -> ValueError | None:
    """The error for the NaNs and infinities of `array`; None if there are none.

    `names` are the names along each axis, or None for an axis without names.
    """
    count, first = array.nonfinite() if hasattr(array, "nonfinite") else _nonfinite_places(array)
    if first is None:
        return None
    known = names or [None] * len(axes)
    where = ", ".join(
        f"{axis} {i}" + ("" if each is None else f" ({each[i]!r})")
        for axis, i, each in zip(axes, first, known, strict=True)
    )
    places = "1 place" if count == 1 else f"{count} places"
    return ValueError(
        f"Argument '{name}' must be finite, not NaN or infinite in {places}, first at {where} "
        "(counted from 0)."
    )


def _nonfinite_places(array: Any) -> tuple[int, tuple[int, ...] | None]:
    """How many entries are not finite, and the index of the first."""
    step = max(1, (1 << 22) * len(array) // array.size)  # rows at a time, to keep the mask smaller than X
    count, first = 0, None
    for start in range(0, len(array), step):
        bad = np.argwhere(~np.isfinite(as_float64(array[start : start + step])))
        count += len(bad)
        if first is None and len(bad):
            first = (bad[0][0] + start, *bad[0][1:])
    return count, first


def symmetric(
    name: str, given: Array, axes: Sequence[str], names: Sequence[Sequence[Any] | None] = ()
) -> NDArray[np.float64]:
    """An exactly symmetric copy of a matrix or a stack, which must be finite and symmetric up to rounding."""
    values = as_float64(given)
    mirrored = np.swapaxes(values, -1, -2)
    size = float(max(values.max(initial=0.0), -values.min(initial=0.0)))
    if math.isfinite(size) and np.array_equal(values, mirrored):
        return values.copy() if np.may_share_memory(values, given) else values
    with np.errstate(invalid="ignore", over="ignore"):
        skew = np.abs(values - mirrored)
    largest = float(skew.max())
    if not math.isfinite(largest) and (error := nonfinite(name, given, axes, names)):
        raise error
    # Rounding of a product of three matrices is some n units in the last place of its largest entry.
    single = given.dtype.kind == "f" and given.dtype.itemsize < 8
    epsilon = np.finfo(given.dtype if single else np.float64).eps
    if largest > 8 * values.shape[-1] * epsilon * size:
        *stack, i, j = np.unravel_index(skew.argmax(), skew.shape)
        where = (
            "".join(f"{axis} {k}, " for axis, k in zip(axes, stack, strict=False))
            + f"{axes[-1]}s {i} and {j}"
        )
        raise ValueError(
            f"Argument '{name}' must be symmetric, not different by {largest:.3g} at {where}: "
            f"use ({name} + {name}.T) / 2 if that is meant."
        )
    return 0.5 * values + 0.5 * mirrored


def check_gains(
    name: str, value: Any, n: int, *, batch: bool = False, axis: str = "channel"
) -> NDArray[np.float64]:
    """Gains (n,), or with `batch` also (K, n), as a copy in C-ordered float64; they must be finite."""
    forms = ((axis,), ("candidate", axis))[: 1 + batch]
    array = check_array(name, value, *forms)
    if array.shape[-1] != n:
        raise ValueError(
            f"Argument '{name}' must have one entry for each of the {n} {axis}s, not shape {array.shape}."
        )
    result = as_float64(array)
    if not np.isfinite(result).all() and (error := nonfinite(name, array, forms[array.ndim - 1])):
        raise error
    return result.copy() if np.may_share_memory(result, array) else result


def check_nonnegative(name: str, value: Any) -> float:
    """A finite number >= 0."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        number = float(value) if real else math.nan
    except OverflowError:
        number = math.inf
    if math.isfinite(number) and number >= 0:
        return number
    text = repr(value) if len(repr(value)) < 40 else repr(value)[:37] + "..."
    raise (ValueError if real else TypeError)(f"Argument '{name}' must be a finite number >= 0, not {text}.")


def check_between(name: str, value: Any, usual: float) -> float:
    """A number between 0 and 1, and neither of them."""
    number = check_nonnegative(name, value)
    if not 0.0 < number < 1.0:
        raise ValueError(f"Argument '{name}' must be between 0 and 1, not {value!r}: {usual} is usual.")
    return number


def check_whole(name: str, value: Any, least: int, most: float = math.inf) -> int:
    """A whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"Argument '{name}' must be a whole number, not {value!r}: pass an int.")
    if value < least:
        raise ValueError(f"Argument '{name}' must be at least {least}, not {value}: ask for more.")
    if int(value) > most:
        raise ValueError(f"Argument '{name}' must be at most {most:.3g}, not {float(value):.3g}.")
    return int(value)


def check_budget(value: Any) -> float | None:
    """A number of bytes; None and infinity mean no limit, and give None."""
    if value is None or (isinstance(value, numbers.Real) and value == math.inf):
        return None
    if not isinstance(value, numbers.Real):
        raise TypeError(f"Argument 'memory_budget' must be a number of bytes, as 5e8, not {value!r}.")
    return check_nonnegative("memory_budget", value)


def check_tolerance(value: Any) -> float:
    """A relative residual, between 0 and 1."""
    tol = check_nonnegative("tol", value)
    if not 0 < tol < 1:
        raise ValueError(f"Argument 'tol' must lie between 0 and 1, not {value!r}: 1e-8 is the default.")
    return tol


def check_generator(rng: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"Argument 'rng' must be what numpy.random.default_rng takes, not {rng!r}: pass a whole "
            "number >= 0 or a Generator."
        ) from None


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"Argument '{name}' must be one of {', '.join(map(repr, choices))}, not {value!r}.")
    return value


def _cgroups() -> Iterator[tuple[pathlib.Path, str, str, str]]:
    """For each cgroup that may hold this process: its folder, and the names of three numbers.

    They are the memory limit, the memory in use, and the part of that which is file cache.
    """
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for _, kinds, place in (line.split(":", 2) for line in lines):
        if kinds == "":  # version 2
            base, names = CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            base = CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = base / place.lstrip("/")
        for part in (folder, *folder.parents):
            yield part, *names
            if part == base:
                break


def available_memory() -> int:
    """Bytes that can still be allocated: the system's free memory, or less where a cgroup limit says so."""
    free = int(psutil.virtual_memory().available)
    for root, limit, used, cache in _cgroups():
        try:
            left = int((root / limit).read_text()) - int((root / used).read_text())
            if left < free:  # only then, as the kernel takes a while to add up the cached bytes
                _, _, cached = (root / "memory.stat").read_text().partition(f"{cache} ")
                free = min(free, left + int(cached.split(maxsplit=1)[0]))
        except (OSError, ValueError, IndexError):  # the cgroup is missing, or its limit is "max", no limit
            continue
    return max(free, 0)


def require_memory(nbytes: int, what: str, instead: str) -> None:
    """Raise MemoryError if `nbytes` more bytes are not available, before anything is allocated."""
    if nbytes < SMALL:
        return
    free = available_memory()
    if nbytes > free:
        raise MemoryError(
            f"{what} takes {nbytes / 1e9:.3g} GB, and {free / 1e9:.3g} GB are available: {instead}."
        )


def safe_exponent(size: float) -> int:
    """The exponent e such that size * 2**-e is near one; 0 where `size` is safe as it is."""
    e = math.frexp(size)[1] if size > 0 else 0
    return e if abs(e) > SAFE_EXPONENT else 0
