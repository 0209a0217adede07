"""What benchmarks measured: the record of a run, and ratios of its rounds. `plot` draws it."""
