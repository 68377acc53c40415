"""What a person writes of a finished model, under the setting `model`."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, field_validator, model_validator

from sourcematters.checked import Checked

Numbers = tuple[float, ...]


class ModelChoice(Checked):
    """A finished model, as in `model: {path: best.ckpt, architecture: resnet50}` or `model: {path: model.onnx}`.

    What kind of file it is, its content tells. Only a checkpoint of tensors needs an architecture.
    """

    path: Path = Field(description="a checkpoint that holds its classifier, TorchScript (torch.jit.save), or ONNX")
    architecture: str = Field("", description="name in timm or torchvision.models; for a checkpoint of tensors")
    library: Literal["auto", "timm", "torchvision"] = Field(
        "auto", description="whose network it is; auto: the one that fits the checkpoint's names, timm first"
    )
    output: int | None = Field(None, ge=0, description="index of label 1; needed where there are more than two outputs")
    negative_output: int | None = Field(
        None, ge=0, description="index of label 0: the log-odds are then the difference of the two logits"
    )
    kind_of_output: Literal["auto", "logits", "probabilities"] = Field(
        "auto", description="auto: as the graph ends, else as the values lie; what was found is said"
    )
    size: int | None = Field(None, ge=16, le=4096, description="px, side of its input; none: the file's, or published")
    interpolation: Literal["nearest", "antialias"] | None = Field(None, description="none: as the study resizes")
    mean: Numbers | None = Field(
        None, description="of pixels scaled to 0..1, one number or three; 0 and std 1/255 = 0.00392157 give 0..255"
    )
    std: tuple[PositiveFloat, ...] | None = Field(
        None,
        description="likewise; mean 0, std 1 give 0..1; 0.5 and 0.5 give -1..1; none: as published",
    )
    inverted: bool = Field(False, description="whether it was trained on images with black bones")
    channels: Literal["auto", 1, 3] = Field("auto", description="of its input; grey is repeated; auto: the file's")
    rename: dict[str, str] = Field({}, description='beginnings of names, as in {"encoder.": "", "out.": "fc."}')
    unpickle: bool = Field(
        False,
        description="load a pickled network or checkpoint; this runs whatever code the file holds, with all your "
        "rights: only for files of people you trust",
    )

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _one_number_is_a_list(cls, value: Any) -> Any:
        return value if value is None or isinstance(value, (list, tuple)) else (value,)

    @field_validator("channels", mode="before")
    @classmethod
    def _channels_are_counted(cls, value: Any) -> Any:
        return int(value) if value in ("1", "3") else value  # settings come as text

    @field_validator("mean", "std")
    @classmethod
    def _one_or_three(cls, value: Numbers | None) -> Numbers | None:
        if value is not None and len(value) not in (1, 3):
            raise ValueError("one number, or three (red, green, blue)")
        if value is not None and max(map(abs, value)) > 2:
            divided = [round(number / 255, 4) for number in value]
            raise ValueError(f"these look like numbers for pixels of 0..255: divide by 255, which gives {divided}")
        return value

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("give mean and std, or neither of them.")
        if self.negative_output is not None and self.output is None:
            raise ValueError("negative_output is the index of label 0; give output, that of label 1, as well.")
        if self.negative_output is not None and self.negative_output == self.output:
            raise ValueError("output and negative_output are the same.")
        if self.library != "auto" and not self.architecture:
            raise ValueError("library says whose the architecture is; give `architecture`.")
        return self
