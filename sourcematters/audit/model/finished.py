"""A finished model: the log-odds that it gives grey images, and the features that it sees in them."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sourcematters.audit.model.architectures import Input, named
from sourcematters.audit.model.choice import ModelChoice, Numbers
from sourcematters.audit.model.onnx_graph import Run, open_onnx
from sourcematters.audit.model.outputs import Reading, read_outputs
from sourcematters.audit.model.torch_files import Module, last_linear, open_script, open_torch, runner
from sourcematters.errors import StudyError
from sourcematters.files import sha256
from sourcematters.processes import cores, progress
from sourcematters.seeds import generator
from sourcematters.sources.file_kinds import instead_of, is_keras, is_onnx, is_torchscript
from sourcematters.sources.loading import reason
from sourcematters.sources.source import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from torch import nn

REVISION = 1  # raise it when the same file and options give other log-odds
BATCH, LARGER = 16, 128  # images that a thread, and a card, takes at once
PATTERNS = 24  # images of no meaning, on which a model is tried while it is opened
SAID = 1000  # images; fewer take no bar
UNKNOWN = Input(224, IMAGENET_MEAN, IMAGENET_STD, "ImageNet's, as the file does not say")
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Finished:
    """A model that is done with training.

    `how` says what was done to load it and what was assumed. `identity` is a SHA-256 of the file and of all that
    changes its log-odds. `size` in px; `mean` and `std`, of each channel, for pixels scaled to 0..1.
    """

    name: str
    kind: str  # checkpoint, TorchScript, ONNX, pickled network
    how: str
    identity: str
    size: int
    mean: Numbers
    std: Numbers
    interpolation: str | None
    inverted: bool
    features_are: str  # pooled features, or outputs
    reading: Reading
    run: Run
    device: str
    module: "nn.Module | None" = None  # what torch runs; None of a graph

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Log-odds of label 1, (N,), of grey images, (N, size, size). Raises StudyError for what it cannot take."""
        outputs, _ = self._forward(images)
        try:
            return self.reading.log_odds(outputs)
        except StudyError as error:
            raise StudyError(f"model {self.name}: {error}") from error

    def features(self, images: NDArray[np.uint8]) -> Features:
        """What the classifier gets of each image, (N, F), or all outputs: see `features_are`."""
        return self._forward(images)[1]

    def _forward(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], Features]:
        import torch

        from sourcematters.training.classifier import reproducible

        if images.ndim != 3 or images.shape[1:] != (self.size, self.size) or not len(images):
            raise StudyError(f"model {self.name}: takes grey images (N, {self.size}, {self.size}), not {images.shape}.")
        device = torch.device(self.device)
        step, threads = (BATCH, cores()) if device.type == "cpu" else (LARGER, 1)
        batches = [images[start : start + step] for start in range(0, len(images), step)]
        # Each thread computes a batch by itself: their number changes no bit, and all cores are busy.
        with (
            reproducible(0, device),
            ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
            progress(total=len(images), desc=f"score: {self.name}", unit="image", disable=len(images) < SAID) as bar,
        ):
            made = []
            for outputs, features in pool.map(self._batch, batches):
                made.append((outputs, features))
                bar.update(len(outputs))
        outputs, features = (np.concatenate(each) for each in zip(*made, strict=True))
        return outputs, features

    def _batch(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], Features]:
        grey = (255 - images if self.inverted else images).astype(np.float32)[:, None] / np.float32(255)
        mean, std = (np.array(each, np.float32)[:, None, None] for each in (self.mean, self.std))
        try:
            return self.run((grey - mean) / std)
        except Exception as error:  # whatever a network raises for a size that it was not made for
            raise StudyError(
                f"model {self.name}: cannot take images of {len(self.mean)} channel(s) and {self.size} px "
                f"({reason(error)}). Give size and channels as it was trained with."
            ) from error


def open_model(choice: ModelChoice, *, device: str = "auto") -> Finished:
    """The model that is meant, tried on test patterns. Nothing of the file is run that is not the network.

    Raises StudyError for a file that is not there, damaged, or no finished model, for an input or outputs that the
    choice does not settle, and for a device that is not there.
    """
    path = choice.path.expanduser()
    if not path.is_file():
        raise StudyError(f"model: {path} {instead_of(path) or 'does not exist. Correct `path`.'}")
    choice = choice.replaced(path=path)
    if is_keras(path):
        raise StudyError(f"model: {path} is Keras's. Export it as ONNX (tf2onnx, or model.export), and give that.")
    if is_onnx(path):
        return _of_graph(choice)
    return _of_module(choice, open_script(path) if is_torchscript(path) else open_torch(choice), device)


def _of_graph(choice: ModelChoice) -> Finished:
    graph = open_onnx(choice.path)
    for name, own in (("size", graph.size), ("channels", graph.channels)):
        wanted = getattr(choice, name)
        if own and wanted not in (None, "auto", own):
            raise StudyError(f"model: {choice.path} takes {name} {own} and nothing else. Leave out {name}: {wanted}.")
    channels = graph.channels or (3 if choice.channels == "auto" else choice.channels)
    pixels = _input(choice, None, channels, graph.size)
    return _tried(choice, "ONNX", graph.run, pixels, graph.done, graph.ends_in, graph.features_are, "cpu")


def _of_module(choice: ModelChoice, found: Module, device: str) -> Finished:
    from sourcematters.training import devices

    chosen, network = devices.choose(device), found.network
    if network:
        head, options = network.head, [network.channels]
        if choice.channels not in ("auto", network.channels):
            raise StudyError(f"model: {choice.path} takes {network.channels} channel(s). Leave out channels.")
    else:
        head = last_linear(found.module) if found.kind == "pickled network" else ""
        options = [3, 1] if choice.channels == "auto" else [choice.channels]
    run, features_are = runner(found.module, head, chosen), "pooled features" if head else "outputs"
    done = [] if network is None else network.done
    ends_in, refused = "Linear" if network else "", list[StudyError]()
    for channels in options:
        pixels = _input(choice, network.input if network else None, channels, None)
        try:
            tried = _tried(choice, found.kind, run, pixels, done, ends_in, features_are, str(chosen))
            return replace(tried, module=found.module)
        except _Untakable as error:
            refused.append(error)
    raise StudyError(str(refused[0])) from refused[0]


class _Untakable(StudyError):
    """A model that raises for images of this kind."""


@dataclass(frozen=True)
class _Pixels:
    size: int
    mean: Numbers
    std: Numbers
    how: list[str]


def _input(choice: ModelChoice, published: Input | None, channels: int, fixed: int | None) -> _Pixels:
    """Size and normalization: those of the choice, else of the file, else of published weights; and where from."""
    if published is None:
        published = named(choice.architecture, choice.library, choice.size)[0].input if choice.architecture else UNKNOWN
    size = choice.size or fixed or published.size
    where = "as given" if choice.size else "as the graph has it" if fixed else published.where
    mean, std = choice.mean or published.mean, tuple(choice.std or published.std)
    if channels == 1 and max(len(mean), len(std)) > 1:
        if choice.mean and len({*mean}) + len({*std}) > 2:
            raise StudyError("model: mean or std has three numbers, and the network takes one channel. Give one.")
        mean, std = ((sum(each) / len(each),) for each in (mean, std))
    mean, std = (each * channels if len(each) == 1 else each for each in (mean, std))
    numbers = ", ".join(
        f"{word} {'/'.join(f'{number:.4g}' for number in each)}" for word, each in (("mean", mean), ("std", std))
    )
    said = [f"{size} px ({where})", f"{channels} channel{'s' * (channels > 1)}"]
    said.append(f"{numbers} of pixels in 0..1 ({'as given' if choice.mean else published.where})")
    return _Pixels(size, tuple(mean), tuple(std), said + ["greys inverted"] * choice.inverted)


def _tried(
    choice: ModelChoice, kind: str, run: Run, pixels: _Pixels, done: list[str], ends_in: str, features: str, device: str
) -> Finished:
    """The model, after it was tried on patterns: which tell what kind of numbers it puts out."""
    options = choice.model_dump(mode="json", exclude={"path", "unpickle"})
    text = json.dumps([sha256(choice.path), options, pixels.size, pixels.mean, pixels.std, done, REVISION])
    values: dict[str, Any] = {
        "name": Path(choice.path).name, "kind": kind, "identity": hashlib.sha256(text.encode()).hexdigest(),
        "size": pixels.size, "mean": pixels.mean, "std": pixels.std, "interpolation": choice.interpolation,
        "inverted": choice.inverted, "features_are": features, "run": run, "device": device,
    }  # fmt: skip
    blank = Finished(how="", reading=Reading(1, 0, None, False, ""), **values)
    try:
        outputs, _ = blank._forward(patterns(pixels.size))
    except StudyError as error:
        raise _Untakable(str(error)) from error
    if not np.isfinite(outputs).all():
        raise StudyError(
            f"model {blank.name}: its outputs are not finite. Use another checkpoint, or check mean and std."
        )
    reading = read_outputs(choice, outputs, ends_in)
    what = "features: what its last layer gets" if features == "pooled features" else "features: only its outputs"
    return Finished(how="; ".join([kind, *done, *pixels.how, reading.how, what]), reading=reading, **values)


def patterns(size: int) -> NDArray[np.uint8]:
    """Images of no meaning, (N, size, size): noise of many coarsenesses, ramps, and plain greys."""
    draw = generator(0, "patterns", size)
    made = []
    for number in range(PATTERNS):
        cells = 2 ** (number % 6) + 1
        coarse = draw.integers(0, 256, (cells, cells))
        index = np.arange(size) * cells // size
        made.append(coarse[np.ix_(index, index)] if number % 4 else np.full((size, size), number * 255 // PATTERNS))
    return np.stack(made).astype(np.uint8)
