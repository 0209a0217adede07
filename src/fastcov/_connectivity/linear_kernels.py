"""Compiled code of the linearised free model, in the eigenvectors of Γ, where λ comes in entry by entry.

All matrices are (D, D), and γ are the eigenvalues, ascending, of which the first z are zero. Ridges are
solved for side by side, so that nothing here needs threads: `size` is the length of a row.
"""

import numpy as np

from .._compute.jit import Kernel


@Kernel
def linear_system(inverse, values, n, ridge, scales, A):
    """inverse_ij = 1 / (ridge + 4 γ_i γ_j), or zero where that divides by zero, and the system for v.

    A (D - z, D - z) takes the lower triangle of the system, scaled to a diagonal of one, and scales
    (D - z,) what rows and columns were multiplied by. The diagonal may span many orders of magnitude. With
    an A of no rows there is no system. 8 D^2 flops.
    """
    d, least = len(values), 2.3e-308
    z = d - len(A)
    for i in range(d):
        row, a, s = inverse[i], 4.0 * values[i], 0.0
        for j in range(d):
            x = ridge + a * values[j]
            y = 1.0 / x if x > least else 0.0
            row[j] = y
            s += y * n[j] * n[j]
        if i >= z:
            scales[i - z] = 1.0 / np.sqrt(1.0 / values[i] + 2.0 * (s + row[i] * n[i] * n[i]))
    for i in range(len(A)):
        row, out, a = inverse[z + i, z:], A[i], 2.0 * n[z + i] * scales[i]
        for j in range(i):
            out[j] = row[j] * a * (n[z + j] * scales[j])
        out[i] = 1.0


@Kernel
def linear_mean(error, inverse, n, scales, factor, v):
    """v (D,) from the Cholesky factor, in the lower triangle, of A in `linear_system`. 5 D^2 flops."""
    d, r = len(n), len(factor)
    z = d - r
    for i in range(z):
        v[i] = 0.0
    x = v[z:]
    for i in range(r):
        row, e, s = inverse[z + i], error[z + i], 0.0
        for j in range(d):
            s += e[j] * row[j] * n[j]
        x[i] = s * scales[i]
    for i in range(r):
        row, s = factor[i], 0.0
        for j in range(i):
            s += row[j] * x[j]
        x[i] = (x[i] - s) / row[i]
    for k in range(r):
        i = r - 1 - k
        row = factor[i]
        s = x[i] / row[i]
        x[i] = s
        for j in range(i):
            x[j] -= s * row[j]
    for i in range(r):
        x[i] *= scales[i]


@Kernel
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


@Kernel
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
def linear_distance(C, error, values, found):
    """found[0] = ‖C - S‖² with S = γ + E₀, and found[1] = ‖C‖², from the lower triangle of C. 4 D^2 flops."""
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
    found[0] = left
    found[1] = size
