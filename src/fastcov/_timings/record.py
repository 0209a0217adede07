"""Save and load the measurements of `fastcov bench`: raw rounds, and their machine and settings.

    {"format": 2, "kind": "fastcov bench", "suite": "quick", "started": "2025-01-31T12:00:00+00:00",
     "load": [0.1, 1.9], "machine": {...}, "settings": {"rounds": 25, "budget": 2.0, "threads": null, "peers": true},
     "cases": [{"operation": "gram", "shape": [1004, 187], "dtype": "float64",
                "seconds": {"fastcov": [...], "naive": [...], "floor": [...]},
                "flops": 1.9e8, "nbytes": 9.6e6, "skipped": {"jax": "JAX is not installed"},
                "repeats": 1.0}]}

Nothing in the file is derived from other parts of it, so that no two numbers can disagree.
"""  # noqa: E501

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from .._inputs.files import check_output, writing
from .._version import __version__
from .runs import FLOOR, NAIVE, OURS, case_name, ratio

# Format 1 did not say which of NumPy and fastcov was imported first; in its files it was fastcov.
FORMAT, KIND = 2, "fastcov bench"
SUFFIXES = (".json",)
# Largest number, and smallest time in seconds: no clock is that fine, and ratios neither overflow nor
# underflow.
LARGEST_NUMBER, SHORTEST = 1e100, 1e-12
# Most rounds: a comparison holds the ratios of all pairs of rounds at once, 8 MB.
MOST_ROUNDS = 1000
# Packages whose versions must be known to compare a record with any other.
VERSIONS = ("fastcov", "python", "numpy", "scipy", "numba", "llvmlite")


@dataclasses.dataclass(frozen=True)
class Timed:
    """The rounds of a `Case`: seconds of each run, with the same place in all lists for the same round."""

    operation: str
    shape: tuple[int, int]
    dtype: str
    seconds: Mapping[str, list[float]]
    flops: float
    nbytes: float
    skipped: Mapping[str, str]
    repeats: float = 1.0

    @property
    def name(self) -> str:
        return case_name(self.operation, self.shape, self.dtype)


@dataclasses.dataclass(frozen=True)
class Record:
    """A complete measurement: suite, machine, settings, and all rounds.

    `load` is the load average before and after, `machine` is the result of `_machine.machine`, and `settings`
    are those of `_run.run`.
    """

    suite: str
    started: str
    load: tuple[float, float]
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    cases: tuple[Timed, ...]


def size(case: Timed, times: str = "x") -> str:
    return f"{case.shape[0]} {times} {case.shape[1]}"


def times_ours(case: Timed, run: str) -> float:
    """Return how many times as long as fastcov a run takes."""
    return ratio(case.seconds[run], case.seconds[OURS])


def others(case: Timed) -> list[str]:
    """Return the peers: runs that are neither fastcov nor the naive version nor the floor."""
    return [run for run in case.seconds if run not in (OURS, NAIVE, FLOOR)]


def as_text(record: Record) -> str:
    """Return the content of the file, one case per line."""
    head = {"format": FORMAT, "kind": KIND, **vars(record)}
    cases = ",\n".join(json.dumps(vars(case), allow_nan=False) for case in head.pop("cases"))
    return f'{json.dumps(head, allow_nan=False)[:-1]},\n"cases": [\n{cases}\n]}}\n'


def save(record: Record, path: str | os.PathLike[str]) -> None:
    """Write a record to a temporary file, and rename that to `path`."""
    target = check_output(path, SUFFIXES)
    content = as_text(record).encode()
    _parsed(content)  # do not write a file that cannot be read
    with writing(target) as draft:
        draft.write_bytes(content)


def load(path: str | os.PathLike[str], name: str = "path") -> Record:
    """Read a record, and check all of it.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If the file was not written by `fastcov bench`, has a later format, or is damaged; the error names the
        place.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        raise IsADirectoryError(
            f"Argument '{name}' must be a file, and {str(file)!r} is a folder: check the path."
        )
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"Argument '{name}' must be a file, and {str(file)!r} is missing: check the path."
        ) from None
    try:
        return _parsed(content)
    except _DamagedError as error:
        raise ValueError(
            f"Argument '{name}' must be an intact file of 'fastcov bench --json', and {str(file)!r} is not: "
            f"{error}."
        ) from error


def _parsed(content: bytes) -> Record:
    if not content.strip():
        raise _DamagedError("it is empty: measure again")
    try:
        value = json.loads(content.decode(), parse_constant=_no_number, object_pairs_hook=_once)
    except _DamagedError:
        raise
    except (ValueError, RecursionError) as error:  # errors of json and UTF-8 name the place
        raise _DamagedError(f"it is no JSON ({error}): measure or copy it again") from error
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise _DamagedError(f'it does not say "kind": "{KIND}": give another file')
    number = value.get("format")
    if type(number) is int and number > FORMAT:
        raise _DamagedError(
            f"it is of format {number}, and fastcov {__version__} reads format {FORMAT}: upgrade fastcov"
        )
    if type(number) is int and number < FORMAT:
        raise _DamagedError(
            f"it is of format {number}, of a process in which fastcov was imported before NumPy, and format "
            f"{FORMAT} is of one in which NumPy was: measure again"
        )
    _FILE(value, "")
    cases = tuple(Timed(**case | {"shape": tuple(case["shape"])}) for case in value["cases"])
    seen: dict[str, int] = {}
    for i, case in enumerate(cases):
        _check_case(case, f"cases[{i}]", value["settings"]["rounds"])
        if case.name in seen:
            raise _DamagedError(f"cases[{i}] and cases[{seen[case.name]}] are both {case.name!r}")
        seen[case.name] = i
    return Record(
        value["suite"], value["started"], tuple(value["load"]), value["machine"], value["settings"], cases
    )


def _check_case(case: Timed, place: str, rounds: int) -> None:
    """Raise an error if lists of a case contradict each other."""
    if OURS not in case.seconds:
        raise _DamagedError(f"{place}.seconds has no {OURS!r}")
    for run, times in case.seconds.items():
        if len(times) > rounds:
            raise _DamagedError(
                f"{place}.seconds.{run} has {len(times)} rounds, and settings.rounds is {rounds}"
            )
        if run in case.skipped:
            raise _DamagedError(f"{place}.skipped.{run} says why it did not run, and it did")


# ---- the structure of a file


class _DamagedError(ValueError):
    """A flaw in a file, and its place."""


Check = Callable[[Any, str], None]


def _no_number(text: str) -> NoReturn:
    raise _DamagedError(f"it holds {text}, which is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _DamagedError(f"{twice!r} is in it twice in one object")
    return found


def _refuse(value: Any, place: str, wanted: str) -> NoReturn:
    text = json.dumps(value)
    found = text if len(text) <= 40 else f"{text[:37]}..."
    raise _DamagedError(f"{place or 'it'} must be {wanted}, not {found}")


def _kind(wanted: str, test: Callable[[Any], bool]) -> Check:
    """Return a check of single values."""

    def check(value: Any, place: str) -> None:
        if not test(value):
            _refuse(value, place, wanted)

    return check


def _object(**fields: Check) -> Check:
    """Return a check of objects with these fields and no others."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, place, "an object")
        _require(fields, value, place)
        for name, each in value.items():
            if name not in fields:
                raise _DamagedError(f"{_join(place, name)} is not known in format {FORMAT}")
            fields[name](each, _join(place, name))

    return check


def _require(names: Iterable[str], value: Mapping[str, Any], place: str) -> None:
    for name in names:
        if name not in value:
            raise _DamagedError(f"{_join(place, name)} is missing")


def _named(inside: Check, **fields: Check) -> Check:
    """Return a check of objects with these fields and possibly others."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, dict):
            _refuse(value, place, "an object")
        _require(fields, value, place)
        for name, each in value.items():
            _TEXT(name, f"a name in {place}")
            fields.get(name, inside)(each, _join(place, name))

    return check


def _list(inside: Check, length: int | None = None, least: int = 1) -> Check:
    """Return a check of lists."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, list):
            _refuse(value, place, "a list")
        if len(value) != length if length is not None else len(value) < least:
            raise _DamagedError(f"{place} must have {length or f'at least {least}'} items, not {len(value)}")
        for i, each in enumerate(value):
            inside(each, f"{place}[{i}]")

    return check


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST_NUMBER


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value)


_TEXT = _kind("a text", _is_text)
_TEXT_OR_NULL = _kind("a text or null", lambda value: value is None or _is_text(value))
_POSITIVE = _kind("a number > 0", lambda value: _is_number(value) and value > 0)
_SECONDS = _kind(
    f"a number of seconds >= {SHORTEST:g}", lambda value: _is_number(value) and value >= SHORTEST
)
_NUMBER = _kind("a number >= 0", lambda value: _is_number(value) and value >= 0)
_COUNT = _kind("a whole number >= 1", lambda value: type(value) is int and value >= 1)
_ROUNDS = _kind(
    f"a whole number from 1 to {MOST_ROUNDS}", lambda value: type(value) is int and 1 <= value <= MOST_ROUNDS
)
_COUNT_OR_NULL = _kind(
    "a whole number >= 1 or null", lambda value: value is None or (type(value) is int and value >= 1)
)
_FLAG = _kind("true or false", lambda value: isinstance(value, bool))
_FILE = _object(
    format=_kind(f"the number {FORMAT}", lambda value: type(value) is int and value == FORMAT),
    kind=_TEXT,
    suite=_TEXT,
    started=_TEXT,
    load=_list(_NUMBER, length=2),
    machine=_object(
        processor=_TEXT,
        architecture=_TEXT,
        system=_TEXT,
        platform=_TEXT,
        cores=_COUNT,
        memory_gb=_POSITIVE,
        versions=_named(_TEXT_OR_NULL, **dict.fromkeys(VERSIONS, _TEXT)),
        commit=_TEXT_OR_NULL,
        blas=_list(
            _object(
                internal_api=_TEXT,
                version=_TEXT_OR_NULL,
                architecture=_TEXT_OR_NULL,
                num_threads=_COUNT,
                threading_layer=_TEXT_OR_NULL,
                file=_TEXT,
            ),
            least=0,
        ),
        numba=_object(threads=_COUNT, layer=_TEXT_OR_NULL),
        imported_first=_kind('"numpy" or "fastcov"', lambda value: value in ("numpy", "fastcov")),
        environment=_named(_kind("a text", lambda value: isinstance(value, str))),
    ),
    settings=_object(rounds=_ROUNDS, budget=_POSITIVE, threads=_COUNT_OR_NULL, peers=_FLAG),
    cases=_list(
        _object(
            operation=_TEXT,
            shape=_list(_COUNT, length=2),
            dtype=_kind('"float64" or "float32"', lambda value: value in ("float64", "float32")),
            seconds=_named(_list(_SECONDS)),
            flops=_NUMBER,
            nbytes=_NUMBER,
            skipped=_named(_TEXT),
            repeats=_POSITIVE,
        )
    ),
)
