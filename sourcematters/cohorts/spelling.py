"""What people mean by an id and by the name of a column, however it is written."""

import re
import unicodedata
from collections.abc import Iterable

import pandas as pd

from sourcematters.errors import StudyError

BLANKS = " \t\r\n\f\v\xa0\u200b\u2060\ufeff"
"""What is not seen at the ends of a cell; the last four are no-break, zero-width, joining, and a file's mark."""

WORDS = {
    "image_id": "image imageindex imagename imageuid img imgid dicomid",
    "path": "file filename filepath fullpath imagefile imagefilename imagepath imgpath",
    "patient_id": "patient mrn participant participantid patid patientnr patnr person personid pid subject subjectid",
    "label": "target class",
    "sex": "gender patientgender patientsex",
    "age": "ageyears patientage",
    "view": "projection viewposition",
    "site": "hospital institution institutionname centre center clinic",
    "findings": "findinglabels",
}
KINDS = {word: name for name, words in WORDS.items() for word in (name.replace("_", ""), *words.split())}


def kind(column: str) -> str:
    """What a column holds by its name, whatever case and signs it is written with.

    >>> kind("Patient Sex"), kind("subject_id"), kind("Follow-up #")
    ('sex', 'patient_id', 'followup')
    """
    plain = re.sub(r"[\W_]+", "", str(column).casefold())
    return KINDS.get(plain, plain)


def column_of(columns: Iterable[str], wanted: str, origin: str) -> str | None:
    """The column called `wanted`, or else the one that means it; None if there is none. Raises StudyError for two."""
    columns = list(columns)
    found = [name for name in columns if name == wanted] or [name for name in columns if kind(name) == kind(wanted)]
    if len(found) > 1:
        names = " or ".join(map(repr, found))
        raise StudyError(f"{origin}: {wanted} could be column {names}. Call the one that is meant {wanted}.")
    return found[0] if found else None


def alike(name: str) -> str:
    """What ids have in common that might be one: they differ in case, width, leading zeros or a decimal 0 only.

    >>> alike("P007 "), alike("p7"), alike("12.0"), alike("10")
    ('p7', 'p7', '12', '10')
    """
    plain = unicodedata.normalize("NFKC", name).strip(BLANKS).casefold()
    return re.sub(r"(?<![\d.])0+(?=\d)", "", re.sub(r"^(\d+)\.0+$", r"\1", plain))


def as_one(ids: pd.Series) -> pd.Series:
    """Ids with `12.0` as `12` where both are there: these are one for certain."""
    whole = ids.str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
    return ids.where(~whole.isin(set(ids)), whole)


def together(ids: pd.Series) -> pd.Series:
    """Each id, or the first of those that might be the same one (see `alike`)."""
    names = pd.Series(sorted(ids.unique()), dtype=object)
    return ids.map(dict(zip(names, names.groupby(names.map(alike)).transform("first"), strict=True)))


def spellings(ids: Iterable[str], meant: Iterable[str]) -> list[str]:
    """Where more than one of `ids` stands for one of `meant`: the quoted ids of each, as in `'P' and 'P '`."""
    pairs = pd.DataFrame({"id": list(ids), "meant": list(meant)}).dropna().drop_duplicates().sort_values("id")
    groups = pairs.groupby("meant")["id"].agg(list)
    return [" and ".join(map(repr, group)) for group in groups if len(group) > 1]
