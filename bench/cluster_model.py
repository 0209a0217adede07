"""What a fit by `pcg` on a Dask cluster costs: flops, bytes and seconds of its maps, in closed form.

N channels, D conditions, X of `itemsize` bytes, rank k of the preconditioner, I iterations of which R end in
a renewal; C chunks on W workers of `threads` threads. A fit is a list of maps (`maps`). One of them takes

    start + task · tasks + C · sent / link                     the scheduler, who sends one task after another
  + ⌈⌈C / W⌉ / threads⌉ · ⌈N / C⌉ · (flops · seconds a flop    the threads, each a share of the chunks, which
      + D · seconds an element)                                they also read
  + levels · (level + 7 · part / link) + part / link           the tree: eight partial sums at a time
  + N · bytes a channel · max(byte, 2 / link)                  vectors over channels, to or from the client

added up, for Dask hands a worker its tasks before it turns to the next: the last worker begins when nearly
all tasks are sent. `cluster_simulation` is what this is checked against. Tasks are the C of the map and the
sums (`tree`). An iteration is two maps, `reduced` and `corrected`, in the precision of X:

    flops   4ND² + 4Nk
    bytes   8D² to each chunk, twice; 8D² from each, up the tree; 8k, twice, which is nothing

All before and after is in float64: `maps` has it. A fit moves seven vectors over channels through the client,
56 N bytes: sizes, norms, overlaps, δ and its residual come from the chunks, δ and gains go there. By default
Dask takes them through the scheduler, so that they cross two links.

A worker holds itemsize · N (D + k) / W + 8 N / W bytes: X, the factor of the preconditioner and the residual.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

TOGETHER, FEW = 8, 2  # partial sums that one task adds; and that the client adds
FILLED = 0.6  # share of a worker's memory that may be used
# X in a chunk at most: one that is lost is made again, and where it has to be converted it is held twice.
LARGEST_CHUNK = 2.5e9
VECTORS = 7  # over channels that cross the client in a fit
HOPS = 2  # links that these cross: worker, scheduler, client
# A flop of the factor of the preconditioner takes as long as so many of an iteration: its panels are narrow.
PREPARED = 2
# Above so many conditions the covariance is by SYRK, half the flops.
NARROW = 128


@dataclasses.dataclass(frozen=True)
class Fit:
    """What is fitted, and what it takes: rank, iterations and renewals are known once it was done."""

    channels: int
    conditions: int = 100
    itemsize: int = 4
    rank: int = 150
    iterations: int = 12
    renewals: int = 2

    @property
    def nbytes(self) -> int:
        return self.itemsize * self.channels * self.conditions


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Workers, and links between them; on one machine no link is slow."""

    workers: int
    chunks: int
    threads: int = 1
    link: float = math.inf  # bytes a second

    @property
    def rounds(self) -> int:
        """Chunks that the busiest thread has."""
        return math.ceil(math.ceil(self.chunks / self.workers) / self.threads)


@dataclasses.dataclass(frozen=True)
class Map:
    """One pass over the chunks, how often a fit makes it, and per channel and chunk what it takes."""

    name: str
    times: int = 1
    single: float = 0.0  # flops a channel in the precision of X
    double: float = 0.0  # in float64
    vectors: float = 0.0  # bytes a channel, from or to the client
    part: float = 0.0  # bytes of a partial sum; 0: nothing is summed
    sent: float = 0.0  # bytes to each chunk


@dataclasses.dataclass(frozen=True)
class Rates:
    """Seconds of each flop, element that is read, map, task, level of the tree, byte and channel: fitted."""

    single: float
    double: float
    element: float
    start: float
    task: float
    level: float
    byte: float
    channel: float = 0.0  # of the client's own work on vectors, in a fit


@dataclasses.dataclass(frozen=True)
class Parts:
    """Seconds by what they are spent on."""

    compute: float = 0.0
    tasks: float = 0.0
    network: float = 0.0
    vectors: float = 0.0

    @property
    def total(self) -> float:
        return self.compute + self.tasks + self.network + self.vectors

    def __add__(self, other: Parts) -> Parts:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Parts(*(a + b for a, b in pairs))

    def __mul__(self, times: float) -> Parts:
        return Parts(*(times * part for part in dataclasses.astuple(self)))


def iteration(fit: Fit) -> list[Map]:
    """The two maps of an iteration."""
    D, k = fit.conditions, fit.rank
    square, flops = 8 * D * D, 2 * D * D + 2 * k
    return [
        Map("reduced", single=flops, part=8 * (k + 1), sent=square),
        Map("corrected", single=flops, part=square + 8, sent=square + 8 * k),
    ]


def maps(fit: Fit) -> list[Map]:
    """Those of a fit with a ridge, method "linear"; a relative ridge takes seven more of 4D² flops."""
    D, k, renewals = fit.conditions, fit.rank, fit.renewals
    square, product = 8 * D * D, 2 * D * D
    covariance = product if D <= NARROW else D * D
    reduced, corrected = iteration(fit)
    return [
        Map("chunk_sums", single=3 * D, vectors=8),
        Map("covariance", times=2, double=covariance, part=square),
        Map("squared_norms", double=9 * D, vectors=8),
        Map("weighted_adjoint", times=3, double=product, vectors=8, sent=square),
        Map("factor_products", single=PREPARED * (2 * D * k + 3 * k * k), part=8 * k * k),
        dataclasses.replace(reduced, times=fit.iterations + 1),
        dataclasses.replace(corrected, times=fit.iterations),
        Map("squared", times=renewals, double=2 * product, part=square, sent=square),
        Map("reduced, exact", renewals, single=2 * k, double=product, part=8 * (k + 1), sent=square),
        Map("weighted_atoms", double=product, vectors=8, part=square + 8 * D),
        Map("chunk_sum", double=3 * D, vectors=8, part=8 * D),
    ]


def tree(chunks: int) -> list[int]:
    """Sums on each level: of eight that are beside each other, one that is alone goes up as it is."""
    if chunks <= FEW:
        return []
    levels = []
    while chunks > 1:
        above = -(-chunks // TOGETHER)
        levels.append(above - (chunks % TOGETHER == 1))
        chunks = above
    return levels


def tasks(each: Map, chunks: int) -> int:
    """Of one map."""
    return chunks + (sum(tree(chunks)) if each.part else 0)


def moved(each: Map, fit: Fit, chunks: int) -> float:
    """Bytes over the network in one map, if no two chunks share a worker; a sum is where one part is."""
    return each.vectors * fit.channels + (each.sent + each.part) * chunks


def amounts(each: Map, fit: Fit, cluster: Cluster) -> dict[str, float]:
    """Of what one map takes, as much as is done one after the other, by the name of its rate."""
    rows = cluster.rounds * math.ceil(fit.channels / cluster.chunks)
    return {
        "single": each.single * rows,
        "double": each.double * rows,
        "element": fit.conditions * rows,
        "start": 1,
        "task": tasks(each, cluster.chunks),
        "level": len(tree(cluster.chunks)) if each.part else 0,
        "byte": each.vectors * fit.channels,
    }


def seconds(each: Map, fit: Fit, cluster: Cluster, rates: Rates) -> Parts:
    """Of one map."""
    took = {name: getattr(rates, name) * much for name, much in amounts(each, fit, cluster).items()}
    levels = len(tree(cluster.chunks)) if each.part else 0
    came = 1 if levels else cluster.chunks  # to the client
    return Parts(
        compute=took["single"] + took["double"] + took["element"],
        tasks=took["start"] + took["task"] + cluster.chunks * each.sent / cluster.link,
        network=took["level"] + ((TOGETHER - 1) * levels + came) * each.part / cluster.link,
        vectors=each.vectors * fit.channels * max(rates.byte, HOPS / cluster.link),
    )


def iteration_seconds(fit: Fit, cluster: Cluster, rates: Rates) -> Parts:
    return sum((seconds(each, fit, cluster, rates) for each in iteration(fit)), Parts())


def fit_seconds(fit: Fit, cluster: Cluster, rates: Rates) -> Parts:
    """Of all maps, and of what the client does on its own."""
    own = Parts(vectors=rates.channel * fit.channels)
    return sum((seconds(each, fit, cluster, rates) * each.times for each in maps(fit)), own)


def vector_bytes(fit: Fit) -> float:
    """Over channels, through the client, in a fit."""
    return 8.0 * VECTORS * fit.channels


def worker_bytes(fit: Fit, workers: int, *, factor: bool = True) -> float:
    """What the chunks of a worker take, with the factor of the preconditioner or without."""
    columns = fit.conditions + factor * fit.rank
    return (fit.itemsize * columns + 8.0) * fit.channels / workers


def least_workers(fit: Fit, memory: float, *, factor: bool = True) -> int:
    """Workers of so many bytes that hold X and the factor."""
    return math.ceil(worker_bytes(fit, 1, factor=factor) / (FILLED * memory))


def best_chunks(fit: Fit, workers: int, threads: int, rates: Rates, link: float) -> int:
    """Chunks with which a fit takes least: one a thread, or more where those were too large.

    Fewer where the scheduler would take longer than the threads: threads beyond these have nothing to do.
    """
    slots, least = workers * threads, math.ceil(fit.nbytes / LARGEST_CHUNK)
    rounds = max(1, math.ceil(least / slots))
    fewer = {round(least * 1.05**i) for i in range(400)}
    tried = [slots * rounds, *sorted(chunks for chunks in fewer if least <= chunks < slots)]
    return min(tried, key=lambda C: fit_seconds(fit, Cluster(workers, C, threads, link), rates).total)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Seconds that a map took, somewhere."""

    map: Map
    fit: Fit
    cluster: Cluster
    seconds: float


def fitted(measured: Sequence[Measured]) -> Rates:
    """Rates that are nearest to what was measured, in relative terms; none is below zero."""
    names = [field.name for field in dataclasses.fields(Rates) if field.name != "channel"]
    rows = [amounts(one.map, one.fit, one.cluster) for one in measured]
    A = np.array([[row[name] for name in names] for row in rows])
    A /= np.array([one.seconds for one in measured])[:, np.newaxis]
    sizes = np.linalg.norm(A, axis=0)
    found, _ = nnls(A / np.where(sizes > 0, sizes, 1.0), np.ones(len(A)))
    return Rates(**dict(zip(names, (found / np.where(sizes > 0, sizes, 1.0)).tolist(), strict=True)))
