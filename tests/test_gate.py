"""The gate's decisions and its table; nothing is timed."""

import json
import subprocess
import sys

import pytest
from cases import bench_modules

from fastcov._bench._children import output
from fastcov._compute import environment


@pytest.fixture(scope="module")
def modules():
    """bench/gate_rows.py and those that import it, by path: bench is no package."""
    with bench_modules("gate_rows", "gate_avx2", "gate", "gate_trial") as found:
        yield found


@pytest.fixture
def gate(modules):
    return modules["gate"]


@pytest.fixture
def table(modules):
    return modules["gate_rows"]


@pytest.fixture
def row(table):
    return table.Row("gram", (9, 4), "floor", 2.0, "a reason")


def ratios(gate, *values, error=0.003):
    return [gate.Ratio(value, error) for value in values]


def test_every_row_has_a_reason_and_lines_in_order(table):
    for row in table.ROWS.values():
        assert row.reason
        assert row.promise > 0
        warn, fail = row.lines(1.0)
        assert 1.0 < warn < fail
        assert row.lines(None) == (row.promise, row.promise)


def test_rows_differ(table):
    assert len(table.ROWS) == len(table.OPERATIONS) + len(table.KERNELS)


def test_every_kernel_has_a_row_and_a_call_that_leads_to_it(table):
    names = set(table.kernels())
    assert names == {row.what for row in table.KERNELS} == set(table.CALLS)


def test_what_is_recorded_is_below_what_holds_anywhere(gate, table):
    for usual in json.loads(gate.USUAL.read_text()).values():
        assert set(usual) <= set(table.ROWS), "rows that are no more: record them again"
        assert [name for name, ratio in usual.items() if ratio > table.ROWS[name].promise] == []


def test_a_slowdown_of_15_percent_is_beyond_the_line_of_one_thread(table):
    _, fail = table.MARGINS[table.ONE]
    assert (fail - 1.0) <= 0.15 / 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0,), "ok"),
        ((1.039,), "ok"),
        ((1.041,), "again"),
        ((1.15,), "again"),
        ((1.3, 1.0, 1.0), "ok"),  # one process whose memory lies badly
        ((1.07, 1.07, 1.0), "ok"),
        ((1.08, 1.0, 1.08), "slower"),
        ((1.15, 1.14, 1.16), "slower"),
        ((0.5, 0.5, 0.5), "ok"),
    ],
    ids=str,
)
def test_two_of_three_processes_have_to_agree(gate, row, values, expected):
    assert gate.verdict(ratios(gate, *values), row, 1.0) == expected


def test_noise_near_the_line_is_no_verdict(gate, row):
    coarse = 0.05
    assert gate.verdict(ratios(gate, 1.0, error=coarse), row, 1.0) == "again"
    assert gate.verdict(ratios(gate, 1.0, 1.1, 1.0, error=coarse), row, 1.0) == "noisy"
    assert gate.verdict(ratios(gate, 1.5, 1.6, 1.4, error=coarse), row, 1.0) == "slower"
    assert gate.verdict(ratios(gate, 0.8, error=coarse), row, 1.0) == "ok"


def test_on_an_unknown_machine_the_promise_is_the_line(gate, row):
    assert gate.verdict(ratios(gate, 1.99), row, None) == "ok"
    assert gate.verdict(ratios(gate, 2.01), row, None) == "again"
    assert gate.verdict(ratios(gate, 2.01, 2.02, 2.03), row, None) == "slower"


def test_a_ratio_is_the_median_of_its_rounds_and_knows_their_spread(gate):
    assert gate.Ratio.of([2.0] * 31) == gate.Ratio(2.0, 0.0)
    narrow = gate.Ratio.of([1.0 + 0.01 * (i % 3 - 1) for i in range(31)])
    wide = gate.Ratio.of([1.0 + 0.1 * (i % 3 - 1) for i in range(31)])
    assert narrow.value == wide.value == 1.0
    assert wide.error == pytest.approx(10 * narrow.error)


def stand_in(gate, monkeypatch, values):
    """Give ratios to rows, one after another, in place of measuring. What was asked for, and pauses."""
    asked, left = [], {name: iter(ratios) for name, ratios in values.items()}

    def in_child(names, slow, by):
        asked.append(list(names))
        return {name: gate.Ratio(next(left[name]), 0.001) for name in names}

    monkeypatch.setattr(gate, "in_child", in_child)
    monkeypatch.setattr(gate, "usual_ratios", lambda: dict.fromkeys(values, 1.0))
    monkeypatch.setattr(gate.time, "sleep", lambda seconds: asked.append("pause"))
    return asked


def test_rows_in_doubt_are_measured_again_and_no_others(gate, table, monkeypatch, capsys):
    steady, slow = list(table.ROWS)[:2]
    asked = stand_in(gate, monkeypatch, {steady: [1.0], slow: [1.2, 1.0, 1.0]})
    assert gate.gate([steady, slow]) == {steady: "ok", slow: "ok"}
    assert asked == [[steady, slow], [slow], [slow]]
    assert slow in capsys.readouterr().out


@pytest.mark.parametrize(
    ("later", "times", "expected"),
    [([1.2] * 6, 3, "slower"), ([1.0] * 3, 2, "ok"), ([1.2] * 3 + [1.0, 1.2, 1.0], 3, "ok")],
    ids=["slower each time", "once", "twice"],
)
def test_slower_is_what_is_so_each_time_after_pauses(
    gate, table, monkeypatch, capsys, later, times, expected
):
    steady, slow = list(table.ROWS)[:2]
    asked = stand_in(gate, monkeypatch, {steady: [1.0], slow: [1.2] * 3 + later})
    assert gate.gate([steady, slow]) == {steady: "ok", slow: expected}
    pauses = ["pause", [slow], [slow], [slow]] * (times - 1)
    assert asked == [[steady, slow], [slow], [slow], *pauses]
    assert capsys.readouterr().out.count(slow) == times


@pytest.mark.parametrize(
    ("said", "avx2", "status"),
    [("ok", "ok", 0), ("slower", "ok", 1), ("noisy", "ok", 75), ("ok", "slower", 1), ("noisy", "slower", 1)],
)
def test_exit_status(gate, table, modules, monkeypatch, said, avx2, status):
    monkeypatch.setattr(sys, "argv", ["gate.py"])
    monkeypatch.setattr(gate, "gate", lambda names, slow, by, pause: dict.fromkeys(names, said))
    found = lambda names, in_child: {f"{name}, AVX2": avx2 for name in names}  # noqa: E731
    monkeypatch.setattr(modules["gate_avx2"], "compared", found)
    assert gate.main() == status


def test_what_is_slowed_on_purpose_is_not_divided_by_itself(gate, table, modules, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gate.py", "--slow", "gram"])
    monkeypatch.setattr(gate, "gate", lambda names, slow, by, pause: dict.fromkeys(names, "ok"))
    monkeypatch.setattr(modules["gate_avx2"], "compared", lambda *_: pytest.fail("it was"))
    monkeypatch.setattr(gate.gate_rows, "slow_kernels", lambda by: None)
    assert gate.main() == 0


@pytest.fixture
def narrow(modules, monkeypatch):
    """Verdicts of a row of AVX2 from ratios in processes, with AVX-512 and without; and what was asked."""
    avx2 = modules["gate_avx2"]
    monkeypatch.setattr(avx2, "here", lambda: True)

    def call(*pairs):
        asked, left = [], iter([ratio for pair in pairs for ratio in pair])

        def in_child(names, **variables):
            asked.append(variables)
            return {name: modules["gate"].Ratio(next(left), 0.0) for name in names}

        return avx2.compared(avx2.ROWS[:1], in_child), asked

    return call


def test_rows_of_avx2_are_of_the_gate_and_of_one_thread(modules, table):
    assert set(modules["gate_avx2"].ROWS) <= set(table.ROWS)
    assert {table.ROWS[name].threads for name in modules["gate_avx2"].ROWS} == {table.ONE}
    assert set(modules["gate_avx2"].MAY) <= set(modules["gate_avx2"].ROWS)


def test_a_row_of_avx2_is_worse_where_two_of_three_processes_agree(modules, narrow, capsys):
    avx2 = modules["gate_avx2"]
    name = f"{avx2.ROWS[0]}, AVX2"
    said, asked = narrow((2.0, 2.5))
    assert said == {name: "ok"}
    assert asked == [{}, avx2.HASWELL]
    assert narrow((1.0, 1.4), (1.0, 1.0), (1.0, 1.0))[0] == {name: "ok"}
    assert narrow((1.0, 1.4), (1.0, 1.0), (1.0, 1.4))[0] == {name: "slower"}
    assert avx2.ROWS[0] in capsys.readouterr().out


def test_a_row_that_may_be_worse_says_why(modules, narrow, monkeypatch, capsys):
    avx2 = modules["gate_avx2"]
    monkeypatch.setattr(avx2, "MAY", {avx2.ROWS[0]: "a reason"})
    said, asked = narrow((1.0, 2.0))
    assert (set(said.values()), len(asked)) == ({"ok"}, 2)
    assert "a reason" in capsys.readouterr().out


def test_where_there_is_no_avx_512_its_rows_are_left_out_and_that_is_said(modules, monkeypatch, capsys):
    avx2 = modules["gate_avx2"]
    monkeypatch.setattr(avx2.threadpoolctl, "threadpool_info", lambda: [{"architecture": "Haswell"}])
    assert avx2.compared(avx2.ROWS, lambda *_, **__: pytest.fail("measured")) == {}
    assert "left out" in capsys.readouterr().out


@pytest.mark.slow
def test_a_child_has_the_variables_that_the_process_was_given_and_imports_numpy_first(gate, monkeypatch):
    name, value = next(iter(environment.DEFAULTS.items()))
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(environment, "_not_given", {name})
    given = []

    def run(command, *, env, **_):
        given.append(env)
        return subprocess.CompletedProcess(command, 0, "{}")

    with monkeypatch.context() as patched:
        patched.setattr(gate.subprocess, "run", run)
        assert gate.in_child(["gram"], OPENBLAS_CORETYPE="Haswell") == {}
    assert given[0]["OPENBLAS_CORETYPE"] == "Haswell"
    assert name not in given[0]
    assert "NumPy" in gate.kind()
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1])\n"
        "import fastcov._compute.environment as e; print(e.NUMPY_FIRST)"
    )
    assert output(code, gate.gate_rows.__file__).strip() == "True"


def test_a_record_is_of_a_kind_of_machine_and_keeps_others(gate, table, monkeypatch, tmp_path):
    name, other = list(table.ROWS)[:2]
    path = tmp_path / "gate.json"
    path.write_text(json.dumps({"elsewhere": {name: 1.0}, gate.kind(): {other: 1.25, "gone": 1.0}}))
    values = iter([1.0, 1.1, 1.3, 1.2, 1.0, 1.4, 1.1])  # halfway between 1.0 and 1.3
    monkeypatch.setattr(gate, "USUAL", path)
    monkeypatch.setattr(gate, "in_child", lambda names: dict.fromkeys(names, gate.Ratio(next(values), 0.0)))
    assert gate.record([name]) == 0
    assert json.loads(path.read_text()) == {"elsewhere": {name: 1.0}, gate.kind(): {other: 1.25, name: 1.15}}
    assert gate.usual_ratios() == {other: 1.25, name: 1.15}


@pytest.mark.parametrize("name", ["centred_rows", "packed_products", "pivoted_rows", "model_step"])
def test_a_kernel_runs_any_number_of_times_on_what_an_operation_gave_it(table, name):
    found = next(row for row in table.KERNELS if row.what == name)
    runs = table.runs(found)
    for _ in range(3):
        for run in runs.values():
            run()


def test_what_is_slowed_does_what_it_did(table, monkeypatch):
    from fastcov._compute.jit import Kernel

    monkeypatch.setattr(Kernel, "__call__", Kernel.__call__)  # put back afterwards
    found = next(row for row in table.OPERATIONS if row.what == "covariance")
    before = table.runs(found)["fastcov"]()
    table.slow_kernels({"weighted_sums": 1.5})
    after = table.runs(found, found.what, 1.5)["fastcov"]()
    assert (before == after).all()


def test_the_trial_bounds_rates(modules):
    trial = modules["gate_trial"]
    assert trial.bound(0, 20) == pytest.approx(1 - 0.05 ** (1 / 20))
    assert trial.bound(20, 20) == 1.0
