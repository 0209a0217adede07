"""One fit, step by step: options, the start at gains of one, the four methods, certificates, the result."""
