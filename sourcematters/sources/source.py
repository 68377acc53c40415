"""What a source is: one pretraining of one backbone, and the normalization that belongs to it."""

import contextlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sourcematters.errors import StudyError
from sourcematters.sources.fitting import load_exactly
from sourcematters.sources.loading import read_tensors, reason

if TYPE_CHECKING:
    import torch

Channels = tuple[float, float, float]

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)
HALF: Channels = (0.5, 0.5, 0.5)  # as mean and as std: pixels scaled to [-1, 1]
MATCHED = "+matched"
NARROWEST, WIDEST = 0.05, 1000.0  # from black to white, normalized; published: 1 (RadImageNet's Keras) to 255 (Caffe)
USUAL_SIZES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 320, 384, 448, 512)  # px, tried where another does not fit


@dataclass(frozen=True)
class Source:
    """One pretraining of one backbone. Processes pickle it by its class, and need no registry.

    `identity` changes when the weights do: a timm tag, a hub file, the SHA-256 of a local file. `mean` and `std` are
    per channel of the network, for pixels scaled to 0..1, and applied inside it (`training.classifier`). `location`
    (the file on this machine, if any), `caution` (what every figure must say of these weights) and `rename` (beginnings
    of the file's keys, and what stands for them: `identity` holds it) are not compared. A subclass names its kind, and
    changes how the weights are fetched or loaded.
    """

    kind: ClassVar[str] = ""
    revision: ClassVar[int] = 1  # raise it when the same weights are loaded to another effect

    name: str
    identity: str
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    location: str = field(default="", compare=False)
    caution: str = field(default="", compare=False)
    rename: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Raise StudyError for a normalization that cannot be one for pixels scaled to 0..1."""
        spans = [((0 - mean) / std, (1 - mean) / std) for mean, std in zip(self.mean, self.std, strict=True)]
        low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        widths = [1 / std for std in self.std]
        if not all(-1 <= mean <= 2 for mean in self.mean) or min(widths) < NARROWEST or max(widths) > WIDEST:
            hint = "Give them for pixels scaled to 0..1."
            if max(*self.mean, *self.std) > 2:
                mean, std = ([round(value / 255, 4) for value in values] for values in (self.mean, self.std))
                hint = f"These look like numbers for pixels of 0..255: divide by 255, mean {mean} and std {std}."
            raise StudyError(
                f"source {self.name!r}: behind mean {list(self.mean)} and std {list(self.std)}, which are for pixels "
                f"scaled to 0..1, black to white would span {low:.4g} to {high:.4g} in the network. {hint}"
            )

    @property
    def at_hand(self) -> bool:
        """Whether nothing has to be downloaded or trained before it can be loaded, as far as files tell."""
        return Path(self.location).is_file()

    @property
    def card(self) -> dict[str, Any]:
        """What more a table of sources has to say of it, once it is at hand: a value for each column."""
        return {}

    def fetch(self, backbone: str) -> None:
        """Bring the weights onto this machine, once, before workers need them; StudyError with a recipe if it fails."""
        self.file()

    def file(self) -> str:
        """The weights' file on this machine, downloaded if need be."""
        return self.location

    def load(self, backbone: str, *, size: int) -> "torch.nn.Module":
        """The timm backbone without classifier, (B, 3, size, size) -> (B, features), carrying the source's weights.

        Raises StudyError naming the keys when the file is not exactly this backbone's.
        """
        return self.loaded(backbone, size=size)[0]

    def loaded(self, backbone: str, *, size: int | None) -> tuple["torch.nn.Module", str]:
        """The same network, and what was done to the file's tensors to make them fit, in words."""
        path = self.file()
        state = read_tensors(path)
        model = create(backbone, size=size)
        return model, load_exactly(model, state, backbone, origin=path, rename=dict(self.rename))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: all that the identity of a run depends on."""
        return {name: getattr(self, name) for name in ("name", "kind", "identity", "mean", "std", "revision")}


def plain(name: str) -> str:
    """A source's name without `+matched`."""
    return name.removesuffix(MATCHED)


def timm_config(backbone: str) -> Any:
    """What timm knows of a backbone's pretrained weights; None for nothing. Raises StudyError if timm lacks it."""
    import timm

    if not timm.is_model(backbone):
        raise StudyError(f"timm has no backbone {backbone!r}. `timm.list_models()` lists them.")
    return timm.get_pretrained_cfg(backbone)


def create(backbone: str, *, size: int | None, **options: Any) -> "torch.nn.Module":
    """A timm backbone with pooled features and no classifier, untrained unless `options` of `timm.create_model` differ.

    `size` in px matters to backbones of a fixed input size only. Raises StudyError if timm lacks it.
    """
    import timm

    cfg = timm_config(backbone)
    if size and cfg is not None and cfg.fixed_input_size:
        options["img_size"] = size
    return timm.create_model(backbone, num_classes=0, **options)


@lru_cache(maxsize=64)
def feature_width(backbone: str, size: int) -> int:
    """How many pooled features a backbone makes of each image of `size` px; torch's random state stays as it is.

    timm's `num_features` is another number where a layer follows the pooling. Raises StudyError if timm lacks the
    backbone, or when it does not turn images (B, 3, size, size) into features (B, width): too small, a fixed size.
    """
    try:
        try:
            shape = _feature_shape(backbone, size, "meta")
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            shape = _feature_shape(backbone, size, "cpu")  # a few networks look at values, which "meta" has none of
    except StudyError:
        raise
    except Exception as error:  # whatever a network of timm's raises for a size that it was not made for
        raise StudyError(
            f"backbone {backbone!r} cannot take images of {size} px ({reason(error)}). {_sizes_that_work(backbone)}"
        ) from error
    if len(shape) != 2 or shape[0] != 2:
        raise StudyError(
            f"backbone {backbone!r} turns 2 images into {shape}, not into 2 rows of pooled features. Choose another."
        )
    return shape[1]


def _feature_shape(backbone: str, size: int, device: str) -> tuple[int, ...]:
    import torch

    # On the meta device tensors have shapes and no content: nothing is computed.
    with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
        return tuple(create(backbone, size=size).eval()(torch.zeros(2, 3, size, size)).shape)


def _sizes_that_work(backbone: str) -> str:
    """Which of `USUAL_SIZES` and the size of its published weights a backbone takes, in words."""
    config, fit = timm_config(backbone), []
    for size in sorted({*USUAL_SIZES, *(config.input_size[1:] if config else ())}):
        with contextlib.suppress(Exception):
            _feature_shape(backbone, size, "meta")
            fit.append(str(size))
    return f"Sizes that it takes: {', '.join(fit)}." if fit else "It takes none of the usual sizes: choose another."
