"""Names of channels and conditions, as pandas and xarray have them."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Labels:
    """Names of the rows and columns of responses, or None for those that have none."""

    channels: tuple[Any, ...] | None = None
    conditions: tuple[Any, ...] | None = None


UNLABELLED = Labels()
