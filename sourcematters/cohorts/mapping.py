"""What people's columns and values mean: columns by name, labels by value, numbers in bands."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from sourcematters.checked import unknown
from sourcematters.cohorts.cohort import some
from sourcematters.cohorts.spelling import BLANKS, column_of
from sourcematters.errors import StudyError

ALIASES = {"patient": "patient_id", "image": "image_id"}
BLANK = "blank"
"""How an empty cell is called in `positive` and `negative`."""
PAIRS = (
    ("1", "0"), ("yes", "no"), ("y", "n"), ("ja", "nein"), ("j", "n"), ("true", "false"), ("pos", "neg"),
    ("positive", "negative"), ("malignant", "benign"), ("abnormal", "normal"),
)  # fmt: skip
"""Values of which everybody knows which is label 1; the first is."""
PARTS = {"train": "dev", "training": "dev", "val": "dev", "valid": "dev", "validate": "dev", "validation": "dev"}
PARTS |= {"dev": "dev", "development": "dev", "test": "test", "testing": "test"}
"""What people call the parts of a split."""
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?")
TRUTH = {"True", "TRUE", "true", "False", "FALSE", "false"}  # which any table's label may hold


def plain(value: Any) -> str:
    """A value as it is compared: without blanks around it, in lower case, a number without what adds nothing to it.

    >>> plain(" Yes"), plain("1.0"), plain("-1"), plain("01x")
    ('yes', '1', '-1', '01x')
    """
    text = str(value).strip(BLANKS).casefold()
    return f"{float(text):.15g}" if NUMBER.fullmatch(text) else text


def overlap(positive: Iterable[str], negative: Iterable[str]) -> list[str]:
    """What stands in both lists, by `plain`."""
    both = {plain(value) for value in negative}
    return [value for value in positive if plain(value) in both]


def named(table: pd.DataFrame, columns: Mapping[str, str], origin: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """The table with people's columns under our names, `columns` being our name -> theirs; and what was renamed.

    One column may have several meanings. What stood under one of our names, and is not meant, is left out. Raises
    StudyError for a column that is not there.
    """
    if not columns:
        return table, {}
    theirs = {name: _found(table, name, column, origin) for name, column in columns.items()}
    parts: dict[str, pd.Series] = {}
    for column in table:
        names = [name for name, found in theirs.items() if found == column]
        for name in names or [column] * (column not in theirs):
            parts[name] = table[column]
    return pd.DataFrame(parts, index=table.index), {name: column for name, column in theirs.items() if name != column}


def _found(table: pd.DataFrame, name: str, wanted: str, origin: str) -> str:
    same = [column for column in table if str(column).casefold() == wanted.strip(BLANKS).casefold()]
    if wanted in table or len(same) == 1:
        return wanted if wanted in table else same[0]
    key = next((short for short, long in ALIASES.items() if long == name), name)
    raise StudyError(f"{origin}: columns.{key}: {unknown('column', wanted, map(str, table))}")


def labels(
    cells: pd.Series, positive: Sequence[str], negative: Sequence[str], origin: str
) -> tuple[pd.Series, list[str], list[tuple[str, str, str]]]:
    """Cells of a label column, text or missing, as 1, 0 or missing (left out); sentences; and problems, one a value.

    Values are compared by `plain`; an empty cell is called blank. With both lists empty only a pair of PAIRS is
    understood, and anything else is returned as it stands. With one list only, the other class is the counterpart in
    PAIRS of what is listed, if the cells hold it, and otherwise every other value that is not blank.
    Raises StudyError if no cell is of a list that is given.
    """
    value = cells.map(plain, na_action="ignore").fillna(BLANK)
    there = set(value) - {BLANK}
    if not positive and not negative:
        pair = next((pair for pair in PAIRS[1:] if there <= set(pair)), None)
        if not pair or set(cells.dropna()) <= TRUTH or cells.isna().any():
            return cells, [], []
        said = f"Of the labels {pair[0]} is taken as 1, {pair[1]} as 0."
        return value.map({pair[0]: 1, pair[1]: 0}).astype("Int64"), [said], []
    lists, note = {1: {plain(one) for one in positive}, 0: {plain(one) for one in negative}}, ""
    for label, listed in lists.items():
        if listed and not listed & set(value):
            name, asked = ("negative", "positive")[label], some((negative, positive)[label])
            raise StudyError(
                f"{origin}: {name}: no image is labelled {asked}. The labels are {_counted(cells, value)}."
            )
    for label, listed in lists.items():
        if not listed:
            other = {pair[1 - label] for pair in PAIRS if pair[label] in lists[1 - label]} & there
            lists[label] = other or there - lists[1 - label]
            what = "its counterpart" if other else "every other value"
            note = f" (only {('positive', 'negative')[label]} is given: the other class is {what})"
    label = value.map({one: label for label, listed in lists.items() for one in listed}).astype("Int64")
    out = label.isna()
    sides = [f"{k} from {_counted(cells[label.eq(k).fillna(False)], value)}" for k in (1, 0)]
    sides += [f"left out {_counted(cells[out], value)}"] if out.any() else []
    counts = [(f"label {text}", origin, f"{n:,} images, neither positive nor negative.") for text, n in
              _values(cells[out], value)]  # fmt: skip
    return label, [f"Labels by value: {'; '.join(sides)}{note}."], counts


def _values(cells: pd.Series, value: pd.Series) -> list[tuple[str, int]]:
    """The values of some cells as they are written, quoted, and how many there are, the most frequent first."""
    groups = cells.fillna(BLANK).groupby(value.loc[cells.index], sort=False)
    found = [(BLANK if name == BLANK else repr(str(group.iloc[0])), len(group)) for name, group in groups]
    return sorted(found, key=lambda pair: -pair[1])


def _counted(cells: pd.Series, value: pd.Series) -> str:
    return some(f"{name} ({n:,})" for name, n in _values(cells, value)) or "nothing"


def advice(cells: pd.Series) -> list[str]:
    """A sentence on how to say what the cells of a label column mean, where they are not all 0 or 1."""
    value = cells.map(plain, na_action="ignore").fillna(BLANK)
    if set(value) <= {"0", "1"} or set(cells.dropna()) <= TRUTH and not cells.isna().any():
        return []
    return [f"Say which labels count with `positive` and `negative`: they are {_counted(cells, value)}."]


def banded(table: pd.DataFrame, bands: Mapping[str, Sequence[float]], origin: str) -> tuple[pd.DataFrame, list[str]]:
    """The table with a column `NAME_band` for each of `bands`, such as "0-40" for [0, 40), the last band closed.

    What is outside of all bands, or missing, is missing; sentences count it. Raises StudyError for a column that is
    not there, or is no number.
    """
    table, notes = table.copy(), []
    for name, edges in bands.items():
        column = column_of(table, name, origin)
        if column is None:
            raise StudyError(f"{origin}: bands: {unknown('column', name, map(str, table))}")
        numbers = pd.to_numeric(table[column], errors="coerce").astype(float)
        if (odd := numbers.isna() & table[column].notna()).any():
            text = some(map(repr, table.loc[odd, column].astype(str).unique()))
            raise StudyError(
                f"{origin}: bands: {column} is no number in {odd.sum():,} images ({text}). "
                "Leave empty what is unknown, or take out its bands."
            )
        if f"{name}_band" in table:
            raise StudyError(f"{origin}: bands: there is a column {name}_band already. Take out the bands of {name}.")
        names = [f"{low:g}-{high:g}" for low, high in zip(edges, edges[1:], strict=False)]
        # The last band holds its upper edge: nothing lies between that and the next number above.
        closed = [*edges[:-1], math.nextafter(edges[-1], math.inf)]
        cut = pd.cut(numbers, closed, right=False, labels=names)
        table[f"{name}_band"] = cut.astype(object).where(cut.notna(), None)
        outside, missing = int((cut.isna() & numbers.notna()).sum()), int(numbers.isna().sum())
        if outside or missing:
            notes.append(f"{name}_band is missing for {missing:,} images without {column}, {outside:,} outside bands.")
    return table, notes
