"""Covariances of activations, units by samples: values and gradients of the network penalties."""
