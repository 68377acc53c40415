"""Where the networks of a study look, as its notebook asks: shares, maps and frequencies, in tables and figures.

where = Where.of(globals())
where.share("tag")  # how much of the attribution lies on it, by source and strength
where.maps("tag")
where.frequencies("denoising")  # of what covers the whole image
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pandas as pd
from IPython.display import HTML, Image

from sourcematters.audit.where import pictures, shares
from sourcematters.audit.where.pairs import Pairs, drawn, some
from sourcematters.audit.where.shares import Job
from sourcematters.errors import StudyError, stoppable
from sourcematters.processes import over_processes, progress
from sourcematters.results.figures import caption
from sourcematters.runs.run_folder import lacks_weights
from sourcematters.runs.specs import RunSpec
from sourcematters.study.finished import save_figure, save_table
from sourcematters.study.study import Study

IMAGES = 32  # of the test part, half of each label
SHOWN = 1  # of each label, in the figure of maps
Result = TypeVar("Result")


class Where:
    """What can be asked of the kept networks of a study's runs; runs that are missing are made.

    Tables and figures are kept in the study's results as where_*, what is computed for them beside the runs.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.asked, self.workspace = study, study.settings, study.workspace
        self._specs: dict[str, list[RunSpec]] = {}

    @classmethod
    def of(cls, names: Mapping[str, Any]) -> "Where":
        """That of the study that a notebook's names describe: `Where.of(globals())`, after the parameters cell."""
        return cls(Study.of(names))

    def _repr_html_(self) -> str:
        return self.study._repr_html_()

    @stoppable()
    def share(self, *names: str, images: int = IMAGES) -> Image:
        """Draw what share of each method's attribution lies on the confounder, beside its share of the area; say it.

        `images` of the test part are looked at, each with the confounder and without. Of all with it tells the table
        where_share; of those without, and of the tests' carriers, where_share_sets. Raises StudyError for a confounder
        that has no place (`frequencies`), and for runs without weights.
        """
        found = []
        for name in names or (self.asked.confounder,):
            pairs = self._pairs(name, images)
            if not pairs.local:
                raise StudyError(
                    f"{name} covers {pairs.areas.mean():.0%} of the image: a share of attribution on it tells nothing. "
                    f'Ask where.frequencies("{name}").'
                )
            for job, table in self._over_networks(shares.of_run, name, pairs, "attribution"):
                found.append(table.assign(**_row(job.spec)))
        every = pd.concat(found, ignore_index=True)
        table = shares.summary(every, seed=self.asked.seed)
        sets = [shares.summary(every, seed=self.asked.seed, of=of).assign(images_are=of) for of in shares.SETS]
        save_table(self.workspace, "where_share", table)
        save_table(self.workspace, "where_share_sets", pd.concat(sets, ignore_index=True))
        for sentence in [*pictures.in_words(table), *pictures.costs(every)]:
            print(sentence)
        return save_figure(self.workspace, "where_share", pictures.shares(table, note=self._note), table)

    @stoppable()
    def maps(self, name: str = "", images: int = SHOWN) -> Image:
        """Draw where the networks of the largest strength look on a few images, without and with: a row a source."""
        name = name or self.asked.confounder
        pairs = self._pairs(name, IMAGES).first(images)
        made = self._over_networks(shares.maps_of_run, name, pairs, "maps", self._strongest(name))
        rows = {job.spec.source.name: found for job, found in made}
        figure = pictures.maps(rows, pairs, name, p_art=made[0][0].spec.p_art, note=self._note)
        return save_figure(self.workspace, "where_maps", figure, pairs.images.assign(area=pairs.areas))

    @stoppable()
    def frequencies(self, *names: str, images: int = IMAGES // 2) -> Image:
        """Draw how far waves of each spatial frequency move the log-odds, by source and strength, on plain images.

        Raises StudyError for runs without weights.
        """
        found = []
        for name in names or (self.asked.confounder,):
            pairs = self._pairs(name, images)
            for job, table in self._over_networks(shares.frequencies_of_run, name, pairs, "frequencies"):
                found.append(table.assign(**_row(job.spec)))
        table = shares.by_frequency(pd.concat(found, ignore_index=True), seed=self.asked.seed)
        save_table(self.workspace, "where_frequencies", table)
        return save_figure(self.workspace, "where_frequencies", pictures.frequencies(table, note=self._note), table)

    def page(self) -> HTML:
        """A link to the page of all that was shown so far."""
        return self.study.page()

    @property
    def _note(self) -> str:
        sources = [spec.source.caution for specs in self._specs.values() for spec in specs]
        return caption([self.study.cohort.caution, *sources])

    def _pairs(self, name: str, images: int) -> Pairs:
        study, confounder = self.study.about(name), self.study.confounder(name)
        if confounder.sampled:
            raise StudyError(f"{name} is sampled: nothing is drawn, so there is no place where a network could look.")
        table = study.cohort.table
        chosen = some(table[table["split"] == "test"], images, seed=study.settings.seed)
        return drawn(chosen, confounder, study.settings.training, seed=study.settings.seed)

    def _runs(self, name: str) -> list[RunSpec]:
        """Every run of a confounder's grid, done and with weights."""
        if name not in self._specs:
            specs = self.study.specs(name)
            folders = [(spec, self.workspace.run(spec)) for spec in specs]
            missing = [spec for spec, folder in folders if not (folder / "done").exists()]
            without = [s for s, folder in folders if folder.exists() and lacks_weights(s, folder, "weights")]
            if (missing or without) and not self.asked.keep:
                raise StudyError(
                    f"{name}: of {len(specs)} runs {len(missing)} are not done and {len(without)} have kept no "
                    f"network, e.g. {(missing + without)[0].id}. With `-p keep weights` (in a notebook, keep = "
                    '"weights") these are trained, again if need be, to the same predictions, and kept.'
                )
            if missing or without:
                self.study.run(name, save_as=f"where_{name}")
            self._specs[name] = specs
        return self._specs[name]

    def _strongest(self, name: str) -> list[RunSpec]:
        """Of each source the network of the largest strength, in fold 0."""
        strongest = max(spec.p_art for spec in self._runs(name))
        return [spec for spec in self._runs(name) if spec.fold == 0 and spec.p_art == strongest]

    def _over_networks(
        self, work: Callable[[Job], Result], name: str, pairs: Pairs, what: str, specs: list[RunSpec] | None = None
    ) -> list[tuple[Job, Result]]:
        chosen = self._runs(name) if specs is None else specs
        jobs = [Job(spec, self.workspace, pairs, self.asked.seed, self.asked.device) for spec in chosen]
        made: dict[str, Result] = {}
        with progress(total=len(jobs), desc=f"{what}: {name}", unit="network", mininterval=0) as bar:
            for job, found in over_processes(work, jobs, self.asked.workers):
                made[job.spec.id] = found
                bar.update()
        return [(job, made[job.spec.id]) for job in jobs]


def _row(spec: RunSpec) -> dict[str, Any]:
    return {name: spec.row[name] for name in (*shares.KEYS, "fold")}
