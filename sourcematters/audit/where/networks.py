"""A network as a function of grey pixels: its log-odds, the layer of its last maps, and itself with shuffled weights.

Imports torch: processes that compute import this, notebooks do not.
"""

import copy
import itertools
from collections import Counter

import torch
from torch import Tensor, nn

from sourcematters.audit.model.finished import Finished
from sourcematters.audit.model.outputs import CLIPPED
from sourcematters.audit.model.torch_files import first_tensor
from sourcematters.errors import StudyError
from sourcematters.seeds import derive
from sourcematters.training.classifier import Classifier


class OfRun(nn.Module):
    """The log-odds (B,) that a fine-tuned network gives grey pixels (B, 1, S, S), 0..255."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: Tensor) -> Tensor:
        """The difference of both logits."""
        logits = self.classifier(pixels)
        return logits[:, 1] - logits[:, 0]


class OfFinished(nn.Module):
    """The log-odds (B,) that a finished model gives grey pixels (B, 1, S, S), 0..255: `Finished.logits`, in torch.

    Raises StudyError for a model that torch does not run, or whose log-odds have no gradient.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, finished: Finished) -> None:
        super().__init__()
        if finished.module is None:
            raise StudyError(
                f"{finished.name} is {finished.kind}, which gives no gradients. Give its checkpoint or TorchScript."
            )
        self.inner, self.reading, self.inverted = finished.module, finished.reading, finished.inverted
        for name in ("mean", "std"):
            numbers = torch.tensor(getattr(finished, name)).view(1, -1, 1, 1)
            self.register_buffer(name, numbers, persistent=False)
        device = torch.device(finished.device)
        self.to(device)
        grey = torch.full((1, 1, finished.size, finished.size), 128.0, device=device, requires_grad=True)
        # A graph that was traced without gradients, or frozen, gives none.
        with torch.enable_grad():
            if not self(grey).requires_grad:
                raise StudyError(f"{finished.name}: its {finished.kind} gives no gradients. Give its checkpoint.")

    def forward(self, pixels: Tensor) -> Tensor:
        """As the outputs are read."""
        grey = (255 - pixels if self.inverted else pixels) / 255
        with torch.jit.optimized_execution(False):
            outputs = first_tensor(self.inner((grey - self.mean) / self.std)).float().reshape(len(pixels), -1)
        positive, negative = self.reading.positive, self.reading.negative
        if self.reading.probabilities:
            p = outputs.clamp(CLIPPED, 1 - CLIPPED)
            outputs = torch.logit(p) if negative is None else torch.log(p)
        return outputs[:, positive] - (outputs[:, negative] if negative is not None else 0)


def device_of(network: nn.Module) -> torch.device:
    """Where it computes; the CPU for one without any tensor."""
    tensors = itertools.chain(network.parameters(), network.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def shuffled(network: nn.Module, seed: int) -> nn.Module | None:
    """The same network, but in each layer its weights (not biases and norms) in an order drawn from `seed`.

    What attributions of it show, they show of the image and the architecture, not of anything learned (Adebayo et al.
    2018, Sanity Checks for Saliency Maps, https://arxiv.org/abs/1810.03292). None where no weight can be reached, as in
    frozen TorchScript.
    """
    other = copy.deepcopy(network)
    if all(weight.ndim < 2 for weight in other.parameters()):
        return None
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if weight.ndim > 1:
                draw = torch.Generator().manual_seed(derive(seed, "shuffled", name))
                order = torch.randperm(weight.numel(), generator=draw).to(weight.device)
                weight.copy_(weight.flatten()[order].view(weight.shape))
    return other


def last_maps(network: nn.Module, size: int) -> tuple[nn.Module, int] | None:
    """The module that makes the last maps, (B, C, h, h) with h > 1, and h, for images of `size` px.

    None of a network that does not end in maps, such as a transformer (more than half of its layers come after), or
    whose layers cannot be watched (TorchScript).
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        return None
    made: list[tuple[nn.Module, int]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        square = isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] == output.shape[3]
        made.append((module, output.shape[3] if square else 0))  # type: ignore[attr-defined]

    hooks = [module.register_forward_hook(note) for module in network.modules() if module is not network]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 1, size, size, device=device_of(network)))
    finally:
        for hook in hooks:
            hook.remove()
    calls = Counter(id(module) for module, _ in made)
    places = [k for k, (module, cells) in enumerate(made) if cells > 1 and calls[id(module)] == 1]
    layers = [k for k, (module, _) in enumerate(made) if not any(module.children())]
    if not places or sum(k > places[-1] for k in layers) > len(layers) / 2:
        return None
    return made[places[-1]]
