"""Tensors of a file into a network, with the proof that every weight came from the file."""

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from unittest import mock

from sourcematters.errors import StudyError
from sourcematters.sources.loading import differences

if TYPE_CHECKING:
    import torch

    State = Mapping[str, torch.Tensor]

Shapes = Mapping[str, Sequence[int]]
Change = Callable[["State"], "State"]
# Of several networks in a file the first of these is taken, then whichever comes first; a running average (ema) last.
FIRST = ("state_dict", "model", "teacher")
LARGEST = 1e10  # of a weight: four layers of such leave 32 bits


def load_exactly(
    model: "torch.nn.Module", state: "State", backbone: str, *, origin: str, rename: Mapping[str, str] | None = None
) -> str:
    """Load `state` into a backbone and prove it: nothing missing, nothing left over but the file's classifier.

    The network may be what lies under a common prefix (`state_dict.`, `module.encoder.`); with `rename`, what begins
    with its keys, which are replaced by its values. What does not fit as it is, is tried with the network's children
    by number, as RadImageNet's release has them, and as timm's own filter of published files makes it. A first layer
    of one channel is spread over three.

    Returns what was done, in words, "" for nothing. Raises StudyError naming the offending keys, or values that are no
    weights.
    """
    network = _Network(model, backbone)
    candidates = list(parts(state, network.fewest))
    if rename:
        chosen, left = renamed(state, rename, origin)
        candidates = [*parts(chosen, network.fewest), *parts(left | chosen, network.fewest)]
    tried: list[_Reading] = []
    for words, change in ways(model, backbone):
        tried += [network.reading(prefix, part, change, words) for prefix, part in candidates]
        if fitting := [reading for reading in tried if not reading.complaint]:
            break
    else:
        nearest = max(tried, key=lambda reading: reading.alike)
        raise StudyError(
            f"{origin}: does not hold the weights of {backbone!r}. Keys {nearest.complaint}. Exactly the classifier "
            "may be missing. Choose the backbone this file was made for, or `rename` the beginnings of its keys."
        )
    taken, *others = fitting
    demand_weights(taken.state, network.own, origin)
    model.load_state_dict({key: taken.state.get(key, own) for key, own in network.own.items()}, strict=True)
    passed = dict.fromkeys(other.prefix or "the whole" for other in others if other.prefix != taken.prefix)
    return "; ".join([*taken.done, *([f"not taken, though it fits: {', '.join(passed)}"] if passed else [])])


@dataclass(frozen=True)
class _Reading:
    """One way to read a file: the tensors under a prefix, what was done to them, and what then is wrong."""

    prefix: str
    state: dict[str, "torch.Tensor"]
    done: list[str]
    alike: int  # tensors of the right name and shape
    complaint: str


class _Network:
    """What is to be filled."""

    def __init__(self, model: "torch.nn.Module", backbone: str) -> None:
        self.backbone, self.own = backbone, model.state_dict()
        self.fewest = sum(not key.endswith("num_batches_tracked") for key in self.own) // 2
        # Not only the last layer: LeViT and RepViT normalize before it.
        self.classifier = {key.rsplit(".", 1)[0] for key in _shapes(backbone) if key not in self.own}
        self.classifier = self.classifier or {"fc", "classifier", "head", "head.fc"}
        # Where a layer follows the pooling, a head may have been put on either side of it.
        self.features = {getattr(model, name, 0) for name in ("num_features", "head_hidden_size")} - {0, None}

    def reading(self, prefix: str, part: "State", change: Change, words: str) -> _Reading:
        """What `change`, in words, makes of a part of the file."""
        try:
            state = dict(change(part))
        except Exception:  # whatever timm's filter does with names that it was not made for
            return _Reading(prefix, {}, [], -1, "unknown")
        if self.backbone.split(".")[0] == "inception_v3":
            state = dict(_without_auxiliary(state))
        done = [f"{prefix} taken off"] * bool(prefix) + [words] * bool(words)
        for key in _of_one_channel(state, self.own):
            # As grey comes in three equal channels, a third of each makes the same sum.
            state[key] = state[key].expand(-1, 3, -1, -1) / 3
            done.append(f"{key} of one channel spread over three")
        rest = {key: state[key].shape for key in state if key not in self.own}
        rest = {key: shape for key, shape in rest.items() if key.rsplit(".", 1)[0] not in self.classifier}
        head = heads(rest, {key.split(".")[0] for key in self.own}, self.features)
        done += [f"{', '.join(head)} left out"] * bool(head)
        # num_batches_tracked only counts, changes nothing when momentum is set, and old checkpoints lack it.
        due = [key for key in self.own if key in state or not key.endswith("num_batches_tracked")]
        wanted = {key: tuple(self.own[key].shape) for key in due}
        found = {key: tuple(state[key].shape) for key in due if key in state}
        alike = sum(found.get(key) == shape for key, shape in wanted.items())
        found |= {key: tuple(shape) for key, shape in rest.items() if key.split(".")[0] not in head}
        return _Reading(prefix, state, done, alike, differences(found, wanted))


def ways(model: "torch.nn.Module", backbone: str) -> list[tuple[str, Change]]:
    """What may have to be done to a file's names before they are the network's, in words and as a function.

    `backbone` is "" for a network that is not timm's.
    """
    found: list[tuple[str, Change]] = [("", dict), ("children by number", partial(_children_named, model))]
    return [*found, *([("keys by timm's filter", partial(_filtered, model, backbone))] if backbone else [])]


def _children_named(model: "torch.nn.Module", part: "State") -> "State":
    """Tensors with the numbers that the network's children have in a row replaced by their names."""
    names = {str(number): name for number, (name, _) in enumerate(model.named_children())}
    return {re.sub(r"^\d+(?=\.)", lambda found: names.get(found[0], found[0]), key): part[key] for key in part}


def _filtered(model: "torch.nn.Module", backbone: str, part: "State") -> "State":
    """Tensors as timm makes them of a published file, in the layout of its authors and of another input size."""
    try:
        return _timms_filter(backbone)(dict(part), model)
    except TypeError:  # one that needs no network
        return _timms_filter(backbone)(dict(part))


@lru_cache
def _timms_filter(backbone: str) -> Callable[..., "State"]:
    # timm chooses it while it makes the network, and hands it to what loads.
    import timm

    given: dict[str, Any] = {}
    loads = mock.patch("timm.models._builder.load_pretrained", lambda *_, **options: given.update(options))
    with loads, imagined():
        timm.create_model(backbone, pretrained=True, num_classes=0)
    return given.get("filter_fn") or (lambda state, _: state)


def parts(state: "State", fewest: int) -> Iterator[tuple[str, "State"]]:
    """What lies under each prefix that at least `fewest` names share, without it; the likeliest first."""
    counts = Counter(key[: dot.end()] for key in state for dot in re.finditer(r"\.", key))

    def rank(prefix: str) -> tuple[bool, list[int]]:
        parts = prefix.split(".")[:-1]
        order = [FIRST.index(part) if part in FIRST else len(FIRST) for part in parts]
        return any("ema" in part.split("_") for part in parts), order

    for prefix in sorted(["", *(prefix for prefix, count in counts.items() if count >= fewest)], key=rank):
        yield prefix, {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}


def renamed(
    state: "State", rename: Mapping[str, str], origin: str
) -> tuple[dict[str, "torch.Tensor"], dict[str, "torch.Tensor"]]:
    """What begins with a key of `rename`, the longest one, replaced by its value; and what does not.

    Raises StudyError for a prefix with which no name begins, and for one name made twice.
    """
    chosen: dict[str, torch.Tensor] = {}
    left: dict[str, torch.Tensor] = {}
    used = set()
    for key, value in state.items():
        old = max((old for old in rename if key.startswith(old)), key=len, default=None)
        if old is None:
            left[key] = value
            continue
        used.add(old)
        if (name := rename[old] + key.removeprefix(old)) in chosen:
            raise StudyError(f"{origin}: `rename` makes two tensors called {name!r}.")
        chosen[name] = value
    if unused := [old for old in rename if old not in used]:
        begin = ", ".join(list(dict.fromkeys(key.split(".")[0] for key in state))[:12])
        raise StudyError(f"{origin}: no name begins with {unused[0]!r}, as `rename` has it. Names begin with {begin}.")
    return chosen, left


def heads(rest: Shapes, taken: Collection[str], features: Collection[int]) -> list[str]:
    """What of tensors that a network lacks is a head on its features: beginnings of names, none of them `taken`.

    A head's first matrix takes the network's features, the next what that one makes; nothing has more dimensions.
    """
    groups: dict[str, list[Sequence[int]]] = {}
    for key, shape in rest.items():
        groups.setdefault(re.split("[./]", key)[0], []).append(shape)
    found, made, grown = dict[str, None](), set[int](), True
    while grown:
        grown = False
        for name, shapes in groups.items():
            matrices = [shape for shape in shapes if len(shape) == 2]
            fits = (
                any({*features, *made} & {*shape} for shape in matrices)
                if matrices
                else all(made - {*features} >= {*shape} for shape in shapes)
            )
            if name not in found and name not in taken and max(map(len, shapes)) <= 2 and fits:
                found[name], grown = None, True
                made.update(size for shape in matrices for size in shape)
    return list(found)


def demand_weights(state: "State", own: "State", origin: str) -> None:
    """Raise StudyError naming tensors that are no real numbers, or not finite; or when all of them are zero."""
    import torch

    due = {key: value for key, value in state.items() if key in own and own[key].is_floating_point()}
    real = {key: value for key, value in due.items() if value.is_floating_point() and value.layout == torch.strided}
    kinds = {
        "no real numbers (integers of a quantized network, complex or sparse)": due.keys() - real.keys(),
        "not finite (NaN, or beyond 32 bits)": {k for k, v in real.items() if not v.is_meta and not _finite(v)},
        f"out of range (beyond {LARGEST:g})": {k for k, v in real.items() if not v.is_meta and _beyond(v)},
    }
    for what, wrong in kinds.items():
        if wrong:
            names = ", ".join([key for key in due if key in wrong][:4]) + (", ..." if len(wrong) > 4 else "")
            raise StudyError(f"{origin}: {len(wrong)} of its {len(due)} tensors are {what}: {names}. Use another file.")
    if real and not any(value.is_meta or value.any() for value in real.values() if value.ndim > 1):
        raise StudyError(f"{origin}: all of its weights are zero. Use another file.")


def _beyond(value: "torch.Tensor") -> bool:
    return bool((value.float().abs() > LARGEST).any())


def _finite(value: "torch.Tensor") -> bool:
    return bool(value.float().isfinite().all())


def _of_one_channel(state: "State", own: "State") -> list[str]:
    """The convolutions that look at one channel where the network's look at three."""
    return [
        key for key in own
        if key in state and own[key].ndim == 4 and own[key].shape[1] == 3
        and tuple(state[key].shape) == (len(own[key]), 1, *own[key].shape[2:])
    ]  # fmt: skip


def _without_auxiliary(state: "State") -> "State":
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
    """Name to shape of all tensors of timm's network with its classifier."""
    import timm

    with imagined():
        return {key: tuple(value.shape) for key, value in timm.create_model(backbone, **options).state_dict().items()}


@contextlib.contextmanager
def imagined() -> Iterator[None]:
    """Networks made here have shapes and no values; torch's random state stays as it is."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        yield
