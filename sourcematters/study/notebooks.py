"""What one call will do: which notebooks, with which settings, and the runs that they will make."""

import ast
import contextlib
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from sourcematters import cohorts, confounders, sources
from sourcematters.checked import unknown
from sourcematters.errors import StudyError
from sourcematters.report import heading
from sourcematters.runs.specs import RunSpec
from sourcematters.study import checks
from sourcematters.study import settings as configuration
from sourcematters.study.checks import USES, Complaints, Need
from sourcematters.study.settings import SECTIONS, Settings, as_table, read_changes
from sourcematters.study.study import Study


@dataclass(frozen=True)
class Notebook:
    """A notebook of the study; `title` and `cost` are read from its first cell, the rest from its code.

    `section` is what it hands to `Study.of`; `calls` are those of `study` in it, each a name and the texts it is given.
    """

    path: Path
    title: str
    cost: str
    section: str = ""
    calls: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def name(self) -> str:
        """File name without suffix, such as 20_tag."""
        return self.path.stem

    @property
    def grids(self) -> tuple[tuple[str, ...], ...]:
        """The confounders of each `study.run(...)` (none named: the settings' own)."""
        return tuple(texts for name, texts in self.calls if name == "run")


@dataclass(frozen=True)
class Plan:
    """What one call will do: notebooks in order, each given `parameters`; `study` is what these settings make.

    `note` says which notebooks were left out, and how to get them; empty if none was.
    """

    folder: Path
    study: Study
    notebooks: tuple[Notebook, ...]
    parameters: dict[str, Any]
    note: str = ""


def read_notebook(path: Path) -> Notebook:
    """Read a notebook's title, cost and grids, without running it.

    Raises StudyError unless it is a notebook and exactly one of its cells is tagged `parameters`.
    """
    try:
        cells = nbformat.read(path, as_version=4).cells
        tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError, KeyError) as error:
        raise StudyError(f"{path}: not readable as a notebook ({error}).") from error
    if len(tagged) != 1:
        raise StudyError(f"{path}: {len(tagged)} of its cells are tagged `parameters`; one must be.")
    title, cost = heading(cells)
    calls = [call for cell in cells if cell.cell_type == "code" for call in _calls(cell.source)]
    section = next((texts[0] for name, texts in calls if name == "Study.of" and texts), "")
    asked = tuple((name.removeprefix("study."), texts) for name, texts in calls if name.startswith("study."))
    return Notebook(path, title or path.stem, cost, section, asked)


def _calls(source: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Calls such as study.run("tag") in a cell: the name and its texts. Jupyter's own lines (%, !) are passed over."""
    code = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
    try:
        tree = ast.parse(code)
    except SyntaxError:  # the notebook's own error, which it will show where it stands
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            yield ast.unparse(node.func), tuple(map(str, texts))


def notebooks() -> list[Notebook]:
    """The study's notebooks, notebooks/NN_name.ipynb, in order; StudyError if there are none."""
    folder = configuration.ROOT / "notebooks"
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise StudyError(f"{folder}: no notebooks here. Run from a clone of the repository.")
    return [read_notebook(path) for path in paths]


def selected(available: Sequence[Notebook], names: Iterable[str]) -> list[Notebook]:
    """The notebooks called `names`, each a file name, a stem (20_tag), a number (20, or 0 for 00) or the rest (tag)."""
    known, chosen = [notebook.name for notebook in available], set[str]()
    for name in names:
        stem = name.zfill(2) if name.isdecimal() else Path(name).stem
        found = {name for name in known if stem in (name, *name.split("_", 1))}
        if not found:
            raise StudyError(unknown("notebook", stem, known))
        chosen |= found
    return [notebook for notebook in available if notebook.name in chosen]


def plan(
    profile: str, overrides: Iterable[tuple[str, str]] = (), only: Sequence[str] = (), results: str | Path | None = None
) -> Plan:
    """Decide which notebooks run, with which settings, and check them all before anything runs.

    `overrides` are (name, YAML text) pairs and beat the profile. The executed study goes below `results`, by default
    to results in the repository, in a folder called as `Study` calls it. The profile's `notebooks` chooses the
    notebooks, unless `only` does; where data of another kind are given than the profile's, those on its other data are
    left out unless they are asked for. Raises StudyError for a setting that is none and for values that do not fit,
    all at once.
    """
    changes = read_changes(overrides)
    if {"results", "profile"} & set(changes):
        raise StudyError("-p results, -p profile: give --results FOLDER and --profile NAME instead.")
    study = Study(profile, changes)
    if results is not None:
        if not str(results).strip():
            raise StudyError("--results is empty: give a folder, or leave it out for results in the repository.")
        study = Study(profile, changes, configuration.placed(results) / study.results.name)
    available = notebooks()
    chosen = selected(available, only or study.settings.notebooks or [notebook.name for notebook in available])
    asked_for = bool(only) or "notebooks" in changes
    unasked = [] if asked_for else [notebook for notebook in chosen if _is_on_other_data(notebook, study)]
    by_path = configuration.placed(profile)
    parameters = {"profile": str(by_path.resolve()) if by_path.is_file() else profile, "results": str(study.results)}
    kept = tuple(notebook for notebook in chosen if notebook not in unasked)
    return Plan(
        study.results,
        study,
        kept,
        parameters | changes,
        "\n".join(filter(None, (_on_left_out(unasked), study.unused_weights))),
    )


def _is_on_other_data(notebook: Notebook, study: Study) -> bool:
    """Whether a notebook is on data of the profile, while others were put in the place of its data elsewhere."""
    given = "data" in (study.changes.get(notebook.section) or {} if notebook.section else study.changes)
    return bool(study.replaced_data) and not (
        ("collected", ()) in notebook.calls or given or notebook.section in study.replaced_data
    )


def _on_left_out(left_out: Sequence[Notebook]) -> str:
    if not left_out:
        return ""
    settings = dict.fromkeys(f"-p {notebook.section}.data".replace(" .", " ") + " ..." for notebook in left_out)
    names = ", ".join(notebook.name for notebook in left_out)
    how = f"{' and '.join(settings)} for data of your own, --only to run them all the same"
    return f"note: left out, as their data would be the profile's: {names} ({how})"


def changed(available: Iterable[Notebook]) -> list[str]:
    """The names of notebooks whose cells are others than those that git has committed; none without git."""

    def sources_of(notebook: str) -> list[str]:
        return ["".join(cell["source"]) for cell in json.loads(notebook)["cells"]]

    names = []
    for notebook in available:
        folder, file = notebook.path.parent, notebook.path.name
        command = ["git", "-C", str(folder), "show", f"HEAD:./{file}"]
        with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError, KeyError):
            committed = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30, check=True).stdout
            if sources_of(committed) != sources_of(notebook.path.read_text(encoding="utf-8")):
                names.append(notebook.name)
    return names


def listing() -> str:
    """A text of all that can be named: notebooks, settings, confounders, data, sources, profiles."""
    lines = ["NOTEBOOKS"]
    for notebook in notebooks():
        lines += [f"  {notebook.name}  {notebook.title}", *([f"      {notebook.cost}"] if notebook.cost else [])]
    lines += ["", "SETTINGS (-p NAME VALUE, a profile, or a notebook's cell), with the paper's values"]
    lines += list(_fields(Settings.model_fields))
    lines += [f"  {name}: {{...}}  any of these, for {what}" for name, what in SECTIONS.items()]
    lines += ["", "CONFOUNDERS and their parameters (-p tag.height 64; each takes a `name` of its own, too)"]
    for name, kind in confounders.known().items():
        required = {key: field for key, field in kind.model_fields.items() if field.is_required()}
        lines += [f"  {name}  {kind.title}; {kind.practice}"]
        lines += [f"    {line}" for line in _fields(required | kind.parameters())]
    lines += ["", "DATA"] + [f"  {reader.name}: {reader.help}" for reader in cohorts.known().values()]
    published = sources.known().values()
    lines += ["", "SOURCES"] + [f"  {one.name}  {one.title}: {one.where}; {one.backbones}" for one in published]
    profiles = sorted(path.stem for path in (configuration.ROOT / "notebooks" / "profiles").glob("*.yaml"))
    return "\n".join([*lines, "", f"PROFILES  {', '.join(profiles) or 'none'}"])


def _fields(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, field in fields.items():
        default = "required" if field.is_required() else f"{field.default!r}"
        yield f"  {name} = {default}  {field.description or ''}"


def describe(plan: Plan) -> str:
    """A text: where the results go, every setting, and every run of each notebook's grids.

    Neither images nor weights are opened, so they need not be there.
    """
    lines = [f"profile {plan.study.profile}, results in {plan.folder}"]
    lines += ["Cohorts and weights are not looked at here; a start checks them before its first run.", ""]
    for row in as_table(plan.study.values, plan.study.profile_values).itertuples():
        differs = f"  (profile: {row.profile or 'nothing'})" if row.value != row.profile else ""
        lines.append(f"    {row.setting} = {row.value}{differs}")
    every: list[RunSpec] = []
    for notebook in plan.notebooks:
        lines += ["", f"{notebook.name}  {notebook.title}"]
        specs = outline(plan, notebook)
        lines += [f"    {line}" for line in _runs_in_words(specs)]
        every += specs
    return "\n".join([*lines, *(["", _counted(every)] if every else [])])


def outline(plan: Plan, notebook: Notebook) -> list[RunSpec]:
    """The runs that `notebook` will make, before its cohort and weights are looked at."""
    study = _study(plan, notebook)
    return [spec for names in notebook.grids for spec in study.outline(*names)]


def check(plan: Plan) -> None:
    """Look at all that the notebooks will need, before the first is executed; nothing is trained or downloaded.

    Raises one StudyError with everything that is wrong, and in which notebooks.
    """
    needs, unnamed = list[Need](), Complaints()
    for notebook in plan.notebooks:
        study = _study(plan, notebook)
        for call, names in notebook.calls:
            if call in USES:
                with unnamed.noting(notebook.name):
                    study.outline(*names) if call == "run" else None
                    needs += study.needs(call, *names, where=notebook.name)
    found = checks.check(needs, plan.study.workspace)
    Complaints(unnamed.found | found.found).refuse()


def _study(plan: Plan, notebook: Notebook) -> Study:
    study = plan.study
    return Study(study.profile_file, study.changes, study.results, notebook.section) if notebook.section else study


def _counted(specs: Sequence[RunSpec]) -> str:
    """How many runs, and how many networks they train: at strength 0 one serves several confounders."""
    distinct = {spec.id for spec in specs}
    return f"{len(distinct)} runs, {len({spec.fit.id for spec in specs})} fine-tunings"


def _runs_in_words(specs: Sequence[RunSpec]) -> Iterator[str]:
    if specs:
        first = specs[0]
        settings = ", ".join(f"{name} {value}" for name, value in dict(first.training).items())
        yield f"{_counted(specs)}, each of {first.task} with {first.backbone}, seed {first.seed}, {settings}:"
    for confounder in dict.fromkeys(spec.confounder for spec in specs):
        yield f"  {confounder.label if confounder else 'none'}"
        for spec in (spec for spec in specs if spec.confounder == confounder):
            shared = "" if spec.fit == spec else "  (network trained without confounder)"
            yield f"    p_art {spec.p_art:<4g} {spec.source.name:<20} fold {spec.fold}{shared}"
