"""compare(): the same numbers as its pieces and as naive folds, models by options, and bad input."""

import copy
import csv
import dataclasses
import json

import naive
import numpy as np
import pytest
import scipy.stats
from cases import data
from hypothesis import given
from hypothesis import strategies as st
from test_saved import same, suffixes

import fastcov as fc
from fastcov._results.score import BASELINES, SCORES, Moments
from fastcov._whole.models import FREE_RIDGES, MODELS, models_of

N, M, D, K = 24, 30, 14, 19
ODOURS = [f"odour {d}" for d in range(D)]
RIDGES = (1e-2, 1e-1, 1.0)
NAMES = ["one", "no-x", "scaled", "gains", "gains+nuisance", "free", "mixed"]
OPTIONS = {"relative_ridges": RIDGES, "folds": 4}


def pair():
    """Y is X with gains between 0.2 and 3, mixed: there is something to find."""
    X = data(N, D)
    gains = np.exp(np.linspace(-1.6, 1.1, N))
    mix = np.random.default_rng(3).standard_normal((M, N)) / np.sqrt(N)
    return X, mix @ (gains[:, np.newaxis] * (X - X.mean(axis=0)))


X, Y = pair()


@pytest.fixture(scope="module")
def found():
    return fc.compare(X, Y, NAMES, shuffles=K, **OPTIONS)


@pytest.fixture(scope="module")
def linear():
    """Only what the oracle can do: linear gains in two repeats of three folds."""
    return fc.compare(
        X, Y, {"one": {}, "no-x": {}, "scaled": {}, "linear": {"method": "linear"}},
        relative_ridges=RIDGES, folds=3, repeats=2,
    )  # fmt: skip


# --- the same numbers as its pieces


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gains", {}),
        ("gains+nuisance", {"nuisance": ("diagonal", "constant")}),
        ("free", {"method": "free"}),
        ("mixed", {"method": "mixed"}),
    ],
)
def test_a_model_has_the_scores_of_cross_validate(found, name, options):
    cv = fc.cross_validate(X, Y, nested=True, shuffles=K, **OPTIONS, **options)
    (method,) = cv.methods
    one = found[name]
    same(dataclasses.replace(cv.scores[method], gains=None), dataclasses.replace(
        one.cv.scores[method], gains=None))  # fmt: skip
    assert one.best_ridge == cv.best_ridge
    assert found.p(name) == cv.p
    k = cv.place(method)
    for score in SCORES:
        assert found.value(name, score, "best")[0] == cv.scores[method].pooled(score)[k]
        assert found.value(name, score, "nested")[0] == cv.scores[method].nested.moments.pooled(score)
        assert found.p(name, score) == cv.p_value(method, score)


def test_baselines_have_the_scores_of_cross_validate(found):
    cv = fc.cross_validate(X, Y, shuffles=K, refit=None, **OPTIONS)
    for name in BASELINES:
        for choice in ("nested", "best"):
            np.testing.assert_array_equal(found.by_fold(name, "r2", choice), cv.baselines[name].by_fold("r2"))
        observed = cv.baselines[name].pooled("cross-pearson")
        null = cv.baselines_shuffled[name].pooled("cross-pearson")
        assert found.p(name) == naive.permutation_p([observed], [[value] for value in null])


def test_all_models_have_the_same_folds(found):
    first, *others = (found[name].cv for name in found.fitted)
    for cv in others:
        same(cv.folds, first.folds)


def test_the_noise_ceiling_is_that_of_the_cells(found):
    assert found.ceiling.ceiling() == fc.noise_ceiling(Y, by="cells", folds=4).ceiling()


@pytest.mark.parametrize("low", [False, True])
def test_a_score_above_the_noise_ceiling_is_said_to_be_that(found, low):
    """A ceiling of 0.01, as of few cells, is no bound that a score of 0.5 keeps to."""
    values = np.full(4, 0.01 if low else 1.0)
    halves = {name: values / (2 - values) for name in found.ceiling.reliability}
    ceiling = dataclasses.replace(found.ceiling, reliability=halves)
    text = repr(dataclasses.replace(found, ceiling=ceiling))
    assert ("exceeds the noise ceiling" in " ".join(text.split())) is low
    assert ("is expected to score above" in " ".join(text.split())) is not low


def test_a_matrix_has_no_noise_ceiling():
    S = fc.target_covariance(Y, like=X)
    found = fc.compare(X, models=["one", "gains"], S=S, **OPTIONS)
    assert found.ceiling is None
    cv = fc.cross_validate(X, S=S, nested=True, **OPTIONS)
    assert found.value("gains")[0] == cv.scores["exact"].nested.moments.pooled("cross-pearson")


# --- the same numbers as naive folds


def linear_gains(X, S, ridge, center):
    return 1.0 + naive.linear_fit(X, S, ridge, center)


def naive_tables(found):
    cv = found["linear"].cv
    table, beside, _ = naive.held_out_study(X, Y, RIDGES, cv.folds, linear_gains, relative=True)
    places = cv.scores["linear"].nested.places
    return {"linear": [table[k][f] for f, k in enumerate(places)], **beside}


def test_summaries_are_those_of_naive_folds(linear):
    """Scores of 3 conditions in 15 are differences of sums that agree to rounding of the fits, some 1e-12."""
    for name, folds in naive_tables(linear).items():
        each = [naive.scores([fold]) for fold in folds]
        summary = linear.summary(name)
        np.testing.assert_allclose(summary["r2_mean"], np.mean([s["r2"] for s in each]), rtol=1e-9)
        np.testing.assert_allclose(summary["r2_median"], np.median([s["r2"] for s in each]), rtol=1e-9)
        np.testing.assert_allclose(summary["r2_pooled"], naive.scores(folds)["r2"], rtol=1e-9)
        for key, score in (("pearson_mean", "pearson"), ("cross_pearson_mean", "cross-pearson")):
            expected = np.mean([s[score] for s in each])
            np.testing.assert_allclose(summary[key], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("score", ["r2", "pearson", "cross-pearson", "cross-r2"])
@pytest.mark.parametrize("base", ["one", "scaled"])
def test_a_difference_is_that_of_naive_folds_with_student_s_interval(linear, score, base):
    tables = naive_tables(linear)
    both = list(zip(tables["linear"], tables[base], strict=True))

    def apart(some):
        one, other = zip(*some, strict=True)
        return naive.scores(list(one))[score] - naive.scores(list(other))[score]

    # Each condition is held out twice; a cross pair counts in two folds.
    error = naive.jackknife_error(both, apart, 2.0) * (2.0 if score.startswith("cross") else 1.0)
    each = linear.difference("linear", base, score, level=0.9)
    np.testing.assert_allclose(each.value, apart(both), rtol=1e-8)
    np.testing.assert_allclose(each.se, error, rtol=1e-7)
    t = scipy.stats.t(2)  # three folds a repeat
    np.testing.assert_allclose([each.lower, each.upper], apart(both) + error * t.ppf([0.05, 0.95]), rtol=1e-6)
    np.testing.assert_allclose(each.p, 2 * t.sf(abs(apart(both)) / error), rtol=1e-6)


def test_the_order_of_two_models_turns_the_sign_of_their_difference(found):
    one, other = found.difference("gains", "free"), found.difference("free", "gains")
    assert (one.value, one.lower, one.upper) == (-other.value, -other.upper, -other.lower)
    assert (one.se, one.p, one.p_shuffled) == (other.se, other.p, other.p_shuffled)


def test_p_of_shuffled_differences_counts_shuffles_that_differ_as_much(found):
    a, b = (found[name].cv.scores[found[name].method] for name in ("gains", "free"))
    observed = max(a.pooled("r2")) - max(b.pooled("r2"))
    null = a.shuffled.pooled("r2").max(axis=1) - b.shuffled.pooled("r2").max(axis=1)
    expected = (1 + np.sum(np.abs(null) >= abs(observed))) / (K + 1)
    assert found.difference("gains", "free", "r2").p_shuffled == expected


def test_differences_are_to_the_reference(found):
    assert found.reference == "gains"
    assert [(each.first, each.second) for each in found.differences()] == [
        (name, "gains") for name in NAMES if name != "gains"
    ]
    assert [each.second for each in found.differences("free")] == ["free"] * (len(NAMES) - 1)


def test_without_gains_the_reference_is_the_model_with_the_best_score():
    models = {"weak": {"relative_ridges": [1e4]}, "strong": {"relative_ridges": [1e-2]}, "one": {}}
    assert fc.compare(X, Y, models, folds=4).reference == "strong"


# --- degrees of freedom


def naive_freedom(fit, lower=-np.inf, upper=np.inf, nuisance=(), linear=False):
    G = naive.projection(D, nuisance) @ naive.atoms(X, None if linear else fit.gains)
    G = G[:, (fit.gains > lower) & (fit.gains < upper)]
    values = np.linalg.svd(G, compute_uv=False) ** 2
    return np.sum(values / (values + fit.ridge)) + len(nuisance)


@pytest.mark.parametrize(
    ("options", "how"),
    [
        ({}, {}),
        ({"method": "linear"}, {"linear": True}),
        ({"bounds": (0.5, 1.2)}, {"lower": 0.5, "upper": 1.2}),
        ({"nuisance": ("diagonal", "constant")}, {"nuisance": ("diagonal", "constant")}),
    ],
)
def test_degrees_of_freedom_are_those_of_g_formed(options, how):
    found = fc.compare(X, Y, {"own": {"tol": 1e-8, **options}}, **OPTIONS)
    expected = naive_freedom(found["own"].fit, **how)
    np.testing.assert_allclose(found["own"].degrees_of_freedom, expected, rtol=1e-9)


def test_many_channels_have_the_degrees_of_freedom_of_g_formed():
    """More channels than pairs of conditions: eigenvalues are those of GGᵀ."""
    few = data(40, 8)
    found = fc.compare(
        few, data(30, 8, seed=5), {"own": {"bounds": (0.5, None)}}, folds=2, relative_ridges=[0.1]
    )
    fit = found["own"].fit
    G = naive.atoms(few, fit.gains)[:, fit.gains > 0.5]
    values = np.linalg.svd(G, compute_uv=False) ** 2
    np.testing.assert_allclose(
        found["own"].degrees_of_freedom, np.sum(values / (values + fit.ridge)), rtol=1e-9
    )


def test_the_degrees_of_freedom_of_baselines_and_of_a_connectivity_are_their_own(found):
    assert [found[name].degrees_of_freedom for name in BASELINES] == [0.0, 2.0, 3.0]
    assert found["free"].degrees_of_freedom == found["free"].fit.degrees_of_freedom
    assert np.isnan(found["mixed"].degrees_of_freedom)  # of gains and connections together it is not known


# --- models


def test_options_amend_a_model_or_gains():
    models = {
        "gains": {"method": "linear"},
        "free": {"tol": 1e-5},
        "inhibition": {"bounds": (0, 1)},
        "one": {},
    }
    gains, free, inhibition, one = models_of(models, None, N, None)
    assert gains.options["method"] == "linear"
    assert (free.options["method"], free.options["tol"]) == ("free", 1e-5)
    assert (inhibition.options["method"], inhibition.options["bounds"]) == ("exact", (0, 1))
    assert one.is_baseline
    assert inhibition.words == "gains: bounds (0, 1)"


def test_a_grid_is_a_model_s_own_or_that_of_all_or_the_usual():
    (own, free) = models_of({"gains": {"ridges": [1.0]}, "free": {}}, None, N, None)
    assert (own.options["ridges"], own.options["relative_ridges"]) == ([1.0], None)
    assert free.options["relative_ridges"] == FREE_RIDGES
    (own, free) = models_of({"gains": {"relative_ridges": [1.0]}, "free": {}}, None, N, [0.5])
    assert own.options["relative_ridges"] == [1.0]
    assert free.options["relative_ridges"] == [0.5]


def test_the_truth_scores_highest():
    """Y is X with gains: gains predict better than all connections, which predict better than X as it is."""
    sim = fc.datasets.simulate(60, 24, rng=1)
    found = fc.compare(sim.X, sim.Y, ["one", "gains", "free"], folds=4, relative_ridges=[1e-3, 1e-2, 1e-1])
    values = {name: found.value(name)[0] for name in found.names}
    assert values["gains"] > values["free"] > values["one"]
    assert found.verdict.startswith("Of 3 models, gains scores highest")


def test_a_generator_is_left_as_it_was_and_draws_what_its_seed_does():
    random = np.random.default_rng(5)
    before = copy.deepcopy(random.bit_generator.state)
    found = fc.compare(X, Y, ["gains"], rng=random, **OPTIONS)
    assert random.bit_generator.state == before
    other = fc.compare(X, Y, ["gains"], rng=5, **OPTIONS)
    np.testing.assert_array_equal(found.by_fold("gains"), other.by_fold("gains"))


def test_conditions_with_names_are_aligned():
    pd = pytest.importorskip("pandas")
    order = np.random.default_rng(0).permutation(D)
    named = pd.DataFrame(X, columns=ODOURS), pd.DataFrame(Y, columns=ODOURS).iloc[:, order]
    with pytest.warns(fc.LabelWarning):
        aligned = fc.compare(*named, ["gains"], **OPTIONS)
    np.testing.assert_array_equal(
        aligned.by_fold("gains"), fc.compare(X, Y, ["gains"], **OPTIONS).by_fold("gains")
    )


def test_progress_ends_at_one():
    told = []
    fc.compare(X, Y, ["gains", "free"], callback=told.append, **OPTIONS)
    assert {each.stage for each in told} == {"study"}
    done = [each.done for each in told]
    assert done == sorted(done)
    assert done[-1] == 1.0


@given(
    arrays=st.tuples(st.integers(4, 9), st.integers(8, 12), st.integers(0, 10**6)),
    nested=st.booleans(),
    repeats=st.integers(1, 2),
)
def test_any_data_give_tables_and_words(arrays, nested, repeats):
    n, d, seed = arrays
    rng = np.random.default_rng(seed)
    found = fc.compare(
        rng.standard_normal((n, d)), rng.standard_normal((n + 1, d)), ["one", "no-x", "gains", "free"],
        folds=2, repeats=repeats, nested=nested, relative_ridges=[0.1, 1.0],
    )  # fmt: skip
    assert found.choice == ("nested" if nested else "best")
    table = found.table()
    assert len(table["model"]) == 4 * (1 + nested)
    assert {len(column) for column in table.values()} == {len(table["model"])}
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 112
    assert json.loads(found.to_json())["verdict"] == found.verdict


# --- bad input


@pytest.mark.parametrize(
    ("models", "options", "error", "words"),
    [
        ("gains", {}, TypeError, "list of names"),
        (3, {}, TypeError, "list of names"),
        ([3], {}, TypeError, "by text, not 3"),
        (["gains", "gains"], {}, ValueError, "'gains' twice"),
        (["gain"], {}, ValueError, "not 'gain'"),
        ({"gain": {}}, {}, ValueError, "not 'gain'"),
        ([], {}, ValueError, "only baselines: none"),
        (["one", "no-x"], {}, ValueError, "only baselines: one, no-x"),
        ({"gains": 3}, {}, TypeError, "mapping of options"),
        ({"own": 3}, {}, TypeError, "mapping of options"),
        ({"one": {"tol": 1e-3}, "gains": {}}, {}, ValueError, "without options, not have tol"),
        ({"own": {"folds": 3}}, {}, ValueError, "not 'folds'"),
        ({"own": {"method": ["exact"]}}, {}, TypeError, "one method"),
        ({"own": {"method": "best"}}, {}, ValueError, "'method'"),
        (["gains"], {"shuffles": 5}, ValueError, "at least 19"),
        (["gains"], {"level": 2}, ValueError, "'level'"),
        (["gains"], {"score": "r3"}, ValueError, "'score'"),
        (["gains"], {"S": np.eye(D)}, (TypeError, ValueError), ""),
    ],
)
def test_bad_input_is_refused_in_one_line(models, options, error, words):
    with pytest.raises(error) as caught:
        fc.compare(X, Y, models, **options)
    message = str(caught.value)
    assert message.startswith("Argument '") or words == ""
    assert words in message
    assert "\n" not in message


def test_other_conditions_are_refused():
    with pytest.raises(ValueError, match=f"the {D} conditions of X"):
        fc.compare(X, Y[:, :-1], ["gains"])


def test_unknown_names_and_choices_are_refused(found):
    with pytest.raises(KeyError, match="not 'gain'"):
        found["gain"]
    with pytest.raises(ValueError, match="'choice'"):
        found.value("gains", choice="worst")
    with pytest.raises(ValueError, match="'score'"):
        found.value("gains", "r3")
    plain = fc.compare(X, Y, ["gains"], nested=False, **OPTIONS)
    with pytest.raises(ValueError, match="nested=True"):
        plain.value("gains", choice="nested")


# --- tables, files and pages


def test_the_table_has_what_methods_say(found):
    table = found.table()
    rows = list(zip(table["model"], table["choice"], strict=True))
    assert rows == [(name, choice) for choice in ("nested", "best") for name in NAMES]
    for i, (name, choice) in enumerate(rows):
        assert (table["score"][i], table["standard_error"][i]) == found.value(name, choice=choice)
        for key, value in found.summary(name, choice).items():
            assert table[key][i] == value
        assert table["p"][i] == found.p(name)


def test_frames_and_text_files_have_the_table(found, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = found.to_frame()
    assert list(frame.columns) == list(found.table())
    found.to_csv(tmp_path / "models.csv")
    with open(tmp_path / "models.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == list(frame["model"])
    assert [float(row["score"]) for row in rows] == list(frame["score"])
    assert isinstance(frame, pd.DataFrame)


def test_json_has_every_pair_once(found, tmp_path):
    record = json.loads(found.to_json(tmp_path / "models.json"))
    assert record == json.loads((tmp_path / "models.json").read_text(encoding="utf-8"))
    pairs = [(each["first"], each["second"]) for each in record["differences"]]
    assert len(pairs) == len(NAMES) * (len(NAMES) - 1) / 2
    assert record["models"]["gains"]["scores"]["nested"]["pooled"]["r2"] == found.value("gains", "r2")[0]
    assert record["models"]["one"]["best_ridge"] is None


@suffixes()
def test_a_file_gives_the_same_comparison(found, tmp_path, suffix):
    found.save(tmp_path / f"models.{suffix}")
    other = fc.load(tmp_path / f"models.{suffix}")
    same(found, other)
    assert str(other) == str(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: {"models": {}}, "not of models"),
        (lambda found: {"reference": "none"}, "'reference'"),
        (lambda found: {"models": {"one": found["one"]}}, "'reference'"),
        (lambda found: {"stats": found.stats | {"folds": 5}}, "others say"),
        (lambda found: {"models": {"gain": found["gains"]}}, "not of models"),
        (
            lambda found: {"models": found.models | {
                "one": dataclasses.replace(found["one"], baseline=Moments(found["one"].baseline.sums[1:]))}},
            "models.one.baseline",
        ),
        (
            lambda found: {
                "models": found.models | {"one": dataclasses.replace(found["one"], baseline=None)}
            },
            "has no scores",
        ),
    ],
)  # fmt: skip
def test_a_file_whose_parts_do_not_fit_is_refused(found, tmp_path, change, words):
    broken = object.__new__(fc.Comparison)
    for field in dataclasses.fields(found):
        object.__setattr__(broken, field.name, change(found).get(field.name, getattr(found, field.name)))
    from fastcov._inputs.container import save

    save(broken, tmp_path / "broken.npz", {})
    with pytest.raises(ValueError, match=words):
        fc.load(tmp_path / "broken.npz")


def test_the_page_shows_all_models(found, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    page = found.report(tmp_path / "models.html").read_text(encoding="utf-8")
    for name in NAMES:
        assert f">{name}<" in page
        assert MODELS[name].words in page
    assert "Which model predicts" in page


def test_html_has_both_tables(found):
    text = found._repr_html_()
    assert text.count("<table>") == 2
    assert "Difference of cross-pearson to gains" in text


def test_words_say_what_is_not_shown():
    """X says nothing of Y."""
    found = fc.compare(X, data(M, D, seed=11), ["one", "no-x", "gains"], shuffles=19, **OPTIONS)
    assert "is not shown" in found.verdict
    assert "no-x" in found.verdict
    plain = fc.compare(X, Y, ["one", "gains"], nested=False, **OPTIONS)
    assert "nested=True" in plain.verdict
    assert "shuffles=99" in plain.verdict


# --- groups of channels


GROUPS = np.array(["a", "b", "c"])[np.arange(N) % 3]


@pytest.mark.parametrize("options", [{}, {"bounds": (0.9, None)}])
def test_groups_share_a_gain(options):
    found = fc.compare(X, Y, {"one-gain": {}, "groups": options}, groups=GROUPS, **OPTIONS)
    for name, labels in (("one-gain", ["all"] * N), ("groups", GROUPS)):
        own = options if name == "groups" else {}
        cv = fc.cross_validate(X, Y, nested=True, channel_groups=labels, **OPTIONS, **own)
        np.testing.assert_array_equal(found[name].fit.gains, cv.fit.gains)
        np.testing.assert_array_equal(found.by_fold(name, choice="best"), cv.scores["exact"].by_fold(
            "cross-pearson")[:, cv.place("exact")])  # fmt: skip
        fit = found[name].fit
        G = naive.atoms(X, fit.gains)
        _, places = np.unique(labels, return_inverse=True)
        sums = np.stack([G[:, places == a].sum(axis=1) for a in range(places.max() + 1)], axis=1)
        gains = np.array([fit.gains[places == a][0] for a in range(places.max() + 1)])
        sums = sums[:, gains > own.get("bounds", (-np.inf, None))[0]]
        values = np.linalg.svd(sums, compute_uv=False) ** 2
        expected = np.sum(values / (values + fit.ridge))
        np.testing.assert_allclose(found[name].degrees_of_freedom, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("groups", "error", "words"),
    [
        (None, ValueError, "label for each channel"),
        (GROUPS[:-1], ValueError, f"{N}, not {N - 1}"),
        (["a", None] * (N // 2), ValueError, "not None"),
        (3, TypeError, "label for each channel"),
    ],
)
def test_groups_that_do_not_cover_the_channels_are_refused(groups, error, words):
    with pytest.raises(error, match="Argument 'groups'") as caught:
        fc.compare(X, Y, ["groups"], groups=groups)
    assert words in str(caught.value)


def test_a_file_has_the_scores_of_the_array(tmp_path):
    np.save(tmp_path / "X.npy", X)
    names = ["one", "groups", "gains", "free"]
    mapped = fc.compare(np.load(tmp_path / "X.npy", mmap_mode="r"), Y, names, groups=GROUPS, **OPTIONS)
    found = fc.compare(X, Y, names, groups=GROUPS, **OPTIONS)
    for name in names:
        np.testing.assert_allclose(mapped.by_fold(name), found.by_fold(name), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(mapped[name].degrees_of_freedom, found[name].degrees_of_freedom, rtol=1e-5)
