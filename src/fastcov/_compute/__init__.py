"""Tools for all computations: compiled kernels, BLAS, threads, progress. They know nothing of fits."""
