"""No pretraining: a network with the random weights of its run, behind ImageNet's normalization."""

from pathlib import Path

from sourcematters.sources.registry import Published, Weights, register
from sourcematters.sources.source import Source


class RandomWeights(Source):
    """An untrained network; the run's seed draws its weights."""

    kind = "random"


def find(backbone: str, weights: Weights | None, folder: Path) -> Source:
    """No weights, unless the user gives some."""
    return weights.source("random", backbone, folder) if weights else RandomWeights("random", "random")


register(Published("random", title="random", curve="random", where="no weights", backbones="any timm model", find=find))
