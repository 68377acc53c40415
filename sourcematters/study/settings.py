"""Every setting of a study: its type, range, default and meaning, and how profiles and people set it.

The defaults are the paper's. A profile is a YAML file that sets some of them; `-p`, papermill and a notebook's own
cell set others on top. A section says something of one part of the study only: `tag: {height: 64}` sets a parameter
of that confounder, `gender: {size: 256}` a setting for the runs of that confounder, and the sections in `SECTIONS`
anything at all for some notebooks, a confounder's parameters included: `ct: {noise: {domain: projection}}`.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import pandas as pd
import yaml
from pydantic import Field

from sourcematters import confounders
from sourcematters.checked import Printed, cut, flat, unknown
from sourcematters.cohorts import Request
from sourcematters.cohorts.readers import Choice, reader_of
from sourcematters.errors import StudyError
from sourcematters.files import spelt_as_on_disk
from sourcematters.training.recipe import Training

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = {"ct": "the notebooks on CT (11, 23)", "own": "notebook 25, which runs any confounder"}
MOST_VALUES = 10_000  # of a profile
Strength = Annotated[float, Field(ge=0, le=1)]


class Settings(Choice, Training):
    """What a study does: the cohort (`Choice`), the fine-tuning (`Training`), and the grid of runs."""

    plugins: tuple[str, ...] = Field((), description="modules or .py files that add confounders, data or sources")
    sources: tuple[Annotated[Printed, Field(min_length=1)], ...] = Field(
        ("imagenet", "radimagenet", "random"), min_length=1, description="pretrained weights to compare"
    )
    weights: dict[str, Any] = Field({}, description='your own files: {"name": "path/to/file.safetensors"}')
    backbone: str = Field("resnet50", description="any timm model")
    p_art: tuple[Strength, ...] = Field(
        (0, 0.1, 0.2, 0.5, 0.8, 1), min_length=1, description="shares of positives that carry the confounder"
    )
    folds: int = Field(5, ge=1, le=1000, description="repeats with other training and validation patients")
    confounder: str = Field("gender", description="what notebook 25 runs: any name of --list")
    device: str = Field("auto", description="auto, cpu, cuda or mps")
    recompute: bool = Field(False, description="half the memory in training, a quarter more time; changes no number")
    keep: Literal["", "weights"] = Field("", description="weights: each run keeps its network; changes no number")
    executor: Literal["local", "slurm"] = Field("local", description="who makes the runs: this machine, or a cluster")
    slurm: dict[str, Any] = Field({}, description="options of sbatch, such as {partition: gpu, time: 60}")
    state_of_the_art: dict[str, Strength] = Field({}, description="published AUC of a task, a dotted line in figures")
    reference: str = Field("", description="compare this source with each other one; empty compares every pair")
    smallest_test: int = Field(10, ge=1, description="images of each class that a test set must have to be counted")
    force: bool = Field(False, description="go on where a study would be empty or misleading; every figure says so")
    permutations: int = Field(9999, ge=1, description="up to so many permutations all are tried, else so many drawn")
    model: dict[str, Any] = Field(
        {}, description="a finished model to audit, such as {path: best.ckpt, architecture: resnet50}"
    )
    scores: dict[str, str] = Field({}, description="its scores, made elsewhere: {without: a.csv, tag: b.csv}")
    threshold: float | None = Field(None, gt=0, lt=1, description="probability that is called positive; none: Youden's")
    scored: Literal["all", "test"] = Field(
        "all", description="images that a finished model is asked about: all, or the test part"
    )
    scored_images: int = Field(1000, ge=20, description="of these at most so many, as many of each class as there are")
    audited: tuple[str, ...] = Field(
        (), description="confounders that it is tried with; empty: one of each leaf that can be drawn"
    )
    primary: str = Field("", description="the one of them that was declared before; its p is not corrected")
    budget: str = Field("", description="audit: how long comparing sources may take, such as 30 min; empty: not at all")
    notebooks: tuple[str, ...] = Field((), description="the notebooks to run; empty: all")

    def request(self, cache: Path) -> Request:
        """What is asked of the cohort; `cache` keeps what is drawn or remembered for it."""
        return Request(**{name: getattr(self, name) for name in Choice.model_fields}, cache=cache)

    @property
    def training(self) -> Training:
        """How a network is fine-tuned."""
        return Training(**{name: getattr(self, name) for name in Training.model_fields})


def read_profile(name: str) -> tuple[str, dict[str, Any]]:
    """The name and the values of a profile, given as NAME (notebooks/profiles/NAME.yaml) or as a file.

    Scalars stay text, as they are written: which type they have is for `Settings` to say, and so `no` can be a
    value of a column. Paths start at the repository, and those in a file elsewhere at its own folder. Raises
    StudyError when there is no such file, or when it is no YAML with each key once.
    """
    by_path = Path(name).suffix in (".yaml", ".yml") or os.sep in name
    path = placed(name) if by_path else ROOT / "notebooks" / "profiles" / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in (ROOT / "notebooks" / "profiles").glob("*.yaml"))
        raise StudyError(f"{path}: no such profile file." if by_path else unknown("profile", name, known))
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, yaml.SafeLoader)
        _refuse_endless(tree)
        values = yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, OSError) as error:
        raise StudyError(f"{path}: not readable as YAML ({cut(str(error))}).") from error
    except RecursionError:
        raise StudyError(f"{path}: not readable as YAML (brackets within brackets, too deep to be settings).") from None
    if values is not None and not isinstance(values, dict):
        raise StudyError(f"{path}: a profile is lines of the form `setting: value`.")
    if twice := sorted(set(_repeated_keys(tree))):
        raise StudyError(f"{path}: {', '.join(twice)} is given more than once.")
    values = values or {}
    if (named := values.pop("profile", path.stem)) != path.stem:
        raise StudyError(f"{path}: it calls itself profile {named!r}; a profile is called as its file is.")
    return path.stem, located(values, ROOT if path.resolve().is_relative_to(ROOT) else path.resolve().parent)


def _refuse_endless(tree: yaml.Node | None) -> None:
    """Raise ValueError for YAML whose aliases hold one another so often that it is no list of settings any more."""
    waiting, seen = [tree], 0
    while waiting:
        node, seen = waiting.pop(), seen + 1
        if seen > MOST_VALUES:
            raise ValueError(f"with its aliases it has more than {MOST_VALUES:,} values, or holds itself")
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]


def _repeated_keys(tree: yaml.Node | None) -> Iterator[str]:
    """Keys that a mapping, or one inside it, has twice: YAML takes the last in silence."""
    if isinstance(tree, yaml.MappingNode):
        keys = [str(key.value) for key, _ in tree.value]
        yield from (key for key in keys if keys.count(key) > 1)
        for _, value in tree.value:
            yield from _repeated_keys(value)


def read_changes(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What `-p NAME VALUE` sets: YAML under names like size, tag.height, ct.noise.n0; paths start where one stands."""
    changes: dict[str, Any] = {}
    for name, text in pairs:
        try:
            # A path may be anything: what follows a blank and # is no comment in it.
            is_path = set(name.split(".")) & set(_FILES) and (os.path.exists(text) or text.strip()[:1] not in "[{\"'")
            value: Any = text if is_path else yaml.load(text, yaml.BaseLoader)
        except (yaml.YAMLError, RecursionError):
            value = text  # so may a title
        for part in reversed(name.split(".")):
            value = {part: value}
        changes = merged(changes, value)
    return located(changes, Path.cwd())


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes` on top; sections are merged key by key, everything else is replaced.

    >>> merged({"size": 64, "tag": {"height": 64, "x": 1}}, {"tag": {"height": 32}})
    {'size': 64, 'tag': {'height': 32, 'x': 1}}
    """
    result = dict(values)
    for key, value in changes.items():
        is_section = isinstance(value, Mapping) and isinstance(result.get(key), Mapping) and key not in _MAPPINGS
        result[key] = merged(result[key], value) if is_section else value
    return result


_MAPPINGS = {name for name, field in Settings.model_fields.items() if get_origin(field.annotation) is dict} - {"model"}
_FILES = ("data", "root", "labels", "splits", "plugins", "weights", "model", "scores")
_NO_FILES = ("mean", "std", "rename", "architecture", "library", "kind_of_output", "interpolation", "channels")


def placed(name: str | Path, base: Path = Path()) -> Path:
    """A path that starts at `base`, or at a home if it begins with ~, spelt as on disk.

    Raises StudyError if there can be none, and for a name that is no UTF-8 or has a line break: tables, pages and
    Slurm's scripts could not hold it.
    """
    try:
        path = spelt_as_on_disk(base / Path(name).expanduser())
        path.exists()
        if odd := re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", str(path)):
            raise ValueError(f"it holds {odd[0]!r}; rename it")
    except (RuntimeError, OSError, ValueError) as error:  # no such user; a name that is too long; a zero in it
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise StudyError(f"{str(name)[:80]!r}: no path of a file or folder ({reason}).") from error
    return path


def located(values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """`values` with the names of files and folders made absolute from `base`, in sections too.

    A word without a slash that is no file in `base` stays as it is: it may be a name, such as published.
    """

    def place(value: Any) -> Any:
        if isinstance(value, Mapping):  # of weights and of a model, which have other things beside the path
            return {key: part if key in _NO_FILES else place(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [place(part) for part in value]
        path = placed(str(value), base)
        return str(path.resolve()) if value and (os.sep in str(value) or path.exists()) else value

    found = dict(values)
    for key, value in values.items():
        if key in _FILES:
            found[key] = place(value)
        elif isinstance(value, Mapping) and key not in _MAPPINGS:
            found[key] = located(value, base)
    return found


def replaced_data(profile: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, str]:
    """Section ("": all the rest) -> data that `changes` put there and that are of another kind than the profile's.

    Two are of one kind if one reader claims both; what no reader claims, as it is not there, is of no kind.
    """

    def data_of(values: Mapping[str, Any], section: str) -> str:
        return str((values.get(section) or {}).get("data") or values.get("data") or "")

    values, found = merged(profile, changes), dict[str, str]()
    for section in ("", *SECTIONS):
        old, new = data_of(profile, section), data_of(values, section)
        if old and new and old != new:
            kinds = [type(reader) for data in (old, new) if (reader := reader_of(data))]
            found |= {section: new} if len(set(kinds)) == 2 else {}
    return found


def results_name(profile: str, replaced: Mapping[str, str]) -> str:
    """How a study's folder of results is called: as its profile, and as the data that it has instead of the profile's.

    >>> results_name("demo", {"": "/data/my.csv", "own": "/data/my.csv", "ct": "ct-phantoms"})
    'demo-my-ct-phantoms'
    """
    names = [Path(data).name.split(".csv")[0] for data in replaced.values()]
    return "-".join([profile, *dict.fromkeys(re.sub(r"[^\w.]+", "-", name).strip("-.") or "data" for name in names)])


def checked(values: Mapping[str, Any]) -> tuple[Settings, dict[str, dict[str, Any]]]:
    """The settings that `values` make, and what its sections say of each confounder.

    Everything is checked, the sections too. Raises one StudyError with all that is wrong.
    """
    sections = {key: value for key, value in values.items() if key in confounders.known() or key in SECTIONS}
    plain = {key: values[key] for key in values if key in Settings.model_fields and key not in sections}
    known = [*Settings.model_fields, *confounders.known(), *SECTIONS]
    complaints = [unknown("setting", key, known) for key in values if key not in known]
    settings = Settings()
    try:
        settings = Settings(**plain)
    except StudyError as error:
        complaints.append(str(error))
    for name, section in sections.items():
        try:
            if not isinstance(section, Mapping):
                raise StudyError(f"{section!r} is no section: give `{name}: {{setting: value}}`.")
            if name in SECTIONS:
                checked(section)
                continue
            own, parameters = split_section(name, section)
            Settings(**own)
            # Attributes have no defaults: what is required must be given where it is used.
            fields = confounders.known()[name].model_fields.items()
            if parameters and all(key in parameters for key, field in fields if field.is_required()):
                confounders.make(name, **parameters)
        except StudyError as error:
            complaints.append(f"{name}: {error}")
    if complaints:
        raise StudyError("\n".join(complaints))
    return settings, {name: dict(section) for name, section in sections.items() if name not in SECTIONS}


def split_section(name: str, section: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a confounder's section sets: settings of its runs, and parameters of its own.

    Raises StudyError for a name that is neither.
    """
    parameters = confounders.known()[name].model_fields if section else {}
    if wrong := [key for key in section if key not in parameters and key not in Settings.model_fields]:
        raise StudyError(unknown("parameter", wrong[0], parameters))
    own = {key: value for key, value in section.items() if key not in parameters}
    return own, {key: value for key, value in section.items() if key in parameters}


def as_table(asked: Mapping[str, Any], profile: Mapping[str, Any]) -> pd.DataFrame:
    """One row a setting, sections too (`tag.height`): setting, value, profile (its value, or the default)."""
    settings, sections = checked(asked)
    values = settings.model_dump() | flat(sections | {key: asked[key] for key in SECTIONS if key in asked})
    by_profile = flat(profile) | checked(profile)[0].model_dump()
    rows = [(key, value, by_profile.get(key)) for key, value in values.items()]
    return pd.DataFrame(rows, columns=["setting", "value", "profile"]).map(_text)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return cut(", ".join(map(_text, value)))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else cut(str(value))
