"""The free model: a whole connectivity in place of gains, as a problem over conditions."""
