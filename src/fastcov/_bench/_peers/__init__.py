"""Peers: alternatives to fastcov from other libraries, each at its best setting and to the same accuracy.

The settings are the fastest that each library offers, at (148, 48) and (1004, 187) on two cores; comments
give the measurements. In the peers' favour, X, S and gains are converted outside the clock, and all that can
be compiled is compiled before. Work that depends on X alone, such as forming G, is timed, because a user
starts from X. Values, gradients and Gram matrices are computed in the precision of X; fits, paths and spectra
in float64, without which no peer comes near the accuracy of fastcov's fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._case import error_summary
from . import _formulas, _himalaya, _jax, _scikit_learn, _scipy, _torch
from ._given import PeerInput, Unavailable, writeable

Peers = dict[str, Callable[[PeerInput], Callable[[], Any]]]

_FITS: Peers = {
    "SciPy lsqr": _scipy.fit,
    "scikit-learn": _scikit_learn.fit,
    "himalaya": _himalaya.fit,
    "PyTorch": _torch.fit,
    "JAX": _jax.fit,
}
PEERS: dict[str, Peers] = {
    "covariance": {
        "NumPy cov": _scipy.covariance,
        "scikit-learn": _scikit_learn.covariance,
        "PyTorch": _torch.covariance,
        "JAX": _jax.covariance,
    },
    "gram": {"PyTorch": _torch.gram, "JAX": _jax.gram},
    "loss": {"PyTorch": _torch.loss, "JAX": _jax.loss},
    "losses": {"PyTorch": _torch.losses, "JAX": _jax.losses},
    "loss_and_gradient": {"PyTorch": _torch.loss_and_gradient, "JAX": _jax.loss_and_gradient},
    **dict.fromkeys(("fit", "cholesky", "dual", "pcg"), _FITS),
    "exact": {
        "L-BFGS-B, NumPy": _scipy.exact,
        "L-BFGS-B, PyTorch": _torch.exact,
        "L-BFGS-B, JAX": _jax.exact,
    },
    "ridge_path": {
        "SciPy eigh": _scipy.path,
        "scikit-learn": _scikit_learn.path,
        "himalaya": _himalaya.path,
    },
    "explain": {"SciPy svd": _scipy.spectrum},
    "cross_validate": {"L-BFGS-B, NumPy": _scipy.study},
    **{
        name: {"PyTorch": _torch.penalty(formula), "JAX": _jax.penalty(formula)}
        for name, formula in _formulas.PENALTIES.items()
    },
    "quadratic_forms": {
        "NumPy einsum, optimised": _scipy.quadratic_forms,
        "PyTorch": _torch.quadratic_forms,
        "JAX": _jax.quadratic_forms,
    },
    "quadratic_forms_and_gradients": {
        "PyTorch": _torch.quadratic_forms_and_gradients,
        "JAX": _jax.quadratic_forms_and_gradients,
    },
}


def peers(
    operation: str, X: Any, S: Any, **given: Any
) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Return the peers of an operation, and those that are left out.

    Parameters
    ----------
    operation : str
        The operation, such as "gram"; an operation without peers gives two empty dictionaries.
    X : ndarray, shape (N, D)
        Responses, float32 or float64.
    S : ndarray, shape (D, D)
        Target covariance.
    **given
        The fields of `PeerInput` that the operation needs.

    Returns
    -------
    runs : dict
        Calls without arguments, by name. They return gains (N,) for fits, gains (K, N) for paths, the same as
        fastcov for losses, gradients, covariances and Gram matrices, R² (folds, ridges) for cross-validation,
        (spectrum, gains) for "explain", (value, gradient) for penalties, and forms, alone or with gradients
        with respect to inputs and matrices, for quadratic forms.
    skipped : dict
        The reason why there is no such run, by name, such as "PyTorch is not installed: pip install torch".
    """
    asked = PeerInput(writeable(X), S, **given)
    runs, skipped = {}, {}
    for name, make in PEERS.get(operation, {}).items():
        try:
            runs[name] = make(asked)
        except Unavailable as reason:
            skipped[name] = str(reason)
        except Exception as error:  # one broken peer must not stop the measurement
            skipped[name] = f"it failed ({error_summary(error)})"
    return runs, skipped
