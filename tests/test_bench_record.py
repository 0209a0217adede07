"""Records of benchmarks: what is written is read again, and what is damaged is refused with its place."""

import ast
import copy
import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcov._bench import _machine, _table
from fastcov._bench._children import output
from fastcov._compute import environment
from fastcov._timings import record as _record
from fastcov._timings.runs import FLOOR, NAIVE, OURS


def timed(operation="gram", shape=(148, 48), dtype="float64", skipped=None, repeats=1.0, **seconds):
    return _record.Timed(
        operation, shape, dtype, seconds or {OURS: [2e-3, 2.2e-3], FLOOR: [1e-3, 1.1e-3], NAIVE: [8e-3]},
        2e6, 1e5, skipped or {}, repeats,
    )  # fmt: skip


@pytest.fixture
def record():
    machine = {
        "processor": "A processor", "architecture": "x86_64", "system": "Linux", "platform": "Linux-6",
        "cores": 2, "memory_gb": 16.5, "commit": None, "environment": {"OMP_NUM_THREADS": "2"},
        "imported_first": "numpy",
        "versions": {"fastcov": "0.1.0", "python": "3.12.0", "numpy": "2.0", "scipy": "1.14", "numba": "0.60",
                     "llvmlite": "0.43", "jax": None},
        "blas": [{"internal_api": "openblas", "version": "0.3", "architecture": "Zen", "num_threads": 2,
                  "threading_layer": "pthreads", "file": "lib.so"}],
        "numba": {"threads": 2, "layer": "omp"},
    }  # fmt: skip
    settings = {"rounds": 2, "budget": 1.0, "threads": None, "peers": True}
    cases = (timed(), timed("loss", skipped={"jax": "JAX is not installed"}))
    return _record.Record("quick", "2025-01-31T12:00:00+00:00", (0.1, 0.2), machine, settings, cases)


@pytest.fixture
def refused(tmp_path):
    """A function that reads a text, and asserts one error that names the argument, the file and `words`."""

    def check(text, *words):
        path = tmp_path / "damaged.json"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match="Argument 'AFTER' must be an intact file") as caught:
            _record.load(path, "AFTER")
        for word in (str(path), *words):
            assert word in str(caught.value)

    return check


def test_what_is_written_is_read_again(record, tmp_path):
    _record.save(record, tmp_path / "a.json")
    assert _record.load(tmp_path / "a.json") == record
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_file_says_what_it_is_and_holds_one_case_a_line(record):
    text = _record.as_text(record)
    found = json.loads(text)
    assert (found["format"], found["kind"]) == (2, "fastcov bench")
    assert sum('"operation"' in line for line in text.splitlines()) == len(record.cases)


def test_what_could_not_be_read_is_not_written_and_leaves_the_older_file(record, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("older")
    broken = dataclasses.replace(record, cases=(timed(fastcov=[0.0]),))
    with pytest.raises(_record._DamagedError, match=r"cases\[0\].seconds.fastcov\[0\]"):
        _record.save(broken, path)
    assert path.read_text() == "older"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_truncated_file_is_refused_wherever_it_ends(record, refused):
    text = _record.as_text(record).rstrip()
    for end in range(0, len(text), 50):
        refused(text[:end])
    refused(text[:-1])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"), (" \n", "empty"), ("[1, 2]", '"kind"'), ("{}", '"kind"'), ("3", '"kind"'),
        ("hello", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"), ("[" * 100_000, "no JSON"), ('{"kind": "something"}', '"kind"'),
        ('{"kind": "fastcov bench", "kind": "fastcov bench"}', "twice"), ('{"format": NaN}', "NaN"),
    ],
)  # fmt: skip
def test_a_foreign_file_is_refused(refused, text, word):
    refused(text, word)


def test_a_file_of_a_later_format_says_what_to_do(record, refused):
    refused(_record.as_text(record).replace('"format": 2', '"format": 3'), "format 3", "upgrade fastcov")


def test_a_file_of_before_is_refused_for_the_order_of_imports_that_it_is_of(record, refused):
    text = _record.as_text(record).replace('"format": 2', '"format": 1')
    refused(text, "format 1", "fastcov was imported before NumPy", "measure again")


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder: check the path"):
        _record.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="is missing: check the path"):
        _record.load(tmp_path / "none.json")


def places(value, path=()):
    """Paths of all values inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*path, key)
        yield from places(each, (*path, key))


def edited(value, path, change):
    value = copy.deepcopy(value)
    inside = value
    for key in path[:-1]:
        inside = inside[key]
    change(inside, path[-1])
    return value


FREE = {"versions", "environment", "seconds", "skipped"}  # objects whose names may be any


def test_every_field_that_is_left_out_is_missed(record, refused):
    value = json.loads(_record.as_text(record))
    for path in places(value):
        if isinstance(path[-1], str) and (len(path) < 2 or path[-2] not in FREE):
            text = json.dumps(edited(value, path, lambda inside, key: inside.pop(key)))
            refused(text, '"kind"' if path == ("kind",) else f"{path[-1]} is missing")


def test_every_field_of_another_kind_is_refused(record, refused):
    value = json.loads(_record.as_text(record))
    for path in places(value):
        wrong = {"a": {}} if path[-1] != "environment" else 1

        def change(inside, key, wrong=wrong):
            inside[key] = wrong

        refused(json.dumps(edited(value, path, change)))


@pytest.mark.parametrize(
    "bad", [0, -1e-3, 1e-13, 1e300, 10**400, True, None, "1", [], "NaN", "Infinity", "1e999"]
)
def test_seconds_are_positive_numbers(record, refused, bad):
    value = json.loads(_record.as_text(record))
    value["cases"][1]["seconds"]["floor"][1] = "@"
    text = json.dumps(value).replace('"@"', bad if isinstance(bad, str) and bad != "1" else json.dumps(bad))
    refused(
        text, bad if bad in ("NaN", "Infinity") else "cases[1].seconds.floor[1] must be a number of seconds"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["cases"].append(v["cases"][0]), ("cases[2]", "cases[0]", "'gram 148x48 float64'")),
        (lambda v: v["cases"].clear(), ("cases", "at least 1")),
        (lambda v: v["cases"][0]["seconds"].pop("fastcov"), ("cases[0].seconds", "'fastcov'")),
        (lambda v: v["cases"][0]["seconds"]["floor"].clear(), ("cases[0].seconds.floor", "at least 1")),
        (lambda v: v["cases"][0]["seconds"]["floor"].append(1.0), ("3 rounds", "settings.rounds is 2")),
        (lambda v: v["cases"][0]["skipped"].update(floor="why"), ("cases[0].skipped.floor", "it did")),
        (lambda v: v["cases"][0].update(shape=[1, 2, 3]), ("cases[0].shape", "2 items")),
        (lambda v: v["cases"][0].update(dtype="int8"), ("cases[0].dtype", '"int8"')),
        (lambda v: v["cases"][0].update(operation="\x1b[2J"), ("cases[0].operation", "a text")),
        (lambda v: v["cases"][0].update(more=1), ("cases[0].more", "not known")),
        (lambda v: v.update(load=[1]), ("load", "2 items")),
        (lambda v: v["machine"].update(imported_first="scipy"), ("machine.imported_first", "numpy")),
        (lambda v: v["machine"].update(cores=1.5), ("machine.cores", "1.5")),
        (lambda v: v["machine"].update(versions={}), ("machine.versions.fastcov is missing",)),
        (lambda v: v["machine"]["versions"].update(numpy=None), ("machine.versions.numpy", "a text")),
        (lambda v: v["machine"]["versions"].pop("llvmlite"), ("machine.versions.llvmlite is missing",)),
        (lambda v: v["settings"].update(rounds=60_000), ("settings.rounds", "from 1 to 1000")),
        (lambda v: v["cases"][0].update(repeats=0), ("cases[0].repeats", "> 0")),
    ],
)
def test_contradictions_are_named_with_their_place(record, refused, change, words):
    value = json.loads(_record.as_text(record))
    change(value)
    refused(json.dumps(value), *words)


@pytest.mark.slow
@given(st.data())
def test_no_edit_of_the_text_is_anything_but_read_or_refused(data):
    text = _record.as_text(
        _record.Record("quick", "now", (0.0, 0.0), _machine.machine(), {
            "rounds": 2, "budget": 1.0, "threads": None, "peers": True
        }, (timed(),))
    )  # fmt: skip
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.text(max_size=3)) + text[place + data.draw(st.integers(0, 3)) :]
    try:
        found = _record._parsed(changed.encode("utf-8", "surrogatepass"))
    except _record._DamagedError:
        return
    assert found.cases[0].seconds[OURS]


# ---- machine


def test_the_machine_is_what_a_record_may_hold(record, tmp_path):
    here = dataclasses.replace(record, machine=_machine.machine(), load=(_machine.load(), _machine.load()))
    _record.save(here, tmp_path / "a.json")
    assert _record.load(tmp_path / "a.json") == here
    assert here.machine["cores"] >= 1
    assert any(pool["num_threads"] >= 1 for pool in here.machine["blas"])


def test_variables_of_libraries_are_told_and_places_are_not(monkeypatch):
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/somewhere")
    monkeypatch.setenv("HOME", "/home")
    found = _machine.machine()["environment"]
    assert found["OMP_PROC_BIND"] == "true"
    assert not {"NUMBA_CACHE_DIR", "HOME"} & set(found)


def test_variables_that_fastcov_sets_are_not_the_users(monkeypatch):
    name, value = next(iter(environment.DEFAULTS.items()))
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(environment, "_not_given", set())
    assert _machine.machine()["environment"][name] == value
    monkeypatch.setattr(environment, "_not_given", {name})
    assert name not in _machine.machine()["environment"]
    monkeypatch.setenv(name, "20")  # by the user, after fastcov was imported
    assert _machine.machine()["environment"][name] == "20"


@pytest.mark.parametrize(("first", "said"), [("numpy", "True"), ("fastcov", "False")])
def test_a_process_knows_which_library_was_imported_first(first, said):
    code = f"import {first}; import fastcov; print(fastcov._compute.environment.NUMPY_FIRST)"
    assert output(code).strip() == said


@pytest.mark.slow
def test_the_defaults_are_what_fastcov_sets_and_no_others():
    code = (
        "import os; before = dict(os.environ); import fastcov, fastcov._compute.jit\n"
        "print({name: value for name, value in os.environ.items() if before.get(name) != value})"
    )
    assert ast.literal_eval(output(code)) == {
        name: value for name, value in environment.DEFAULTS.items() if name not in environment.as_given()
    }


def test_the_commit_is_none_where_git_is_not(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert _machine.commit() is None


def test_the_commit_is_none_in_a_checkout_of_something_else(monkeypatch):
    said = iter([None, "0123456789ab"])
    monkeypatch.setattr(_machine, "_output", lambda *_: next(said))
    assert _machine.commit() is None


def test_a_processor_has_a_name_where_the_system_says_none(monkeypatch):
    monkeypatch.setattr(_machine.pathlib.Path, "read_text", lambda *_, **__: "flags: none\n")
    monkeypatch.setattr(_machine.sys, "platform", "darwin")
    monkeypatch.setattr(_machine, "_output", lambda *_: "Apple M2")
    assert _machine.processor() == "Apple M2"
    monkeypatch.setattr(_machine, "_output", lambda *_: None)
    assert _machine.processor()


# ---- tables


def test_the_table_says_all_ratios_and_why_something_did_not_run(record):
    text = _table.table(record)
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert re.sub(r" +", " ", lines["gram"]) == "gram 148 x 48 float64 2.10 ms 0.95 2.00 4.00 x"
    assert "Without jax in loss 148 x 48: JAX is not installed." in text
    assert "at work" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_table_for_a_page_has_as_many_cells_in_each_row(record):
    rows = [line for line in _table.markdown(record).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(record.cases)
    assert len({row.count("|") for row in rows}) == 1


def test_a_line_of_a_terminal_has_the_fastest_peers_and_a_page_has_all(record):
    peers = {name: [k * 1e-3] for k, name in enumerate(("slow", "c", "b", "a")[::-1], 2)}
    wide = dataclasses.replace(record, cases=(timed(**{OURS: [1e-3]}, **peers),))
    assert "a 2.00 x; b 3.00 x; ...\n" in _table.table(wide)
    assert "a 2.00 x; b 3.00 x; c 4.00 x; slow 5.00 x |" in _table.markdown(wide)


def test_the_legend_says_of_which_rounds_a_ratio_is(record):
    """Those of ours and one other: a run that sits out changes no ratio but its own."""
    rounds = {OURS: [1.0, 1.0, 1.0], NAIVE: [2.0, 2.0, 8.0]}
    for floor in ([0.5], [0.5] * 3):
        (row,) = (
            line
            for line in _table.table(
                dataclasses.replace(record, cases=(timed(**rounds, floor=floor),))
            ).splitlines()
            if line.startswith("gram")
        )
        assert row.endswith("2.00 x")
    assert "over rounds in which both ran" in _table.table(record)


def test_a_busy_machine_is_told(record):
    busy = dataclasses.replace(record, load=(1.5, 0.0))
    assert "others were at work, 1.5 processes on 2 cores" in _table.table(busy)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.34, "12.3 s"), (0.5, "500 ms"), (1e-3, "1.00 ms"), (2e-5, "20.0 µs"), (5e-8, "0.05 µs")],
)
def test_durations_have_three_digits_and_a_unit(seconds, text):
    assert _table.duration(seconds) == text
