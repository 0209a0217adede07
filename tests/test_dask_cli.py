"""The command line on a cluster: the fit is the local one, and what goes wrong is one line."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import fastcov as fc
from fastcov import cli
from fastcov._rows import shared_files

pytest.importorskip("dask.array", reason="dask is not installed")
distributed = pytest.importorskip("distributed", reason="distributed is not installed")
from dask_cases import shared_cluster  # noqa: E402

__all__ = ["shared_cluster"]  # a fixture

pytestmark = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="slow without compiling")
# Both sides solve to rounding, of a system with a condition of some 1e3.
RTOL = 1e-10


@pytest.fixture
def address(shared_cluster):
    """Of a cluster of two processes."""
    return shared_cluster.scheduler_address


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder with X, Y and S in data.npz, with chunks of some 1000 bytes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shared_files, "CHUNK_BYTES", 1000)
    sim = fc.datasets.simulate(61, 8)
    np.savez("data.npz", X=sim.X, Y=sim.Y[:30], S=sim.S)

    def call(*arguments):
        return CliRunner().invoke(cli.main, list(map(str, arguments)), prog_name="fastcov")

    return call


def data():
    with np.load("data.npz") as file:
        return dict(file)


def written(kind):
    """Specs of X and Y in files of a kind."""
    arrays = data()
    if kind in ("npy", "csv"):
        for name in "XY":
            if kind == "npy":
                np.save(f"{name}.npy", arrays[name])
            else:
                np.savetxt(f"{name}.csv", arrays[name], delimiter=",", fmt="%.17g")
        return f"X.{kind}", f"Y.{kind}"
    if kind == "h5":
        with pytest.importorskip("h5py").File("d.h5", "w") as file:
            for name in "XY":
                file.create_dataset(name, data=arrays[name], chunks=(7, 3))
    elif kind == "zarr":
        group = pytest.importorskip("zarr").open_group("d.zarr", mode="w")
        make = group.create_array if hasattr(group, "create_array") else group.create_dataset
        for name in "XY":
            make(name, shape=arrays[name].shape, chunks=(7, 3), dtype="f8")[:] = arrays[name]
    stem = "data" if kind == "npz" else "d"
    return f"{stem}.{kind}:X", f"{stem}.{kind}:Y"


def refused(result, *words):
    """Assert one line on stderr with `words`, and no more."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def printed(result):
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


# ---- the same answer


@pytest.mark.parametrize("kind", ["npy", "h5", "zarr", "npz", "csv"])
def test_a_fit_on_a_cluster_is_the_local_one_whatever_the_file(run, address, kind):
    x, y = written(kind)
    arguments = ("fit", x, "--responses", y, "--ridge", 500, "--json")
    found, wanted = printed(run(*arguments, "--dask", address)), printed(run(*arguments))
    assert_allclose(found["gains"], wanted["gains"], rtol=RTOL)
    for name in ("loss", "loss_at_one", "r2"):
        assert found[name] == pytest.approx(wanted[name], rel=RTOL)
    assert (found["channels"], found["conditions"]) == (61, 8)


@pytest.mark.cluster
def test_workers_of_its_own_give_the_local_fit_and_are_gone(run):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    x, _ = written("zarr")
    arguments = ("fit", x, "--target", "data.npz:S", "--ridge", 500, "--json")
    more = ("--solver", "pcg", "--tol", 1e-13)
    found, wanted = printed(run(*arguments, *more, "--dask-workers", 2)), printed(run(*arguments))
    assert_allclose(found["gains"], wanted["gains"], rtol=RTOL)
    assert found["solver"] == "pcg"
    started = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert not [child for child in started if "spawn_main" in " ".join(child.cmdline())]
    with pytest.raises(ValueError, match="No client"):
        distributed.default_client()


def test_the_work_is_done_on_the_workers(run, address, monkeypatch):
    x, y = written("npy")
    loaded = []
    original = fc._rows.chunked.Chunked.of.__func__

    def of(cls, name, X, client):
        chunked = original(cls, name, X, client)
        holders = client.who_has(chunked.pieces)
        loaded.append(
            (name, len(chunked.slices), len({worker for held in holders.values() for worker in held}))
        )
        return chunked

    monkeypatch.setattr(fc._rows.chunked.Chunked, "of", classmethod(of))
    printed(run("fit", x, "--responses", y, "--ridge", 500, "--json", "--dask", address))
    assert loaded == [("X", 4, 2), ("Y", 2, 2)]


def test_results_say_what_they_were_made_from_as_those_of_a_local_fit_do(run, address):
    x, y = written("h5")
    arguments = ("fit", x, "--responses", y, "--method", "exact", "--lower", 0, "--output")
    assert run(*arguments, "local.npz").exit_code == 0
    result = run(*arguments, "fit.npz", "--plot", "fit.png", "--dask", address)
    assert result.exit_code == 0, result.output
    found, wanted = fc.load("fit.npz"), fc.load("local.npz")
    assert found.stats["source"] == wanted.stats["source"]
    assert pathlib.Path("fit.png").stat().st_size > 1000


def test_names_stay_and_responses_are_aligned_by_them(run, address):
    X, Y = data()["X"], data()["Y"]
    names = [f"odour {j}" for j in range(8)]
    order = [3, 0, 1, 2, 7, 6, 5, 4]
    np.save("X.npy", X)
    pathlib.Path("channels.txt").write_text("\n".join(f"unit {i}" for i in range(61)))
    pathlib.Path("conditions.txt").write_text("\n".join(names))
    rows = [",".join(["", *(names[j] for j in order)])]
    rows += [",".join([f"m{i}", *(f"{value:.17g}" for value in row[order])]) for i, row in enumerate(Y)]
    pathlib.Path("Y.csv").write_text("\n".join(rows))
    named = ("--channels", "channels.txt", "--conditions", "conditions.txt")
    result = run("fit", "X.npy", "--responses", "Y.csv", *named, "--ridge", 500, "--json", "--dask", address)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("Warning: conditions of 'Y' are in another order")
    found = json.loads(result.stdout)
    assert_allclose(found["gains"], fc.fit(X, responses=Y, ridge=500).gains, rtol=RTOL)
    assert found["channel_names"][60] == "unit 60"
    assert found["condition_names"] == names


def test_paths_and_studies_of_held_out_conditions_run_on_a_cluster(run, address):
    x, y = written("zarr")
    path = ("path", x, "--target", "data.npz:S", "--ridges", "100,1000", "--json")
    found, wanted = (printed(run(*path, *more))["methods"]["linear"] for more in (("--dask", address), ()))
    for a, b in zip(found, wanted, strict=True):
        assert_allclose(a["gains"], b["gains"], rtol=RTOL)
    cv = ("cv", x, "--responses", y, "--ridges", "500", "--method", "linear", "--folds", 3, "--json")
    found, wanted = (printed(run(*cv, *more))["methods"]["linear"] for more in (("--dask", address), ()))
    assert_allclose(found["scores"]["r2"], wanted["scores"]["r2"], rtol=RTOL)


def test_a_report_of_a_fit_on_a_cluster_explains_a_named_channel(run, address):
    pytest.importorskip("jinja2")
    x, y = written("npy")
    pathlib.Path("channels.txt").write_text("\n".join(f"unit {i}" for i in range(61)))
    named = ("--channels", "channels.txt", "--channel", "unit 7")
    result = run("report", x, "--responses", y, *named, "--dask", address)
    assert result.exit_code == 0, result.output
    assert "unit 7" in pathlib.Path("report.html").read_text(encoding="utf-8")


# ---- what goes wrong is one line


@pytest.mark.slow
def test_no_scheduler_is_said_before_anything_is_read(run, monkeypatch):
    monkeypatch.setattr("fastcov.cli._cluster.ANSWERS", 0.5)
    for wrong in ("tcp://127.0.0.1:1", "nonsense", "carrier://pigeon:1"):
        result = run("fit", "missing.npy", "--target", "missing.npy", "--dask", wrong)
        refused(result, "--dask must be the address of a Dask scheduler", repr(wrong), "dask scheduler")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dask", "tcp://127.0.0.1:1", "--dask-workers", "2"], ["--dask and --dask-workers, not both"]),
        (["--dask-workers", "0"], ["--dask-workers", "x>=1"]),
        (["--dask-workers", "two"], ["--dask-workers", "not a valid integer"]),
    ],
)
@pytest.mark.parametrize("command", ["fit", "report", "cv", "test", "path"])
def test_options_that_make_no_sense_are_refused_before_anything_is_started(run, command, options, words):
    refused(run(command, "data.npz:X", "--responses", "data.npz:Y", *options), *words)


@pytest.mark.parametrize("module", ["distributed", "dask.array"])
def test_a_library_that_is_missing_is_named_with_its_extra(run, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    result = run("fit", "data.npz:X", "--target", "data.npz:S", "--dask-workers", 2)
    refused(result, f"Fitting on a Dask cluster needs {module}", 'pip install "fastcov-gains[dask]"')


def test_a_cluster_without_workers_is_refused(run):
    with distributed.LocalCluster(
        n_workers=0, processes=False, silence_logs=50, scheduler_port=0, protocol="tcp",
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    ) as cluster:  # fmt: skip
        result = run("fit", "data.npz:X", "--target", "data.npz:S", "--dask", cluster.scheduler_address)
    refused(result, "has none", "scale it up")


def test_workers_of_another_version_are_refused(run, address, monkeypatch):
    monkeypatch.setattr("fastcov._version.__version__", "0.0.1")
    result = run("fit", "data.npz:X", "--target", "data.npz:S", "--dask", address)
    refused(result, "fastcov 0.0.1", "install the same on both")


def test_nan_in_a_far_chunk_is_named_by_channel_and_condition(run, address):
    X = data()["X"]
    X[58, 3] = np.nan
    np.save("X.npy", X)
    result = run("fit", "X.npy", "--target", "data.npz:S", "--dask", address)
    refused(result, "Argument 'X' must be finite", "1 place, first at channel 58, condition 3")


def missing(path):
    path.unlink()


def another(path):
    np.save(path, np.ones((5, 8)))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (
            missing,
            ["must be a file that all workers see", "is missing on the worker at tcp://", "they share"],
        ),
        (another, ["must be the same file for all", "(5, 8)", "(61, 8)", "copy it again"]),
        (cut, ["must be an intact file", "copy it again"]),
    ],
)
def test_a_file_that_workers_do_not_find_as_it_is_here_is_named(run, address, monkeypatch, done, words):
    x, _ = written("npy")
    lengths = shared_files.chunk_lengths

    def after_opening(*args):
        done(pathlib.Path(x))
        return lengths(*args)

    monkeypatch.setattr(shared_files, "chunk_lengths", after_opening)
    path = str(pathlib.Path(x).resolve())
    refused(run("fit", x, "--target", "data.npz:S", "--dask", address), "Argument 'X'", path, *words)


def test_arrays_of_a_wrong_form_are_refused_as_they_are_without_a_cluster(run, address):
    arguments = ("fit", "wrong.npy", "--target", "data.npz:S")
    for wrong in (np.ones(8), np.ones((0, 8)), np.ones((3, 8), complex)):
        np.save("wrong.npy", wrong)
        here, there = run(*arguments), run(*arguments, "--dask", address)
        refused(there, "Argument 'X' must ")
        assert there.stderr == here.stderr.replace(" or 3 axes (trials, channels, conditions)", "")
    np.save("wrong.npy", np.ones((2, 3, 8)))  # trials, which chunks cannot have
    refused(run(*arguments, "--dask", address), "Argument 'X' must have 2 axes (channels, conditions)")
    arguments = ("fit", "data.npz:X", "--responses", "data.npz:S", "--dask", address)
    np.savez("data.npz", X=data()["X"], S=np.ones((5, 3)))
    refused(run(*arguments), "Argument 'Y' must have the 8 conditions of X")


INTERRUPTED = """
import os, signal, sys
import fastcov._fit as module
from fastcov.cli import main

original = module.fit

def ctrl_c(progress):
    if progress.stage == "iteration":
        os.killpg(0, signal.SIGINT)  # as a terminal does: to the workers, too

module.fit = lambda *args, **options: original(*args, **options, callback=ctrl_c)
if __name__ == "__main__":
    main()
"""


@pytest.mark.cluster
@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")
def test_ctrl_c_ends_the_command_and_its_workers_without_a_word_of_theirs(run):
    pathlib.Path("interrupted.py").write_text(INTERRUPTED)
    x, _ = written("npy")
    options = "--target data.npz:S --ridge 500 --solver pcg --dask-workers 2"
    with subprocess.Popen(
        [sys.executable, "interrupted.py", "fit", x, *options.split()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        # Workers have these pipes as well: this waits for them.
        out, err = process.communicate(timeout=60)
        assert (out, err) == ("", "Error: interrupted.\n")
        assert process.returncode in (130, -signal.SIGINT)  # Python's own, where it came while code was made
    of_it = [each for each in psutil.process_iter() if _session(each.pid) == process.pid and _alive(each)]
    _, left = psutil.wait_procs(of_it, timeout=5)  # those that are just ending have closed their pipes
    assert not [each for each in left if _alive(each)]


def _alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _session(pid):
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


@pytest.fixture
def at_iteration(monkeypatch):
    """A function that has another called once, in the first iteration of a fit."""

    def call(function):
        original, called = fc._fit.fit, []

        def callback(progress):
            if progress.stage == "iteration" and not called:
                called.append(function())

        monkeypatch.setattr(
            fc._fit, "fit", lambda *args, **options: original(*args, callback=callback, **options)
        )
        return called

    return call


@pytest.mark.cluster
def test_a_worker_of_its_own_that_dies_is_lived_through_without_a_word(run, at_iteration):
    x, _ = written("npy")
    arguments = ("fit", x, "--target", "data.npz:S", "--ridge", 500, "--json")
    wanted = printed(run(*arguments))
    before = {child.pid for child in psutil.Process().children()}

    def kill():
        new = [child for child in psutil.Process().children() if child.pid not in before]
        workers = [child for child in new if "spawn_main" in " ".join(child.cmdline())]
        workers[0].kill()
        return len(workers)

    called = at_iteration(kill)
    found = printed(run(*arguments, "--solver", "pcg", "--tol", 1e-13, "--dask-workers", 2))
    assert called == [2]
    assert_allclose(found["gains"], wanted["gains"], rtol=RTOL)


@pytest.mark.cluster
def test_a_scheduler_that_goes_away_during_a_fit_is_one_line(run, at_iteration):
    x, _ = written("npy")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", silence_logs=50,
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    ) as cluster:  # fmt: skip
        called = at_iteration(cluster.close)
        address = cluster.scheduler_address
        result = run("fit", x, "--target", "data.npz:S", "--ridge", 500, "--solver", "pcg", "--dask", address)
    assert called
    refused(result, address)


# ---- chunks


@given(
    n=st.integers(1, 10**7), row_bytes=st.integers(1, 10**6), together=st.integers(1, 10**5),
    n_threads=st.integers(1, 1000),
)  # fmt: skip
def test_chunks_are_of_what_is_stored_together_much_alike_and_never_too_large(
    n, row_bytes, together, n_threads
):
    lengths = np.array(shared_files.chunk_lengths((n, row_bytes), 1, together, n_threads))
    assert lengths.sum() == n
    assert lengths.min() > 0
    fits = together * row_bytes <= shared_files.TOGETHER_BYTES
    unit = together if fits else 1
    assert not (lengths[:-1] % unit).any()
    # Units are dealt out evenly; the last one need not be whole.
    assert np.ptp(-(-lengths // unit)) <= 1
    assert lengths.max() * row_bytes <= shared_files.CHUNK_BYTES + unit * row_bytes
    units, nbytes = -(-n // unit), n * row_bytes
    if nbytes >= shared_files.FOR_EACH_THREAD * n_threads * shared_files.LEAST_BYTES:
        assert len(lengths) >= min(units, shared_files.FOR_EACH_THREAD * n_threads)
