"""Stand-in sources: small networks pretrained on pictures that the package draws itself.

They let the whole study run where no published weights are at hand. They are not ImageNet and RadImageNet, and nothing
measured with them is evidence about those. The demo's backbone has its weights in WEIGHTS, made by
`python -m sourcematters.demo.standins`; for any other, a network is trained when it is first needed.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sourcematters import checksums
from sourcematters.demo import pictures
from sourcematters.errors import StudyError
from sourcematters.files import read_json, replacing, sha256, write_json
from sourcematters.processes import progress
from sourcematters.seeds import derive, uniform
from sourcematters.sources import (
    HALF,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Published,
    Source,
    Weights,
    create,
    feature_width,
    plain,
    register,
)

WEIGHTS = Path(__file__).parents[1] / "weights"
CURVES = {"natural-standin": "ImageNet", "radiology-standin": "RadImageNet"}
CAUTIONS = {name: f"{name} is not {curve}" for name, curve in CURVES.items()}
# What each draws, of how many classes, and with whose normalization.
STANDINS = {
    "natural-standin": (pictures.natural, len(pictures.NATURAL_CLASSES), IMAGENET_MEAN, IMAGENET_STD),
    "radiology-standin": (pictures.radiology, len(pictures.RADIOLOGY_CLASSES), HALF, HALF),
}
SIZE, BATCH, LEARNING_RATE = 64, 64, 2e-3  # px; pictures a step; of AdamW at its highest


@dataclass(frozen=True)
class Standin(Source):
    """A network that is shipped, or that `pretrain` trains and saves at `location`."""

    kind = "standin"

    @property
    def card(self) -> dict[str, Any]:
        """Its accuracy on held-out pictures, and what chance gives."""
        card = read_json(Path(self.file()).with_suffix(".json"))
        return {name: card[name] for name in ("held_out_accuracy", "chance")}

    @property
    def at_hand(self) -> bool:
        """Whether its weights and its card are there, as they were written."""
        return not _flaw(Path(self.location))

    def fetch(self, backbone: str) -> None:
        """Train it, unless its file is there."""
        path = Path(self.location)
        if wrong := _flaw(path):
            if path.exists():
                checksums.tell(wrong, "the stand-in is trained again")
            pretrain(plain(self.name), backbone, path)

    def file(self) -> str:
        """Its weights. Raises StudyError unless they and the card are what was written."""
        if wrong := _flaw(Path(self.location)):
            raise StudyError(f"{wrong}. Start the notebook again: it trains the stand-in anew.")
        return self.location


def _flaw(path: Path) -> str:
    """What is wrong with a stand-in's weights or its card, as their seal tells, in words; "" for nothing."""
    return checksums.flaw(checksums.seal_of(path), [path.name, f"{path.stem}.json"])


def find(backbone: str, weights: Weights | None, folder: Path, *, name: str) -> Source:
    """The stand-in called `name`: the user's own file, the shipped one, or one that is trained into `folder`.

    Raises StudyError if the shipped one is not what was shipped.
    """
    if weights:
        return weights.source(name, backbone, folder)
    path = WEIGHTS / f"{name}-{backbone}.safetensors"
    if any(WEIGHTS.glob(f"{path.stem}.*")):
        if wrong := _flaw(path):
            raise StudyError(f"{wrong}. It came with the package; restore it: git checkout -- {WEIGHTS}")
        return Standin(name, f"sha256:{sha256(path)}", *STANDINS[name][2:], str(path), CAUTIONS[name])
    code = [name, backbone, sha256(__file__), sha256(pictures.__file__)]
    key = hashlib.sha256(repr(code).encode()).hexdigest()[:16]
    return Standin(
        name, f"standin:{key}", *STANDINS[name][2:], f"{folder / path.stem}-{key}.safetensors", CAUTIONS[name]
    )


def pretrain(name: str, backbone: str, path: Path, *, count: int = 9_000, epochs: int = 6) -> None:
    """Train the stand-in `name` on `count` pictures; write its weights (convolutions in 16 bits), card and seal."""
    import torch
    from safetensors.torch import save_file

    from sourcematters.training import devices, memory
    from sourcematters.training.classifier import reproducible

    (draw, classes, *normalization), total = STANDINS[name], count + count // 9
    drawn = [draw(0, index, SIZE) for index in progress(range(total), desc=f"draw for {name}", unit="picture")]
    pixels, labels = np.stack([picture for picture, _ in drawn]), torch.tensor([label for _, label in drawn])
    mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in normalization)

    def batch(index: np.ndarray) -> torch.Tensor:
        return (torch.from_numpy(pixels[index]).permute(0, 3, 1, 2) - mean) / std

    orders = [np.argsort(uniform(0, list(map(str, range(count))), name, "order", epoch)) for epoch in range(epochs)]
    steps = [index for order in orders for index in np.split(order, range(BATCH, count, BATCH))]
    with reproducible(derive(0, name, "initialization"), torch.device("cpu")), memory.kept():
        network: Any = create(backbone, size=SIZE)
        model = torch.nn.Sequential(network, torch.nn.Linear(feature_width(backbone, SIZE), classes))
        devices.place(model, torch.device("cpu"))
        optimizer = torch.optim.AdamW(model.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=len(steps))
        for index in progress(steps, desc=f"pretrain {name}", unit="step"):
            loss = torch.nn.functional.cross_entropy(model(batch(index)), labels[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.inference_mode():
            guesses = torch.cat([model(batch(index)).argmax(1) for index in np.array_split(np.arange(count, total), 8)])
    accuracy = {"held_out_accuracy": (guesses == labels[count:]).double().mean().item(), "chance": 1 / classes}
    settings = {"source": name, "backbone": backbone, "pictures": count, "epochs": epochs, "size": SIZE}
    state = {key: value.half() if value.ndim > 1 else value for key, value in network.state_dict().items()}
    with replacing(path) as beside:
        save_file({key: value.contiguous() for key, value in state.items()}, beside)
    write_json(path.with_suffix(".json"), settings | accuracy)
    checksums.seal(checksums.seal_of(path), [path, path.with_suffix(".json")])


for _name, _curve in CURVES.items():
    _where, _find = "pretrained on pictures that the package draws", partial(find, name=_name)
    register(Published(_name, title=_name, curve=_curve, where=_where, backbones="any timm model", find=_find))
