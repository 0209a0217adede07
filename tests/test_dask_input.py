"""What a cluster is asked to do, counted; and arrays of Dask, and clusters, that will not do."""

import asyncio
import contextlib
import pickle

import dask
import numpy as np
import pytest
from cases import data
from dask_cases import (
    D,
    N,
    chunked,
    client,
    da,
    distributed,
    fits,
    left_behind,
    parts,
    ridge_of,
    same,
    shared_cluster,
    submitted,
    wait,
    wanted,
)  # fmt: skip
from scipy import sparse

import fastcov as fc
from fastcov import _version
from fastcov._rows import cluster as cluster_module

__all__ = ["client", "shared_cluster"]  # fixtures

pytestmark = pytest.mark.usefixtures("client")

X, S, RIDGE = data(N, D), wanted(), ridge_of(0.5)


class Enough(Exception):
    """Nothing new is to be learned of more iterations."""


def iterations(lazy, S, measure, most=10, **asked):
    """What is measured at each of the first iterations."""
    found = []

    def note(progress):
        if progress.stage == "iteration":
            found.append(measure())
            if len(found) == most:
                raise Enough

    with contextlib.suppress(Enough):
        fits(lazy, S, solver="pcg", callback=note, **asked)
    assert len(found) > 4
    return found


# --- counted


@pytest.mark.parametrize(("count", "rank"), [(1, None), (2, None), (2, 2), (7, None), (40, 2)])
def test_an_iteration_takes_few_tasks(count, rank, monkeypatch):
    given, lazy = submitted(monkeypatch), chunked(X, parts(N, count))
    asked = {"ridge": ridge_of(0.0003), "rank": rank}
    counts = iterations(lazy, S, lambda: sum(len(tasks) for tasks, _ in given), **asked)
    assert counts[-1] - counts[0] <= 4 * count * (len(counts) - 1)


class Traffic:
    """Bytes of what is given to the cluster, and to its tasks."""

    def __init__(self, monkeypatch):
        self.bytes, self.maps = 0, 0
        for name in ("_submitted", "_scatter"):
            monkeypatch.setattr(
                cluster_module.Cluster, name, self._counted(getattr(cluster_module.Cluster, name))
            )

    def _counted(self, original):
        def counted(cluster, values, *args, **named):
            if original.__name__ == "_submitted":
                self.maps += 1
                self.bytes += sum(sent(task) for task in values.values())
            if original.__name__ == "_scatter":
                self.bytes += sum(map(sent, values))
            return original(cluster, values, *args, **named)

        return counted


def sent(value):
    """Bytes of arrays, wherever they are in a value that is sent; what is on a worker already is none."""
    if isinstance(value, distributed.Future):
        return 0
    if isinstance(value, (tuple, list)):
        return sum(map(sent, value))
    arrays = []
    pickle.dumps(
        value, protocol=5, buffer_callback=lambda buffer: arrays.append(buffer.raw().nbytes) and None
    )
    return sum(arrays)


def from_workers(client):
    """Bytes that workers sent, to each other and to the client."""
    return sum(client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total).values())


@pytest.mark.parametrize("count", [1, 7, 40])
def test_an_application_moves_matrices_and_no_chunk(count, client, monkeypatch):
    n, d = 600, 14
    A = data(n, d, np.float32)
    operator = fc.GramOperator(client.persist(chunked(A, parts(n, count))))
    v = np.ones(n)
    operator @ v  # compiles, and sends what stays
    traffic, before = Traffic(monkeypatch), from_workers(client)
    operator @ v
    assert traffic.maps == 2
    back = from_workers(client) - before
    assert traffic.bytes + back <= traffic.maps * (8 * n + 3 * count * 8 * d * d)
    assert min(traffic.bytes, back) >= 8 * n  # they were counted


@pytest.mark.parametrize("count", [1, 40])
def test_an_iteration_moves_matrices_alone(count, client, monkeypatch):
    n, d = 600, 14
    lazy, asked = client.persist(chunked(data(n, d), parts(n, count))), {"ridge": ridge_of(0.01, 0, n, d)}
    traffic = Traffic(monkeypatch)
    seen = iterations(
        lazy, wanted(n, d), lambda: (traffic.maps, traffic.bytes + from_workers(client)), **asked
    )
    maps, moved = np.subtract(seen[-1], seen[0])
    assert maps >= 2 * (len(seen) - 1)
    assert moved <= maps * 3 * count * 8 * d * d


def test_no_chunk_moves_and_nothing_grows_or_is_left(client):
    lazy = client.persist(chunked(X, parts(N, 6)))
    wait(lazy)
    before = client.who_has(lazy)

    def known():
        return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))

    sizes = iterations(lazy, S, known, 14, ridge=ridge_of(1e-3), rank=2)
    assert max(sizes[7:]) <= max(sizes[:7])
    assert all(len(holders) == 1 for holders in before.values())
    kept = [
        fits(lazy, S, ridge=RIDGE),
        fc.cross_validate(lazy, X, ridges=[RIDGE], folds=2, method="diagonal"),
    ]
    assert client.who_has(lazy) == before
    explained = fc.explain(lazy, S, RIDGE, modes=3)
    explained.filter(0)
    assert left_behind(client, 0.0)  # chunks, for other filters
    del explained
    assert not left_behind(client)
    del kept


def test_chunks_are_shared_out_by_their_rows(client):
    problem = fc.GramOperator(chunked(X, 10)).problem
    places = problem.X.cluster.places(problem.X.pieces)
    assert [places.count(worker) for worker in dict.fromkeys(places)] == [6, 6]
    assert places == sorted(places, key=places.index)  # those beside each other are together


# --- arrays that will not do


def refused(error, match, x=None, **asked):
    """Assert that this is refused before anything is asked of the cluster."""
    with pytest.raises(error, match=match):
        fits(x, S, ridge=RIDGE, **asked)


def test_chunks_along_the_conditions_are_joined_with_a_word():
    lazy = da.from_array(X, chunks=(50, 2))
    with pytest.warns(UserWarning, match=r"Argument 'X' is chunked along its conditions: it is rechunked"):
        fit = fits(lazy, S, ridge=RIDGE)
    same(fit.delta, fits(X, S, ridge=RIDGE).delta)


def test_chunks_along_the_conditions_that_are_too_large_to_join_are_refused():
    lazy = da.zeros((10**8, D), chunks=(10**8, 2))
    refused(ValueError, r"'X' must be chunked by rows, not along its conditions: .* GB .*\.rechunk\(", lazy)


def test_what_is_too_large_for_all_workers_is_refused_before_it_is_made():
    asked = []
    lazy = da.zeros((10**10, D), chunks=(10**6, D)).map_blocks(
        lambda rows: asked.append(1), dtype=float, meta=X[:0]
    )
    refused(MemoryError, r"'X' takes 480 GB, and 2 workers may hold .* GB of it: use more workers", lazy)
    lazy = da.zeros((2 * 10**8, D), chunks=(2 * 10**8, D))
    limits = {w: {"memory_limit": 10e9 if w.endswith("x") else 9e9} for w in "ab"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_module, "workers_of", lambda _: limits)
        patch.setattr(cluster_module.Cluster, "_threads", lambda _: dict.fromkeys(limits, 1))
        refused(MemoryError, r"'X' must have chunks that fit a worker, 5.4 GB, not of 9.6 GB: rechunk", lazy)
    assert not asked


def test_workers_that_are_short_of_memory_are_named_with_the_sizes(client, monkeypatch):
    def short(_):
        return {worker: {"memory_limit": 1000.0} for worker in client.nthreads()}

    monkeypatch.setattr(cluster_module, "workers_of", short)
    refused(MemoryError, r"'X' takes 5.76e-06 GB, and 2 workers may hold 1.2e-06 GB", chunked(X, 10))


def test_chunks_of_unknown_sizes_are_refused():
    lazy = chunked(X, 10)
    refused(
        ValueError, r"'X' must have chunks of known sizes.*X.compute_chunk_sizes\(\)", lazy[lazy[:, 0] > 0]
    )
    known = lazy[lazy[:, 0] > 0].compute_chunk_sizes()
    same(fits(known, S, ridge=RIDGE).delta, fits(X[X[:, 0] > 0], S, ridge=RIDGE).delta)


class DataFrame:
    """What can be seen of a DataFrame of Dask, which takes more libraries."""

    def __dask_graph__(self):
        return {}

    def to_dask_array(self):
        return chunked(X, 10)


def test_frames_of_dask_are_refused():
    match = r"'X' must be a dask array, not a dask DataFrame: use .to_dask_array\(lengths=True\)"
    refused(TypeError, match, DataFrame())


def test_delayed_values_and_bags_are_refused():
    refused(
        TypeError, r"'X' must be a dask array, not a Delayed\w*: use dask.array.from_delayed", dask.delayed(X)
    )


BAD = {
    "complex": (chunked(X + 1j, 10), TypeError, "real numbers, not dtype complex128: take its real part"),
    "strings": (chunked(X.astype(str), 10), TypeError, "real numbers, not dtype <U"),
    "objects": (chunked(X.astype(object), 10), TypeError, "real numbers, not dtype object"),
    "dates": (chunked(X.astype("M8[s]"), 10), TypeError, "real numbers, not dtype datetime64"),
    "one-axis": (da.ones(10, chunks=5), ValueError, r"2 axes \(channels, conditions\), not shape \(10,\)"),
    "three-axes": (da.ones((4, 5, 6), chunks=2), TypeError, r"two axes .*not trials: pass X\.mean\(axis=0\)"),
    "no-rows": (da.ones((0, D)), ValueError, r"no empty axis, not shape \(0, 6\)"),
    "no-conditions": (da.ones((5, 0)), ValueError, r"no empty axis, not shape \(5, 0\)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_arrays_of_other_forms_are_refused(kind):
    lazy, error, match = BAD[kind]
    refused(error, f"Argument 'X' must (hold|have) {match}", lazy)


def test_chunks_with_a_mask_or_of_another_library_are_refused():
    masked = chunked(X, 10).map_blocks(np.ma.masked_greater, 1.0, dtype=X.dtype, meta=X[:0])
    refused(TypeError, r"'X' must be an array without a mask.*np.ma.filled", masked)
    other = chunked(X, 10).map_blocks(sparse.csr_array, dtype=X.dtype, meta=X[:0])
    refused(TypeError, r"'X' must have chunks that are NumPy arrays, not csr_array: convert", other)


def test_chunks_of_another_shape_than_was_said_are_refused():
    lazy = chunked(X, 10).map_blocks(lambda rows: rows[:-1], dtype=X.dtype, meta=X[:0])
    refused(
        ValueError,
        r"'X' must have chunks of the sizes that it says, not one of shape \(9, 6\) in place of \(10, 6\)",
        lazy,
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_by_channel_and_condition(value):
    bad = X.copy()
    bad[97, 4] = bad[101, 2] = value
    refused(
        ValueError, r"'X' must be finite.* in 2 places, first at channel 97, condition 4", chunked(bad, 7)
    )
    match = r"'responses' must be finite.* in 2 places, first at channel 97, condition 4"
    with pytest.raises(ValueError, match=match):
        fits(chunked(X, 10), responses=chunked(bad, 7), ridge=RIDGE)
    xarray = pytest.importorskip("xarray")
    named = xarray.DataArray(
        chunked(bad, 7), dims=("channel", "condition"),
        coords={"channel": [f"n{i}" for i in range(N)], "condition": list("abcdef")},
    )  # fmt: skip
    refused(ValueError, r"first at channel 97 \('n97'\), condition 4 \('e'\)", named)


def test_a_value_beyond_float64_is_named():
    beyond = X.astype(np.longdouble)
    beyond[55, 1] = np.longdouble(10.0) ** 400 if np.finfo(np.longdouble).max > 1e308 else np.inf
    refused(
        ValueError, r"'X' must be finite.* in 1 place, first at channel 55, condition 1", chunked(beyond, 7)
    )


def test_values_beyond_what_can_be_multiplied_are_refused():
    refused(ValueError, r"'X', and its product with the gains, must lie between 1e-72", chunked(X * 1e80, 7))


def test_a_matrix_as_penalty_is_served_or_refused():
    difference = np.sqrt(RIDGE) * (np.eye(N) - np.eye(N, k=1))
    expected = fits(X, S, ridge=difference, solver="pcg")
    with pytest.raises(
        ValueError, match=r"Argument 'ridge' must be a number, or one above zero .*: compute X"
    ):
        fits(chunked(X, 10), S, ridge=difference, solver="pcg")
    same(fits(chunked(X, 10), S, ridge=difference, solver="cholesky").delta, expected.delta)


# --- clusters that will not do


def test_a_cluster_without_workers_is_refused():
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as empty,
        distributed.Client(empty),
    ):
        refused(ValueError, r"cluster that has workers, and that at \S+ has none: scale it up", chunked(X, 7))


def test_an_asynchronous_client_is_refused(shared_cluster):
    async def inside():
        async with distributed.Client(shared_cluster.scheduler_address, asynchronous=True):
            refused(TypeError, r"not by an asynchronous one: use Client\(address\)", chunked(X, 7))

    asyncio.run(inside())


@pytest.mark.parametrize("what", ["fastcov", "Python", "NumPy"])
def test_workers_of_another_version_are_refused(what, monkeypatch):
    found = cluster_module.versions()[what]
    if what == "Python":
        monkeypatch.setattr("platform.python_version_tuple", lambda: ("0", "0", "1"))
    else:
        monkeypatch.setattr(_version if what == "fastcov" else np, "__version__", "0.0")
    match = (
        rf"versions of the client, {what} 0\S*, and that at tcp://\S+ has {what} {found}: install the same"
    )
    refused(RuntimeError, match, chunked(X, 7))


def test_a_client_that_is_not_the_default_one_is_used(shared_cluster, client, monkeypatch):
    given = submitted(monkeypatch)
    client.close()
    with (
        distributed.Client(shared_cluster, set_as_default=False) as other,
        dask.config.set(scheduler=other),
    ):
        fit = fits(chunked(X, 20), S, ridge=RIDGE, solver="pcg")
        same(fit.delta, fits(X, S, ridge=RIDGE, solver="pcg").delta)
        assert given


def test_inside_a_task_responses_are_computed_by_its_worker(client):
    """A fit that is itself a task of the cluster waits for no thread but its own."""
    fit = client.submit(inside_a_task).result(timeout=60)
    same(fit, fits(X, S, ridge=RIDGE, solver="pcg").delta)


def test_a_task_that_fits_leaves_its_thread_to_the_chunks(client):
    """More of them than there are threads, on workers that have fitted before."""
    fits(chunked(X, 20), S, ridge=RIDGE, solver="pcg")
    tasks = [client.submit(plain_task, k) for k in range(3)]
    for found in client.gather(tasks):
        same(found, fits(X, S, ridge=RIDGE, solver="pcg").delta)


def test_a_task_on_a_worker_without_a_client_has_one_made(client):
    """As it is left by a client that a task before it has made, and closed."""
    client.run(without_client)
    same(client.submit(plain_task, 0).result(timeout=60), fits(X, S, ridge=RIDGE, solver="pcg").delta)


def without_client():
    dask.config.set(scheduler="dask.distributed")
    distributed.client._set_global_client(None)


def plain_task(_):
    return fits(chunked(X, 20), S, ridge=RIDGE, solver="pcg").delta


def test_chunks_of_another_client_are_refused(shared_cluster, client):
    with distributed.Client(shared_cluster, set_as_default=False) as other:
        there = other.persist(chunked(X, 20))
        refused(ValueError, r"by the client that holds its chunks, not by another: use client.as_cu", there)
        with other.as_current():
            same(fits(there, S, ridge=RIDGE).delta, fits(X, S, ridge=RIDGE, solver="dual").delta)
    refused(ValueError, r"by the client that holds its chunks, which is closed: make it again", there)


def test_futures_are_refused(client):
    refused(TypeError, "a dask array, not a Future of one: use .result", client.scatter(X))


def inside_a_task():
    with distributed.worker_client():
        return fits(chunked(X, 20), S, ridge=RIDGE, solver="pcg").delta
