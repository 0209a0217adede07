"""What every solver returns."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Solution:
    """δ for each right-hand side, how it was found, and what it took."""

    value: NDArray[np.float64]  # (T, N)
    status: str
    stats: dict[str, Any]
