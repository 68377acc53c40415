"""What a results folder holds as tables, read as text."""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pandas as pd

from sourcematters import checksums
from sourcematters.report.words import Row, value

PASSED_OVER = "the report passes over it"
STRENGTHS = ("task", "confounder", "source", "test_set", "p_art", "mean")  # of a figure's curves


def rows(path: Path, *columns: str) -> list[Row]:
    """The rows of a CSV file that has these columns.

    None if it is not there; none, which is said once a page (`forget`), if it is not what was written, no table, or
    lacks a column.
    """
    found = _read(path)
    if missing := [column for column in columns if found and column not in found[0]]:
        checksums.tell(f"{path}: has no column {', '.join(missing)}", PASSED_OVER)
        return []
    return found


@cache
def _read(path: Path) -> list[Row]:
    if not checksums.usable(path, PASSED_OVER):
        return []
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:  # of pandas, and of what is no UTF-8
        checksums.tell(f"{path}: not readable as a table ({type(error).__name__})", PASSED_OVER)
        return []
    return [{str(name): cell for name, cell in row.items()} for row in table.to_dict("records")]


def forget() -> None:
    """Read every table anew from here on: a page is of its files as they are when it is made."""
    _read.cache_clear()


def every(folder: Path, pattern: str, *columns: str) -> Iterator[tuple[Path, list[Row]]]:
    """Those tables below a folder that have these columns, in the order of their names; others are no concern."""
    for path in sorted(folder.glob(pattern)):
        if not path.name.startswith(".") and (found := rows(path)) and set(columns) <= set(found[0]):
            yield path, found


def numeric(found: Iterable[Row], *columns: str) -> pd.DataFrame:
    """Rows as a table in which these columns are numbers, NaN where there is none."""
    table = pd.DataFrame([dict(row) for row in found])
    return table.assign(**{name: [value(row, name) for row in table.to_dict("records")] for name in columns})
