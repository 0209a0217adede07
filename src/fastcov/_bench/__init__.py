"""What `fastcov bench` and the repository's `bench/` measure: the operations, and what they are compared with."""
