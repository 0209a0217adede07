"""Penalties on the covariance of a layer's activations, each with its gradient.

import fastcov as fc
import numpy as np
A = np.random.default_rng(0).standard_normal((64, 200))        # 64 units, 200 samples
value, gradient = fc.penalties.decov(A)                        # gradient has the shape of A
value, gradient = fc.penalties.mean_absolute_covariance(A.T, samples_axis=0)
A -= 0.1 * gradient                                            # a step makes units less correlated

C = A J Aᵀ / (n_samples − 1), where J = I − 11ᵀ/n_samples centres over samples, or J = I with
``center=False``. C, which is n_units × n_units, is never held as a whole, only in tiles of a few megabytes.
docs/penalties.md has the derivations, and explains the purpose of each penalty.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ._activations import products as products
from ._activations.activations import Activations, Array, check_samples_axis
from ._compute.jit import blas_for
from ._inputs.labels import Labels, axis_names, by_condition
from ._inputs.validation import check_array, check_nonnegative, symmetric

__all__ = [
    "covariance_distance",
    "decov",
    "mean_absolute_covariance",
    "mean_covariance",
    "mean_squared_covariance",
    "vicreg_covariance",
]

# Number of units from which tables of sums pay, if only signs are needed: for 16 to 2000 samples they are 1.1
# to 2 times as fast in float64, and as fast in float32.
SIGNS_PAY = 400


def mean_covariance(
    activations: ArrayLike, *, samples_axis: int = 1, center: bool = True
) -> tuple[float, Array]:
    """Return the mean of all entries of the covariance, (1/n²) Σ_ij C_ij, and its gradient.

    This is a poor penalty, included for comparison: positive and negative entries cancel, and the gradient
    2/(n² (m − 1)) · 1 1ᵀÃ is the same for every unit. It moves all units alike, so that it can change their
    mean, but never makes two of them less alike. `mean_absolute_covariance` has no such flaw.

    Parameters
    ----------
    activations : array_like, shape (n_units, n_samples), or (n_samples, n_units) with ``samples_axis=0``
        Activations A of n units to m samples.
    samples_axis : {1, 0}, default 1
        The axis of samples: 1 if each row is a unit, 0 if each row is a sample.
    center : bool, default True
        Whether to remove the mean of each unit over samples (Ã = A − A11ᵀ/m); if not, Ã = A.

    Returns
    -------
    value : float
        In units of A squared.
    gradient : ndarray
        ∂value/∂A in the shape and axes of `activations`; float32 if these are, else float64.

    Raises
    ------
    TypeError, ValueError
        If `activations` are not a real, finite array with two axes, or if there is only one sample, for
        which the covariance is not defined. With no samples or no units the sums are empty: C = 0.

    Notes
    -----
    About 5nm flops. For float32 activations, products are in float32 and sums over blocks in float64.
    """
    A = Activations.of(activations, samples_axis=samples_axis, center=center)
    total, gradient = products.by_sums(A)
    return _scaled(A, total, gradient, order=2, weight=1.0 / max(len(A.array), 1) ** 2)


def mean_absolute_covariance(
    activations: ArrayLike, *, epsilon: float = 0.0, samples_axis: int = 1, center: bool = True
) -> tuple[float, Array]:
    """Return the mean magnitude of the entries of the covariance, (1/n²) Σ_ij |C_ij|, and its gradient.

    The gradient is 2/(n² (m − 1)) sign(C) Ã, with the subgradient sign(0) = 0 where |C_ij| = √(C_ij²) has its
    kink. With ``epsilon``, the mean is that of √(C_ij² + ε²), which is smooth, and C/√(C² + ε²) replaces the
    sign.

    Parameters
    ----------
    activations, samples_axis, center
        As for `mean_covariance`.
    epsilon : float, default 0.0
        ε ≥ 0, in units of A squared; the penalty is quadratic in entries much smaller than ε.

    Returns
    -------
    value : float
        In units of A squared.
    gradient : ndarray
        As for `mean_covariance`.

    Raises
    ------
    TypeError, ValueError
        As for `mean_covariance`, or if `epsilon` is negative or not finite.

    Notes
    -----
    3n²m flops with ``epsilon``, or below 400 units. Otherwise it takes half of that time: the signs come from
    a product in float32, except for entries within its error bound, which are computed in float64; and the
    product with a matrix of signs takes n²m/6 additions of sums from tables (Arlazarov, Dinic, Kronrod and
    Faradzhev 1970). It takes about 30 MB besides A and the gradient, however many units there are.
    """
    epsilon = check_nonnegative("epsilon", epsilon)
    A = Activations.of(activations, samples_axis=samples_axis, center=center, beside=math.sqrt(epsilon))
    n, m = A.shape
    if epsilon == 0.0 and n >= SIGNS_PAY:
        total, gradient = products.by_signs(A)
    else:
        smoothing = math.ldexp(epsilon, 2 * A.exponent) * A.divisor
        with blas_for(2.0 * n * n * m):
            total, gradient = products.by_tiles(A, products.magnitudes(smoothing))
    return _scaled(A, total, gradient, order=2, weight=1.0 / max(n, 1) ** 2)


def mean_squared_covariance(
    activations: ArrayLike, *, samples_axis: int = 1, center: bool = True
) -> tuple[float, Array]:
    """Return the mean square of the covariances, (1/n²) ‖C‖²_F, and its gradient 4/(n² (m − 1)) C Ã.

    Parameters
    ----------
    activations, samples_axis, center
        As for `mean_covariance`.

    Returns
    -------
    value : float
        In units of A to the fourth.
    gradient : ndarray
        As for `mean_covariance`, in units of A cubed.

    Raises
    ------
    TypeError, ValueError
        As for `mean_covariance`.

    Notes
    -----
    With fewer samples than units, 3nm² flops and 8m² bytes through K = ÃᵀÃ (m × m), since ‖ÃÃᵀ‖ = ‖K‖ and
    ÃÃᵀÃ = ÃK. Otherwise 3n²m flops by tiles of ÃÃᵀ.
    """
    A = Activations.of(activations, samples_axis=samples_axis, center=center)
    n, m = A.shape
    with blas_for(2.0 * n * m * min(n, m)):
        total, gradient = products.squares_by_samples(A) if m < n else products.by_tiles(A, products.squares)
    return _scaled(A, total, gradient, order=4, weight=1.0 / max(n, 1) ** 2)


def decov(activations: ArrayLike, *, samples_axis: int = 1, center: bool = True) -> tuple[float, Array]:
    """Return DeCov, half the squared covariances of different units ½ (‖C‖²_F − ‖diag C‖²), and its gradient.

    The gradient is 2/(m − 1) (C − diag C) Ã. The penalty ignores variances: it penalises redundant units.

    Parameters
    ----------
    activations, samples_axis, center
        As for `mean_covariance`. The paper divides by m in place of m − 1.

    Returns
    -------
    value : float
        In units of A to the fourth.
    gradient : ndarray
        As for `mean_covariance`, in units of A cubed.

    Raises
    ------
    TypeError, ValueError
        As for `mean_covariance`.

    Notes
    -----
    With fewer samples than units, 3nm² flops and 8m² bytes through K = ÃᵀÃ (m × m), unless the units are so
    nearly uncorrelated that the difference of the two norms loses digits. Otherwise 3n²m flops by tiles of
    ÃÃᵀ.

    References
    ----------
    Cogswell, Ahmed, Girshick, Zitnick and Batra 2016, Reducing overfitting in deep networks by decorrelating
    representations, ICLR, eq. 3.
    """
    return _off_diagonal_penalty(activations, samples_axis, center, mean=False)


def vicreg_covariance(
    activations: ArrayLike, *, samples_axis: int = 1, center: bool = True
) -> tuple[float, Array]:
    """Return the covariance term of VICReg, (1/n) Σ_{i≠j} C_ij², and its gradient.

    The gradient is 4/(n (m − 1)) (C − diag C) Ã. The value is 2/n times `decov`, whose notes apply here too.

    Parameters
    ----------
    activations, samples_axis, center
        As for `mean_covariance`.

    Returns
    -------
    value : float
        In units of A to the fourth.
    gradient : ndarray
        As for `mean_covariance`, in units of A cubed.

    Raises
    ------
    TypeError, ValueError
        As for `mean_covariance`.

    References
    ----------
    Bardes, Ponce and LeCun 2022, VICReg: variance-invariance-covariance regularization for self-supervised
    learning, ICLR, eq. 3 and 4.
    """
    return _off_diagonal_penalty(activations, samples_axis, center, mean=True)


def covariance_distance(
    activations: ArrayLike,
    target: ArrayLike,
    *,
    coral: bool = False,
    samples_axis: int = 1,
    center: bool = True,
) -> tuple[float, Array]:
    """Return the squared distance of C from a target, ‖C − S‖²_F, and its gradient 4/(m − 1) (C − S) Ã.

    Parameters
    ----------
    activations, samples_axis, center
        As for `mean_covariance`.
    target : array_like, shape (n_units, n_units)
        S, symmetric, in units of A squared: often the covariance of the same units in another domain. If
        both S and the activations name their units (DataFrame, DataArray), S is aligned by name, with a
        `LabelWarning`.
    coral : bool, default False
        Whether to divide by 4n², as the loss of Deep CORAL does.

    Returns
    -------
    value : float
        In units of A to the fourth.
    gradient : ndarray
        As for `mean_covariance`, in units of A cubed.

    Raises
    ------
    TypeError, ValueError
        As for `mean_covariance`, or if `target` is not symmetric, finite and of that shape.

    Notes
    -----
    3n²m flops by tiles. If the samples are fewer than a third of the units, 2n²m + 3nm² flops through
    K = ÃᵀÃ: ‖C − S‖² = ‖K‖²/(m − 1)² − 2 <Ã, SÃ>/(m − 1) + ‖S‖², unless that loses digits. The target is
    copied in float64 and, for the second way, also in the dtype of the activations.

    References
    ----------
    Sun and Saenko 2016, Deep CORAL: correlation alignment for deep domain adaptation, ECCV workshops, eq. 1.
    """
    if not isinstance(coral, (bool, np.bool_)):
        raise TypeError(f"Argument 'coral' must be True or False, not {coral!r}.")
    axes = ("unit", "unit")
    units = axis_names(activations, 2)[1 - check_samples_axis(samples_axis)]
    aligned = by_condition("target", target, Labels(None, units), like="'activations'", axis="unit")
    given = check_array("target", aligned, axes, empty=True)
    if given.shape[0] != given.shape[1]:
        raise ValueError(
            f"Argument 'target' must be square, one row and column for each unit, not of shape {given.shape}."
        )
    S = symmetric("target", given, axes)
    largest = max(S.max(initial=0.0), -S.min(initial=0.0))
    A = Activations.of(activations, samples_axis=samples_axis, center=center, beside=math.sqrt(largest))
    n, m = A.shape
    if len(S) != n:
        raise ValueError(
            f"Argument 'target' must be {n} x {n}, one row and column for each unit, not of shape {S.shape}."
        )
    np.ldexp(S, 2 * A.exponent, out=S)  # scaled like the tiles
    S *= A.divisor
    with blas_for(2.0 * n * n * m):
        found = products.distance_by_samples(A, S) if 3 * m < n else None
        total, gradient = found or products.by_tiles(A, products.differences(S))
    return _scaled(A, total, gradient, order=4, weight=0.25 / max(n, 1) ** 2 if coral else 1.0)


def _off_diagonal_penalty(
    activations: ArrayLike, samples_axis: int, center: bool, *, mean: bool
) -> tuple[float, Array]:
    """Return ½ Σ_{i≠j} C_ij², or with `mean` (1/n) Σ_{i≠j} C_ij², and its gradient."""
    A = Activations.of(activations, samples_axis=samples_axis, center=center)
    n, m = A.shape
    with blas_for(2.0 * n * m * min(n, m)):
        found = products.different_by_samples(A) if m < n else None
        total, gradient = found or products.by_tiles(A, products.different)
    return _scaled(A, total, gradient, order=4, weight=1.0 / max(n, 1) if mean else 0.5)


def _scaled(
    A: Activations, total: float, gradient: Array, *, order: int, weight: float
) -> tuple[float, Array]:
    """Scale a sum over T = (m − 1) C and its F Ã to a value of the given order in A, and its gradient."""
    weight /= A.divisor ** (order // 2)
    gradient *= order * weight
    value = np.float64(weight * total)
    if A.exponent:
        # Results beyond the range of a dtype become infinite, or zero.
        with np.errstate(over="ignore", under="ignore"):
            value = np.ldexp(value, -order * A.exponent)
            np.ldexp(gradient, (1 - order) * A.exponent, out=gradient)
    return float(value), gradient
