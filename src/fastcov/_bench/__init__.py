"""What `fastcov bench` and `bench/` measure: the operations, and what they are compared with."""
