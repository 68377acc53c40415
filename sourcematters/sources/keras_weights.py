"""Keras's networks in PyTorch: a `*_notop.h5` file of keras.applications becomes a timm network that computes the same.

The Keras release of RadImageNet is what the paper used: `RadImageNet-{ResNet50,DenseNet121,InceptionV3,IRV2}_notop.h5`
(linked from github.com/BMEII-AI/RadImageNet). Its ResNet50 was written by Keras 2.4.0, and one user reports
94,852,768 bytes with SHA-256 1f1d1c9fe6ab6980daa5e528145fe0db249c55415f8b3e1f3e3b1624d184f159; the authors publish
no checksums. The converted network is exact when it is fine-tuned too:

- kernels are turned from (height, width, in, out) to (out, in, height, width);
- ResNet50's convolutions have biases: they are subtracted from the running mean of the normalization that follows,
  which cancels them in training mode anyway. Its stride is in the first 1x1 convolution of a block (version 1);
- normalization has Keras's epsilon; where Keras has no scale (both Inceptions), ours is one and is not trained;
- InceptionV3's average pools leave the padding out of the mean. Its layers and InceptionResNetV2's are numbered in
  the order of creation, from wherever the session that made the file stood: only the order of the numbers counts.

What the release leaves open: how the input was scaled. The pretraining code is not in the repository; the authors'
fine-tuning scripts give all four networks `imagenet_utils.preprocess_input` (its default: to BGR, minus a mean) and
`rescale=1/255` in one ImageDataGenerator, which rescales last, so (BGR - [103.939, 116.779, 123.68]) / 255. That the
pretraining did so too is likely, not documented (issue 18 of that repository asks, and is open); the PyTorch release
is shown with [-1, 1] instead. The window of its CT images is not documented either (issue 15).
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sourcematters.errors import StudyError
from sourcematters.files import replacing, sha256
from sourcematters.sources import Source, create, differences

if TYPE_CHECKING:
    import torch

SUFFIXES = (".h5", ".hdf5")
RADIMAGENET_FILES = {
    "resnet50": "RadImageNet-ResNet50_notop.h5",
    "densenet121": "RadImageNet-DenseNet121_notop.h5",
    "inception_v3": "RadImageNet-InceptionV3_notop.h5",
    "inception_resnet_v2": "RadImageNet-IRV2_notop.h5",
}
# In the network's own channel order, blue first, for pixels scaled to 0..1.
RADIMAGENET_MEAN, RADIMAGENET_STD = (103.939 / 255, 116.779 / 255, 123.68 / 255), (1.0, 1.0, 1.0)

_EPSILON = {"resnet50": 1.001e-5, "densenet121": 1.001e-5, "inception_v3": 1e-3, "inception_resnet_v2": 1e-3}
_BIASED = {"resnet50"}
_UNSCALED = {"inception_v3", "inception_resnet_v2"}


def source(
    name: str,
    backbone: str,
    path: Path,
    folder: str | Path,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Source:
    """The Keras file at `path` as a Source called `name`; converted into `folder` unless that was done before.

    The identity is the SHA-256 of the Keras file. Raises StudyError for a file that is not exactly this backbone's.
    """
    digest = sha256(path)
    converted = Path(folder) / f"keras-{backbone}-{digest[:16]}.safetensors"
    if not converted.exists():
        from safetensors.torch import save_file

        state = convert(path, backbone)
        with replacing(converted) as beside:
            save_file(state, beside)
    return Source(name, "keras", f"sha256:{digest}", mean, std, str(converted))


def convert(path: str | Path, backbone: str) -> dict[str, "torch.Tensor"]:
    """The weights of a Keras file under timm's names, for a network that `as_keras` has changed.

    `path` is what Keras 2 writes by `save_weights` or `save` for keras.applications' ResNet50, DenseNet121, InceptionV3
    or InceptionResNetV2 without top. Raises StudyError naming the layers when it is not exactly that.
    """
    import torch

    if backbone not in _EPSILON:
        raise StudyError(f"{path}: a Keras file can be converted for {', '.join(_EPSILON)}; not for {backbone!r}.")
    weights = _read(path)
    with torch.device("meta"):
        modules = dict(create(backbone, size=None).named_modules())
    layers = [(layer, place, modules[place]) for layer, place in _layers(backbone, modules, weights)]
    wanted = {}
    for layer, _, module in layers:
        if isinstance(module, torch.nn.Conv2d):
            out, into, height, width = module.weight.shape
            wanted[f"{layer}/kernel"] = (height, width, into, out)
            if module.bias is not None or backbone in _BIASED:
                wanted[f"{layer}/bias"] = (out,)
        else:
            kinds = ("beta", "moving_mean", "moving_variance", *(() if backbone in _UNSCALED else ("gamma",)))
            wanted |= {f"{layer}/{kind}": (module.num_features,) for kind in kinds}
    if complaint := differences({key: value.shape for key, value in weights.items()}, wanted):
        raise StudyError(
            f"{path}: does not hold Keras's weights of {backbone!r} without top. Layers {complaint}. "
            "Choose the backbone this file was made for, or fetch the file again."
        )
    state = {}
    for layer, place, module in layers:
        if isinstance(module, torch.nn.Conv2d):
            state[f"{place}.weight"] = weights[f"{layer}/kernel"].transpose(3, 2, 0, 1)
            if module.bias is not None:
                state[f"{place}.bias"] = weights[f"{layer}/bias"]
        else:
            mean = weights[f"{layer}/moving_mean"]
            if backbone in _BIASED:
                mean = mean - weights[f"{layer.removesuffix('bn')}conv/bias"]
            state[f"{place}.weight"] = weights.get(f"{layer}/gamma", np.ones_like(mean))
            state[f"{place}.bias"] = weights[f"{layer}/beta"]
            state[f"{place}.running_mean"] = mean
            state[f"{place}.running_var"] = weights[f"{layer}/moving_variance"]
    return {key: torch.from_numpy(np.ascontiguousarray(value, np.float32)) for key, value in state.items()}


def as_keras(model: "torch.nn.Module", backbone: str) -> None:
    """Change a timm network in place, so that it computes what keras.applications' does; its keys stay timm's.

    Whoever fine-tunes it chooses the momentum of the running statistics: that is left alone.
    """
    import torch

    for place, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = _EPSILON[backbone]
            module.weight.requires_grad_(backbone not in _UNSCALED)
        elif backbone == "inception_v3" and place.endswith(".branch_pool"):
            module.register_forward_pre_hook(_padding_left_out)
    if backbone == "resnet50":
        for stage in (model.layer2, model.layer3, model.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)


def _padding_left_out(module: "torch.nn.Module", inputs: tuple["torch.Tensor"]) -> "torch.Tensor":
    # timm averages 3 x 3 pixels, zero padding included, in the middle of a function: divide by the share inside.
    import torch
    from torch.nn import functional

    (pooled,) = inputs
    precision = torch.promote_types(pooled.dtype, torch.float32)
    inside = torch.ones((1, 1, *pooled.shape[2:]), device=pooled.device, dtype=precision)
    return pooled / functional.avg_pool2d(inside, kernel_size=3, stride=1, padding=1)


def _read(path: str | Path) -> dict[str, NDArray[Any]]:
    """A Keras file's arrays as `layer/kind`, slashes in a layer's name (older DenseNets) made underscores."""
    import h5py

    weights = {}
    try:
        with h5py.File(path, "r") as file:
            layers = file.get("model_weights", file)
            if "layer_names" not in layers.attrs:
                raise StudyError(
                    f"{path}: is HDF5, but not a weight file of Keras 2 (no layer_names in it). Choose another file."
                )
            for layer in map(_text, layers.attrs["layer_names"]):
                for weight in map(_text, layers[layer].attrs["weight_names"]):
                    kind = weight.rsplit("/", 1)[-1].removesuffix(":0")
                    weights[f"{layer.replace('/', '_')}/{kind}"] = layers[layer][weight][()]
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise StudyError(f"{path}: damaged or not an HDF5 file ({reason}). Fetch it again.") from error
    return weights


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _layers(backbone: str, modules: dict[str, Any], weights: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every layer with weights: Keras's name and the place of the same module in timm's network."""
    if backbone == "resnet50":
        yield from (("conv1_conv", "conv1"), ("conv1_bn", "bn1"))
        for stage, blocks in enumerate((3, 4, 6, 3), start=1):
            for block in range(blocks):
                layer, place = f"conv{stage + 1}_block{block + 1}", f"layer{stage}.{block}"
                units = [(k, f"conv{k}", f"bn{k}") for k in (1, 2, 3)]
                for k, conv, bn in [*units, (0, "downsample.0", "downsample.1")] if block == 0 else units:
                    yield from ((f"{layer}_{k}_conv", f"{place}.{conv}"), (f"{layer}_{k}_bn", f"{place}.{bn}"))
    elif backbone == "densenet121":
        yield from (("conv1_conv", "features.conv0"), ("conv1_bn", "features.norm0"), ("bn", "features.norm5"))
        for stage, blocks in enumerate((6, 12, 24, 16), start=1):
            for block in range(1, blocks + 1):
                layer, place = f"conv{stage + 1}_block{block}", f"features.denseblock{stage}.denselayer{block}"
                for k in (1, 2):
                    yield from ((f"{layer}_{k - 1}_bn", f"{place}.norm{k}"), (f"{layer}_{k}_conv", f"{place}.conv{k}"))
            if stage < 4:
                for kind, end in (("bn", "norm"), ("conv", "conv")):
                    yield f"pool{stage + 1}_{kind}", f"features.transition{stage}.{end}"
    else:
        named = {"conv2d_7b.conv": "conv_7b", "conv2d_7b.bn": "conv_7b_bn", "block8.conv2d": "block8_10_conv"}
        for kind, repeat, blocks in (("block35", "repeat", 10), ("block17", "repeat_1", 20), ("block8", "repeat_2", 9)):
            named |= {f"{repeat}.{i}.conv2d": f"{kind}_{i + 1}_conv" for i in range(blocks)}
        # timm defines its modules in the order in which Keras creates its layers.
        numbered = {kind: _numbered(kind, weights) for kind in ("conv2d", "batch_normalization")}
        for place in modules:
            if place in named:
                yield named[place], place
            elif place.endswith((".conv", ".bn")):
                yield next(numbered["conv2d" if place.endswith(".conv") else "batch_normalization"]), place


def _numbered(kind: str, weights: dict[str, Any]) -> Iterator[str]:
    """Keras's automatic names in a file by their number (the first has none), then what the file lacks."""
    found = {key.split("/")[0] for key in weights if re.fullmatch(rf"{kind}(_\d+)?", key.split("/")[0])}
    ordered = sorted(found, key=lambda layer: int(layer[len(kind) + 1 :] or 0))
    yield from ordered
    yield from (f"{kind} number {count}" for count in itertools.count(len(ordered) + 1))
