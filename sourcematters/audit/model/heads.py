"""The classifier of a checkpoint: layers made again from the names and shapes of their tensors alone.

What has no tensors leaves a gap in the numbers of a Sequential: an activation, taken for ReLU, or dropout, which does
nothing in a finished model. Where it could be either at a place where that matters, nothing is made.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import nn

    State = Mapping[str, torch.Tensor]

Unclear = ValueError  # tensors that are a head, but of layers that they do not tell
WITH_STATISTICS = {"running_mean", "running_var"}


class Head(NamedTuple):
    """Layers that follow pooled features."""

    layers: "nn.Sequential"
    outputs: int
    how: str  # in words


class _Layer(NamedTuple):
    name: str
    kind: str  # linear, batch, layer
    tensors: "dict[str, torch.Tensor]"

    @property
    def width(self) -> int:
        return len(self.tensors["weight"])


def head(state: "State", features: int, name: str = "the head") -> Head | None:
    """The layers that `state` is of, from `features` to outputs; None if it is no head on so many features.

    Raises `Unclear`, saying why, where the tensors leave open what stands between the layers.
    """
    from torch import nn

    layers = _in_order(state)
    if not layers or layers[-1].kind != "linear" or not _chained(layers, features):
        return None
    activated = _activated(layers, name)
    made: list[nn.Module] = []
    for place, layer in enumerate(layers):
        made += [nn.ReLU()] if place in activated else []
        made.append(_filled(layer))
    what = "-".join(type(module).__name__ for module in made)
    assumed = "; a file of tensors does not name its activations: ReLU is assumed" if activated else ""
    return Head(nn.Sequential(*made), layers[-1].width, f"{name} made again as {what}{assumed}")


def _in_order(state: "State") -> list[_Layer]:
    """The layers of tensors, in the order of their numbers, else in that of the file; none if one is not known."""
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        owner, _, tensor = key.rpartition(".")
        groups.setdefault(owner, {})[tensor] = value
    layers = []
    for owner, tensors in groups.items():
        weight, more = tensors.get("weight"), tensors.keys() - {"weight", "bias", "num_batches_tracked"}
        if weight is None or weight.ndim not in (1, 2) or more not in (set(), WITH_STATISTICS):
            return []
        kind = "linear" if weight.ndim == 2 else "batch" if more else "layer"
        if (kind == "linear") and more:
            return []
        layers.append(_Layer(owner, kind, tensors))
    if all(_number(layer) is not None for layer in layers):
        layers.sort(key=lambda layer: _number(layer) or 0)
    return layers


def _number(layer: _Layer) -> int | None:
    found = re.search(r"(?:^|\.)(\d+)$", layer.name)
    return int(found[1]) if found else None


def _chained(layers: list[_Layer], features: int) -> bool:
    """Whether each layer takes what the one before it makes."""
    width = features
    for layer in layers:
        if width != (layer.tensors["weight"].shape[1] if layer.kind == "linear" else layer.width):
            return False
        width = layer.width
    return True


def _activated(layers: list[_Layer], name: str) -> set[int]:
    """Before which of the layers, by place, a ReLU stands: one between two linear layers, where there is room for it.

    Raises `Unclear` where there is room on either side of what normalizes, or before the first linear layer.
    """
    found, room, begun = set[int](), list[int](), layers[0].kind == "linear"
    for place, (before, layer) in enumerate(pairwise(layers), start=1):
        numbers = _number(before), _number(layer)
        if numbers[0] is None or numbers[1] is None or numbers[1] - numbers[0] > 1:
            room.append(place)
        if layer.kind == "linear":
            unnumbered = None in numbers and layers[place - 1].kind != "linear"
            if len(room) > 1 or (room and not begun) or unnumbered:
                raise Unclear(
                    f"{name} has {len(layers)} layers ({', '.join(each.name for each in layers)}), and where among "
                    "them an activation stands, and where dropout, its tensors do not tell"
                )
            found.update(room)
            room, begun = [], True
    return found


def _filled(layer: _Layer) -> "nn.Module":
    from torch import nn

    weight, bias = layer.tensors["weight"], "bias" in layer.tensors
    made: nn.Module
    if layer.kind == "linear":
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias)
    else:
        made = nn.BatchNorm1d(len(weight)) if layer.kind == "batch" else nn.LayerNorm(len(weight), bias=bias)
    counted = {key: value for key, value in layer.tensors.items() if key in made.state_dict()}
    made.load_state_dict(counted, strict=not isinstance(made, nn.BatchNorm1d))
    return made
