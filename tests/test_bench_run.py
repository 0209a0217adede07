"""Suites as they are measured: rounds, batches, and what is wrong."""

import dataclasses
import itertools
import json
import re

import pytest

from fastcov._bench import _run, _timing
from fastcov._bench._case import Case, reference
from fastcov._timings import record as _record
from fastcov._timings.runs import FLOOR, NAIVE, OURS


def test_a_run_that_is_out_of_time_stays_out_so_that_places_are_rounds():
    clock = iter(range(10**6))
    slow = {"slow": lambda: next(clock), "fast": lambda: None}
    for rounds in (1, 2, 25):
        seconds = _timing.interleaved(slow, rounds, budget=1e-12)
        assert {name: len(each) for name, each in seconds.items()} == {"slow": 1, "fast": 1}
    seconds = _timing.interleaved(slow, 9, budget=1e-12, least={"slow": 4})
    assert {name: len(each) for name, each in seconds.items()} == {"slow": 4, "fast": 1}


def test_what_is_warm_is_not_called_before_the_clock():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
    shares = []
    _timing.interleaved(runs, 2, callback=shares.append, warm=["a"])
    assert (calls.count("a"), calls.count("b")) == (2, 1 + 2 * 2)
    assert shares == [0.0, 0.5]


@pytest.mark.parametrize(
    ("runs", "name"),
    [
        ([OURS, NAIVE, "peer", FLOOR], FLOOR), (["peer", NAIVE, OURS], NAIVE), ([OURS, "b", "a"], "b"),
        ([OURS], None),
    ],
)  # fmt: skip
def test_the_reference_is_the_floor_or_else_naive_or_else_a_peer(runs, name):
    assert reference(runs) == name


def case(check=lambda _: None, **runs):
    return Case("gram", (40, 8), "float64", {OURS: lambda: 1.0} | runs, check, 1.0, 1.0)


def no_floor(result):
    if result != 1.0:
        raise AssertionError("it is\nfar off")


def test_a_run_is_measured_whole_and_in_order(monkeypatch):
    found = case(no_floor, naive=lambda: 1.0, floor=lambda: 2.0)
    monkeypatch.setattr(_run._cases, "case", lambda *_, **__: found)
    seen = []
    keys = [("gram", (40, 8), "float64")] * 3
    record = _run.run(keys, suite="some", rounds=3, threads=1, callback=lambda p: seen.append(p.done))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert [set(each.seconds) for each in record.cases] == [{OURS, NAIVE, FLOOR}] * 3
    assert all(len(times) == 3 for each in record.cases for times in each.seconds.values())
    assert record.machine["numba"]["threads"] == record.settings["threads"] == 1


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ({OURS: lambda: 2.0}, "'fastcov' gives for 'gram 40x8 float64' is wrong (it is far off): run "),
        ({NAIVE: lambda: 2.0}, "'naive' gives for 'gram 40x8 float64' is wrong (it is far off): run "),
        ({NAIVE: lambda: [][1]}, "'naive' gives for 'gram 40x8 float64' failed (list index out of range): "),
    ],
)
def test_what_is_wrong_is_not_measured(monkeypatch, runs, words):
    monkeypatch.setattr(_run._cases, "case", lambda *_, **__: case(no_floor, **runs))
    with pytest.raises(RuntimeError, match=re.escape(words)) as caught:
        _run.run([("gram", (40, 8), "float64")], suite="some", rounds=1)
    assert "run 'fastcov doctor'" in str(caught.value)
    assert "--no-peers" not in str(caught.value)  # which leaves out neither


def test_peers_that_fail_or_are_wrong_are_left_out_with_the_reason_and_the_rest_is_measured(monkeypatch):
    def stops():
        raise RuntimeError("no convergence\n\x1b[2J after 9 steps")

    found = case(
        no_floor, naive=lambda: 1.0, wrong=lambda: 2.0, stops=stops, empty=lambda: [][1], fine=lambda: 1.0
    )
    monkeypatch.setattr(_run._cases, "case", lambda *_, **__: found)
    record = _run.run([("gram", (40, 8), "float64")], suite="some", rounds=2)
    (measured,) = record.cases
    assert set(measured.seconds) == {OURS, NAIVE, "fine"}
    assert measured.skipped == {
        "wrong": "it is wrong (it is far off)", "stops": "it failed (no convergence [2J after 9 steps)",
        "empty": "it failed (list index out of range)",
    }  # fmt: skip
    assert _record._parsed(_record.as_text(record).encode()) == record


def test_how_often_a_floor_repeats_its_work_is_recorded(monkeypatch):
    found = dataclasses.replace(case(), repeats=7)
    monkeypatch.setattr(_run._cases, "case", lambda *_, **__: found)
    record = _run.run([("gram", (40, 8), "float64")], suite="some", rounds=1)
    assert json.loads(_record.as_text(record))["cases"][0]["repeats"] == 7.0


def keys_of(*sizes):
    return [(f"operation {i}", (N, 10), dtype) for i, (N, dtype) in enumerate(sizes)]


def test_batches_hold_all_cases_and_little_memory(monkeypatch):
    # Of a simulation of 5 channels 2 arrays of 400 bytes, and of each case 4 and a system of 200 bytes.
    monkeypatch.setattr(_run, "BATCH_BYTES", 800 + 2 * 1800)
    one = 5, "float64"
    assert list(_run._batches(keys_of(one, one, one))) == [[0, 1], [2]]
    monkeypatch.setattr(_run, "BATCH_BYTES", 800 + 2 * 1800 - 1)
    assert list(_run._batches(keys_of(one, one, one))) == [[0], [1], [2]]
    assert list(_run._batches(keys_of((900, "float64"), (900, "float64")))) == [[0], [1]]  # whatever it holds
    assert list(_run._batches([])) == []


def test_cases_of_one_simulation_come_together_and_are_recorded_in_their_order(monkeypatch):
    keys = keys_of(
        (5, "float64"), (9, "float64"), (7, "float64"), (5, "float64"), (5, "float32"), (9, "float64")
    )
    assert list(_run._batches(keys)) == [[0, 3, 1, 5, 2, 4]]
    made = []

    def make(operation, shape, dtype, **_):
        made.append((shape, dtype))
        return Case(operation, shape, dtype, {OURS: lambda: 1.0}, no_floor, 1.0, 1.0)

    monkeypatch.setattr(_run._cases, "case", make)
    for most in (_run.BATCH_BYTES, 1.0):
        made.clear()
        monkeypatch.setattr(_run, "BATCH_BYTES", most)
        record = _run.run(keys, suite="some", rounds=1)
        assert [(each.operation, each.shape, each.dtype) for each in record.cases] == keys
        changes = [a != b for a, b in itertools.pairwise(made)]
        assert sum(changes) == len(set(made)) - 1


def test_all_of_the_quick_suite_takes_turns():
    assert len(list(_run._batches(_run._cases.SUITES["quick"]))) == 1
