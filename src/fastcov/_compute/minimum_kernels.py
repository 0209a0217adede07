"""The compiled work of a minimiser, for responses in memory of which a pass is short.

One call goes from gains to a minimum of the exact loss, for many targets one after another: in calls of 40 us
each, as larger problems are content with, Python's own share is as much again, and threads that fit side by
side wait for the interpreter's lock as long as they compute. What decides (`judge`, `least_of_quartic`,
`lengthen`, `sweep`) is also what the minimiser of large problems calls, between passes of its own.
"""

from typing import Any

import numpy as np
from numba import prange

from .jit import Kernel, inner
from .kernels import CHUNK_BYTES, CHUNK_ROWS, CHUNKS

EPSILON = 2.0**-52
# A step along negative curvature, before its exact length is found, beside the step so far.
LEAP = 10.0
# Of a plain squared norm, what rounding may leave where a metric takes all, for each condition.
LOST = 8.0 * 2.0**-52
# Places in the numbers that a step is made of, with y = r / diagonal and norms of v and p those of the
# diagonal: r.y, ||v||^2, v.p, ||p||^2, ||r|| / max |g|, max |g|, iterations; then what ends it: the radius,
# ||r|| / max |g| that is enough, iterations at most.
RY, VV, VP, PP, LEFT, LARGEST, COUNT, RADIUS, ENOUGH, MOST, NUMBERS = range(11)
# Rows that `evaluate` fills, beside those of the gradient.
SLOPE, SECOND, NORM, SKEW, SQUARE, ROWS = range(6)

# Conjugate gradients end at this share of the gradient, or its root: a model that is far from the minimum
# is not worth more, and the last steps converge faster than linearly.
ACCURACY = 0.1
# Products for one step at most.
MOST_PRODUCTS = 500
# Steps that end this far below their length were too long for the model.
TOO_LONG = 0.7
# The loss no longer falls, nor the gradient by half, in so many steps: rounding.
STALE = 3
# Of the largest gradient: near enough to a minimum for a first look whether a gain has a lower one elsewhere.
NEAR = 0.01
# Another minimum along one gain is worth a step if the loss there is lower by this share of it.
WORTH = 1e-6
# float32 serves while gains are below this.
FINE_GAINS = 2.0**20

# Where a minimiser stands: what it is to reach; the radius; counts; what it saw last, and at best; whether
# the loss stood still; the sizes that its thresholds are made of; and how it ended.
(GOAL, LIMIT, REACH, ITERATIONS, PRODUCTS, PASSES, ESCAPES, OLD, STILL, LEAST, LARGEST_YET, VALUE, RESIDUAL,
 LEVEL, LOOKED, FLOOR, PAUSED, STEPS, CODE, STATE) = range(20)  # fmt: skip
GOING, CONVERGED, STAGNATED, EXHAUSTED, BREAKDOWN, FINER = range(6)


@inner
def fresh(state: Any, goal: float, limit: float) -> None:
    """Before the first step: to a gradient of norm `goal`, in `limit` steps at most."""
    state[:] = 0.0
    state[GOAL], state[LIMIT] = goal, limit
    state[REACH], state[LEAST], state[FLOOR] = np.inf, np.inf, np.inf


@inner(exactly=True)
def finite(value: float) -> bool:
    """As np.isfinite, which is made of a difference that reassociation takes to be zero."""
    return abs(value) < np.inf


@inner
def judge(state: Any, value: float, residual: float, rounding: float, coarse: bool) -> None:
    """Whether a point of this value, and gradient of norm `residual`, is where it ends; sets CODE.

    `coarse`: whether products of more digits are to be had.
    """
    state[LEVEL] = max(state[GOAL], rounding)
    state[OLD] = state[OLD] + state[STILL] if residual > 0.5 * state[LEAST] else 0.0
    state[LEAST] = min(state[LEAST], residual)
    state[LARGEST_YET] = max(state[LARGEST_YET], residual)
    state[VALUE], state[RESIDUAL] = value, residual
    if not finite(value + residual):
        state[CODE] = BREAKDOWN
    elif residual <= state[LEVEL]:
        state[CODE] = CONVERGED
    elif state[ITERATIONS] >= state[LIMIT]:
        state[CODE] = EXHAUSTED
    elif state[OLD] == STALE:
        state[CODE] = FINER if coarse else STAGNATED
    else:
        state[CODE] = GOING


@inner
def accuracy(state: Any) -> float:
    """Share of the gradient at which the next conjugate gradients end."""
    share = np.sqrt(state[RESIDUAL] / state[LARGEST_YET])
    return max(min(ACCURACY, share), 0.5 * state[LEVEL] / state[RESIDUAL])


@inner
def lengthen(state: Any, t: float, length: float) -> None:
    """The trust region after a step of t times its length."""
    if t < TOO_LONG:
        state[REACH] = max(t, 0.25) * length
    else:
        state[REACH] = max(2.0 * t * length, 0.0 if state[REACH] == np.inf else state[REACH])


@inner
def looks(state: Any) -> bool:
    """Whether to look for lower minima along single gains: near to a minimum for the first time, or at it."""
    # Since the last time the loss has to have fallen as promised: what is left otherwise is rounding.
    if state[ITERATIONS] >= state[LIMIT] or not state[VALUE] < (1.0 - 0.5 * WORTH) * state[FLOOR]:
        return False
    if state[CODE] == CONVERGED:
        return True
    near = state[CODE] == GOING and state[RESIDUAL] <= NEAR * state[LARGEST_YET]
    return near and state[LOOKED] == 0.0


@inner
def escaped(state: Any, moved: int) -> None:
    """After a look: with gains that moved it begins anew."""
    state[LOOKED] = 1.0
    if moved:
        state[ESCAPES] += moved
        state[ITERATIONS] += 1.0
        state[LOOKED], state[FLOOR] = 0.0, state[VALUE]
        state[CODE], state[REACH], state[LEAST], state[OLD], state[STILL] = GOING, np.inf, np.inf, 0.0, 0.0


@inner
def worth_of(value: float, size: float) -> float:
    """What a lower minimum has to save; errors of the covariance are differences of what is of this size."""
    lost = EPSILON * size
    return WORTH * value + 2.0 * lost * np.sqrt(value) + lost * lost


@inner(exactly=True)
def rise(c1: float, c2: float, c3: float, c4: float, t: float) -> float:
    """What a quartic adds from 0 to t."""
    return (((c4 * t + c3) * t + c2) * t + c1) * t


@inner(exactly=True)
def steepness(c1: float, c2: float, c3: float, c4: float, t: float) -> float:
    """Its slope at t."""
    return ((4.0 * c4 * t + 3.0 * c3) * t + 2.0 * c2) * t + c1


@inner(exactly=True)
def level(c1: float, c2: float, c3: float, c4: float, low: float, high: float) -> float:
    """Where the slope, which rises from low to high, is zero: Newton's steps, halving where these leave."""
    t = 0.5 * (low + high)
    for _ in range(200):
        slope = steepness(c1, c2, c3, c4, t)
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
    """t in (0, longest] of the least minimum of c1 t + c2 t^2 + c3 t^3 + c4 t^4 there; 0 if there is none."""
    # Between the points where the curvature is zero, the slope rises or falls throughout.
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
        best, least = longest, rise(c1, c2, c3, c4, longest)
    low, last = 0.0, False
    for k in range(3):
        high = min(first, second) if k == 0 else max(first, second)
        if k == 2 or high == np.inf:
            last, high = True, 2.0 * low if low > 0.0 else 1.0
            while steepness(c1, c2, c3, c4, high) < 0.0 and high < 1e300:
                high *= 4.0
        if steepness(c1, c2, c3, c4, low) < 0.0 <= steepness(c1, c2, c3, c4, high):
            t = level(c1, c2, c3, c4, low, high)
            if 0.0 < t <= longest and rise(c1, c2, c3, c4, t) < least:
                best, least = t, rise(c1, c2, c3, c4, t)
        if last:
            break
        low = high
    return best


@inner(exactly=True)
def least_either_way(c1: float, c2: float, c3: float, c4: float, lowest: float, highest: float) -> float:
    """t in [lowest, highest], which holds 0, at which a quartic is least; 0 if it is lower nowhere."""
    best, least = 0.0, 0.0
    if highest > 0.0:
        t = least_of_quartic(c1, c2, c3, c4, highest)
        if rise(c1, c2, c3, c4, t) < least:
            best, least = t, rise(c1, c2, c3, c4, t)
    if lowest < 0.0:
        t = -least_of_quartic(-c1, c2, -c3, c4, -lowest)
        if rise(c1, c2, c3, c4, t) < least:
            best = t
    return best


@inner(exactly=True)
def escape(c1: float, c2: float, c3: float, c4: float, lowest: float, highest: float, worth: float) -> float:
    """t of a lower minimum elsewhere along a gain; 0 where there is none lower by more than `worth`.

    Where the gain is not yet at its nearest minimum, by more than twice what that is worth, too.
    """
    if not c4 > 0.0:
        return 0.0
    if c2 > 0.0:
        # c1 t + t^2 (c2 + c3 t + c4 t^2), and the bracket is at least m.
        if (c1 > 0.0 and lowest < 0.0) or (c1 < 0.0 and highest > 0.0):
            worth += 0.5 * c1 * c1 / c2
        m = c2 - 0.25 * c3 * c3 / c4
        if m > 0.0 and c1 * c1 <= 4.0 * m * worth:
            return 0.0
    t = least_either_way(c1, c2, c3, c4, lowest, highest)
    return t if rise(c1, c2, c3, c4, t) < -worth else 0.0


@inner
def lower_elsewhere(quartics: Any, gains: Any, lower: Any, upper: Any, worth: float, drops: Any) -> int:
    """How many gains have a lower minimum elsewhere, each alone; and by how much, or 0 (n,).

    quartics (4, n), coefficients of t^1 to t^4 of the loss at gain i + t. Fixed gains, lower = upper, stay.
    """
    found = 0
    for i in range(len(gains)):
        c1, c2, c3, c4 = quartics[0, i], quartics[1, i], quartics[2, i], quartics[3, i]
        t = escape(c1, c2, c3, c4, lower[i] - gains[i], upper[i] - gains[i], worth)
        drops[i] = -rise(c1, c2, c3, c4, t)
        found += t != 0.0
    return found


@inner
def sweep(
    X: Any, gains: Any, own: Any, pull: Any, lower: Any, upper: Any, drops: Any, share: float, mean: Any,
    error: Any, root: Any, means: Any, worth: float,
) -> int:  # fmt: skip
    """Move one gain after another to its lowest minimum, from the largest drop on; returns how many moved.

    X (k, D) are the rows of these gains (k,), own and pull (k,) the curvature and slope of their ridge, and
    mean (D,) and error (D, D), R E, those at all gains, of which `share` = 1 - 1 / N where there is a mean,
    else 1. All follow, and drops become 0. Some 20D^2 flops a gain.
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
    """v = 0, r = g, p = -r / diagonal, the rows of vectors (3, n); zero where the diagonal is infinite."""
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
    numbers[LEFT], numbers[LARGEST], numbers[COUNT] = np.sqrt(rr), largest, 0.0


@inner
def advance(Hp: Any, Gp: Any, diagonal: Any, numbers: Any, vectors: Any, slope: Any) -> bool:
    """One iteration of Steihaug and Toint, given H p and G p; True where it is the last.

    A step goes to the edge of the trust region where it would leave it, or where the curvature along p is
    not positive: if there is no edge, LEAP times as far as it came.
    """
    v, r, p = vectors[0], vectors[1], vectors[2]
    radius, ry, vv, vp, pp = numbers[RADIUS], numbers[RY], numbers[VV], numbers[VP], numbers[PP]
    curvature = 0.0
    for i in range(len(p)):
        curvature += p[i] * Hp[i]
    alpha = ry / curvature if curvature > 0.0 else np.inf
    last = not vv + alpha * (2.0 * vp + alpha * pp) < radius * radius
    if last:
        edge = radius
        if radius == np.inf:
            edge = LEAP * np.sqrt(vv) if vv > 0.0 else np.sqrt(pp)
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
    numbers[LEFT] = np.sqrt(rr)
    numbers[COUNT] += 1.0
    return last or numbers[LEFT] <= numbers[ENOUGH]


@inner
def chunk_rows(n: Any, d: Any, itemsize: Any) -> int:
    """Rows that meet a matrix at once, as in `_compute.kernels`; here, for the sake of Numba's cache."""
    return max(CHUNK_ROWS, min(CHUNK_BYTES // (itemsize * d), (n + CHUNKS - 1) // CHUNKS))


@inner
def image(M: Any, root: Any, means: Any, out: Any) -> None:
    """out = R M for M (d, d), which may be the same: see `Metric`. means (2, 2)."""
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
    """The covariance at weights z, of all X (n, D): fills mean (D,), out (D, D). 2nD^2 flops, two reads."""
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
    """The exact loss at weights z, of all X (n, D): fills mean (D,), errors (3, D, D) and rows (5, n).

    errors = E = C - S, and unless `means` is empty R E and R^T R E. rows = 2 x_i^T E y_i, the gradient;
    2 x_i^T E x_i, both of R^T R E; and of R g_i and R x_i x_i^T, unless `root` holds weights, the squared
    norm of the first, the inner product and the squared norm of the second. 4nD^2 flops, three reads of X.
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
            rows[NORM, i] = 0.0 if norm - taken <= LOST * d * norm else 2.0 * (norm - taken)
            rows[SKEW, i] = 2.0 * (
                xx * xy - on_on * xx * xy - on_off * (xx * oxy + oxx * xy) - off_off * oxx * oxy
            )
            square, taken = xx * xx, on_on * xx * xx + 2.0 * on_off * xx * oxx + off_off * oxx * oxx
            rows[SQUARE, i] = 0.0 if square - taken <= LOST * d * square else square - taken


@Kernel
def model_step(X, weights, mean, error, root, means, own, diagonal, numbers, vectors, slope):
    """Iterates `advance` from what `begin` left.

    H p = 2 [rowsum((X M) * Y) - X (E m)] + own * p with M = G p = X^T diag(p) Y + its transpose and
    m = X^T p / n; unless `means` is empty M = R^T R G p, and the slope is of R G p; E is zero where there
    is no mean; own (n,) is the second-order diagonal plus the ridge. X (n, D) is all that there is. 4nD^2
    flops and two reads of X each time.
    """
    n, d = X.shape
    step = chunk_rows(n, d, X.itemsize)
    chunks = (n + step - 1) // step
    p = vectors[2]
    parts = np.empty((chunks, d + 1, d))
    half, Gp, M = np.empty((d + 1, d)), np.empty((d, d)), np.empty((d, d), X.dtype)
    offset, Hp = np.empty(d), np.empty(n)
    while numbers[COUNT] < numbers[MOST]:
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
    """The norm of a vector, whose squares may be beyond the range."""
    largest, total = 0.0, 0.0
    for i in range(len(A)):
        largest = max(largest, abs(A[i]))
        if not abs(A[i]) < np.inf:  # NaN, which has no maximum
            return np.inf
    if largest == 0.0:
        return 0.0
    for i in range(len(A)):
        total += (A[i] / largest) ** 2
    return largest * np.sqrt(total)


@inner
def inner_product(A: Any, B: Any) -> float:
    """That of two matrices."""
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

    states (T, STATE) are as `fresh` or another call left them; it returns when all have ended, or after so
    many flops, `work`, before the next step. `coarse` is X in the precision of products with the curvature.
    own (n,) is the ridge; lower and upper (n,) bound escapes alone; mean, errors and rows, those of
    `evaluate`, are to be the same when it is called again.
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
                if state[STILL] < 0.0:  # a step was taken
                    state[STILL] = 1.0 if before - value <= 10.0 * EPSILON * before else 0.0
                judge(state, value, norm_of(total), rounding, is_coarse)
                if looks(state):
                    for i in range(n):
                        quartics[0, i] = total[i]
                        quartics[1, i] = 0.5 * (rows[NORM, i] + share * rows[SECOND, i] + own[i])
                        quartics[2, i] = share * rows[SKEW, i]
                        quartics[3, i] = 0.5 * share * share * rows[SQUARE, i]
                    moved, worth = 0, worth_of(value, sizes)
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
            if is_coarse and not widest < FINE_GAINS:
                state[CODE] = FINER
                break
            for i in range(n):
                diagonal[i] = rows[NORM, i] + own[i] + max(rows[SECOND, i], 0.0)
                if diagonal[i] <= 0.0:
                    diagonal[i] = 1.0
            begin(total, diagonal, numbers, vectors, slope)
            numbers[RADIUS], numbers[MOST] = state[REACH], MOST_PRODUCTS
            numbers[ENOUGH] = accuracy(state) * numbers[LEFT]
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
            if is_coarse and not finite(c2 + c3 + c4):  # beyond float32
                state[CODE] = FINER
                break
            longest = least_of_quartic(dot(total, v), c2, c3, 0.5 * c4, np.inf)
            for i in range(n):
                z[i] += longest * v[i]
            lengthen(state, longest, np.sqrt(numbers[VV]))
            state[PRODUCTS] += numbers[COUNT]
            state[ITERATIONS] += 1.0
            state[STILL] = -1.0
            state[STEPS] += 1.0
            done += 4.0 * n * d * d * (numbers[COUNT] + 2.0)
