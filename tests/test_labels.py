"""Names of channels and conditions: kept, aligned, and refused where they do not match."""

import sys
import warnings

import naive
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from cases import run_python
from numpy.testing import assert_allclose, assert_array_equal

import fastcov as fc
from fastcov._inputs.labels import Labelled, Labels
from fastcov._results.score import SCORES

N, M, D = 30, 25, 8
SIM = fc.datasets.simulate(N, D, rng=0)
X, Y = SIM.X, SIM.Y[:M]
CHANNELS = tuple(f"glomerulus {i}" for i in range(N))
ODOURS = ("pinene", "limonene", "citral", "hexanal", "heptanal", "octanal", "eugenol", "thymol")
ORDER = np.random.default_rng(1).permutation(D)

XF = pd.DataFrame(X, index=CHANNELS, columns=ODOURS)
YF = pd.DataFrame(Y, columns=ODOURS)
XA = xr.DataArray(X, dims=("cell", "odour"), coords={"cell": list(CHANNELS), "odour": list(ODOURS)})
YA = xr.DataArray(Y, dims=("cell", "odour"), coords={"odour": list(ODOURS)})

kinds = pytest.mark.parametrize(("x", "y"), [(XF, YF), (XA, YA), (XF, YA)], ids=["pandas", "xarray", "both"])


def in_order(Y, order):
    return Y.iloc[:, order] if isinstance(Y, pd.DataFrame) else Y[:, order]


def aligned(what, like="'X'", axis="conditions"):
    return pytest.warns(
        fc.LabelWarning, match=f"^{axis} of '{what}' are in another order than those of {like}: "
    )


FIT = fc.fit(X, responses=Y, relative_ridge=0.1)


# ---- kept


@kinds
def test_names_reach_the_fit_and_leave_its_numbers_as_they_are(x, y):
    fit = fc.fit(x, responses=y, relative_ridge=0.1)
    assert (fit.channels, fit.conditions) == (CHANNELS, ODOURS)
    assert_allclose(fit.gains, FIT.gains, rtol=1e-12)
    assert repr(fit).splitlines()[:4] == repr(FIT).splitlines()[:4]


@kinds
def test_names_reach_paths_and_refits(x, y):
    path = fc.ridge_path(x, responses=y, relative_ridges=[0.1, 1])
    cv = fc.cross_validate(x, y, relative_ridges=[0.1, 1], folds=3, method="linear")
    for fit in (*path, cv.fit, fc.fit(x, responses=y, ridge="cv")):
        assert (fit.channels, fit.conditions) == (CHANNELS, ODOURS)
    assert_allclose(path.gains, fc.ridge_path(X, responses=Y, relative_ridges=[0.1, 1]).gains, rtol=1e-12)


def test_arrays_have_no_names_and_conditions_of_the_target_do_where_x_has_none():
    assert (FIT.channels, FIT.conditions) == (None, None)
    S = fc.target_covariance(YF)
    for given in ({"responses": YF}, {"S": S}, {"S": [S, S]}):
        fit = fc.fit(X, **given, ridge=1)
        assert (fit.channels, fit.conditions) == (None, ODOURS)


def test_an_index_that_pandas_made_is_no_name():
    fit = fc.fit(pd.DataFrame(X), responses=pd.DataFrame(Y), ridge=1)
    assert (fit.channels, fit.conditions) == (None, None)
    some = fc.fit(pd.DataFrame(X).iloc[3:], responses=YF, ridge=1)
    assert some.channels == tuple(range(3, N))
    assert some.conditions == ODOURS
    dims = xr.DataArray(X, dims=("a", "b"))
    assert Labels.of("X", dims) == Labels.of("X", X) == Labels.of("X", X.tolist()) == Labels()


def test_whole_numbers_stay_and_all_else_becomes_text():
    index = [1, np.int64(2), "a", 1.5, True, b"b", pd.Timestamp("2020-01-01")]
    frame = pd.DataFrame(np.eye(7), index=pd.Index(index, dtype=object))
    names = Labels.of("X", frame).channels
    assert names == (1, 2, "a", "1.5", "True", "b", "2020-01-01 00:00:00")
    assert [type(name) for name in names[:2]] == [int, int]
    several = pd.MultiIndex.from_product([["left", "right"], [1, 2]])
    expected = ("left / 1", "left / 2", "right / 1", "right / 2")
    assert Labels.of("X", pd.DataFrame(np.eye(4), columns=several)).conditions == expected


@pytest.mark.slow
def test_neither_library_is_imported_for_a_fit_or_a_covariance():
    script = (
        "import sys, fastcov as fc; x = [[1.0, 2.0], [3.0, 5.0]]; fc.fit(x, fc.covariance(x), ridge=1);"
        "print([m for m in ('pandas', 'xarray') if m in sys.modules])"
    )
    assert run_python(script).strip() == "[]"


# ---- aligned


@kinds
def test_responses_in_another_order_are_aligned_and_it_is_said_once(x, y):
    shuffled = in_order(y, ORDER)
    for what, call in (
        ("responses", lambda: fc.fit(x, responses=shuffled, relative_ridge=0.1).gains),
        ("responses", lambda: fc.fit(x, responses=shuffled, ridge="cv").gains),
        ("responses", lambda: fc.ridge_path(x, responses=shuffled, relative_ridges=[0.1])[0].gains),
        ("Y", lambda: fc.cross_validate(x, shuffled, folds=3, method="linear").fit.gains),
    ):
        with aligned(what) as caught:
            found = call()
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert_allclose(found, REFERENCE[what](found), rtol=1e-9)


def closest(*candidates):
    """The candidate nearest to what was found: the same for arrays without names."""
    return lambda found: min(candidates, key=lambda each: np.abs(each - found).max())


REFERENCE = {
    "responses": closest(FIT.gains, fc.fit(X, responses=Y, ridge="cv").gains),
    "Y": closest(FIT.gains, fc.cross_validate(X, Y, folds=3, method="linear").fit.gains),
}


def test_a_study_scores_conditions_by_name():
    wanted = fc.cross_validate(X, Y, relative_ridges=[0.1], folds=4, method="linear")
    with aligned("Y"):
        found = fc.cross_validate(XF, YF.iloc[:, ORDER], relative_ridges=[0.1], folds=4, method="linear")
    assert_allclose(found.r2, wanted.r2, rtol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_place = fc.cross_validate(X, Y[:, ORDER], relative_ridges=[0.1], folds=4, method="linear")
    assert np.abs(by_place.r2 - wanted.r2).max() > 0.01  # the test could not fail otherwise


@pytest.mark.parametrize("wrap", [lambda S: S, lambda S: [S, S], lambda S: xr.DataArray(S)])
def test_a_target_with_names_is_aligned_on_both_axes_wherever_it_is_taken(wrap):
    S = naive.covariance(Y)
    frame = pd.DataFrame(S, ODOURS, ODOURS).iloc[ORDER, ORDER[::-1]]
    z = np.linspace(0.5, 1.5, N)
    for call in (
        lambda X, S: fc.fit(X, S, ridge=1e3).gains,
        lambda X, S: fc.ridge_path(X, S, ridges=[1e3]).gains,
        lambda X, S: fc.overlaps(X, S),
        lambda X, S: fc.loss(X, S, z),
        lambda X, S: fc.loss_and_gradient(X, S, z)[1],
    ):
        stack = isinstance(wrap(frame), list)
        with aligned("S"):
            found = call(XF, wrap(frame))
        assert_allclose(found, call(X, np.stack([S, S]) if stack else S), rtol=1e-9)


def test_a_target_whose_columns_are_in_another_order_than_its_rows_is_put_right():
    S = naive.covariance(Y)
    frame = pd.DataFrame(S, ODOURS, ODOURS).iloc[:, ORDER]
    for x in (X, XF):
        with aligned("S", "its rows"):
            fit = fc.fit(x, frame, ridge=1e3)
        assert_allclose(fit.target(), S, rtol=1e-12)


def test_a_stack_of_targets_takes_its_names_from_the_last_axis():
    S = np.stack([naive.covariance(Y), 2 * naive.covariance(Y)])
    stack = xr.DataArray(
        S[:, ORDER][:, :, ORDER], dims=("t", "a", "b"), coords={"b": [ODOURS[i] for i in ORDER]}
    )
    with aligned("S"):
        fit = fc.fit(XA, stack, ridge=1e3)
    assert_allclose(fit.target(), S, rtol=1e-12)


def test_covariances_of_frames_and_arrays_have_names_and_the_right_numbers():
    C = fc.covariance(XF)
    assert_allclose(C, naive.covariance(X), rtol=1e-12)
    assert list(C.index) == list(C.columns) == list(ODOURS)
    with aligned("Y", "'like'"):
        S = fc.target_covariance(YF.iloc[:, ORDER], like=XA)
    assert list(S.index) == list(ODOURS)
    assert_allclose(S, fc.target_covariance(Y, like=X), rtol=1e-12)
    A = fc.target_covariance(YA[:, ORDER])
    assert A.dims == ("odour", "odour_2")
    assert_allclose(A.sel(odour=list(ODOURS), odour_2=list(ODOURS)), naive.covariance(Y), rtol=1e-12)
    assert list(fc.target_covariance(YF, like=pd.DataFrame(X)).index) == list(ODOURS)
    assert type(fc.target_covariance(Y, like=XF)) is np.ndarray
    assert fc.covariance(xr.DataArray(X, dims=("a", "b"))).coords == {}


COUNTED, COUNTED_Y = pd.DataFrame(X), pd.DataFrame(Y)
TURNED = np.random.default_rng(3).permutation(N)
EXACT = fc.fit(X, responses=Y, ridge=1e3, method="exact", bounds=(np.linspace(0.5, 0.9, N), 2))


@pytest.mark.parametrize(("x", "y"), [(np.arange(D), ORDER), (ORDER, np.arange(D))], ids=["Y", "X"])
@pytest.mark.parametrize("wrap", [lambda frame: frame, xr.DataArray], ids=["pandas", "xarray"])
def test_numbers_that_count_are_aligned_with_the_same_in_another_order(x, y, wrap):
    given, other = wrap(COUNTED.iloc[:, x]), wrap(COUNTED_Y.iloc[:, y])
    if isinstance(x, np.ndarray) and (x == np.arange(D)).all():  # as no one has indexed it
        given = wrap(COUNTED)
    else:
        other = wrap(COUNTED_Y)
    S, names = fc.target_covariance(Y[:, x], like=X), None if x is not ORDER else tuple(ORDER.tolist())
    with aligned("responses"):
        fit = fc.fit(given, responses=other, relative_ridge=0.1)
    assert_allclose(fit.target(), S, rtol=1e-12)
    assert_allclose(fit.gains, FIT.gains, rtol=1e-9)
    assert (fit.channels, fit.conditions) == (None, names)
    with aligned("Y"):
        cv = fc.cross_validate(given, other, relative_ridges=[0.1], folds=4, method="linear")
    wanted = fc.cross_validate(X[:, x], Y[:, x], relative_ridges=[0.1], folds=4, method="linear")
    assert_allclose(cv.r2, wanted.r2, rtol=1e-9)
    assert cv.fit.conditions == names
    with aligned("Y", "'like'"):
        found = fc.target_covariance(other, like=given)
    assert_allclose(found, S, rtol=1e-12)
    square = fc.target_covariance(other)
    with aligned("S"):
        fit = fc.fit(given, square, ridge=1e3)
    assert_allclose(fit.target(), naive.covariance(Y[:, x]), rtol=1e-12)
    assert fit.conditions == names
    with aligned("S"):
        two = fc.fit(given, [square, square], ridge=1e3)
    assert_allclose(two.gains[1], fit.gains, rtol=1e-9)


def test_a_table_that_counts_is_aligned_with_numbers_in_text():
    counted = Labelled(X, None, range(D))
    texts = Labelled(Y[:, ORDER], range(M), [str(i) for i in ORDER])
    with aligned("responses"):
        fit = fc.fit(counted, responses=texts, relative_ridge=0.1)
    assert_allclose(fit.gains, FIT.gains, rtol=1e-9)
    assert (fit.channels, fit.conditions) == (None, None)


def test_what_counts_is_not_compared_with_other_names_nor_with_arrays():
    with warnings.catch_warnings():
        warnings.simplefilter("error", fc.LabelWarning)
        for x, y, names in (
            (COUNTED, COUNTED_Y.iloc[:, ::-1].set_axis(range(1, 1 + D), axis=1), tuple(range(1, 1 + D))),
            (COUNTED, YF.iloc[:, ::-1], ODOURS[::-1]),
            (COUNTED, Y[:, ::-1], None),
            (XF, COUNTED_Y.iloc[:, ::-1].set_axis(range(D), axis=1), ODOURS),
            (X, COUNTED_Y.iloc[:, ::-1], None),  # numbers in an order that X may not have
            (COUNTED, COUNTED_Y.iloc[:, ::-1].set_axis(range(D), axis=1), None),
        ):
            fit = fc.fit(x, responses=y, ridge=1)
            assert fit.conditions == names
            assert_allclose(fit.target(), fc.target_covariance(Y[:, ::-1], like=X), rtol=1e-12)
        S = fc.target_covariance(COUNTED_Y.iloc[:, ::-1], like=X)
        assert list(S.index) == list(range(D))[::-1]
        assert fc.fit(X, S, ridge=1).conditions is None
        half = pd.DataFrame(naive.covariance(Y), columns=ODOURS)  # rows that only count
        assert fc.fit(XF, half, ridge=1).conditions == ODOURS


def test_a_covariance_that_counts_along_one_axis_is_put_right():
    S = pd.DataFrame(naive.covariance(Y))
    for frame, like in ((S.iloc[:, ORDER], "its rows"), (S.iloc[ORDER], "'X'")):
        with aligned("S", like):
            fit = fc.fit(COUNTED, frame, ridge=1e3)
        assert_allclose(fit.target(), S, rtol=1e-12)
    half = S.set_axis(list(ODOURS), axis=1).iloc[ORDER, ORDER].set_axis(range(D), axis=0)
    with aligned("S"):
        assert_allclose(fc.fit(XF, half, ridge=1e3).target(), S, rtol=1e-12)


def test_vectors_over_channels_that_count_are_aligned():
    lower, z0 = np.linspace(0.5, 0.9, N), np.linspace(0.95, 1.05, N)
    series = [pd.Series(values).iloc[TURNED] for values in (lower, z0, 1e3 * lower)]
    with aligned("bounds", axis="channels"), aligned("gains0", axis="channels"):
        found = fc.fit(
            COUNTED, responses=YF, ridge=1e3, method="exact", bounds=(series[0], 2), gains0=series[1]
        )
    assert_allclose(found.gains, EXACT.gains, rtol=1e-4)
    for name in ("ridge", "relative_ridge"):
        with aligned(name, axis="channels"):
            found = fc.fit(COUNTED, SIM.S, **{name: series[2]})
        assert_allclose(found.gains, fc.fit(X, SIM.S, **{name: 1e3 * lower}).gains, rtol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_place = fc.fit(X, SIM.S, ridge=series[2]).gains
        assert_allclose(by_place, fc.fit(X, SIM.S, ridge=1e3 * lower[TURNED]).gains, rtol=1e-9)
        sorted_by_name = pd.Series(1e3 * lower).set_axis([f"g{i}" for i in range(N)])
        assert_allclose(
            fc.fit(COUNTED, SIM.S, ridge=sorted_by_name).gains, fc.fit(X, SIM.S, ridge=1e3 * lower).gains
        )


def test_gains_of_a_fit_without_names_meet_channels_by_their_number():
    for given in (X, COUNTED):
        fit = fc.fit(given, responses=YF, relative_ridge=0.1)
        wanted = fit.apply(X, responses=Y)
        with aligned("X_new", "the fit", axis="channels"):
            found = fit.apply(COUNTED.iloc[TURNED], responses=Y)
        assert_allclose(found.covariance, wanted.covariance, rtol=1e-12)
        assert found.r2 == pytest.approx(wanted.r2, rel=1e-12)
        assert_allclose(found.responses, (fit.gains[:, np.newaxis] * X)[TURNED], rtol=1e-12)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for new in (XF.iloc[TURNED], COUNTED.iloc[TURNED].set_axis(range(1, 1 + N)), X[TURNED]):
                assert_allclose(fit.apply(new).covariance, fit.apply(X[TURNED]).covariance, rtol=1e-12)
    named = fc.fit(COUNTED.iloc[TURNED], responses=Y, relative_ridge=0.1)
    with aligned("X_new", "the fit", axis="channels"):
        found = named.apply(COUNTED)
    assert_allclose(found.covariance, fc.covariance(X, gains=FIT.gains), rtol=1e-9)


def test_conditions_that_count_are_aligned_where_a_fit_is_applied():
    wanted = FIT.apply(X, responses=Y)
    S = pd.DataFrame(wanted.target)
    for name, given in (("responses", COUNTED_Y.iloc[:, ORDER]), ("S", S.iloc[ORDER, ORDER])):
        with aligned(name, "'X_new'"):
            found = FIT.apply(COUNTED, **{name: given})
        assert_allclose(found.target, wanted.target, rtol=1e-12)
        assert found.conditions is None


def test_names_compare_as_text_and_one_side_without_names_is_not_compared():
    numbers = pd.DataFrame(X, columns=np.arange(10, 10 + D))
    texts = pd.DataFrame(Y, columns=[str(i) for i in range(10, 10 + D)])
    assert fc.fit(numbers, responses=texts, ridge=1).conditions == tuple(range(10, 18))
    assert_array_equal(
        fc.fit(X, responses=YF.iloc[:, ORDER], ridge=1).target(),
        fc.fit(X, responses=Y[:, ORDER], ridge=1).target(),
    )


def test_vectors_over_channels_with_names_are_aligned():
    order = np.random.default_rng(2).permutation(N)
    lower, z0 = np.linspace(0.5, 0.9, N), np.linspace(0.95, 1.05, N)
    series = [pd.Series(values, CHANNELS).iloc[order] for values in (lower, z0)]
    with aligned("bounds", axis="channels"), aligned("gains0", axis="channels"):
        found = fc.fit(XF, responses=YF, ridge=1, method="exact", bounds=(series[0], 2), gains0=series[1])
    wanted = fc.fit(X, responses=Y, ridge=1, method="exact", bounds=(lower, 2), gains0=z0)
    assert_allclose(found.gains, wanted.gains, rtol=1e-6)
    with aligned("gains", axis="channels"):
        assert_allclose(fc.covariance(XF, gains=series[1]), naive.covariance(X, z0), rtol=1e-12)
    with aligned("gains", axis="channels"):
        assert fc.loss(XF, SIM.S, series[1]) == pytest.approx(fc.loss(X, SIM.S, z0), rel=1e-12)
    candidates = pd.DataFrame([series[1], 2 * series[1]])
    with aligned("gains", axis="channels"):
        assert_allclose(fc.loss(XA, SIM.S, candidates), fc.loss(X, SIM.S, np.stack([z0, 2 * z0])), rtol=1e-12)
    with pytest.raises(ValueError, match=r"^Argument 'gains0' must have the channels of 'X', not be without"):
        fc.fit(XF, responses=YF, ridge=1, method="exact", gains0=pd.Series(z0, range(5, 5 + N)))


def test_ridges_with_names_are_aligned():
    ridges = np.linspace(10, 1000, N)
    order = np.random.default_rng(2).permutation(N)
    series = pd.Series(ridges, CHANNELS).iloc[order]
    for name, call in (
        ("ridge", lambda X, ridge: fc.fit(X, SIM.S, ridge=ridge).gains),
        ("relative_ridge", lambda X, ridge: fc.fit(X, SIM.S, relative_ridge=ridge).gains),
        ("ridge", lambda X, ridge: fc.loss(X, SIM.S, np.linspace(0, 2, N), ridge=ridge)),
    ):
        with aligned(name, axis="channels"):
            found = call(XF, series)
        assert_allclose(found, call(X, ridges), rtol=1e-9)
    matrix = pd.DataFrame(np.diag(ridges**0.5), columns=CHANNELS).iloc[:, order]
    with aligned("ridge", axis="channels"):
        fit = fc.fit(XF, SIM.S, ridge=matrix)
    assert_allclose(fit.gains, fc.fit(X, SIM.S, ridge=ridges).gains, rtol=1e-6)
    assert fc.fit(XF, SIM.S, ridge=ridges).to_xarray().ridge.dims == ("channel",)


def test_an_explanation_names_channels_and_aligns_conditions():
    with aligned("responses"):
        why = fc.explain(XF, responses=YF.iloc[:, ORDER], relative_ridge=0.1)
    assert (why.fit.channels, why.fit.conditions) == (CHANNELS, ODOURS)
    assert_allclose(why.delta, FIT.delta, rtol=1e-6, atol=1e-9)
    assert why.contributions(CHANNELS[3]).channel == CHANNELS[3]


def test_the_warning_can_be_silenced_by_its_category():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=fc.LabelWarning)
        fc.fit(XF, responses=YF.iloc[:, ORDER], ridge=1)


# ---- not in memory


def test_lazy_arrays_of_xarray_are_read_by_rows(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = X
    sizes = []

    class Backend(xr.backends.BackendArray):
        shape, dtype = X.shape, X.dtype

        def __getitem__(self, key):
            return xr.core.indexing.explicit_indexing_adapter(
                key, self.shape, xr.core.indexing.IndexingSupport.BASIC, self._read
            )

        def _read(self, key):
            with h5py.File(tmp_path / "x.h5") as file:
                found = file["x"][key]
            sizes.append(len(found))
            return found

    lazy = xr.core.indexing.LazilyIndexedArray(Backend())
    stored = xr.DataArray(xr.Variable(("cell", "odour"), lazy), coords=XA.coords)
    fit = fc.fit(stored, responses=YF, relative_ridge=0.1)
    assert_allclose(fit.gains, FIT.gains, rtol=1e-9)
    assert (fit.channels, fit.conditions) == (CHANNELS, ODOURS)
    assert sizes
    with aligned("Y"):
        cv = fc.cross_validate(XF, stored[:M].isel(odour=list(ORDER)), folds=3, method="linear")
    assert_allclose(cv.r2, fc.cross_validate(X, X[:M], folds=3, method="linear").r2, rtol=1e-9)


def test_stored_responses_are_aligned_by_rows(tmp_path):
    np.save(tmp_path / "y.npy", Y[:, ORDER])
    stored = Labelled(np.load(tmp_path / "y.npy", mmap_mode="r"), None, [ODOURS[i] for i in ORDER])
    assert (stored.shape, stored.ndim) == (Y.shape, 2)
    with aligned("responses"):
        fit = fc.fit(XF, responses=stored, relative_ridge=0.1)
    assert_allclose(fit.gains, FIT.gains, rtol=1e-9)


# ---- refused


def refused(call, *words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    message = str(caught.value)
    assert message.startswith("Argument '")
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda Y: fc.fit(XF, responses=Y, ridge=1), "responses"),
        (lambda Y: fc.ridge_path(XF, responses=Y), "responses"),
        (lambda Y: fc.cross_validate(XF, Y), "Y"),
        (lambda Y: fc.target_covariance(Y, like=XF), "Y"),
        (lambda Y: fc.fit(XF, fc.target_covariance(Y), ridge=1), "S"),
    ],
)
def test_conditions_of_other_names_are_named(call, name):
    other = YF.rename(columns={"citral": "nonanal"})
    refused(
        lambda: call(other),
        f"'{name}' must have the conditions of ",
        "without 'citral' and with 'nonanal'",
        "rename",
    )
    many = YF.rename(columns=lambda odour: "x" + odour)
    refused(
        lambda: call(many),
        "'heptanal' and 3 more and with ",
        "with 'xpinene', 'xlimonene', 'xcitral', 'xhexanal', 'xheptanal' and 3 more: ",
    )
    refused(lambda: call(YF.drop(columns="thymol")), "not be without 'thymol': ")


def test_names_that_differ_in_case_or_spaces_are_set_beside_each_other():
    other = YF.rename(columns={"citral": "CITRAL ", "thymol": " thymol", "pinene": "Pinene"})
    refused(
        lambda: fc.fit(XF, responses=other, ridge=1),
        "Argument 'responses' must have the conditions of 'X', not 'Pinene' for 'pinene', 'CITRAL ' for "
        "'citral', ' thymol' for 'thymol', which differ only in case or spaces: rename or select",
    )
    one = YF.rename(columns={"citral": "CITRAL "})
    refused(
        lambda: fc.fit(XF, responses=one, ridge=1), "not 'CITRAL ' for 'citral', which differs only in case"
    )
    many = YF.rename(columns=str.upper)
    refused(lambda: fc.fit(XF, responses=many, ridge=1), "'HEPTANAL' for 'heptanal' and 3 more, which differ")


def test_names_that_differ_in_case_from_several_are_listed():
    other = YF.rename(columns={"citral": "a b", "thymol": "AB"})
    x = XF.rename(columns={"citral": "ab", "thymol": "zzz"})
    refused(lambda: fc.fit(x, responses=other, ridge=1), "be without 'ab', 'zzz' and with ")
    x = XF.rename(columns={"citral": "ab", "thymol": "A B"})
    refused(lambda: fc.fit(x, responses=other, ridge=1), "be without 'ab', 'A B' and with 'AB', 'a b': ")


def test_missing_names_stand_beside_the_closest_unexpected_ones():
    other = YF.rename(columns={"pinene": "thymols", "thymol": "pinenes", "citral": "zzz"}).assign(extra=1.0)
    refused(
        lambda: fc.fit(XF, responses=other, ridge=1),
        "not be without 'pinene', 'citral', 'thymol' and with 'pinenes', 'thymols', 'zzz', 'extra': rename",
    )


def test_names_of_nan_are_said_where_there_are_any():
    bad = X.copy()
    bad[7, 3] = np.nan
    place = r"first at channel 7{}, condition 3{} \(counted from 0\)"
    for frame, words in (
        (pd.DataFrame(bad, CHANNELS, ODOURS), (r" \('glomerulus 7'\)", r" \('hexanal'\)")),
        (pd.DataFrame(bad, columns=ODOURS), ("", r" \('hexanal'\)")),
        (pd.DataFrame(bad, index=range(100, 100 + N)), (r" \(107\)", "")),
        (bad, ("", "")),
    ):
        match = place.format(*words)
        for call in (
            lambda frame=frame: fc.fit(frame, responses=Y, ridge=1),
            lambda frame=frame: fc.covariance(frame),
            lambda frame=frame: fc.loss(frame, SIM.S, np.ones(N)),
        ):
            with pytest.raises(ValueError, match="^Argument 'X' must be finite, .*" + match):
                call()
        with pytest.raises(ValueError, match="^Argument 'responses' must be finite, .*" + match):
            fc.fit(X, responses=frame, ridge=1)
        with pytest.raises(ValueError, match="^Argument 'Y' must be finite, .*" + match):
            fc.cross_validate(X, frame, folds=3)
    S = SIM.S.copy()
    S[2, 1] = S[1, 2] = np.inf
    with pytest.raises(ValueError, match=r"'S' .* condition 1 \('limonene'\), condition 2 \('citral'\) "):
        fc.fit(XF, S, ridge=1)
    with pytest.raises(ValueError, match=r"'S' .* target 1, condition 1 \('limonene'\), condition 2 \('cit"):
        fc.fit(XF, np.stack([SIM.S, S]), ridge=1)


def test_what_is_wrong_with_responses_is_said_of_the_argument_that_was_given():
    for wrong, words in (
        (Y[:, 1:], f"must have the {D} conditions of 'X', not {D - 1}: is one of them conditions x channels"),
        (np.ones((3, D)), "must vary over its channels"),
    ):
        for call in (fc.fit, fc.ridge_path, fc.explain):
            options = {} if call is fc.ridge_path else {"ridge": 1}
            refused(lambda call=call, o=options, Y=wrong: call(X, responses=Y, **o), f"'responses' {words}")
        refused(lambda Y=wrong: fc.target_covariance(Y, like=X), "'Y' " + words.replace("'X'", "'like'"))


def test_a_fit_keeps_how_many_channels_its_responses_have(tmp_path):
    cv = fc.cross_validate(X, YF, relative_ridges=[0.1], folds=3, method="linear")
    for fit in (FIT, cv.fit, fc.ridge_path(XF, responses=YA)[0], fc.explain(X, responses=Y, ridge=1).fit):
        assert fit.stats["n_responses"] == M
    assert "n_responses" not in fc.fit(X, SIM.S, ridge=1).stats
    FIT.save(tmp_path / "fit.npz")
    assert fc.load(tmp_path / "fit.npz").stats["n_responses"] == M


def test_names_that_repeat_are_named_with_argument_and_axis():
    twice = ["a", "b", "a", "c", "d", "b", "e", "f"]
    frame = pd.DataFrame(X, columns=twice)
    for call, name in (
        (lambda: fc.fit(frame, responses=Y, ridge=1), "X"),
        (lambda: fc.fit(X, responses=frame, ridge=1), "responses"),
        (lambda: fc.cross_validate(X, frame), "Y"),
        (lambda: fc.fit(X, pd.DataFrame(SIM.S, twice, twice), ridge=1), "S"),
        (lambda: fc.loss(frame, SIM.S, np.ones(N)), "X"),
    ):
        refused(call, f"'{name}' must name each condition once, not 'a', 'b' more than once", "without names")
    refused(lambda: fc.covariance(XF.set_axis([7] * N)), "'X' must name each channel once, not '7'")


def test_frames_that_are_not_of_numbers_say_so():
    with pytest.raises(TypeError, match=r"^Argument 'X' must hold real numbers, not dtype object"):
        fc.fit(XF.assign(animal="a"), responses=Y, ridge=1)


# ---- tables and figures


def test_the_table_of_a_fit_has_a_row_for_each_channel():
    frame = fc.fit(XF, responses=YF, relative_ridge=0.1).to_frame()
    assert (frame.index.name, tuple(frame.index)) == ("channel", CHANNELS)
    assert_allclose(frame["gain"], FIT.gains, rtol=1e-12)
    assert_allclose(frame["delta"], FIT.delta, rtol=1e-9)
    assert list(FIT.to_frame().index) == list(range(N))
    two = fc.fit(XF, np.stack([SIM.S, 2 * SIM.S]), ridge=1e3)
    frame = two.to_frame()
    assert frame.index.names == ["target", "channel"]
    assert_array_equal(frame.loc[1, "gain"], two.gains[1])
    assert frame.loc[(1, CHANNELS[4]), "gain"] == two.gains[1, 4]


def test_the_dataset_of_a_fit_has_all_of_it_by_name():
    fit = fc.fit(XA, responses=YA, relative_ridge=0.1)
    data = fit.to_xarray()
    assert float(data.gains.sel(channel=CHANNELS[3])) == fit.gains[3]
    assert float(data.covariance.sel(condition="citral", condition_2="thymol")) == fit.covariance()[2, 7]
    for name in ("covariance", "target", "covariance_at_one"):
        assert_array_equal(data[name], getattr(fit, name)())
    for name in ("loss", "loss_at_one", "r2", "residual", "ridge", "delta"):
        assert_array_equal(data[name], getattr(fit, name))
    assert (data.attrs["method"], data.attrs["status"], data.relative_ridge) == (
        "linear",
        "converged",
        0.1,
    )
    two = fc.fit(X, np.stack([SIM.S, 2 * SIM.S]), ridge=1e3)
    data = two.to_xarray()
    assert (data.gains.dims, data.r2.dims) == (("target", "channel"), ("target",))
    assert_array_equal(data["target_covariance"], two.target())
    assert not data.coords


def test_tables_of_paths_and_studies_are_tidy():
    path = fc.ridge_path(X, SIM.S, relative_ridges=[0.1, 1.0], method="exact")
    frame = path.to_frame()
    assert list(frame["relative_ridge"]) == [0.1, 1.0]
    for name in ("ridge", "loss", "r2", "residual", "status", "method"):
        assert list(frame[name]) == [getattr(fit, name) for fit in path]
    two = fc.ridge_path(X, np.stack([SIM.S, 2 * SIM.S]), ridges=[1e3, 1e4])
    frame = two.to_frame()
    assert list(frame["target"]) == [0, 1, 0, 1]
    assert_array_equal(frame["loss"].to_numpy().reshape(2, 2), two.loss)
    assert list(frame["ridge"]) == [1e3, 1e3, 1e4, 1e4]
    cv = fc.cross_validate(X, Y, relative_ridges=[0.1, 1.0], folds=3, repeats=2, method=["exact", "linear"])
    frame = cv.to_frame()
    assert len(frame) == 2 * 6 * 2 + 3 * 6  # methods, folds and ridges; baselines and folds
    for method, scores in cv.scores.items():
        part = frame[frame["method"] == method]
        columns = {name: scores.by_fold(name) for name in SCORES}
        for name, values in {**columns, "residual": scores.residual, "status": scores.status}.items():
            table = part.pivot(index="fold", columns="relative_ridge", values=name)
            assert_array_equal(table[cv.ridges.tolist()], values)
    for name, moments in cv.baselines.items():
        part = frame[frame["method"] == f"baseline: {name}"]
        assert list(part["fold"]) == list(range(6))
        assert part["relative_ridge"].isna().all()
        for score in SCORES:
            assert_array_equal(part[score], moments.by_fold(score))
    assert list(frame["repeat"].groupby(frame["fold"]).first()) == [0, 0, 0, 1, 1, 1]
    assert "ridge" not in frame  # in units that differ from fold to fold


@pytest.mark.parametrize("module", ["pandas", "xarray"])
def test_a_missing_library_says_how_to_get_it(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    call = FIT.to_frame if module == "pandas" else FIT.to_xarray
    with pytest.raises(ImportError, match=rf'needs {module}: pip install "fastcov-gains\[{module}\]"$'):
        call()


@pytest.mark.slow
def test_figures_take_the_names_of_the_fit():
    pytest.importorskip("matplotlib")
    fit = fc.fit(XF, responses=YF, relative_ridge=0.1)
    axes = fc.plot.covariances(XF, fit.target(), fit)
    assert {text.get_text() for text in axes[0].get_yticklabels()} <= {*ODOURS}
    with aligned("S"):
        fc.plot.summary(XF, fc.target_covariance(YF).iloc[ORDER, ORDER], fit)
    given = fc.plot.covariances(X, fit.target(), fit, labels=list("abcdefgh"))
    assert given[0].get_yticklabels()[0].get_text() == "a"


def test_an_explanation_is_a_frame_by_channel():
    sim = fc.datasets.simulate(20, 8, rng=0)
    X = pd.DataFrame(sim.X, index=[f"glomerulus {i}" for i in range(20)])
    why = fc.explain(X, sim.S, relative_ridge=0.1)
    frame = why.to_frame()
    assert frame.index.name == "channel"
    assert list(frame.index) == list(X.index)
    np.testing.assert_array_equal(frame["delta"], fc.explain(sim.X, sim.S, relative_ridge=0.1).delta)
    np.testing.assert_array_equal(frame["overlap"], fc.overlaps(sim.X, sim.S))
    assert why.contributions("glomerulus 3").index == 3
    assert why.contributions("glomerulus 3").largest(1)[0][0][0].startswith("glomerulus ")
