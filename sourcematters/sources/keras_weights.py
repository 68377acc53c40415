"""Keras's networks in PyTorch: a file of keras.applications' becomes a timm network that computes the same.

Files of Keras 2 (`save`, `save_weights`) and of Keras 3 (`.keras`, `.weights.h5`), with a top or without, and models
that have the network as one of their layers.

The converted network is exact when it is fine-tuned too:

- ResNet50's convolutions have biases: they are subtracted from the running mean of the normalization that follows,
  which cancels them in training mode anyway. Its stride is in the first 1x1 convolution of a block (version 1);
- normalization has Keras's epsilon; where Keras has no scale (both Inceptions), ours is one and is not trained;
- InceptionV3's average pools leave the padding out of the mean. Its layers and InceptionResNetV2's are numbered in
  the order of creation, from wherever the session that made the file stood: only the order of the numbers counts.
"""

import contextlib
import io
import itertools
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sourcematters import checksums
from sourcematters.errors import StudyError
from sourcematters.sources.file_kinds import INSIDE, ZIP, beginning, is_keras, refuse_what_is_no_checkpoint
from sourcematters.sources.fitting import demand_weights, heads
from sourcematters.sources.loading import differences, reason
from sourcematters.sources.source import Source, create

if TYPE_CHECKING:
    import torch

SUFFIXES = (".h5", ".hdf5", ".keras")
UNPACKED = 4  # weights can hardly be packed

EPSILON = {"resnet50": 1.001e-5, "densenet121": 1.001e-5, "inception_v3": 1e-3, "inception_resnet_v2": 1e-3}
BIASED = {"resnet50"}
UNSCALED = {"inception_v3", "inception_resnet_v2"}
# Keras's name of an array, and torch's.
KINDS = {
    "kernel": "weight", "bias": "bias",
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip


# Keras 3 numbers a layer's arrays: whether the first is a kernel, how many there are -> their names in Keras 2.
ORDERS = {
    (True, 1): ["kernel"],
    (True, 2): ["kernel", "bias"],
    (False, 3): ["beta", "moving_mean", "moving_variance"],
    (False, 4): ["gamma", "beta", "moving_mean", "moving_variance"],
}


class KerasWeights(Source):
    """A Keras file; `location` is the file converted."""

    kind = "keras"

    def file(self) -> str:
        """The file converted. Raises StudyError unless it is what was written."""
        checksums.demand(self.location, "Start again: the Keras file is then converted anew.")
        return self.location

    @property
    def card(self) -> dict[str, Any]:
        """What was left out of the file."""
        from safetensors import safe_open

        with safe_open(self.file(), "np") as file:
            done = (file.metadata() or {}).get("done")
        return {"loading": done} if done else {}

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
        state, done = convert(path, backbone)
        with checksums.sealing(file) as beside:
            save_file(state, beside, {"done": done} if done else None)
    return file


def convert(path: str | Path, backbone: str) -> tuple[dict[str, "torch.Tensor"], str]:
    """The weights of a Keras file under timm's names, for what `as_keras` has changed; and what was left out, in words.

    Raises StudyError naming the layers when there is less in it than keras.applications' network, or more and no top.
    """
    import torch

    with _opened(Path(path)) as file:
        if backbone not in EPSILON:
            raise StudyError(f"{path}: a Keras file can be converted for {', '.join(EPSILON)}; not for {backbone!r}.")
        with torch.device("meta"):
            model = create(backbone, size=None)
        own, parts, complaints = model.state_dict(), _parts(file, path), []
        for part, arrays in parts.items():
            done = [f"the model {part}"] * bool(part)
            layers = _layers(backbone, own, arrays)
            wanted, names = _wanted(backbone, own, layers)
            rest = {key: array.shape for key, array in arrays.items() if key not in wanted}
            top = heads(rest, layers, {cast(int, model.num_features)})
            found = {key: array.shape for key, array in arrays.items() if key.split("/")[0] not in top}
            if not (complaint := differences(found, wanted)):
                break
            complaints.append(complaint)
        else:
            raise StudyError(
                f"{path}: does not hold Keras's weights of {backbone!r}. Layers {complaints[0]}. "
                "Choose the backbone this file was made for, or fetch the file again."
            )
        weights = {key: arrays[key][()] for key in wanted}  # only now is anything read: of the right size
    state = {names[key]: value.transpose(3, 2, 0, 1) if value.ndim == 4 else value for key, value in weights.items()}
    for layer, place in layers.items():
        state.setdefault(f"{place}.weight", np.ones(own[f"{place}.weight"].shape))
        if backbone in BIASED and layer.endswith("_bn"):
            state[f"{place}.running_mean"] = state[f"{place}.running_mean"] - weights[f"{layer[:-2]}conv/bias"]
    tensors = {key: torch.from_numpy(np.ascontiguousarray(state[key], np.float32)) for key in own if key in state}
    demand_weights(tensors, own, str(path))
    top += sorted({key.split("/")[0] for key in parts[""]} - {key.split("/")[0] for key in arrays})
    return tensors, "; ".join(done + [f"{', '.join(top)} left out"] * bool(top))


def _wanted(
    backbone: str, own: Mapping[str, "torch.Tensor"], layers: Mapping[str, str]
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Every array by its name in Keras: its shape there, and timm's name."""
    wanted: dict[str, tuple[int, ...]] = {}
    names = {}
    for layer, place in layers.items():
        weight = own[f"{place}.weight"]  # (out, in, height, width) of a convolution, (features,) of a normalization
        if weight.ndim == 4:
            kinds = ["kernel", "bias"] if backbone in BIASED or f"{place}.bias" in own else ["kernel"]
        else:
            kinds = ["beta", "moving_mean", "moving_variance", *([] if backbone in UNSCALED else ["gamma"])]
        for kind in kinds:
            wanted[f"{layer}/{kind}"] = tuple(
                weight.permute(2, 3, 1, 0).shape if kind == "kernel" else weight.shape[:1]
            )
            names[f"{layer}/{kind}"] = f"{place}.{KINDS[kind]}"
    return wanted, names


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


TRY_SECONDS = 60  # the names in a sound file are read within one
TRY = """
import io, sys, h5py
found = []
with h5py.File(sys.argv[1] or io.BytesIO(sys.stdin.buffer.read()), "r") as file:
    file.visititems(lambda name, part: found.append(part))
    for part in (file, *found):
        list(part.attrs.items())
"""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The HDF5 file at `path`, or in the zip at `path`. Raises StudyError for what is neither, or damaged."""
    import h5py

    try:
        if not is_keras(path):
            refuse_what_is_no_checkpoint(path)
        source: Any = path
        if beginning(path).startswith(ZIP):
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo(INSIDE).file_size > UNPACKED * path.stat().st_size:
                    raise StudyError(f"{path}: would unpack to over {UNPACKED} times its size. Fetch it again.")
                source = io.BytesIO(archive.read(INSIDE))
        _refuse_what_ends_not(path, source)
        with h5py.File(source, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError, ValueError, SystemError) as error:
        raise StudyError(f"{path}: damaged or not an HDF5 file ({reason(error)}). Fetch it again.") from error


def _refuse_what_ends_not(path: Path, source: Any) -> None:
    """Raise StudyError if HDF5 reads the names in a file for ever, or crashes of it, as of some damaged ones."""
    # Another process tries it: this one could not be stopped.
    outside = isinstance(source, Path)
    command = [sys.executable, "-c", TRY, str(source.resolve()) if outside else ""]
    there = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    given = b"" if outside else source.getvalue()
    try:
        tried = subprocess.run(command, input=given, env=there, capture_output=True, timeout=TRY_SECONDS)
    except subprocess.TimeoutExpired:
        raise StudyError(f"{path}: damaged: reading the names in it does not end. Fetch it again.") from None
    if tried.returncode < 0:
        raise StudyError(f"{path}: damaged: reading the names in it crashes. Fetch it again.")


def _parts(file: Any, path: str | Path) -> dict[str, dict[str, Any]]:
    """A Keras file's arrays as `layer/kind`: under "" all of them, and those of each model within the model.

    Nothing is read yet. Raises StudyError for a file without named layers, and for links out of it.
    """
    import h5py

    parts: dict[str, dict[str, Any]] = {"": {}}
    nameless = False

    def add(model: str, layer: str, kind: str, array: Any) -> None:
        if not isinstance(array, h5py.Dataset) or array.dtype.kind != "f" or array.is_virtual or array.external:
            raise StudyError(
                f"{path}: {layer}/{kind} holds no real numbers of its own. Give the file as Keras saved it."
            )
        for part in {"", model}:
            parts.setdefault(part, {})[f"{layer.replace('/', '_')}/{kind}"] = array

    # What is called at each place must not raise: HDF5 would crash.
    abroad = file.visititems_links(lambda *found: found if isinstance(found[1], h5py.ExternalLink) else None)
    if abroad:
        raise StudyError(f"{path}: {abroad[0]} is in another file ({abroad[1].filename}). Give a file that holds all.")
    network = file.get("model_weights", file)
    for layer in _texts(network, "layer_names"):
        names = _texts(network[layer], "weight_names")
        within = len({name.rpartition("/")[0] for name in names}) > 1
        for name in names:
            place, _, kind = name.removesuffix(":0").rpartition("/")
            add(layer if within else "", place if within else layer, kind, network[layer][name])
    groups: list[tuple[str, Any]] = []
    if "layer_names" not in network.attrs:
        file.visititems(lambda *found: groups.append(found))
    for name, group in groups:
        of_network = isinstance(group, h5py.Group) and not re.search("^(optimizer|metrics)|seed_generator", name)
        if of_network and name.rsplit("/", 1)[-1] == "vars" and len(group):
            arrays = [group[str(number)] for number in range(len(group))]
            kinds = ORDERS.get((arrays[0].ndim > 1, len(arrays)), map(str, range(len(arrays))))
            nameless |= "name" not in group.attrs
            for kind, array in zip(kinds, arrays, strict=True):
                add(name.rpartition("layers/")[0].rstrip("/"), str(group.attrs.get("name")), kind, array)
    if nameless:
        raise StudyError(
            f"{path}: names no layers, as files of early Keras 3. Load it in Keras, save it with "
            "`model.save('NAME.h5')`, and give that file."
        )
    if not parts[""]:
        raise StudyError(f"{path}: is HDF5, but not a weight file of Keras (no layers in it). Choose another file.")
    return parts


def _texts(group: Any, attribute: str) -> list[str]:
    names = group.attrs.get(attribute, ())
    if not all(isinstance(name, bytes | str) for name in (names if np.ndim(names) == 1 else [None])):
        raise ValueError(f"{attribute} holds no names")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


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
