"""Simulate responses that look like recordings, with known gains.

sim = fastcov.datasets.simulate(rng=0)
sim.X, sim.Y, sim.S, sim.gains
hard = fastcov.datasets.simulate(871, 52, realistic=True)  # about as hard to predict as recordings
hard.fresh_cells(rng=1)  # another Y of the same truth
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .._compute import blas
from .._inputs.validation import check_generator, check_nonnegative, check_whole, require_memory
from .._model.target import covariance
from ._realistic import CELLS
from ._realistic import realistic as draw
from ._responses import BREADTH, STRENGTH, blocks, fill, float_type, latent_sizes
from ._simulation import Simulation

__all__ = ["Simulation", "simulate"]

# Correlation of log gain with the loading on the first latent mode (negative). Gains independent of the
# loadings would average out over many channels, and leave the covariance unchanged except for noise.
COUPLING = -0.5


def simulate(
    n_channels: int = 148,
    n_conditions: int = 48,
    *,
    rng: Any = 0,
    gain_spread: float | None = None,
    noise: float | None = None,
    n_latent: int = 8,
    dtype: DTypeLike = np.float64,
    realistic: bool = False,
    n_cells: int | None = None,
    hidden: float | None = None,
) -> Simulation:
    """Simulate sparse, correlated, heavy-tailed responses, and an output population with known gains.

    The drive of channel i by condition j is a sum of normal variables with a total variance of 1,

        u_ij = b_i + s_j + Σ_k a_ik c_kj + e_ij,

    with breadth b (variance 0.2), strength s (0.2), `n_latent` modes with variances that fall as 1/k
    (0.4 together) and a private part e (0.2). A channel responds if its drive exceeds a threshold,

        x_ij = 0.45 (1 + 2 (u_ij − 0.69)^1.5)   if u_ij > 0.69, else 0.

    The gains are log-normal with a root mean square of 1, so that S has about the trace of the
    covariance of X; channels that load on the first mode tend to have small ones (correlation −0.5
    with log z), as in a circuit that holds down the dominant mode. The output population is
    Y = diag(z) X + noise, its rows shuffled, and S is its covariance.

    That is much easier than recordings: fitted gains predict held-out conditions almost perfectly. With
    ``realistic=True`` they predict about as badly as they do there (last table below). X is drawn in the
    same way, from five animals that each respond to conditions in a way of their own (0.1 of the variance
    of u, taken from e). Gains are small for channels that respond where the whole population does and that
    load on the first half of the modes, and make the trace of C(z) that of C(1). Each output cell is driven
    by two channels, drawn at random, with the weights ½ + w and ½ − w, w normal with standard deviation
    0.35. The share `hidden` of the cells is driven by N/3 channels that X lacks, with modes of their own. Of
    the responses of a cell a random part is missing, and the others are larger. So the truth is known:

        E[S] ∝ (1 − h) C(z) + h C_hidden + h (1 − h) mmᵀ + noise² diag(E[u²]),

    with h the share `hidden`, m the difference between the mean responses of the two kinds of cells, and
    u a cell with all of its responses. `Simulation.expected` is that matrix, with the trace of C(1).

    Parameters
    ----------
    n_channels, n_conditions : int, default 148 and 48
        N and D.
    rng : default 0
        Anything that `numpy.random.default_rng` accepts: a seed, a SeedSequence, a Generator, or None
        for another data set at each call.
    gain_spread : float, optional
        Standard deviation of log z, from 0 (all gains 1) to 3; 0.5 by default, 0.8 if realistic.
    noise : float, optional
        Standard deviation of the noise in Y, as a fraction of the root mean square of diag(z) X, 0.2 by
        default. With 0, S is ``covariance(X, gains=gains)`` up to rounding. If realistic, responses of
        cells are multiplied by random numbers with a mean of 1 and this standard deviation, 0.5 by default:
        0 with probability noise² / (1 + noise²), and otherwise 1 + noise².
    n_latent : int, default 8
        Number of latent modes; fewer modes make channels more alike.
    dtype : float64 or float32
        Dtype of X and Y. The float32 responses are the float64 responses, rounded.
    realistic : bool, default False
        Whether gains shall predict held-out conditions about as badly as in recordings.
    n_cells : int, optional
        M, the number of output cells, if realistic: 0.737 N by default, as in the recordings (642 for 871).
        Otherwise there is one cell for each channel.
    hidden : float, optional
        Share of the output cells that channels drive which X lacks, if realistic, 0 to 1; 0.6 by default.

    Returns
    -------
    Simulation

    Raises
    ------
    TypeError, ValueError
        If a number of channels or cells (at least 2), conditions or modes is not a whole number >= 1,
        `gain_spread`, `noise` or `hidden` is negative or not finite, `gain_spread` exceeds 3 or `hidden` 1,
        `dtype` is neither float64 nor float32, or `n_cells` or `hidden` is given without ``realistic=True``.
    MemoryError
        If X and Y do not fit the available memory.

    Notes
    -----
    ND(2K + D) flops with K = `n_latent`, and 2ND numbers of `dtype` for X and Y; everything
    else is computed by blocks of rows. If realistic, 2(N + M + N/3)D numbers of float64.

    The constants were matched to responses of 871 olfactory glomeruli of awake mice to 52 odours
    (Chae et al., Nature Neuroscience 2019; responses that are not significant set to 0). The table
    compares the recording with simulations of that size (range over ten seeds):

    =============================================== ============= ===============
    zeros                                           0.75          0.72 to 0.79
    skewness of all responses                       3.1           2.9 to 3.6
    excess kurtosis                                 16            12 to 20
    responses > 0: mean                             0.99          0.89 to 0.99
    responses > 0: 99 % quantile over median        4.2           4.4 to 5.0
    share of conditions with a response: 5 %        0.02          0.02 to 0.06
    share of conditions with a response: 95 %       0.58          0.48 to 0.62
    log root mean square of a channel: spread       0.60          0.58 to 0.65
    correlation of two channels: mean               0.13          0.12 to 0.27
    correlation of two channels: spread             0.26          0.21 to 0.24
    covariance: largest eigenvalue over trace       0.24          0.21 to 0.31
    covariance: second eigenvalue over trace        0.18          0.11 to 0.20
    covariance: effective rank tr(C)² / tr(C²)      9.0           7.7 to 11.5
    channels that respond to nothing                0.02          0.01 to 0.02
    =============================================== ============= ===============

    What matters more is how well gains predict. Y of the same recordings are 642 mitral cells, and scores are
    those of `cross_validate`, the largest of four ridges (mean over ten seeds; ``examples/realistic.py``, and
    docs/identifiability.md has more of them):

    ============================================ ============ =========== =========
    .                                            recordings   realistic   default
    ============================================ ============ =========== =========
    R² of held-out conditions                    0.51         0.59        0.98
    the same of gains of one                     0.13         0.30        0.79
    the same without X                           0.59         0.59        0.37
    cross-pearson                                0.58         0.63        0.99
    the same of gains of one                     0.22         0.36        0.83
    noise ceiling of a correlation               0.90         0.80        0.97
    ============================================ ============ =========== =========

    Examples
    --------
    >>> import numpy as np
    >>> import fastcov as fc
    >>> sim = fc.datasets.simulate(60, 12, noise=0)
    >>> bool(np.allclose(sim.S, fc.covariance(sim.X, gains=sim.gains)))
    True
    >>> hard = fc.datasets.simulate(60, 12, realistic=True)
    >>> hard.Y.shape, hard.fresh_cells(rng=1, n_cells=20).shape
    ((44, 12), (20, 12))
    """
    N = check_whole("n_channels", n_channels, 2)
    D = check_whole("n_conditions", n_conditions, 1)
    K = check_whole("n_latent", n_latent, 1)
    default = (0.8, 0.5) if realistic else (0.5, 0.2)
    spread = check_nonnegative("gain_spread", default[0] if gain_spread is None else gain_spread)
    if spread > 3:
        raise ValueError(f"Argument 'gain_spread' must be at most 3, not {spread:g}: 0.5 is a good start.")
    noise = check_nonnegative("noise", default[1] if noise is None else noise)
    kind = float_type(dtype)
    generator = check_generator(rng)
    if not isinstance(realistic, (bool, np.bool_)):
        raise TypeError(f"Argument 'realistic' must be True or False, not {realistic!r}: pass a bool.")
    if not realistic:
        for name, value in (("n_cells", n_cells), ("hidden", hidden)):
            if value is not None:
                raise ValueError(f"Argument '{name}' must be None, not {value!r}: pass realistic=True, too.")
        require_memory(
            2 * N * D * kind.itemsize, f"A simulation of {N} x {D} {kind}", "ask for fewer channels"
        )
        return _gained(generator, N, D, K, kind, spread, noise)
    M = max(2, round(CELLS * N)) if n_cells is None else check_whole("n_cells", n_cells, 2)
    share = check_nonnegative("hidden", 0.6 if hidden is None else hidden)
    if share > 1:
        raise ValueError(f"Argument 'hidden' must be at most 1, not {share:g}: it is a share of the cells.")
    nbytes = 8 * (3 * N + 2 * M) * D
    require_memory(nbytes, f"A realistic simulation of {N} x {D}", "ask for fewer channels")
    return draw(generator, N, D, K, M, kind, spread=spread, noise=noise, share=share)


def _gained(
    generator: np.random.Generator, N: int, D: int, K: int, kind: np.dtype[Any], spread: float, noise: float
) -> Simulation:
    """Draw channels and gains, and an output cell for each channel."""
    conditions = generator.standard_normal((K, D))
    strength = math.sqrt(STRENGTH) * generator.standard_normal(D)
    loadings = generator.standard_normal((N, K))
    breadth = math.sqrt(BREADTH) * generator.standard_normal(N)
    own = math.sqrt(1 - COUPLING**2) * generator.standard_normal(N)
    gains = np.exp(spread * (own + COUPLING * loadings[:, 0]) - spread**2)
    loadings *= latent_sizes(K)

    X = np.empty((N, D), kind)
    fill(X, generator, loadings, conditions, strength, breadth)
    power = 0.0  # sum of squares of diag(z) X
    for rows in blocks(N, D):
        power += blas.dot(gains[rows] ** 2, np.square(X[rows], dtype=np.float64).sum(axis=1))

    Y = np.empty_like(X)
    places = generator.permutation(N)
    scale = noise * math.sqrt(power / (N * D))
    for rows in blocks(N, D):
        output = gains[rows, np.newaxis] * X[rows]
        if scale > 0:
            output += scale * generator.standard_normal(output.shape)
        Y[places[rows]] = output
    expected = covariance(X, gains=gains)
    expected[np.diag_indices(D)] += (N - 1) * scale**2
    return Simulation(X, Y, covariance(Y), gains, expected, _law=(scale, 0.0, math.sqrt(N / (N - 1))))
