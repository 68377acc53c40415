"""Finished models that torch runs: checkpoints, TorchScript, and, where the user asks for it, pickled networks."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sourcematters.audit.model.choice import ModelChoice
from sourcematters.audit.model.network import Network, load_network
from sourcematters.errors import StudyError
from sourcematters.sources.loading import read_tensors, reason, tensors_of

if TYPE_CHECKING:
    import torch

Run = Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], NDArray[np.float32]]]


class Module(NamedTuple):
    """What a file holds that torch can run."""

    kind: str
    module: "torch.nn.Module"
    network: Network | None  # of a checkpoint


def open_torch(choice: ModelChoice) -> Module:
    """The network of a checkpoint, or the whole one that was pickled, if that was asked for.

    Raises StudyError when neither can be had, with the option that allows unpickling where that is what it takes.
    """
    path = choice.path
    state = _unpickled(path) if choice.unpickle else _tensors(path)
    if not isinstance(state, dict):
        return Module("pickled network", state.float(), None)
    if not choice.architecture:
        raise StudyError(
            f"model: {path} is a checkpoint, tensors by name, which does not say whose they are. Give `architecture`, "
            "a name in timm or torchvision.models, such as resnet50; or export the model as TorchScript or ONNX."
        )
    network = load_network(state, choice, str(path))
    return Module("checkpoint", network.network, network)


def open_script(path: Path) -> Module:
    """A TorchScript archive. It holds code too, but in torch's own language, run by torch's interpreter, not Python's.

    Raises StudyError when it is damaged.
    """
    import torch

    try:
        return Module("TorchScript", torch.jit.load(str(path), map_location="cpu"), None)
    except (RuntimeError, ValueError, OSError) as error:
        raise StudyError(f"{path}: TorchScript that torch cannot load ({reason(error)}). Export it again.") from error


def _tensors(path: Path) -> "dict[str, torch.Tensor]":
    try:
        return read_tensors(path)
    except StudyError as error:
        if isinstance(error.__cause__, UnpicklingError):
            raise StudyError(
                f"{path}: holds more than tensors, such as a whole pickled network, and loading that runs whatever "
                "code the file holds. Save `model.state_dict()` and give that; or, if you trust whoever made the file, "
                "set `unpickle: true`."
            ) from error
        raise


def _unpickled(path: Path) -> Any:
    """The network in a pickle, or its tensors by name. Whatever code the file holds is run: the user asked for it."""
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # whatever the file's own code raises
        if not path.name.endswith(".safetensors"):
            raise StudyError(
                f"{path}: cannot be unpickled ({type(error).__name__}: {reason(error)}). The packages and modules that "
                "it was saved from must be importable here."
            ) from error
        return read_tensors(path)
    networks = [held, *(held.values() if isinstance(held, Mapping) else ())]
    if whole := next((each for each in networks if isinstance(each, torch.nn.Module)), None):
        return whole
    if not (tensors := tensors_of(held)):
        raise StudyError(f"{path}: holds {type(held).__name__}, neither a network nor tensors.")
    return tensors


def last_linear(module: "torch.nn.Module") -> str:
    """Name of the last linear layer; "" if there is none that can be watched."""
    import torch

    names = [name for name, each in module.named_modules() if isinstance(each, torch.nn.Linear)]
    return names[-1] if names else ""


def runner(module: "torch.nn.Module", head: str, device: "torch.device") -> Run:
    """What gives outputs (B, K) and pooled features (B, F), those that the layer `head` gets, of images (B, C, S, S).

    Threads may call it at once. Without a head that is reached the features are the outputs.
    """
    import torch

    from sourcematters.training import devices

    module = module.eval()
    if isinstance(module, torch.jit.ScriptModule):
        module.to(device)
    else:
        devices.place(module, device)
    seen: dict[int, torch.Tensor] = {}

    def note(_: Any, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], torch.Tensor):
            seen[threading.get_ident()] = given[0]

    if head:
        module.get_submodule(head).register_forward_pre_hook(note)

    def run(images: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        # TorchScript rewrites a graph after it has run a few times, and then rounds otherwise.
        with torch.inference_mode(), torch.jit.optimized_execution(False):
            outputs = first_tensor(module(torch.from_numpy(images).to(device))).float().reshape(len(images), -1)
        features = seen.pop(threading.get_ident(), outputs)
        features = features.float().reshape(len(images), -1)
        return outputs.double().cpu().numpy(), features.cpu().numpy()

    return run


def first_tensor(made: Any) -> "torch.Tensor":
    """The outputs among what a network returns: logits, or the first of several."""
    while not hasattr(made, "reshape"):
        made = made.get("logits", next(iter(made.values()))) if isinstance(made, Mapping) else made[0]
    return made
