"""Randomness from a seed and an identity, never from call order.

Results do not depend on the number of workers, on the order of work, or on where a run was resumed.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def derive(seed: int, *identity: str | int | float) -> int:
    """A 63-bit integer that depends on `seed` and every part of `identity`, and on nothing else."""
    text = json.dumps([seed, *identity])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *identity: str | int | float) -> np.random.Generator:
    """A numpy generator of its own for one identity."""
    return np.random.default_rng(derive(seed, *identity))


def keys(seed: int, ids: Sequence[str], *purpose: str | int) -> NDArray[np.uint64]:
    """A key for each id, uint64 (N,), from which `stream` draws: made once where numbers are needed again and again."""
    return np.array([derive(seed, *purpose, str(i)) for i in ids], dtype=np.uint64)


def uniform(seed: int, ids: Sequence[str], *purpose: str | int) -> NDArray[np.float64]:
    """One number in [0, 1) for each id: a rank that an image keeps in whatever company it stands."""
    return keys(seed, ids, *purpose) / 2.0**63


def stream(keys: NDArray[np.uint64], start: int, count: int) -> NDArray[np.float64]:
    """Numbers `start` to `start + count` of each key's own sequence, in [0, 1): (N, count).

    The sequence is SplitMix64 seeded by the key, whose n-th number needs none of those before it (Steele, Lea and
    Flood, Fast splittable pseudorandom number generators, OOPSLA 2014).
    """
    z = keys[:, None] + np.arange(start + 1, start + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
