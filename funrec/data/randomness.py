"""Draws that are a function of a seed and of what they are drawn for, and of nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def uniform(keys: NDArray[np.uint64], seed: int, site: str) -> NDArray[np.float64]:
    """Draw a number in [0, 1) for every key: SplitMix64 (Steele et al., OOPSLA 2014) of key and seed.

    Args:
        keys: What the draws are for: row numbers or hashes, `(rows,)`.
        seed: The seed.
        site: What the draw decides. Draws at different sites are independent.

    Returns:
        The draws, `(rows,)`. The same on every machine.
    """
    digest = hashlib.sha256(f"{seed}/{site}".encode()).digest()
    state = mix(keys.astype(np.uint64, copy=False) ^ np.uint64(int.from_bytes(digest[:8], "little")))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64's output for every state, `(rows,)`: a hash of whole numbers."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
