"""The minimum of the exact loss: trust-region Newton steps, certificates, and losses along single gains."""
