"""Sources by name: the published ones, which register themselves, and a user's own files."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat

from sourcematters.checked import Checked, unknown
from sourcematters.errors import StudyError
from sourcematters.files import read_json, sha256
from sourcematters.processes import apart
from sourcematters.sources import keras_weights
from sourcematters.sources.file_kinds import instead_of, is_keras
from sourcematters.sources.source import IMAGENET_MEAN, IMAGENET_STD, MATCHED, Channels, Source, plain


@dataclass(frozen=True)
class Checkpoint(Source):
    """A user's own file of tensors."""

    kind = "checkpoint"

    backbone: str = field(default="", compare=False)

    @property
    def card(self) -> dict[str, Any]:
        """What was done to make the file fit, which only torch can tell: a process of its own finds out."""
        done = apart(_done, self)
        return {"loading": done} if done else {}

    def file(self) -> str:
        """The file. Raises StudyError if it is another than when the runs were planned."""
        path = Path(self.location)
        if not path.is_file() or f"sha256:{sha256(path)}" != self.identity.split(" ")[0]:
            raise StudyError(
                f"weights of source {self.name!r}: {path} was changed since its runs were planned. Start "
                "again: runs are then named after what it holds now."
            )
        return self.location


def _done(source: Checkpoint) -> str:
    return source.loaded(source.backbone, size=None)[1]


class Weights(Checked):
    """A user's file for a source, as in `weights: {"mine": {"path": "a.pt", "mean": [r, g, b], "std": [r, g, b]}}`.

    A file of tensors (.safetensors, .pt, .pth) or of Keras (.h5, .hdf5, .keras), or a folder that holds it under its
    published name. `mean` and `std` are for pixels scaled to 0..1; without them the source's own are taken, else
    ImageNet's. `rename` gives other names to tensors, by how theirs begin: `{"encoder.": "", "stem.": "conv1."}`.
    """

    path: Path
    rename: dict[str, str] = {}
    mean: Channels | None = None
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None

    def located(self, name: str, file: str, recipe: str = "Put the file there or mend the path.") -> "Weights":
        """The same with the path of the file itself, called `file` in a folder. Raises StudyError if there is none."""
        path = self.path.expanduser()
        path = path / file if path.is_dir() else path
        if not path.is_file():
            raise StudyError(f"weights of source {name!r}: {path} {instead_of(path) or f'does not exist. {recipe}'}")
        return self.replaced(path=path)

    def source(
        self, name: str, backbone: str, folder: Path, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD
    ) -> Source:
        """The file (in a folder `{backbone}.safetensors`) as the source called `name`; a SHA-256 is its identity.

        `mean` and `std` hold where the user gave none. `folder` keeps a Keras file converted.
        """
        path = self.located(name, f"{backbone}.safetensors").path
        _refuse_another_architecture(path, backbone)
        digest = sha256(path)
        identity, mean, std = f"sha256:{digest}", self.mean or mean, self.std or std
        if path.suffix in keras_weights.SUFFIXES or is_keras(path):
            if self.rename:
                raise StudyError(f"weights of source {name!r}: `rename` is for files of tensors, not for Keras's.")
            converted = keras_weights.converted(path, digest, backbone, folder)
            return keras_weights.KerasWeights(name, identity, mean, std, str(converted))
        identity += f" renamed {json.dumps(self.rename, sort_keys=True)}" if self.rename else ""
        rename = tuple(self.rename.items())
        return Checkpoint(name, identity, mean, std, str(path.resolve()), rename=rename, backbone=backbone)


def _refuse_another_architecture(path: Path, backbone: str) -> None:
    """Raise StudyError when the config.json that timm's hub keeps beside `model.safetensors` names another network.

    Keys and shapes do not tell tf_efficientnet_lite0 from efficientnet_lite0, which differ in padding and epsilon.
    """
    config = path.with_name("config.json")
    if path.stem in ("model", "pytorch_model") and config.is_file():
        made_for = read_json(config).get("architecture", backbone)
        if made_for != backbone.split(".")[0]:
            raise StudyError(
                f"{path}: config.json beside it says that these are weights of {made_for!r}, not of {backbone!r}. "
                "Choose that backbone, or the file made for this one."
            )


@dataclass(frozen=True)
class Published:
    """What the study knows of a published source before its weights are looked at."""

    name: str  # as settings and tables call it
    title: str  # as legends call it
    curve: str  # the paper's curve it is laid on, and whose colour it wears: ImageNet, RadImageNet, random, or ""
    where: str  # where its weights are from, in words
    backbones: str  # for which networks, in words
    # (backbone, the user's own file or None, folder for files made here) -> Source, without any download. Raises
    # StudyError, with a recipe, for what there is not.
    find: Callable[[str, Weights | None, Path], Source]


_published: dict[str, Published] = {}


def register(published: Published) -> None:
    """Make a source known by its name; an earlier one of that name is replaced."""
    _published[published.name] = published


def known() -> dict[str, Published]:
    """Every registered source by name, in the order of registration."""
    return dict(_published)


def resolve(
    name: str, backbone: str, *, weights: Mapping[str, Any] | None = None, folder: str | Path = "results/sources"
) -> Source:
    """Find the source called `name` for a timm `backbone`; nothing is downloaded or trained yet.

    `weights` maps a source's name to a path or to the values of `Weights`; a name that is not `known()` must be in it.
    `folder` keeps stand-in weights and Keras files converted. `NAME+matched` is NAME behind ImageNet's normalization:
    compared with NAME itself, it tells the effect of the input's scaling from that of the weights.

    Raises StudyError for an unknown name, a missing or wrong file, a backbone the source was not published for, or a
    matched source that is the plain one.
    """
    if name.endswith(MATCHED):
        source = resolve(plain(name), backbone, weights=weights, folder=folder)
        if (source.mean, source.std) == (IMAGENET_MEAN, IMAGENET_STD):
            raise StudyError(f"{name} is {source.name}: its own normalization is ImageNet's. Leave out {MATCHED!r}.")
        return replace(source, name=name, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    entry = (weights or {}).get(name)
    try:
        own = None if entry is None else Weights(**entry if isinstance(entry, Mapping) else {"path": entry})
    except StudyError as error:
        raise StudyError(
            f"weights[{name!r}] needs `path` and may have `mean` and `std`, three numbers each (pixels scaled to "
            f"0..1), std > 0, and `rename`, beginnings of names and what stands for them. {error}"
        ) from None
    if name in _published:
        return _published[name].find(backbone, own, Path(folder))
    if own:
        return own.source(name, backbone, Path(folder))
    raise StudyError(
        f'{unknown("source", name, _published)} For your own weights add weights: {{"{name}": '
        '"path/to/file.safetensors"}.'
    )
