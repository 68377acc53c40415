"""docs/ for tests: the pages that docs/make_pages.py makes, and whether docs/columns.csv is true of written tables."""

import csv
import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN = ("tables", "figures", "plans")  # folders of a profile; all others are shared


def make_pages():
    """The module docs/make_pages.py, which lies in no package."""
    spec = importlib.util.spec_from_file_location("make_pages", ROOT / "docs" / "make_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def regex(text):
    """`text` of columns.csv, in which words in capitals stand for anything."""
    return re.compile(re.sub("[A-Z]{2,}", "[^/]+", re.escape(text)))


def written(results):
    """The columns of every CSV file below `results`, by its path there, without the folder of a profile."""
    found = {}
    for path in sorted(results.rglob("*.csv")):
        parts = path.relative_to(results).parts
        name = "/".join(parts[1:] if parts[1:2] and parts[1] in OWN else parts)
        with path.open(encoding="utf-8", newline="") as file:
            found[name] = set(next(csv.reader(file), [])) | found.get(name, set())
    return found


def flaws(tables, of):
    """In what docs/columns.csv is not true of `tables` (path -> columns), looking at the patterns for which `of` holds.

    Sentences: on a table or column that is written and not documented, or documented and not written.
    """
    rows = make_pages().documented()
    rows = [(row.table.split(", "), list(filter(None, row.column.split(", ")))) for row in rows.itertuples()]
    patterns = list(dict.fromkeys(pattern for names, _ in rows for pattern in names if of(pattern)))
    files, said = {pattern: [] for pattern in patterns}, []
    for path, columns in tables.items():
        # A name that stands there as it is comes before one with a part in capitals, and of these the longest.
        fitting = [pattern for pattern in patterns if regex(pattern).fullmatch(path)]
        exact = [pattern for pattern in fitting if pattern == path]
        longest = max(map(len, fitting), default=0)
        for pattern in (chosen := exact or [pattern for pattern in fitting if len(pattern) == longest]):
            files[pattern].append(path)
        known = [column for names, own in rows if set(names) & set(chosen) for column in own]
        strange = [column for column in columns if not any(regex(name).fullmatch(column) for name in known)]
        said += [f"{path}: {column} is not documented" for column in sorted(strange)]
    said += [f"{pattern}: nobody writes such a table" for pattern in patterns if not files[pattern]]
    for names, own in rows:
        if looked_at := [name for name in names if of(name)]:
            there = [column for name in looked_at for path in files[name] for column in tables[path]]
            said += [f"{names[0]}: nobody writes {name}" for name in own if not any(map(regex(name).fullmatch, there))]
    return said
