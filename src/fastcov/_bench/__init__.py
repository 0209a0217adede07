"""The operations that `fastcov bench` and `bench/` measure, and implementations to compare them with."""
