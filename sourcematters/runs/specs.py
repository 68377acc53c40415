"""RunSpec: everything that changes the result of one run, and nothing that does not."""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from sourcematters.checked import Checked
from sourcematters.confounders import Alteration, Confounder
from sourcematters.errors import StudyError
from sourcematters.sources import Source
from sourcematters.training.recipe import REVISIONS, Training

BESIDE = ("caution", "smallest_test", "came_out")  # how its results are shown: its identity does not depend on them


class RunSpec(Checked):
    """One fine-tuning and its test sets. Two specs that mean the same run have the same `id`."""

    data: str = Field(description="what the cohort is called")
    task: str
    cohort: str = Field(description="digest of the cohort's table and image files (`run_folder.register`)")
    confounder: Confounder | None = Field(description="None trains on base images only")
    base: Alteration = Field(description="what every image gets that does not carry the confounder")
    p_art: float = Field(ge=0, le=1, description="share of the positives that carry it in training")
    source: Source
    backbone: str = Field(description="the network, by timm's name")
    fold: int = Field(ge=0, description="which repeat: who validates, and what the classifier starts from")
    training: Training
    seed: int = Field(0, description="of noise, carriers, first weights, order and augmentation; all folds share it")
    val_fraction: float = Field(0.15, gt=0, lt=1, description="share of the development patients that validates")
    split_seed: int = Field(42, description="of the folds")
    caution: str = Field("", description="what every figure must say of the cohort; no part of the identity")
    smallest_test: int = Field(1, ge=1, description="images of each class, else a test is left out; no part of it")
    came_out: tuple[tuple[str, int | float], ...] = Field(
        (), description="how many carry, and how far it reaches the network; no part of the identity"
    )

    @property
    def row(self) -> dict[str, Any]:
        """What it is called by in tables."""
        shown = {"confounder": self.confounder.name if self.confounder else "none", "source": self.source.name}
        names = ("data", "task", "confounder", "p_art", "source", "backbone", "fold")
        return {name: shown.get(name, getattr(self, name)) for name in names}

    @property
    def id(self) -> str:
        """Readable, with a short hash: `cxr14-mass-tag-p050-imagenet-resnet50-f2-1a2b3c4d`."""
        words = self.row | {"p_art": f"p{round(100 * self.p_art):03d}", "fold": f"f{self.fold}"}
        slug = "-".join(re.sub(r"[^a-z0-9_]+", "_", word.lower()) for word in words.values())
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
        return f"{slug}-{digest[:8]}"

    @property
    def fit(self) -> "RunSpec":
        """The run whose weights this one scores: itself, or, at p_art = 0, the one that all drawn confounders share."""
        if self.p_art > 0 or self.confounder is None or self.confounder.sampled:
            return self
        return self.replaced(confounder=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what changes no number is left out."""
        plain = {
            "confounder": self.confounder.to_dict() if self.confounder else None,
            "base": self.base.to_dict(),
            "source": self.source.to_dict(),
            "training": self.training.model_dump(),
            "revisions": REVISIONS,
        }
        return {key: value for key, value in {**dict(self), **plain}.items() if key not in BESIDE}


def grid(
    *, confounders: Sequence[Confounder], p_art: Sequence[float], sources: Sequence[Source], folds: int, **same: Any
) -> list[RunSpec]:
    """Every combination of confounder, source, strength and fold, in that order; `same` is the same for all runs.

    Raises StudyError for an empty or repeated axis, or a value that `RunSpec` refuses.
    """
    axes: dict[str, Sequence] = {"confounders": confounders, "p_art": p_art, "sources": sources, "folds": range(folds)}
    for name, values in axes.items():
        if len(values) == 0 or len(set(values)) < len(values):
            given = ", ".join(str(getattr(value, "name", value)) for value in values)
            raise StudyError(f"{name} = [{given}]: needs at least one value, each of them once.")
    return [
        RunSpec(confounder=confounder, base=confounder.base, p_art=strength, source=source, fold=fold, **same)
        for confounder, source, strength, fold in itertools.product(confounders, sources, p_art, range(folds))
    ]
