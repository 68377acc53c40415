"""The network: normalization, backbone, dropout, a two-way linear layer."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from sourcematters.sources import Source, feature_width
from sourcematters.training.devices import rounding


class Classifier(nn.Module):
    """Grey pixels (B, 1, H, W), 0..255, to two logits (B, 2).

    The source's own normalization is the first layer, so a source cannot be fed the wrong pixels. Head as in the paper.
    """

    mean: torch.Tensor  # (1, 3, 1, 1), for pixels in 0..255
    std: torch.Tensor  # (1, 3, 1, 1)
    layout: torch.memory_format = torch.contiguous_format  # of the images, and since `devices.place` of the weights

    def __init__(self, source: Source, backbone: str, *, size: int, dropout: float = 0.5):
        super().__init__()
        self.backbone = source.load(backbone, size=size)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_width(backbone, size), 2)
        # Keras's initialization of a Dense layer, which the paper used.
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("mean", 255 * torch.tensor(source.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(source.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits of both classes, in single precision; class 1 is the positive one."""
        features = self.features(pixels)
        # In bf16 a logit has 8 bits: images tie that the network tells apart, and an AUC counts ties by half.
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        with torch.autocast(features.device.type, enabled=False):
            return self.classifier(self.dropout(features))  # (B, 2)

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """The backbone's pooled features (B, F)."""
        channels = (pixels.float() - self.mean) / self.std  # (B, 3, H, W): grey spreads over the three channels
        return self.backbone(channels.contiguous(memory_format=self.layout))


def set_bn_momentum(model: nn.Module, momentum: float) -> None:
    """Set the weight of the newest batch in every running statistic: Keras's momentum of 0.99 is 0.01 here."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum


@contextlib.contextmanager
def reproducible(seed: int, device: torch.device) -> Iterator[None]:
    """Within it: torch seeded, deterministic, without TF32, on one CPU thread: cores and workers change no byte."""
    # cuBLAS is deterministic only with a fixed workspace (docs.nvidia.com/cuda/cublas, results reproducibility).
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    settings: Any = torch.utils.deterministic
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filled = settings.fill_uninitialized_memory
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # It would write NaN into every new tensor, to unmask code that reads what nobody wrote; our operators do not.
    settings.fill_uninitialized_memory = False
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), rounding("fp32"):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        settings.fill_uninitialized_memory = filled
