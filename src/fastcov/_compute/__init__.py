"""What everything computes with: compiled kernels, BLAS, threads, progress. It knows nothing of fits."""
