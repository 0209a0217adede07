"""Compare two records: did an operation become slower?

Seconds of two runs cannot be compared if others use the machine. So each round of fastcov is divided by a
reference that ran in the same round, r_i = ours_i / reference_i. The reference is the floor, or else the
naive version, or else a peer, and it is the same in both records. A floor that repeats its work as often as
fastcov iterates is taken per repeat; otherwise twice the iterations would show no change. With rounds a_i in
one record and b_j in the other, the change is the median of all b_j / a_i (Hodges and Lehmann, Annals of
Mathematical Statistics 34:598, 1963), which a burst in a quarter of the rounds hardly moves. Its confidence
interval, at 99 % because there are many operations, lies between the order statistics of the same ratios at
which the rank-sum test reaches its limit. This assumes only that the noise has the same form in both records.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from .._timings.record import Record, Timed
from .._timings.runs import FLOOR, OURS
from ._case import reference
from ._machine import PEERS
from ._table import aligned, disturbance

FAIL_ABOVE = 1.10
# Quantile of the normal distribution, for an interval at 99 %.
QUANTILE = 2.576

SLOWER, UNSURE, NOISY, FINE = "slower", "unsure", "noisy", "fine"

Machine = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Change:
    """The change of an operation relative to `reference`, with its interval; above 1 it became slower."""

    name: str
    reference: str
    value: float
    low: float
    high: float
    fail_above: float

    @property
    def verdict(self) -> str:
        """Slower, fine, unsure or noisy.

        A change is slower if it is above the limit `fail_above` and significantly above 1, and unsure if it
        is above the limit but not significantly above 1. It is noisy if it is below the limit, but so
        uncertain that a change as large as the limit could go unnoticed.
        """
        if self.value > self.fail_above:
            return SLOWER if self.low > 1 else UNSURE
        return FINE if self.high <= self.value * self.fail_above else NOISY

    def __str__(self) -> str:
        """For example, "gram 148x48 float64: 1.15 times (1.12 to 1.18) as long relative to floor"."""
        return (
            f"{self.name}: {self.value:.3f} times ({self.low:.3f} to {self.high:.3f}) as long relative to "
            f"{self.reference}"
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The comparison of two records.

    `apart` lists differences that prevent any comparison, `missing` the cases that cannot be compared, each
    with the reason, and `notes` the differences that the user allowed, and possible disturbances.
    """

    apart: tuple[str, ...]
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    changes: tuple[Change, ...]

    def named(self, verdict: str) -> list[Change]:
        return [change for change in self.changes if change.verdict == verdict]

    @property
    def code(self) -> int:
        """Exit code: 1 if an operation became slower; else 2 if any comparison is impossible; else 0."""
        if self.named(SLOWER):
            return 1
        told = self.changes and not (self.apart or self.missing or self.named(UNSURE) or self.named(NOISY))
        return 0 if told else 2

    def __str__(self) -> str:
        """Tabulate the changes, largest first."""
        head = ("operation", "change", "interval", "relative to", "")
        rows = [
            (c.name, f"{c.value:.3f}", f"{c.low:.3f} to {c.high:.3f}", c.reference,
             "" if c.verdict == FINE else c.verdict)
            for c in sorted(self.changes, key=lambda change: -change.value)
        ]  # fmt: skip
        return aligned([head, *rows], left=(0, 3, 4))


def compare(
    before: Record, after: Record, *, fail_above: float = FAIL_ABOVE, across: Collection[str] = ()
) -> Comparison:
    """Compare two records, and return how each operation changed.

    Parameters
    ----------
    before, after : Record
    fail_above : float
        A change above this limit is a regression.
    across : collection of str
        Names in `SAME` of differences that do not prevent the comparison; "cases" for cases that are missing
        from one of the records.
    """
    apart: list[str] = []
    notes: list[str] = []
    changes: list[Change] = []
    missing: list[str] = []
    if before.cases == after.cases:
        apart.append("Both files hold the same rounds: nothing was measured between them.")
    for name, (what, of) in SAME.items():
        if said := _difference(of(before), of(after)):
            if name in across:
                notes.append(f"Across {what}: {said}")
            else:
                apart.append(f"{what}: {said} (--across {name})")
    commits = [record.machine["commit"] for record in (before, after)]
    if commits[0] != commits[1]:  # the comparison may be between commits of one version
        notes.append(f"Across commits: {commits[0]}, then {commits[1]}")
    notes += [f"{place} file: {word}" for place, record in (("First", before), ("Second", after))
              if (word := disturbance(record))]  # fmt: skip
    if apart:
        return Comparison(tuple(apart), tuple(notes), (), ())
    old, new = ({case.name: case for case in record.cases} for record in (before, after))
    for name in {**old, **new}:
        if name in old and name in new:
            found = _change(old[name], new[name], fail_above)
            if isinstance(found, Change):
                changes.append(found)
            else:
                missing.append(found)
            continue
        said = f"only in the {'first' if name in old else 'second'} file"
        if "cases" in across:
            notes.append(f"Across cases: {name} {said}")
        else:
            missing.append(f"{name}: {said} (--across cases)")
    if not changes and not missing:
        apart.append("The files have no case in common.")
    return Comparison(tuple(apart), tuple(notes), tuple(missing), tuple(changes))


def _change(before: Timed, after: Timed, fail_above: float) -> Change | str:
    """Return the change of a case, or the reason why there is none."""
    beside, other = reference(before.seconds), reference(after.seconds)
    for run, seconds, place in ((beside, after.seconds, "first"), (other, before.seconds, "second")):
        if run is not None and run not in seconds:  # another reference would be another comparison
            return f"{before.name}: {run}, which it is taken relative to, ran only in the {place} file"
    if beside is None:
        return f"{before.name}: nothing ran beside it, so that there is no reference"
    a, b = (_log_ratios(case, beside) for case in (before, after))
    interval = shift(a, b)
    if interval is None:
        return (
            f"{before.name}: {len(a)} and {len(b)} rounds are too few to tell a change from noise: measure "
            "with more --rounds"
        )
    value, low, high = map(math.exp, interval)
    return Change(before.name, beside, value, low, high, fail_above)


def _log_ratios(case: Timed, beside: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return log ratios of the rounds in which both ran; the floor is taken per repeat."""
    ratios = np.log([a / b for a, b in zip(case.seconds[OURS], case.seconds[beside], strict=False)])
    return ratios + math.log(case.repeats) if beside == FLOOR else ratios


def shift(a: Any, b: Any) -> tuple[float, float, float] | None:
    """Return Hodges and Lehmann's estimate of b − a, and its interval; None if there are too few rounds.

    With n and m rounds the rank-sum statistic has the mean nm/2 and the variance nm(n + m + 1)/12. The
    interval extends from the k-th smallest to the k-th largest difference with k = nm/2 − 2.576 √variance.
    """
    apart = np.sort(np.subtract.outer(b, a), axis=None)
    n, m = len(a), len(b)
    k = int(n * m / 2 - QUANTILE * math.sqrt(n * m * (n + m + 1) / 12))
    return (float(np.median(apart)), float(apart[k - 1]), float(apart[-k])) if k >= 1 else None


# ---- properties that must be the same in both records


def _version(*packages: str) -> Callable[[Record], Any]:
    return lambda record: {name: record.machine["versions"].get(name) for name in packages}


def _computer(record: Record) -> Any:
    found = {name: record.machine[name] for name in ("processor", "architecture", "system", "cores")}
    # Firmware takes some of the memory, so the same modules may differ in size by some bytes.
    return found | {"memory": f"{2 ** round(math.log2(record.machine['memory_gb'])):g} GB"}


def _libraries(record: Record) -> Any:
    pools = record.machine["blas"]
    found = (f"{pool['internal_api']} {pool['version']} ({pool['architecture']})" for pool in pools)
    known = pools and all(pool["version"] for pool in pools)
    return {"libraries": ", ".join(sorted(found)) if known else None}


def _parallel(record: Record) -> Any:
    blas = sorted(pool["num_threads"] for pool in record.machine["blas"])
    numba = record.machine["numba"]
    # With one thread Numba does not choose a threading layer.
    return {"BLAS": blas, "Numba threads": numba["threads"], "Numba layer": numba["layer"] or "none"}


def _given(record: Record) -> Any:
    """Return variables, and which of NumPy and fastcov was imported first: its variables affect both."""
    return record.machine["environment"] | {"imported first": record.machine["imported_first"]}


def _peers(record: Record) -> Any:
    """Return whether peers were measured, and the versions of those that are installed."""
    measured = record.settings["peers"]
    versions = _version(*PEERS)(record) if measured else {}
    return {"measured": measured} | {name: version for name, version in versions.items() if version}


# For each word after --across: a description, and the property that must be equal in both records.
SAME: dict[str, tuple[str, Callable[[Record], Any]]] = {
    "machine": ("other machine", _computer),
    "fastcov": ("other fastcov", _version("fastcov")),
    "python": ("other Python", _version("python")),
    "numpy": ("other NumPy", _version("numpy")),
    "scipy": ("other SciPy", _version("scipy")),
    "numba": ("other Numba", _version("numba", "llvmlite")),
    # A peer may be the reference, and a peer that runs in between leaves traces in the caches.
    "peers": ("other peers", _peers),
    "blas": ("other BLAS", _libraries),
    "threads": ("other threads", _parallel),
    "environment": ("other environment", _given),
}
ACROSS = (*SAME, "cases")


def _difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Describe differences, such as "cores 2, then 4"; empty if there are none. An unknown value counts."""
    pairs = [(name, a.get(name), b.get(name)) for name in {**a, **b}]
    return "; ".join(
        f"{name} not known" if one is None is other else f"{name} {one}, then {other}"
        for name, one, other in pairs
        if one is None or one != other
    )
