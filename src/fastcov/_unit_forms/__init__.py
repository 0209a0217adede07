"""Quadratic forms of stacks of small matrices, one a unit, and batches of positive definite ones."""
