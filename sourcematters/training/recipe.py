"""The recipe of a fine-tuning: everything about it that changes its result, with units and ranges."""

from typing import Literal

from pydantic import Field, PositiveFloat, field_validator

from sourcematters.checked import Checked

LUNG = (-600.0, 1500.0)

REVISIONS = {"design": 2, "rendering": 2, "augmentation": 1, "training": 1, "scoring": 1}
"""What each step does now, told from what it did before: a part of every run's identity, so that nothing made by other
code is taken for the same. Raise one when its step gives other numbers (confounders and sources have their own);
tests/runs/test_revisions.py fails until that is done. Steps: `confounders.design`; `image_bank.render`;
`batches.augment`; the rest of a fine-tuning; `fine_tuning.score`."""


class Preprocessing(Checked):
    """How an image becomes the square that the network gets."""

    size: int = Field(512, ge=16, le=4096, description="px, side of the square image that the network gets")
    interpolation: Literal["nearest", "antialias"] = Field("nearest", description="Keras's, or Pillow's bilinear")
    crop: int = Field(0, ge=0, description="px, side of the square kept from the centre first; 0 keeps the whole image")
    window: tuple[float, PositiveFloat] = Field(LUNG, description="centre and width in HU; for CT only")

    @field_validator("crop")
    @classmethod
    def _crop_is_no_stamp(cls, crop: int) -> int:
        if 0 < crop < 16:
            raise ValueError("should be at least 16 px, or 0 for the whole image")
        return crop


class Training(Preprocessing):
    """One recipe, the paper's unless said otherwise (lung mass, X-ray).

    >>> Training(epochs=20).replaced(batch_size=16).batch_size
    16
    """

    epochs: int = Field(200, ge=1, description="at most so many")
    patience: int = Field(30, ge=1, description="epochs without a better validation loss before it stops")
    learning_rate: float = Field(1e-5, gt=0, lt=1, description="Adam's")
    batch_size: int = Field(32, ge=2, description="images; batch normalization needs two")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of the pooled features")
    bn_momentum: float = Field(0.01, ge=0, le=1, description="weight of the newest batch; 0 keeps the backbone's own")
    rotation: float = Field(10.0, ge=0, le=180, description="degrees at most, either way")
    shift: float = Field(0.1, ge=0, lt=1, description="share of the width at most, either way, per axis")
    zoom: float = Field(0.1, ge=0, lt=1, description="1 +- so much, per axis")
    precision: Literal["fp32", "tf32", "bf16", "auto"] = Field(
        "fp32", description="tf32: of recent GPUs; bf16 is autocast; auto: bf16 where the hardware has it, else fp32"
    )
    compiled: bool = Field(False, description="torch.compile fuses operations, which rounds otherwise")
