"""Reading arrays from files, and writing files whole or not at all."""

import json
import os
import pathlib
import shutil
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.io import savemat

from fastcov._inputs.files import check_output, open_array, open_named, read_array, writing

X = np.array([[1.0, 2.5, -3.0], [0.0, 1e-3, 4.0]])


def table(tmp_path, text, name="x.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def refused(spec, *words, error=ValueError, name="X"):
    """The message of the refusal, which is one line, names the argument and says `words`.

    So does that of opening the same.
    """
    for read in (open_array, read_array):
        with pytest.raises(error) as caught:
            read(spec, name=name)
        message = str(caught.value)
        assert message.startswith(f"Argument '{name}' must ")
        assert ": " in message
        assert "\n" not in message
        for word in words:
            assert word in message
    return message


# ---- binary files


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "f4", "i2", "?"])
def test_npy_keeps_values_and_dtype(tmp_path, dtype):
    np.save(tmp_path / "x.npy", X.astype(dtype))
    found = read_array(tmp_path / "x.npy")
    assert found.dtype == dtype
    assert_array_equal(found, X.astype(dtype))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_key_picks_the_array(tmp_path, save):
    save(tmp_path / "x.npz", a=X, b=X + 1, **{"with:colon": X + 2})
    assert_array_equal(read_array(f"{tmp_path}/x.npz:a"), X)
    assert_array_equal(read_array(f"{tmp_path}/x.npz:b"), X + 1)
    assert_array_equal(read_array(f"{tmp_path}/x.npz:with:colon"), X + 2)


def test_mat_key_picks_the_array(tmp_path):
    savemat(tmp_path / "x.mat", {"a": X, "b": X + 1})
    assert_array_equal(read_array(f"{tmp_path}/x.mat:b"), X + 1)


@pytest.mark.parametrize("suffix", ["npz", "mat"])
def test_key_may_be_left_out_where_one_matrix_stands_beside_names_and_vectors(tmp_path, suffix):
    arrays = {
        "names": np.array(["p", "q", "r"]),
        "animal": np.arange(3.0),
        "responses": X,
        "day": np.array(3),
    }
    path = tmp_path / f"x.{suffix}"
    np.savez(path, **arrays) if suffix == "npz" else savemat(path, arrays)
    assert_array_equal(read_array(path), X)


def test_key_may_be_left_out_where_there_is_one_vector(tmp_path):
    np.savez(tmp_path / "x.npz", gains=X[0], method=np.array("linear"))
    assert_array_equal(read_array(tmp_path / "x.npz"), X[0])


@pytest.mark.parametrize("suffix", ["npz", "mat"])
def test_missing_and_wrong_keys_list_the_keys_there_are(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    np.savez(path, a=X, b=X) if suffix == "npz" else savemat(path, {"a": X, "b": X})
    refused(path, "none was given", f"'x.{suffix}:KEY'", "a 2 x 3, b 2 x 3")
    refused(f"{path}:c", "'c' is not one", "a 2 x 3, b 2 x 3")
    refused(f"{path}:", "'' is not one")


def test_empty_archive_says_so(tmp_path):
    np.savez(tmp_path / "x.npz")
    refused(tmp_path / "x.npz", "the file is empty")


def test_drive_letters_and_colons_in_folders_are_part_of_the_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(r"C:\data\x.npz:key", r"'C:\\data\\x.npz' is missing", error=FileNotFoundError)
    refused(r"C:\data\x.csv", r"'C:\\data\\x.csv' is missing", error=FileNotFoundError)
    if os.name != "nt":
        np.savez(r"C:\x.npz", key=X)
        assert_array_equal(read_array(r"C:\x.npz:key"), X)
        (tmp_path / "a:b").mkdir()
        np.save("a:b/x.npy", X)
        assert_array_equal(read_array("a:b/x.npy"), X)


def test_suffix_may_be_in_capitals(tmp_path):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").rename(tmp_path / "X.NPY")
    assert_array_equal(read_array(tmp_path / "X.NPY"), X)


def test_key_where_there_are_none_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    refused(f"{tmp_path}/x.npy:a", "without a key", "drop ':a'")


def test_missing_files_folders_and_other_suffixes_are_refused(tmp_path):
    refused(tmp_path / "x.npy", "is missing: check the path", error=FileNotFoundError)
    (tmp_path / "d.npz").mkdir()
    refused(tmp_path / "d.npz", "a folder", error=IsADirectoryError)
    refused(
        tmp_path / "x.xlsx", ".npy, .npz, .mat, .csv, .tsv, .h5, .hdf5 or .zarr", "convert it first", name="Y"
    )
    refused("", "not ''")


def test_python_objects_are_not_unpickled(tmp_path):
    objects = np.array([[1, "a"]], dtype=object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "x.npz", a=objects)
    refused(tmp_path / "x.npy", "not unpickled", ".astype(float)")
    refused(f"{tmp_path}/x.npz:a", "'a'", "not unpickled")


@pytest.mark.parametrize("kept", [0, 3, 60, 0.5, 0.95])
@pytest.mark.parametrize("suffix", ["npy", "npz", "mat"])
def test_truncated_files_are_refused_in_one_line(tmp_path, suffix, kept):
    path = tmp_path / f"x.{suffix}"
    big = np.random.default_rng(0).normal(size=(50, 40))
    if suffix == "npy":
        np.save(path, big)
    elif suffix == "npz":
        np.savez(path, x=big)
    else:
        savemat(path, {"x": big}, do_compression=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    key = "" if suffix == "npy" else ":x"
    message = refused(f"{path}{key}")
    assert "write or copy it again" in message or "the file is empty" in message


def test_damage_inside_an_archive_is_found(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(50, 40)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    refused(f"{path}:x", "intact", "write or copy it again")


def test_matlab_7_3_says_how_to_save(tmp_path):
    path = tmp_path / "x.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(600, b" "))
    refused(f"{path}:x", "7.3", "'-v7'")


# ---- files that may be larger than memory


def write_h5(path, arrays):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key] = values


def write_zarr(path, arrays):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(path), mode="w")
    for key, values in arrays.items():
        values = np.asarray(values)
        inner, _, last = key.rpartition("/")
        inside = group.require_group(inner) if inner else group
        make = inside.create_array if hasattr(inside, "create_array") else inside.create_dataset
        make(last, shape=values.shape, dtype=values.dtype)[...] = values


WRITE = {"h5": write_h5, "hdf5": write_h5, "zarr": write_zarr}
stored = pytest.mark.parametrize("suffix", WRITE)


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "f4", "i2"])
def test_npy_is_opened_without_reading_it(tmp_path, dtype):
    np.save(tmp_path / "x.npy", X.astype(dtype))
    found = open_array(tmp_path / "x.npy")
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert found.dtype == dtype
    assert_array_equal(found, X.astype(dtype))


def test_kinds_that_cannot_be_opened_are_read(tmp_path):
    np.savez(tmp_path / "x.npz", a=X, b=X + 1)
    assert_array_equal(open_array(f"{tmp_path}/x.npz:b"), X + 1)
    assert_array_equal(open_array(table(tmp_path, PLAIN)), X)


@stored
@pytest.mark.parametrize("key", ["a", "group/a", "group/inner/a:b"])
def test_key_picks_the_stored_array_which_is_opened_and_read(tmp_path, suffix, key):
    path = tmp_path / f"x.{suffix}"
    WRITE[suffix](path, {"a": X, "group/a": X + 1, "group/inner/a:b": X + 2})
    expected = X + key.count("/")
    opened, read = open_array(f"{path}:{key}"), read_array(f"{path}:{key}")
    assert not isinstance(opened, np.ndarray)
    assert type(read) is np.ndarray
    assert opened.dtype == read.dtype == X.dtype
    assert_array_equal(opened[1:], expected[1:])
    assert_array_equal(read, expected)
    with pytest.raises(Exception, match=r"(?i)write|read.?only|permission"):  # each library has its own
        opened[0] = 0.0


@stored
def test_key_may_be_left_out_where_one_stored_matrix_stands_beside_vectors(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    WRITE[suffix](path, {"animal": np.arange(3.0), "day": 3.0, "group/responses": X})
    assert_array_equal(open_array(path)[:], X)
    assert_array_equal(read_array(path), X)


@stored
def test_missing_and_wrong_keys_and_groups_list_the_stored_arrays(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    WRITE[suffix](path, {"a": X, "group/b": X})
    there = "a 2 x 3, group/b 2 x 3"
    refused(path, "none was given", f"'x.{suffix}:KEY'", there)
    refused(f"{path}:c", "'c' is not one", there)
    refused(f"{path}:group", "'group' is not one", there)
    refused(f"{path}:a/b", "'a/b' is not one", there)
    refused(f"{path}:", "'' is not one", there)


def test_a_file_of_many_arrays_names_some_of_them(tmp_path):
    write_h5(tmp_path / "x.h5", {f"day{i:03}": X for i in range(100)})
    assert refused(tmp_path / "x.h5", "day019", "80 more").count("day") == 20


@stored
def test_empty_groups_say_so(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    WRITE[suffix](path, {})
    refused(path, "the file is empty")


def test_stored_strings_and_records_and_nothing_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    records = np.zeros((2, 3), [("a", "f8")])
    write_h5(path, {"text": ["p", "q"], "records": records, "nothing": h5py.Empty("f8")})
    refused(f"{path}:text", "must hold numbers, and 'text'", "is of dtype object: name another array")
    refused(f"{path}:records", "must hold numbers, and 'records'", "is of dtype [('a', '<f8')]")
    refused(f"{path}:nothing", "must hold numbers, and 'nothing'", "is empty")
    refused(path, "none was given")


def test_stored_booleans_of_zarr_are_numbers_and_dates_are_not(tmp_path):
    write_zarr(tmp_path / "x.zarr", {"a": X > 0})
    assert_array_equal(read_array(tmp_path / "x.zarr"), X > 0)
    (tmp_path / "y.zarr").mkdir()
    fields = {"zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "<M8[s]", "order": "C"}
    fields |= {"compressor": None, "filters": None, "fill_value": 0}
    (tmp_path / "y.zarr" / ".zarray").write_text(json.dumps(fields))
    refused(tmp_path / "y.zarr", "must hold numbers, and the array", "is of dtype datetime64[s]")


def test_a_zarr_array_at_the_root_has_no_key_and_a_slash_does_not_matter(tmp_path):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "x.zarr"
    zarr.save_array(str(path), X)
    for spec in (path, f"{path}/", f"{path}//"):
        assert_array_equal(open_array(spec)[:], X)
    refused(f"{path}:a", "without a key for an array at the root", "drop ':a'")
    write_zarr(tmp_path / "y.zarr", {"a": X, "b": X + 1})
    assert_array_equal(open_array(f"{tmp_path}/y.zarr/:b")[:], X + 1)
    np.save(tmp_path / "x.npy", X)
    refused(f"{tmp_path}/x.npy/", "convert it first")


@stored
def test_a_missing_stored_file_or_a_folder_in_its_place_is_refused(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    refused(f"{path}:a", "is missing: check the path", error=FileNotFoundError)
    if suffix == "zarr":
        path.write_bytes(b"")
        refused(path, "must be a folder", "is a file: check the path", error=NotADirectoryError)
    else:
        path.mkdir()
        refused(path, "must be a file", "is a folder: check the path", error=IsADirectoryError)


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, 0.99])
def test_truncated_hdf5_is_refused_in_one_line(tmp_path, kept):
    path = tmp_path / "x.h5"
    write_h5(path, {"x": np.random.default_rng(0).normal(size=(50, 40))})
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    for spec in (path, f"{path}:x"):
        refused(spec, "must be an intact file", "write or copy it again")


def test_damaged_chunks_are_refused_where_all_is_read(tmp_path):
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    big = np.random.default_rng(0).normal(size=(50, 40))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", data=big, chunks=(10, 40), compression="gzip", fletcher32=True)
        place = file["x"].id.get_chunk_info(2).byte_offset
    zarr.save_array(str(tmp_path / "x.zarr"), big)
    (chunk,) = (p for p in (tmp_path / "x.zarr").rglob("*") if p.is_file() and p.stat().st_size > 4000)
    for path, offset in ((tmp_path / "x.h5", place), (chunk, 0)):
        data = bytearray(path.read_bytes())
        data[offset : offset + 50] = b"\xff" * 50
        path.write_bytes(data)
    for name in ("x.h5", "x.zarr"):
        with pytest.raises(ValueError, match=r"^Argument 'X' must be an intact file, and .*copy it again\.$"):
            read_array(tmp_path / name, name="X")


@pytest.mark.parametrize("damage", ["", "{", "[]", "gone"])
def test_damaged_zarr_metadata_is_refused_in_one_line(tmp_path, damage):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "x.zarr"
    zarr.save_array(str(path), X)
    for file in path.iterdir():
        if file.name in ("zarr.json", ".zarray"):
            file.unlink() if damage == "gone" else file.write_text(damage)
    refused(path, "must be an intact file", "write or copy it again")


def test_a_file_that_was_read_is_not_held_open(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_h5(tmp_path / "x.h5", {"x": X})
    read_array(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["y"] = X
    shutil.move(tmp_path / "x.h5", tmp_path / "y.h5")


@stored
def test_a_missing_library_says_how_to_get_it(tmp_path, monkeypatch, suffix):
    WRITE[suffix](tmp_path / f"x.{suffix}", {"x": X})
    module = "zarr" if suffix == "zarr" else "h5py"
    monkeypatch.setitem(sys.modules, module, None)
    extra = "zarr" if suffix == "zarr" else "h5"
    message = rf'^Reading \.{suffix} files needs {module}: pip install "fastcov-gains\[{extra}\]"$'
    for read in (read_array, open_array):
        with pytest.raises(ImportError, match=message):
            read(tmp_path / f"x.{suffix}")


# ---- tables


PLAIN = "1,2.5,-3\n0,1e-3,4\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "a,b,c\n" + PLAIN,
        "g1,1,2.5,-3\ng2,0,1e-3,4\n",
        "channel,a,b,c\ng1,1,2.5,-3\ng2,0,1e-3,4\n",
        ",a,b,c\ng1,1,2.5,-3\ng2,0,1e-3,4\n",
        ",a,b,c\n7,1,2.5,-3\n9,0,1e-3,4\n",
        ",0,1,2\n0,1,2.5,-3\n1,0,1e-3,4\n",
        "channel,1,2,3\n7_1,1,2.5,-3\n7_2,0,1e-3,4\n".replace("channel", ""),
        PLAIN + "\n\n",
        PLAIN.rstrip(),
        PLAIN.replace("\n", "\r\n"),
        "\ufeff" + PLAIN,
        '"a","b","c"\n"1","2.5","-3"\n 0 , 1e-3 ,4\n',
    ],
)
def test_labels_of_a_table_are_told_from_its_numbers(tmp_path, text, delimiter):
    assert_array_equal(read_array(table(tmp_path, text.replace(",", delimiter))), X)


def test_rows_that_count_under_a_header_are_not_a_condition(tmp_path):
    rows = "".join(f"{i},{i / 7}\n" for i in range(1, 5))
    found = read_array(table(tmp_path, "channel,odour\n" + rows))
    assert found.shape == (4, 1)


def test_names_may_hold_delimiters_and_other_encodings(tmp_path):
    text = 'canal,"odeur; 1:100","β,γ"\n"a;b",1,2\né,3,4\n'
    assert_array_equal(read_array(table(tmp_path, text)), [[1, 2], [3, 4]])
    assert_array_equal(read_array(table(tmp_path, "é,ü\n1,2\n", encoding="latin-1")), [[1, 2]])


def test_one_column_and_tsv_are_read(tmp_path):
    assert_array_equal(read_array(table(tmp_path, "1\n2\n")), [[1], [2]])
    assert_array_equal(read_array(table(tmp_path, "name\n1\n2\n")), [[1], [2]])
    assert_array_equal(read_array(table(tmp_path, "1\t2\n", "x.tsv")), [[1, 2]])


def test_numbers_that_count_are_numbers_where_nothing_says_otherwise(tmp_path):
    assert_array_equal(read_array(table(tmp_path, "0,1,2\n3,4,5\n")), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2\n3\n", ["not 2 in line 1 and 1 in line 2"]),
        ("a,b\n\n1,2\n3,4,5\n", ["2 in line 1", "3 in line 4"]),
        ("1,2\n3,\n", ["an empty cell in line 2, column 2", "fill it in"]),
        ("g,a,b\nx,1,2\ny,,4\n", ["an empty cell in line 3, column 2"]),
        ("1,2\n,\n", ["an empty cell in line 2, column 1"]),
        ("1,2\n3,word\n", ["'word' in line 2, column 2", "correct it"]),
        ("x,2,3\n4,5,6\n", ["'x' in line 1, column 1"]),
        ("a,b\n1,2\nx,3\n", ["'x' in line 3, column 1"]),
        ("1;2,5\n3;4,5\n", ["'2,5' in line 1, column 2", "decimals with a point"]),
        ("a,1,2,3\nb,4,5,6\n", ["whether line 1", "leave its first cell empty"]),
        ("", ["is empty"]),
        ("\n\n", ["is empty"]),
    ],
)
def test_what_is_wrong_in_a_table_is_named_with_its_place(tmp_path, text, words):
    refused(table(tmp_path, text), *words)


def test_header_alone_gives_no_channels(tmp_path):
    assert read_array(table(tmp_path, "a,b\n")).shape == (0, 2)


def test_nan_in_a_table_is_a_number_for_the_fit_to_refuse(tmp_path):
    assert_array_equal(read_array(table(tmp_path, "1,nan\n2,inf\n")), [[1, np.nan], [2, np.inf]])


# ---- writing


def test_a_file_that_was_written_takes_its_place(tmp_path):
    path = tmp_path / "x.npz"
    path.write_text("old")
    with writing(path) as draft:
        assert draft.parent == path.parent
        assert draft.suffix == ".npz"
        np.savez(draft, x=X)
        assert path.read_text() == "old"
    assert_array_equal(read_array(path), X)
    assert os.listdir(tmp_path) == ["x.npz"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path, error):
    path = tmp_path / "x.json"
    path.write_text("old")

    def fail(draft):
        draft.write_text("half")
        raise error

    with pytest.raises(error), writing(path) as draft:
        fail(draft)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_failure_before_anything_was_written_is_passed_on(tmp_path):
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "x.json"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    with writing(tmp_path / "link.json") as draft:
        draft.write_text("new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


def test_an_output_that_cannot_be_written_is_refused_beforehand(tmp_path, monkeypatch):
    def refuse(path, error, words):
        with pytest.raises(error, match=words) as caught:
            check_output(path, (".npz",), name="--output")
        assert str(caught.value).startswith("Argument '--output' must ")

    refuse(tmp_path / "x.txt", ValueError, "end in .npz, not be")
    refuse(tmp_path / "no" / "x.npz", FileNotFoundError, "create it")
    (tmp_path / "d.npz").mkdir()
    refuse(tmp_path / "d.npz", OSError, "must be a file")
    monkeypatch.setattr(os, "access", lambda *_: False)
    refuse(tmp_path / "x.npz", PermissionError, "written to")
    assert os.listdir(tmp_path) == ["d.npz"]


def test_an_output_over_what_is_read_is_refused_for_files_and_folders(tmp_path):
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.h5").write_bytes(b"")
    (tmp_path / "link.npz").symlink_to("x.h5")
    read = [f"{tmp_path}/x.h5:a", f"{tmp_path}/x.zarr/:a"]
    with pytest.raises(ValueError, match="must not be a file that is read"):
        check_output(tmp_path / "link.npz", (".npz",), read=read)
    with pytest.raises(ValueError, match="must not be in a folder that is read"):
        check_output(tmp_path / "x.zarr" / "x.npz", (".npz",), read=read)
    assert check_output(tmp_path / "x.npz", (".npz",), read=read) == tmp_path / "x.npz"


def test_an_output_that_can_be_written_is_returned_and_not_made(tmp_path):
    assert check_output(str(tmp_path / "x.NPZ"), (".npz", ".json")) == pathlib.Path(tmp_path / "x.NPZ")
    assert os.listdir(tmp_path) == []


def test_a_header_that_counts_the_columns_is_not_read_as_data(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("0,1,2\n1.5,2,3\n4,5,6\n")
    with pytest.raises(ValueError, match=r"^Argument 'X' must say whether line 1 .* is a header"):
        read_array(path, name="X")
    path.write_text("0.0,1,2\n1.5,2,3\n4,5,6\n")
    assert read_array(path, name="X").shape == (3, 3)


@pytest.mark.parametrize("first", ["2,0,1", "3,1,2", "1,2,3", "0,2,1"])
def test_a_header_that_numbers_the_columns_in_any_order_is_not_read_as_data(tmp_path, first):
    asked = r"^Argument 'X' must say whether line 1 .* is a header: "
    for text, remedy in (
        (f"{first}\n1.5,2,3\n4,5,6\n", "delete it"),
        (f"id,{first}\ng,1.5,2,3\nh,4,5,6\n", "leave its first cell"),
    ):
        with pytest.raises(ValueError, match=asked + remedy):
            open_named(table(tmp_path, text), name="X")
    for text in ("2.0,0,1\n1.5,2,3\n4,5,6\n", "2,0,3\n1.5,2,3\n4,5,6\n", "2,2,1\n1.5,2,3\n4,5,6\n"):
        assert read_array(table(tmp_path, text), name="X").shape == (3, 3)
    names = first.split(",")
    for text in (f",{first}\n1,4,5,6\n0,7,8,9\n2,1,2,3\n", f"id,{first}\n1,4,5,6\n0,7,8,9\n2,1,2,3\n"):
        channels, conditions, values = named(table(tmp_path, text))
        assert (channels, conditions) == (["1", "0", "2"], names)
        assert values == [[4, 5, 6], [7, 8, 9], [1, 2, 3]]


def test_the_first_column_stays_numbers_where_it_may_be(tmp_path):
    assert named(table(tmp_path, "a,b\n1,2\n0,3\n2,4\n")) == (None, ["a", "b"], [[1, 2], [0, 3], [2, 4]])


# ---- names in tables


def named(path, **options):
    found = open_named(path, name="X", **options)
    return found.channels, found.conditions, np.asarray(found).tolist()


@pytest.mark.parametrize(
    ("text", "channels", "conditions"),
    [
        (PLAIN, None, None),
        ("a,b,c\n" + PLAIN, None, ["a", "b", "c"]),
        ("g1,1,2.5,-3\ng2,0,1e-3,4\n", ["g1", "g2"], None),
        ("channel,a,b,c\ng1,1,2.5,-3\ng2,0,1e-3,4\n", ["g1", "g2"], ["a", "b", "c"]),
        (",a,b,c\n7,1,2.5,-3\n9,0,1e-3,4\n", ["7", "9"], ["a", "b", "c"]),
        (",0,1,2\n0,1,2.5,-3\n1,0,1e-3,4\n", range(2), range(3)),  # as pandas counts
        (",2,0,1\n1,1,2.5,-3\n0,0,1e-3,4\n", ["1", "0"], ["2", "0", "1"]),
        (",1,2,3\n1,1,2.5,-3\n2,0,1e-3,4\n", ["1", "2"], ["1", "2", "3"]),
        (",a,b,c\n,1,2.5,-3\n,0,1e-3,4\n", None, ["a", "b", "c"]),
    ],
)
def test_names_of_a_table_are_kept_unless_they_only_count(tmp_path, text, channels, conditions):
    assert named(table(tmp_path, text)) == (channels, conditions, X.tolist())


def test_names_are_read_in_their_encoding(tmp_path):
    assert named(table(tmp_path, "β,ü\n1,2\n"))[1] == ["β", "ü"]
    assert named(table(tmp_path, "é,ü\n1,2\n", encoding="latin-1"))[1] == ["é", "ü"]
    assert named(table(tmp_path, "\ufeffé,ü\n1,2\n"))[1] == ["é", "ü"]


def test_a_first_column_is_names_where_that_is_said(tmp_path):
    path = table(tmp_path, "id,a,b\n5,1,2\n6,3,4\n")
    assert named(path) == (None, ["id", "a", "b"], [[5, 1, 2], [6, 3, 4]])
    assert named(path, id_column=True) == (["5", "6"], ["a", "b"], [[1, 2], [3, 4]])
    assert named(table(tmp_path, "5,1,2\n6,3,4\n"), id_column=True) == (["5", "6"], None, [[1, 2], [3, 4]])
    with pytest.raises(ValueError, match=r"^Argument 'X' must have columns of numbers beside its first"):
        named(table(tmp_path, "1\n2\n"), id_column=True)


def test_other_files_are_opened_as_they_are(tmp_path):
    np.save(tmp_path / "x.npy", X)
    assert isinstance(open_named(tmp_path / "x.npy"), np.memmap)
