"""Quadratic forms of stacks of small matrices, one per unit, and batches of positive-definite matrices."""
