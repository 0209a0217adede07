"""What an interval of a gain covers, in words that stand beside every interval."""

from __future__ import annotations

# A gain of higher resolution is determined by the data rather than by the ridge.
RESOLVED = 0.8
OF = {"cells": "cells", "conditions": "conditions", "both": "cells and conditions", "targets": "targets"}


def shrunken(by: str) -> str:
    """What an interval covers, and what it need not."""
    return (
        "An interval is that of the shrunken gain: of what this fit, with its ridge, gives for other "
        f"{OF[by]}. It need not hold the gain that a circuit has, least of all where the resolution is below "
        f"{RESOLVED:g}."
    )
