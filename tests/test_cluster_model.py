"""The cost model of fits on a cluster, beside what the code asks for and an event-by-event simulation."""

import collections
import dataclasses
import math

import numpy as np
import pytest
from cases import bench_modules

import fastcov as fc
from fastcov._rows.chunked import Chunked, Piece

N, D = 3000, 12
INSTANT = dict.fromkeys(("single", "double", "element", "start", "task", "level", "byte"), 0.0)


@pytest.fixture(scope="module")
def modules():
    """The modules of bench/cluster.py that measure nothing, by path: bench is no package."""
    with bench_modules("cluster_model", "cluster_simulation", "cluster_counts") as found:
        yield found


@pytest.fixture
def model(modules):
    return modules["cluster_model"]


@pytest.fixture
def simulation(modules):
    return modules["cluster_simulation"]


class Future:
    """A value that is on a worker, hashed by what it is and not by what it holds."""

    def __init__(self, value):
        self.value = value


class InProcess:
    """What `Chunked` asks of a cluster, done here, one task after another."""

    def places(self, chunks):
        return ["here"] * len(chunks)

    def free(self):
        return {"here": 1e12}

    def placed(self, parts, chunks):
        return self._scatter(parts)

    def scattered(self, value, *, everywhere=False):
        return self._scatter([value])[0]

    def _scatter(self, values):
        return [Future(value) for value in values]

    def results(self, tasks, places, keys):
        done = {}
        for key, (function, *args) in tasks.items():
            done[key] = function(*(self._value(each, done) for each in args))
        return [done[key] for key in keys]

    def _value(self, each, done):
        if isinstance(each, Future):
            return each.value
        return done[each] if isinstance(each, str) and each in done else each


@pytest.fixture
def in_process():
    """A function that gives chunks of responses, on a cluster that is this process."""

    def chunked(X, chunks):
        parts = np.array_split(X, chunks)
        pieces = [Future(Piece(part)) for part in parts]
        return Chunked("X", InProcess(), pieces, [len(part) for part in parts], X.shape[1], X.dtype)

    return chunked


@pytest.fixture
def asked(modules, in_process, monkeypatch):
    """A fit in so many chunks, and what it asked for."""
    counts = modules["cluster_counts"]
    monkeypatch.setattr(counts, "Cluster", InProcess)
    sim = fc.datasets.simulate(N, D, rng=0, dtype=np.float32)
    ridge = fc.fit(sim.X, sim.S, relative_ridge=1e-3).ridge

    def run(chunks, rank=None):
        with counts.recorded() as found:
            fit = fc.fit(in_process(sim.X, chunks), sim.S, ridge=ridge, solver="pcg", rank=rank)
        assert fit.status == "converged"
        taken = {name: fit.stats[name] for name in ("rank", "iterations", "renewals")}
        return modules["cluster_model"].Fit(N, D, 4, **taken), found

    return run


@pytest.mark.parametrize("chunks", [1, 2, 8, 9, 17, 40])
def test_model_has_the_maps_tasks_and_bytes_of_a_fit(model, asked, chunks):
    size, found = asked(chunks)
    seen = collections.defaultdict(list)
    for each in found:
        seen[each.name + ", exact" * (each.name == "reduced" and each.exact)].append(each)
    drawn = seen.pop("rows")  # pivots: a few rows at a time
    assert sum(each.results for each in drawn) <= 4 * D * 64 * len(drawn)
    expected = {each.name: each for each in model.maps(size) if each.times}
    assert set(seen) == set(expected)
    for name, each in expected.items():
        assert len(seen[name]) == each.times, name
        for one in seen[name]:
            assert one.chunks == chunks, name
            assert one.tasks == model.tasks(each, chunks), name
            # besides: the mean of all, a number or two from each chunk
            assert 0 <= one.moved - model.moved(each, size, chunks) <= 8 * (D + 4) * chunks + 64, name


@pytest.mark.parametrize("chunks", [8, 40])
def test_an_iteration_moves_and_schedules_no_more_than_promised(model, asked, chunks):
    """Of numbers along pivots too, 16 a pivot and chunk: within 8N where these are no more than N / (2 C)."""
    _, found = asked(chunks, rank=N // (4 * chunks))
    maps = [next(each for each in found if each.name == name) for name in ("reduced", "corrected")]
    assert sum(each.tasks for each in maps) <= 4 * chunks
    assert sum(each.moved for each in maps) <= 8 * N + 3 * chunks * 8 * D**2


def test_as_many_vectors_over_channels_cross_the_client_as_the_model_has(model, asked):
    size, found = asked(5, rank=10)  # so that whatever else is sent is less than a vector
    assert sum((each.sent + each.results) // (8 * N) for each in found) == model.VECTORS
    assert model.vector_bytes(size) == sum(each.times * each.vectors for each in model.maps(size)) * N


@pytest.mark.parametrize("chunks", [1, 2, 7, 8, 9, 10, 16, 57, 64, 65, 66, 513, 4096])
def test_tree_has_as_many_sums_as_the_graph(model, in_process, chunks):
    from fastcov._rows.chunked import _Graph

    X = in_process(np.ones((chunks, 2)), chunks)
    graph = _Graph(X)
    graph.sum([graph.task("part", c, len) for c in range(chunks)])
    assert len(graph.tasks) - chunks == sum(model.tree(chunks))
    levels = {key.split("-")[-2] for key in graph.tasks if "-sum-" in key}
    assert len(levels) == len(model.tree(chunks))


@pytest.fixture
def rates(model):
    return model.Rates(
        single=1 / 30e9, double=1 / 15e9, element=1e-10, start=0.01, task=1e-3, level=4e-3, byte=1e-9
    )


@pytest.mark.parametrize(("workers", "threads"), [(1, 1), (4, 1), (3, 4), (50, 2)])
@pytest.mark.parametrize("chunks", [1, 5, 64, 300])
def test_simulation_is_the_formula_where_only_threads_take_time(model, simulation, workers, threads, chunks):
    rates = model.Rates(**{**INSTANT, "single": 1e-10, "element": 1e-9})
    cluster, fit = model.Cluster(workers, chunks, threads), model.Fit(10**6)
    expected = model.iteration_seconds(fit, cluster, rates).total
    found = simulation.simulated_iteration(fit, cluster, rates)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("chunks", [1, 8, 64, 512])
def test_simulation_is_the_formula_where_only_the_scheduler_takes_time(model, simulation, chunks):
    """But for sums that it sends while it sends other tasks: those of the last, all on one another."""
    rates = model.Rates(**{**INSTANT, "start": 0.5, "task": 1e-3})
    cluster, fit = model.Cluster(chunks, chunks), model.Fit(10**6)
    assert simulation.simulated_iteration(fit, cluster, rates) == pytest.approx(
        model.iteration_seconds(fit, cluster, rates).total, rel=1e-12
    )


@pytest.mark.parametrize("chunks", [1, 8, 64, 512])
def test_simulation_is_the_formula_where_only_the_network_takes_time(model, simulation, chunks):
    rates = model.Rates(**{**INSTANT, "level": 1e-2})
    cluster, fit = model.Cluster(chunks, chunks, link=1e9), model.Fit(10**6)
    found = simulation.simulated_iteration(fit, cluster, rates)
    expected = model.iteration_seconds(fit, cluster, rates).total
    sending = 16 * 100**2 * chunks / 1e9  # sums of the first chunks are made while the last are sent theirs
    assert expected - sending <= found <= expected * (1 + 1e-12)


@pytest.mark.parametrize("channels", [10**7, 10**9])
@pytest.mark.parametrize(("workers", "threads"), [(2, 1), (10, 1), (100, 1), (10, 16), (100, 16)])
@pytest.mark.parametrize("share", [1, 3])
def test_formula_is_near_above_the_simulation(model, simulation, rates, channels, workers, threads, share):
    fit = model.Fit(channels)
    cluster = model.Cluster(workers, workers * threads * share, threads, link=1e9)
    found = simulation.simulated_iteration(fit, cluster, rates)
    expected = model.iteration_seconds(fit, cluster, rates).total
    overlapping = 2 * min(rates.task * cluster.chunks, expected)
    assert expected - overlapping <= found <= 1.001 * expected


def test_more_never_costs_less(model, rates):
    base, cluster = model.Fit(10**8), model.Cluster(100, 200, 2, link=1e9)
    least = model.fit_seconds(base, cluster, rates).total
    for name, value in [("channels", 2 * 10**8), ("rank", 300), ("iterations", 20), ("renewals", 4)]:
        more = dataclasses.replace(base, **{name: value})
        assert model.fit_seconds(more, cluster, rates).total > least, name
    for field in dataclasses.fields(rates):
        slower = dataclasses.replace(rates, **{field.name: 2 * getattr(rates, field.name) + 1e-9})
        assert model.fit_seconds(base, cluster, slower).total > least, field.name
    assert model.fit_seconds(base, dataclasses.replace(cluster, link=1e8), rates).total > least
    assert model.fit_seconds(base, dataclasses.replace(cluster, threads=1), rates).total > least


@pytest.mark.parametrize("threads", [1, 16])
def test_best_chunks_are_better_than_others_and_more_workers_never_slower(model, rates, threads):
    fit, link, last = model.Fit(10**9), 1e9, math.inf
    for workers in (10, 30, 100, 300, 1000):
        best = model.best_chunks(fit, workers, threads, rates, link)
        assert best * model.LARGEST_CHUNK >= fit.nbytes

        def total(chunks, workers=workers):
            return model.fit_seconds(fit, model.Cluster(workers, chunks, threads, link), rates).total

        assert total(best) <= min(total(C) for C in {2 * best, 4 * best, max(best, workers * threads)})
        assert total(best) <= last * 1.01  # the chunks tried are 5% apart
        last = total(best)


def test_workers_of_the_memory_asked_for_hold_the_chunks(model):
    fit, memory = model.Fit(10**9, rank=150), 64e9
    for factor in (True, False):
        workers = model.least_workers(fit, memory, factor=factor)
        assert model.worker_bytes(fit, workers, factor=factor) <= model.FILLED * memory
        assert model.worker_bytes(fit, workers - 1, factor=factor) > model.FILLED * memory
    assert model.worker_bytes(fit, 1, factor=False) == fit.nbytes + 8e9


def test_rates_are_found_again_from_what_they_predict(model, rates):
    measured = [
        model.Measured(each, fit, cluster, model.seconds(each, fit, cluster, rates).total)
        for fit in (model.Fit(50_000), model.Fit(400_000))
        for cluster in (model.Cluster(1, 2), model.Cluster(2, 24), model.Cluster(2, 80))
        for each in model.maps(fit)
    ]
    found = model.fitted(measured)
    for name in INSTANT:
        assert getattr(found, name) == pytest.approx(getattr(rates, name), rel=1e-6), name
