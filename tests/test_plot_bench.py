"""Figures of benchmarks by what they show."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from test_bench_record import record, timed  # noqa: F401  (a fixture)
from test_plot import assert_legible, shown

from fastcov import plot
from fastcov._timings import record as _record
from fastcov._timings.runs import FLOOR, NAIVE, OURS

SIZES = [(148, 48), (871, 52), (1004, 187), (4000, 100)]
PEERS = ("scikit-learn", "SciPy lsqr", "SciPy L-BFGS-B", "himalaya", "PyTorch", "JAX")


@pytest.fixture
def full(record):  # noqa: F811
    """Six operations at four sizes, with all peers."""
    cases = [
        timed(operation, (N, D), **{
            OURS: [1e-9 * N * D * k], FLOOR: [0.7e-9 * N * D * k], NAIVE: [1e-8 * N * D * D],
            **{peer: [(p + 2) * 1e-9 * N * D * k] for p, peer in enumerate(PEERS)},
        })
        for k, operation in enumerate(("gram", "overlaps", "loss-and-gradient", "fit", "exact", "explain"), 1)
        for N, D in SIZES
    ]  # fmt: skip
    return dataclasses.replace(record, cases=(*cases, timed("gram", dtype="float32")))


@pytest.mark.slow
def test_times_are_drawn_by_operation_in_the_order_of_sizes(full):
    figure = plot.scaling(full)
    assert [ax.get_title(loc="left") for ax in figure.axes][:2] == ["gram", "overlaps"]
    ours = figure.axes[1].lines[0]
    np.testing.assert_allclose(ours.get_ydata(), [2e-9 * N * D for N, D in SIZES])
    assert figure.axes[1].get_xticklabels()[0].get_text() == "148\n× 48"
    assert_legible(figure)
    low, high = figure.axes[0].get_ylim()
    assert all(low <= y <= high for line in figure.axes[0].lines for y in line.get_ydata())


def test_only_one_precision_is_in_one_figure(full):
    assert [ax.get_title(loc="left") for ax in plot.scaling(full, dtype="float32").axes] == ["gram"]
    cases = tuple(case for case in full.cases if case.dtype == "float64")
    with pytest.raises(ValueError, match="Argument 'dtype' must be that of a case"):
        plot.scaling(dataclasses.replace(full, cases=cases), dtype="float32")


@pytest.mark.slow
def test_ratios_are_drawn_case_by_case_from_the_top(full):
    figure = plot.speedups(full)
    (ax,) = figure.axes
    floor = ax.lines[1]
    assert len(floor.get_xdata()) == len(full.cases)
    np.testing.assert_allclose(floor.get_xdata()[0], 0.7)
    assert list(floor.get_ydata()) == [-i for i in range(len(full.cases))]
    words = [text for text, _ in shown(figure)]
    assert {*PEERS, "bare BLAS or LAPACK", "naive NumPy"} <= set(words)
    assert any("float32" in word for word in words)
    assert any("148 × 48" in word for word in words)
    assert_legible(figure)


@pytest.mark.slow
def test_files_are_drawn_too_and_anything_else_is_refused(full, tmp_path):
    path = tmp_path / "a.json"
    _record.save(full, path)
    assert len(plot.speedups(path).axes) == len(plot.speedups(full).axes)
    assert len(plot.scaling(str(path)).axes) == 6
    for draw in (plot.scaling, plot.speedups):
        with pytest.raises(TypeError, match="Argument 'record' must be the path of a file, not int"):
            draw(3)
        with pytest.raises(FileNotFoundError, match="Argument 'record'"):
            draw(tmp_path / "none.json")


def test_ratios_need_something_beside_ours(record):  # noqa: F811
    alone = dataclasses.replace(record, cases=(timed(**{OURS: [1.0]}),))
    with pytest.raises(ValueError, match="must have runs beside fastcov's"):
        plot.speedups(alone)
    assert plot.scaling(alone).axes
