"""The compiled sums behind scores of held-out conditions."""

from .._compute.jit import Kernel

# Places in the sums of one block of pairs of conditions, of a prediction P and the target S. About zero: of
# (P - S)^2 and S^2; off the diagonal also of (S - g)^2, with the mean g of what was trained on; of P^2 and
# P S; and, each less its mean, of P^2, S^2 and P S, of covariances and then of correlations. All add up over
# folds. Pairs on the diagonal come first, for the block of held-out conditions alone.
DIAGONAL_LEFT, DIAGONAL_SIZE, DIAGONAL_PP, DIAGONAL_PS = range(4)
LEFT, SIZE, ABOUT, PP, PS, VAR_P, VAR_S, COV, RHO_P, RHO_S, RHO = range(11)
ON, OFF = 4, 11


@Kernel
def score_sums(P, at, S, weights, held_out, trained, g, sums, errors):
    """Fills sums (4 + 11 + 11,) and errors (k,), from a prediction P (D, k) of columns of S (D, D).

    `held_out` (k,) are the conditions of these columns, `trained` (n,) those that were fitted, `at` (D,) the
    diagonal of the prediction. First the sums of pairs of held-out conditions, then of one that is held out
    and one that was trained on. A pair counts as its weight says, one of weight zero need not be known.
    errors: of each held-out condition the squares of P - S over both blocks. 30Dk flops.
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
