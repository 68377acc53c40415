"""The network: normalization, backbone, dropout, a two-way linear layer."""

import torch
from torch import nn

from sourcematters import sources
from sourcematters.sources import Source


class Classifier(nn.Module):
    """Grey pixels (B, 1, H, W), 0..255, to two logits (B, 2).

    The source's own normalization is the first layer, so a source cannot be fed the wrong pixels. Head as in the
    paper: pooled features, dropout, linear layer.
    """

    def __init__(self, source: Source, backbone: str, *, size: int, dropout: float = 0.5):
        super().__init__()
        self.backbone = sources.load(source, backbone, size=size)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.backbone.num_features, 2)
        # Keras's initialization of a Dense layer, which the paper used.
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("mean", 255 * torch.tensor(source.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(source.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits of both classes; class 1 is the positive one."""
        channels = (pixels.float() - self.mean) / self.std
        if channels.device.type != "mps":
            channels = channels.contiguous(memory_format=torch.channels_last)
        return self.classifier(self.dropout(self.backbone(channels)))


def set_bn_momentum(model: nn.Module, momentum: float) -> None:
    """Set the weight of the newest batch in every running statistic (torch's convention: 0.1 by default).

    Keras calls 1 - momentum by this name: its default 0.99 is 0.01 here.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum
