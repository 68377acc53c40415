"""RunSpec: everything that changes the result of one run, and nothing that does not."""

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
from sourcematters.training.recipe import Training


@dataclass(frozen=True)
class RunSpec:
    """One fine-tuning and its test sets. Two specs that mean the same run have the same `id`.

    data, task       what the cohort is called
    cohort           digest of its table and image files (`run_folder.register`)
    confounder       None trains on base images only
    base             the alteration of every image that does not carry the confounder
    p_art            share of the positives that carry it in training, 0..1
    source, backbone pretraining and network
    fold             0, 1, ...: which repeat
    training         the recipe
    seed             of noise, carriers, first weights, order and augmentation
    val_fraction     share of the development patients that validates, 0..1
    split_seed       of the folds
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
        strength = f"p{round(100 * self.p_art):03d}"
        words = [self.data, self.task, confounder, strength, self.source.name, self.backbone]
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
        source = asdict(self.source)
        del source["location"]
        return {
            "data": self.data,
            "task": self.task,
            "cohort": self.cohort,
            "confounder": self.confounder.to_dict() if self.confounder else None,
            "base": self.base.to_dict(),
            "p_art": self.p_art,
            "source": source,
            "backbone": self.backbone,
            "fold": self.fold,
            "seed": self.seed,
            "val_fraction": self.val_fraction,
            "split_seed": self.split_seed,
            "training": self.training.model_dump(),
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

    Parameters
    ----------
    data, task, cohort, backbone, training, seed
        As in `RunSpec`, the same for all runs.
    confounders, p_art, sources
        The axes: each value once.
    folds
        How many repeats, 1 or more.

    Raises StudyError for an empty or repeated axis, or p_art outside 0..1.
    """
    axes: dict[str, Sequence[object]]
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
        for confounder, source, strength, fold in itertools.product(confounders, sources, p_art, range(folds))
    ]
