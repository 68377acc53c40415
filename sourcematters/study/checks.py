"""What a study needs, looked at before its first run: all that is wrong at once, while nothing has been made.

Tables of cohorts are opened, one image of each is drawn on, local weights are loaded once, in a process that then
ends. What can only be known by doing it stays: whether every image decodes, whether a download succeeds.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sourcematters.checked import unknown
from sourcematters.cohorts import Cohort, Request
from sourcematters.cohorts.pixels import read
from sourcematters.confounders import ORIGINAL, Attribute, Confounder, design
from sourcematters.errors import StudyError
from sourcematters.files import explained
from sourcematters.results import statistics, style
from sourcematters.runs import grids, guards, plans
from sourcematters.runs.run_folder import Workspace
from sourcematters.study.settings import Settings
from sourcematters.training import trials
from sourcematters.training.image_bank import Rendering, render
from sourcematters.training.recipe import Preprocessing
from sourcematters.training.trials import Trial

USES = {
    "verify": {"cohort"},
    "left_out": {"cohort"},
    "contact_sheet": {"cohort", "bank"},
    "noise_domains": {"cohort", "hounsfield"},
    "show": {"cohort", "image"},
    "explore": {"cohort", "image"},
    "design": {"cohort", "sets"},
    "prepare_sources": {"sources"},
    "collected": {"all runs"},
    "run": {"cohort", "image", "sets", "bank", "sources", "runs"},
}
"""What each call of `Study` that can fail for want of something uses."""


@dataclass(frozen=True)
class Need:
    """One call of a notebook for one confounder, with the settings that hold there; `where` names the notebook."""

    call: str
    settings: Settings
    cohort: Callable[[], Cohort]
    confounder: Confounder | None = None
    where: str = ""

    def uses(self, what: str) -> bool:
        """Whether the call needs `what` (`USES`)."""
        return what in USES[self.call]


@dataclass
class Complaints:
    """Sentences, each once, and where they hold."""

    found: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, sentence: str, *wheres: str) -> None:
        """Note a sentence of notebooks."""
        self.found.setdefault(sentence, {}).update(dict.fromkeys(filter(None, wheres)))

    @contextmanager
    def noting(self, *wheres: str) -> Iterator[None]:
        """Note the StudyError of a block, and go on after it."""
        try:
            yield
        except StudyError as error:
            self.add(str(error), *wheres)

    def refuse(self) -> None:
        """Raise one StudyError with all of them, if there are any."""
        lines = [": ".join(filter(None, [_few(list(wheres)), text])) for text, wheres in self.found.items()]
        lines = [line.replace("\n", "\n    ") for line in lines]
        if len(lines) == 1:
            raise StudyError(lines[0])
        if lines:
            raise StudyError("\n".join([f"{len(lines)} things are to be mended first; nothing was run.", *lines]))


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check(needs: Sequence[Need], workspace: Workspace) -> Complaints:
    """All that stands in the way of `needs`, before anything is trained. Nothing but caches is written."""
    found, networks = Complaints(), _networks(needs, workspace)
    with trials.begun([one for one, _ in networks]) as ended:
        _folders(workspace, found)
        for need in needs:
            _settings(need, workspace, found)
        _figures(needs, workspace, found)
        opened: dict[Request, list[Need]] = {}
        for need in needs:
            if need.uses("cohort"):
                opened.setdefault(need.settings.request(workspace.shared("phantoms")), []).append(need)
        bytes_needed = 0
        for group in opened.values():
            with found.noting(*(need.where for need in group)):
                bytes_needed += _cohort(group, workspace, found)
        _disk(bytes_needed, workspace, found)
        for number, sentence in ended():
            found.add(sentence, *networks[number][1])
    return found


def _folders(workspace: Workspace, found: Complaints) -> None:
    results = Path(workspace.results)
    with found.noting():
        try:
            with explained(results):
                for folder in (results.parent, results):
                    folder.mkdir(parents=True, exist_ok=True)
                    beside = folder / ".writable"
                    beside.touch()
                    beside.unlink(missing_ok=True)  # another study that begins now may have been faster
        except OSError as error:  # such as in /proc
            raise StudyError(
                f"{results}: no folder can be made there ({error.strerror}). Choose another one (--results FOLDER)."
            ) from error


def _settings(need: Need, workspace: Workspace, found: Complaints) -> None:
    asked = need.settings
    if need.uses("runs"):
        with found.noting(need.where):
            style.styles(asked.sources)
        with found.noting(need.where):
            how = {key: getattr(asked, key) for key in ("recompute", "device", "executor", "slurm")}
            grids.check_means([asked.training], workspace, **how)


def _figures(needs: Sequence[Need], workspace: Workspace, found: Complaints) -> None:
    """Whether tables and figures of all runs will find what is named, among these runs and those planned before."""
    runs = [need.settings for need in needs if need.uses("runs")]
    tasks, sources = {asked.task for asked in runs}, {name for asked in runs for name in asked.sources}
    for path in plans.paths(workspace.own("")):
        with suppress(StudyError):  # whoever needs the plan says what is wrong with it, or writes it anew
            planned = plans.read(path)[["task", "source"]].astype(str)
            tasks, sources = tasks | set(planned["task"]), sources | set(planned["source"])
    for need in (need for need in needs if need.uses("all runs") and runs):
        with found.noting(need.where):
            style.styles(sources)
        with found.noting(need.where):
            statistics.pairs(sorted(sources), need.settings.reference)
        for task in need.settings.state_of_the_art:
            if task not in tasks:
                found.add(f"state_of_the_art: {unknown('task', task, sorted(tasks))}", need.where)


def _cohort(needs: Sequence[Need], workspace: Workspace, found: Complaints) -> int:
    """Note what does not fit the cohort that all of `needs` use; return the bytes of its banks that are not there."""
    cohort = needs[0].cohort()
    path, image_id = cohort.table.loc[cohort.table["label"] == 1, ["path", "image_id"]].iloc[0]
    said: dict[Any, str] = {}
    banks = set[Rendering]()
    for need in needs:
        one_image, wrong = _pictures(path, image_id, need), False
        for key, work in [*_sets(cohort, need), *one_image]:
            if key not in said:
                said[key] = _sentence(work)
            if said[key]:
                found.add(said[key], need.where)
                wrong = True
        if not wrong and need.uses("runs") and (sentence := _sentence(partial(_refuse_unseen, cohort, need))):
            found.add(sentence, need.where)
        banks |= set(_renderings(need)) if need.uses("bank") else set()
    folder, missing = workspace.shared("bank"), 0
    for bank in banks:
        # Which files a bank has is not known without reading them all: one that is called alike and as large counts.
        there = folder.glob(f"{bank.alteration.name}-{bank.size}px-{bank.interpolation}-*.npy")
        size = len(cohort.table) * bank.size**2
        missing += size if not any(0 <= path.stat().st_size - size < 4096 for path in there) else 0
    return missing


Work = Iterator[tuple[Any, Callable[[], object]]]


def _sets(cohort: Cohort, need: Need) -> Work:
    """What makes the sets of each fold and strength, each with a key: of drawn confounders all have the same."""
    asked, confounder = need.settings, need.confounder
    sampled = confounder if isinstance(confounder, Attribute) else None
    if sampled:
        yield (sampled,), partial(design.values_of, cohort.table, sampled)
    if not need.uses("sets") or _sentence(partial(design.values_of, cohort.table, sampled) if sampled else str):
        return
    for fold in range(asked.folds):
        yield (sampled, fold, asked.p_art, asked.seed), partial(_sets_of_fold, cohort, need, fold)
    if need.uses("runs"):  # the test part is the same in every fold
        yield ("smallest", confounder, asked.smallest_test), partial(_refuse_small_test, cohort, need)


def _sets_of_fold(cohort: Cohort, need: Need, fold: int) -> None:
    how = {"fold": fold, "seed": need.settings.seed}
    made = {p: design.sets(cohort.table, need.confounder, p_art=p, **how) for p in need.settings.p_art}
    design.refuse_alike({p: design.carriers(sets) for p, sets in made.items()})


def _refuse_small_test(cohort: Cohort, need: Need) -> None:
    asked, table = need.settings, cohort.table
    if not _sentence(
        make := partial(design.sets, table, need.confounder, p_art=asked.p_art[0], fold=0, seed=asked.seed)
    ):
        design.small_tests(table, need.confounder, make(), smallest=asked.smallest_test)


def _refuse_unseen(cohort: Cohort, need: Need) -> None:
    asked, confounder = need.settings, need.confounder
    if confounder:
        how: dict[str, Any] = {"seed": asked.seed, "force": asked.force, "workers": asked.workers}
        guards.seen(cohort.table, confounder, asked.training, **how)


def _pictures(path: str, image_id: str, need: Need) -> Work:
    """What draws on the cohort's first positive image, each with a key."""
    for rendering in _renderings(need):
        yield rendering, partial(render, path, image_id, [rendering])
    if need.uses("hounsfield"):
        yield "hounsfield", partial(_refuse_grey, path)


def _refuse_grey(path: str) -> None:
    if read(path).dtype != np.int16:
        raise StudyError(f"{path}: a grey image, and noise_domains shows CT slices. Leave this notebook out.")


def _renderings(need: Need) -> list[Rendering]:
    """How the images of a call are rendered; those of a picture are not cropped."""
    if not (need.uses("image") or need.uses("bank")):
        return []
    asked = need.settings
    how = asked.model_dump(include=set(Preprocessing.model_fields)) | ({} if need.uses("bank") else {"crop": 0})
    drawn = [need.confounder.base, need.confounder.carrier] if need.confounder else [ORIGINAL]
    drawn += [ORIGINAL] if need.uses("runs") else []  # in which copies and blanks are looked for
    return [Rendering(alteration=alteration, seed=asked.seed, **how) for alteration in dict.fromkeys(drawn)]


def _sentence(work: Callable[[], object]) -> str:
    try:
        work()
    except StudyError as error:
        return str(error)
    return ""


def _disk(wanted: int, workspace: Workspace, found: Complaints) -> None:
    folder = workspace.shared("bank")
    with suppress(OSError):  # of the folder it is said elsewhere
        free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
        if wanted > free:
            found.add(
                f"{folder}: the image banks will take {wanted / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free. "
                "Free some space, choose another folder (--results), or a smaller size."
            )


def _networks(needs: Sequence[Need], workspace: Workspace) -> list[tuple[Trial, list[str]]]:
    """What only torch can tell, each once, and the notebooks that it concerns."""
    found: list[tuple[Trial, list[str]]] = []
    for need in (need for need in needs if need.uses("sources")):
        asked = need.settings
        here = need.uses("runs") and asked.executor == "local"
        one = Trial(
            **{name: getattr(asked, name) for name in ("backbone", "training", "sources", "weights", "plugins")},
            device=asked.device if here else "",
            folder=workspace.shared("sources"),
        )
        wheres = next((wheres for other, wheres in found if other == one), None)
        if wheres is None:
            found.append((one, wheres := []))
        wheres.append(need.where)
    return found
