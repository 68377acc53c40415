"""Checkpoints: read without running code, or named for what they are instead."""

import argparse
import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from sourcematters.errors import StudyError
from sourcematters.files import sha256
from sourcematters.sources.file_kinds import TORCH, ZIP, beginning, refuse_what_is_no_checkpoint

if TYPE_CHECKING:
    import torch

HUB_SECONDS = 5.0  # for the hub to answer at all


def read_tensors(path: str | Path) -> dict[str, "torch.Tensor"]:
    """Read a checkpoint's tensors by name: safetensors, or what torch saved and holds nothing executable.

    Entries within entries are named `state_dict.conv1.weight`; what is no tensor is passed over. Raises StudyError when
    the file is damaged, is something else (which is said), or holds objects that only unpickling code could restore.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: Any
    try:
        refuse_what_is_no_checkpoint(path)
        if beginning(path).startswith((ZIP, TORCH)):
            # Scripts of training keep their arguments in it. An open file has no name, of which torch would make much.
            with torch.serialization.safe_globals([argparse.Namespace]), open(path, "rb") as file:
                state = torch.load(file, map_location="cpu", weights_only=True)
        else:
            state = load_file(path)
    except UnpicklingError as error:
        raise StudyError(
            f"{path}: is not a file of plain tensors, and loading it would run code from the file. Save "
            "`model.state_dict()` with safetensors.torch.save_file or torch.save, and use that."
        ) from error
    # torch's reader of plain tensors runs a machine of its own, which a damaged file breaks in any way.
    except (
        SafetensorError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
    ) as error:
        raise StudyError(f"{path}: damaged or not a checkpoint ({reason(error)}). Fetch or save it again.") from error
    if not (tensors := tensors_of(state)):
        raise StudyError(f"{path}: holds {type(state).__name__}, not a state_dict of tensors.")
    return tensors


def tensors_of(state: Any) -> dict[str, "torch.Tensor"]:
    """The tensors by name in mappings within mappings; what is no tensor is passed over."""
    return dict(_tensors(state))


def _tensors(state: Any, name: str = "") -> Iterator[tuple[str, "torch.Tensor"]]:
    """The tensors in mappings within mappings."""
    import torch

    if isinstance(state, Mapping):
        for key, value in state.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(state, torch.Tensor) and name:
        yield name, state


def demand_hub(repository: str, *files: str) -> None:
    """Raise the hub's own error at once when it cannot be reached, unless one of `files` is in the cache.

    Downloading tries again and again, for a minute, and says so each time.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    if not any(isinstance(hub.try_to_load_from_cache(repository, file), str) for file in files):
        with contextlib.suppress(EntryNotFoundError):  # it has another of the files
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, files[0]), timeout=HUB_SECONDS)


def as_downloaded(path: str | Path) -> str:
    """The path of a file in the cache of the Hugging Face hub, which names what it keeps by its SHA-256.

    Raises StudyError if the file is not what was downloaded.
    """
    kept = Path(path).resolve()
    if re.fullmatch("[0-9a-f]{64}", kept.name) and sha256(kept) != kept.name:
        raise StudyError(f"{path}: is not what was downloaded. Delete {kept}: it is then downloaded again.")
    return str(path)


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
