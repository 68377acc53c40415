"""No pretraining: a network with the random weights of its run, behind ImageNet's normalization."""

from pathlib import Path
from typing import TYPE_CHECKING

from sourcematters.sources.registry import Published, Weights, register
from sourcematters.sources.source import Source, create

if TYPE_CHECKING:
    import torch


class RandomWeights(Source):
    """An untrained network; the run's seed draws its weights."""

    kind = "random"
    at_hand = True

    def load(self, backbone: str, *, size: int) -> "torch.nn.Module":
        """The backbone as timm initializes it."""
        return create(backbone, size=size)


def find(backbone: str, weights: Weights | None, folder: Path) -> Source:
    """No weights, unless the user gives some."""
    return weights.source("random", backbone, folder) if weights else RandomWeights("random", "random")


register(Published("random", "random", "random", "no weights", "any timm model", find))
