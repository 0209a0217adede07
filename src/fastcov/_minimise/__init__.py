"""The minimum of the exact loss: trust-region Newton steps, negative curvature, and other starts."""
