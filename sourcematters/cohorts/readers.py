"""Readers: each turns one kind of `data`, a folder, a file or a word, into a cohort.

Another one is one class in one module, of this package or of your own, which registers it by being imported:

    @register
    class Release(Reader):
        name = "release"
        help = "a folder with release.json in it; task nodule"
        tasks = ("nodule",)

        def claims(self, data):
            return (Path(data) / "release.json").is_file()

        def open(self, request):
            table = check(read_release(request.data), origin=request.data)
            return Cohort(split_by_patient(table, seed=request.seed), name=self.name, task=request.task)
"""

import itertools
import os
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sourcematters.checked import Checked, Printed, unknown
from sourcematters.cohorts import mapping
from sourcematters.cohorts.cohort import Cohort, remarks, some
from sourcematters.errors import StudyError

Place = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, os.PathLike) else value)]
MEANINGS = ("columns", "positive", "negative", "root", "labels")
"""Settings that say what people's data mean; releases that know it themselves have no use for them."""
Slices = Annotated[int, Field(ge=2)]
Value = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, bool | int | float) else value)]
"""A value of a cell, or a column's name: text, whatever it looks like."""


class Choice(Checked):
    """What people choose about a cohort; a reader uses what its data have a choice of."""

    data: Place = Field("", description="what to read: a folder, a table, or a word of a plugin's (see DATA)")
    task: Printed = Field("", description="what label 1 is to be, such as a finding (see DATA)")
    columns: dict[str, Value] = Field({}, description="your columns: {path: Path, label: Mass, patient: ID, sex: Sex}")
    positive: tuple[Value, ...] = Field((), description="labels that count as 1, such as [1, yes]; empty: 1")
    negative: tuple[Value, ...] = Field((), description="labels that count as 0; what is in neither list is left out")
    root: Place = Field("", description="folder where a table's relative paths start; empty: the table's own")
    labels: Place = Field("", description="a table with the labels of a folder of images, joined by their names")
    bands: dict[str, tuple[float, ...]] = Field({}, description="numbers in bands: {age: [0, 40, 60]} gives age_band")
    view: str = Field("", description="the one projection to keep, such as PA; empty keeps all")
    splits: Place = Field("own", description="parts and folds: own, published, or a folder with the authors' files")
    patients: int = Field(200, ge=1, description="how many patients to draw, where they are drawn")
    test_fraction: float = Field(0.25, gt=0, lt=1, description="share of the images in the test part")
    readers: int = Field(3, ge=1, le=4, description="of four radiologists, how many must have outlined a nodule")
    margin_mm: float = Field(10, ge=0, lt=50, description="mm, least distance of a negative slice from any outline")
    images: tuple[Slices, Slices] = Field((1710, 500), description="CT: at most so many slices in dev and in test")
    seed: int = Field(0, description="of every random choice")
    workers: int = Field(0, ge=0, description="processes; 0: one a core, or as many as fill a GPU; changes no number")

    @field_validator("columns")
    @classmethod
    def _names_are_ours(cls, columns: dict[str, str]) -> dict[str, str]:
        named = [mapping.ALIASES.get(name, name) for name in columns]
        if twice := [name for name in named if named.count(name) > 1]:
            raise ValueError(f"{twice[0]} is given twice")
        return dict(zip(named, columns.values(), strict=True))

    @field_validator("bands")
    @classmethod
    def _edges_rise(cls, bands: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        for name, edges in bands.items():
            if len(edges) < 2 or any(low >= high for low, high in itertools.pairwise(edges)):
                raise ValueError(f"the edges of {name} should rise, two of them or more, as in [0, 40, 60, 120]")
        return bands

    @model_validator(mode="after")
    def _label_is_one_or_the_other(self) -> Self:
        if both := mapping.overlap(self.positive, self.negative):
            raise ValueError(f"{some(map(repr, both))} cannot be in both positive and negative.")
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class Request(Choice):
    """Which cohort is wanted, and what a reader has to know besides."""

    cache: Place = Field(description="folder for what is drawn, or remembered of files, between two openings")
    require_files: bool = Field(True, description="refuse a cohort of which an image is missing")
    size: int = Field(256, ge=16, description="px, side of images that are drawn")


class Reader(ABC):
    """Reads one kind of data; its class gives what a person is told of it."""

    name: ClassVar[str]
    help: ClassVar[str]
    """One line: what `data` is, and which tasks it has."""
    recipe: ClassVar[str] = ""
    """How to come by the data, and how to lay them out."""
    tasks: ClassVar[tuple[str, ...]] = ()
    """Empty: any name."""
    views: ClassVar[tuple[str, ...] | None] = ()
    """What `view` may keep: nothing where there is no choice, None where any is possible."""
    published: ClassVar[tuple[str, ...]] = ()
    """Tasks whose authors published their splits."""
    uses: ClassVar[tuple[str, ...]] = ()
    """Of MEANINGS, the settings that this kind of data has a use for."""

    @abstractmethod
    def claims(self, data: str) -> bool:
        """Whether `data` is of this reader's kind, at a glance."""

    @abstractmethod
    def open(self, request: Request) -> Cohort:
        """The checked cohort, with splits. Raises StudyError saying what is wrong with the data, and where."""


_READERS: dict[str, type[Reader]] = {}


def register(reader: type[Reader]) -> type[Reader]:
    """Make a reader known by its name, instead of an earlier one of that name; a decorator of its class."""
    _READERS.pop(reader.name, None)
    _READERS[reader.name] = reader
    return reader


def known() -> dict[str, type[Reader]]:
    """The registered readers by name, in the order of their registration."""
    return dict(_READERS)


def reader_of(data: str, task: str = "", using: str = "") -> Reader | None:
    """The reader of `data`, the last one registered first: of those that claim it, one that has `task` if any has.

    Where some of them have a use for the setting `using`, the others are not asked.

    A folder that none claims is left to the reader that has the task, and a recipe: it says what it looked for.
    """
    everyone = [kind() for kind in reversed(_READERS.values())]
    claiming = [reader for reader in everyone if reader.claims(data)]
    claiming = [reader for reader in claiming if using in reader.uses] or claiming
    looking = claiming or [reader for reader in everyone if reader.recipe and Path(data).is_dir()]
    return next((reader for reader in looking if task in reader.tasks), next(iter(claiming), None))


def open_cohort(request: Request) -> Cohort:
    """The cohort that is asked for, by the reader that claims its data, with its bands; its notes end in `remarks`.

    Raises StudyError for data that no reader claims, and for a task, view, splits or bands that the data do not have.
    """
    if not request.data:
        raise StudyError(f"data is not set. `data` can be\n{_what_reads(request.task)}")
    if reader := reader_of(request.data, request.task, "labels" * bool(request.labels)):
        _check_choices(reader, request)
        cohort = reader.open(request)
        table, said = mapping.banded(cohort.table, request.bands, cohort.origin)
        if idle := [name for name in MEANINGS if getattr(request, name) and name not in reader.uses]:
            said.append(f"Of no use for {reader.name}, and not used: {', '.join(idle)}.")
        return replace(cohort, table=table, notes=[*cohort.notes, *said, *remarks(cohort.table)])
    raise StudyError(
        f"{request.data}: {what_is_there(request.data)}; no reader knows it. `data` can be\n"
        + _what_reads(request.task)
    )


def _what_reads(task: str) -> str:
    """What the readers that have `task` read, and how to come by it; of all readers, if none has."""
    readers = [reader for reader in _READERS.values() if task in reader.tasks] or list(_READERS.values())
    lines = [f"- {reader.name}: {reader.help}" for reader in readers]
    return "\n".join([*lines, *(reader.recipe for reader in readers if reader.recipe)])


def _check_choices(reader: Reader, request: Request) -> None:
    if request.splits != "own" and request.task not in reader.published:
        tasks = " and ".join(task for other in _READERS.values() for task in other.published)
        raise StudyError(f"splits {request.splits!r}: only {tasks} have published ones, not task {request.task!r}.")
    if reader.tasks and request.task not in reader.tasks:
        others = any(request.task in other.tasks for other in _READERS.values())
        elsewhere = f"\n{request.task} is a task of\n{_what_reads(request.task)}" if others else ""
        raise StudyError(f"{request.data}: {unknown('task', request.task, reader.tasks)}{elsewhere}")
    if request.view and reader.views is not None and request.view not in reader.views:
        choice = f"the views are {' and '.join(reader.views)}" if reader.views else "there is no choice of view"
        raise StudyError(f"{request.data}: {choice}; leave view empty, not {request.view!r}.")


def what_is_there(data: str | Path) -> str:
    """What a path holds, in words: its first eight names if it is a folder."""
    try:
        with os.scandir(data) as entries:
            names = sorted(entry.name + "/" * entry.is_dir() for entry in entries)
    except OSError as error:
        if os.path.isfile(data):
            return "it is a file"
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return "it is a link to nothing" if os.path.islink(data) else "there is no such folder or file"
        return f"it cannot be looked into ({error.strerror})"
    return "there is " + (", ".join(names[:8]) + ", ..." * (len(names) > 8) if names else "nothing")
