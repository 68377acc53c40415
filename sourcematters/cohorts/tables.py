"""Tables in files: any one, and a cohort's."""

import codecs
import contextlib
import gzip
import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from sourcematters import files
from sourcematters.cohorts.cohort import COLUMNS, check, some
from sourcematters.cohorts.spelling import BLANKS, WORDS, column_of, kind
from sourcematters.errors import StudyError

ENDINGS = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".xlsb", ".xls", ".ods", ".parquet")
SHEETS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # zip (xlsx, xlsb, ods), and Microsoft's older compound file (xls)
TEXT = (*COLUMNS, "sex", "view")
TRUTH = {word: word.lower() == "true" for word in ("True", "TRUE", "true", "False", "FALSE", "false")}
WHOLE = r"-?(?:0|[1-9]\d{0,17})"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
NO_TEXT = "no text in UTF-8, UTF-16 with its mark, or cp1252"
EVERY_ROW = "Every row needs as many cells as the header, and every quote its end."
Read = tuple[pd.DataFrame, list[str]]
NUMBER = r"-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"


def parse(path: str | Path) -> tuple[pd.DataFrame, list[str]]:
    """A table as text, missing where a cell is empty, and sentences on how it was read; the first row names columns.

    Reads text that is separated by commas, semicolons, tabs or bars, in UTF-8, UTF-16 (with its mark) or else cp1252,
    plain or .gz; spreadsheets (.xlsx, .xls, .xlsb, .ods; the first sheet), and Parquet where pandas has an engine.
    Blank rows are left out; the index counts on over them. Raises StudyError if it is no table.
    """
    path = Path(path)
    content = _content(path)
    read = _parquet if content.startswith(b"PAR1") else _sheet if content.startswith(SHEETS) else _separated
    cells, notes = read(path, content)
    if cells.dropna(how="all").empty:
        raise _no_table(path, "empty: no columns", "Copy the file again.")
    cells = cells.loc[cells.notna().any(axis=1).idxmax() :]
    names = [str(name).strip(BLANKS) for name in cells.iloc[0].fillna("")]
    table = cells.iloc[1:].reset_index(drop=True).dropna(how="all")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise StudyError(f"{path}: two columns are called {some(twice)}. Rename or remove one.")
    return table.set_axis([name or f"Unnamed: {k}" for k, name in enumerate(names)], axis=1), notes


def _content(path: Path) -> bytes:
    """All bytes, unpacked; of a file that is no table not all are read, since it may be an archive of all images."""
    try:
        with files.opened(path) as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else files.opened(path) as file:
            content = file.read(4096)
            if b"\0" in content and not content.startswith((b"PAR1", *SHEETS, *UTF_16)):
                raise _no_table(path, NO_TEXT)
            return content + file.read()
    except (OSError, EOFError, zlib.error) as error:
        what = (
            f"cannot be read ({getattr(error, 'strerror', None) or error})"
            if path.exists()
            else "there is no such table"
        )
        raise StudyError(f"{path}: {what}. Correct the path, or copy the file again.") from error


def _no_table(path: Path, what: str, advice: str = "Save the table as CSV.") -> StudyError:
    return StudyError(f"{path}: not a table that can be read; it is {what}. {advice}")


def _cells(rows: Iterable[Iterable[Any]]) -> pd.DataFrame:
    """Rows of values as text, as it is shown: whole numbers without their .0, and missing what is empty."""

    def shown(value: Any) -> str | None:
        if value is None or value is pd.NA or value != value or value == "":
            return None
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    return pd.DataFrame([[shown(value) for value in row] for row in rows], dtype=str).dropna(axis=1, how="all")


def _parquet(path: Path, content: bytes) -> Read:
    try:
        table = pd.read_parquet(io.BytesIO(content), dtype_backend="numpy_nullable")
    except ImportError as error:
        advice = "Install pyarrow (pip install pyarrow), or save the table as CSV."
        raise _no_table(path, "Parquet, for which a library is missing", advice) from error
    except Exception as error:  # whatever a broken file provokes
        raise _no_table(path, f"broken Parquet ({error})", "Copy the file again.") from error
    return _cells([table.columns, *table.itertuples(index=False)]), []


def _sheet(path: Path, content: bytes) -> Read:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(content))
        rows = book.get_sheet_by_index(0).to_python(skip_empty_area=False)
    except CalamineError as error:
        what = f"an office file that cannot be opened ({error})"
        with contextlib.suppress(Exception):  # whatever a broken archive provokes
            what = f"a zip archive of {some(zipfile.ZipFile(io.BytesIO(content)).namelist())}"
        what = "a document of Numbers" if path.suffix.lower() == ".numbers" else what
        raise _no_table(path, what, "Unpack it, or save its table as CSV.") from error
    first, *others = book.sheet_names
    notes = [f"Of the sheets in {path.name} the first is read, {first!r}, not {some(map(repr, others))}."]
    return _cells(rows), notes if others else []


def _separated(path: Path, content: bytes) -> Read:
    text, notes = "\0", list[str]()
    for encoding in ("utf-16",) if content.startswith(UTF_16) else ("utf-8-sig", "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            break
    if "\0" in text:
        raise _no_table(path, NO_TEXT)
    if encoding == "cp1252":
        notes.append(f"{path.name} is no UTF-8: it is read as cp1252, as Windows writes. Are its letters right?")
    asked = re.match(r'"?sep=(.)"?\r?\n', text, re.IGNORECASE)
    text = (text[asked.end() :] if asked else text).lstrip("\r\n")
    if (start := text.lstrip()[:1]) and start in "<{[":
        raise _no_table(path, "a web page or XML" if start == "<" else "JSON")
    if not start:
        return pd.DataFrame(), notes
    header = re.sub(r'"[^"]*"', "", re.split(r"[\r\n]", text, maxsplit=1)[0])
    separators = {mark: [kind(name) in WORDS for name in header.split(mark)] for mark in ",;\t|"}
    separator = asked[1] if asked else max(separators, key=lambda mark: (sum(separators[mark]), header.count(mark)))
    how: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""], "index_col": False}
    how |= {"sep": separator, "skipinitialspace": True, "skip_blank_lines": False, "header": None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            width = pd.read_csv(io.StringIO(text), nrows=1, **how).shape[1]
            # One column more than the header has, for what stands behind its last one.
            cells = pd.read_csv(io.StringIO(text), names=range(width + 1), **how)
    except (ValueError, pd.errors.ParserWarning) as error:
        what = f"text that is not in columns ({str(error).rpartition('C error: ')[2].strip()})"
        raise _no_table(path, what, EVERY_ROW) from error
    if (more := cells.pop(width).notna()).any():
        raise StudyError(f"{path}, row {more.argmax() + 1}: more than the {width} cells of the header. {EVERY_ROW}")
    if separator != ",":
        for name in cells:
            column = cells.loc[1:, name]
            if column.str.contains(",").any() and column.dropna().str.fullmatch(r"-?\d+(,\d+)?").all():
                cells.loc[1:, name] = column.str.replace(",", ".")
                notes.append(f"Commas in {cells.loc[0, name]} are read as decimal points.")
    return cells, notes


def stripped(cells: pd.Series) -> pd.Series:
    """Cells without blanks around them; missing what is empty then, or no text."""
    texts = [cell.strip(BLANKS) or None if isinstance(cell, str) else None for cell in cells]
    return pd.Series(texts, cells.index, str, cells.name)


def columns_of(path: Path, wanted: dict[str, str], advice: str) -> pd.DataFrame:
    """The columns of a table that are meant by the keys of `wanted`, as text, under the names that `wanted` gives them.

    Raises StudyError, ending with `advice`, if a column is not there.
    """
    table, _ = parse(path)
    found = {name: column_of(table, name, str(path)) for name in wanted}
    if absent := [name for name, column in found.items() if column is None]:
        raise StudyError(f"{path}: no column {', '.join(absent)}. {advice}")
    table = table[list(found.values())].set_axis(list(wanted.values()), axis=1)
    return table.apply(stripped)


def refuse_rows(path: Path, column: pd.Series, good: pd.Series, advice: str) -> None:
    """Raise StudyError naming the first row where `column` is not `good`."""
    if not good.all():
        row = (~good).to_numpy().argmax()
        where = f"{path}, row {column.index[row] + 2} (the header is row 1)"
        raise StudyError(f"{where}: {column.name} is {column.iloc[row]!r}, {advice}")


def read_csv(path: str | Path, *, shared_patients_allowed: bool = False) -> pd.DataFrame:
    """Read and check a cohort's table that `write_csv` wrote: ids as they are, other columns with their types.

    Raises StudyError as `parse` and `cohort.check` do.
    """
    table, _ = parse(path)
    return check(finished(path, table), origin=str(path), shared_patients_allowed=shared_patients_allowed)


def finished(path: str | Path, table: pd.DataFrame, root: str | Path = "") -> pd.DataFrame:
    """Relative paths start at `root`, or at the table's own folder, and attributes have their types."""
    table, folder = table.copy(), Path(root or Path(path).parent).absolute()
    for name in table.columns.difference(TEXT):
        table[name] = typed(table[name])
    if "path" in table:
        table["path"] = [cell if pd.isna(cell) else str(folder / cell) for cell in table["path"]]
    return table


def typed(cells: pd.Series) -> pd.Series:
    """Text as numbers or truth values if all of it is, or else as it stands.

    What would not be the same again stays text: 007, nan, +5. Whole numbers stay whole where cells are missing.
    """
    there = cells.dropna()
    if there.empty:
        return cells
    if there.str.fullmatch(WHOLE).all():
        return cells.astype("Int64" if cells.isna().any() else int)
    if there.str.fullmatch(NUMBER).all():
        return pd.to_numeric(cells)
    if there.isin(TRUTH).all():
        return cells.map(TRUTH).astype("boolean" if cells.isna().any() else bool)
    return cells


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a cohort's table; images below the table's own folder are named relative to it."""
    folder = Path(path).absolute().parent
    paths = [Path(p).relative_to(folder) if Path(p).is_relative_to(folder) else p for p in table["path"]]
    files.write_csv(path, table.assign(path=[str(p) for p in paths]))
