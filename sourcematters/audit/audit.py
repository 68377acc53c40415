"""An audit, as its notebook and its command speak to it: settings in; what is confounded and what is leaned on, out.

audit = Audit.of(globals())
audit.data()  # what tells the label before any model is asked
audit.model()  # is the model fed what it was trained on?
audit.show()  # what each confounder does, and what the model sees of it
audit.leaning()  # each image with it beside itself without it
audit.flipped()  # images whose decision it turns
audit.explore()  # a hand on the confounder
audit.where()  # where the model looks
audit.groups()  # the model in each group of patients
audit.sources()  # would another pretraining source lean less?
audit.answer()
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pandas as pd
from IPython.display import HTML, Image

from sourcematters import checksums, confounders
from sourcematters.audit import budget, comparison, flipped, pictures
from sourcematters.audit.data import attributes, image_statistics, shortcuts, words
from sourcematters.audit.data.pictures import already_confounded
from sourcematters.audit.measured import CONTROL, Measured
from sourcematters.audit.measures import controls, flips, sanity
from sourcematters.audit.where import finished, shares
from sourcematters.audit.where import pictures as looks
from sourcematters.cohorts.pixels import read
from sourcematters.errors import StudyError, stoppable
from sourcematters.results import galleries, verdicts
from sourcematters.results.verdicts import LEANS
from sourcematters.study.explorer import Network
from sourcematters.study.finished import save_figure, save_table
from sourcematters.study.study import Study
from sourcematters.training import image_bank

NO_MODEL = "No model is given: set model to {path: FILE, architecture: NAME}, or scores to tables made elsewhere."
EXPLORER = "audit_explorer"  # the page beside the results
SHOWN = 6  # images whose decision turns
USUAL = "tag"  # what sources are compared on where nothing else was asked for or found


class Audit:
    """What can be asked of data and of a finished model; tables and figures are kept in the study's results as audit_*.

    The settings `model` or `scores` name the model; without either, the data are looked at, and sources compared.
    Raises StudyError for names that are no confounder's, a budget that is no time, a model that cannot be opened, and
    scores of other images.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.asked, self.measured = study, study.settings, Measured(study)
        controls.named(self.asked.audited)
        if self.asked.primary and self.asked.primary not in (*self.asked.audited, *self.asked.scores):
            raise StudyError(f"primary: {self.asked.primary!r} is not among `audited`: name it there, too.")
        if self.asked.model and self.asked.scores:
            raise StudyError("model and scores are both given: the scores are of the model, so one of them is enough.")
        if self.asked.budget:
            budget.seconds_of(self.asked.budget)
        # Whatever is wrong with the model or its scores is said before the data are looked at, which may take long.
        _ = self.measured.model if self.asked.model else self.measured.scores if self.asked.scores else None

    @classmethod
    def of(cls, names: Mapping[str, Any]) -> "Audit":
        """The audit that a notebook's names describe: `Audit.of(globals())`, right after the parameters cell.

        What an earlier audit left in the results is deleted: it may be of another model, or of none. Raises StudyError,
        too, for a confounder asked for by name that the model cannot see.
        """
        audit = cls(Study.of(names))
        with stoppable():
            _ = audit.measured.visible if audit.asked.model and audit.asked.audited else None
        for kept in ("tables/audit_*", "figures/audit_*", f"{EXPLORER}.*"):
            for path in audit.study.results.glob(kept):
                path.unlink(missing_ok=True)
        return audit

    def _repr_html_(self) -> str:
        return self.study._repr_html_()

    @property
    def has_model(self) -> bool:
        """Whether there is a model, or its scores."""
        return bool(self.asked.model or self.asked.scores)

    # The data

    @stoppable()
    def data(self) -> Image:
        """Say what tells the label before any model is asked, and draw it: attributes, and statistics of the images."""
        table = self.study.cohort.table
        found = attributes.associations(table, seed=self.asked.seed)
        counted = attributes.counts(table)
        told = shortcuts.shortcuts(table, self._statistics(table), seed=self.asked.seed)
        for sentence in words.in_words(found, told, counted):
            print(sentence)
        for name, kept in (("associations", found), ("counts", counted), ("shortcuts", told)):
            self._keep(name, kept)
        figure = already_confounded(found, counted, told, note=self.study.cohort.caution)
        return self._draw("data", figure, told)

    def _statistics(self, table: pd.DataFrame) -> pd.DataFrame:
        """`image_statistics.of_images`, kept under the digest of the images' content."""
        folder = self.measured.folder
        content = image_bank.fingerprints(table, folder / "banks")
        digest = hashlib.sha256("\n".join([*content.index, *content]).encode()).hexdigest()[:12]
        path = folder / f"statistics-{digest}.csv"
        if not checksums.usable(path, "the images are measured again"):
            checksums.write_csv(path, image_statistics.of_images(table, self.asked.workers))
        return pd.read_csv(path, dtype={"image_id": str})

    # The model

    @stoppable()
    def model(self) -> pd.DataFrame | None:
        """Open the model, say how it was read, and how well it ranks these images: before anything else is asked."""
        if not self.asked.model:
            print("The scores were made elsewhere." if self.asked.scores else NO_MODEL)
            return None
        model, table = self.measured.model, self.measured.images
        print(f"{model.name}: {model.how}")
        if self.asked.scored == "all":
            print("All images are asked about; those that it was trained on flatter it (scored: test leaves them out).")
        labels, patients = table["label"].to_numpy(int), table["patient_id"].tolist()
        found = sanity.sanity(model, self.measured.bank(table), labels, patients)
        for sentence in found.sentences:
            print(sentence)
        row = {"model": model.name, "kind": model.kind, **found.found._asdict(), "positives": found.positives}
        return self._keep("model", pd.DataFrame([row | {"warnings": " ".join(found.warnings)}])).round(3)

    @stoppable()
    def show(self) -> Image | None:
        """Each drawn confounder on the first positive image, and what the model sees of it."""
        if self.asked.scores:
            print("What was drawn, only who made the scores can show.")
            return None
        found = self.measured.visible
        path, image_id = self.measured.images.query("label == 1")[["path", "image_id"]].iloc[0]
        drawn, reaches = [one.confounder for one in found], [one.reach for one in found]
        how: dict[str, Any] = {"seed": self.asked.seed, "window": self.asked.window}
        made = galleries.effects(image=read(path), image_id=image_id, confounders=drawn, **how)
        for one in found:
            if one.complaint:
                print(one.complaint)
        for name in self.asked.audited:
            if self.study.confounder(name).sampled:
                print(f"{name} is sampled, so nothing is drawn: it is looked at in the groups, as all attributes are.")
        note = self.study.cohort.caution
        figure = galleries.gallery(effects=made, reaches=reaches, how=self.measured.how, note=note)
        return self._draw("confounders", figure, galleries.gallery_table(effects=made, reaches=reaches))

    @stoppable()
    def leaning(self) -> Image | None:
        """Draw how far each confounder alone moves the model's AUC; `answer` says what of it is leaning."""
        if not self.has_model:
            print("There is no model that could lean.")
            return None
        measured = self.measured
        self._keep("effects", measured.effects)
        print(measured.negative_control or "No negative control: only who made the scores can make one.")
        if self.asked.model:
            self._keep("probes", measured.probes)
            self._keep("strengths", measured.strengths)
        table = verdicts.as_table(measured.findings)
        strengths = measured.strengths if self.asked.model else None
        figure = pictures.leaning(table, measured.effects, strengths, note=self.study.cohort.caution)
        return self._draw("leaning", figure, table)

    @stoppable()
    def flipped(self) -> Image | None:
        """Images whose decision a confounder turns, beside themselves without it: of those that it leans on, if any."""
        if not self.has_model:
            print("There is no model whose decision could turn.")
            return None
        table = self._keep("flipped", self.measured.flipped)
        known = {one.name: one for one in self.measured.tried}
        ordered = [one.confounder for one in verdicts.ordered(self.measured.findings)]
        chosen = flips.shown(table, [name for name in self._leaned or ordered if name in known], SHOWN)
        if chosen.empty:
            turned = "No decision turns" if table.empty else f"{len(table)} decisions turn, in tables/audit_flipped.csv"
            print(f"{turned}: there is no image to be shown.")
            return None
        paths = self.measured.images.set_index("image_id")["path"]
        how: dict[str, Any] = {"seed": self.asked.seed, "window": self.asked.window}
        made = [
            galleries.effects(
                image=read(paths[row.image_id]), image_id=row.image_id, confounders=[known[row.confounder]], **how
            )[0]
            for row in chosen.itertuples()
        ]
        return self._draw("flipped", flipped.figure(chosen, made, self.study.cohort.caution), chosen)

    @stoppable()
    def where(self) -> Image | None:
        """Draw how much of the model's attribution lies on each confounder that has a place, or say why not."""
        if not self.asked.model:
            print("Where it looks can only be told of a model that is at hand.")
            return None
        model = self.measured.model
        if why := finished.refusal(model):
            print(f"Where it looks cannot be told: {why}")
            return None
        tried = [one for one in self.measured.tried if one != CONTROL]
        how: dict[str, Any] = {
            "folder": self.measured.folder / "where",
            "task": self.asked.task,
            "seed": self.asked.seed,
        }
        found = finished.of_model(model, self.measured.images, tried, self.measured.how, **how)
        if found.empty:
            print("No confounder that it was tried with has a place: each covers the whole image.")
            return None
        table = shares.summary(found, seed=self.asked.seed)
        for sentence in [*looks.in_words(table), *looks.costs(found)]:
            print(sentence)
        self._keep("where_share", table)
        return self._draw("where_share", looks.of_model(table, note=self.study.cohort.caution), table)

    @stoppable()
    def groups(self) -> pd.DataFrame | None:
        """The model in each group of patients, and where an attribute goes against the disease."""
        if not self.has_model:
            print("There is no model to be looked at in groups.")
            return None
        columns = "attribute value n positives auc sensitivity specificity gap gap_low gap_high auc_aligned "
        return self._keep("groups", self.measured.by_group)[(columns + "auc_reversed note").split()].round(3)

    @stoppable()
    def explore(self) -> Any:
        """Move the parameters of the confounders, and see what comes to the model, and its score.

        Writes audit_explorer.html, the same without a kernel, of those that it was tried with.
        """
        if self.asked.scores:
            print("The scores were made elsewhere: there is no model that could be asked.")
            return None
        measured, networks = self.measured, {}
        if self.asked.model:
            networks[measured.model.name] = Network(measured.model.logits, measured.threshold)
        tried = [one.confounder for one in measured.visible]
        return self.study.explored(EXPLORER, measured.images, tried, measured.how, networks)

    # Sources

    @cached_property
    def compared(self) -> list[str]:
        """The confounders that sources are compared on: those asked for, what the model leans on most, or the tag."""
        known = confounders.known()  # scores made elsewhere may be of anything
        strongest = [name for name in self._leaned if name in known][:1]
        return list(self.asked.audited) or strongest or [USUAL]

    @property
    def _leaned(self) -> list[str]:
        """The drawn confounders that the model leans on, the strongest first."""
        found = verdicts.ordered(self.measured.findings) if self.has_model else []
        return [one.confounder for one in found if verdicts.verdict(one) == LEANS]

    def plan(self) -> pd.DataFrame | None:
        """What of the comparison of sources fits into `budget`, once one run was timed; nothing without a budget."""
        if not self.asked.budget:
            return None
        table, step = comparison.proposed(self.study, self.compared)
        print(
            f"{', '.join(self.asked.sources)} on {', '.join(self.compared)}: {step.folds} folds, strengths "
            f"{', '.join(f'{p:g}' for p in step.p_art)} fit into {self.asked.budget}: {step.fits} fine-tunings, about "
            f"{step.seconds / 60:.0f} min. {budget.found_in_words(step.detectable)}"
        )
        return table

    @stoppable()
    def sources(self) -> Image | None:
        """Compare the sources on these data within `budget`, endpoints first, and say what came out."""
        if not self.asked.budget:
            print("No budget is set, so no sources were compared: budget: 30 min.")
            return None
        runs = comparison.run(self.study, self.compared)
        self._keep("sources_answer", runs.answer())
        runs.compare(save_as="audit_sources_compared")
        return runs.plot()

    # The answer

    def answer(self) -> pd.DataFrame | None:
        """One sentence on all of it, then one on each confounder and group; kept, in this order, in audit_answer."""
        if not self.has_model:
            print("No model was audited; what is confounded in the data stands above.")
            return None
        found = verdicts.ordered([*self.measured.findings, *self.measured.group_findings])
        table, on_top = verdicts.as_table(found), verdicts.on_top(found)
        print("\n- ".join([on_top, *table["sentence"]]))
        self._keep("answer", pd.DataFrame([{"sentence": on_top}, *table.to_dict("records")], columns=table.columns))
        return table[["confounder", "verdict", "effect", "low", "high", "p", "n", "positives"]].round(3)

    def page(self) -> HTML:
        """A link to the page of all that was shown so far."""
        return self.study.page()

    def _keep(self, name: str, table: pd.DataFrame) -> pd.DataFrame:
        return save_table(self.study.workspace, f"audit_{name}", table)

    def _draw(self, name: str, figure: Any, table: pd.DataFrame) -> Image:
        return save_figure(self.study.workspace, f"audit_{name}", figure, table)
