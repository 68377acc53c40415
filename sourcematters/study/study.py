"""A study, as its notebooks speak to it: settings in; pictures, designs, runs and answers out.

study = Study.of(globals())
study.show("tag")  # the artefact on an image
study.design("tag")  # who carries it
runs = study.run("tag")
runs.plot()
runs.answer()
"""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import HTML, Image

from sourcematters import confounders, plugins, report
from sourcematters.checked import unknown
from sourcematters.cohorts import Cohort, open_cohort, verify
from sourcematters.cohorts.lidc.dicom import read_hu
from sourcematters.cohorts.pixels import read
from sourcematters.confounders import Attribute, Confounder, design
from sourcematters.errors import StudyError, stoppable
from sourcematters.results import ct_figures, diagrams, galleries
from sourcematters.runs import grids, mixtures
from sourcematters.runs.run_folder import Workspace
from sourcematters.runs.specs import RunSpec, grid
from sourcematters.sources import Source, plain
from sourcematters.study import checks, explorer
from sourcematters.study import settings as configuration
from sourcematters.study.finished import FinishedRuns, save_figure, save_table
from sourcematters.study.settings import SECTIONS, Settings, merged, read_profile, split_section
from sourcematters.training import image_bank, reach
from sourcematters.training.image_bank import Rendering
from sourcematters.training.recipe import Preprocessing

PLAIN = (bool, int, float, str, list, tuple, dict)
NOT_SETTINGS = ("In", "Out", "profile", "results")


class Study:
    """Settings, a folder for results, and what can be asked of the two.

    `profile` is the name or file of a profile, `changes` are settings on top of it, by name (sections are mappings),
    and `section` is one of `settings.SECTIONS`, which then holds for all of the study. Tables and figures go to
    `results`; runs, banks and weights are kept beside it. Empty is results/PROFILE in the repository, or
    results/PROFILE-DATA where `changes` put data of another kind in the place of the profile's.
    """

    def __init__(
        self, profile: str, changes: Mapping[str, Any] | None = None, results: str | Path = "", section: str = ""
    ) -> None:
        if section and section not in SECTIONS:
            raise StudyError(unknown("section", section, SECTIONS))
        self.profile, self.profile_values = read_profile(profile)
        self.profile_file, self.changes, self.section = profile, dict(changes or {}), section
        self.values = merged(self.profile_values, self.changes)
        # Plugins first: they may add what the other settings name.
        plugins.load(Settings(plugins=self.values.get("plugins") or ()).plugins)
        configuration.checked(self.values)
        plain = {key: value for key, value in self.values.items() if key not in SECTIONS}
        self.settings, self.sections = configuration.checked(merged(plain, self.values.get(section) or {}))
        self.replaced_data = configuration.replaced_data(self.profile_values, self.changes)
        name = configuration.results_name(self.profile, self.replaced_data)
        self.results = configuration.placed(results or configuration.ROOT / "results" / name).resolve()
        self.workspace = Workspace(str(self.results))
        self._prefix = f"{section}_" if section else ""
        self._about: dict[str, Study] = {}

    @classmethod
    def of(cls, names: Mapping[str, Any], section: str = "") -> "Study":
        """The study that a notebook's names describe: `Study.of(globals())`, right after the parameters cell.

        `profile` and `results` mean what they say; every other plain value is a setting or a section. One that is
        None is left to the profile. Raises StudyError for a name that is no setting, with the nearest one, and for
        every value that does not fit, all at once.
        """
        plain = {name: value for name, value in names.items() if isinstance(value, PLAIN) and not name.startswith("_")}
        changes = {name: value for name, value in plain.items() if name not in NOT_SETTINGS}
        changes = configuration.located(configuration.located(changes, Path.cwd()), configuration.ROOT)
        try:
            return cls(names.get("profile") or "demo", changes, names.get("results") or "", section)
        except StudyError as error:
            hint = " (Every plain name of a notebook counts as a setting; begin others with _.)"
            raise StudyError(f"{error}{hint if 'unknown setting' in str(error) else ''}") from None

    def _repr_html_(self) -> str:
        table = configuration.as_table(self.values, self.profile_values)
        differs = table["value"] != table["profile"]
        changed = table[differs].to_html(index=False) if differs.any() else "<p>Nothing differs from the profile.</p>"
        return (
            f"<p>Profile <b>{self.profile}</b>, results in <code>{self.results}</code></p>{changed}"
            f"<details><summary>All settings</summary>{table.to_html(index=False)}</details>"
        )

    # What the study is about

    def confounder(self, name: str) -> Confounder:
        """The confounder called `name`, with the parameters that its section gives it."""
        _, parameters = split_section(name, self.sections.get(name, {}))
        return confounders.make(name, **parameters)

    def about(self, name: str) -> "Study":
        """The study with the settings that the section of confounder `name` changes."""
        if name not in self._about:
            own, _ = split_section(name, self.sections.get(name, {}))
            changes = merged(self.changes, {self.section: own} if self.section else own)
            self._about[name] = Study(self.profile_file, changes, self.results, self.section) if own else self
        return self._about[name]

    @cached_property
    @stoppable()
    def cohort(self) -> Cohort:
        """The cohort that the settings ask for, opened and checked."""
        return open_cohort(self.settings.request(self.workspace.shared("phantoms")))

    @property
    def _rendering(self) -> Rendering:
        return Rendering(**self.settings.model_dump(include=set(Preprocessing.model_fields)))

    @property
    def unused_weights(self) -> str:
        """A sentence on weights that no source asks for; "" if all are used."""
        plains = {plain(name) for name in self.settings.sources}
        unused = [name for name in self.settings.weights if name not in plains]
        return f"note: weights of {', '.join(unused)} are not used: add them to sources" if unused else ""

    # Preparation

    @stoppable()
    def verify(self) -> pd.DataFrame:
        """Open every image of the cohort; print what is there, and return what is wrong, a row a problem."""
        text, problems = verify.report(self.cohort, workers=self.settings.workers)
        save_table(self.workspace, f"{self._prefix}cohort_problems", problems)
        counts = verify.counts(self.cohort.table).rename_axis(["group", "value"]).reset_index()
        save_table(self.workspace, f"{self._prefix}cohort_counts", counts)
        print(text)
        return problems

    def left_out(self) -> pd.DataFrame:
        """What the cohort left out, or is odd: one row a kind, with how many and the first of them."""
        problems = pd.DataFrame(self.cohort.problems, columns=["kind", "where", "what"])
        found = save_table(self.workspace, f"{self._prefix}left_out", problems)
        return found.groupby("kind").agg(number=("where", "size"), first=("where", "first"), why=("what", "first"))

    @stoppable()
    def contact_sheet(self) -> Image:
        """Images of each class as the network will see them, from the image bank, which is built for it."""
        table, folder = self.cohort.table, self.workspace.shared("bank")
        bank = image_bank.build(table, [self._rendering], folder, workers=self.settings.workers)[0]
        print(f"{len(bank)} images of {bank.shape[1]} x {bank.shape[2]} px, {bank.nbytes / 2**20:.1f} MiB")
        figure = galleries.sheet(cohort=table, bank=bank, note=self.cohort.caution)
        shown = galleries.sheet_table(cohort=table).assign(caution=self.cohort.caution)
        return save_figure(self.workspace, f"{self._prefix}cohort", figure, shown)

    @stoppable()
    def prepare_sources(self) -> pd.DataFrame:
        """Bring the pretrained weights onto this machine, once, and return one row about each source."""
        asked = self.settings
        if unused := self.unused_weights:
            print(unused)
        shown = {"cohort": self.cohort.table, "rendering": self._rendering}
        cards = grids.prepare_sources(
            asked.sources, asked.backbone, self.workspace, weights=asked.weights, workers=asked.workers, **shown
        )
        return save_table(self.workspace, "sources", cards)

    # The question and the confounders, in pictures and numbers

    def taxonomy(self) -> Image:
        """Fig. 1: MICCAT, and which confounder of this package acts on which of its leaves."""
        return save_figure(self.workspace, "fig1_miccat", diagrams.miccat(), diagrams.miccat_table())

    def calibration(self, *, negatives: int, positives: int, auc: float) -> Image:
        """How binary and published AUC part ways when an idealised network's logits shift and its ranking stays."""
        example = diagrams.binormal(negatives=negatives, positives=positives, auc=auc)
        shifted = diagrams.calibration_table(predictions=example, shifts=[k / 4 for k in range(-24, 25)])
        figure = diagrams.calibration_shift(data=shifted, majority=negatives / (negatives + positives))
        return save_figure(self.workspace, "calibration", figure, shifted)

    def show(self, *names: str, save_as: str = "") -> Image | pd.DataFrame:
        """What confounders do to the first positive image, and how far they reach the network (`training.reach`).

        Of a sampled one, how many images are in each group.

        Without a name, the confounder of the settings. `save_as` names the figure, NAME_artefact if empty.
        """
        names = names or (self.settings.confounder,)
        study, chosen = self.about(names[0]), [self.confounder(name) for name in names]
        if isinstance(chosen[0], Attribute):
            value = design.values_of(study.cohort.table, chosen[0])
            return study.cohort.table.groupby(["split", "label", value]).size().unstack([1, 2])
        path, image_id = study.cohort.table.query("label == 1")[["path", "image_id"]].iloc[0]
        how: dict[str, Any] = {"seed": study.settings.seed, "window": study.settings.window}
        effects = galleries.effects(image=read(path), image_id=image_id, confounders=chosen, **how)
        measured = {"seed": study.settings.seed, "workers": study.settings.workers}
        reaches = [reach.of_cohort(study.cohort.table, each, study.settings.training, **measured) for each in chosen]
        figure = galleries.gallery(
            effects=effects, reaches=reaches, how=study.settings.training, note=study.cohort.caution
        )
        name = save_as or f"{chosen[0].name}_artefact"
        table = galleries.gallery_table(effects=effects, reaches=reaches).assign(caution=study.cohort.caution)
        return save_figure(self.workspace, name, figure, table)

    @stoppable()
    def explore(self, *names: str) -> Any:
        """Move the parameters of any drawn confounder, and see image, difference, spectrum and the network's input.

        Writes explorer.html, the same without a kernel, of the confounders called `names`, or that of the settings.
        """
        study = self.about((names or (self.settings.confounder,))[0])
        chosen = [self.confounder(name) for name in names or (self.settings.confounder,)]
        return study.explored("explorer", study.cohort.table, chosen, study.settings.training)

    def explored(
        self,
        name: str,
        table: pd.DataFrame,
        chosen: Sequence[Confounder],
        how: Preprocessing,
        networks: Mapping[str, explorer.Network] | None = None,
    ) -> Any:
        """`explorer.explore` of images of `table`: NAME.html has the `chosen` confounders, the widget all others."""
        seed = self.settings.seed
        shown = explorer.cases(table, seed=seed)
        others = [self.confounder(name) for name, kind in confounders.known().items() if not kind.sampled]
        drawn = explorer.drawable([*chosen, *others], shown[0], how, seed=seed)
        subject = explorer.Subject(shown, drawn, how, seed, networks or {}, self.cohort.caution)
        page = self.results / f"{name}.html"
        return explorer.explore(subject, [one.name for one in chosen], page, beside=self._notebooks)

    def noise_domains(self) -> Image:
        """Noise in the image beside noise in the projections, on the first positive CT slice."""
        path = self.cohort.table.query("label == 1")["path"].iloc[0]
        n0, seed = dict(self.confounder("noise").carrier.parameters)["n0"], self.settings.seed
        figure, table = ct_figures.noise_domains(read_hu(path), n0=n0, seed=seed, note=self.cohort.caution)
        return save_figure(self.workspace, "noise_domains", figure, table.assign(caution=self.cohort.caution))

    def design(self, name: str = "") -> pd.DataFrame:
        """Who carries the confounder: images and, at each strength, carriers, by part and label, in fold 0."""
        name = name or self.settings.confounder
        study, confounder, columns = self.about(name), self.confounder(name), dict[str, pd.Series]()
        for strength in study.settings.p_art:
            sets = design.sets(study.cohort.table, confounder, p_art=strength, fold=0, seed=study.settings.seed)
            groups = sets.groupby(["part", "label"])
            columns |= {"images": groups.size()} | {f"carriers at {strength:g}": groups["carries"].sum()}
        return pd.DataFrame(columns).fillna(0).astype(int)

    # Runs

    def _grid(self, name: str) -> dict[str, Any]:
        asked = self.about(name).settings
        same = {key: getattr(asked, key) for key in ("p_art", "backbone", "folds", "training", "seed", "smallest_test")}
        return same | {"confounders": [self.confounder(name)]}

    def specs(self, name: str) -> list[RunSpec]:
        """Every run of one confounder's grid; registers the cohort and finds the sources."""
        study = self.about(name)
        own = {key: getattr(study.settings, key) for key in ("sources", "weights", "device", "force", "workers")}
        return grids.plan(study.cohort, self.workspace, **own, **self._grid(name))

    def run(self, *names: str, save_as: str = "") -> FinishedRuns:
        """Make the runs of these confounders that are not made yet, and return all of them.

        Without a name, the confounder of the settings. Interrupt it at any time: the next call goes on. `save_as` names
        its table and figure; the name that the first confounder was given if empty.
        """
        names, asked = names or (self.settings.confounder,), self.settings
        name = save_as or self.confounder(names[0]).name
        how = {
            key: getattr(asked, key) for key in ("workers", "device", "executor", "slurm", "recompute", "force", "keep")
        }
        specs: list[RunSpec] = []

        def how_far() -> str:
            done = sum((self.workspace.run(spec) / "done").exists() for spec in specs)
            return f"{done} of {len(specs)} runs are done" if specs else ""

        with stoppable(how_far):
            try:
                specs += [spec for each in names for spec in self.specs(each)]
            except StudyError:
                self._check(*names)
                raise
            if not all((self.workspace.run(spec) / "done").exists() for spec in specs):
                self._check(*names)
            table = save_table(self.workspace, name, grids.run(specs, self.workspace, name=name, **how))
        return FinishedRuns(table, self.workspace, asked, name, papers_runs)

    def needs(self, call: str, *names: str, where: str = "") -> list[checks.Need]:
        """What `study.CALL(*names)` in the notebook `where` needs, a confounder each, for `checks.check`.

        Raises StudyError for a confounder that is none, or is not wholly described.
        """
        if not {"image", "sets"} & checks.USES[call]:
            return [checks.Need(call, self.settings, partial(getattr, self, "cohort"), None, where)]
        needs = []
        for name in names or (self.settings.confounder,):
            study = self.about(name)
            cohort = partial(getattr, study, "cohort")
            needs.append(checks.Need(call, study.settings, cohort, self.confounder(name), where))
        return needs

    def _check(self, *names: str) -> None:
        # The command line has checked all notebooks at once.
        if not os.environ.get("SOURCEMATTERS_HEADLESS"):
            checks.check(self.needs("run", *names), self.workspace).refuse()

    def outline(self, *names: str) -> list[RunSpec]:
        """The runs that `run` would make, before cohort and weights are looked at: their ids are not the runs'."""
        outlined = []
        for name in names or (self.settings.confounder,):
            asked = self.about(name).settings
            unopened = [Source(source, "") for source in asked.sources]
            outlined += grid(data=asked.data, task=asked.task, cohort="", sources=unopened, **self._grid(name))
        return outlined

    def page(self) -> HTML:
        """A link to the report of all that this study has shown so far, which is written for it."""
        # A headless call writes it last, and puts the executed notebook into the results.
        headless = bool(os.environ.get("SOURCEMATTERS_HEADLESS"))
        index = self.results / "index.html" if headless else report.write(self.results)
        return HTML(report.link(index, self._notebooks))

    @property
    def _notebooks(self) -> Path:
        """Where the notebook is seen: executed in the results, or where somebody works with it."""
        return self.results / "notebooks" if os.environ.get("SOURCEMATTERS_HEADLESS") else Path.cwd()

    def collected(self) -> FinishedRuns:
        """The runs of all confounders of this study that are done; printed are those that are not or did not learn."""
        table, missing = grids.collect_plans(self.workspace)
        for line in [*missing, *mixtures.unlearned(table)]:
            print(line)
        return FinishedRuns(table, self.workspace, self.settings, "all_runs", papers_runs)


def papers_runs() -> list[RunSpec]:
    """Every run of profile `paper` on X-rays, before cohort and weights are looked at."""
    return Study("paper").outline("tag", "denoising", "gender", "noise")
