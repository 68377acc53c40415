"""What the published releases of chest radiographs have in common: findings, by task, of those images that are there.

Label 1 is the finding that `task` names. What label 0 is differs by release: where a release says that a finding is
absent (0 of CheXpert's labeller), it is that; where absence is told by silence, it is every image without the finding.
`negative: [No Finding]` takes the healthy only, by whatever name the release gives them; `positive: [1, -1]` counts
uncertain ones as positive, `negative: [0, blank]` those of which a report says nothing as negative.
"""

import gzip
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sourcematters.checked import unknown
from sourcematters.cohorts import mapping, tables
from sourcematters.cohorts.assembly import Listed, assembled
from sourcematters.cohorts.cohort import COLUMNS, Cohort, some
from sourcematters.cohorts.readers import Reader, Request
from sourcematters.cohorts.spelling import column_of
from sourcematters.errors import StudyError

LABELLED = tuple(
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
    "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices".split(",")
)
"""The findings of CheXpert's labeller, which MIMIC-CXR-JPG has too."""


@dataclass
class Images:
    """What a release lists.

    `table` has image_id, path, patient_id (unless the release hides it) and attributes; `findings` are the names that a
    task can have; `cells` gives what the release says of one, by the table's index: "1", "0", "-1" or missing.
    """

    table: pd.DataFrame
    findings: list[str]
    cells: Callable[[str], pd.Series]
    origin: Path
    notes: list[str]


class Release(Reader):
    """A release by its layout; each one says how its tables are read."""

    views = None
    uses = ("positive", "negative")

    @abstractmethod
    def listed(self, root: Path) -> Images:
        """All images of the release's tables, whether they are there or not. Raises StudyError."""

    def open(self, request: Request) -> Cohort:
        """The images with a label that are there. Raises StudyError for an unknown task, or a class without images."""
        images = self.listed(Path(request.data))
        table, notes, problems, origin = images.table, [*images.notes], list[tuple[str, str, str]](), str(images.origin)
        if request.task not in images.findings:
            raise StudyError(f"{origin}: {unknown('task', request.task, images.findings)}")
        cells = images.cells(request.task)
        named = {mapping.plain(finding): finding for finding in images.findings}
        others = [named[plain] for value in request.negative if (plain := mapping.plain(value)) in named]
        values = [value for value in request.negative if mapping.plain(value) not in named]
        if others:
            # An image with the finding stays positive, whatever else it is called.
            is_other = pd.concat([images.cells(other) == "1" for other in others], axis=1).any(axis=1)
            label = is_other.map({True: 0, False: None}).astype("Int64").mask(cells == "1", 1)
            out = label.isna()
            if values:
                given, _, _ = mapping.labels(cells, request.positive or ("1",), tuple(values), origin)
                label = given.fillna(label)
            notes.append(
                f"Label 1 is {request.task}, {label.eq(1).sum():,} images; label 0 is {some(others)} without it, "
                f"{label.eq(0).sum():,}; left out {out.sum():,} that are neither."
            )
        else:
            label, said, problems = mapping.labels(cells, request.positive or ("1",), tuple(values) or ("0",), origin)
            notes += [f"Label 1 is {request.task}. {said[0]}", *said[1:]]
        known = "patient_id" in table
        table = table.assign(label=label, **({} if known else {"patient_id": table["image_id"]}))[label.notna()]
        if table.empty:
            raise StudyError(f"{origin}: no image has a label of {request.task}. {' '.join(notes)}")
        table = table[[*(c for c in COLUMNS if c in table), *(c for c in table if c not in COLUMNS)]]
        listed = Listed(table, notes, problems, known)
        # A tag might name the image, as in RSNA's release, so it is not taken for the patient.
        return assembled(listed, request, name=self.name, origin=origin, a_part_will_do=True, patient_from_tags=False)


def columns(path: Path, wanted: dict[str, str], findings: tuple[str, ...] = ()) -> pd.DataFrame:
    """The columns of a release's table as text, `wanted` (theirs -> ours) and those of `findings` that it has.

    Raises StudyError for another of `wanted` that is not there.
    """
    table, _ = tables.parse(path)
    found = {ours: column_of(table, theirs, str(path)) for theirs, ours in wanted.items()}
    if absent := [theirs for theirs, ours in wanted.items() if found[ours] is None]:
        raise StudyError(f"{path}: no column {', '.join(absent)}, as the release has it. Download it again.")
    parts = {ours: table[theirs] for ours, theirs in found.items()}
    parts |= {finding: table[finding] for finding in findings if finding in table}
    return pd.DataFrame(parts).apply(tables.stripped)


def plain_cells(cells: pd.Series) -> pd.Series:
    """Cells such as 1.0 and -1.0 as "1" and "-1"."""
    return cells.map(mapping.plain, na_action="ignore")


def first_there(*paths: Path) -> Path | None:
    """The first of some files that is there."""
    return next((path for path in paths if path.is_file()), None)


def begins(path: Path, *words: str) -> bool:
    """Whether the first line of a text, plain or .gz, holds all of some words."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            line = file.readline(4096)
    except (OSError, EOFError):
        return False
    return all(word.encode() in line for word in words)
