"""What a fit explains: modes of the covariance error, channels, and what no gains can reach."""
