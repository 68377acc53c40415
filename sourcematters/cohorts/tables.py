"""Tables in CSV files: any one, a cohort's, and the reader of a cohort of your own."""

import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters import files
from sourcematters.cohorts.cohort import COLUMNS, Cohort, check, check_files, split_by_patient
from sourcematters.cohorts.readers import Reader, Request, register
from sourcematters.errors import StudyError


def parse_csv(path: str | Path, **options: Any) -> pd.DataFrame:
    """Read a CSV file, plain or .gz, with `pandas.read_csv`; missing is only what is empty. Raises StudyError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, keep_default_na=False, na_values=[""], index_col=False, **options)
    except (OSError, EOFError, zlib.error) as error:
        what = f"cannot be read ({error})" if Path(path).exists() else "there is no such table"
        raise StudyError(f"{path}: {what}. Correct the path, or copy the file again.") from error
    except (ValueError, pd.errors.ParserWarning) as error:  # no columns, rows of other lengths, no text
        what = f"not a table of comma-separated text ({str(error).strip()})"
        raise StudyError(f"{path}: {what}. Every row needs as many cells as the header.") from error


def columns_of(path: Path, wanted: dict[str, str], advice: str, **options: Any) -> pd.DataFrame:
    """The columns of a CSV file that are keys of `wanted`, as text, under the names that `wanted` gives them.

    `options` are those of `parse_csv`. Raises StudyError, ending with `advice`, if a column is not there.
    """
    table = parse_csv(path, dtype=str, **options)
    if absent := [name for name in wanted if name not in table]:
        raise StudyError(f"{path}: no column {', '.join(absent)}. {advice}")
    return table[list(wanted)].rename(columns=wanted)


def refuse_rows(path: Path, column: pd.Series, good: pd.Series, advice: str) -> None:
    """Raise StudyError naming the first row where `column` is not `good`."""
    if not good.all():
        row = int((~good).to_numpy().argmax())
        where = f"{path}, row {row + 2} (the header is row 1)"
        raise StudyError(f"{where}: {column.name} is {column.iloc[row]!r}, {advice}")


def read_csv(path: str | Path, *, shared_patients_allowed: bool = False) -> pd.DataFrame:
    """Read and check a cohort's table; relative image paths start at the table's own folder.

    Ids are text, so leading zeros stay. Raises StudyError as `parse_csv` and `cohort.check` do.
    """
    path = Path(path)
    text = dict.fromkeys((*COLUMNS, "sex", "view"), str)
    table = parse_csv(path, dtype=text, skip_blank_lines=False, skipinitialspace=True).dropna(how="all")
    if "path" in table:
        folder = path.absolute().parent
        table["path"] = [cell if pd.isna(cell) else str(folder / cell) for cell in table["path"]]
    return check(table, origin=str(path), shared_patients_allowed=shared_patients_allowed)


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a cohort's table; images below the table's own folder are named relative to it."""
    folder = Path(path).absolute().parent
    paths = [Path(p).relative_to(folder) if Path(p).is_relative_to(folder) else p for p in table["path"]]
    files.write_csv(path, table.assign(path=[str(p) for p in paths]))


@register
class OwnTable(Reader):
    """A table of your own; without the column `split`, one is drawn by patient."""

    name = "csv"
    help = "a .csv or .csv.gz with a row an image: image_id, path, patient_id, label; any task, which names label 1"
    views = None

    def claims(self, data: str) -> bool:
        """Whether it is named .csv or .csv.gz."""
        return data.lower().endswith((".csv", ".csv.gz"))

    def open(self, request: Request) -> Cohort:
        """The checked table, of one view if one was asked for. Raises StudyError for an image that is not there."""
        path, notes = Path(request.data), []
        table = read_csv(path)
        if request.view:
            if "view" not in table:
                raise StudyError(f"{path}: view {request.view!r} was asked for, but the table has no column view.")
            table = check(table[table["view"] == request.view], origin=f"{path}, view {request.view}")
        check_files(table)
        if "split" not in table:
            table = split_by_patient(table, test_fraction=request.test_fraction, seed=request.seed)
            notes = [f"Split by patient with seed {request.seed}: the table has no column split."]
        name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "cohort"
        return Cohort(table, name, request.task, str(path), notes)
