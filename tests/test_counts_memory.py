"""Arrays that operations make: how many large ones, of what size, and no more than their formulas say."""

import collections
import functools

import numpy as np
import pytest
from cases import needs_jit, peak_bytes, slow_but
from counting import allocations

import fastcov as fc
from fastcov._exact_loss.loss import PAIR_BYTES
from fastcov._model.problem import BLOCK_BYTES, PART_BYTES, Problem, n_pairs
from fastcov._solvers._pairs import block_rows

pytestmark = needs_jit  # interpreted, kernels take too long at these sizes

# X is several MB, in float32 too, and larger than a block; D x D matrices and vectors over channels are not.
TALL, WIDE = (36_000, 24), (1_050, 505)
RIDGE = 0.02  # of the trace of GᵀG


@functools.cache
def given(shape, dtype):
    sim = fc.datasets.simulate(*shape, rng=0, dtype=dtype)
    assert 8 * shape[1] ** 2 < BLOCK_BYTES < sim.X.nbytes
    return sim.X, sim.S, np.linspace(0.5, 1.5, len(sim.X)), RIDGE * np.square(fc.atom_norms(sim.X)).sum()


def made_by(call):
    """Bytes and places of the large arrays of a call; a second one makes the same."""
    with allocations() as made:
        call()
    with allocations() as again:
        call()
    assert made == again
    return made


def beyond_blocks(made):
    """Bytes of those larger than a block of rows, from the smallest."""
    return sorted(nbytes for nbytes, _ in made if nbytes > BLOCK_BYTES)


PIECES = {
    "covariance": lambda X, S, z, center: fc.covariance(X, gains=z, center=center),
    "target_covariance": lambda X, S, z, center: fc.target_covariance(X, like=X, center=center),
    "overlaps": lambda X, S, z, center: fc.overlaps(X, S, gains=z, center=center),
    "atom_norms": lambda X, S, z, center: fc.atom_norms(X, gains=z, center=center),
    "loss": lambda X, S, z, center: fc.loss(X, S, z, center=center),
    "loss_and_gradient": lambda X, S, z, center: fc.loss_and_gradient(X, S, z, center=center),
    "AtomOperator": lambda X, S, z, center: fc.AtomOperator(X, gains=z, center=center) @ z,
    "GramOperator": lambda X, S, z, center: fc.GramOperator(X, gains=z, center=center) @ z,
}


@pytest.mark.covering(2)
@pytest.mark.parametrize("name", PIECES)
def test_pieces_make_no_large_array(name, dtype, center):
    X, S, z, _ = given(TALL, dtype)
    assert made_by(lambda: PIECES[name](X, S, z, center)) == []


PASSES = {"target_covariance": 3, "overlaps": 3, "loss_and_gradient": 3, "GramOperator": 3}


@pytest.mark.parametrize("name", PIECES)
def test_pieces_of_what_is_not_as_kernels_want_it_make_one_block_a_pass(name, dtype):
    X, S, z, _ = given(TALL, dtype)
    made = made_by(lambda: PIECES[name](np.asfortranarray(X)[:, :], S, z, True))
    outside = [nbytes for nbytes, place in made if place == "outside"]
    assert outside == [X.nbytes]  # made here
    blocks = [(nbytes, place.split()[-1]) for nbytes, place in made if place != "outside"]
    block = X.itemsize * X.shape[1] * Problem.of(X).block_rows
    assert blocks == [(block, "blocks")] * PASSES.get(name, 2)
    assert block <= BLOCK_BYTES


@pytest.mark.slow
def test_losses_of_many_candidates_hold_few_arrays_of_their_size(dtype):
    X, S, z, _ = given(TALL, dtype)
    Z = z * np.linspace(0.9, 1.1, 16)[:, np.newaxis]
    made = made_by(lambda: fc.loss(X, S, Z))
    sizes = collections.Counter(nbytes for nbytes, _ in made)
    assert sizes.pop(Z.nbytes) == 1  # a copy of the gains
    assert sum(sizes.elements()) <= PAIR_BYTES  # products of pairs
    made = made_by(lambda: fc.loss_and_gradient(X, S, Z))
    sizes = collections.Counter(nbytes for nbytes, _ in made)
    assert sizes.pop(Z.nbytes) == 2  # and gradients
    assert max(sizes) <= PAIR_BYTES


def test_a_gram_matrix_is_a_centred_copy_and_the_result(dtype, center):
    X, _, z, _ = given(WIDE, dtype)
    N = len(X)
    gram = X.itemsize * N * N
    assert [nbytes for nbytes, _ in made_by(lambda: fc.gram(X, center=center))] == [X.nbytes, gram]
    made = [nbytes for nbytes, _ in made_by(lambda: fc.gram(X, gains=z, center=center))]
    assert made.count(gram) == 1
    assert all(nbytes <= X.nbytes for nbytes in made if nbytes != gram)


FACTORS = {
    "cholesky": lambda N, X: [X.nbytes, X.itemsize * N * N],
    "spectral": lambda N, X: [8 * X.size, 8 * N * N, 8 * (1 + 6 * N + 2 * N * N)],
}


@pytest.mark.parametrize("solver", slow_but({"cholesky"}, FACTORS))
def test_a_fit_is_a_centred_copy_the_factor_and_its_work(solver, dtype):
    X, S, _, ridge = given(WIDE, dtype)
    made = made_by(lambda: fc.fit(X, S, ridge=ridge, solver=solver))
    assert beyond_blocks(made) == sorted(FACTORS[solver](len(X), X))


@pytest.mark.covering(1)
def test_a_dual_fit_is_rows_of_atoms(dtype, center):
    X, S, _, ridge = given(TALL, dtype)
    P = n_pairs(X.shape[1])
    made = made_by(lambda: fc.fit(X, S, ridge=ridge, solver="dual", center=center))
    atoms = X.itemsize * P * block_rows(X.shape[1])
    assert [nbytes for nbytes, place in made if place.endswith("packed_atoms")] == [atoms]
    assert all(nbytes <= BLOCK_BYTES for nbytes, place in made)


@pytest.mark.covering(1)
def test_conjugate_gradients_are_a_copy_in_float32_and_the_preconditioner(dtype, center):
    X, S, _, ridge = given(TALL, dtype)
    ranks = []

    def fit():
        found = fc.fit(X, S, ridge=ridge, solver="pcg", center=center)
        assert found.stats["products"] == "float32"
        assert found.stats["preconditioner"] == "kept"
        ranks.append(found.stats["rank"])

    made = beyond_blocks(made_by(fit))
    single = 4 * X.size if X.dtype == np.float64 else 0
    assert made == sorted(filter(None, [single, 4 * len(X) * ranks[0]]))


@pytest.mark.slow
@pytest.mark.covering(1)
def test_an_exact_fit_copies_responses_at_most_once_in_float32(dtype, center):
    X, S, _, ridge = given(TALL, dtype)
    made = made_by(lambda: fc.fit(X, S, ridge=ridge, method="exact", center=center))
    assert beyond_blocks(made) == ([4 * X.size] if X.dtype == np.float64 else [])


@pytest.mark.slow
def test_a_path_by_eigenvectors_makes_no_more_for_more_ridges(dtype):
    X, S, _, ridge = given(WIDE, dtype)
    made = made_by(lambda: fc.ridge_path(X, S, ridges=ridge / np.arange(1, 4), solver="spectral"))
    assert beyond_blocks(made) == sorted(FACTORS["spectral"](len(X), X))


@pytest.mark.slow
def test_an_explanation_is_a_spectral_fit_and_its_vectors_in_order(dtype):
    X, S, _, ridge = given(WIDE, dtype)
    N, ranks = len(X), []
    made = made_by(lambda: ranks.append(fc.explain(X, S, ridge=ridge, shuffles=0).fit.stats["rank"]))
    # To tell the range: centred responses, and the Gram that becomes its factor.
    span = [8 * X.size, 8 * N * N]
    assert beyond_blocks(made) == sorted([*FACTORS["spectral"](N, X), 8 * N * ranks[0], *span])


# --- peaks, of what is held at once


def peak(call):
    call()
    return peak_bytes(call)[0]


@pytest.mark.covering(2)
@pytest.mark.parametrize("shape", [TALL, WIDE], ids=str)
@pytest.mark.parametrize("name", PIECES)
def test_pieces_hold_some_vectors_matrices_and_a_block(name, shape, dtype):
    X, S, z, _ = given(shape, dtype)
    N, D = shape
    # Gains, sizes, results and what is between, in X's units and the caller's; S checked for symmetry; parts
    # of a sum over channels.
    limit = 8 * (6 * N + 8 * D * D) + 2 * BLOCK_BYTES + min(PART_BYTES, X.nbytes)
    assert peak(lambda: PIECES[name](X, S, z, True)) <= limit


@pytest.mark.slow
def test_what_is_given_as_matrix_holds_what_it_says(dtype):
    X, S, _, ridge = given(WIDE, dtype)
    N, D = WIDE
    base = 8 * (10 * N + 10 * D * D) + 2 * BLOCK_BYTES
    assert peak(lambda: fc.gram(X)) <= X.itemsize * (N * N + N * D) + base
    assert peak(lambda: fc.explain(X, S, ridge=ridge)) <= 24 * N * N + 8 * N * D + base
    path = peak(lambda: fc.ridge_path(X, S, ridges=[ridge, ridge / 2], solver="spectral"))
    assert path <= 24 * N * N + 8 * N * D + base + 2 * 8 * (4 * D * D + 4 * N)  # and the fits
