"""Peers of the exact loss, for one vector of gains or many, and of its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._given import Given

LOSSES: dict[str, Callable[[Given], Callable[[], Any]]] = {}
BATCHES: dict[str, Callable[[Given], Callable[[], Any]]] = {}
GRADIENTS: dict[str, Callable[[Given], Callable[[], Any]]] = {}
