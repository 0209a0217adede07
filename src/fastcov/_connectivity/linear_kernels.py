"""Compiled code of the linearised free model, in the eigenvectors of Γ, where λ comes in entry by entry.

All matrices are (D, D), and γ are the eigenvalues, ascending, of which the first z are zero. Ridges are
solved for side by side, so that nothing here needs threads: `size` is the length of a row.
"""

import numpy as np

from .._compute.jit import Kernel, inner

# Relative residual of v, and the most steps to it. Random problems with eigenvalues over up to 14 orders of
# magnitude, and means that lie anywhere among them, took 18 steps at most.
MEAN_TOL, MOST_STEPS = 1e-15, 100
# Numbers between arrays at least. Compiled loops test whether arrays are near each other, and add in another
# order where they are; with less, a result would depend on where small arrays happen to lie.
APART = 64


@Kernel
def linear_divisors(inverse, values, n, ridge, sums):
    """inverse_ij = 1 / (ridge + 4 γ_i γ_j), or zero where that divides by zero; sums_i = Σ_j inverse_ij n_j².

    5 D^2 flops.
    """
    d, least = len(values), 2.3e-308
    for i in range(d):
        row, a, s = inverse[i], 4.0 * values[i], 0.0
        for j in range(d):
            x = ridge + a * values[j]
            y = 1.0 / x if x > least else 0.0
            row[j] = y
            s += y * n[j] * n[j]
        sums[i] = s


@inner
def linear_mean(error, inverse, values, n, sums, v, steps):
    """v (D,) by conjugate gradients, which is zero where γ is; steps[0] is their number.

    Of the system (1 / γ_i + 2 sums_i) v_i + 2 n_i Σ_j inverse_ij n_j v_j = Σ_j E₀_ij inverse_ij n_j, scaled
    to a diagonal of one. Its eigenvalues are then below 2, and few are far below 1. 2 D^2 flops a step.
    """
    d, z = len(n), 0
    while z < d and values[z] == 0.0:
        z += 1
    m = d - z
    room = np.zeros((7, max(m, APART)))
    scales, own, r, p, x, q, turned = room[0], room[1], room[2], room[3], room[4], room[5], room[6]
    square = 0.0
    for i in range(m):
        row, e, s = inverse[z + i], error[z + i], 0.0
        for j in range(d):
            s += e[j] * row[j] * n[j]
        g, c = 1.0 / values[z + i] + 2.0 * sums[z + i], n[z + i]
        scale = 1.0 / np.sqrt(g + 2.0 * row[z + i] * c * c)
        own[i] = g * scale * scale
        r[i] = s * scale
        p[i] = r[i]
        square += r[i] * r[i]
        scales[i] = scale
    first, k = square, 0
    while square > MEAN_TOL * MEAN_TOL * first and k < MOST_STEPS:
        k += 1
        for j in range(m):
            turned[j] = n[z + j] * scales[j] * p[j]
        curvature = 0.0
        for i in range(m):
            row, s = inverse[z + i, z:], 0.0
            for j in range(m):
                s += row[j] * turned[j]
            q[i] = own[i] * p[i] + 2.0 * n[z + i] * scales[i] * s
            curvature += p[i] * q[i]
        a, before, square = square / curvature, square, 0.0
        for i in range(m):
            x[i] += a * p[i]
            r[i] -= a * q[i]
            square += r[i] * r[i]
        a = square / before
        for i in range(m):
            p[i] = r[i] + a * p[i]
    for i in range(z):
        v[i] = 0.0
    for i in range(m):
        v[z + i] = x[i] * scales[i]
    steps[0] = k


@inner
def linear_omega(error, inverse, values, n, v, omega, Y, u):
    """Ω = 2 (E₀ - 2 n vᵀ - 2 v nᵀ) / (ridge + 4 γ_i γ_j), u = Ω n, and Y = √γ (I + Ω γ + u nᵀ).

    Y (D - z, D) has the rows of eigenvalues that are not zero. 12 D^2 flops.
    """
    d = len(n)
    z = d - len(Y)
    for i in range(d):
        e, row, out = error[i], inverse[i], omega[i]
        a, b, s = 2.0 * n[i], 2.0 * v[i], 0.0
        for j in range(d):
            w = 2.0 * (e[j] - a * v[j] - b * n[j]) * row[j]
            out[j] = w
            s += w * n[j]
        u[i] = s
        if i >= z:
            y, root = Y[i - z], np.sqrt(values[i])
            c = root * s
            for j in range(d):
                y[j] = root * out[j] * values[j] + c * n[j]
            y[i] += root


@inner
def linear_norms(error, omega, values, n, u, ridge, unit, found):
    """found[0] = ‖the gradient in W of the linearised loss‖² unit², found[1] = ‖W‖², by plugging Ω in.

    u is Ω n. 18 D^2 flops.
    """
    d = len(n)
    total, square = 0.0, 0.0
    for i in range(d):
        e, w, x, g = error[i], omega[i], n[i], values[i]
        a, b, c = 2.0 * g, g * u[i], 0.5 * ridge
        s, t, q = 0.0, 0.0, 0.0
        for j in range(d):
            left = e[j] - w[j] * (a * values[j] + c) - x * (values[j] * u[j]) - b * n[j]
            left *= unit
            s += values[j] * left * left
            t += left * n[j]
            q += values[j] * w[j] * w[j]
        total += g * (s + t * t)
        square += g * (q + u[i] * u[i])
    found[0] = total
    found[1] = square


@Kernel
def linear_solution(error, inverse, values, n, sums, ridge, unit, v, omega, Y, u, found):
    """v, Ω, Y and u, and the numbers of `linear_norms`; found[4] counts the steps to v.

    It calls the functions for these one after the other. 38 D^2 flops, and 2 D^2 a step.
    """
    linear_mean(error, inverse, values, n, sums, v, found[4:])
    linear_omega(error, inverse, values, n, v, omega, Y, u)
    linear_norms(error, omega, values, n, u, ridge, unit, found)


@Kernel
def linear_distance(C, error, values, found):
    """found[2] = ‖C - S‖² with S = γ + E₀, and found[3] = ‖C‖², from the lower triangle of C. 4 D^2 flops."""
    left, size = 0.0, 0.0
    for i in range(len(values)):
        row, e, s, q = C[i], error[i], 0.0, 0.0
        for j in range(i):
            x = row[j] - e[j]
            s += x * x
            q += row[j] * row[j]
        x = row[i] - values[i] - e[i]
        left += 2.0 * s + x * x
        size += 2.0 * q + row[i] * row[i]
    found[2] = left
    found[3] = size
