"""save of paths, studies and tests, and fc.load: the same, bit by bit, or one clear error."""

import dataclasses
import os

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from test_saved import CHANNELS, FITS, NAMED, SIM, STACK, D, N, refused, rewritten, same, suffixes

import fastcov as fc
from fastcov import _load
from fastcov._inputs import container
from fastcov._results.score import N_SUMS, Moments

BOTH = ("diagonal", "constant")


def results():
    """Paths, studies and tests with all that they may have."""
    yield "linear path", fc.ridge_path(SIM.X, SIM.S, ridges=[7, 0, 3])
    yield "named path", fc.ridge_path(NAMED, responses=SIM.Y, relative_ridges=[0.1], method="exact")
    yield "path of a stack", fc.ridge_path(SIM.X, STACK, relative_ridges=[0.1, 1], method="line-search")
    yield "study", fc.cross_validate(NAMED, SIM.Y, relative_ridges=[0.1, 1], folds=4)
    yield (
        "large study",
        fc.cross_validate(
            NAMED, SIM.Y, ridges=[1, 2, 3], folds=4, repeats=2, shuffles=2, method=["exact", "linear"]
        ),
    )
    yield "study without a fit", fc.cross_validate(SIM.X, SIM.Y, folds=2, method="linear", refit=None)
    options = {"relative_ridges": [0.1, 1], "folds": 4}
    yield (
        "nested study",
        fc.cross_validate(NAMED, SIM.Y, nested=True, shuffles=3, method=["exact", "linear"], **options),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastcov._studies.side_by_side.KEPT_BYTES", 0)
        yield "study without gains", fc.cross_validate(SIM.X, SIM.Y, nested=True, **options)
    unknown = SIM.S.copy()
    unknown[2, 3] = unknown[3, 2] = np.nan
    terms = {"nuisance": BOTH, "pairs": "off-diagonal"}
    yield "study of a matrix", fc.cross_validate(SIM.X, S=unknown, **terms, **options)
    yield "left out", fc.cross_validate(SIM.X, SIM.Y, ridges=[7], folds="leave-two-out", method="linear")
    yield "test", fc.permutation_test(NAMED, SIM.Y, shuffles=19, **options)
    yield (
        "test of one method",
        fc.permutation_test(SIM.X, SIM.Y, shuffles=19, method="linear", channels=False, **terms, **options),
    )
    yield "reweighting", fc.reweight(NAMED, SIM.S, relative_ridge=0.1, offset=True, bounds=(0, None))
    yield "reweighting of a stack", fc.reweight(SIM.X, STACK, 7.0, atoms="squared-euclidean")
    wide = fc.datasets.simulate(10, 24, rng=0)
    yield "chosen reweighting", fc.reweight(wide.X, wide.S, "cv", folds=3, relative_ridges=[0.1, 1])


RESULTS = dict(results())
PATH, STUDY = RESULTS["linear path"], RESULTS["large study"]
NESTED, TEST = RESULTS["nested study"], RESULTS["test"]


def test_the_results_have_what_they_are_named_for():
    assert NESTED.scores["linear"].nested is not None
    assert NESTED.optimism["exact"] is not None
    assert RESULTS["study without gains"].scores["exact"].gains is None
    assert STUDY.scores["exact"].gains is not None
    assert TEST.channels.names == tuple(CHANNELS)
    assert RESULTS["test of one method"].channels is None
    assert len(TEST.cv.baselines_shuffled) == 3


@suffixes
@pytest.mark.parametrize("name", RESULTS)
def test_a_path_study_or_test_comes_back_bit_by_bit(tmp_path, suffix, name):
    result, file = RESULTS[name], tmp_path / f"result.{suffix}"
    result.save(file)
    found = fc.load(file)
    same(result, found)
    assert repr(result) == repr(found)
    assert os.listdir(tmp_path) == [file.name]
    study = getattr(found, "cv", found)
    if isinstance(study, fc.Reweighting):
        return
    for fit in study.fits.values() if isinstance(study, fc.CrossValidation) else study:
        with pytest.raises(ValueError, match="read-only"):
            fit.delta[...] = 0.0


def test_what_a_loaded_study_says_is_what_it_said(tmp_path):
    for name in ("nested study", "study without gains", "study of a matrix", "left out", "test"):
        RESULTS[name].save(tmp_path / "study.npz")
        one, other = RESULTS[name], fc.load(tmp_path / "study.npz")
        same(one.verdict, other.verdict)
        one, other = (getattr(each, "cv", each) for each in (one, other))
        for field in ("r2", "r2_over_one", "r2_shuffled", "best_ridge", "one_se_ridge", "p", "optimism"):
            same(getattr(one, field), getattr(other, field), f"{name}: {field}")
        for method in one.methods:
            same(one.summary(method), other.summary(method))
            same(one.agreement(method), other.agreement(method))
            same(one.condition_shares(method), other.condition_shares(method))


def test_numpy_reads_a_path_a_study_and_a_test_by_name(tmp_path):
    PATH.save(tmp_path / "path.npz")
    STUDY.save(tmp_path / "study.npz")
    TEST.save(tmp_path / "test.npz")
    with np.load(tmp_path / "test.npz", allow_pickle=False) as file:
        for name in ("p", "observed", "null", "method", "score"):
            assert_array_equal(file[name], getattr(TEST, name))
        assert_array_equal(file["channels.q"], TEST.channels.q)
        assert file["format"][()] == "fastcov.PermutationTest"
    with np.load(tmp_path / "path.npz", allow_pickle=False) as file:
        for name in ("ridges", "loss", "r2", "status"):
            assert_array_equal(file[name], getattr(PATH, name))
        assert_array_equal(file["fits.1.gains"], PATH[1].gains)
        assert file["format"][()] == "fastcov.RidgePath"
    with np.load(tmp_path / "study.npz", allow_pickle=False) as file:
        assert_array_equal(file["scores.linear.r2"], STUDY.r2["linear"])
        assert file["methods"].tolist() == ["exact", "linear"]
        assert file["format"][()] == "fastcov.CrossValidation"


@suffixes
def test_a_file_of_something_else_says_what_it_is_and_what_reads_it(tmp_path, suffix):
    path = tmp_path / f"fit.{suffix}"
    rewritten(path, format="fastcov.Explanation", version="9.8.7")
    refused(path, "is of class Explanation, of fastcov 9.8.7: upgrade fastcov")


@suffixes
@pytest.mark.parametrize("name", ["RidgePath", "CrossValidation", "PermutationTest"])
def test_a_file_whose_content_is_not_what_its_format_says_is_refused(tmp_path, suffix, name):
    path = tmp_path / f"fit.{suffix}"
    rewritten(path, format=f"fastcov.{name}")
    refused(path, "must be an intact file", f"it holds no {name}")


def few(*shape):
    """Moments of so many folds."""
    return Moments(np.ones((*shape, N_SUMS)))


@suffixes
@pytest.mark.parametrize(
    ("result", "changes", "words"),
    [
        (PATH, {"fits": ()}, "not of fits"),
        (PATH, {"fits": (PATH[0], FITS["stack"])}, "the shape of 'fits.1.delta'"),
        (PATH, {"fits": (PATH[0], dataclasses.replace(PATH[1], loss=np.ones(2)))}, "the shape of 'loss'"),
        (STUDY, {"ridges": np.ones((3, 1))}, "the shape of 'ridges'"),
        (STUDY, {"ridges": np.ones(2)}, "the shape of 'scores.exact.moments'"),
        (STUDY, {"folds": STUDY.folds[1:]}, "the shape of 'baselines.one'"),
        (STUDY, {"folds": ((np.array([0]), np.array([D])), *STUDY.folds[1:])}, "other conditions than 8"),
        (STUDY, {"stats": STUDY.stats | {"shape": (N + 1, D)}}, "the shape of 'fits.exact'"),
        (
            STUDY,
            {"scores": {"exact": dataclasses.replace(STUDY.scores["exact"], status=np.array(["a"]))}},
            "the shape of 'scores.exact.status'",
        ),
        (
            STUDY,
            {"scores": {"exact": dataclasses.replace(STUDY.scores["exact"], shuffled=few(2, 8, 3))}},
            "the shape of 'scores.exact.shuffled'",
        ),
        (
            STUDY,
            {"baselines_shuffled": {"one": few(2, 7)}},
            "the shape of 'baselines_shuffled.one'",
        ),
        (
            NESTED,
            {
                "scores": {
                    "exact": dataclasses.replace(
                        NESTED.scores["exact"],
                        nested=dataclasses.replace(NESTED.scores["exact"].nested, places=np.zeros(3, int)),
                    )
                }
            },
            "the shape of 'scores.exact.nested.places'",
        ),
        (TEST, {"null": np.ones(18)}, "the shape of 'null_over.one'"),
        (TEST, {"cv": RESULTS["study"]}, "the shape of 'cv.scores.exact.shuffled'"),
        (
            TEST,
            {"channels": dataclasses.replace(TEST.channels, q=np.ones(N + 1))},
            "the shape of 'channels.q'",
        ),
        (STUDY, {"fits": {"exact": dataclasses.replace(STUDY.fits["exact"], channels=("a",))}}, "'channels'"),
    ],
)
def test_shapes_of_paths_and_studies_that_contradict_each_other_are_refused(
    tmp_path, suffix, result, changes, words
):
    path = tmp_path / f"result.{suffix}"
    container.save(dataclasses.replace(result, **changes), path, {})
    refused(path, "must be an intact file", words)


@pytest.mark.covering(2)
@suffixes
@pytest.mark.parametrize("name", ["path of a stack", "large study", "test"])
@pytest.mark.parametrize("kept", [0, 60, 0.3, 0.6, 0.9])
def test_paths_and_studies_cut_short_are_refused_in_one_line(tmp_path, suffix, name, kept):
    path = tmp_path / f"result.{suffix}"
    RESULTS[name].save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    refused(path, "write or copy it again")


@pytest.mark.parametrize("entry", ["fits.exact.gains", "scores.linear.moments.sums", "folds.0.1"])
def test_a_flipped_bit_in_a_study_is_found(tmp_path, entry):
    path = tmp_path / "study.npz"
    STUDY.save(path)
    entries = container._read_npz(path)
    values = bytearray(entries[entry].tobytes())
    values[len(values) // 2] ^= 1
    entries[entry] = np.frombuffer(values, entries[entry].dtype).reshape(entries[entry].shape)
    container.write_entries(path, entries)
    refused(path, "its checksum is that of other content")


@dataclasses.dataclass(frozen=True)
class Extended:
    """What a class may become."""

    values: np.ndarray
    note: str = "as before"


@suffixes
def test_a_class_is_registered_by_its_name_alone_and_its_new_fields_take_their_defaults(
    tmp_path, suffix, monkeypatch
):
    @dataclasses.dataclass(frozen=True)
    class Earlier:
        values: np.ndarray

    path = tmp_path / f"fit.{suffix}"
    monkeypatch.setitem(_load._CLASSES, "Extended", Earlier)
    Earlier.__name__ = "Extended"
    stats = FITS["linear"].stats | {"mine": (Earlier(np.arange(3)), {"inside": Earlier(np.ones(2))})}
    dataclasses.replace(FITS["linear"], stats=stats).save(path)
    monkeypatch.setitem(_load._CLASSES, "Extended", Extended)
    first, second = fc.load(path).stats["mine"]
    same(first, Extended(np.arange(3)))
    same(second, {"inside": Extended(np.ones(2))})
