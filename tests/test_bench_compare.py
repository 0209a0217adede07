"""Two records beside each other: what became slower, what did not, and what cannot be told."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from test_bench_record import record, timed  # noqa: F401  (a fixture)

from fastcov._bench import _compare
from fastcov._timings.runs import FLOOR, NAIVE, OURS

ROUNDS = 25


def rounds(times=1.0, noise=0.02, seed=0, n=ROUNDS, **others):
    """A case whose every round of ours takes so many times what the floor takes, with noise."""
    rng = np.random.default_rng(seed)
    machine = rng.lognormal(0, 0.5, n)  # which falls on both
    ours = 1e-3 * times * machine * rng.lognormal(0, noise, n)
    return {OURS: ours.tolist(), FLOOR: (1e-3 * machine).tolist(), **others}


@pytest.fixture
def pair(record):  # noqa: F811
    """A function that makes two records of one machine from the seconds of their cases."""

    def make(before, after):
        settings = dict(record.settings) | {"rounds": 1000}
        return tuple(
            dataclasses.replace(
                record, settings=settings, started=started,
                cases=tuple(timed(name, **seconds) for name, seconds in cases.items()),
            )
            for started, cases in (("first", before), ("second", after))
        )  # fmt: skip

    return make


def told(found):
    return {change.name.split()[0]: change.verdict for change in found.changes}


def test_a_record_measured_again_passes_and_a_slower_operation_fails_by_name(pair):
    before = {name: rounds(seed=i) for i, name in enumerate(("gram", "fit", "loss"))}
    after = {name: rounds(seed=10 + i) for i, name in enumerate(("gram", "fit", "loss"))}
    assert _compare.compare(*pair(before, after)).code == 0
    found = _compare.compare(*pair(before, after | {"fit": rounds(1.15, seed=11)}))
    assert found.code == 1
    assert told(found) == {"gram": "fine", "fit": "slower", "loss": "fine"}
    (change,) = found.named("slower")
    assert str(change).startswith("fit 148x48 float64: 1.1")
    assert change.reference == FLOOR
    assert "fit 148x48 float64" in str(found).splitlines()[1]  # the largest change comes first


def test_a_faster_operation_passes(pair):
    found = _compare.compare(*pair({"gram": rounds()}, {"gram": rounds(0.5, seed=1)}))
    assert found.code == 0
    assert found.changes[0].value == pytest.approx(0.5, rel=0.03)


def test_seconds_alone_are_no_change(pair):
    slow = {run: [10 * each for each in times] for run, times in rounds(seed=1).items()}
    assert _compare.compare(*pair({"gram": rounds()}, {"gram": slow})).code == 0


@pytest.mark.parametrize(("times", "code"), [(1.0999999, 0), (1.1, 0), (1.1000001, 1)])
def test_the_line_is_exact_where_there_is_no_noise(pair, times, code):
    before, after = ({"gram": {OURS: [ours] * 9, FLOOR: [1.0] * 9}} for ours in (1.0, times))
    assert _compare.compare(*pair(before, after), fail_above=1.1000000001).code == code


def test_a_change_above_the_line_that_may_be_noise_neither_passes_nor_fails(pair):
    found = _compare.compare(*pair({"gram": rounds(noise=0.4)}, {"gram": rounds(1.2, noise=0.4)}))
    assert told(found) == {"gram": "unsure"}
    assert found.code == 2


def test_noise_in_which_a_regression_would_hide_does_not_pass(pair):
    found = _compare.compare(*pair({"gram": rounds(noise=0.3)}, {"gram": rounds(0.9, noise=0.3, seed=1)}))
    assert told(found) == {"gram": "noisy"}
    assert found.code == 2


@pytest.mark.parametrize("n", [1, 2, 5])
def test_too_few_rounds_do_not_pass(pair, n):
    found = _compare.compare(*pair({"gram": rounds(n=n)}, {"gram": rounds(n=n, seed=1)}))
    assert found.code == 2
    assert f"gram 148x48 float64: {n} and {n} rounds are too few" in found.missing[0]


def test_only_rounds_in_which_both_ran_count(pair):
    short = rounds(seed=1)
    short[FLOOR] = short[FLOOR][:1]
    assert "25 and 1 rounds" in _compare.compare(*pair({"gram": rounds()}, {"gram": short})).missing[0]


def test_a_reference_that_vanished_is_told_and_no_other_takes_its_place(pair):
    floor = rounds(naive=rounds()[FLOOR])
    naive = {run: times for run, times in floor.items() if run != FLOOR}
    alone = {OURS: naive[OURS]}
    for before, after, words in (
        (floor, naive, "floor, which it is taken relative to, ran only in the first file"),
        (naive, floor, "floor, which it is taken relative to, ran only in the second file"),
        (naive, alone, "naive, which it is taken relative to, ran only in the first file"),
        (alone, alone, "no reference"),
    ):
        beside = {"fit": rounds()}, {"fit": rounds(seed=1)}
        found = _compare.compare(*pair({"gram": before, **beside[0]}, {"gram": after, **beside[1]}))
        assert found.code == 2
        (reason,) = found.missing
        assert words in reason
        assert told(found) == {"fit": "fine"}
    found = _compare.compare(*pair({"gram": naive}, {"gram": naive | {"peer": [1.0]}}))
    assert told(found) == {"gram": "fine"}
    assert found.changes[0].reference == NAIVE


def test_more_iterations_are_a_change_though_the_floor_repeats_them(pair):
    """Twice as many steps in ours are twice as many in the floor: per step nothing was saved."""
    before, _ = pair({"exact": rounds()}, {})
    slow = {run: [2 * each for each in times] for run, times in rounds(seed=1).items()}
    for repeats, seconds, code, value in ((10.0, slow, 0, 1.0), (20.0, slow, 1, 2.0), (5.0, slow, 0, 0.5)):
        first, second = (
            dataclasses.replace(before, cases=(timed("exact", repeats=each, **times),))
            for each, times in ((10.0, rounds()), (repeats, seconds))
        )
        found = _compare.compare(first, second)
        assert found.code == code
        assert found.changes[0].value == pytest.approx(value, rel=0.03)
    naive = [{OURS: each[OURS], NAIVE: each[FLOOR]} for each in (rounds(), rounds(seed=1))]
    first, second = (dataclasses.replace(before, cases=(timed("exact", repeats=each, **times),))
                     for each, times in zip((10.0, 20.0), naive, strict=True))  # fmt: skip
    assert _compare.compare(first, second).code == 0  # naive counts for itself


def test_a_case_that_one_file_has_not_does_not_pass(pair):
    before, after = {"gram": rounds(), "fit": rounds()}, {"gram": rounds(seed=1), "loss": rounds()}
    found = _compare.compare(*pair(before, after))
    assert found.code == 2
    assert [reason.split()[0] for reason in found.missing] == ["fit", "loss"]
    assert "only in the first" in found.missing[0]
    assert "only in the second" in found.missing[1]
    crossed = _compare.compare(*pair(before, after), across=["cases"])
    assert crossed.code == 0
    assert crossed.notes == (
        "Across cases: fit 148x48 float64 only in the first file",
        "Across cases: loss 148x48 float64 only in the second file",
    )
    nothing = _compare.compare(*pair({"gram": rounds()}, {"fit": rounds()}), across=["cases"])
    assert nothing.code == 2
    assert "no case in common" in nothing.apart[0]


def test_a_regression_beside_what_cannot_be_told_is_a_regression(pair):
    found = _compare.compare(*pair({"gram": rounds(), "fit": rounds()}, {"gram": rounds(1.3, seed=1)}))
    assert found.code == 1
    assert len(found.missing) == 1


def test_the_same_record_twice_does_not_pass(pair):
    for after in pair({"gram": rounds()}, {"gram": rounds()}):  # the second says another start
        found = _compare.compare(pair({"gram": rounds()}, {})[0], after)
        assert found.code == 2
        assert "nothing was measured between them" in found.apart[0]


DIFFERENCES = {
    "machine": [{"processor": "other"}, {"architecture": "arm64"}, {"system": "Darwin"}, {"cores": 4},
                {"memory_gb": 64.0}],
    "fastcov": [{"versions": {"fastcov": "9"}}],
    "python": [{"versions": {"python": "9"}}],
    "numpy": [{"versions": {"numpy": "9"}}],
    "scipy": [{"versions": {"scipy": "9"}}],
    "numba": [{"versions": {"numba": "9"}}, {"versions": {"llvmlite": "9"}}],
    "peers": [{"versions": {"jax": "9"}}],
    "blas": [{"blas": {"version": "9"}}, {"blas": {"architecture": "Haswell"}},
             {"blas": {"internal_api": "mkl"}}],
    "threads": [{"blas": {"num_threads": 1}}, {"numba": {"threads": 1}}, {"numba": {"layer": "tbb"}}],
    "environment": [{"environment": {"OMP_NUM_THREADS": "1"}}, {"environment": {"OMP_PROC_BIND": "true"}},
                    {"imported_first": "fastcov"}],
}  # fmt: skip


def test_every_difference_has_a_name():
    assert {*DIFFERENCES, "cases"} == set(_compare.ACROSS)


@pytest.mark.parametrize(
    ("name", "change"), [(name, change) for name, changes in DIFFERENCES.items() for change in changes]
)
def test_another_machine_version_or_setting_is_refused_unless_it_is_asked_for(pair, name, change):
    before, after = pair({"gram": rounds()}, {"gram": rounds(1.3, seed=1)})
    ((field, value),) = change.items()
    if field == "blas":
        value = [pool | value for pool in before.machine["blas"]]
    elif isinstance(value, dict):
        value = before.machine[field] | value
    after = dataclasses.replace(after, machine=before.machine | {field: value})
    found = _compare.compare(before, after)
    assert (found.code, found.changes) == (2, ())
    (reason,) = found.apart
    assert f"(--across {name})" in reason
    others = [each for each in _compare.ACROSS if each != name]
    assert _compare.compare(before, after, across=others).code == 2
    crossed = _compare.compare(before, after, across=[name])
    assert crossed.code == 1
    assert crossed.notes[0].startswith("Across other ")


def test_versions_of_peers_do_not_matter_where_none_ran(pair):
    before, after = pair({"gram": rounds()}, {"gram": rounds(seed=1)})
    settings = before.settings | {"peers": False}
    machine = before.machine | {"versions": before.machine["versions"] | {"jax": "9"}}
    before = dataclasses.replace(before, settings=settings)
    after = dataclasses.replace(after, settings=settings, machine=machine)
    assert _compare.compare(before, after).code == 0


def test_whether_peers_ran_is_compared_though_none_is_installed(pair):
    before, after = pair({"gram": rounds()}, {"gram": rounds(seed=1)})
    assert before.machine["versions"]["jax"] is None
    after = dataclasses.replace(after, settings=after.settings | {"peers": False})
    found = _compare.compare(before, after)
    assert found.code == 2
    assert found.apart == ("other peers: measured True, then False (--across peers)",)
    assert _compare.compare(before, after, across=["peers"]).code == 0


@pytest.mark.parametrize("blas", [[], [{"version": None}]])
def test_what_neither_file_says_is_not_taken_for_the_same(pair, blas):
    before, after = pair({"gram": rounds()}, {"gram": rounds(seed=1)})
    pools = [before.machine["blas"][0] | pool for pool in blas]
    before, after = (
        dataclasses.replace(each, machine=each.machine | {"blas": pools}) for each in (before, after)
    )
    found = _compare.compare(before, after)
    assert found.code == 2
    assert found.apart == ("other BLAS: libraries not known (--across blas)",)
    assert _compare.compare(before, after, across=["blas"]).code == 0


def test_memory_that_firmware_takes_is_no_other_machine(pair):
    before, after = pair({"gram": rounds()}, {"gram": rounds(seed=1)})
    after = dataclasses.replace(after, machine=after.machine | {"memory_gb": 16.1})
    assert _compare.compare(before, after).code == 0


def test_other_commits_and_a_busy_machine_are_told(pair):
    before, after = pair({"gram": rounds()}, {"gram": rounds(seed=1)})
    after = dataclasses.replace(after, load=(3.0, 0.0), machine=after.machine | {"commit": "0123"})
    found = _compare.compare(before, after)
    assert found.code == 0
    assert any("None, then 0123" in note for note in found.notes)
    assert any(note.startswith("Second file: others were at work") for note in found.notes)


# ---- the estimate


@pytest.mark.slow
@given(
    st.lists(st.floats(-1, 1), min_size=6, max_size=30),
    st.lists(st.floats(-1, 1), min_size=6, max_size=30),
    st.floats(-2, 2),
)
def test_the_interval_holds_the_estimate_and_both_follow_a_shift(a, b, by):
    a, b = np.array(a), np.array(b)
    found = _compare.shift(a, b)
    if found is None:
        return
    value, low, high = found
    assert low <= value <= high
    np.testing.assert_allclose(_compare.shift(a, b + by), [value + by, low + by, high + by], atol=1e-14)
    np.testing.assert_allclose(_compare.shift(b, a), [-value, -high, -low], atol=1e-14)


@pytest.mark.parametrize(("n", "m"), [(8, 8), (15, 20), (25, 25)])
def test_the_ends_are_where_the_rank_sum_test_is_at_its_limit(n, m):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=n), rng.normal(size=m)
    _, low, high = _compare.shift(a, b)
    for end, outwards in ((low, -1), (high, 1)):
        inside, outside = (
            mannwhitneyu(b - end - outwards * step, a, method="exact").pvalue for step in (-1e-9, 1e-9)
        )
        # The normal distribution in place of the exact one is good to a third of the 1 %.
        assert outside < 0.0135
        assert inside > 0.0065


def test_a_burst_in_a_fifth_of_the_rounds_does_not_move_the_change_far():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 0.02, (2, 25))
    quiet = _compare.shift(a, b)[0]
    b[:5] += 1.0
    # Moved by no more than the spread of the undisturbed rounds.
    assert abs(_compare.shift(a, b)[0] - quiet) < 0.02


def test_false_alarms_and_misses_are_rare_with_the_noise_of_rounds(pair):
    """The rates with 5 % of noise in each round and bursts; 200 trials, the same in each run."""
    rng = np.random.default_rng(0)

    def noisy(times):
        bursts = rng.random((2, 50)) < 0.02
        ours, floor = np.exp(rng.normal(0, 0.035, (2, 50)) + bursts * rng.uniform(0.05, 0.5, (2, 50)))
        return {"gram": {OURS: (1e-3 * times * ours).tolist(), FLOOR: (1e-3 * floor).tolist()}}

    codes = {
        times: [_compare.compare(*pair(noisy(1.0), noisy(times))).code for _ in range(200)]
        for times in (1.0, 1.15)
    }
    # One in 20 for 20 operations together is one in 400 for each; a miss is one in 20.
    assert sum(code != 0 for code in codes[1.0]) <= 1
    assert sum(code != 1 for code in codes[1.15]) <= 10


def test_codes_of_all_mixtures():
    def change(value, low, high):
        return _compare.Change("a", FLOOR, value, low, high, 1.1)

    kinds = {
        "slower": change(1.2, 1.1, 1.3), "unsure": change(1.2, 0.9, 1.4), "noisy": change(1.0, 0.8, 1.2),
        "fine": change(1.0, 0.95, 1.05),
    }  # fmt: skip
    assert {name: each.verdict for name, each in kinds.items()} == {name: name for name in kinds}
    for n in range(1, 5):
        for names in itertools.combinations(kinds, n):
            found = _compare.Comparison((), (), (), tuple(kinds[name] for name in names))
            assert found.code == (1 if "slower" in names else 0 if names == ("fine",) else 2)
    assert _compare.Comparison((), (), (), ()).code == 2
    assert math.isclose(_compare.FAIL_ABOVE, 1.1)
