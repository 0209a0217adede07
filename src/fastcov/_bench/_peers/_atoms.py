"""G and e₀ formed in NumPy: the matrix that libraries for ridge regression are given."""

from __future__ import annotations

import numpy as np

from ._given import Array, Given

ROOT_TWO = np.sqrt(2.0)


def pairs(given: Given, copies: int = 2) -> int:
    """P = D(D+1)/2, the rows of G, where G fits as often as a library holds it."""
    N, D = given.X.shape
    P = D * (D + 1) // 2
    given.room("G and its copies", copies * 8 * P * N)
    return P


def system(X: Array, S: Array) -> tuple[Array, Array]:
    """G (P, N) and e₀ (P,) of pairs of conditions, those of two conditions times √2.

    The matrices are symmetric, so that half of them has all inner products: half the flops of all D²
    rows. Written by blocks of rows, without temporaries of the size of G.
    """
    N, D = X.shape
    centred = X - X.mean(axis=0)
    columns, shifted = np.ascontiguousarray(X.T), np.ascontiguousarray(centred.T)
    E = S - centred.T @ centred
    G, e = np.empty((D * (D + 1) // 2, N)), np.empty(D * (D + 1) // 2)
    first = 0
    for i in range(D):
        block, right = G[first : first + D - i], e[first : first + D - i]
        np.multiply(columns[i], shifted[i:], out=block)
        block += shifted[i] * columns[i:]
        right[:] = E[i, i:]
        block[1:] *= ROOT_TWO
        right[1:] *= ROOT_TWO
        first += D - i
    return G, e
