"""Responses outside memory: the same answers, what is read for them, and what may go wrong meanwhile."""

import mmap
import os
import threading
import zlib

import numpy as np
import pytest
from cases import (
    absolute_atoms,
    absolute_error,
    data,
    gains_bound,
    magnitudes,
    needs_jit,
    peak_bytes,
    random_gains,
    rounding,
    run_python,
    target,
    within,
)
from numpy.testing import assert_array_equal
from scipy import sparse

import fastcov as fc
from fastcov._model.problem import Problem
from fastcov._rows import stored as stored_arrays
from fastcov._rows.stored import Stored, is_stored

N, D = 37, 5
BLOCK = 3  # rows in a block of the tests
S, V = target(D), random_gains(N)

THREAD = "fastcov-read-ahead"


class Rows:
    """The least that can be read: a shape, a dtype, slices of rows. It keeps what it was asked for."""

    def __init__(self, values, read=None):
        self.shape, self.dtype, self.asked = values.shape, values.dtype, []
        self._read = read or (lambda start, stop: values[start:stop])

    def __getitem__(self, key):
        assert isinstance(key, slice)
        assert key.step is None
        self.asked.append((key.start, key.stop))
        return self._read(key.start, key.stop)


def saved(X, folder, mode="r"):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode=mode)


def part_of_a_map(X, folder):
    return saved(np.vstack([np.full((4, D), np.nan), X, np.full((3, D), np.nan)]), folder)[4:-3]


def columns_of_a_map(X, folder):
    return saved(np.hstack([np.full((N, 2), np.nan), X]), folder)[:, 2:]


def map_at_an_offset(X, folder):
    offset = mmap.ALLOCATIONGRANULARITY + 101  # the mapping begins at a page, the numbers between two
    (folder / "X.bin").write_bytes(b"\xff" * offset + X.tobytes() + b"\xff" * 50)
    return np.memmap(folder / "X.bin", X.dtype, "r", offset, X.shape)


def hdf5(X, folder, mode="r", **options):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "X.h5", "w") as file:
        file.create_dataset("group/X", data=X, **options)
    return h5py.File(folder / "X.h5", mode)["group/X"]


def zarr_array(X, folder, chunks):
    zarr = pytest.importorskip("zarr")
    array = zarr.open_array(str(folder / "X.zarr"), mode="w", shape=X.shape, chunks=chunks, dtype=X.dtype)
    array[:] = X
    return zarr.open_array(str(folder / "X.zarr"), mode="r")


# Each makes an array outside memory from one inside and an empty folder; then the dtype, and whether it
# is read by rows, not through its mapping.
KINDS = {
    "map": (saved, "f8", True),
    "map-float32": (saved, "f4", True),
    "map-big-endian": (saved, ">f8", True),
    "map-int16": (saved, "i2", True),
    "map-long-double": (saved, "longdouble", True),
    "map-r+": (lambda X, folder: saved(X, folder, "r+"), "f8", True),
    "map-c": (lambda X, folder: saved(X, folder, "c"), "f8", False),
    "map-Fortran": (lambda X, folder: saved(np.asfortranarray(X), folder), "f8", False),
    "map-rows": (part_of_a_map, "f8", True),
    "map-columns": (columns_of_a_map, "f8", False),
    "map-offset": (map_at_an_offset, "f8", True),
    "hdf5": (hdf5, "f8", True),
    "hdf5-chunked": (lambda X, folder: hdf5(X, folder, chunks=(7, 2)), "f8", True),
    "hdf5-compressed": (lambda X, folder: hdf5(X, folder, chunks=(7, D), compression="gzip"), "f8", True),
    "hdf5-int16": (hdf5, "i2", True),
    "hdf5-float32": (hdf5, "f4", True),
    "hdf5-big-endian": (hdf5, ">f4", True),
    "zarr": (lambda X, folder: zarr_array(X, folder, (7, 2)), "f8", True),
    "zarr-float32": (lambda X, folder: zarr_array(X, folder, (10, D)), "f4", True),
    "class": (lambda X, _: Rows(X), "f8", True),
    "class-float16": (lambda X, _: Rows(X), "f2", True),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
watched = pytest.mark.parametrize("kind", ["map", "hdf5"])


def made(kind, folder):
    """The array outside memory and the same inside."""
    make, dtype, _ = KINDS[kind]
    X = data(N, D)
    X = (np.rint(100 * X) if dtype == "i2" else X).astype(dtype)
    return make(X, folder), X


@pytest.fixture(autouse=True)
def small_blocks(set_block_rows):
    set_block_rows(BLOCK, D)


@pytest.fixture
def set_chunk_rows(monkeypatch):
    """A function that sets how many rows of an array are read at once."""

    def set_rows(rows, array):
        nbytes = np.dtype(array.dtype).itemsize * array.shape[1]
        monkeypatch.setattr(stored_arrays, "CHUNK_BYTES", rows * nbytes)

    return set_rows


def no_reader():
    return not any(thread.name.startswith(THREAD) for thread in threading.enumerate())


# ---- the same answers


@every_kind
@pytest.mark.parametrize(
    "chunk",
    [pytest.param(1, marks=pytest.mark.slow), 16, pytest.param(10 * N, marks=pytest.mark.slow)],
)
def test_answers_do_not_depend_on_where_the_responses_are(tmp_path, kind, chunk, set_chunk_rows):
    stored, X = made(kind, tmp_path)
    assert is_stored(stored) == KINDS[kind][2]
    set_chunk_rows(chunk, stored)
    eps = 2 * rounding(X, np.float32 if X.dtype.kind == "f" and X.dtype.itemsize <= 4 else np.float64)
    _, y = magnitudes(X)
    G, E = absolute_atoms(X), absolute_error(X, S)
    ridge = float(np.linalg.norm(G) ** 2) / 10
    within(fc.covariance(stored), fc.covariance(X), eps * y.T @ y)
    within(fc.gram(stored), fc.gram(X), eps * G.T @ G)
    within(fc.overlaps(stored, S), fc.overlaps(X, S), eps * G.T @ E.ravel())
    within(fc.GramOperator(stored).matvec(V), fc.GramOperator(X).matvec(V), eps * G.T @ (G @ np.abs(V)))
    error = absolute_error(X, S, V)
    within(fc.loss(stored, S, V), fc.loss(X, S, V), eps * np.square(error).sum())
    fit, expected = (fc.fit(A, S, ridge=ridge, method="linear") for A in (stored, X))
    within(fit.gains, expected.gains, 2 * gains_bound(X, S, ridge))
    assert fit.status == "converged"


@every_kind
def test_chunks_hold_all_rows_once_and_keep_the_dtype_on_disk(tmp_path, kind, set_chunk_rows):
    stored, X = made(kind, tmp_path)
    for chunk in (1, 2, 8, N - 1, N, N + 1):
        set_chunk_rows(chunk, stored)
        if KINDS[kind][2]:
            parts = [(first, rows.copy(), rows.dtype) for first, rows in Stored("X", stored).chunks()]
            assert {dtype for *_, dtype in parts} == {X.dtype}
            assert [first for first, *_ in parts] == [*range(0, N, len(parts[0][1]))]
            assert_array_equal(np.vstack([rows for _, rows, _ in parts]), X)


@pytest.mark.parametrize(
    "key",
    [
        slice(None),
        slice(3, 9),
        slice(-5, 100),
        slice(9, 3),
        slice(3, 30, 4),
        slice(None, None, -1),
        np.array([5, 3, 3, -1, 0, 4]),
        np.array([], int),
        np.arange(N) % 3 == 0,
        [7, 8],
    ],
    ids=str,
)
def test_rows_are_taken_as_of_an_array(key):
    X = data(N, D)
    assert_array_equal(Stored("X", Rows(X))[key], X[key])


def test_columns_and_atoms_of_some_channels_are_those_of_an_array():
    X, index = data(N, D), [5, 3, 30]
    eps = 2 * rounding(X, np.float64)
    G = absolute_atoms(X)
    columns = fc.GramOperator(X).columns(index)
    within(fc.GramOperator(Rows(X)).columns(index), columns, eps * G.T @ G[:, index])
    within(fc.AtomOperator(Rows(X)).columns(index), fc.AtomOperator(X).columns(index), eps * G[:, index])


def test_a_mapped_array_that_was_written_to_is_read_as_it_is_now(tmp_path):
    X = saved(data(N, D), tmp_path, "r+")
    operator = fc.GramOperator(X)
    X[:] = data(N, D, seed=5)
    assert_array_equal(fc.covariance(X), fc.covariance(np.array(X)))
    operator.matvec(V)  # is ours to write: no error
    mapped = saved(data(N, D), tmp_path, "c")
    mapped[0] = 7.0
    assert_array_equal(fc.covariance(mapped), fc.covariance(np.array(mapped)))


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps the name of a file that is mapped")
@pytest.mark.parametrize("after", ["deleted", "smaller", "same-size", "last-rows"])
def test_a_mapped_array_stays_what_it_is_when_another_file_takes_its_name(tmp_path, after):
    X = np.arange(1000.0 * D).reshape(1000, D)
    mapped = saved(X, tmp_path)
    other = {"smaller": X[:9].copy(), "same-size": X + 1}.get(after, X.copy())
    other[-1] += 1
    np.save(tmp_path / "Y.npy", other)
    if after == "deleted":
        os.unlink(tmp_path / "X.npy")
    else:
        os.replace(tmp_path / "Y.npy", tmp_path / "X.npy")
    assert_array_equal(fc.covariance(mapped), fc.covariance(X))


# ---- what is read


@pytest.mark.parametrize("chunk", [1, 4, 16, 10 * N])
def test_nothing_is_asked_for_outside_the_rows(chunk, set_chunk_rows):
    X = Rows(data(N, D))
    set_chunk_rows(chunk, X)
    fc.fit(X, S, ridge=1.0)
    fc.gram(X, gains=V)
    assert X.asked
    assert all(0 <= start < stop <= N for start, stop in X.asked)


@pytest.mark.parametrize("kind", ["map", "map-rows", "map-offset"])
def test_nothing_is_read_of_a_mapped_file_outside_the_array(tmp_path, kind, monkeypatch, set_chunk_rows):
    mapped, X = made(kind, tmp_path)
    set_chunk_rows(4, mapped)
    (path,) = tmp_path.iterdir()
    begin, read, ranges = path.read_bytes().index(X.tobytes()), stored_arrays._read_file, []

    def spy(path, offset, out):
        ranges.append((offset - begin, offset - begin + out.nbytes))
        return read(path, offset, out)

    monkeypatch.setattr(stored_arrays, "_read_file", spy)
    fc.covariance(mapped)
    assert {place for pair in ranges for place in pair} >= {0, X.nbytes}
    assert all(0 <= start < stop <= X.nbytes for start, stop in ranges)


@pytest.mark.parametrize(
    ("room", "stored", "step"),
    [(50, 7, 42), (20, 7, 14), (5, 7, 3), (2, 7, 2), (20, 1, 18), (50, (7, 7), 48), (50, 0, 48)],
)
def test_what_is_stored_together_is_read_together_and_blocks_are_whole(room, stored, step, set_chunk_rows):
    X = Rows(data(100, D))
    X.chunks = (stored, D)
    set_chunk_rows(room, X)
    list(Stored("X", X).chunks(BLOCK))
    assert X.asked == [(start, min(start + step, 100)) for start in range(0, 100, step)]


def test_channels_that_are_neighbours_are_read_together():
    X = Rows(data(N, D))
    Stored("X", X)[[9, 4, 3, 5, 3]]
    assert X.asked == [(3, 6), (9, 10)]


@needs_jit  # interpreted, so many channels take long
def test_memory_does_not_grow_with_the_channels(monkeypatch):
    monkeypatch.setattr(stored_arrays, "CHUNK_BYTES", 1 << 18)
    shape = (20_000, 100)
    X = Rows(np.broadcast_to(1.0, shape), lambda start, stop: np.ones((stop - start, shape[1])))
    fc.covariance(X)
    peak, _ = peak_bytes(lambda: fc.covariance(X))
    assert peak < 8 * shape[0] * shape[1] / 10


# ---- the next chunk is read meanwhile


def test_the_next_chunk_is_read_while_the_last_is_worked_on(set_chunk_rows):
    values = data(N, D)
    working, asked = threading.Event(), {start: threading.Event() for start in (0, 10, 20, 30)}

    def read(start, stop):
        if start == 10:  # without reading ahead it is nobody's turn, and the wait ends in an error
            assert working.wait(60)
        asked[start].set()
        return values[start:stop]

    X = Rows(values, read)
    set_chunk_rows(10, X)
    chunks = Stored("X", X).chunks()
    first, rows = next(chunks)
    working.set()
    assert asked[10].wait(60)
    assert not asked[20].is_set()  # there are two buffers
    assert first == 0
    assert_array_equal(rows, values[:10])
    for (first, rows), start in zip(chunks, (10, 20, 30), strict=True):
        assert first == start
        assert_array_equal(rows, values[start : start + 10])
    assert no_reader()


def test_the_reader_ends_when_a_pass_is_abandoned_halfway(monkeypatch, set_chunk_rows):
    X = Rows(data(N, D))
    set_chunk_rows(6, X)
    problem = Problem.of(X)
    X.asked.clear()

    def fail(*_):
        assert not no_reader()
        raise ZeroDivisionError

    def fail_in_kernel(*_, size):
        fail()

    monkeypatch.setattr("fastcov._compute.kernels.centred_products", fail_in_kernel)
    with pytest.raises(ZeroDivisionError):
        problem.covariance()
    assert no_reader()
    assert max(stop for _, stop in X.asked) <= 12
    for _ in problem.blocks():
        break
    assert no_reader()


# ---- what may go wrong


@pytest.mark.parametrize("kind", ["map", "map-float32", "map-Fortran", "hdf5-chunked", "zarr", "class"])
def test_nan_in_the_middle_is_named_before_anything_else(tmp_path, kind, set_chunk_rows):
    make, dtype, _ = KINDS[kind]
    X = data(N, D, dtype)
    X[20, 3], X[30, 1] = np.nan, np.inf
    stored = make(X, tmp_path)
    set_chunk_rows(8, stored)
    asymmetric = np.arange(1.0 * D * D).reshape(D, D)
    message = r"^Argument 'X' must be finite, .* in 2 places, first at channel 20, condition 3 "
    for call in (
        lambda: fc.fit(stored, asymmetric, ridge=-1.0),
        lambda: fc.overlaps(stored, asymmetric),
        lambda: fc.covariance(stored),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("the disk\nis gone"), "the disk is gone"),
        (RuntimeError("no more"), "no more"),
        (ValueError("damaged"), "damaged"),
        (zlib.error("bad stream"), "bad stream"),
        (KeyError(), "KeyError"),
    ],
)
def test_rows_that_cannot_be_read_are_named_with_the_cause(set_chunk_rows, error, words):
    values = data(N, D)

    def read(start, stop):
        if start >= 16:
            raise error
        return values[start:stop]

    X = Rows(values, read)
    set_chunk_rows(8, X)
    message = rf"^Argument 'X' must be intact, and its rows 18 to 23 could not be read \('?{words}'?\): write"
    with pytest.raises(OSError, match=message) as caught:
        fc.covariance(X)
    assert caught.value.__cause__ is error
    assert no_reader()


def test_lack_of_memory_is_not_taken_for_damage():
    def read(start, stop):
        raise MemoryError("8 GB")

    with pytest.raises(MemoryError, match="8 GB"):
        fc.covariance(Rows(data(N, D), read))


@pytest.mark.parametrize(
    "cut", [lambda rows: rows[:-1], lambda rows: rows[:, 1:], lambda rows: rows[0], lambda rows: rows[:0]]
)
def test_rows_of_another_shape_are_refused(cut):
    values = data(N, D)
    X = Rows(values, lambda start, stop: cut(values[start:stop]))
    with pytest.raises(OSError, match=r"^Argument 'X' must be intact, and its rows 0 to 36 .*shape \("):
        fc.covariance(X)


def test_rows_that_its_dtype_cannot_hold_are_refused_and_others_are_not():
    values = data(N, D)
    narrow = Rows(values.astype("i2"), lambda start, stop: values[start:stop])
    with pytest.raises(TypeError, match=r"^Argument 'X' must have rows of its dtype int16, not float64: "):
        fc.covariance(narrow)
    wide = Rows(values, lambda start, stop: values[start:stop].astype("f4"))
    assert_array_equal(fc.covariance(wide), fc.covariance(values))


def test_masked_rows_are_refused_and_a_mask_of_nothing_is_not():
    values = data(N, D)
    masked = Rows(values, lambda start, stop: np.ma.masked_greater(values[start:stop], 0.0))
    with pytest.raises(TypeError, match=r"^Argument 'X' must be an array without a mask, not .*: fill it"):
        fc.covariance(masked)
    whole = Rows(values, lambda start, stop: np.ma.masked_array(values[start:stop]))
    assert_array_equal(fc.covariance(whole), fc.covariance(values))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows does not cut a file short that is mapped")
@pytest.mark.parametrize("when", ["before", "between"])
def test_a_mapped_file_that_is_cut_short_does_not_end_the_process(tmp_path, when):
    np.save(tmp_path / "X.npy", np.ones((4000, 10)))
    script = f"""
import os, numpy as np, fastcov as fc, fastcov._rows.stored
fastcov._rows.stored.CHUNK_BYTES = 80 * 1000
X = np.load("X.npy", mmap_mode="r")
operator = fc.GramOperator(X) if {when == "between"} else None
os.truncate("X.npy", 128 + 80 * 1500)
try:
    operator.matvec(np.ones(4000)) if operator else fc.covariance(X)
except (OSError, ValueError) as error:
    print(type(error).__name__, error)
"""
    found = run_python(script, cwd=tmp_path)
    if when == "before":
        assert found.startswith(
            "OSError Argument 'X' must be intact, and its rows 1000 to 1999 could not be "
        )
    else:
        assert found.startswith("ValueError Argument 'X' must stay as it is while it is read, and it has ")


@pytest.mark.parametrize("kind", ["hdf5", "zarr"])
def test_damaged_chunks_are_named_by_their_rows(tmp_path, kind, set_chunk_rows):
    X = data(N, D)
    if kind == "hdf5":
        stored = hdf5(X, tmp_path, chunks=(8, D), compression="gzip", fletcher32=True)
        file, place = tmp_path / "X.h5", stored.id.get_chunk_info(2).byte_offset
        stored.file.close()
    else:
        zarr_array(X, tmp_path, (8, D))
        root = tmp_path / "X.zarr"
        (file,) = (path for path in (root / "c/2/0", root / "2.0") if path.exists())
        place = 0
    damaged = bytearray(file.read_bytes())
    damaged[place : place + 30] = b"\xff" * 30
    file.write_bytes(damaged)
    if kind == "hdf5":
        stored = pytest.importorskip("h5py").File(file, "r")["group/X"]
    else:
        stored = pytest.importorskip("zarr").open_array(str(tmp_path / "X.zarr"), mode="r")
    set_chunk_rows(8, stored)
    with pytest.raises(OSError, match=r"^Argument 'X' must be intact, and its rows 16 to 23 could not be "):
        fc.covariance(stored)


@watched
def test_a_file_that_is_written_to_between_two_passes_is_refused(tmp_path, kind):
    stored, _ = made(kind, tmp_path)
    (path,) = tmp_path.iterdir()
    operator = fc.GramOperator(stored)
    operator.matvec(V)
    os.utime(path, ns=(1, 1))
    with pytest.raises(
        ValueError, match=r"^Argument 'X' must stay as it is while it is read, .*: wait until"
    ):
        operator.matvec(V)
    fc.covariance(stored)  # it is another file to a call that begins now


@watched
def test_a_file_that_grows_between_two_passes_is_refused(tmp_path, kind):
    stored, _ = made(kind, tmp_path)
    (path,) = tmp_path.iterdir()
    operator = fc.GramOperator(stored)
    stat = path.stat()
    with path.open("ab") as file:
        file.write(b"more")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ValueError, match="must stay as it is while it is read"):
        operator.matvec(V)


def test_a_file_that_is_open_for_writing_is_watched_for_what_others_do(tmp_path):
    X = saved(data(N, D), tmp_path, "r+")
    operator = fc.GramOperator(X)
    os.utime(tmp_path / "X.npy", ns=(1, 1))
    operator.matvec(V)
    with (tmp_path / "X.npy").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="must stay as it is while it is read"):
        operator.matvec(V)


def test_responses_that_change_between_two_passes_are_refused():
    values, passes = data(N, D), []

    def read(start, stop):
        passes.extend([start] * (start == 0))
        if len(passes) == 2:
            values[7] *= 3.0
            passes.append(None)
        return values[start:stop]

    message = r"^Argument 'X' must stay as it is while it is read, .* changed, first at channel 7: wait"
    for call in (
        lambda X: fc.fit(X, S, ridge=1.0),
        lambda X: fc.loss(X, S, np.stack([V, V])),
    ):
        passes.clear()
        with pytest.raises(ValueError, match=message):
            call(Rows(values, read))


# ---- what is outside memory


class Other:
    """A float64 matrix of another library, with whatever attributes it has."""

    def __init__(self, **attributes):
        self.shape, self.dtype = (N, D), np.dtype(np.float64)
        vars(self).update(attributes)

    def __getitem__(self, key):
        raise NotImplementedError


IN_MEMORY = {
    "list": [[1.0, 2.0]],
    "ndarray": np.ones((3, 2)),
    "scalar": np.float64(1.0),
    "sparse-matrix": sparse.csr_matrix(np.eye(3)),
    "sparse-array": sparse.csr_array(np.eye(3)),
    "tensor": Other(dtype="float32", __dlpack__=None),
    "gpu-array": Other(__dlpack__=None),
    "array-interface": Other(__array_interface__={}),
    "sparse-of-others": Other(nnz=3),
    "no-shape": Other(shape=None),
    "none": None,
    "text": "X.npy",
}


@pytest.mark.parametrize("value", IN_MEMORY.values(), ids=IN_MEMORY)
def test_what_is_in_memory_is_not_read_by_rows(value):
    assert not is_stored(value)


def test_copies_and_results_of_a_mapped_array_are_in_memory(tmp_path):
    X = saved(data(N, D), tmp_path)
    for value in (X.copy(), X + 1, np.array(X), X[::2], X.T, X[:0]):
        assert not is_stored(value)
    assert is_stored(X)
    assert is_stored(X[3:])


def test_a_library_may_use_its_attributes_for_other_things(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    X = data(N, D)
    with (tmp_path / "notes.txt").open() as file:
        odd = Rows(X)
        odd.file, odd.chunks = file, lambda: None
        assert_array_equal(fc.covariance(odd), fc.covariance(Rows(X)))


def test_a_closed_file_is_refused_in_one_line(tmp_path):
    stored = hdf5(data(N, D), tmp_path)
    stored.file.close()
    with pytest.raises((ValueError, RuntimeError), match=r"^Argument 'X' must be an array of real numbers, "):
        fc.covariance(stored)


@pytest.mark.parametrize("method", ["exact", "line-search"])
def test_a_file_of_float64_that_float32_cannot_hold_is_fitted_as_from_memory(tmp_path, method):
    X = data(40, 5) + np.pi * 1e-9  # products of curvature are in float32
    S = target(5, size=40)
    np.save(tmp_path / "X.npy", X)
    stored = np.load(tmp_path / "X.npy", mmap_mode="r")
    for bounds in (None, (0.9, 1.1)):
        expected = fc.fit(X, S, relative_ridge=0.1, method=method, bounds=bounds)
        fit = fc.fit(stored, S, relative_ridge=0.1, method=method, bounds=bounds)
        assert fit.status == "converged"
        np.testing.assert_allclose(fit.loss, expected.loss, rtol=1e-9)
    path = fc.ridge_path(stored, S, relative_ridges=[0.1, 0.2], method=method)
    assert path.status == ["converged", "converged"]
