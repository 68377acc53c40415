"""What came out: who leans on what, whether sources differ, and both in two sentences with their uncertainty.

Everything is taken from tables that the study and the audit kept; nothing is computed anew.
"""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sourcematters.report.tables import every, rows
from sourcematters.report.words import (
    Row,
    interval,
    listed,
    named,
    number,
    sentence,
    value,
    whole,
)
from sourcematters.results.verdicts import ALPHA, LEANS, NO_SIGN, NOT_VISIBLE, TOO_LITTLE, p_in_words

VERDICTS = (LEANS, TOO_LITTLE, NOT_VISIBLE, NO_SIGN)  # what matters most comes first
COUNTED = {NO_SIGN: "without a sign of it", NOT_VISIBLE: "not visible", TOO_LITTLE: "with too little data to tell"}
NAMED = 2  # findings that a sentence names; of more it says how many, and the strongest
COMPARE = "The sources have not been compared yet: ./run_all.sh --only 31 makes the declared comparison."


class Answer(NamedTuple):
    """A row of the answer: an effect is a fall of the AUC (`results.verdicts.Finding`); `file` is its table."""

    who: str
    confounder: str
    task: str
    effect: float
    low: float
    high: float
    verdict: str
    n: int
    positives: int
    sentence: str
    file: str

    @property
    def of_model(self) -> bool:
        """Whether it is of a finished model, and not of the networks of a source."""
        return not self.task

    @property
    def measured(self) -> str:
        """The effect with its interval."""
        return interval(self.effect, self.low, self.high)


class Difference(NamedTuple):
    """A row of the declared comparison: how much more source `a` relies on a confounder than `b`, in AUC."""

    task: str
    confounder: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    p_others: float
    detectable: float
    folds: int
    problem: str

    @property
    def found(self) -> bool:
        """Whether it is beyond chance, after Holm's correction."""
        return self.p < ALPHA


def answers(folder: Path) -> list[Answer]:
    """Every finding in tables/*answer.csv, confounders together, those that are leaned on most first."""
    found: dict[tuple[str, ...], Answer] = {}
    for path, table in every(folder, "tables/*answer.csv", "verdict"):
        for row in table:
            study = "reliance" in row
            who, name = row.get("source" if study else "who", ""), row.get("confounder", "")
            if who and name and row["verdict"] in VERDICTS:
                measure = "reliance" if study else "effect"
                interval = ("reliance_low", "reliance_high") if study else ("low", "high")
                answer = Answer(
                    who=who, confounder=name, task=row.get("task", "") if study else "", effect=value(row, measure),
                    low=value(row, interval[0]), high=value(row, interval[1]), verdict=row["verdict"],
                    n=whole(row, "n"), positives=whole(row, "positives"),
                    sentence=sentence(row.get("sentence", "")), file=path.name,
                )  # fmt: skip
                found.setdefault((who, name, answer.task, row.get("backbone", "")), answer)
    return _ordered(list(found.values()))


def _ordered(found: list[Answer]) -> list[Answer]:
    def weight(answer: Answer) -> tuple[int, float]:
        return VERDICTS.index(answer.verdict), -(abs(answer.effect) if math.isfinite(answer.effect) else 0.0)

    first: dict[tuple[bool, str, str], tuple[int, float]] = {}
    for answer in found:
        key = answer.of_model, answer.task, answer.confounder
        first[key] = min(first.get(key, weight(answer)), weight(answer))
    return sorted(
        found,
        key=lambda answer: (
            not answer.of_model,
            first[answer.of_model, answer.task, answer.confounder],
            (answer.task, answer.confounder),
            -(answer.effect if math.isfinite(answer.effect) else -math.inf),
        ),
    )


def differences(folder: Path) -> list[Difference]:
    """The declared comparison, tables/primary.csv; else what an audit within a budget kept of it."""
    for name in ("primary", "audit_sources_compared"):
        if found := rows(folder / "tables" / f"{name}.csv", "confounder", "a", "b", "difference", "p_holm"):
            return [_difference(row) for row in found]
    return []


def _difference(row: Row) -> Difference:
    task, confounder, a, b = (row.get(name, "") for name in ("task", "confounder", "a", "b"))
    numbers = ("difference", "ci_low", "ci_high", "p_holm", "p_holm_development", "detectable")
    difference, low, high, p, p_others, found = (value(row, name) for name in numbers)
    told = whole(row, "folds"), row.get("problem", "")
    return Difference(task, confounder, a, b, difference, low, high, p, p_others, found, *told)


def of_model(folder: Path, found: Sequence[Answer]) -> list[str]:
    """What was found of a finished model, in two sentences; none if none was audited."""
    mine = [answer for answer in found if answer.of_model]
    table = rows(folder / "tables" / "audit_answer.csv", "sentence")
    if not mine or not table:
        return []
    leaned = [answer for answer in mine if answer.verdict == LEANS]
    size = f"n = {mine[0].n:,} images, {mine[0].positives:,} of them positive"
    if leaned:
        falls = listed((f"{named(each.confounder)} {each.measured}" for each in leaned), 4)
        return [
            sentence(table[0]["sentence"]),
            f"How far each alone moves the AUC, with its 95 % interval over patients: {falls} ({size}).",
        ]
    smallest = [value(row, "detectable") for row in table[1:]]
    seen = [each for each in smallest if math.isfinite(each)]
    how = f"A fall of the AUC by {_range(seen)} would have been found four times in five" if seen else "None was scored"
    return [sentence(table[0]["sentence"]), f"{how} ({size})."]


def of_sources(found: Sequence[Answer], compared: Sequence[Difference]) -> list[str]:
    """What was found of the sources, in two sentences: who leans on what, and whether they differ."""
    of_networks = [answer for answer in found if not answer.of_model]
    if not of_networks:
        return []
    counts = {what: sum(answer.verdict == what for answer in of_networks) for what in COUNTED}
    rest = ", ".join(f"{counts[what]} {words}" for what, words in COUNTED.items() if counts[what])
    leaned = sorted((each for each in of_networks if each.verdict == LEANS), key=lambda each: -each.effect)
    if not leaned:
        first = f"No source was found to lean on any of the {len({each.confounder for each in found})} confounders"
        return [f"{first} ({rest}).", _compared(compared)]
    others = f" ({rest})" if rest else ""
    if len(leaned) > NAMED:
        return [
            f"Leaning was found in {len(leaned)} of {len(of_networks)} pairs of source and confounder{others}, most of "
            f"{leaned[0].who} on {_what(leaned[0], found)}: where it misleads, the AUC falls by {leaned[0].measured}.",
            _compared(compared),
        ]
    said = [f"{each.who} leans on {_what(each, found)}, by an AUC of {each.measured}" for each in leaned]
    of = f"; of {len(of_networks)} pairs of source and confounder, {rest}" if rest else ""
    return ["; ".join(said) + of + ".", _compared(compared)]


def _what(answer: Answer | Difference, of: Sequence[Answer]) -> str:
    several = len({each.task for each in of if each.task}) > 1
    return named(answer.confounder) + (f" ({answer.task})" if several else "")


def _compared(compared: Sequence[Difference]) -> str:
    """Whether one source relies more than another, with its interval or with what would have been found."""
    tested = [each for each in compared if math.isfinite(each.p)]
    if not compared:
        return COMPARE
    if not tested:
        return f"Whether sources differ could not be tested: {compared[0].problem}."
    found = sorted((each for each in tested if each.found), key=lambda each: -abs(each.difference))
    if found:
        several = len({each.task for each in compared}) > 1
        said = [f"{_more(each)} on {named(each.confounder)}{f' ({each.task})' * several}{_by(each)}" for each in found]
        return listed(said, 3) + f" ({len(found)} of {len(tested)} comparisons, corrected by Holm)."
    middle = statistics.median(each.detectable for each in tested)
    return (
        f"Whether one source leans more than another cannot be told: none of the {len(tested)} differences is beyond "
        f"chance, and half of them would have been found, four times in five, only from {number(middle)} on."
    )


def _more(each: Difference) -> str:
    more, less = (each.a, each.b) if each.difference > 0 else (each.b, each.a)
    return f"{more} relies more than {less}"


def _by(each: Difference) -> str:
    low, high = sorted((abs(each.low), abs(each.high))) if each.low * each.high > 0 else (each.low, each.high)
    whom = "any development patients" if each.p_others < ALPHA else "these development patients"
    return f" by {interval(abs(each.difference), low, high)}, p {p_in_words(each.p)}, for {whom}"


def _range(found: Sequence[float]) -> str:
    known = [each for each in found if math.isfinite(each)]
    if not known:
        return "unknown size"
    low, high = number(min(known)), number(max(known))
    return low if low == high else f"{low} to {high}"


def leading(found: Sequence[Answer]) -> tuple[str, str]:
    """Confounder and task of which the reader's questions are asked: the tag if it was tried, else what came first."""
    tags = [answer for answer in found if answer.confounder == "tag"]
    first = next(iter([answer for answer in tags if not answer.of_model] or tags or found), None)
    return (first.confounder, first.task) if first else ("", "")


def which_leans_more(found: Sequence[Answer], compared: Sequence[Difference]) -> tuple[str, str]:
    """The first reader's question, and its answer: short, and how sure it is."""
    name, task = leading(found)
    mine = [answer for answer in found if answer.confounder == name and answer.task == task]
    if not mine:
        return "Not asked yet.", "./run_all.sh --only 20 asks it of the tag."
    if mine[0].of_model:
        return f"{mine[0].verdict[:1].upper()}{mine[0].verdict[1:]}: {mine[0].measured}.", mine[0].sentence
    estimates = listed(f"{each.who} {each.measured}" for each in mine)
    about = [each for each in compared if each.confounder == name and each.task == task and math.isfinite(each.p)]
    said = f"How far the AUC falls where it misleads, having learned it: {estimates}."
    if not about:
        return "Not compared yet.", f"{said} {COMPARE}"
    if beyond := [each for each in about if each.found]:
        return f"{listed(f'{_more(each)}{_by(each)}' for each in beyond)}.", said
    smallest, found_from = min(each.p for each in about), _range([each.detectable for each in about])
    return (
        "Not told apart.",
        f"{said} No difference between two is beyond chance (smallest p {p_in_words(smallest)} after Holm's "
        f"correction); one would have to be {found_from} to be found four times in five.",
    )
