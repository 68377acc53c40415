"""Checkpoints: read without running code, and loaded with the proof that every tensor came from the file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from sourcematters.errors import StudyError
from sourcematters.files import sha256

if TYPE_CHECKING:
    import torch


def read_tensors(path: str | Path) -> dict[str, "torch.Tensor"]:
    """Read a checkpoint's tensors by name: safetensors, or a .pt/.pth that holds tensors and nothing executable.

    A wrapping `state_dict` or `model` entry and DataParallel's `module.` prefix are removed. Raises StudyError when the
    file is damaged, or holds objects that only unpickling code could restore.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: Any
    try:
        safe = Path(path).suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise StudyError(
            f"{path}: is not a file of plain tensors, and loading it would run code from the file. Save "
            "`model.state_dict()` with safetensors.torch.save_file or torch.save, and use that."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise StudyError(f"{path}: damaged or not a checkpoint ({reason(error)}). Fetch or save it again.") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise StudyError(f"{path}: holds {type(state).__name__}, not a state_dict of tensors.")
    return {re.sub(r"^module\.", "", key): value for key, value in state.items()}


def as_downloaded(path: str | Path) -> str:
    """The path of a file in the cache of the Hugging Face hub, which names what it keeps by its SHA-256.

    Raises StudyError if the file is not what was downloaded.
    """
    kept = Path(path).resolve()
    if re.fullmatch("[0-9a-f]{64}", kept.name) and sha256(kept) != kept.name:
        raise StudyError(f"{path}: is not what was downloaded. Delete {kept}: it is then downloaded again.")
    return str(path)


def load_exactly(model: "torch.nn.Module", state: Mapping[str, "torch.Tensor"], backbone: str, *, origin: str) -> None:
    """Load `state` into a backbone and prove it: nothing missing, nothing left over but the file's classifier.

    A file that numbers the network's children (`backbone.N.*`), as RadImageNet's release does, gets their names. Raises
    StudyError naming the offending keys.
    """
    children = {f"backbone.{number}.": f"{name}." for number, (name, _) in enumerate(model.named_children())}
    state = {re.sub(r"^backbone\.\d+\.", lambda n: children.get(n[0], n[0]), key): state[key] for key in state}
    own, whole = model.state_dict(), _shapes(backbone)
    # Not only the last layer: LeViT and RepViT normalize before it.
    classifier = {key.rsplit(".", 1)[0] for key in whole if key not in own} or {"fc", "classifier", "head", "head.fc"}
    if backbone.split(".")[0] == "inception_v3":
        state = _without_auxiliary(state)
    # num_batches_tracked only counts, changes nothing when momentum is set, and old checkpoints lack it.
    wanted = {key: own[key].shape for key in own if key in state or not key.endswith("num_batches_tracked")}
    found = {k: state[k].shape for k in state if k in own or k.rsplit(".", 1)[0] not in classifier}
    if complaint := differences(found, wanted):
        raise StudyError(
            f"{origin}: does not hold the weights of {backbone!r}. Keys {complaint}. "
            "Exactly the classifier may be missing. Choose the backbone this file was made for, or rename its keys."
        )
    model.load_state_dict({key: state.get(key, own[key]) for key in own}, strict=True)


def _without_auxiliary(state: Mapping[str, "torch.Tensor"]) -> Mapping[str, "torch.Tensor"]:
    """The tensors without InceptionV3's second classifier, which torchvision's weights hold and timm leaves out.

    It is left out whole, or stays to be complained of.
    """
    found = {key: state[key].shape for key in state if key.startswith("AuxLogits.")}
    due = {
        key: shape for key, shape in _shapes("inception_v3", aux_logits=True).items() if key.startswith("AuxLogits.")
    }
    for key in due:
        if key in found and key.startswith("AuxLogits.fc."):  # of as many classes as it may have
            due[key] = (found[key][0], *due[key][1:])
    due = {key: due[key] for key in due if key in found or not key.endswith("num_batches_tracked")}
    return state if differences(found, due) else {key: state[key] for key in state if key not in found}


def _shapes(backbone: str, **options: Any) -> dict[str, tuple[int, ...]]:
    """Name to shape of all tensors of timm's network with its classifier; torch's random state stays as it is."""
    import timm
    import torch

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return {key: tuple(value.shape) for key, value in timm.create_model(backbone, **options).state_dict().items()}


def differences(found: Mapping[str, Sequence[int]], wanted: Mapping[str, Sequence[int]]) -> str:
    """What tells a file's tensors, name to shape, from a network's, in words; empty when they are the same."""
    shapes = [(key, tuple(found[key]), tuple(wanted[key])) for key in wanted if key in found]
    complaints = {
        "missing": [key for key in wanted if key not in found],
        "not of this network": [key for key in found if key not in wanted],
        "of another shape": [f"{key} {own} where {due} is needed" for key, own, due in shapes if own != due],
    }
    words = {what: ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "") for what, keys in complaints.items()}
    return "; ".join(f"{len(complaints[what])} {what}: {keys}" for what, keys in words.items() if keys)


def reason(error: Exception) -> str:
    """The first line of an error, in at most 120 characters, or its name if it has none."""
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
