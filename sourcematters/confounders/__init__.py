"""Confounders: what co-occurs with the positive class, and the design that makes it so.

All are known by name (`known`, `make`). To add one, write a class in a file of its own, here or anywhere, and import
it; with that it is in the taxonomy's figure, the galleries, the lists and the tests. docs/add_confounder.md
has one of 20 lines.

Source: Juodelyte et al. 2024, Section 3 (https://arxiv.org/abs/2403.04484), and the authors' code.
"""

import importlib
import pkgutil

from sourcematters.confounders.attribute import Attribute, Gender
from sourcematters.confounders.confounder import (
    GREY,
    HOUNSFIELD,
    ORIGINAL,
    Alteration,
    Artefact,
    Confounder,
    Hounsfield,
    Pixels,
    apply,
    implemented,
    key_for,
    known,
    make,
    register,
)  # fmt: skip
from sourcematters.confounders.denoising import Denoising
from sourcematters.confounders.noise import Noise, NoiseHighVsLow
from sourcematters.confounders.tag import Tag

__all__ = [
    "GREY", "HOUNSFIELD", "ORIGINAL", "Alteration", "Artefact", "Attribute", "Confounder", "Denoising", "Gender",
    "Hounsfield", "Noise", "NoiseHighVsLow", "Pixels", "Tag", "apply", "implemented", "key_for", "known", "make",
    "register",
]  # fmt: skip

# Whatever else lies here registers itself by being imported.
for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
