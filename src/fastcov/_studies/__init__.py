"""Many fits that share work: paths of ridges, folds of held-out conditions, permutation tests."""
