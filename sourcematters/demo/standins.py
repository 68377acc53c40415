"""Stand-in sources: small networks pretrained on the spot on pictures the package draws itself.

They let the whole study run where no published weights are at hand. `natural-standin` learns generated colour
pictures of shapes and textures, `radiology-standin` generated grey pictures of several modalities. They are
not ImageNet and RadImageNet, and nothing measured with them is evidence about those.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from sourcematters.demo import pictures
from sourcematters.files import explained, read_json, replacing, write_json
from sourcematters.processes import over_processes, progress
from sourcematters.seeds import derive, uniform
from sourcematters.sources import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Published,
    Source,
    Weights,
    create,
    plain,
    register,
)


@dataclass(frozen=True)
class Pretraining:
    """How a stand-in is trained; part of its identity."""

    pictures: int = 9_000
    held_out: int = 1_000
    size: int = 64
    epochs: int = 6
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0


@dataclass(frozen=True)
class World:
    """A kind of pictures: `draw(seed, index, size)` gives pixels and a label, an index into `classes`."""

    draw: Callable[..., tuple[np.ndarray, int]]
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CAUTION = "stand-ins, not ImageNet or RadImageNet"

# Each stand-in keeps the normalization of the source it stands in for.
STANDINS = {
    "natural-standin": World(pictures.natural, pictures.NATURAL_CLASSES, IMAGENET_MEAN, IMAGENET_STD),
    "radiology-standin": World(pictures.radiology, pictures.RADIOLOGY_CLASSES, HALF, HALF),
}


class Standin(Source):
    """A network that `pretrain` trains and saves at `location`."""

    kind = "standin"

    def fetch(self, backbone: str) -> None:
        """Train it, unless its file is there."""
        pretrain(replace(self, name=plain(self.name)), backbone)

    @property
    def card(self) -> dict[str, Any]:
        """Its accuracy on held-out pictures, and what chance gives."""
        card = read_json(Path(self.location).with_suffix(".json"))
        return {name: card[name] for name in ("held_out_accuracy", "chance")}


def source(name: str, backbone: str, folder: str | Path, pretraining: Pretraining = Pretraining()) -> Source:
    """The stand-in called `name` as a Source, trained already or not; its file lives in `folder`."""
    world = STANDINS[name]
    digest = hashlib.sha256(json.dumps([name, backbone, asdict(pretraining), world.classes]).encode())
    # A few drawn pictures stand for the drawing code: when it changes, so does the source.
    for index in range(8):
        pixels, label = world.draw(pretraining.seed, index, pretraining.size)
        digest.update(np.ascontiguousarray(pixels).tobytes() + bytes([label]))
    key = digest.hexdigest()[:16]
    path = Path(folder) / f"{name}-{backbone}-{key}.safetensors"
    return Standin(name, f"standin:{key}", world.mean, world.std, str(path), CAUTION)


def pretrain(source: Source, backbone: str, pretraining: Pretraining = Pretraining(), workers: int = 1) -> None:
    """Train a stand-in and save it at its location, unless it is there already.

    Beside the weights, a JSON file of the same name says how it was trained and how well it does on held-out
    pictures. Two processes may call this at once: one trains, the other waits.
    """
    path = Path(source.location)
    if path.exists():
        return
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                _train(source.name, backbone, pretraining, path, workers)


def _train(name: str, backbone: str, pretraining: Pretraining, path: Path, workers: int) -> None:
    import torch
    from safetensors.torch import save_file
    from torch.nn import functional

    from sourcematters.training import memory
    from sourcematters.training.classifier import reproducible

    world = STANDINS[name]
    images, labels = _pictures(name, pretraining, workers)
    n = pretraining.pictures
    mean, std = (255 * torch.tensor(v).view(1, 3, 1, 1) for v in (world.mean, world.std))

    def prepare(index: np.ndarray) -> torch.Tensor:
        batch = (torch.from_numpy(images[index]).permute(0, 3, 1, 2).float() - mean) / std
        return batch.contiguous(memory_format=torch.channels_last)

    with reproducible(derive(pretraining.seed, name, "initialization"), torch.device("cpu")), memory.kept():
        backbone_model = create(backbone, size=pretraining.size)
        head = torch.nn.Linear(backbone_model.num_features, len(world.classes))
        model = torch.nn.Sequential(backbone_model, head).to(memory_format=torch.channels_last)
        steps = -(-n // pretraining.batch_size) * pretraining.epochs
        optimizer = torch.optim.AdamW(model.parameters(), lr=pretraining.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, pretraining.learning_rate, total_steps=steps)
        with progress(total=steps, desc=f"pretrain {name}", unit="step") as bar:
            for epoch in range(pretraining.epochs):
                order = np.argsort(uniform(pretraining.seed, list(map(str, range(n))), name, "order", epoch))
                model.train()
                for start in range(0, n, pretraining.batch_size):
                    index = order[start : start + pretraining.batch_size]
                    loss = functional.cross_entropy(model(prepare(index)), torch.from_numpy(labels[index]))
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    bar.update()
                bar.set_postfix(loss=f"{loss.item():.2f}")
        model.eval()
        with torch.inference_mode():
            held_out = np.arange(n, n + pretraining.held_out)
            guesses = np.concatenate([model(prepare(i)).argmax(1).numpy() for i in np.array_split(held_out, 8)])
    accuracy = float((guesses == labels[held_out]).mean())
    card = {
        "source": name,
        "backbone": backbone,
        **asdict(pretraining),
        "classes": list(world.classes),
        "held_out_accuracy": accuracy,
        "chance": 1 / len(world.classes),
    }
    write_json(path.with_suffix(".json"), card)
    with replacing(path) as beside:
        save_file({key: value.contiguous() for key, value in backbone_model.state_dict().items()}, beside)


def _pictures(name: str, pretraining: Pretraining, workers: int) -> tuple[np.ndarray, np.ndarray]:
    total = pretraining.pictures + pretraining.held_out
    images = np.empty((total, pretraining.size, pretraining.size, 3), np.uint8)
    labels = np.empty(total, np.int64)
    chunks = [range(start, min(start + 250, total)) for start in range(0, total, 250)]
    draw = partial(_draw, name=name, seed=pretraining.seed, size=pretraining.size)
    with progress(total=total, desc=f"draw pictures for {name}", unit="picture") as bar:
        for chunk, (pixels, classes) in over_processes(draw, chunks, workers):
            images[chunk.start : chunk.stop], labels[chunk.start : chunk.stop] = pixels, classes
            bar.update(len(chunk))
    return images, labels


def _draw(chunk: range, name: str, seed: int, size: int) -> tuple[np.ndarray, list[int]]:
    drawn = [STANDINS[name].draw(seed, index, size) for index in chunk]
    images = [pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2) for pixels, _ in drawn]
    return np.stack(images), [label for _, label in drawn]


def _find(backbone: str, weights: Weights | None, folder: Path, *, name: str) -> Source:
    return weights.source(name, backbone, folder) if weights else source(name, backbone, folder)


for _name, _curve in (("natural-standin", "ImageNet"), ("radiology-standin", "RadImageNet")):
    register(
        Published(
            _name,
            title=_name,
            curve=_curve,
            where="trained here on pictures that the package draws",
            backbones="any timm model",
            find=partial(_find, name=_name),
        )
    )
