"""Fits on a Dask cluster: measured beside local ones, and a model of what they cost, with its figure.

    python bench/cluster.py [--channels 2000000] [--rounds 3]

prints the table of what was aimed at and what was measured, writes docs/cluster.json and docs/cluster.png,
and says what the model predicts; some eight minutes. Clusters are worker processes of one thread on this
machine, so that two workers, the scheduler and the client share its cores. `--table` measures the table
alone, `--model` what the model is fitted to; `--draw` draws docs/cluster.json again.
"""

from __future__ import annotations

import numpy as np  # first, as in test_speed.py

# isort: split
import argparse
import collections
import contextlib
import dataclasses
import functools
import json
import logging
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import cluster_model as model
import fastcov as fc
from cluster_counts import Asked, recorded
from cluster_figure import draw, predictions
from fastcov._bench._machine import machine
from fastcov._bench._timing import interleaved
from fastcov._timings.runs import ratio

DATA = pathlib.Path(__file__).parent.parent / "docs" / "cluster.json"
D, RELATIVE_RIDGE, CHUNKS = 100, 1e-2, 8
# Fits that the model is fitted to, and others that it is checked on: channels, chunks, workers.
FITTED = [(N, C, W) for W in (1, 2) for N, C in ((50_000, 2), (50_000, 24), (50_000, 80), (400_000, 8))]
CHECKED = [(200_000, 6, 1), (100_000, 48, 2), (300_000, 16, 2)]
EMPTY, VECTOR = (1, 8, 64, 256), 2_000_000  # chunks and channels of maps that do nothing
REPEATS = 5
SAMPLE = 20_000


def block(seed: int, n: int) -> tuple[Any, Any]:
    """Responses (n, D) of channels that share their modes, and gains (n,)."""
    modes = np.random.default_rng(0).standard_normal((8, D)) / np.sqrt(np.arange(1, 9))[:, np.newaxis]
    random = np.random.default_rng([1, seed])
    loadings = random.standard_normal((n, 8))
    drive = loadings @ modes + 0.6 * random.standard_normal((n, D))
    X = np.maximum(drive - 0.7, 0.0) ** 1.5
    return X.astype(np.float32), np.exp(0.5 * random.standard_normal(n) - 0.5 * loadings[:, 0])


@functools.cache
def target(N: int) -> tuple[Any, float]:
    """Target covariance and ridge for N channels, from a sample."""
    X, gains = block(0, SAMPLE)
    S = fc.covariance(X, gains=gains)
    ridge = fc.fit(X, S, relative_ridge=RELATIVE_RIDGE, max_iterations=1000).ridge
    return S * (N / SAMPLE), ridge * (N / SAMPLE)


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[Any]:
    """A client of so many worker processes of one thread."""
    from distributed import Client, LocalCluster

    quiet = {"silence_logs": logging.CRITICAL, "dashboard_address": ":0"}
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, **quiet) as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


def responses(client: Any, N: int, chunks: int) -> Any:
    """A dask array on the workers, made there."""
    import dask.array as da
    from distributed import wait

    def made(seed: Any) -> Any:
        return block(int(seed[0]), -(-N // chunks))[0]

    rows = -(-N // chunks)
    seeds = da.arange(1, chunks + 1, chunks=1)
    X = da.map_blocks(made, seeds, chunks=((rows,) * chunks, (D,)), new_axis=1, dtype=np.float32)
    with client.as_current():
        X = X.persist()
        wait(X)
    return X


def fitted(X: Any, S: Any, ridge: float, client: Any = None) -> fc.Fit:
    """By `pcg`; on a cluster, or here on one thread."""
    with client.as_current() if client is not None else fc.threads(1):
        fit = fc.fit(X, S, ridge=ridge, solver="pcg")
    assert fit.status == "converged", fit
    return fit


def size_of(fit: fc.Fit) -> model.Fit:
    N, conditions = fit.stats["shape"]
    taken = {name: fit.stats[name] for name in ("rank", "iterations", "renewals")}
    return model.Fit(N, conditions, np.dtype(fit.stats["dtype"]).itemsize, **taken)


# What was aimed at


def table(N: int, rounds: int, budget: float) -> dict[str, Any]:
    """Ratios of the times of fits, from interleaved rounds, and what one iteration asks for."""
    S, ridge = target(N)
    with cluster(1) as one, cluster(2) as two:
        on = {1: responses(one, N, CHUNKS), 2: responses(two, N, CHUNKS)}
        X = np.concatenate([block(seed, -(-N // CHUNKS))[0] for seed in range(1, CHUNKS + 1)])
        sample = X[:SAMPLE], S * (SAMPLE / N), ridge * (SAMPLE / N)
        fitted(*sample)
        for client in (one, two):  # loads what is loaded once
            fitted(responses(client, SAMPLE, 4), *sample[1:], client)
        found: dict[str, list[Any]] = collections.defaultdict(list)

        def run(name: str, *args: Any) -> None:
            start = time.perf_counter()
            with recorded() as asked:
                fit = fitted(*args)
            own = time.perf_counter() - start - sum(each.seconds for each in asked)
            found[name].append((fit, asked, own))

        runs = {
            "local": lambda: run("local", X, S, ridge),
            "one": lambda: run("one", on[1], S, ridge, one),
            "two": lambda: run("two", on[2], S, ridge, two),
        }
        seconds = interleaved(runs, rounds, budget, least=dict.fromkeys(runs, 2), warm=runs)
        reference = found["local"][0][0]
        apart = max(np.abs(fit.gains - reference.gains).max() for fit, *_ in found["two"] + found["one"])
        fit, asked, _ = found["two"][-1]
    assert apart <= 1e-5 * np.abs(reference.delta).max(), apart
    size = size_of(fit)
    single = [each for each in asked if not each.exact]
    maps = [next(each for each in single if each.name == name) for name in ("reduced", "corrected")]
    return {
        "fit": dataclasses.asdict(size), "chunks": CHUNKS, "seconds": seconds,
        "tasks": sum(each.tasks for each in maps), "bytes": sum(each.moved for each in maps),
        "checks": [
            {
                "workers": W, "chunks": CHUNKS, "fit": dataclasses.asdict(size),
                "seconds": min(seconds[name]), "own": min(own for *_, own in found[name]),
            }
            for name, W in (("one", 1), ("two", 2))
        ],
    }  # fmt: skip


def printed(found: dict[str, Any]) -> None:
    """The table."""
    N, C, seconds = found["fit"]["channels"], found["chunks"], found["seconds"]
    at = f"({N}, {D}) float32"
    rows = [
        ("one worker of one thread / two, `pcg`", at, "≥ 1.6", ratio(seconds["one"], seconds["two"]), ".2f"),
        ("Dask with one worker / local with one thread", at, "≤ 1.3",
         ratio(seconds["one"], seconds["local"]), ".2f"),
        ("bytes moved per operator application", f"{C} chunks", f"≤ {8 * N + 3 * C * 8 * D**2}",
         found["bytes"], "d"),
        ("tasks per iteration", f"{C} chunks", f"≤ {4 * C}", found["tasks"], "d"),
    ]  # fmt: skip
    print("| what | at | aim | measured |\n|---|---|---|---|")
    for what, where, aim, value, form in rows:
        print(f"| {what} | {where} | {aim} | {value:{form}} |")
    took = ", ".join(f"{name} {min(each):.1f}" for name, each in seconds.items())
    print(f"\nSeconds of the fastest of {min(map(len, seconds.values()))} rounds: {took}.\n", flush=True)


# What the model is fitted to


def idle(client: Any, workers: int) -> Iterator[dict[str, Any]]:
    """Seconds of maps that do nothing: that give a D x D matrix of each chunk, and vectors over channels."""
    from fastcov._model.problem import Problem

    def matrix(problem: Any) -> Any:
        return np.zeros((problem.shape[1],) * 2)

    def up(problem: Any) -> Any:
        return np.zeros(len(problem.X))

    def down(problem: Any, values: Any) -> Any:
        return np.zeros(1)

    def problem_of(N: int, conditions: int, chunks: int) -> Any:
        import dask.array as da

        return Problem.of(client.persist(da.zeros((N, conditions), chunks=(-(-N // chunks), -1))))

    def took(what: str, problem: Any, run: Callable[[], Any]) -> dict[str, Any]:
        run()
        (N, conditions), chunks, seconds = problem.shape, len(problem.X.slices), []
        for _ in range(REPEATS):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return {
            "map": what, "channels": N, "conditions": conditions, "chunks": chunks, "workers": workers,
            "seconds": statistics.median(seconds),
        }  # fmt: skip

    with client.as_current():
        for chunks in EMPTY:
            problem = problem_of(chunks, D, chunks)
            yield took("matrix", problem, functools.partial(problem.X.total, matrix, problem))
        problem = problem_of(VECTOR, 1, CHUNKS)
        values = np.zeros((1, VECTOR))
        yield took("up", problem, lambda: problem.X.joined(up, problem))
        yield took("down", problem, lambda: problem.X.total(down, problem, values, each=1))


IDLE = {
    "matrix": model.Map("matrix", part=8 * D * D),
    "up": model.Map("up", vectors=8),
    "down": model.Map("down", vectors=8, part=8),
}


def of_fit(client: Any, N: int, chunks: int) -> tuple[fc.Fit, list[Asked], float]:
    """A fit, what it asked for, and seconds in all."""
    X, (S, ridge) = responses(client, N, chunks), target(N)
    start = time.perf_counter()
    with recorded() as asked:
        fit = fitted(X, S, ridge, client)
    return fit, asked, time.perf_counter() - start


def seconds_of(asked: list[Asked]) -> dict[str, float]:
    """The median of each map of the model, by its name there."""
    took: dict[str, list[float]] = collections.defaultdict(list)
    for each in asked:
        took[each.name + ", exact" * (each.name == "reduced" and each.exact)].append(each.seconds)
    return {name: statistics.median(found) for name, found in took.items()}


def measured() -> dict[str, Any]:
    """Seconds of fits, of each of their maps, and of idle ones."""
    fits: list[dict[str, Any]] = []
    nothing: list[dict[str, Any]] = []
    for workers in (1, 2):
        with cluster(workers) as client:
            of_fit(client, SAMPLE, 4)
            nothing += idle(client, workers)
            for N, chunks, W in FITTED + CHECKED:
                if workers != W:
                    continue
                fit, asked, took = of_fit(client, N, chunks)
                fits.append({
                    "workers": W, "chunks": chunks, "fit": dataclasses.asdict(size_of(fit)), "seconds": took,
                    "own": took - sum(each.seconds for each in asked), "maps": seconds_of(asked),
                    "check": (N, chunks, W) in CHECKED,
                })  # fmt: skip
                print(f"  {N} channels, {chunks} chunks, {W} workers: {took:.1f} s", flush=True)
    return {"fits": fits, "idle": nothing}


def rates_of(found: dict[str, Any]) -> model.Rates:
    """Fitted to all but what is there to check."""
    measurements = [
        model.Measured(
            IDLE[one["map"]], model.Fit(one["channels"], one["conditions"]),
            model.Cluster(one["workers"], one["chunks"]), one["seconds"],
        )
        for one in found["idle"]
    ]  # fmt: skip
    fits = [one for one in found["fits"] if not one["check"]]
    for one in fits:
        size = model.Fit(**one["fit"])
        measurements += [
            model.Measured(each, size, model.Cluster(one["workers"], one["chunks"]), one["maps"][each.name])
            for each in model.maps(size)
        ]
    # Besides vectors the client looks after the loading of chunks, and draws pivots.
    alone = fits + found.get("table", {}).get("checks", [])
    amounts = np.array([[one["fit"]["channels"], one["chunks"], 1.0] for one in alone])
    channel = np.linalg.lstsq(amounts, np.array([one["own"] for one in alone]), rcond=None)[0][0]
    return dataclasses.replace(model.fitted(measurements), channel=max(0.0, float(channel)))


def checked(found: dict[str, Any], rates: model.Rates) -> None:
    """Fits beside what the model says."""
    print("| channels | chunks | workers | | iteration, s | model | fit, s | model |\n|" + "---|" * 8)
    for one in found["fits"] + found.get("table", {}).get("checks", []):
        size, at = model.Fit(**one["fit"]), model.Cluster(one["workers"], one["chunks"])
        step, whole = (of(size, at, rates).total for of in (model.iteration_seconds, model.fit_seconds))
        seen = f"{sum(one['maps'][name] for name in ('reduced', 'corrected')):.3f}" if "maps" in one else ""
        use = "" if "maps" in one and not one["check"] else "check"
        print(
            f"| {size.channels} | {at.chunks} | {at.workers} | {use} | {seen} | {step:.3f} | "
            f"{one['seconds']:.2f} | {whole:.2f} |"
        )


def here() -> dict[str, Any]:
    """What it was measured on."""
    import distributed

    found = machine()
    return {"processor": found["processor"], "cores": found["cores"], "distributed": distributed.__version__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--channels", type=int, default=2_000_000, help="of the table")
    parser.add_argument("--rounds", type=int, default=3, help="of the table at most, each three fits")
    parser.add_argument(
        "--seconds", type=float, default=300.0, help="that the table may take with a third round and more"
    )
    parser.add_argument("--table", action="store_true", help="measure what was aimed at alone")
    parser.add_argument("--model", action="store_true", help="measure what the model is fitted to alone")
    parser.add_argument("--draw", action="store_true", help="draw docs/cluster.json again")
    given = parser.parse_args()
    every = not (given.table or given.model or given.draw)
    kept: dict[str, Any] = json.loads(DATA.read_text()) if DATA.exists() and not every else {}
    if given.table or every:
        kept["table"] = table(given.channels, given.rounds, given.seconds)
    if given.model or every:
        kept.update(measured())
    if not given.draw:
        DATA.write_text(json.dumps({**kept, "machine": here()}, indent=1) + "\n")
    if "table" in kept:
        printed(kept["table"])
    if "fits" in kept:
        rates = rates_of(kept)
        checked(kept, rates)
        predictions(kept, rates)
        draw(kept, rates, DATA.with_suffix(".png"))


if __name__ == "__main__":
    main()
