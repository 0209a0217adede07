"""From a start to a fit: settings, the four methods, certificates, and what a fit says of itself."""
