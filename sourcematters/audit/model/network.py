"""A checkpoint that holds its classifier, in the network that it was made for: every tensor used, every weight filled.

What a training script wrapped around the network is seen from the names: a prefix, a head of other layers in place of
the network's own, or a head beside the network (`backbone.conv1.weight` and `classifier.weight`).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from sourcematters.audit.model.architectures import Architecture, Input, named, relatives
from sourcematters.audit.model.choice import ModelChoice
from sourcematters.audit.model.heads import Head, Unclear, head
from sourcematters.errors import StudyError
from sourcematters.sources.fitting import Change, demand_weights, parts, renamed, ways
from sourcematters.sources.loading import differences

if TYPE_CHECKING:
    import torch

    State = Mapping[str, torch.Tensor]

# Of losses and of measures that count during training: no part of the network.
NO_LAYER = re.compile(r"(?i).*(loss|criterion|metric|accuracy|auroc|auc|f1|(^|_)acc($|_|\d)|weights?$|optim|sched).*")
EXPORT = "Export the model as TorchScript or ONNX, which hold their layers, and give that file."


class Network(NamedTuple):
    """A finished network, how it was loaded, and what its input is unless the user says otherwise."""

    network: "torch.nn.Module"
    head: str  # name of the layer, or layers, whose input are the pooled features
    outputs: int
    channels: int
    input: Input
    done: list[str]


@dataclass
class _Reading:
    """One way to read a file: a part of its names as an architecture's, with the head that stands at `place`."""

    architecture: Architecture
    prefix: str
    state: dict[str, "torch.Tensor"]  # without the head's tensors, if the head is made again
    done: list[str]
    outputs: int = 0
    channels: int = 3
    head: Head | None = None
    place: str = ""
    alike: int = -1  # tensors of the right name and shape
    complaint: str = "not compared"
    unclear: str = ""  # why a head that is there cannot be made again
    is_source: bool = False  # all fits, and there is no classifier
    beside: list[str] = field(default_factory=list)  # what is there of the same script


def load_network(state: "State", choice: ModelChoice, origin: str) -> Network:
    """The network of `choice.architecture` with the weights of `state`, on the CPU.

    Raises StudyError for an unknown architecture; for tensors missing, left over or of other shapes, by name; for a
    file without classifier; and for a head whose layers its tensors do not tell.
    """
    architectures = named(choice.architecture, choice.library, choice.size)
    whole = [dict(state)]
    if choice.rename:
        chosen, left = renamed(state, choice.rename, origin)
        whole = [chosen, {**left, **chosen}]
    readers = [_Reader(architecture, bool(choice.rename)) for architecture in architectures]
    tried: list[_Reading] = []
    for number in range(max(len(reader.ways) for reader in readers)):
        for reader in readers:
            for words, change in reader.ways[number : number + 1]:
                tried += [reading for each in whole for reading in reader.readings(each, words, change)]
        if fitting := [reading for reading in tried if not reading.complaint]:
            break
    else:
        raise StudyError(_complaint(max(tried, key=lambda reading: reading.alike), choice, origin))
    return _loaded(fitting, choice, origin)


class _Reader:
    """What is to be filled: an architecture, by names and shapes."""

    def __init__(self, architecture: Architecture, is_chosen: bool) -> None:
        self.architecture, self.is_chosen = architecture, is_chosen
        self.empty = architecture.empty
        self.own = {key: tuple(value.shape) for key, value in self.empty.state_dict().items()}
        self.fewest = sum(not key.endswith("num_batches_tracked") for key in self.own) // 2
        name = architecture.name if architecture.library == "timm" else ""
        self.ways: list[tuple[str, Change]] = ways(self.empty, name)

    @cached_property
    def places(self) -> dict[str, int]:
        """Where a head of other layers may stand, and how many features it gets there."""
        import torch

        path, found = self.architecture.head, {}
        while path:
            module = self.empty.get_submodule(path)
            if not isinstance(module, torch.nn.Linear | torch.nn.Sequential):
                break
            first = next((each for each in module.modules() if isinstance(each, torch.nn.Linear)), None)
            if first is None:
                break
            found[path] = first.in_features
            path = path.rpartition(".")[0]
        return found

    def readings(self, state: "State", words: str, change: Change) -> Iterator[_Reading]:
        """Every part of the file that may be this network."""
        for prefix, part in parts(state, self.fewest):
            done = [f"{prefix} taken off"] * bool(prefix) + [words] * bool(words)
            try:
                changed = dict(change(part))
            except Exception:  # whatever timm's filter does with names that it was not made for
                continue
            yield self._reading(_Reading(self.architecture, prefix, changed, done), state)

    def _reading(self, reading: _Reading, whole: "State") -> _Reading:
        state, last = reading.state, f"{self.architecture.head}.weight"
        for key, shape in self.own.items():
            if len(shape) == 4 and shape[1] == 3 and key in state and state[key].ndim == 4 and state[key].shape[1] == 1:
                reading.channels = 1
                reading.done.append(f"first layer {key} of one channel")
                break
        beside = list(_beside(whole, reading.prefix, self.fewest)) if not self.is_chosen else []
        if last in state and state[last].ndim == len(self.own[last]):
            reading.outputs = len(state[last])
            auxiliary = any(key.startswith(("AuxLogits.", "aux1.")) for key in state)
            wanted = self.architecture.shapes(reading.outputs, reading.channels, auxiliary=auxiliary)
            self._compare(reading, wanted)
            takes = {wanted[last][1], reading.outputs}
            if more := [name for scope in beside for name, group in scope.items() if _takes(group, takes)]:
                reading.unclear = f"beside a whole network with its head stands what could be a head too: {more[0]}"
            if not reading.complaint:
                reading.complaint = reading.unclear
                return reading
        for place, features in self.places.items():
            inside = _under(state, f"{place}.")
            rest = {key: shape for key, shape in self.own.items() if not key.startswith(f"{place}.")}
            try:
                found = head(inside, features, place) if inside else _head_beside(beside, features)
            except Unclear as unclear:
                found, reading.unclear = None, str(unclear)
            left = {key: value for key, value in state.items() if not key.startswith(f"{place}.")}
            new = _Reading(self.architecture, reading.prefix, left, reading.done, channels=reading.channels)
            self._compare(new, _of_channels(rest, self.own, state))
            new.is_source = not new.complaint and not inside and found is None
            if found is None:
                new.complaint = "; ".join(filter(None, [new.complaint, "no head that fits its features"]))
            else:
                new.head, new.place, new.outputs = found, place, found.outputs
                new.done = [*new.done, found.how]
            new.unclear, new.beside = reading.unclear, [name for scope in beside for name in scope]
            if not new.complaint or new.alike > reading.alike or new.is_source:
                reading = new
            if not new.complaint:
                break
        return reading

    def _compare(self, reading: _Reading, wanted: Mapping[str, tuple[int, ...]]) -> None:
        # num_batches_tracked only counts, and old checkpoints lack it.
        due = {k: v for k, v in wanted.items() if k in reading.state or not k.endswith("num_batches_tracked")}
        found = {key: tuple(value.shape) for key, value in reading.state.items()}
        reading.alike = sum(found.get(key) == shape for key, shape in due.items())
        reading.complaint = differences(found, due)


def _of_channels(
    wanted: Mapping[str, tuple[int, ...]], own: Mapping[str, tuple[int, ...]], state: "State"
) -> dict[str, tuple[int, ...]]:
    """The shapes with a first layer of one channel where the file has one."""
    return {
        key: (shape[0], 1, *shape[2:])
        if len(shape) == 4 and shape[1] == 3 and key in state and tuple(state[key].shape) == (shape[0], 1, *shape[2:])
        else shape
        for key, shape in wanted.items()
    }


def _counted(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in shapes.items() if not key.endswith("num_batches_tracked")}


def _under(state: "State", prefix: str) -> dict[str, "torch.Tensor"]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _beside(state: "State", prefix: str, fewest: int) -> Iterator[dict[str, dict[str, "torch.Tensor"]]]:
    """What stands beside a network in its script, by first name: in the scope around it, then in wider ones."""
    path = prefix.rstrip(".")
    while path:
        path, _, own = path.rpartition(".")
        scope: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in _under(state, f"{path}." if path else "").items():
            name = key.split(".")[0]
            if name != own and not NO_LAYER.fullmatch(name):
                scope.setdefault(name, {})[key.removeprefix(name).removeprefix(".")] = value
        yield {name: group for name, group in scope.items() if len(group) < fewest}  # not a copy, as of running means


def _takes(group: "State", widths: set[int]) -> bool:
    return any(value.ndim == 2 and value.shape[1] in widths for value in group.values())


def _head_beside(scopes: list[dict[str, dict[str, "torch.Tensor"]]], features: int) -> Head | None:
    """The head that stands beside a network: one group of layers that fits its features, or all groups in a row.

    Raises `Unclear` for more than one, and where others stand there whose part in the network is not known.
    """
    for scope in scopes:
        layered = {name: group for name, group in scope.items() if any(value.ndim >= 2 for value in group.values())}
        fitting = {name: found for name, group in layered.items() if (found := head(group, features, name))}
        if len(fitting) > 1:
            raise Unclear(f"{' and '.join(fitting)} could each be the head")
        if fitting and len(layered) == 1:
            (name, found), *_ = fitting.items()
            return found._replace(how=f"{found.how}, from {name} beside the network")
        chain = {f"{name}.{key}": value for name, group in scope.items() for key, value in group.items()}
        if layered and (found := head(chain, features, " and ".join(layered))):
            return found._replace(how=f"{found.how}, from beside the network")
        if fitting:
            others = ", ".join(name for name in layered if name not in fitting)
            raise Unclear(f"{', '.join(fitting)} beside it fits its features, and what {others} does is not known")
    return None


def _loaded(fitting: list[_Reading], choice: ModelChoice, origin: str) -> Network:
    import torch

    taken, *others = fitting
    architecture = taken.architecture
    auxiliary = any(key.startswith(("AuxLogits.", "aux1.")) for key in taken.state)
    with torch.random.fork_rng(devices=[]):
        network = architecture.made(max(taken.outputs, 1), taken.channels, auxiliary=auxiliary)
    if taken.head:
        network.set_submodule(taken.place, taken.head.layers)
    own = network.state_dict()
    demand_weights(taken.state, own, origin)
    network.load_state_dict({key: taken.state.get(key, value) for key, value in own.items()})
    demand_weights(network.state_dict(), own, origin)
    done = [f"{architecture.library}'s {architecture.name}", *taken.done]
    if also := {each.architecture.library for each in others} - {architecture.library}:
        done.append(f"the names fit {', '.join(also)}'s too (library: ... chooses)")
    if passed := {each.prefix or "the whole" for each in others if each.prefix != taken.prefix}:
        done.append(f"not taken, though it fits: {', '.join(sorted(passed))}")
    place = taken.place or architecture.head
    return Network(network, place, taken.outputs, taken.channels, architecture.input, done)


def _complaint(nearest: _Reading, choice: ModelChoice, origin: str) -> str:
    """Why no reading of the file fits, in words, and how to mend it."""
    name = f"{nearest.architecture.library}'s {nearest.architecture.name!r}"
    if nearest.unclear:
        return f"{origin}: is {name}, but {nearest.unclear}. {EXPORT}"
    if nearest.is_source:
        there = f"; beside it stand {', '.join(nearest.beside[:6])}" if nearest.beside else ""
        return (
            f"{origin}: holds the weights of {name} and no classifier on its features{there}. That is a source, not a "
            "finished model: give it under `weights` and `sources`. If a head is there, `rename` the beginning of its "
            f'names to "{nearest.architecture.head}.".'
        )
    for relative in relatives(nearest.architecture):
        last = nearest.architecture.head
        shapes = {key: shape for key, shape in relative.shapes(2).items() if not key.startswith(f"{last}.")}
        found = {k: tuple(v.shape) for k, v in nearest.state.items() if not k.startswith(f"{last}.")}
        if _counted(found) == _counted(shapes):
            return (
                f"{origin}: does not hold the weights of {name}, but those of {relative.name}: keys "
                f"{nearest.complaint}. Give architecture: {relative.name}."
            )
    return (
        f"{origin}: does not hold the weights of {name}. Keys {nearest.complaint}. Give the architecture that this "
        "file was made for (and its size, if it has a fixed one), or `rename` the beginnings of its keys."
    )
