"""How the report writes numbers, names and times."""

import math
from collections.abc import Iterable, Mapping, Sequence

from sourcematters.results.style import title_of
from sourcematters.results.verdicts import rounded

Row = Mapping[str, str]
"""A row of a table as it stands in its file: column to text."""

NO_NUMBER = "not measured"


def value(row: Row, column: str) -> float:
    """The number in a column; NaN if there is none."""
    try:
        return float(row.get(column, ""))
    except ValueError:
        return math.nan


def whole(row: Row, column: str) -> int:
    """The number in a column as a count; 0 if there is none."""
    found = value(row, column)
    return round(found) if math.isfinite(found) else 0


def number(found: float, digits: int = 2) -> str:
    """`verdicts.rounded`, or that there is none."""
    return rounded(found, digits) if math.isfinite(found) else NO_NUMBER


def interval(found: float, low: float, high: float) -> str:
    """A number with its 95 % interval, as far as there is one.

    >>> interval(0.456, 0.2, 0.7), interval(0.456, math.nan, math.nan)
    ('0.46 [0.20, 0.70]', '0.46')
    """
    return number(found) + (f" [{number(low)}, {number(high)}]" if math.isfinite(low + high) else "")


def percent(share: float) -> str:
    """A share of 1 in percent, with two digits where it is small.

    >>> percent(0.0041), percent(0.956)
    ('0.41 %', '96 %')
    """
    if not math.isfinite(share):
        return NO_NUMBER
    return f"{100 * share:.{0 if share in (0, 1) or share >= 0.0995 else 1 if share >= 0.00995 else 2}f} %"


def listed(names: Iterable[str], most: int = 0) -> str:
    """Names in a sentence, at most so many of them.

    >>> listed("abc"), listed("abcd", 2)
    ('a, b and c', 'a, b and 2 more')
    """
    every = list(names)
    shown = every if not most or len(every) <= most else [*every[:most], f"{len(every) - most} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def sentence(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def named(confounder: str) -> str:
    """What people call a confounder."""
    return title_of(confounder)


def whose(rows: Sequence[Row]) -> str:
    """Whose attention a table tells of: that of networks trained at strengths, or of the one model of an audit.

    >>> whose([{"p_art": "0"}]), whose([{"p_art": ""}])
    ("networks'", "model's")
    """
    return "networks'" if any(row["p_art"] for row in rows) else "model's"


def lasting(seconds: float) -> str:
    """A duration for people: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
