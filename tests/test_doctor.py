"""What `fastcov doctor` finds, and what it says about it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import fastcov as fc
from fastcov import cli
from fastcov._compute import blas_spin, system
from fastcov.cli import _doctor


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(cli.main, arguments, prog_name="fastcov")


def test_doctor_reports_and_passes_its_check(run):
    result = run("doctor")
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert lines["fastcov"] == fc.__version__
    assert lines["numpy"] == np.__version__
    assert lines["check"].startswith("passed")
    assert {"python", "scipy", "numba", "llvmlite", "cores", "Numba", "BLAS", "cache", "memory"} <= set(lines)
    assert {"dask", "distributed"} <= set(lines)


def test_doctor_json_has_the_sections(run):
    report = json.loads(run("doctor", "--json").stdout)
    assert report["versions"]["fastcov"] == fc.__version__
    assert report["self_check"]["passed"]
    assert report["cores"]["usable"] >= 1
    assert all(pool["num_threads"] >= 1 for pool in report["blas"])
    assert report["memory"]["available_gb"] > 0
    assert report["spin"] == blas_spin.done


@pytest.fixture
def healthy():
    pool = {"internal_api": "openblas", "version": "0.3", "num_threads": 2, "file": "lib.so"}
    return {
        "versions": {"fastcov": "0"}, "platform": "Linux", "cores": {"total": 4, "usable": 2},
        "numba": {"threads": 2, "layer": "omp", "compiles": True}, "blas": [pool, dict(pool)],
        "spin": {"lib.so": "left alone: undefined symbol"},
        "cache": {"folder": "/cache", "writable": True}, "memory": {"available_gb": 4.0},
        "wait_policy": "passive", "self_check": {"difference": 1e-15, "passed": True},
    }  # fmt: skip


def test_a_healthy_installation_has_no_complaints(healthy):
    assert _doctor.complaints(healthy) == []


@pytest.mark.parametrize(
    ("section", "values", "problem", "remedy"),
    [
        ("wait_policy", "ACTIVE", "spinning beside 2 BLAS", "unset it"),
        ("cache", {"writable": False}, "compiles again", "set NUMBA_CACHE_DIR"),
        ("numba", {"layer": "workqueue"}, "workqueue", "install an OpenMP runtime"),
        ("numba", {"compiles": False}, "NUMBA_DISABLE_JIT", "unset it"),
        ("numba", {"threads": 64}, "64 threads on 2", "NUMBA_NUM_THREADS=2"),
        ("cores", {"usable": 1}, "BLAS starts more", "OPENBLAS_NUM_THREADS=1"),
        ("self_check", {"difference": 0.5, "passed": False}, "5.0e-01", "reinstall"),
    ],
)
def test_what_hurts_is_named_with_its_remedy(healthy, section, values, problem, remedy):
    healthy[section] = values if isinstance(values, str) else healthy[section] | values
    found = [line for line in _doctor.complaints(healthy) if problem in line]
    assert len(found) == 1
    assert remedy in found[0].split(": ", 1)[1]


def test_doctor_warns_on_stderr_and_fails_with_its_check(run, healthy, monkeypatch):
    healthy["self_check"] = {"difference": 0.5, "passed": False}
    healthy["cache"] = {"folder": "/read/only", "writable": False}
    report = healthy | {"warnings": _doctor.complaints(healthy)}
    monkeypatch.setattr(_doctor, "examine", lambda: report)
    result = run("doctor")
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert "undefined symbol (lib.so)" in result.stdout
    assert "/read/only (cannot be written to)" in result.stdout
    assert [line[:9] for line in result.stderr.splitlines()] == ["Warning: "] * 2


def test_a_cache_folder_that_is_not_there_yet_is_judged_by_its_parent(tmp_path):
    assert system.writable(str(tmp_path / "a" / "b"))
