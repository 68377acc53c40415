"""Networks by name, of timm or torchvision: what they hold, which is their head, and what their weights were fed."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sourcematters.checked import nearest
from sourcematters.errors import StudyError
from sourcematters.sources.fitting import imagined
from sourcematters.sources.source import IMAGENET_MEAN, IMAGENET_STD, Channels

if TYPE_CHECKING:
    import torch

LIBRARIES = ("timm", "torchvision")
RELATIVES = 12  # of an architecture are tried


class Input(NamedTuple):
    """What published weights of an architecture were fed: px, and normalization of pixels scaled to 0..1."""

    size: int
    mean: Channels
    std: Channels
    where: str


@dataclass(frozen=True)
class Architecture:
    """A network of one library with its classifier; `size` in px matters to those of a fixed input size only."""

    name: str
    library: str
    size: int | None

    def made(self, outputs: int, channels: int = 3, *, auxiliary: bool = False) -> "torch.nn.Module":
        """The network, untrained. Raises what its library does for a size or number of channels that it cannot have."""
        if self.library == "timm":
            import timm

            fixed = getattr(timm.get_pretrained_cfg(self.name), "fixed_input_size", False)
            options: dict[str, Any] = {"img_size": self.size} if self.size and fixed else {}
            return timm.create_model(self.name, num_classes=outputs, in_chans=channels, **options)
        return _of_torchvision(self.name, outputs, channels, auxiliary, self.size)

    def shapes(self, outputs: int, channels: int = 3, *, auxiliary: bool = False) -> dict[str, tuple[int, ...]]:
        """Name to shape of its tensors."""
        state = _imagined(self, outputs, channels, auxiliary).state_dict()
        return {key: tuple(value.shape) for key, value in state.items()}

    @property
    def empty(self) -> "torch.nn.Module":
        """The network with two outputs, whose tensors have shapes and no values."""
        return _imagined(self, 2, 3, False)

    @property
    def head(self) -> str:
        """Name of the layer that makes the outputs: the last whose shape their number changes."""
        two, three = self.shapes(2), self.shapes(3)
        changed = [key for key in two if two[key] != three[key] and key.endswith(".weight")]
        if not changed:
            raise StudyError(f"{self.library}'s {self.name!r} has no classifier: choose another architecture.")
        return changed[-1].removesuffix(".weight")

    @property
    def input(self) -> Input:
        """What its published weights were fed; ImageNet's normalization and 224 px where nothing is known."""
        if self.library == "timm":
            import timm

            if cfg := timm.get_pretrained_cfg(self.name):
                mean, std = (tuple(cfg.mean), tuple(cfg.std))
                return Input(cfg.input_size[-1], mean, std, f"timm's of {self.name}")  # type: ignore[arg-type]
        else:
            with contextlib.suppress(ValueError, AttributeError, IndexError, TypeError):
                weights = _torchvision().get_model_weights(self.name)
                preset: Any = getattr(weights, "DEFAULT", None) or next(iter(weights))
                preset = preset.transforms()
                return Input(
                    preset.crop_size[0], tuple(preset.mean), tuple(preset.std), f"torchvision's of {self.name}"
                )
        return Input(224, IMAGENET_MEAN, IMAGENET_STD, "ImageNet's")


def named(name: str, library: str, size: int | None) -> list[Architecture]:
    """The architectures of that name, timm's first. Raises StudyError with the nearest name for one that is unknown."""
    chosen = LIBRARIES if library == "auto" else (library,)
    if found := [Architecture(name, each, size) for each in chosen if _has(each, name)]:
        return found
    known = [each for library in chosen for each in _names(library)]
    raise StudyError(
        f"model: {' and '.join(chosen)} {'have' if len(chosen) > 1 else 'has'} no architecture {name!r}."
        f"{nearest(name, known)} `timm.list_models()` and `torchvision.models.list_models()` list all of them."
    )


def relatives(architecture: Architecture) -> Iterator[Architecture]:
    """Networks of the same family, such as resnet34 and resnet50 of resnet18."""
    family = re.split(r"\d", architecture.name.split(".")[0])[0]
    for name in [each for each in _names(architecture.library) if re.fullmatch(rf"{family}\d+", each)][:RELATIVES]:
        if name != architecture.name:
            yield Architecture(name, architecture.library, architecture.size)


@lru_cache(maxsize=32)
def _imagined(architecture: Architecture, outputs: int, channels: int, auxiliary: bool) -> "torch.nn.Module":
    with imagined():
        return architecture.made(outputs, channels, auxiliary=auxiliary)


@cache
def _names(library: str) -> list[str]:
    if library == "timm":
        import timm

        return timm.list_models()
    return _torchvision().list_models(module=_torchvision())


def _torchvision() -> Any:
    import torchvision  # type: ignore[import-untyped]

    return torchvision.models


def _has(library: str, name: str) -> bool:
    if library == "timm":
        import timm

        return timm.is_model(name)
    return name in _names(library)


def _of_torchvision(name: str, outputs: int, channels: int, auxiliary: bool, size: int | None) -> "torch.nn.Module":
    import torch

    options: dict[str, Any] = {"num_classes": outputs}
    if name in ("inception_v3", "googlenet"):
        # Their authors' initialization takes a minute, and all of it is replaced.
        options |= {"aux_logits": auxiliary, "init_weights": False}
    if name.startswith("vit_") and size:
        options["image_size"] = size
    network = _torchvision().get_model(name, weights=None, **options)
    if channels != 3:
        owner, first = next(
            (owner, module) for owner, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)
        )
        like: Any = {
            key: getattr(first, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        }
        new = torch.nn.Conv2d(channels, first.out_channels, bias=first.bias is not None, **like)
        network.set_submodule(owner, new)
    return network
