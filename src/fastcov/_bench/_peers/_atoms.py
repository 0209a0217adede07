"""Form G and e₀ in NumPy, the input of libraries for ridge regression."""

from __future__ import annotations

import numpy as np

from ._given import Array, PeerInput

ROOT_TWO = np.sqrt(2.0)


def pairs(given: PeerInput, copies: int = 2) -> int:
    """Return P = D(D+1)/2, the rows of G; raise Unavailable if the library's copies of G do not fit."""
    N, D = given.X.shape
    P = D * (D + 1) // 2
    given.room("G and its copies", copies * 8 * P * N)
    return P


def system(X: Array, S: Array) -> tuple[Array, Array]:
    """Return G (P, N) and e₀ (P,) over pairs of conditions, with pairs of two different conditions times √2.

    The matrices are symmetric, so that half of each gives all inner products, with half the flops of all D²
    rows. G is written by blocks of rows, without temporaries of its size.
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
