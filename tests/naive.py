"""The oracle: every quantity from its definition, in plain NumPy, with G formed.

Nothing is imported from fastcov and nothing is fast. `dtype=np.longdouble` gives a reference of
higher precision where the platform has one, for everything but the fits.
"""

import numpy as np


def responses(X, gains=None, center=True, dtype=np.float64):
    """X, and Y = J diag(z) X."""
    X = np.asarray(X).astype(dtype)
    z = np.ones(len(X), dtype) if gains is None else np.asarray(gains).astype(dtype)
    Y = z[:, np.newaxis] * X
    if center:
        Y = Y - Y.mean(axis=0)
    return X, Y


def covariance(X, gains=None, center=True, dtype=np.float64):
    """C = Xᵀ diag(z) J diag(z) X."""
    _, Y = responses(X, gains, center, dtype)
    return Y.T @ Y


def outer_atoms(X, Y):
    """The matrix with columns vec(x_i y_iᵀ + y_i x_iᵀ)."""
    return np.stack([(np.outer(x, y) + np.outer(y, x)).ravel() for x, y in zip(X, Y, strict=True)], axis=1)


def atoms(X, gains=None, center=True, dtype=np.float64):
    """G (D², N)."""
    return outer_atoms(*responses(X, gains, center, dtype))


def gram(X, gains=None, center=True, dtype=np.float64):
    """GᵀG (N, N)."""
    G = atoms(X, gains, center, dtype)
    return G.T @ G


def error(X, S, gains=None, center=True, dtype=np.float64):
    """e = vec(S − C)."""
    return (np.asarray(S).astype(dtype) - covariance(X, gains, center, dtype)).ravel()


def overlaps(X, S, gains=None, center=True, dtype=np.float64):
    """Gᵀe."""
    return atoms(X, gains, center, dtype).T @ error(X, S, gains, center, dtype)


def loss(X, S, gains, ridge=0.0, center=True, dtype=np.float64):
    """½‖C − S‖² + (λ/2)‖z − 1‖²."""
    e = error(X, S, gains, center, dtype)
    return (e @ e + ridge * np.sum((np.asarray(gains).astype(dtype) - 1) ** 2)) / 2


def loss_gradient(X, S, gains, ridge=0.0, center=True, dtype=np.float64):
    """∇L = −Gᵀe + λ(z − 1)."""
    return ridge * (np.asarray(gains).astype(dtype) - 1) - overlaps(X, S, gains, center, dtype)


def linear_fit(X, S, ridge, center=True):
    """δ of least ‖e₀ − Gδ‖² + λ‖δ‖², and of least norm for λ = 0."""
    G, e = atoms(X, None, center), error(X, S, None, center)
    if ridge == 0:
        return np.linalg.pinv(G, rcond=1e-6) @ e
    return np.linalg.solve(G.T @ G + ridge * np.eye(G.shape[1]), G.T @ e)


def solve(X, b, ridge, gains=None, center=True):
    """(GᵀG + λI)⁻¹ b for the rows b of `b`, and GᵀG's pseudoinverse times b for λ = 0."""
    G = atoms(X, gains, center)
    if ridge == 0:
        inverse = np.linalg.pinv(G, rcond=1e-6)
        return b @ inverse @ inverse.T
    return np.linalg.solve(G.T @ G + ridge * np.eye(G.shape[1]), b.T).T


def diagonal_fit(X, S, ridge, center=True):
    """δ_i = g_iᵀe₀ / (‖g_i‖² + λ), 0 where both are 0."""
    G, e = atoms(X, None, center), error(X, S, None, center)
    top, bottom = G.T @ e, np.sum(G**2, axis=0) + ridge
    return np.array([t / b if b > 0 else 0.0 for t, b in zip(top, bottom, strict=True)])


# --- curvature, the linearised loss, bounds


def hessian(X, S, gains, ridge=0.0, center=True, dtype=np.float64):
    """GᵀG + 2 J ∘ (X E Xᵀ) + λI: ∂²C/∂z_i∂z_j = J_ij (x_i x_jᵀ + x_j x_iᵀ), E = C − S."""
    X = np.asarray(X).astype(dtype)
    N, D = X.shape
    J = np.eye(N, dtype=dtype) - (np.ones((N, N), dtype) / N if center else 0)
    E = -error(X, S, gains, center, dtype).reshape(D, D)
    return gram(X, gains, center, dtype) + 2 * J * (X @ E @ X.T) + ridge * np.eye(N, dtype=dtype)


def linear_loss(X, S, gains, ridge=0.0, center=True, dtype=np.float64):
    """½‖Gδ − e₀‖² + (λ/2)‖δ‖², G and e₀ at gains of one."""
    delta = np.asarray(gains).astype(dtype) - 1
    left = atoms(X, None, center, dtype) @ delta - error(X, S, None, center, dtype)
    return (left @ left + ridge * delta @ delta) / 2


def linear_loss_gradient(X, S, gains, ridge=0.0, center=True, dtype=np.float64):
    """Gᵀ(Gδ − e₀) + λδ."""
    delta = np.asarray(gains).astype(dtype) - 1
    G = atoms(X, None, center, dtype)
    return G.T @ (G @ delta - error(X, S, None, center, dtype)) + ridge * delta


def projected(gradient, gains, lower, upper):
    """What is left of a gradient within bounds: nothing of what would take a gain at one beyond it."""
    left = np.where(gains <= lower, np.minimum(gradient, 0.0), gradient)
    left = np.where(gains >= upper, np.maximum(left, 0.0), left)
    return np.where(np.equal(lower, upper), 0.0, left)


# --- held-out conditions


def prediction_scores(C, S, at_one):
    """R², R² over gains of one, and the correlation above the diagonal."""
    left = np.sum((C - S) ** 2)
    above = np.triu_indices(len(S), 1)
    pearson = np.corrcoef(C[above], S[above])[0, 1] if len(above[0]) > 2 else np.nan
    return 1 - left / np.sum(S**2), 1 - left / np.sum((at_one - S) ** 2), pearson


def cross_validation(X, Y, ridges, folds, fit, *, relative=False, center=True):
    """(3, F, K): the scores on every fold at every ridge of gains fit(X_train, S_train, λ, center)."""
    table = np.empty((3, len(folds), len(ridges)))
    for f, (train, test) in enumerate(folds):
        A, B = X[:, train], X[:, test]
        scale = np.trace(covariance(A, None, center)) / np.trace(covariance(Y[:, train], None, center))
        top = np.linalg.norm(atoms(A, None, center), 2) ** 2 if relative else 1.0
        for k, ridge in enumerate(ridges):
            z = fit(A, scale * covariance(Y[:, train], None, center), ridge * top, center)
            S = scale * covariance(Y[:, test], None, center)
            table[:, f, k] = prediction_scores(covariance(B, z, center), S, covariance(B, None, center))
    return table


def correlations(C):
    """C_ij / √(C_ii C_jj), 0 where a variance is."""
    d = np.sqrt(np.diag(C))
    both = np.outer(d, d)
    return np.divide(C, both, out=np.zeros_like(C), where=both > 0)


def off_diagonal_mean(S, weights):
    """Of the pairs of a block that count."""
    off = weights * ~np.eye(len(S), dtype=bool)
    return np.sum(np.where(off > 0, S, 0) * off) / np.sum(off)


def unseen_pairs(P, S, train, test, weights=None):
    """One fold: entries of P and S that no fit saw, with weights, as rows p, s, w, ρ_p, ρ_s, (s − g)²."""
    W = np.ones_like(S) if weights is None else weights
    g = off_diagonal_mean(S[np.ix_(train, train)], W[np.ix_(train, train)])
    matrices = P, S, W, correlations(P), correlations(S), (S - g) ** 2
    diagonal = np.stack([np.diag(M)[test] for M in matrices])
    off = ~np.eye(len(test), dtype=bool)
    held_out = np.stack([M[np.ix_(test, test)][off] for M in matrices])
    cross = np.stack([M[np.ix_(train, test)].ravel() for M in matrices])
    return {name: rows[:, rows[2] > 0] for name, rows in
            {"diagonal": diagonal, "held-out": held_out, "cross": cross}.items()}  # fmt: skip


def weighted_correlation(folds, p, s):
    """Of rows p and s of all folds together, each less its weighted mean in its fold."""
    pp = ss = ps = 0.0
    for rows in folds:
        if rows.shape[1] == 0:
            continue
        a, b, w = rows[p] - np.average(rows[p], weights=rows[2]), rows[s], rows[2]
        b = b - np.average(b, weights=w)
        pp, ss, ps = pp + np.sum(w * a * a), ss + np.sum(w * b * b), ps + np.sum(w * a * b)
    if not ss > 1e-25:
        return np.nan
    return ps / np.sqrt(pp * ss) if pp > 1e-25 else 0.0


def scores(folds):
    """All scores of folds together; each is what `unseen_pairs` gives."""
    found = {}
    for prefix, block in (("", "held-out"), ("cross-", "cross")):
        own = [fold[block] for fold in folds]
        p, s, w, _, _, about = np.concatenate(own, axis=1)
        every = own if prefix else [*own, *(fold["diagonal"] for fold in folds)]
        ep, es, ew, *_ = np.concatenate(every, axis=1)
        with np.errstate(all="ignore"):
            found[prefix + "r2"] = 1 - np.sum(ew * (ep - es) ** 2) / np.sum(ew * es**2)
            found[prefix + "r2-off-diagonal"] = 1 - np.sum(w * (p - s) ** 2) / np.sum(w * about)
            found[prefix + "cosine"] = np.sum(ew * ep * es) / np.sqrt(np.sum(ew * ep**2) * np.sum(ew * es**2))
        found[prefix + "pearson"] = weighted_correlation(own, 0, 1)
        found[prefix + "rsa"] = weighted_correlation(own, 3, 4)
    p, s, w, *_ = np.concatenate([fold["diagonal"] for fold in folds], axis=1)
    with np.errstate(all="ignore"):
        found["r2-diagonal"] = 1 - np.sum(w * (p - s) ** 2) / np.sum(w * s**2)
    return found


def baselines(at_one, S, train, weights=None):
    """What each baseline predicts (D, D), from C(1) and the training block of S."""
    D, block = len(S), np.ix_(train, train)
    W = np.ones_like(S) if weights is None else weights
    C, own, known, eye = at_one[block], np.where(W > 0, S, 0)[block], W[block], np.eye(len(train))
    g = off_diagonal_mean(own, known)
    variance = np.average(np.diag(own), weights=np.diag(known))
    root = np.sqrt(known).ravel()
    terms = np.stack([C.ravel(), eye.ravel(), np.ones(C.size)], axis=1)
    a, beta, gamma = np.linalg.lstsq(root[:, np.newaxis] * terms, root * own.ravel(), rcond=None)[0]
    return {
        "one": at_one,
        "no-x": np.full((D, D), g) + (variance - g) * np.eye(D),
        "scaled": a * at_one + beta * np.eye(D) + gamma,
    }


def held_out_study(X, Y, ridges, folds, fit, *, S=None, relative=False, center=True, order=None):
    """Unseen pairs of each ridge and fold [k][f], of each baseline {name: [f]}, and the gains (F, K, N).

    Gains are fit(X_train, S_train, λ, center). `order` is that of the conditions of Y.
    """
    C_Y = S if Y is None else covariance(Y, None, center)
    C_Y = C_Y if order is None else C_Y[np.ix_(order, order)]
    at_one = covariance(X, None, center)
    table, beside, gains = [[] for _ in ridges], {"one": [], "no-x": [], "scaled": []}, []
    for train, test in folds:
        block = np.ix_(train, train)
        scale = np.trace(at_one[block]) / np.trace(C_Y[block]) if Y is not None else 1.0
        wanted = scale * C_Y
        top = np.linalg.norm(atoms(X[:, train], None, center), 2) ** 2 if relative else 1.0
        gains.append([fit(X[:, train], wanted[block], ridge * top, center) for ridge in ridges])
        for k, z in enumerate(gains[-1]):
            table[k].append(unseen_pairs(covariance(X, z, center), wanted, train, test))
        for name, P in baselines(at_one, wanted, train).items():
            beside[name].append(unseen_pairs(P, wanted, train, test))
    return table, beside, np.array(gains)


def jackknife_error(folds, score, times=1.0):
    """√((F − 1)/F Σ (s₋f − mean)²) of the score of all folds but one, for conditions held out `times`."""
    left = np.array([score(folds[:f] + folds[f + 1 :]) for f in range(len(folds))])
    return np.sqrt((len(left) - 1) / len(left) * np.sum((left - left.mean()) ** 2) * times)


def ridge_choices(table, name, ridges, times=1.0):
    """λ of the best pooled score, and the largest whose difference to it is within its standard error."""
    pooled = [scores(row)[name] for row in table]
    best = int(np.argmax(pooled))
    near = [ridges[best]]
    for k, row in enumerate(table):
        both = list(zip(table[best], row, strict=True))

        def apart(some):
            one, other = zip(*some, strict=True)
            return scores(list(one))[name] - scores(list(other))[name]

        if k != best and pooled[best] - pooled[k] <= jackknife_error(both, apart, times):
            near.append(ridges[k])
    return ridges[best], max(near)


def permutation_p(observed, null):
    """(1 + #{max over λ of a shuffle ≥ max over λ observed}) / (shuffles + 1)."""
    return (1 + sum(max(row) >= max(observed) for row in null)) / (len(null) + 1)


def nested_choice(X, Y, ridges, outer, inner, fit, name, **options):
    """Place of the best ridge of each outer fold's inner folds, and the score of outer folds at these."""
    table, _, _ = held_out_study(X, Y, ridges, outer, fit, **options)
    places = []
    for splits in inner:
        within, _, _ = held_out_study(X, Y, ridges, splits, fit, **options)
        places.append(int(np.argmax([scores(row)[name] for row in within])))
    return places, scores([table[k][f] for f, k in enumerate(places)])[name]


def benjamini_hochberg(p):
    """q_i: the least over p_j ≥ p_i of N p_j / #{p ≤ p_j}, at most one."""
    p = np.asarray(p)
    return np.array([min(1.0, min(len(p) * b / np.sum(p <= b) for b in p[p >= a])) for a in p])


# --- penalties of any form


def pooled_q(away):
    """q of each column, from its distances (K + 1, N) and those of the shuffles of all columns that move."""
    t = [column / np.sqrt(np.mean(column**2)) for column in away.T if column.any()]
    null = [value for column in t for value in column[1:]]
    p = np.ones(away.shape[1])
    p[away.any(axis=0)] = [
        (1 + sum(value >= column[0] * (1 - 1e-9) for value in null)) / (1 + len(null)) for column in t
    ]
    return benjamini_hochberg(p)


def penalty(ridge, N, dtype=np.float64):
    """P (N, N) of ½ δᵀPδ: λI, diag(λ_i), or ΓᵀΓ of a matrix with N columns."""
    ridge = np.asarray(ridge).astype(dtype)
    if ridge.ndim == 2:
        return ridge.T @ ridge
    return np.diag(np.broadcast_to(ridge, N))


def penalised_fit(X, S, P, center=True):
    """δ of least ½‖e₀ − Gδ‖² + ½ δᵀPδ."""
    return np.linalg.solve(gram(X, None, center) + P, overlaps(X, S, None, center))


def penalised_loss(X, S, gains, P, center=True, dtype=np.float64):
    """½‖C − S‖² + ½ δᵀPδ."""
    delta = np.asarray(gains).astype(dtype) - 1
    return loss(X, S, gains, 0.0, center, dtype) + delta @ P.astype(dtype) @ delta / 2


def penalised_gradient(X, S, gains, P, center=True, dtype=np.float64, *, linear=False):
    """−Gᵀe + Pδ, of the exact or the linearised loss."""
    slope = (linear_loss_gradient if linear else loss_gradient)(X, S, gains, 0.0, center, dtype)
    return slope + P.astype(dtype) @ (np.asarray(gains).astype(dtype) - 1)


# --- a linear fit taken apart


class Explained:
    """All that G = U Σ Vᵀ says of (GᵀG + λI)⁻¹ Gᵀe₀; singular values of less than `rcond` are zeros."""

    def __init__(self, X, S, ridge, center=True, rcond=1e-6):
        self.G, self.e = atoms(X, None, center), error(X, S, None, center)
        U, s, Vt = np.linalg.svd(self.G, full_matrices=False)
        K = int(np.sum(s > rcond * s[0])) if s[0] > 0 else 0
        self.U, self.s, self.V = U[:, :K], s[:K], Vt[:K]
        self.ridge, self.overlaps, self.norms = ridge, self.G.T @ self.e, np.sum(self.G**2, axis=0)
        self.spectrum, outside = self.s**2, np.eye(len(self.norms)) - self.V.T @ self.V
        below = self.spectrum + ridge
        # Where modes are as many as channels, there is nothing but rounding outside.
        rest, root = (1 / ridge, 1 / np.sqrt(ridge)) if ridge > 0 and len(outside) > K else (0.0, 0.0)
        self.filters = self.V.T / below @ self.V + rest * outside
        self.whitened_filters = self.V.T / np.sqrt(below) @ self.V + root * outside
        self.whitened_overlaps = self.V.T @ (self.s * (self.U.T @ self.e) / np.sqrt(below))
        self.amplitudes = self.U.T @ self.e
        self.coefficients = self.s * self.amplitudes / below
        self.delta = self.coefficients @ self.V
        self.shrinkage = self.spectrum / below
        reach = self.U @ self.amplitudes
        self.total, self.reachable = self.e @ self.e, reach @ reach
        self.unreachable = np.sum((self.e - reach) ** 2)
        self.left_by_ridge = np.sum((reach - self.G @ self.delta) ** 2)
        left = self.e - self.G @ self.delta
        self.linear_loss = (left @ left + ridge * self.delta @ self.delta) / 2
        self.loss = loss(X, S, 1 + self.delta, ridge, center)
        self.dof = np.sum(self.shrinkage)
        self.delta_shares = self.coefficients**2 / max(np.sum(self.coefficients**2), 1e-300)
        removed = self.amplitudes**2 * self.shrinkage
        self.loss_shares = removed / max(np.sum(removed), 1e-300)

    def corrected(self, S, X, center=True):
        """Shares of ‖e₀‖² of another target that the same fit corrects and leaves within reach, and its δ."""
        e = error(X, S, None, center)
        delta = self.filters @ (self.G.T @ e)
        left, beyond = np.sum((e - self.G @ delta) ** 2), np.sum((e - reach(X, e, center)) ** 2)
        return 1 - left / (e @ e), (left - beyond) / (e @ e), delta

    def others(self, i):
        """What each channel adds to δ_i: −(GᵀG)_ij δ_j / (‖g_i‖² + λ), nothing for j = i."""
        row = self.G[:, i] @ self.G
        row[i] = 0.0
        return -row * self.delta / (self.norms[i] + self.ridge)

    def coherences(self):
        """Cosines of all pairs of atoms, 0 of those that are zero."""
        sizes = np.sqrt(np.outer(self.norms, self.norms))
        return np.divide(self.G.T @ self.G, sizes, out=np.zeros_like(sizes), where=sizes > 0)


def reach(X, e, center=True, rcond=1e-10):
    """e (D²,) projected on the range of G: by the SVD of atoms of norm one, which knows no GᵀG."""
    G = atoms(X, None, center)[:, X.any(axis=1)]  # centred, dead channels have rounding for atoms
    if G.size == 0:
        return np.zeros_like(e)
    U, s, _ = np.linalg.svd(G / np.linalg.norm(G, axis=0), full_matrices=False)
    U = U[:, s > rcond * s[0]]
    return U @ (U.T @ e)


def overlaps_of(X, S):
    """Gᵀe₀, centred, for N and D for which G is too large: 2 x_iᵀ (S − C) x̃_i."""
    _, Y = responses(X)
    return 2 * np.sum((X @ (S - Y.T @ Y)) * Y, axis=1)


def gram_products(X, v):
    """GᵀG v, likewise: G v = Xᵀ diag(v) X̃ and its transpose."""
    _, Y = responses(X)
    M = (v[:, np.newaxis] * X).T @ Y
    return 2 * np.sum((X @ (M + M.T)) * Y, axis=1)


# --- quadratic forms with a matrix a unit


def quadratic_forms(x, A, mean=None, log_determinant=False, dtype=np.float64):
    """g_lz = (x_lz − μ_z)ᵀ A_z (x_lz − μ_z) [− log det A_z]."""
    x, A = np.asarray(x).astype(dtype), np.asarray(A).astype(dtype)
    g = np.empty(x.shape[:2], dtype)
    for sample in range(x.shape[0]):
        for z in range(x.shape[1]):
            b = x[sample, z] - (0 if mean is None else np.asarray(mean)[z])
            g[sample, z] = b @ A[z] @ b
            if log_determinant:
                g[sample, z] -= np.linalg.slogdet(A[z].astype(np.float64))[1]
    return g


def quadratic_form_gradients(x, A, weights, mean=None, log_determinant=False):
    """Gradients of Σ w_lz g_lz with respect to x, A and μ."""
    x, A, w = (np.asarray(a).astype(np.float64) for a in (x, A, weights))
    by_x, by_A = np.zeros_like(x), np.zeros_like(A)
    for z in range(x.shape[1]):
        for sample in range(x.shape[0]):
            b = x[sample, z] - (0 if mean is None else np.asarray(mean)[z])
            by_x[sample, z] = 2 * w[sample, z] * (A[z] @ b)
            by_A[z] += w[sample, z] * np.outer(b, b)
        if log_determinant:
            by_A[z] -= w[:, z].sum() * np.linalg.inv(A[z])
    return by_x, by_A, -by_x.sum(axis=0)


# --- penalties on the covariance of activations (n units, m samples)


def unit_covariance(A, center=True, dtype=np.float64):
    """C = Ã Ãᵀ/(m − 1) (n, n), and Ã: A less the mean of each unit, or A."""
    A = np.asarray(A).astype(dtype)
    if center:
        A = A - A.mean(axis=1, keepdims=True)
    return A @ A.T / (A.shape[1] - 1), A


def _mean(C):
    return C.mean(), np.ones_like(C) / C.size


def _mean_absolute(C, epsilon=0.0):
    root = np.hypot(C, epsilon)
    return root.mean(), np.divide(C, root, out=np.zeros_like(C), where=root > 0) / C.size


def _mean_squared(C):
    return np.mean(C**2), 2 * C / C.size


def _decov(C):
    off = C - np.diag(np.diag(C))
    return np.sum(off**2) / 2, off


def _vicreg(C):
    off = C - np.diag(np.diag(C))
    return np.sum(off**2) / len(C), 2 * off / len(C)


def _distance(C, target, coral=False):
    left, factor = C - np.asarray(target).astype(C.dtype), 1 / (4 * len(C) ** 2) if coral else 1
    return factor * np.sum(left**2), 2 * factor * left


# L and F = ∂L/∂C, as if the entries of C were free.
COVARIANCE_PENALTIES = {
    "mean_covariance": _mean,
    "mean_absolute_covariance": _mean_absolute,
    "mean_squared_covariance": _mean_squared,
    "decov": _decov,
    "vicreg_covariance": _vicreg,
    "covariance_distance": _distance,
}


def covariance_penalty(name, A, center=True, dtype=np.float64, **options):
    """L and ∂L/∂A: dL = ⟨F, dC⟩ with dC = (dA Ãᵀ + Ã dAᵀ)/(m − 1), so 2 F Ã/(m − 1), as F = Fᵀ."""
    C, centred = unit_covariance(A, center, dtype)
    value, F = COVARIANCE_PENALTIES[name](C, **options)
    return value, 2 * F @ centred / (centred.shape[1] - 1)


# --- nuisance terms, and pairs that count


def projection(D, nuisance=(), pairs=None):
    """R (D², D²): √w times, less what lies in the span of √w ∘ {I, 11ᵀ}. ½‖R e‖² is the loss."""
    root = np.sqrt(np.ones((D, D)) if pairs is None else np.asarray(pairs, np.float64)).ravel()
    matrices = {"diagonal": np.eye(D).ravel(), "constant": np.ones(D * D)}
    terms = (
        np.stack([root * matrices[name] for name in nuisance], axis=1) if nuisance else np.empty((D * D, 0))
    )
    U, s, _ = np.linalg.svd(terms, full_matrices=False)
    U = U[:, s > 1e-12 * s.max(initial=0.0)]
    return (np.eye(D * D) - U @ U.T) * root


def nuisance_terms(error, nuisance, pairs=None):
    """β and γ that leave least of S − C, by least squares of minimum norm, and what they leave, squared."""
    D = len(error)
    root = np.sqrt(np.ones((D, D)) if pairs is None else np.asarray(pairs, np.float64)).ravel()
    matrices = {"diagonal": np.eye(D).ravel(), "constant": np.ones(D * D)}
    A = np.stack([root * matrices[name] for name in nuisance], axis=1)
    found = np.linalg.lstsq(A, root * error.ravel(), rcond=None)[0]
    return found, np.sum((A @ found - root * error.ravel()) ** 2)


class Counted:
    """A fit's loss and linear system with R G and R e in place of G and e."""

    def __init__(self, X, S, ridge, center=True, nuisance=(), pairs=None):
        self.X, self.S, self.ridge, self.center = np.asarray(X, np.float64), np.asarray(S), ridge, center
        self.R = projection(len(S), nuisance, pairs)
        self.G = self.R @ atoms(self.X, None, center)
        self.e = self.R @ error(self.X, S, None, center)

    def linear(self):
        return np.linalg.solve(self.G.T @ self.G + self.ridge * np.eye(len(self.X)), self.G.T @ self.e)

    def diagonal(self):
        return self.G.T @ self.e / (np.sum(self.G**2, axis=0) + self.ridge)

    def loss(self, z):
        e = self.R @ error(self.X, self.S, z, self.center)
        return (e @ e + self.ridge * np.sum((z - 1) ** 2)) / 2

    def gradient(self, z):
        e = self.R.T @ self.R @ error(self.X, self.S, z, self.center)
        return self.ridge * (z - 1) - atoms(self.X, z, self.center).T @ e


# --- weights of similarities


def pair_design(X, atoms, center=True, pairs=None, dtype=np.float64):
    """The matrix A of pairs x channels, the pairs (a, b) of its rows, and the weights of their squares."""
    X = responses(X, None, center, dtype)[1]
    D = X.shape[1]
    v = 1.0 - np.eye(D) if pairs is None else np.asarray(pairs, dtype)
    a, b = np.triu_indices(D)
    A = (X[:, a] * X[:, b]).T if atoms == "product" else np.square(X[:, a] - X[:, b]).T
    counted = np.where(a == b, 0.5 * (atoms == "product"), 1.0) * v[a, b]
    there = counted > 0
    return A[there], (a[there], b[there]), counted[there]


def reweighted(X, S, ridge, atoms, center=True, pairs=None, offset=False, shrink_to=0.0, dtype=np.float64):
    """w and c that minimise ½ Σ v (A w + c − t)² + (λ/2)‖w − w₀‖², with the design matrix A."""
    A, (a, b), v = pair_design(X, atoms, center, pairs, dtype)
    t = np.asarray(S, dtype)[a, b]
    n = A.shape[1]
    A = np.hstack([A, np.ones((len(A), 1))]) if offset else A
    penalty = np.append(np.broadcast_to(np.asarray(ridge, dtype), n), np.zeros(int(offset)))
    anchor = np.append(np.full(n, shrink_to), np.zeros(int(offset)))
    found = np.linalg.solve(
        (A.T @ (v[:, np.newaxis] * A) + np.diag(penalty)).astype(np.float64),
        (A.T @ (v * t) + penalty * anchor).astype(np.float64),
    )
    return found[:n], found[n] if offset else 0.0


def rank_correlation(a, b):
    """Correlation of mean ranks, each from its definition."""
    ranks = [np.array([(np.sum(x < each) + 1 + np.sum(x <= each)) / 2 for each in x]) for x in (a, b)]
    return np.corrcoef(*ranks)[0, 1]


# --- gains that groups of channels share


def membership(labels):
    """The names in the order in which they first occur, and P (N, A) of zeros and ones."""
    labels = list(labels)
    names = list(dict.fromkeys(labels))
    P = np.zeros((len(labels), len(names)))
    for i, label in enumerate(labels):
        P[i, names.index(label)] = 1.0
    return names, P


def group_fit(X, S, labels, ridge, center=True):
    """g = 1 + (PᵀGᵀGP + Λ)⁻¹ PᵀGᵀe₀, with Λ = λI or diag(λ_a)."""
    _, P = membership(labels)
    G = atoms(X, None, center) @ P
    Q = np.diag(np.broadcast_to(np.asarray(ridge, float), P.shape[1]))
    return 1 + np.linalg.solve(G.T @ G + Q, G.T @ error(X, S, None, center))


def group_loss(X, S, labels, g, ridge=0.0, center=True, R=None):
    """½‖R(C(Pg) − S)‖² + (λ/2)‖g − 1‖², R the identity or as `projection` gives it."""
    _, P = membership(labels)
    e = error(X, S, P @ g, center)
    e = e if R is None else R @ e
    return (e @ e + np.sum(ridge * (g - 1) ** 2)) / 2


def group_gradient(X, S, labels, g, ridge=0.0, center=True, R=None):
    """The gradient of `group_loss` in g."""
    _, P = membership(labels)
    e = error(X, S, P @ g, center)
    e = e if R is None else R.T @ (R @ e)
    return ridge * (g - 1) - P.T @ (atoms(X, P @ g, center).T @ e)


def group_hessian(X, S, labels, g, ridge=0.0, center=True):
    """PᵀHP + λI, with H without a ridge."""
    _, P = membership(labels)
    return P.T @ hessian(X, S, P @ g, 0.0, center) @ P + ridge * np.eye(P.shape[1])


# --- one vector of gains for several targets


def mean_loss(X, stack, gains, ridge, center=True, terms=(), pairs=None):
    """(1/T) Σ_t min over β_t, γ_t of ½ Σ w (C + β_t I + γ_t 11ᵀ − S_t)² + (λ/2)‖z − 1‖²."""
    left = [np.sum(shared_residual(X, S, gains, center, terms, pairs) ** 2) for S in stack]
    return np.mean(left) / 2 + ridge / 2 * np.sum((gains - 1) ** 2)


def shared_residual(X, S, gains, center=True, terms=(), pairs=None, linear=False):
    """√w ∘ (C + βI + γ11ᵀ − S) at the β and γ that leave the least, C to first order with `linear`."""
    D = X.shape[1]
    C = covariance(X, gains, center).ravel()
    if linear:
        C = covariance(X, None, center).ravel() + atoms(X, None, center) @ (gains - 1)
    root = np.sqrt(np.ones(D * D) if pairs is None else pairs.ravel())
    left = root * (C - S.ravel())
    matrices = {"diagonal": np.eye(D), "constant": np.ones((D, D))}
    if terms:
        A = np.stack([root * matrices[name].ravel() for name in terms], axis=1)
        left = left - A @ np.linalg.lstsq(A, left, rcond=None)[0]
    return left


# --- importance of channels


def loss_with_gain_held(X, S, ridge, i, gain, center=True, nuisance=None, pairs=None):
    """The linear loss at its minimum where gain i is held, and those of all other channels are free.

    Nuisance matrices (r, D, D) are free, too. With λ = 0 the others are those of least norm.
    """
    N, D = np.shape(X)
    root = np.sqrt(np.ones(D * D) if pairs is None else np.ravel(pairs))
    G = root[:, np.newaxis] * atoms(X, None, center)
    e = root * error(X, S, None, center) - G[:, i] * (gain - 1)
    free = np.delete(G, i, axis=1)
    extra = np.zeros((D * D, 0)) if nuisance is None else root[:, None] * np.reshape(nuisance, (-1, D * D)).T
    below = np.hstack([np.sqrt(ridge) * np.eye(N - 1), np.zeros((N - 1, extra.shape[1]))])
    A, b = np.vstack([np.hstack([free, extra]), below]), np.concatenate([e, np.zeros(N - 1)])
    x = np.linalg.lstsq(A, b, rcond=1e-7 if ridge == 0 else None)[0]
    return (np.sum((A @ x - b) ** 2) + ridge * (gain - 1) ** 2) / 2
