"""Pretrained weights: where they come from, how their keys are named, which input they expect.

A source is a name and an identity; its normalization belongs to it and happens inside the model, so that
every source sees the same pixels. Loading is proved: after it, every tensor of the backbone came from the
file and the file held nothing else but its own classifier.

Published sources
-----------------
imagenet     timm's weights, by default those of torchvision (`resnet50.tv_in1k`, ...); normalization from timm.
radimagenet  The PyTorch release (github.com/BMEII-AI/RadImageNet; hub mirror Lab-Rasool/RadImageNet):
             `ResNet50.pt`, `DenseNet121.pt`, `InceptionV3.pt`; input scaled to [-1, 1].
radimagenet-keras
             The Keras release of the same authors, from a local file; said by others to be a training of its own.
             See `keras_weights`, for its input too.
random       No weights; ImageNet's normalization.

Matched preprocessing
---------------------
`NAME+matched` is the source NAME behind ImageNet's normalization. Compared with NAME itself, it tells the effect of
the input's scaling from that of the weights. The rows of a table keep the whole name.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from sourcematters.errors import StudyError
from sourcematters.files import sha256

if TYPE_CHECKING:
    import torch

IMAGENET_TAGS = {
    "resnet50": "resnet50.tv_in1k",
    "densenet121": "densenet121.tv_in1k",
    "inception_v3": "inception_v3.tv_in1k",
    "inception_resnet_v2": "inception_resnet_v2.tf_in1k",
}
RADIMAGENET_HUB = "Lab-Rasool/RadImageNet"
RADIMAGENET_FILES = {
    "resnet50": "ResNet50.pt",
    "densenet121": "DenseNet121.pt",
    "inception_v3": "InceptionV3.pt",
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
KERAS = "radimagenet-keras"
MATCHED = "+matched"

# The RadImageNet release numbers torchvision's children() instead of naming them.
_RESNET_CHILDREN = {0: "conv1", 1: "bn1", 4: "layer1", 5: "layer2", 6: "layer3", 7: "layer4"}
_INCEPTION_CHILDREN = {
    0: "Conv2d_1a_3x3", 1: "Conv2d_2a_3x3", 2: "Conv2d_2b_3x3", 4: "Conv2d_3b_1x1", 5: "Conv2d_4a_3x3",
    7: "Mixed_5b", 8: "Mixed_5c", 9: "Mixed_5d", 10: "Mixed_6a", 11: "Mixed_6b", 12: "Mixed_6c", 13: "Mixed_6d",
    14: "Mixed_6e", 15: "Mixed_7a", 16: "Mixed_7b", 17: "Mixed_7c",
}  # fmt: skip
_DENSENET_CHILDREN = {0: "features"}
_CHILDREN = {
    "resnet50": _RESNET_CHILDREN,
    "densenet121": _DENSENET_CHILDREN,
    "inception_v3": _INCEPTION_CHILDREN,
}


@dataclass(frozen=True)
class Source:
    """One pretraining of one backbone.

    `kind` is random, timm, hub, checkpoint, keras or standin. `identity` changes when the weights do: a timm tag, a
    hub file, the SHA-256 of a local file. `mean` and `std` are per channel of the network, for pixels scaled to 0..1.
    `location` says where this machine keeps the file and does not belong to the identity.
    """

    name: str
    kind: str
    identity: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    location: str = field(default="", compare=False)


def resolve(
    name: str,
    backbone: str,
    *,
    weights: Mapping[str, Any] | None = None,
    folder: str | Path = "results/sources",
) -> Source:
    """Find the source called `name` for a timm `backbone`.

    `weights` maps a source's name to a local file (.safetensors, .pt/.pth of tensors only, or Keras's .h5), to a
    folder that holds the published file names, or to `{"path": ..., "mean": [r, g, b], "std": [r, g, b]}`. A name that
    is not published here must be in it. `NAME+matched` is NAME behind ImageNet's normalization. `folder` keeps
    stand-in weights and Keras files converted. Nothing is downloaded or trained yet.

    Raises StudyError for an unknown name, a missing file, a Keras file that is not the backbone's, a backbone the
    source was not published for, or a matched source that is the plain one.
    """
    from sourcematters.demo import standins

    if name.endswith(MATCHED):
        return _matched(resolve(name.removesuffix(MATCHED), backbone, weights=weights, folder=folder))
    entry = (weights or {}).get(name)
    if entry is not None:
        return _local(name, backbone, entry, folder)
    if name == "random":
        return Source(name, "random", "random")
    if name == "imagenet":
        tag, cfg = _timm_entry(backbone)
        return Source(name, "timm", f"timm:{tag}", tuple(cfg.mean), tuple(cfg.std), tag)
    if name == "radimagenet":
        if backbone not in RADIMAGENET_FILES:
            raise StudyError(f"radimagenet was published for {', '.join(RADIMAGENET_FILES)}; not for {backbone!r}.")
        file = RADIMAGENET_FILES[backbone]
        return Source(name, "hub", f"hub:{RADIMAGENET_HUB}/{file}", HALF, HALF, file)
    if name in standins.STANDINS:
        return standins.source(name, backbone, folder)
    if name == KERAS:
        raise StudyError(f"{name} is read from a local file. {_keras_recipe(backbone)}")
    known = ["imagenet", "radimagenet", KERAS, "random", *standins.STANDINS]
    near = difflib.get_close_matches(name, known, n=1)
    raise StudyError(
        f"source {name!r} is not known.{f' Did you mean {near[0]}?' if near else ''} Known by name: "
        f"{', '.join(known)}. For your own weights add "
        f'weights: {{"{name}": "path/to/file.safetensors"}}.'
    )


def _matched(source: Source) -> Source:
    if (source.mean, source.std) == (IMAGENET_MEAN, IMAGENET_STD):
        name = source.name
        raise StudyError(f"{name}{MATCHED} is {name}: its own normalization is ImageNet's. Leave out {MATCHED!r}.")
    return replace(source, name=source.name + MATCHED, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _keras_recipe(backbone: str) -> str:
    from sourcematters.sources.keras_weights import RADIMAGENET_FILES

    if backbone not in RADIMAGENET_FILES:
        return f"It was published for {', '.join(RADIMAGENET_FILES)}; not for {backbone!r}."
    return (
        "Follow the link to the TensorFlow models in the README of github.com/BMEII-AI/RadImageNet, unpack "
        f'{RADIMAGENET_FILES[backbone]}, and pass weights: {{"{KERAS}": "folder/with/{RADIMAGENET_FILES[backbone]}"}}.'
    )


def _timm_entry(backbone: str) -> tuple[str, Any]:
    import timm

    tag = IMAGENET_TAGS.get(backbone, backbone)
    if not timm.is_model(tag):
        raise StudyError(f"timm has no backbone {backbone!r}. `timm.list_models()` lists them.")
    cfg = timm.get_pretrained_cfg(tag)
    if cfg is None or not cfg.has_weights:
        raise StudyError(f"timm has no pretrained weights for {backbone!r}. Choose another backbone or source.")
    return f"{cfg.architecture}.{cfg.tag}", cfg


def _local(name: str, backbone: str, entry: Any, folder: str | Path) -> Source:
    from sourcematters.sources import keras_weights

    entry = {"path": entry} if isinstance(entry, str | Path) else dict(entry)
    unknown = set(entry) - {"path", "mean", "std"}
    if unknown or "path" not in entry:
        raise StudyError(f"weights[{name!r}] needs `path` and may have `mean` and `std`; it has {sorted(entry)}.")
    path = Path(entry["path"]).expanduser()
    if path.is_dir():
        files = keras_weights.RADIMAGENET_FILES if name == KERAS else RADIMAGENET_FILES
        path = path / files.get(backbone, f"{backbone}.safetensors")
    if not path.is_file():
        recipe = _keras_recipe(backbone) if name == KERAS else "Put the file there or mend the path."
        raise StudyError(f"weights of source {name!r}: {path} does not exist. {recipe}")
    from_keras = path.suffix in keras_weights.SUFFIXES
    if name in ("radimagenet", KERAS) and from_keras != (name == KERAS):
        raise StudyError(
            f"weights of source {name!r}: {path.name} is not of that release. RadImageNet's Keras release "
            f"({', '.join(keras_weights.SUFFIXES)}) is called {KERAS}, its PyTorch release radimagenet."
        )
    mean, std = (HALF, HALF) if name == "radimagenet" else (IMAGENET_MEAN, IMAGENET_STD)
    if name == KERAS:
        mean, std = keras_weights.RADIMAGENET_MEAN, keras_weights.RADIMAGENET_STD
    if name == "imagenet":
        _, cfg = _timm_entry(backbone)
        mean, std = cfg.mean, cfg.std
    mean, std = tuple(map(float, entry.get("mean", mean))), tuple(map(float, entry.get("std", std)))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise StudyError(f"weights[{name!r}]: mean and std are three numbers each (pixels scaled to 0..1), std > 0.")
    if from_keras:
        return keras_weights.source(name, backbone, path, folder, mean, std)
    return Source(name, "checkpoint", f"sha256:{sha256(path)}", mean, std, str(path.resolve()))


def at_hand(source: Source) -> bool:
    """Whether nothing has to be downloaded or trained before this source can be loaded, as far as files tell."""
    return source.kind in ("random", "checkpoint") or (source.kind == "standin" and Path(source.location).exists())


def fetch(source: Source, backbone: str) -> None:
    """Bring the weights onto this machine (download, or train a stand-in), once, before workers need them.

    Raises StudyError with a recipe when the download fails.
    """
    from sourcematters.demo import standins

    source = replace(source, name=source.name.removesuffix(MATCHED))
    if source.kind == "standin":
        standins.pretrain(source, backbone)
    elif source.kind == "timm":
        _timm_backbone(source, size=None)
    elif source.kind == "hub":
        _hub_file(source)


def load(source: Source, backbone: str, *, size: int) -> "torch.nn.Module":
    """The timm backbone without classifier, (B, 3, size, size) -> (B, features), carrying the source's weights.

    One from Keras is changed to compute what Keras does. Raises StudyError naming the keys when the file is not
    exactly this backbone's.
    """
    from sourcematters.sources import keras_weights

    if source.kind == "timm":
        return _timm_backbone(source, size=size)
    model = create(backbone, size=size)
    if source.kind != "random":
        path = _hub_file(source) if source.kind == "hub" else source.location
        load_exactly(model, read_tensors(path), backbone, origin=str(path))
    if source.kind == "keras":
        keras_weights.as_keras(model, backbone)
    return model


def create(backbone: str, *, size: int | None, **options: Any) -> "torch.nn.Module":
    """An untrained timm backbone with pooled features and no classifier. Raises StudyError if timm lacks it."""
    import timm

    if not timm.is_model(backbone):
        raise StudyError(f"timm has no backbone {backbone!r}. `timm.list_models()` lists them.")
    cfg = timm.get_pretrained_cfg(backbone)
    if size and cfg is not None and cfg.fixed_input_size:
        options["img_size"] = size
    return timm.create_model(backbone, num_classes=0, **options)


def _timm_backbone(source: Source, size: int | None) -> "torch.nn.Module":
    try:
        return create(source.location, size=size, pretrained=True)
    except StudyError:
        raise
    except Exception as error:
        raise StudyError(
            f"the ImageNet weights {source.location!r} could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}). Connect once, or download `model.safetensors` of timm/{source.location} "
            f'elsewhere and pass weights: {{"{source.name}": "path/to/model.safetensors"}}.'
        ) from error


def _hub_file(source: Source) -> str:
    from huggingface_hub import hf_hub_download

    try:
        return hf_hub_download(RADIMAGENET_HUB, source.location)
    except Exception as error:
        raise StudyError(
            f"the RadImageNet weights {source.location} could not be fetched from the hub ({type(error).__name__}). "
            "Connect once, or request them from the RadImageNet authors (github.com/BMEII-AI/RadImageNet, "
            f'PyTorch release) and pass weights: {{"{source.name}": "folder/with/{source.location}"}}.'
        ) from error


def read_tensors(path: str | Path) -> dict[str, "torch.Tensor"]:
    """Read a checkpoint's tensors by name: safetensors, or a .pt/.pth that holds tensors and nothing executable.

    A wrapping `state_dict` or `model` entry and DataParallel's `module.` prefix are removed.
    Raises StudyError when the file is damaged, or holds objects that only unpickling code could restore.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if Path(path).suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise StudyError(
            f"{path}: is not a file of plain tensors, and loading it would run code from the file. Save "
            "`model.state_dict()` with safetensors.torch.save_file or torch.save, and use that."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise StudyError(f"{path}: damaged or not a checkpoint ({reason}). Fetch or save it again.") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise StudyError(f"{path}: holds {type(state).__name__}, not a state_dict of tensors.")
    return {re.sub(r"^module\.", "", key): value for key, value in state.items()}


def load_exactly(model: "torch.nn.Module", state: Mapping[str, "torch.Tensor"], backbone: str, *, origin: str) -> None:
    """Load `state` into a backbone and prove it: nothing missing, nothing left over but the file's classifier.

    RadImageNet's numbered keys (`backbone.N.*`) are named first. Raises StudyError naming the offending keys.
    """
    state = dict(state)
    if backbone in _CHILDREN and any(re.match(r"backbone\.\d+\.", key) for key in state):
        state = {_numbered_to_named(key, _CHILDREN[backbone]): value for key, value in state.items()}
    classifier = _classifier_names(backbone)
    own = model.state_dict()
    # num_batches_tracked only counts, changes nothing when momentum is set, and old checkpoints lack it.
    wanted = {key: own[key].shape for key in own if key in state or not key.endswith("num_batches_tracked")}
    found = {k: state[k].shape for k in state if k in own or k.rsplit(".", 1)[0] not in classifier}
    if complaint := differences(found, wanted):
        raise StudyError(
            f"{origin}: does not hold the weights of {backbone!r}. Keys {complaint}. "
            "Exactly the classifier may be missing. Choose the backbone this file was made for, or rename its keys."
        )
    model.load_state_dict({key: state.get(key, own[key]) for key in own}, strict=True)


def differences(found: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]]) -> str:
    """What tells a file's tensors, name to shape, from a network's, in words; empty when they are the same."""
    complaints = {
        "missing": [key for key in wanted if key not in found],
        "not of this network": [key for key in found if key not in wanted],
        "of another shape": [
            f"{key} {tuple(found[key])} where {tuple(shape)} is needed"
            for key, shape in wanted.items()
            if key in found and tuple(found[key]) != tuple(shape)
        ],
    }
    return "; ".join(
        f"{len(keys)} {what}: {', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''}"
        for what, keys in complaints.items()
        if keys
    )


def _numbered_to_named(key: str, children: Mapping[int, str]) -> str:
    match = re.match(r"backbone\.(\d+)\.(.*)", key)
    if match and int(match[1]) in children:
        return f"{children[int(match[1])]}.{match[2]}"
    return key


def _classifier_names(backbone: str) -> set[str]:
    import timm

    cfg = timm.get_pretrained_cfg(backbone)
    names = cfg.classifier if cfg is not None and cfg.classifier else ("fc", "classifier", "head", "head.fc")
    return {names} if isinstance(names, str) else set(names)
