"""What one call will do: the study's notebooks, and the values a profile and the user give to their parameters.

A profile is papermill's parameter file: flat YAML, `papermill NOTEBOOK OUT -f PROFILE` reads it too. Where one
notebook needs other values than the rest, they stand in a section that bears its name (`gender:` for 24_gender),
which papermill alone does not look into. Other than in papermill, a parameter that no notebook declares, or a value
of another type than the declared one, is an error.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import yaml

from sourcematters.errors import StudyError
from sourcematters.study import page
from sourcematters.study.parameters import Parameter, declared

if TYPE_CHECKING:
    from sourcematters.runs.specs import RunSpec

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Notebook:
    """A notebook of the study; `title` and `cost` are read from its first cell.

    `confounders` is the code of its cell tagged so, which names what a grid of runs is about; empty without a grid.
    """

    path: Path
    title: str
    cost: str
    parameters: Mapping[str, Parameter]
    confounders: str = ""

    @property
    def name(self) -> str:
        """File name without suffix, such as 20_tag."""
        return self.path.stem

    @property
    def names(self) -> tuple[str, ...]:
        """All that it is called by: 20_tag, 20, tag."""
        return (self.name, *self.name.split("_", 1))


@dataclass(frozen=True)
class Plan:
    """What one call will do: notebooks in order, each with the parameters it is given."""

    profile: str
    folder: Path
    steps: tuple[tuple[Notebook, dict[str, Any]], ...]


def read_notebook(path: Path) -> Notebook:
    """Read a notebook's title, cost and declared parameters, without running it.

    Raises StudyError unless it is a notebook and exactly one of its cells is tagged `parameters`.
    """
    try:
        cells = nbformat.read(path, as_version=4).cells
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError, KeyError) as error:
        raise StudyError(f"{path}: not readable as a notebook ({error}).") from error
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise StudyError(f"{path}: {len(tagged)} of its cells are tagged `parameters`; one must be.")
    title, cost = page.heading(cells)
    parameters = {p.name: p for p in declared(tagged[0].source, str(path))}
    grid = [cell.source for cell in cells if "confounders" in cell.metadata.get("tags", [])]
    return Notebook(path, title or path.stem, cost, parameters, "\n".join(grid))


def notebooks(root: Path) -> list[Notebook]:
    """The study's notebooks, `root`/notebooks/NN_name.ipynb, in order; StudyError if there are none."""
    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise StudyError(f"{root / 'notebooks'}: no notebooks here. Run from a clone of the repository.")
    return [read_notebook(path) for path in paths]


def selected(available: Sequence[Notebook], names: Iterable[str | int]) -> list[Notebook]:
    """The notebooks called `names`: each a file name, a stem (20_tag), a number (20) or the rest (tag)."""
    chosen = set()
    for name in names:
        stem = f"{name:02d}" if isinstance(name, int) else Path(name).stem
        found = {n.name for n in available if stem in n.names}
        if not found:
            raise StudyError(_unknown("notebook", stem, [n.name for n in available]))
        chosen |= found
    return [notebook for notebook in available if notebook.name in chosen]


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"unknown {what} `{name}`.{hint} Known: {', '.join(known) or 'none'}."


def read_profile(root: Path, name: str) -> tuple[str, dict[str, Any]]:
    """The name and the values of a profile, given as NAME (notebooks/profiles/NAME.yaml) or as a path.

    Raises StudyError when there is none, or when it is not flat YAML with each key once.
    """
    folder = root / "notebooks" / "profiles"
    by_path = Path(name).suffix in (".yaml", ".yml") or os.sep in name
    path = Path(name).expanduser() if by_path else folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        raise StudyError(f"{path}: no such profile file." if by_path else _unknown("profile", name, known))
    try:
        text = path.read_text(encoding="utf-8")
        tree, values = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not readable as YAML ({error}).") from error
    if values is None:
        return path.stem, {}
    if not isinstance(values, dict):
        raise StudyError(f"{path}: a profile is lines of the form `parameter: value`.")
    if twice := sorted(set(_repeated_keys(tree))):
        raise StudyError(f"{path}: {', '.join(twice)} is given more than once.")
    return path.stem, {str(key): value for key, value in values.items()}


def _repeated_keys(tree: yaml.MappingNode) -> Iterator[str]:
    """Keys that a mapping, or one inside it, has twice: YAML takes the last in silence."""
    keys = [str(key.value) for key, _ in tree.value]
    yield from (key for key in keys if keys.count(key) > 1)
    for _, value in tree.value:
        if isinstance(value, yaml.MappingNode):
            yield from _repeated_keys(value)


def plan(
    root: Path,
    profile: str,
    overrides: Iterable[tuple[str, str]] = (),
    only: Sequence[str] = (),
    results: str | Path | None = None,
) -> Plan:
    """Decide which notebooks run, with which parameters, before anything runs.

    `root` is a clone of the repository; `overrides` are (name, YAML text) pairs and beat the profile. A name with
    the notebook's before it, such as gender.size, is for that notebook alone, and beats the plain name; so does a
    section of the profile that bears the notebook's name, among the profile's values.
    Relative paths are taken from `root` in a profile, from the current folder in `overrides` and `results`.
    The executed study goes to `results`/PROFILE, by default `root`/results/PROFILE, and notebooks are told so
    as parameter `results`. In a profile, `notebooks` (a list) chooses the notebooks, unless `only` does.
    Raises StudyError for a parameter that is declared nowhere and for a value that does not fit.
    """
    available = notebooks(root)
    name, values = read_profile(root, profile)
    chosen = selected(available, only or values.pop("notebooks", None) or [n.name for n in available])
    values.pop("notebooks", None)
    folder = (Path(results).expanduser() if results else root / "results").resolve() / name
    from_profile = _by_notebook(values, available, available, f"profile {name}")
    sections: dict[str, Any] = {}
    for key, text in overrides:
        notebook, _, parameter = key.rpartition(".")
        if notebook and not _called(notebook, available):
            raise StudyError(f"-p {key}: {_unknown('notebook', notebook, [n.name for n in available])}")
        sections.setdefault(notebook, {})[parameter] = text
    typed = sections.pop("", {}) | sections
    from_user = _by_notebook(typed, available, chosen, f"-p, for {', '.join(only)}" if only else "-p")
    steps = []
    for notebook in chosen:
        given = {}
        for key, parameter in notebook.parameters.items():
            typed, text = key in from_user[notebook.name], from_user[notebook.name].get(key)
            try:
                if key == "results":
                    given[key] = str(folder)
                elif typed:
                    given[key] = parameter.parsed(text, Path.cwd())
                elif key in from_profile[notebook.name]:
                    given[key] = parameter.value(from_profile[notebook.name][key], root)
            except ValueError as error:
                origin = f"-p {key}" if typed else f"profile {name}"
                raise StudyError(
                    f"{origin}: {error}, as in {notebook.path.name}: {key} = {parameter.default!r}."
                ) from error
        steps.append((notebook, given))
    return Plan(name, folder, tuple(steps))


def _by_notebook(
    values: Mapping[str, Any], available: Sequence[Notebook], chosen: Sequence[Notebook], origin: str
) -> dict[str, dict[str, Any]]:
    """What each notebook of `chosen` is given: the plain values, then those of a section that bears its name.

    Raises StudyError for a plain value that none of `chosen` declares, and for one of a section that its notebook
    does not.
    """
    sections = {key: value for key, value in values.items() if isinstance(value, dict) and _called(key, available)}
    common = {key: value for key, value in values.items() if key not in sections}
    _check_declared(common, chosen, origin)
    for key, section in sections.items():
        _check_declared(section, _called(key, available), f"{origin}, {key}")
    own = {n.name: [sections[key] for key in sections if n in _called(key, available)] for n in chosen}
    return {n.name: {key: value for part in (common, *own[n.name]) for key, value in part.items()} for n in chosen}


def _called(name: str, available: Sequence[Notebook]) -> list[Notebook]:
    return [notebook for notebook in available if name in notebook.names]


def _check_declared(values: Mapping[str, Any], among: Sequence[Notebook], origin: str) -> None:
    known = sorted({key for notebook in among for key in notebook.parameters} - {"results"})
    for key in sorted(set(values) - set(known)):
        hint = " Its folder is chosen by --results FOLDER." if key == "results" else ""
        raise StudyError(f"{origin}: {_unknown('parameter', key, known)}{hint}")


def listing(root: Path) -> str:
    """A text: every notebook with its title, cost and parameters (default, meaning), then the profiles."""
    lines = []
    for notebook in notebooks(root):
        lines += [f"{notebook.name}  {notebook.title}", *([f"    {notebook.cost}"] if notebook.cost else [])]
        lines += [f"    {p.name} = {p.default!r}  {p.help}" for p in notebook.parameters.values()] + [""]
    profiles = sorted(path.stem for path in (root / "notebooks" / "profiles").glob("*.yaml"))
    return "\n".join([*lines, f"profiles: {', '.join(profiles) or 'none'}"])


def describe(plan: Plan) -> str:
    """A text: where the results of `plan` go, every notebook's parameters, and every run of its grid.

    Neither images nor weights are opened, so they need not be there. Raises StudyError for settings that no run can
    have, such as p_art outside 0..1.
    """
    lines, specs = [f"profile {plan.profile}, results in {plan.folder}"], []
    for notebook, given in plan.steps:
        lines += ["", f"{notebook.name}  {notebook.title}"]
        for key, parameter in notebook.parameters.items():
            value = f"{given[key]!r}" if key in given else f"{parameter.default!r}  (default)"
            lines.append(f"    {key} = {value}")
        if notebook.confounders:
            runs = outline(notebook, given)
            lines += [f"    {line}" for line in _runs_in_words(runs)]
            specs += runs
    if specs:
        lines += ["", _counted(specs)]
    return "\n".join(lines)


def outline(notebook: Notebook, given: Mapping[str, Any]) -> "list[RunSpec]":
    """The grid of runs that `notebook` will make with these parameters, before its cohort and weights are looked at.

    Of a spec the digest of the cohort and the identity of the source are empty, so its id is not the run's.
    """
    from sourcematters.cohorts.lidc import lidc_idri
    from sourcematters.runs.specs import Training, grid
    from sourcematters.sources import Source

    values = {name: parameter.default for name, parameter in notebook.parameters.items()} | dict(given)
    # The cell is the study's own code, as much as any module; it draws nothing and reads no file.
    exec(notebook.confounders, cell := dict(values))
    settings = {field.name: values[field.name] for field in fields(Training) if field.name in values}
    # A notebook on CT has no choice of task.
    return grid(
        data=values.get("data") or values["lidc_folder"],
        task=values.get("task") or lidc_idri.TASK,
        cohort="",
        confounders=cell["confounders"],
        p_art=values["p_art"],
        sources=[Source(name, "", "") for name in values["sources"]],
        backbone=values["backbone"],
        folds=values["folds"],
        training=Training(**settings),
        seed=values["seed"],
    )


def _counted(specs: "Sequence[RunSpec]") -> str:
    """How many runs, and how many networks they train: at strength 0 one serves several confounders."""
    distinct = {spec.id for spec in specs}
    return f"{len(distinct)} runs, {len({spec.fit.id for spec in specs})} fine-tunings"


def _runs_in_words(specs: "Sequence[RunSpec]") -> Iterator[str]:
    first = specs[0]
    settings = ", ".join(f"{name} {value}" for name, value in asdict(first.training).items())
    yield f"{_counted(specs)}, each of {first.task} with {first.backbone}, seed {first.seed}, {settings}:"
    for confounder in dict.fromkeys(spec.confounder for spec in specs):
        yield f"  {confounder.label}"
        for spec in (spec for spec in specs if spec.confounder == confounder):
            shared = "" if spec.fit == spec else "  (network trained without confounder)"
            yield f"    p_art {spec.p_art:<4g} {spec.source.name:<20} fold {spec.fold}{shared}"
