"""All that is measured of a finished model on a cohort, each once: what `Audit` shows and says."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit

from sourcematters.audit.measures import controls, effects, findings, flips, groups, probe, scoring
from sourcematters.audit.model import choice, finished
from sourcematters.cohorts import cohort as cohorts
from sourcematters.confounders import ORIGINAL, Alteration, Confounder
from sourcematters.confounders.ladders import ladder
from sourcematters.errors import StudyError
from sourcematters.results.verdicts import Finding
from sourcematters.seeds import uniform
from sourcematters.study.study import Study
from sourcematters.training import image_bank
from sourcematters.training.recipe import Preprocessing

SOME = 100  # images of which weaker and stronger confounders are scored, and that a probe learns from
SOME_TIMES = 500  # resamples of their patients
CONTROL = controls.OneGreyLevel()


class Measured:
    """A finished model, named by the settings `model` or `scores`, asked about the study's cohort."""

    def __init__(self, study: Study) -> None:
        self.study, self.asked = study, study.settings
        self.folder: Path = study.workspace.shared("audit")
        self._how_many: dict[str, Any] = {"seed": self.asked.seed, "workers": self.asked.workers}

    # What is asked about

    @cached_property
    def images(self) -> pd.DataFrame:
        """At most `scored_images` of the cohort, as many of each class as there are; all where scores are given."""
        table = self.study.cohort.table
        asked = table[table["split"] == "test"] if self.asked.scored == "test" else table
        return asked.reset_index(drop=True) if self.asked.scores else _part(asked, self.asked.scored_images)

    @cached_property
    def some(self) -> pd.DataFrame:
        """A part of these, of each class alike."""
        return _part(self.images, SOME)

    @cached_property
    def model(self) -> finished.Finished:
        """The model. Raises StudyError as `open_model` does."""
        return finished.open_model(choice.ModelChoice(**self.asked.model), device=self.asked.device)

    @cached_property
    def how(self) -> Preprocessing:
        """How images come to the model."""
        plain = Preprocessing(**{name: getattr(self.asked, name) for name in Preprocessing.model_fields})
        if not self.asked.model:
            return plain
        return plain.replaced(size=self.model.size, interpolation=self.model.interpolation or plain.interpolation)

    def bank(self, table: pd.DataFrame, alteration: Alteration = ORIGINAL) -> NDArray[np.uint8]:
        """The images as they come to the model, (N, size, size), altered or as they are."""
        rendering = image_bank.Rendering(alteration=alteration, seed=self.asked.seed, **self.how.model_dump())
        return image_bank.build(table, [rendering], self.folder / "banks", workers=self.asked.workers)[0]

    # Which confounders reach it

    @cached_property
    def visible(self) -> list[controls.Visible]:
        """The drawn confounders that it is tried with, each measured at its input.

        Raises StudyError for one that was asked for and is not seen, unless forced.
        """
        names = self.asked.audited or controls.of_each_leaf(self.images, seed=self.asked.seed)
        chosen = [self.study.confounder(name) for name in names]
        found = controls.visible(self.images, [one for one in chosen if not one.sampled], self.how, **self._how_many)
        wrong = [one.complaint for one in found if one.complaint]
        if wrong and self.asked.audited and not self.asked.force:
            raise StudyError("\n".join([*wrong, "To go on all the same, set force to true; each number then says so."]))
        return found

    @cached_property
    def tried(self) -> list[Confounder]:
        """Those that are scored; the last one is the negative control."""
        if self.asked.scores:
            return []
        return [*(one.confounder for one in self.visible if not one.complaint or self.asked.force), CONTROL]

    # Scores, and what they say

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Every image's logit, plain and with each confounder: `scoring.COLUMNS`."""
        if self.asked.scores:
            return scoring.read_scores(self.asked.scores, self.images)
        return self._scored(self.images, self.tried)

    def _scored(self, table: pd.DataFrame, tried: Sequence[Confounder]) -> pd.DataFrame:
        return scoring.scores(self.model, table, tried, self.how, folder=self.folder, **self._how_many)

    @cached_property
    def plain(self) -> pd.Series:
        """The logit of each image as it is, by image_id."""
        return self.scores[self.scores["confounder"] == scoring.PLAIN].set_index("image_id")["logit"]

    @cached_property
    def threshold(self) -> float:
        """The logit from which on a decision is positive."""
        if self.asked.threshold is not None:
            return float(logit(self.asked.threshold))
        scores = self.images["image_id"].map(self.plain).to_numpy(float)
        return effects.youden(self.images["label"].to_numpy(int), scores)

    @cached_property
    def _paired(self) -> pd.DataFrame:
        return scoring.pairs(self.scores, self.tried)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """`effects.effects` of each confounder, as it was given."""
        return effects.effects(self._paired, threshold=self.threshold, seed=self.asked.seed)

    @cached_property
    def flipped(self) -> pd.DataFrame:
        """The images whose decision each confounder turns (`flips.flipped`)."""
        return flips.flipped(self._paired[self._paired["confounder"] != CONTROL.name], self.threshold)

    @cached_property
    def strengths(self) -> pd.DataFrame:
        """`effects.effects` of each confounder weaker, as given and stronger, with `rung` and `given`, on `some`."""
        rungs = [rung for one in self.tried[:-1] for rung in _near(one, self.some, self.asked.seed)]
        if not rungs:
            return pd.DataFrame(columns=["confounder", "variant", "lean", "rung", "given"])
        others = self._scored(self.some, [rung for rung in rungs if rung not in self.tried])
        known = self.scores[self.scores["image_id"].isin(self.some["image_id"])]
        scored = pd.concat([known, others]).drop_duplicates(["image_id", "confounder", "variant"])
        paired = scoring.pairs(scored, rungs)
        found = effects.effects(paired, threshold=self.threshold, seed=self.asked.seed, times=SOME_TIMES)
        places = {(rung.name, rung.carrier.label): place for place, rung in enumerate(rungs)}
        given = {(one.name, one.carrier.label) for one in self.tried}
        keys = list(zip(found["confounder"], found["variant"], strict=True))
        return found.assign(rung=[places[key] for key in keys], given=[key in given for key in keys])

    @cached_property
    def probes(self) -> pd.DataFrame:
        """Whether a linear probe on the model's features tells images with each confounder from those without."""
        chosen = np.flatnonzero(self.images["image_id"].isin(self.some["image_id"]))
        patients, rows = self.images["patient_id"].iloc[chosen].tolist(), []
        for confounder in self.tried:
            without = self.bank(self.images, confounder.base)[chosen]
            carrying = self.bank(self.images, confounder.carrier)[chosen]
            seen = probe.probe(self.model, without, carrying, patients, seed=self.asked.seed)
            rows.append({"confounder": confounder.name, **seen._asdict()})
        return pd.DataFrame(rows, columns=["confounder", *probe.Ranked._fields])

    @cached_property
    def by_group(self) -> pd.DataFrame:
        """`groups.by_group` of every attribute."""
        scored = self.images.assign(logit=self.images["image_id"].map(self.plain))
        how: dict[str, Any] = {"threshold": self.threshold, "seed": self.asked.seed}
        return groups.by_group(scored, cohorts.attributes(self.images), fewest=self.asked.smallest_test, **how)

    # Findings

    @cached_property
    def unseen(self) -> dict[str, str]:
        """Confounders that do not reach the model, or that a probe on its features does not tell, and why."""
        if self.asked.scores:
            return {}
        blind = self.probes[self.probes["ci_low"] <= 0.5]
        by_probe = {
            row.confounder: "a linear probe on its features tells images with it from those without at an AUC of "
            f"{row.auc:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]"
            for row in blind.itertuples()
        }
        return by_probe | {one.confounder.name: one.why for one in self.visible if one.complaint}

    @cached_property
    def findings(self) -> list[Finding]:
        """One for each drawn confounder."""
        of_confounders = self.effects[self.effects["confounder"] != CONTROL.name]
        found = findings.of_effects(of_confounders, primary=self.asked.primary, unseen=self.unseen)
        scored = {finding.confounder for finding in found} | {CONTROL.name}
        unscored = {name: why for name, why in self.unseen.items() if name not in scored}
        return found + [findings.of_unscored(name, why, self.images) for name, why in unscored.items()]

    @cached_property
    def group_findings(self) -> list[Finding]:
        """One for each group of patients that is ranked higher, ill or not."""
        return findings.of_groups(self.by_group)

    @property
    def negative_control(self) -> str:
        """What an alteration does that should do nothing; "" where none was scored."""
        found = self.effects[self.effects["confounder"] == CONTROL.name]
        return findings.negative_control(found) if len(found) else ""


def _near(confounder: Confounder, images: pd.DataFrame, seed: int) -> list[Confounder]:
    """The confounder between the next weaker and the next stronger one; one that cannot be drawn on all is left out."""
    rungs = ladder(confounder)
    place = rungs.index(confounder)
    near = rungs[max(place - 1, 0) : place + 2]
    return [one for one in near if one == confounder or controls.can_be_drawn(one, images, seed=seed)]


def _part(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most `most` images, of each class half of that or all there are, and of the other what then is left.

    Which, is told by their ids alone.
    """
    rank = pd.Series(uniform(0, table["image_id"].tolist(), "audit"), index=table.index)
    counts = table["label"].value_counts()
    fewer = int(counts.idxmin())
    take = {fewer: min(int(counts[fewer]), most // 2)}
    take[1 - fewer] = most - take[fewer]
    rows = [rank[table["label"] == label].nsmallest(number).index for label, number in take.items()]
    return table.loc[rows[0].union(rows[1])].reset_index(drop=True)
