"""Explanations of a linear fit: modes of the covariance error, channels, and what no gains can reach."""
