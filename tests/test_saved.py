"""save and fc.load: the same fit, path or study, bit by bit, or one clear error."""

import dataclasses
import json
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

import fastcov as fc
from fastcov._fitting.describe import Fits
from fastcov._inputs import container
from fastcov._inputs.labels import Labelled

h5py = pytest.importorskip("h5py")

N, D = 20, 8
SIM = fc.datasets.simulate(N, D, rng=0)
CHANNELS = [f"glomerulus {i}" for i in range(N)]
ODOURS = ["pinene", "β-citral", 3, 4, "", "a,b", 'q"', "line\nbreak"]
NAMED = Labelled(SIM.X, CHANNELS, ODOURS)
STACK = np.stack([SIM.S, 2 * SIM.S, 0 * SIM.S])

suffixes = pytest.mark.parametrize("suffix", ["npz", "h5", "hdf5"])


def fits():
    """Fits with all that a fit may have."""
    yield "linear", fc.fit(SIM.X, SIM.S, ridge=7)
    yield "named", fc.fit(NAMED, responses=SIM.Y, relative_ridge=0.1)
    yield "starts", fc.fit(NAMED, SIM.S, ridge=7, method="exact", bounds=(0, 1.2), n_starts=3)
    yield "stack", fc.fit(SIM.X, STACK, relative_ridge=0.1, method="exact")  # R² of a target of zero
    yield "minimum-norm", fc.fit(SIM.X.astype(np.float32), SIM.S, ridge=0)
    yield "line-search", fc.fit(SIM.X, STACK, ridge=7, method="line-search")
    yield "by channel", fc.fit(NAMED, SIM.S, relative_ridge=np.linspace(0.1, 1, N))
    differences = sp.diags([1.0, -1.0], [0, 1], shape=(N - 1, N))
    yield "sparse", fc.fit(NAMED, SIM.S, ridge=sp.csr_array(differences))
    yield "diagonal", fc.fit(SIM.X, SIM.S, ridge=7, method="diagonal", center=False)
    yield "cv", fc.fit(NAMED, responses=SIM.Y, ridge="cv", method="exact")
    terms = {"nuisance": ("diagonal", "constant"), "pairs": "off-diagonal"}
    yield "nuisance", fc.fit(NAMED, SIM.S, ridge=7, method="exact", **terms)
    yield "nuisance of a stack", fc.fit(SIM.X, STACK, ridge=7, **terms)


FITS = dict(fits())


def same(one, other, where="fit"):
    """Assert that two values are equal bit by bit, and of the same types."""
    if isinstance(one, Fits):  # fits that were loaded are made already
        one = tuple(one)
    assert type(one) is type(other), where
    if dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            if not field.metadata.get("saved", True):
                continue
            same(getattr(one, field.name), getattr(other, field.name), f"{where}.{field.name}")
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            same(one[key], other[key], f"{where}[{key!r}]")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            same(a, b, f"{where}[{i}]")
    elif isinstance(one, (np.ndarray, np.generic)):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), where
        assert one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes(), (
            where
        )
    elif sp.issparse(one):
        parts = ("data", "indices", "indptr", "shape")
        same(*([getattr(each, part) for part in parts] for each in (one, other)), where)
    elif isinstance(one, float):
        assert repr(one) == repr(other), where  # all NaN of Python are one
    else:
        assert one == other, where


def refused(path, *words, error=ValueError):
    with pytest.raises(error) as caught:
        fc.load(path)
    message = str(caught.value)
    assert message.startswith("Argument 'path' must ")
    assert "\n" not in message
    for word in words:
        assert word in message, message


# ---- the same


@suffixes
@pytest.mark.parametrize("name", FITS)
def test_a_fit_comes_back_bit_by_bit(tmp_path, suffix, name):
    fit = FITS[name]
    fit.save(tmp_path / f"fit.{suffix}")
    found = fc.load(tmp_path / f"fit.{suffix}")
    same(fit, found)
    assert repr(fit) == repr(found)
    assert os.listdir(tmp_path) == [f"fit.{suffix}"]
    with pytest.raises(ValueError, match="read-only"):
        found.delta[...] = 0.0


@suffixes
def test_the_cross_validation_behind_a_fit_comes_back(tmp_path, suffix):
    cv = fc.cross_validate(NAMED, SIM.Y, relative_ridges=[0.1, 1], folds=4, repeats=2, shuffles=2,
                           method=["exact", "linear"])  # fmt: skip
    fit = dataclasses.replace(FITS["named"], stats=FITS["named"].stats | {"cv": cv})
    fit.save(tmp_path / f"fit.{suffix}")
    found = fc.load(str(tmp_path / f"fit.{suffix}")).stats["cv"]
    same(cv, found)
    assert repr(cv) == repr(found)
    assert_array_equal(found.r2_shuffled["exact"], cv.r2_shuffled["exact"])
    assert found.fit["exact"].conditions == cv.fit["exact"].conditions


@suffixes
def test_a_loaded_fit_predicts_as_the_one_that_was_saved(tmp_path, suffix):
    fit = FITS["named"]
    fit.save(tmp_path / f"fit.{suffix}")
    new = fc.datasets.simulate(N, D, rng=1)
    one, other = (each.apply(new.X, responses=new.Y) for each in (fit, fc.load(tmp_path / f"fit.{suffix}")))
    assert one.r2 == other.r2
    assert_array_equal(one.covariance, other.covariance)


@suffixes
def test_whatever_stats_hold_comes_back(tmp_path, suffix):
    stats = FITS["linear"].stats | {
        "nothing": None, "nan": float("nan"), "infinity": -np.inf, "zero": -0.0, "tiny": 5e-324, "yes": True,
        "whole": 2**70, "text": "β\0\ud800", "pair": (1, (2.5, None)), "list": [1, [2, "a"]], "empty": {},
        "scalar": np.float32(0.1), "int": np.int8(3), "bool": np.bool_(True), "complex": np.array([1j]),
        "big": np.arange(3, dtype=">i4"), "bools": np.array([[True], [False]]), "none": np.empty((0, 3)),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "texts": np.array(["a", "bcd"]),
        "objects": np.array([["a", "b"]], dtype=object), "a.b": np.ones(2), "a": {"b": np.zeros(2)},
        "in/side": np.ones(1), "gains": np.full(3, 7.0),
    }  # fmt: skip
    fit = dataclasses.replace(FITS["linear"], stats=stats)
    fit.save(tmp_path / f"fit.{suffix}")
    same(fit, fc.load(tmp_path / f"fit.{suffix}"))


@pytest.mark.parametrize(
    "ridge", [np.linspace(0, 1, N), np.eye(N), np.float64(3), None, sp.csr_matrix(np.eye(3))]
)
@suffixes
def test_a_ridge_of_any_kind_comes_back(tmp_path, suffix, ridge):
    fit = dataclasses.replace(FITS["linear"], ridge=ridge)
    fit.save(tmp_path / f"fit.{suffix}")
    same(fit, fc.load(tmp_path / f"fit.{suffix}"))


names = st.none() | st.lists(st.text(max_size=5) | st.integers(-(2**63), 2**63), min_size=3, max_size=3).map(
    tuple
)
floats = hnp.arrays(np.float64, (3,), elements=st.floats(allow_nan=True, width=64))
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | floats
    | hnp.arrays(st.sampled_from(["?", "i1", ">i4", "u8", "f4", "f8"]), hnp.array_shapes())
)  # fmt: skip


@given(
    suffix=st.sampled_from(["npz", "h5"]), channels=names, conditions=names, gains=floats,
    stats=st.dictionaries(st.sampled_from("pqr"), st.recursive(leaves, lambda x: st.lists(x, max_size=3))),
)  # fmt: skip
def test_any_fit_comes_back(tmp_path_factory, suffix, channels, conditions, gains, stats):
    square = np.tile(gains, (3, 1))
    fit = fc.Fit(
        delta=gains[::-1].copy(), loss=gains[0], loss_at_one=gains[1], r2=np.float64(0.5),
        ridge=float(gains[2]), relative_ridge=None, residual=gains[0], status="converged", method="linear",
        stats={"shape": (3, 3), "center": True} | stats, channels=channels, conditions=conditions,
        _gains=gains, _covariance=square, _target=square, _covariance_at_one=square,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("any") / f"fit.{suffix}"
    fit.save(path)
    same(fit, fc.load(path))


# ---- for others to read


def test_numpy_reads_the_numbers_by_name_without_pickle(tmp_path):
    fit = FITS["named"]
    fit.save(tmp_path / "fit.npz")
    with np.load(tmp_path / "fit.npz", allow_pickle=False) as file:
        found = dict(file)
    for name, value in {"gains": fit.gains, "covariance": fit.covariance(), "target": fit.target()}.items():
        assert_array_equal(found[name], value)
    for name in (
        "delta",
        "loss",
        "loss_at_one",
        "r2",
        "ridge",
        "relative_ridge",
        "residual",
        "status",
        "method",
    ):
        assert_array_equal(found[name], getattr(fit, name))
    assert found["conditions"].tolist() == [str(name) for name in fit.conditions]
    assert (found["format"][()], found["format_version"][()]) == ("fastcov.Fit", 2)
    assert found["version"][()] == fc.__version__
    assert json.loads(bytes(found["metadata"][()]))["class"] == "Fit"


def test_h5py_reads_the_numbers_by_name(tmp_path):
    fit = FITS["named"]
    fit.save(tmp_path / "fit.h5")
    with h5py.File(tmp_path / "fit.h5") as file:
        assert_array_equal(file["gains"], fit.gains)
        assert file["status"].asstr()[()] == "converged"
        assert file["conditions"].asstr()[:].tolist() == [str(name) for name in fit.conditions]


# ---- writing


@suffixes
def test_objects_are_never_pickled(tmp_path, suffix):
    with pytest.raises(TypeError, match=r"not objects in \['mine'\]"):
        container.write_entries(tmp_path / f"x.{suffix}", {"mine": [None]})
    assert not os.listdir(tmp_path)


def test_other_suffixes_and_folders_are_refused_before_anything_is_written(tmp_path):
    fit = FITS["linear"]
    for path, error, words in (
        (tmp_path / "fit.csv", ValueError, "must end in .npz, .h5 or .hdf5"),
        (tmp_path / "no" / "fit.npz", FileNotFoundError, "create it"),
    ):
        with pytest.raises(error, match=words):
            fit.save(path)
    assert not os.listdir(tmp_path)


def test_what_no_file_can_hold_is_refused_with_its_place_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "fit.npz"
    FITS["linear"].save(path)
    before = path.read_bytes()
    for value, kind in (
        (object(), "object"),
        ({1: 2}, "dict"),
        (np.array([None]), "ndarray"),
        (1j, "complex"),
    ):
        fit = dataclasses.replace(FITS["linear"], stats=FITS["linear"].stats | {"mine": [value]})
        with pytest.raises(TypeError, match=rf"not a {kind} in 'stats\.mine\.0': remove it"):
            fit.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["fit.npz"]


@suffixes
def test_an_interrupted_save_leaves_the_old_file(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"fit.{suffix}"
    FITS["linear"].save(path)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    monkeypatch.setattr(h5py.File, "create_dataset", interrupt)
    with pytest.raises(KeyboardInterrupt):
        FITS["named"].save(path)
    assert os.listdir(tmp_path) == [path.name]
    same(FITS["linear"], fc.load(path))


def test_without_h5py_it_says_how_to_get_it(tmp_path, monkeypatch):
    FITS["linear"].save(tmp_path / "fit.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        ImportError, match=r'^Writing \.h5 files needs h5py: pip install "fastcov-gains\[h5\]"$'
    ):
        FITS["linear"].save(tmp_path / "other.h5")
    with pytest.raises(
        ImportError, match=r'^Reading \.h5 files needs h5py: pip install "fastcov-gains\[h5\]"$'
    ):
        fc.load(tmp_path / "fit.h5")


# ---- files that are not what they should be


def rewritten(path, **changes):
    """Save the named fit with other entries, None for none; a checksum that was right stays as it was."""
    FITS["named"].save(path)
    read = container._read_npz if path.suffix == ".npz" else container._read_h5
    entries = {
        name: entry.item().decode() if entry.dtype == object and entry.ndim == 0 else entry
        for name, entry in read(path).items()
        if entry.dtype != object or entry.ndim == 0
    }
    entries |= changes
    container.write_entries(path, {name: value for name, value in entries.items() if value is not None})


def signed(path, **changes):
    """Save a fit whose fields are changed, with the checksum of these."""
    dataclasses.replace(FITS["named"], **changes).save(path)


@suffixes
def test_missing_files_folders_and_other_kinds_are_refused(tmp_path, suffix):
    path = tmp_path / f"fit.{suffix}"
    refused(path, "is missing: check the path", error=FileNotFoundError)
    path.mkdir()
    refused(path, "is a folder", error=IsADirectoryError)
    refused(tmp_path / "fit.csv", "must end in .npz, .h5 or .hdf5")


@suffixes
def test_files_of_others_are_not_fits(tmp_path, suffix):
    path = tmp_path / f"fit.{suffix}"
    container.write_entries(path, {"gains": np.ones(3)})
    refused(
        path,
        "that save of a result wrote",
        "is none",
    )
    container.write_entries(path, {"gains": np.ones(3), "format": "other"})
    refused(
        path,
        "that save of a result wrote",
        "is none",
    )


@suffixes
def test_a_file_of_a_later_version_says_which_fastcov_reads_it(tmp_path, suffix):
    path = tmp_path / f"fit.{suffix}"
    rewritten(path, format_version=3, version="9.8.7", metadata=None)
    refused(path, "format version 2", "is of version 3, of fastcov 9.8.7: upgrade fastcov")


def as_version_1(path, fit):
    """Write a fit as format version 1 had it: there were no nuisance terms, and no pairs in stats."""
    stats = {name: value for name, value in fit.stats.items() if name != "pairs"}
    arrays = {}
    record = container._encoded(dataclasses.replace(fit, stats=stats), "", arrays)
    assert record["fields"].pop("nuisance") == {"dict": {}}
    metadata = json.dumps(record, allow_nan=False).encode("ascii")
    container.write_entries(path, {
        "format": "fastcov.Fit", "format_version": 1, "version": "0.1.0",
        **arrays, "metadata": np.bytes_(metadata), "checksum": container.checksum(metadata, arrays),
    })  # fmt: skip


@suffixes
@pytest.mark.parametrize("name", ["linear", "named", "stack", "sparse"])
def test_a_fit_in_a_file_of_format_version_1_is_one_without_nuisance_terms(tmp_path, suffix, name):
    path, fit = tmp_path / f"fit.{suffix}", FITS[name]
    as_version_1(path, fit)
    found = fc.load(path)
    assert found.nuisance == {}
    assert "pairs" not in found.stats
    same(fit, dataclasses.replace(found, stats=fit.stats))
    assert repr(fit) == repr(found)
    assert_array_equal(found.prediction(), fit.covariance())
    new = fc.datasets.simulate(N, D, rng=1)
    one, other = (each.apply(new.X, new.S if fit.delta.ndim == 1 else None) for each in (fit, found))
    same((one.r2, one.covariance), (other.r2, other.covariance))
    found.save(path)  # again, as it is written now
    same(found, fc.load(path))


@suffixes
def test_a_study_of_format_version_1_had_other_scores_and_is_refused(tmp_path, suffix):
    path = tmp_path / f"fit.{suffix}"
    as_version_1(path, FITS["cv"])
    refused(path, "a study of format version 2", "of version 1, of fastcov 0.1.0", "cross-validate again")


@pytest.mark.slow
@suffixes
@pytest.mark.parametrize(
    "changes",
    [
        {"gains": None}, {"metadata": None}, {"checksum": None}, {"format_version": None},
        {"format_version": 0},
        {"format_version": np.array("a")}, {"metadata": np.bytes_(b"{")}, {"metadata": np.bytes_(b"[]")},
        {"metadata": np.bytes_(b'{"class": "Fit", "fields": {}}')}, {"metadata": np.float64(3)},
        {"metadata": np.bytes_(b'{"class": "Popen", "fields": {}}')}, {"checksum": "0"},
        {"gains": np.ones(N)}, {"delta": FITS["named"].delta.astype(np.float32)}, {"loss": np.ones(2)},
        {"stats.r2_at_one": np.float64(1)},
    ],
    ids=str,
)  # fmt: skip
def test_damaged_and_missing_entries_are_refused_in_one_line(tmp_path, suffix, changes):
    path = tmp_path / f"fit.{suffix}"
    rewritten(path)
    same(FITS["named"], fc.load(path))  # rewriting alone changes nothing
    rewritten(path, **changes)
    refused(path, "must be an intact file", "write or copy it again")


@suffixes
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"_gains": np.ones(N + 1)}, "'gains'"), ({"delta": np.ones((2, N))}, "'gains'"),
        ({"_target": np.ones((D, D + 1))}, "'target'"), ({"_covariance": np.ones((2, D, D))}, "'covariance'"),
        ({"_covariance_at_one": np.ones(D)}, "'covariance_at_one'"), ({"loss": np.ones(2)}, "'loss'"),
        ({"channels": ("a",)}, "'channels'"), ({"conditions": ("a",) * (D + 1)}, "'conditions'"),
        ({"stats": FITS["named"].stats | {"shape": (N, D + 1)}}, "'covariance'"),
    ],
)  # fmt: skip
def test_shapes_that_contradict_each_other_are_refused(tmp_path, suffix, changes, word):
    path = tmp_path / f"fit.{suffix}"
    signed(path, **changes)
    refused(path, "must be an intact file", f"the shape of {word}", "others say")


@suffixes
@pytest.mark.parametrize("kept", [0, 3, 60, 0.3, 0.6, 0.9, 0.99])
def test_files_cut_short_are_refused_in_one_line(tmp_path, suffix, kept):
    path = tmp_path / f"fit.{suffix}"
    FITS["cv"].save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    refused(path, "write or copy it again")


def test_a_flipped_bit_anywhere_in_an_archive_is_found_or_harms_nothing(tmp_path):
    path = tmp_path / "fit.npz"
    FITS["linear"].save(path)
    whole = path.read_bytes()
    found = 0
    for place in np.random.default_rng(0).integers(len(whole), size=400):
        data = bytearray(whole)
        data[place] ^= 1 << int(place % 8)
        path.write_bytes(data)
        try:
            same(FITS["linear"], fc.load(path))  # dates of members, and names that only others look for
        except (ValueError, NotImplementedError) as error:
            assert str(error).startswith("Argument 'path' must be "), error  # noqa: PT017
            found += 1
    assert found > 300


@pytest.mark.parametrize("name", ["gains", "covariance", "metadata", "loss"])
def test_a_flipped_bit_in_what_a_hdf5_file_holds_is_found(tmp_path, name):
    path = tmp_path / "fit.h5"
    FITS["linear"].save(path)
    with h5py.File(path) as file:
        values = np.asarray(file[name][()]).tobytes()
    data = bytearray(path.read_bytes())
    assert data.count(values) >= 1
    data[data.index(values) + len(values) // 2] ^= 1
    path.write_bytes(data)
    refused(path, "must be an intact file", "write or copy it again")


def test_python_objects_in_a_file_are_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    path = tmp_path / "fit.npz"
    FITS["linear"].save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    np.save(tmp_path / "trap.npy", np.zeros(1))
    header = (
        b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(127) + b"\n"
    )
    members["gains.npy"] = header + pickle.dumps([Trap()])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(path, "must be an intact file", "allow_pickle")
