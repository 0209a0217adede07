"""The covariance model: X and its atoms, G and GᵀG, targets, ridge penalties, and pairs that count."""
