"""A whole study in one call: scores, tests, intervals and tables, for populations and groups of channels."""
