"""Randomness from a seed and an identity, never from call order.

The same image gets the same noise, rank and augmentation whichever process draws it, and in
whichever order: results do not depend on the number of workers or on where a run was resumed.
"""

import hashlib
import json

import numpy as np
from numpy.typing import NDArray


def derive(seed: int, *identity: str | int | float) -> int:
    """A 63-bit integer that depends on `seed` and every part of `identity`, and on nothing else."""
    text = json.dumps([seed, *identity])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *identity: str | int | float) -> np.random.Generator:
    """A numpy generator of its own for one identity."""
    return np.random.default_rng(derive(seed, *identity))


def uniform(seed: int, ids: list[str], *purpose: str | int) -> NDArray[np.float64]:
    """One number in [0, 1) for each id: a rank that an image keeps in whatever company it stands."""
    return np.array([derive(seed, *purpose, str(i)) / 2**63 for i in ids], dtype=float)
