"""Pretrained weights: where they come from, which input they expect, and the proof that they were loaded.

A published source is one file of this folder: `imagenet`, `radimagenet`, `random_weights`. Add
yours beside them, or import a module from anywhere that calls `register`.
"""

import importlib
import pkgutil

from sourcematters.sources.fitting import load_exactly
from sourcematters.sources.loading import differences, read_tensors
from sourcematters.sources.registry import Published, Weights, known, register, resolve
from sourcematters.sources.source import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    MATCHED,
    Source,
    create,
    feature_width,
    plain,
)

__all__ = [
    "HALF", "IMAGENET_MEAN", "IMAGENET_STD", "MATCHED", "Published", "Source", "Weights", "create", "differences",
    "feature_width", "known", "load_exactly", "plain", "read_tensors", "register", "resolve",
]  # fmt: skip

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
