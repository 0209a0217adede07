"""Compiled kernel for the sums behind scores of held-out conditions."""

from .._compute.jit import Kernel

# Positions in the sums over one block of pairs of conditions, for a prediction P and the target S. Without
# subtracting means: sums of (P - S)^2 and S^2; off the diagonal also of (S - g)^2, where g is the mean of the
# training pairs; then of P^2 and P S. With P and S each less its mean: sums of P^2, S^2 and P S, first of
# covariances, then of correlations. All add up over folds. Sums over the diagonal come first, and exist for
# the block of held-out conditions only.
DIAGONAL_LEFT, DIAGONAL_SIZE, DIAGONAL_PP, DIAGONAL_PS = range(4)
LEFT, SIZE, ABOUT, PP, PS, VAR_P, VAR_S, COV, RHO_P, RHO_S, RHO = range(11)
ON, OFF = 4, 11


@Kernel
def score_sums(P, at, S, weights, held_out, trained, g, sums, errors):
    """Fill sums (4 + 11 + 11,) and errors (k,), from a prediction P (D, k) of columns of S (D, D).

    `held_out` (k,) are the conditions of these columns, `trained` (n,) those that were fitted, and `at` (D,)
    is the diagonal of the prediction. The sums over pairs of held-out conditions come first, then those over
    pairs of a held-out and a training condition. Each pair has a weight; S need not be known where it is
    zero. errors has, for each held-out condition, the sum of (P - S)^2 over both blocks. 30Dk flops.
    """
    k = len(held_out)
    sums[:] = 0.0
    errors[:] = 0.0
    for c in range(k):
        j = held_out[c]
        w = weights[j, j]
        if w > 0.0:
            p, s = P[j, c], S[j, j]
            sums[DIAGONAL_LEFT] += w * (p - s) * (p - s)
            sums[DIAGONAL_SIZE] += w * s * s
            sums[DIAGONAL_PP] += w * p * p
            sums[DIAGONAL_PS] += w * p * s
            errors[c] += w * (p - s) * (p - s)
    for block in range(2):
        rows = held_out if block == 0 else trained
        first = ON + block * OFF
        total, mean_p, mean_s, mean_rp, mean_rs = 0.0, 0.0, 0.0, 0.0, 0.0
        for c in range(k):
            j = held_out[c]
            for r in range(len(rows)):
                i = rows[r]
                w = weights[i, j]
                if i == j or not w > 0.0:
                    continue
                p, s = P[i, c], S[i, j]
                sums[first + LEFT] += w * (p - s) * (p - s)
                sums[first + SIZE] += w * s * s
                sums[first + ABOUT] += w * (s - g) * (s - g)
                sums[first + PP] += w * p * p
                sums[first + PS] += w * p * s
                errors[c] += w * (p - s) * (p - s)
                total += w
                mean_p += w * p
                mean_s += w * s
                pp, ss = at[i] * at[j], S[i, i] * S[j, j]
                mean_rp += w * p / pp**0.5 if at[i] > 0.0 and at[j] > 0.0 else 0.0
                mean_rs += w * s / ss**0.5 if ss > 0.0 else (0.0 if ss <= 0.0 else ss)
        if total > 0.0:
            mean_p, mean_s, mean_rp, mean_rs = (
                mean_p / total,
                mean_s / total,
                mean_rp / total,
                mean_rs / total,
            )
        for c in range(k):
            j = held_out[c]
            for r in range(len(rows)):
                i = rows[r]
                w = weights[i, j]
                if i == j or not w > 0.0:
                    continue
                p, s = P[i, c] - mean_p, S[i, j] - mean_s
                sums[first + VAR_P] += w * p * p
                sums[first + VAR_S] += w * s * s
                sums[first + COV] += w * p * s
                pp, ss = at[i] * at[j], S[i, i] * S[j, j]
                p = (P[i, c] / pp**0.5 if at[i] > 0.0 and at[j] > 0.0 else 0.0) - mean_rp
                s = (S[i, j] / ss**0.5 if ss > 0.0 else (0.0 if ss <= 0.0 else ss)) - mean_rs
                sums[first + RHO_P] += w * p * p
                sums[first + RHO_S] += w * s * s
                sums[first + RHO] += w * p * s
