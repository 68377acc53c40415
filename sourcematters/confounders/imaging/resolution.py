"""Resolution: pictures that were made smaller, or compressed, on their way."""

import io
from typing import Self

import numpy as np
from PIL import Image
from pydantic import Field

from sourcematters.confounders.confounder import Artefact, Drawn, Pixels, register
from sourcematters.errors import StudyError


@register
class Downsampled(Artefact):
    """Made smaller, each pixel the mean of those it covers, and brought back to its size (bilinear).

    CheXpert is also given at 390 x 320 px, and networks are fed 224; 256 lies between (Irvin et al. 2019, AAAI 33,
    590). Pillow resamples grey levels in whole numbers: alike on every machine.
    """

    name: str = "downsampled"
    leaf: str = "resolution"
    title = "low resolution"
    practice = (
        "Collections of radiographs are shared at 3000 px and at 320, and what a network sees depends on it "
        "(Sabottke and Spieler 2020, Radiology: Artificial Intelligence 2(1), e190015)."
    )

    side: int = Field(256, ge=1, description="px, the shorter side of what is kept")

    def stronger(self) -> Self | None:
        """Half the side."""
        return self.replaced(side=self.side // 2) if self.side > 1 else None

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Down and up; the mask is all True. Raises StudyError for an image that is no larger than `side`."""
        rows, columns = image.shape
        if self.side >= min(rows, columns):
            raise StudyError(
                f"downsampled: side={self.side} is no less than an image {columns} x {rows} px (width x height) has. "
                "Choose a smaller one."
            )
        small = round(columns * self.side / min(rows, columns)), round(rows * self.side / min(rows, columns))
        kept = Image.fromarray(image).resize(small, Image.Resampling.BOX)
        back = kept.resize((columns, rows), Image.Resampling.BILINEAR)
        return np.asarray(back).copy(), np.ones(image.shape, bool)


@register
class Jpeg(Artefact):
    """Compressed as JPEG and opened again, by Pillow's libjpeg-turbo.

    Quality 50 quantizes by the standard's own example tables (ITU-T T.81, Annex K), below which blocks show. Blocks
    are 8 px of the image as it is, so one of another size is not altered alike. Other versions of libjpeg may round
    otherwise.
    """

    name: str = "jpeg"
    leaf: str = "resolution"
    title = "JPEG"
    practice = (
        "Radiographs are shared as JPEG by some and without loss by others; MIMIC-CXR is, at quality 95 "
        "(Johnson et al. 2019, https://arxiv.org/abs/1901.07042)."
    )

    quality: int = Field(50, ge=1, le=100, description="libjpeg's scale; 100 is nearly without loss")

    def stronger(self) -> Self | None:
        """Half the quality."""
        return self.replaced(quality=self.quality // 2) if self.quality > 1 else None

    def draw(self, image: Pixels, key: int) -> Drawn:
        """Encode and decode; the mask is all True. Raises StudyError for more px along a side than JPEG can have."""
        file = io.BytesIO()
        try:
            Image.fromarray(image).save(file, "JPEG", quality=self.quality)
        except (OSError, ValueError) as error:
            rows, columns = image.shape
            raise StudyError(
                f"jpeg: an image {columns} x {rows} px (width x height) cannot be JPEG ({error}). Leave it out."
            ) from error
        return np.asarray(Image.open(file)).copy(), np.ones(image.shape, bool)
