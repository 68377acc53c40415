"""Training and RunSpec: everything that changes the result of one run, and nothing that does not."""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sourcematters.confounders import ORIGINAL, Alteration, Confounder
from sourcematters.confounders.design import n_carriers
from sourcematters.errors import StudyError
from sourcematters.sources import Source
from sourcematters.training.image_bank import INTERPOLATIONS, LUNG, checked_window


@dataclass(frozen=True)
class Training:
    """Everything about a fine-tuning that changes its result. The defaults are the paper's (lung mass, X-ray).

    `crop` and `window` as in `images.Rendering`: the centre square in px (0: the whole image), and centre and width
    in HU, for CT only. Sizes in px, rotation in degrees, shift as a share of the width, zoom as 1 +- zoom per axis.
    `bn_momentum` 0 keeps each backbone's own. `precision` is fp32, bf16 (autocast), or auto, which `grids.plan`
    settles before a run is named. `compiled` lets torch.compile fuse the network's operations, which rounds otherwise.
    """

    size: int = 512
    interpolation: str = "nearest"
    crop: int = 0
    window: tuple[float, float] = LUNG
    epochs: int = 200
    patience: int = 30
    learning_rate: float = 1e-5
    batch_size: int = 32
    dropout: float = 0.5
    bn_momentum: float = 0.01
    rotation: float = 10.0
    shift: float = 0.1
    zoom: float = 0.1
    precision: str = "fp32"
    compiled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", checked_window(self.window))
        wanted = {
            "size": (self.size >= 16, "at least 16 px"),
            "interpolation": (self.interpolation in INTERPOLATIONS, f"one of {', '.join(INTERPOLATIONS)}"),
            "crop": (
                self.crop == 0 or (self.crop >= 16 and self.crop == int(self.crop)),
                "at least 16 px, or 0 for the whole image",
            ),
            "epochs": (self.epochs >= 1, "at least 1"),
            "patience": (self.patience >= 1, "at least 1"),
            "learning_rate": (0 < self.learning_rate < 1, "between 0 and 1"),
            "batch_size": (self.batch_size >= 2, "at least 2, for batch normalization"),
            "dropout": (0 <= self.dropout < 1, "0 or more, below 1"),
            "bn_momentum": (0 <= self.bn_momentum <= 1, "in 0..1"),
            "rotation": (0 <= self.rotation <= 180, "in 0..180 degrees"),
            "shift": (0 <= self.shift < 1, "0 or more, below 1"),
            "zoom": (0 <= self.zoom < 1, "0 or more, below 1"),
            "precision": (self.precision in ("fp32", "bf16", "auto"), "fp32, bf16 or auto"),
            "compiled": (isinstance(self.compiled, bool), "true or false"),
        }
        for name, (fine, requirement) in wanted.items():
            if not fine:
                raise StudyError(f"{name} = {getattr(self, name)!r}: it must be {requirement}.")


@dataclass(frozen=True)
class RunSpec:
    """One fine-tuning and its test sets. Two specs that mean the same run have the same `id`.

    `cohort` is the digest of the table and its image files (`runs.register`), `base` the alteration that every
    image without the confounder gets. Without a confounder the run trains on base images only.
    """

    data: str
    task: str
    cohort: str
    confounder: Confounder | None
    base: Alteration
    p_art: float
    source: Source
    backbone: str
    fold: int
    training: Training
    seed: int = 0
    val_fraction: float = 0.15
    split_seed: int = 42

    def __post_init__(self) -> None:
        n_carriers(self.p_art, 0)
        object.__setattr__(self, "p_art", float(self.p_art))

    @property
    def id(self) -> str:
        """Readable, with a short hash: `cxr14-mass-tag-p050-imagenet-resnet50-f2-1a2b3c4d`."""
        confounder = self.confounder.name if self.confounder else "none"
        words = [
            self.data,
            self.task,
            confounder,
            f"p{round(100 * self.p_art):03d}",
            self.source.name,
            self.backbone,
        ]
        slug = "-".join(re.sub(r"[^a-z0-9_]+", "_", word.lower()) for word in words)
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
        return f"{slug}-f{self.fold}-{digest[:8]}"

    @property
    def fit(self) -> "RunSpec":
        """The run whose weights this one scores: itself, or, at p_art = 0, the one that never saw the confounder.

        At p_art = 0 the tag's network and the filter's network are one and the same: it is trained once.
        """
        if self.p_art > 0 or self.confounder is None or self.confounder.sampled:
            return self
        return replace(self, confounder=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, sorted into what the run is about; machine paths are left out."""
        return {
            "data": self.data,
            "task": self.task,
            "cohort": self.cohort,
            "confounder": self.confounder.to_dict() if self.confounder else None,
            "base": self.base.to_dict(),
            "p_art": self.p_art,
            "source": self.source.to_dict(),
            "backbone": self.backbone,
            "fold": self.fold,
            "seed": self.seed,
            "val_fraction": self.val_fraction,
            "split_seed": self.split_seed,
            "training": asdict(self.training),
        }


def grid(
    *,
    data: str,
    task: str,
    cohort: str,
    confounders: Sequence[Confounder],
    p_art: Sequence[float],
    sources: Sequence[Source],
    backbone: str,
    folds: int,
    training: Training,
    seed: int = 0,
) -> list[RunSpec]:
    """Every combination of confounder, source, strength and fold, in that order.

    Raises StudyError for an empty or repeated axis, or p_art outside 0..1.
    """
    axes = {"confounders": confounders, "p_art": p_art, "sources": sources, "folds": range(folds)}
    for name, values in axes.items():
        if len(values) == 0 or len(set(values)) < len(values):
            raise StudyError(f"{name} = {list(values)}: needs at least one value, each of them once.")
    return [
        RunSpec(
            data=data,
            task=task,
            cohort=cohort,
            confounder=confounder,
            base=ORIGINAL if confounder.sampled else confounder.base,
            p_art=strength,
            source=source,
            backbone=backbone,
            fold=fold,
            training=training,
            seed=seed,
        )
        for confounder, source, strength, fold in itertools.product(
            *(axes[k] for k in ("confounders", "sources", "p_art", "folds"))
        )
    ]
