"""Peers: what a user would take in place of fastcov, each at its best setting and to the same accuracy.

The settings are those that were fastest of what each library offers, at (148, 48) and (1004, 187) on two
cores; the comments say what was found. In the peers' favour, X, S and gains are converted outside the clock,
and all that can be compiled is compiled before. What depends on X alone, as G, belongs to the work: a user
begins from X. Values, gradients and Gram matrices are computed in the precision of X; fits, paths and spectra
in float64, without which no peer comes near the accuracy that fits have here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _covariances, _fits, _losses, _minima
from ._given import Given, Unavailable

PEERS: dict[str, dict[str, Callable[[Given], Callable[[], Any]]]] = {
    "covariance": _covariances.COVARIANCES,
    "gram": _covariances.GRAMS,
    "fit": _fits.FITS,
    "cholesky": _fits.FITS,
    "dual": _fits.FITS,
    "pcg": _fits.FITS,
    "ridge_path": _fits.PATHS,
    "explain": _fits.SPECTRA,
    "exact": _minima.FITS,
    "cross_validate": _minima.STUDIES,
    "loss": _losses.LOSSES,
    "losses": _losses.BATCHES,
    "loss_and_gradient": _losses.GRADIENTS,
}


def peers(
    operation: str, X: Any, S: Any, **given: Any
) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """What to compare an operation with, and what is left out.

    Parameters
    ----------
    operation : str
        As "gram"; one without peers has none.
    X : ndarray, shape (N, D)
        Responses, float32 or float64.
    S : ndarray, shape (D, D)
        Target covariance.
    **given
        What the operation needs of the fields of `Given`.

    Returns
    -------
    runs : dict
        By name, calls without arguments. They return gains (N,) for fits, (K, N) for paths, what
        fastcov returns for losses, gradients, covariances and Gram matrices, R² (folds, ridges) for
        cross-validation, and (spectrum, gains) for "explain".
    skipped : dict
        By name, why there is no such run, as "PyTorch is not installed: pip install torch".
    """
    asked = Given(X, S, **given)
    runs, skipped = {}, {}
    for name, make in PEERS.get(operation, {}).items():
        try:
            runs[name] = make(asked)
        except Unavailable as reason:
            skipped[name] = str(reason)
    return runs, skipped
