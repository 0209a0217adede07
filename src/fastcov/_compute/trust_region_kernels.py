"""The compiled trust-region minimiser, for responses in memory over which a pass is short.

One call goes from gains to a minimum of the exact loss, for many targets one after another. Larger problems
make one compiled call per pass. Here such calls would take 40 us each; Python's own share would be as much
again, and threads that fit side by side would wait for the interpreter lock (GIL) as long as they compute.
The minimiser of large problems also calls the functions that decide (`check_convergence`, `least_of_quartic`,
`update_radius`, `sweep`), between passes of its own.
"""

from typing import Any

import numpy as np
from numba import prange

from .jit import Kernel, inner
from .kernels import CHUNK_BYTES, CHUNK_ROWS, CHUNKS

EPSILON = 2.0**-52
# A step along negative curvature first becomes this many times as long; its exact length is found afterwards.
FIRST_LEAP = 10.0
# Rounding that may remain of a plain squared norm when the metric removes all of it, per condition.
CANCELLED = 8.0 * 2.0**-52
# Places in the numbers of the conjugate gradients for one step. With y = r / diagonal, and norms of v and p
# weighted by the diagonal, they are r.y, ||v||^2, v.p, ||p||^2, ||r|| / max |g|, max |g| and iterations; then
# what ends them: the radius, the ||r|| / max |g| that is enough, and the most iterations.
RY, VV, VP, PP, CG_RESIDUAL, LARGEST, CG_ITERATIONS, CG_RADIUS, CG_TOL, CG_MAX, NUMBERS = range(11)
# Rows that `evaluate` fills; the first is the gradient without the ridge.
SLOPE, SECOND, NORM, SKEW, SQUARE, ROWS = range(6)

# Conjugate gradients end at this share of the gradient, or at the root of the gradient's share of the largest
# one so far, if that is smaller. Far from the minimum the model does not deserve more, and near it the steps
# converge faster than linearly.
ACCURACY = 0.1
# The most products with the curvature for one step.
MOST_PRODUCTS = 500
# A step whose best length is below this share of its own was too long for the model.
TOO_LONG = 0.7
# If neither the loss falls nor the gradient halves in this many steps, only rounding is left.
MAX_STALLED = 3
# Where the gradient is below this share of the largest one so far, a minimum is near enough for a first
# search for gains that have a lower minimum elsewhere.
NEAR = 0.01
# Another minimum along one gain is worth a step if the loss there is lower by this share of the loss.
WORTH = 1e-6
# Products with the curvature in float32 are precise enough while gains are below this.
FLOAT32_GAINS = 2.0**20

# Places in the state of a minimiser. GOAL and LIMIT: the norm of the gradient to reach, and the most
# iterations. TRUST_RADIUS: the trust-region radius. ITERATIONS, PRODUCTS, PASSES, ESCAPES, STEPS: counts.
# STALLED_STEPS: steps without progress. NO_DECREASE: whether the last step left the loss where it was. LEAST,
# LARGEST_YET: extremes of the gradient's norm. VALUE, RESIDUAL: the loss and the gradient's norm at the last
# point. THRESHOLD: the norm at which it converges. SEARCHED, VALUE_AT_ESCAPE: whether it has searched for
# lower minima elsewhere, and the loss when gains last moved to some. PAUSED: whether it stopped before a
# step. CODE: how it ended.
(GOAL, LIMIT, TRUST_RADIUS, ITERATIONS, PRODUCTS, PASSES, ESCAPES, STALLED_STEPS, NO_DECREASE, LEAST,
 LARGEST_YET, VALUE, RESIDUAL, THRESHOLD, SEARCHED, VALUE_AT_ESCAPE, PAUSED, STEPS, CODE,
 STATE) = range(20)  # fmt: skip
GOING, CONVERGED, STAGNATED, EXHAUSTED, BREAKDOWN, NEEDS_FLOAT64 = range(6)


@inner
def start_state(state: Any, goal: float, limit: float) -> None:
    """Set the state before the first step: reach a gradient of norm `goal` in at most `limit` iterations."""
    state[:] = 0.0
    state[GOAL], state[LIMIT] = goal, limit
    state[TRUST_RADIUS], state[LEAST], state[VALUE_AT_ESCAPE] = np.inf, np.inf, np.inf


@inner(exactly=True)
def finite(value: float) -> bool:
    """As np.isfinite, which computes a difference that reassociation would take to be zero."""
    return abs(value) < np.inf


@inner
def check_convergence(state: Any, value: float, residual: float, rounding: float, coarse: bool) -> None:
    """Decide whether the minimiser ends at a point with this value and a gradient of norm `residual`.

    Sets CODE. `rounding` is the norm of a gradient that rounding explains. `coarse` says that products with
    the curvature are in float32, and that more digits are available.
    """
    state[THRESHOLD] = max(state[GOAL], rounding)
    state[STALLED_STEPS] = state[STALLED_STEPS] + state[NO_DECREASE] if residual > 0.5 * state[LEAST] else 0.0
    state[LEAST] = min(state[LEAST], residual)
    state[LARGEST_YET] = max(state[LARGEST_YET], residual)
    state[VALUE], state[RESIDUAL] = value, residual
    if not finite(value + residual):
        state[CODE] = BREAKDOWN
    elif residual <= state[THRESHOLD]:
        state[CODE] = CONVERGED
    elif state[ITERATIONS] >= state[LIMIT]:
        state[CODE] = EXHAUSTED
    elif state[STALLED_STEPS] == MAX_STALLED:
        state[CODE] = NEEDS_FLOAT64 if coarse else STAGNATED
    else:
        state[CODE] = GOING


@inner
def accuracy(state: Any) -> float:
    """The relative residual at which the next conjugate gradients end (Newton's forcing term)."""
    share = np.sqrt(state[RESIDUAL] / state[LARGEST_YET])
    return max(min(ACCURACY, share), 0.5 * state[THRESHOLD] / state[RESIDUAL])


@inner
def update_radius(state: Any, t: float, length: float) -> None:
    """Update the trust region after a step of norm `length`, of which the line search took t times."""
    if t < TOO_LONG:
        state[TRUST_RADIUS] = max(t, 0.25) * length
    else:
        state[TRUST_RADIUS] = max(
            2.0 * t * length, 0.0 if state[TRUST_RADIUS] == np.inf else state[TRUST_RADIUS]
        )


@inner
def should_search(state: Any) -> bool:
    """Whether to look for lower minima along single gains: when first near a minimum, or when at one."""
    # Since the last time the loss must have fallen as predicted; otherwise only rounding is left.
    if state[ITERATIONS] >= state[LIMIT] or not state[VALUE] < (1.0 - 0.5 * WORTH) * state[VALUE_AT_ESCAPE]:
        return False
    if state[CODE] == CONVERGED:
        return True
    near = state[CODE] == GOING and state[RESIDUAL] <= NEAR * state[LARGEST_YET]
    return near and state[SEARCHED] == 0.0


@inner
def escaped(state: Any, moved: int) -> None:
    """Update the state after a search in which `moved` gains moved; if any did, the minimiser starts anew."""
    state[SEARCHED] = 1.0
    if moved:
        state[ESCAPES] += moved
        state[ITERATIONS] += 1.0
        state[SEARCHED], state[VALUE_AT_ESCAPE] = 0.0, state[VALUE]
        state[CODE], state[TRUST_RADIUS], state[LEAST], state[STALLED_STEPS], state[NO_DECREASE] = (
            GOING,
            np.inf,
            np.inf,
            0.0,
            0.0,
        )


@inner
def least_drop(value: float, size: float) -> float:
    """By how much another minimum must be lower than the loss `value`.

    Errors of the covariance are differences of matrices whose norms add up to `size` at most.
    """
    lost = EPSILON * size
    return WORTH * value + 2.0 * lost * np.sqrt(value) + lost * lost


@inner(exactly=True)
def quartic_change(c1: float, c2: float, c3: float, c4: float, t: float) -> float:
    """The change of a quartic from 0 to t."""
    return (((c4 * t + c3) * t + c2) * t + c1) * t


@inner(exactly=True)
def quartic_slope(c1: float, c2: float, c3: float, c4: float, t: float) -> float:
    """The slope of a quartic at t."""
    return ((4.0 * c4 * t + 3.0 * c3) * t + 2.0 * c2) * t + c1


@inner(exactly=True)
def level(c1: float, c2: float, c3: float, c4: float, low: float, high: float) -> float:
    """The t where the slope, which rises from low to high, is zero.

    By Newton's method, with bisection where a step would leave the bracket.
    """
    t = 0.5 * (low + high)
    for _ in range(200):
        slope = quartic_slope(c1, c2, c3, c4, t)
        curvature = (12.0 * c4 * t + 6.0 * c3) * t + 2.0 * c2
        if slope < 0.0:
            low = t
        else:
            high = t
        last = t
        t = t - slope / curvature if curvature > 0.0 else high
        if not low < t < high:
            t = 0.5 * (low + high)
        if slope == 0.0:
            return last
        if abs(t - last) <= EPSILON * abs(t):
            return t
    return t


@inner(exactly=True)
def least_of_quartic(c1: float, c2: float, c3: float, c4: float, longest: float) -> float:
    """The t in (0, longest] at the lowest minimum of c1 t + c2 t^2 + c3 t^3 + c4 t^4; 0 if there is none."""
    # Between the points where the curvature is zero, the slope is monotonic.
    a, b, c = 12.0 * c4, 6.0 * c3, 2.0 * c2
    first, second, inside = np.inf, np.inf, b * b - 4.0 * a * c
    if inside >= 0.0:
        q = -0.5 * (b + np.copysign(np.sqrt(inside), b))
        if a != 0.0 and q / a > 0.0:
            first = q / a
        if q != 0.0 and c / q > 0.0:
            second = c / q
    best, least = 0.0, np.inf
    if longest < np.inf:
        best, least = longest, quartic_change(c1, c2, c3, c4, longest)
    low, last = 0.0, False
    for k in range(3):
        high = min(first, second) if k == 0 else max(first, second)
        if k == 2 or high == np.inf:
            last, high = True, 2.0 * low if low > 0.0 else 1.0
            while quartic_slope(c1, c2, c3, c4, high) < 0.0 and high < 1e300:
                high *= 4.0
        if quartic_slope(c1, c2, c3, c4, low) < 0.0 <= quartic_slope(c1, c2, c3, c4, high):
            t = level(c1, c2, c3, c4, low, high)
            if 0.0 < t <= longest and quartic_change(c1, c2, c3, c4, t) < least:
                best, least = t, quartic_change(c1, c2, c3, c4, t)
        if last:
            break
        low = high
    return best


@inner(exactly=True)
def least_either_way(c1: float, c2: float, c3: float, c4: float, lowest: float, highest: float) -> float:
    """The t in [lowest, highest], which contains 0, at which a quartic is least; 0 if it is nowhere lower."""
    best, least = 0.0, 0.0
    if highest > 0.0:
        t = least_of_quartic(c1, c2, c3, c4, highest)
        if quartic_change(c1, c2, c3, c4, t) < least:
            best, least = t, quartic_change(c1, c2, c3, c4, t)
    if lowest < 0.0:
        t = -least_of_quartic(-c1, c2, -c3, c4, -lowest)
        if quartic_change(c1, c2, c3, c4, t) < least:
            best = t
    return best


@inner(exactly=True)
def escape(c1: float, c2: float, c3: float, c4: float, lowest: float, highest: float, worth: float) -> float:
    """The step t to a lower minimum elsewhere along one gain; 0 where none is lower by more than `worth`.

    Where the gain is not yet at its nearest minimum, `worth` grows by twice what that minimum would save.
    """
    if not c4 > 0.0:
        return 0.0
    if c2 > 0.0:
        # The quartic is c1 t + t^2 (c2 + c3 t + c4 t^2), and the bracket is at least m.
        if (c1 > 0.0 and lowest < 0.0) or (c1 < 0.0 and highest > 0.0):
            worth += 0.5 * c1 * c1 / c2
        m = c2 - 0.25 * c3 * c3 / c4
        if m > 0.0 and c1 * c1 <= 4.0 * m * worth:
            return 0.0
    t = least_either_way(c1, c2, c3, c4, lowest, highest)
    return t if quartic_change(c1, c2, c3, c4, t) < -worth else 0.0


@inner
def lower_elsewhere(quartics: Any, gains: Any, lower: Any, upper: Any, worth: float, drops: Any) -> int:
    """Count the gains that, moved alone, have a lower minimum elsewhere; fills drops (n,).

    drops[i] is how much lower that minimum is, or 0. quartics (4, n) are the coefficients of t^1 to t^4 of
    the loss with gain i moved by t. Fixed gains (lower = upper) stay.
    """
    found = 0
    for i in range(len(gains)):
        c1, c2, c3, c4 = quartics[0, i], quartics[1, i], quartics[2, i], quartics[3, i]
        t = escape(c1, c2, c3, c4, lower[i] - gains[i], upper[i] - gains[i], worth)
        drops[i] = -quartic_change(c1, c2, c3, c4, t)
        found += t != 0.0
    return found


@inner
def sweep(
    X: Any, gains: Any, own: Any, pull: Any, lower: Any, upper: Any, drops: Any, share: float, mean: Any,
    error: Any, root: Any, means: Any, worth: float,
) -> int:  # fmt: skip
    """Move one gain after another to its lowest minimum, from the largest drop on; returns how many moved.

    X (k, D) are the rows of these gains (k,), and own and pull (k,) the curvature and slope of their ridge.
    mean (D,) and error (D, D), which is R E, are those at all N gains. `share` is 1 - 1 / N where the mean is
    removed, else 1. gains, pull, mean and error are updated, and drops become 0. Some 20D^2 flops a gain.
    """
    d, moved = X.shape[1], 0
    line, quadratic = np.empty((d, d)), np.empty((d, d))
    for _ in range(len(gains)):
        i = 0
        for k in range(len(gains)):
            if drops[k] > drops[i]:
                i = k
        if not drops[i] > 0.0:
            break
        drops[i] = 0.0
        for a in range(d):
            xa, ya = X[i, a], gains[i] * X[i, a] - mean[a]
            for b in range(d):
                line[a, b] = xa * (gains[i] * X[i, b] - mean[b]) + ya * X[i, b]
                quadratic[a, b] = share * xa * X[i, b]
        if len(means):
            image(line, root, means, line)
            image(quadratic, root, means, quadratic)
        c1, c2, c3, c4 = pull[i], 0.5 * own[i], 0.0, 0.0
        for a in range(d):
            for b in range(d):
                c1 += error[a, b] * line[a, b]
                c2 += 0.5 * line[a, b] ** 2 + error[a, b] * quadratic[a, b]
                c3 += line[a, b] * quadratic[a, b]
                c4 += 0.5 * quadratic[a, b] ** 2
        t = escape(c1, c2, c3, c4, lower[i] - gains[i], upper[i] - gains[i], worth)
        if t != 0.0:
            moved += 1
            gains[i] = min(max(gains[i] + t, lower[i]), upper[i])
            pull[i] += own[i] * t
            for a in range(d):
                mean[a] += (1.0 - share) * t * X[i, a]
                for b in range(d):
                    error[a, b] += t * (line[a, b] + t * quadratic[a, b])
    return moved


@inner
def begin(gradient: Any, diagonal: Any, numbers: Any, vectors: Any, slope: Any) -> None:
    """Start conjugate gradients: v = 0, r = g and p = -r / diagonal become the rows of vectors (3, n).

    r and p are zero where the diagonal is infinite.
    """
    v, r, p = vectors[0], vectors[1], vectors[2]
    slope[:] = 0.0
    largest, ry, rr = 0.0, 0.0, 0.0
    for i in range(len(r)):
        v[i] = 0.0
        r[i] = gradient[i] if diagonal[i] < np.inf else 0.0
        p[i] = -r[i] / diagonal[i]
        ry -= r[i] * p[i]
        largest = max(largest, abs(r[i]))
    if largest > 0.0:
        for i in range(len(r)):
            rr += (r[i] / largest) ** 2
    numbers[RY], numbers[VV], numbers[VP], numbers[PP] = ry, 0.0, 0.0, ry
    numbers[CG_RESIDUAL], numbers[LARGEST], numbers[CG_ITERATIONS] = np.sqrt(rr), largest, 0.0


@inner
def advance(Hp: Any, Gp: Any, diagonal: Any, numbers: Any, vectors: Any, slope: Any) -> bool:
    """One iteration of Steihaug-Toint conjugate gradients, given H p and G p; True if it is the last.

    A step goes to the edge of the trust region where it would leave the region, or where the curvature along
    p is not positive. If the region has no edge, the step becomes FIRST_LEAP times as long.
    """
    v, r, p = vectors[0], vectors[1], vectors[2]
    radius, ry, vv, vp, pp = numbers[CG_RADIUS], numbers[RY], numbers[VV], numbers[VP], numbers[PP]
    curvature = 0.0
    for i in range(len(p)):
        curvature += p[i] * Hp[i]
    alpha = ry / curvature if curvature > 0.0 else np.inf
    last = not vv + alpha * (2.0 * vp + alpha * pp) < radius * radius
    if last:
        edge = radius
        if radius == np.inf:
            edge = FIRST_LEAP * np.sqrt(vv) if vv > 0.0 else np.sqrt(pp)
        left = edge * edge - vv
        alpha = left / (vp + np.hypot(vp, np.sqrt(pp) * np.sqrt(left))) if left > 0.0 else 0.0
    slope += alpha * Gp
    ry, rr, before = 0.0, 0.0, ry
    for i in range(len(p)):
        v[i] += alpha * p[i]
        if diagonal[i] < np.inf:
            r[i] += alpha * Hp[i]
        rr += (r[i] / numbers[LARGEST]) ** 2
        ry += r[i] * (r[i] / diagonal[i])
    beta = ry / before
    for i in range(len(p)):
        p[i] = beta * p[i] - r[i] / diagonal[i]
    numbers[RY], numbers[VV] = ry, vv + alpha * (2.0 * vp + alpha * pp)
    numbers[VP], numbers[PP] = beta * (vp + alpha * pp), ry + beta * beta * pp
    numbers[CG_RESIDUAL] = np.sqrt(rr)
    numbers[CG_ITERATIONS] += 1.0
    return last or numbers[CG_RESIDUAL] <= numbers[CG_TOL]


@inner
def chunk_rows(n: Any, d: Any, itemsize: Any) -> int:
    """Rows that are multiplied by a matrix at once, as in `_compute.kernels`.

    This is a copy because Numba's cache does not notice an edited callee in another file.
    """
    return max(CHUNK_ROWS, min(CHUNK_BYTES // (itemsize * d), (n + CHUNKS - 1) // CHUNKS))


@inner
def image(M: Any, root: Any, means: Any, out: Any) -> None:
    """out = R M for M (d, d); out may be M itself. R, its root and its means (2, 2) are as in `Metric`."""
    d, weighted = len(M), len(root) > 0
    on, off = 0.0, 0.0
    for a in range(d):
        for b in range(d):
            m = M[a, b] * root[a, b] ** 2 if weighted else M[a, b]
            if a == b:
                on += m
            else:
                off += m
    taken_on, taken_off = means[0, 0] * on + means[0, 1] * off, means[1, 0] * on + means[1, 1] * off
    for a in range(d):
        for b in range(d):
            m = M[a, b] - (taken_on if a == b else taken_off)
            out[a, b] = m * root[a, b] if weighted else m


@Kernel
def spread(X, weights, center, mean, out):
    """The covariance of all X (n, D) at weights z. Fills mean (D,) and out (D, D).

    2nD^2 flops, two reads of X.
    """
    n, d = X.shape
    step = chunk_rows(n, d, X.itemsize)
    chunks = (n + step - 1) // step
    parts, sums = np.empty((chunks, d, d)), np.zeros((chunks, d))
    mean[:] = 0.0
    if center:
        for c in prange(chunks):
            for i in range(c * step, min((c + 1) * step, n)):
                for j in range(d):
                    sums[c, j] += weights[i] * X[i, j]
        for c in range(chunks):
            for j in range(d):
                mean[j] += sums[c, j] / n
    for c in prange(chunks):
        start, end = c * step, min((c + 1) * step, n)
        A = np.empty((end - start, d), X.dtype)
        for i in range(start, end):
            for j in range(d):
                A[i - start, j] = weights[i] * X[i, j] - mean[j]
        product = np.dot(A.T, A)
        for a in range(d):
            for b in range(d):
                parts[c, a, b] = product[a, b]
    out[:] = 0.0
    for c in range(chunks):
        for a in range(d):
            for b in range(d):
                out[a, b] += parts[c, a, b]


@Kernel.of(spread)
def evaluate(X, weights, center, target, root, means, mean, errors, rows):
    """The exact loss of all X (n, D) at weights z. Fills mean (D,), errors (3, D, D) and rows (5, n).

    errors[0] is E = C - S. Unless `means` is empty, errors[1] is R E and errors[2] is R^T R E. The rows are:

    - SLOPE, 2 x_i^T E y_i, the gradient, and SECOND, 2 x_i^T E x_i, both with R^T R E in place of E;
    - NORM, ||R g_i||^2, SKEW, <R g_i, R x_i x_i^T>, and SQUARE, ||R x_i x_i^T||^2, but all without R where
      `root` holds weights.

    4nD^2 flops, three reads of X.
    """
    error = errors[0]
    n, d = X.shape
    step = chunk_rows(n, d, X.itemsize)
    chunks = (n + step - 1) // step
    spread(X, weights, center, mean, error)
    for a in range(d):
        for b in range(d):
            error[a, b] -= target[a, b]
    counted, on_on, on_off, off_off = error, 0.0, 0.0, 0.0
    if len(means):
        image(error, root, means, errors[1])
        counted = errors[2]
        for a in range(d):
            for b in range(d):
                counted[a, b] = errors[1, a, b] * root[a, b] if len(root) else errors[1, a, b]
        if not len(root):
            on_on, on_off, off_off = means[0, 0], means[0, 1], means[1, 1]
    M = np.empty((d, d), X.dtype)
    for a in range(d):
        for b in range(d):
            M[a, b] = 2.0 * counted[a, b]
    for c in prange(chunks):
        start, end = c * step, min((c + 1) * step, n)
        A = np.dot(X[start:end], M)
        for i in range(start, end):
            slope, second, xx, xy, yy, sx, sy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for j in range(d):
                x = np.float64(X[i, j])
                y = weights[i] * x - mean[j]
                slope += A[i - start, j] * y
                second += A[i - start, j] * x
                xx += x * x
                xy += x * y
                yy += y * y
                sx += x
                sy += y
            rows[SLOPE, i], rows[SECOND, i] = slope, second
            # Sums of x_i x_i^T and x_i y_i^T off the diagonal; on it xx and xy.
            oxx, oxy = sx * sx - xx, sx * sy - xy
            norm, taken = (
                xx * yy + xy * xy,
                2.0 * (on_on * xy * xy + 2.0 * on_off * xy * oxy + off_off * oxy * oxy),
            )
            rows[NORM, i] = 0.0 if norm - taken <= CANCELLED * d * norm else 2.0 * (norm - taken)
            rows[SKEW, i] = 2.0 * (
                xx * xy - on_on * xx * xy - on_off * (xx * oxy + oxx * xy) - off_off * oxx * oxy
            )
            square, taken = xx * xx, on_on * xx * xx + 2.0 * on_off * xx * oxx + off_off * oxx * oxx
            rows[SQUARE, i] = 0.0 if square - taken <= CANCELLED * d * square else square - taken


@Kernel
def model_step(X, weights, mean, error, root, means, own, diagonal, numbers, vectors, slope):
    """Iterate `advance` from the state that `begin` left.

    H p = 2 [rowsum((X M) * Y) - X (E m)] + own * p, with M = G p = X^T diag(p) Y + its transpose and
    m = X^T p / n. Unless `means` is empty, M = R^T R G p, and slope sums R G p in place of G p. error E is
    zero where no mean is removed. own (n,) is the second-order diagonal plus the ridge. X (n, D) holds all
    channels. 4nD^2 flops and two reads of X per iteration.
    """
    n, d = X.shape
    step = chunk_rows(n, d, X.itemsize)
    chunks = (n + step - 1) // step
    p = vectors[2]
    parts = np.empty((chunks, d + 1, d))
    half, Gp, M = np.empty((d + 1, d)), np.empty((d, d)), np.empty((d, d), X.dtype)
    offset, Hp = np.empty(d), np.empty(n)
    while numbers[CG_ITERATIONS] < numbers[CG_MAX]:
        for c in prange(chunks):
            start, end = c * step, min((c + 1) * step, n)
            part, A = parts[c], np.empty((end - start, d), X.dtype)
            part[d, :] = 0.0
            for i in range(start, end):
                for j in range(d):
                    A[i - start, j] = p[i] * (weights[i] * X[i, j] - mean[j])
                    part[d, j] += p[i] * X[i, j]
            product = np.dot(X[start:end].T, A)
            for a in range(d):
                for b in range(d):
                    part[a, b] = product[a, b]
        half[:] = 0.0
        for c in range(chunks):
            for a in range(d + 1):
                for b in range(d):
                    half[a, b] += parts[c, a, b]
        for a in range(d):
            o = 0.0
            for b in range(d):
                Gp[a, b] = half[a, b] + half[b, a]
                o += error[a, b] * half[d, b]
            offset[a] = 2.0 / n * o
        if len(means):
            image(Gp, root, means, Gp)
        for a in range(d):
            for b in range(d):
                M[a, b] = 2.0 * Gp[a, b] * root[a, b] if len(root) else 2.0 * Gp[a, b]
        for c in prange(chunks):
            start, end = c * step, min((c + 1) * step, n)
            A = np.dot(X[start:end], M)
            for i in range(start, end):
                s = 0.0
                for j in range(d):
                    s += A[i - start, j] * (weights[i] * X[i, j] - mean[j]) - X[i, j] * offset[j]
                Hp[i] = s + own[i] * p[i]
        if advance(Hp, Gp, diagonal, numbers, vectors, slope):
            break


@inner
def dot(A: Any, B: Any) -> float:
    """The inner product of two vectors."""
    total = 0.0
    for i in range(len(A)):
        total += A[i] * B[i]
    return total


@inner
def norm_of(A: Any) -> float:
    """The norm of a vector whose squares may overflow."""
    largest, total = 0.0, 0.0
    for i in range(len(A)):
        largest = max(largest, abs(A[i]))
        if not abs(A[i]) < np.inf:  # also NaN, which has no maximum
            return np.inf
    if largest == 0.0:
        return 0.0
    for i in range(len(A)):
        total += (A[i] / largest) ** 2
    return largest * np.sqrt(total)


@inner
def inner_product(A: Any, B: Any) -> float:
    """The inner product of two square matrices."""
    total = 0.0
    for a in range(len(A)):
        for b in range(len(A)):
            total += A[a, b] * B[a, b]
    return total


@Kernel.of(model_step, spread, wide=[evaluate])
def descend(
    coarse, X, center, targets, root, means, own, lower, upper, share, gains, states, work, mean, errors, rows
):
    """Minimise the exact loss from gains (T, n), for each of targets (T, D, D), without weights of pairs.

    states (T, STATE) are as `start_state` or another call left them. The call returns when all targets have
    ended, or before the next step once it has done `work` flops. `coarse` is X in the precision of products
    with the curvature. own (n,) is the ridge. lower and upper (n,) bound only the escapes of single gains.
    mean, errors and rows are those of `evaluate`; a later call that goes on must get the same arrays.
    """
    n, d = X.shape
    metric, is_coarse, done = len(means) > 0, coarse.itemsize < X.itemsize, 0.0
    largest = 0.0
    for i in range(n):
        largest = max(largest, own[i])
    diagonal, pull, total, drops = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    numbers, vectors, slope = np.zeros(NUMBERS), np.empty((3, n)), np.empty((d, d))
    zeros, quadratic, offset, quartics = np.zeros((d, d)), np.empty((d, d)), np.empty(d), np.empty((4, n))
    for t in range(len(gains)):
        state, z, target = states[t], gains[t], targets[t]
        size = 2.0 * np.sqrt(inner_product(target, target))
        while state[CODE] == GOING:
            paused, before = state[PAUSED] > 0.0, state[VALUE]
            if not paused:
                evaluate(X, z, center, target, root, means, mean, errors, rows)
                state[PASSES] += 1.0
            counted = errors[1] if metric else errors[0]
            norm, length, widest, ridge = 0.0, 0.0, 0.0, 0.0
            for i in range(n):
                delta = z[i] - 1.0
                pull[i] = own[i] * delta
                ridge += pull[i] * delta
                total[i] = rows[SLOPE, i] + pull[i]
                norm += rows[NORM, i]
                length += z[i] * z[i]
                widest = max(widest, abs(z[i]))
            value = 0.5 * inner_product(counted, counted) + 0.5 * ridge
            sizes = size + np.sqrt(inner_product(errors[0], errors[0]))
            rounding = EPSILON * (sizes * np.sqrt(norm) + largest * np.sqrt(length))
            if not paused:
                if state[NO_DECREASE] < 0.0:  # a step was taken since the last point
                    state[NO_DECREASE] = 1.0 if before - value <= 10.0 * EPSILON * before else 0.0
                check_convergence(state, value, norm_of(total), rounding, is_coarse)
                if should_search(state):
                    for i in range(n):
                        quartics[0, i] = total[i]
                        quartics[1, i] = 0.5 * (rows[NORM, i] + share * rows[SECOND, i] + own[i])
                        quartics[2, i] = share * rows[SKEW, i]
                        quartics[3, i] = 0.5 * share * share * rows[SQUARE, i]
                    moved, worth = 0, least_drop(value, sizes)
                    if lower_elsewhere(quartics, z, lower, upper, worth, drops):
                        moved = sweep(
                            X, z, own, pull, lower, upper, drops, share, mean, counted, root, means, worth
                        )
                    escaped(state, moved)
                    if moved:
                        continue
                if state[CODE] != GOING:
                    break
                if done >= work:
                    state[PAUSED] = 1.0
                    return
            state[PAUSED] = 0.0
            if is_coarse and not widest < FLOAT32_GAINS:
                state[CODE] = NEEDS_FLOAT64
                break
            for i in range(n):
                diagonal[i] = rows[NORM, i] + own[i] + max(rows[SECOND, i], 0.0)
                if diagonal[i] <= 0.0:
                    diagonal[i] = 1.0
            begin(total, diagonal, numbers, vectors, slope)
            numbers[CG_RADIUS], numbers[CG_MAX] = state[TRUST_RADIUS], MOST_PRODUCTS
            numbers[CG_TOL] = accuracy(state) * numbers[CG_RESIDUAL]
            for i in range(n):
                pull[i] = own[i] + rows[SECOND, i]
            pulled = errors[2] if metric else errors[0]
            model_step(
                coarse,
                z,
                mean,
                pulled if center else zeros,
                root,
                means,
                pull,
                diagonal,
                numbers,
                vectors,
                slope,
            )
            v = vectors[0]
            spread(coarse, v, center, offset, quadratic)
            if metric:
                image(quadratic, root, means, quadratic)
            c2, c3, c4 = (
                inner_product(counted, quadratic),
                inner_product(slope, quadratic),
                inner_product(quadratic, quadratic),
            )
            c2 += 0.5 * inner_product(slope, slope)
            for i in range(n):
                c2 += 0.5 * own[i] * v[i] * v[i]
            if is_coarse and not finite(c2 + c3 + c4):  # beyond the range of float32
                state[CODE] = NEEDS_FLOAT64
                break
            longest = least_of_quartic(dot(total, v), c2, c3, 0.5 * c4, np.inf)
            for i in range(n):
                z[i] += longest * v[i]
            update_radius(state, longest, np.sqrt(numbers[VV]))
            state[PRODUCTS] += numbers[CG_ITERATIONS]
            state[ITERATIONS] += 1.0
            state[NO_DECREASE] = -1.0
            state[STEPS] += 1.0
            done += 4.0 * n * d * d * (numbers[CG_ITERATIONS] + 2.0)
