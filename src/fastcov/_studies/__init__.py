"""Studies of many fits that share work: ridge paths, cross-validation, permutation tests."""
