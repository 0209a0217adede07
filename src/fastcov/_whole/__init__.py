"""A whole study in one call: scores, tests, intervals and tables, of populations and of groups of channels."""
