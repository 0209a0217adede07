"""Sources of the rows of X: memory, a file, or the workers of a cluster, behind one interface."""
