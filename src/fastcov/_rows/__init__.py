"""Where the rows of X come from: memory, a file, or the workers of a cluster, behind one interface."""
