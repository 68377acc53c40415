"""Keras's networks in PyTorch: a `*_notop.h5` file of keras.applications becomes a timm network that computes the same.

The converted network is exact when it is fine-tuned too:

- ResNet50's convolutions have biases: they are subtracted from the running mean of the normalization that follows,
  which cancels them in training mode anyway. Its stride is in the first 1x1 convolution of a block (version 1);
- normalization has Keras's epsilon; where Keras has no scale (both Inceptions), ours is one and is not trained;
- InceptionV3's average pools leave the padding out of the mean. Its layers and InceptionResNetV2's are numbered in
  the order of creation, from wherever the session that made the file stood: only the order of the numbers counts.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sourcematters import checksums
from sourcematters.errors import StudyError
from sourcematters.sources.loading import differences, reason
from sourcematters.sources.source import Source, create

if TYPE_CHECKING:
    import torch

SUFFIXES = (".h5", ".hdf5")

EPSILON = {"resnet50": 1.001e-5, "densenet121": 1.001e-5, "inception_v3": 1e-3, "inception_resnet_v2": 1e-3}
BIASED = {"resnet50"}
UNSCALED = {"inception_v3", "inception_resnet_v2"}
# Keras's name of an array, and torch's.
KINDS = {
    "kernel": "weight", "bias": "bias",
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip


class KerasWeights(Source):
    """A Keras file; `location` is the file converted."""

    kind = "keras"

    def file(self) -> str:
        """The file converted. Raises StudyError unless it is what was written."""
        checksums.demand(self.location, "Start again: the Keras file is then converted anew.")
        return self.location

    def load(self, backbone: str, *, size: int) -> "torch.nn.Module":
        """The backbone with the file's weights, changed to compute what Keras does."""
        model = super().load(backbone, size=size)
        as_keras(model, backbone)
        return model


def converted(path: Path, digest: str, backbone: str, folder: Path) -> Path:
    """The Keras file at `path`, whose SHA-256 is `digest`, converted into `folder` unless that was done before."""
    from safetensors.torch import save_file

    file = folder / f"keras-{backbone}-{digest[:16]}-r{KerasWeights.revision}.safetensors"
    if not checksums.usable(file, f"{path} is converted again"):
        state = convert(path, backbone)
        with checksums.sealing(file) as beside:
            save_file(state, beside)
    return file


def convert(path: str | Path, backbone: str) -> dict[str, "torch.Tensor"]:
    """The weights of a file of Keras 2 (`save_weights` or `save`) under timm's names, for what `as_keras` has changed.

    Raises StudyError naming the layers when it is not exactly keras.applications' network without top.
    """
    import torch

    if backbone not in EPSILON:
        raise StudyError(f"{path}: a Keras file can be converted for {', '.join(EPSILON)}; not for {backbone!r}.")
    weights = _read(path)
    with torch.device("meta"):
        own = create(backbone, size=None).state_dict()
    layers = _layers(backbone, own, weights)
    wanted: dict[str, tuple[int, ...]] = {}
    names = {}  # Keras's of an array -> timm's
    for layer, place in layers.items():
        weight = own[f"{place}.weight"]  # (out, in, height, width) of a convolution, (features,) of a normalization
        if weight.ndim == 4:
            kinds = ["kernel", "bias"] if backbone in BIASED or f"{place}.bias" in own else ["kernel"]
        else:
            kinds = ["beta", "moving_mean", "moving_variance", *([] if backbone in UNSCALED else ["gamma"])]
        for kind in kinds:
            wanted[f"{layer}/{kind}"] = weight.permute(2, 3, 1, 0).shape if kind == "kernel" else weight.shape[:1]
            names[f"{layer}/{kind}"] = f"{place}.{KINDS[kind]}"
    if complaint := differences({key: value.shape for key, value in weights.items()}, wanted):
        raise StudyError(
            f"{path}: does not hold Keras's weights of {backbone!r} without top. Layers {complaint}. "
            "Choose the backbone this file was made for, or fetch the file again."
        )
    state = {names[key]: value.transpose(3, 2, 0, 1) if value.ndim == 4 else value for key, value in weights.items()}
    for layer, place in layers.items():
        state.setdefault(f"{place}.weight", np.ones(own[f"{place}.weight"].shape))
        if backbone in BIASED and layer.endswith("_bn"):
            state[f"{place}.running_mean"] = state[f"{place}.running_mean"] - weights[f"{layer[:-2]}conv/bias"]
    return {key: torch.from_numpy(np.ascontiguousarray(state[key], np.float32)) for key in own if key in state}


def as_keras(model: "torch.nn.Module", backbone: str) -> None:
    """Change a timm network in place, so that it computes what keras.applications' does; its keys stay timm's."""
    import torch

    for place, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = EPSILON[backbone]
            module.weight.requires_grad_(backbone not in UNSCALED)
        elif backbone == "inception_v3" and place.endswith(".branch_pool"):
            module.register_forward_pre_hook(_padding_left_out)
        elif backbone == "resnet50" and (block := re.fullmatch(r"layer[234]\.0\.conv([12])", place)):
            module.stride = (2, 2) if block[1] == "1" else (1, 1)


def _padding_left_out(module: "torch.nn.Module", inputs: tuple["torch.Tensor"]) -> "torch.Tensor":
    # timm averages 3 x 3 pixels, zero padding included, in the middle of a function: divide by the share inside.
    import torch

    (pooled,) = inputs
    inside = torch.ones_like(pooled[:1, :1], dtype=torch.promote_types(pooled.dtype, torch.float32))
    return pooled / torch.nn.functional.avg_pool2d(inside, kernel_size=3, stride=1, padding=1)


def _read(path: str | Path) -> dict[str, NDArray[Any]]:
    """A Keras file's arrays as `layer/kind`, slashes in a layer's name (older DenseNets) made underscores."""
    import h5py

    def names(group: Any, attribute: str) -> list[str]:
        return [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs[attribute]]

    weights = {}
    try:
        with h5py.File(path, "r") as file:
            network = file.get("model_weights", file)
            for layer in names(network, "layer_names") if "layer_names" in network.attrs else ():
                for name in names(network[layer], "weight_names"):
                    kind = name.rsplit("/", 1)[-1].removesuffix(":0")
                    weights[f"{layer.replace('/', '_')}/{kind}"] = network[layer][name][()]
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise StudyError(f"{path}: damaged or not an HDF5 file ({reason(error)}). Fetch it again.") from error
    if not weights:
        raise StudyError(f"{path}: is HDF5, but not a weight file of Keras 2 (no layers in it). Choose another file.")
    return weights


def _layers(backbone: str, own: dict[str, "torch.Tensor"], weights: Iterable[str]) -> dict[str, str]:
    """Every layer with weights: Keras's name, and the place of the same module in timm's network."""
    arrays = {key.removesuffix(".weight"): array for key, array in own.items() if key.endswith(".weight")}
    kinds = {place: "conv" if array.ndim == 4 else "bn" for place, array in arrays.items()}
    if backbone in ("resnet50", "densenet121"):
        return {_keras_name(place, kind): place for place, kind in kinds.items()}
    named = {"conv2d_7b.conv": "conv_7b", "conv2d_7b.bn": "conv_7b_bn", "block8.conv2d": "block8_10_conv"}
    for block, repeat, count in (("block35", "repeat", 10), ("block17", "repeat_1", 20), ("block8", "repeat_2", 9)):
        named |= {f"{repeat}.{i}.conv2d": f"{block}_{i + 1}_conv" for i in range(count)}
    # timm defines its modules in the order in which Keras creates its layers.
    numbered = {"conv": _numbered("conv2d", weights), "bn": _numbered("batch_normalization", weights)}
    return {named.get(place) or next(numbered[kind]): place for place, kind in kinds.items()}


def _keras_name(place: str, kind: str) -> str:
    """Keras's name of what stands at a place of timm's ResNet50 or DenseNet121; `kind` is conv or bn."""
    numbers = [int(number) for number in re.findall(r"\d+", place)]
    if "transition" in place:
        return f"pool{numbers[0] + 1}_{kind}"
    if len(numbers) == 1:
        return "bn" if place == "features.norm5" else f"conv1_{kind}"
    stage, block, unit = numbers
    if place.startswith("layer"):  # timm counts ResNet's blocks from 0; Keras's unit 0 is the shortcut
        block, unit = block + 1, 0 if "downsample" in place else unit
    elif kind == "bn":  # Keras counts DenseNet's normalizations from 0
        unit -= 1
    return f"conv{stage + 1}_block{block}_{unit}_{kind}"


def _numbered(kind: str, weights: Iterable[str]) -> Iterator[str]:
    """Keras's automatic names in a file by their number (the first has none), then what the file lacks."""
    layers = {key.split("/")[0] for key in weights}
    found = sorted((x for x in layers if re.fullmatch(rf"{kind}(_\d+)?", x)), key=lambda layer: (len(layer), layer))
    return itertools.chain(found, (f"{kind} number {count}" for count in itertools.count(len(found) + 1)))
