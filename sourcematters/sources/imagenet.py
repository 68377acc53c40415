"""ImageNet: timm's weights, by default those of torchvision; the normalization is the one that timm names."""

from pathlib import Path
from typing import TYPE_CHECKING

from sourcematters.errors import StudyError
from sourcematters.sources.loading import as_downloaded
from sourcematters.sources.registry import Published, Weights, register
from sourcematters.sources.source import Source, create, plain, timm_config

if TYPE_CHECKING:
    import torch

# The paper's networks; of any other, timm's own choice is taken.
TAGS = {name: f"{name}.tv_in1k" for name in ("resnet50", "densenet121", "inception_v3")}
TAGS["inception_resnet_v2"] = "inception_resnet_v2.tf_in1k"


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

        try:
            model = create(self.location, size=size, pretrained=True)
        except Exception as error:
            raise StudyError(
                f"the ImageNet weights {self.location!r} could not be fetched from the Hugging Face hub "
                f"({type(error).__name__}). Connect once, or download `model.safetensors` of timm/{self.location} "
                f'elsewhere and pass weights: {{"{plain(self.name)}": "path/to/model.safetensors"}}.'
            ) from error
        for name in ("model.safetensors", "pytorch_model.bin"):
            if isinstance(kept := try_to_load_from_cache(f"timm/{self.location}", name), str):
                as_downloaded(kept)
        return model


def find(backbone: str, weights: Weights | None, folder: Path) -> Source:
    """The weights of timm, or the user's file with their normalization. Raises StudyError if timm has none."""
    cfg = timm_config(TAGS.get(backbone, backbone))
    if cfg is None or not cfg.has_weights:
        raise StudyError(f"timm has no pretrained weights for {backbone!r}. Choose another backbone or source.")
    tag, mean, std = f"{cfg.architecture}.{cfg.tag}", tuple(cfg.mean), tuple(cfg.std)
    if weights:
        return weights.source("imagenet", backbone, folder, mean, std)
    return TimmWeights("imagenet", f"timm:{tag}", mean, std, tag)


where = "timm downloads it (`resnet50.tv_in1k`, ...)"
register(Published("imagenet", "ImageNet", "ImageNet", where, "any timm model with weights", find))
