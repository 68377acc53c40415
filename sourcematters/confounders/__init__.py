"""Confounders: what co-occurs with the positive class, and the design that makes it so.

All are known by name (`known`, `make`). To add one, write a class in a file of its own, here or anywhere, and import
it; with that it is in the taxonomy's figure, the galleries, the lists and the tests:

    import numpy as np
    from pydantic import Field

    from sourcematters.confounders import Artefact, register


    @register
    class ScaleBar(Artefact):
        \"\"\"A white bar along the left edge.\"\"\"

        name: str = "scale_bar"
        leaf: str = "annotation"
        title = "scale bar"
        practice = (
            "Dermatologists lay a ruler beside the lesions that worry them "
            "(Narla et al. 2018, Journal of Investigative Dermatology 138, 2108)."
        )

        width: int = Field(4, ge=1, description="px across the bar")
        share: float = Field(0.5, gt=0, le=1, description="length, as a share of the image's height")

        def draw(self, image, key):
            mask = np.zeros(image.shape, bool)
            mask[: round(self.share * len(image)), : self.width] = True
            return np.where(mask, 255, image).astype(image.dtype), mask

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
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
