"""What numbers say of a network and a confounder, in one of four verdicts and a sentence, and nothing beyond them.

An effect is a fall of the AUC: of a fine-tuned network its reliance (`results.statistics`), of a finished model its
lean (`audit.measures.effects`). It is called leaning if it is larger than `SMALL`, beyond what chance and the number of
tests explain: an alteration moves any network's scores a little, and who looks at enough images will find it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from sourcematters import metrics
from sourcematters.metrics import DETECTED
from sourcematters.training.reach import SEEN

LEANS, NO_SIGN, NOT_VISIBLE, TOO_LITTLE = "leans on it", "no sign of leaning", "not visible", "too little data to tell"
SMALL = 0.05  # of an AUC: a fall that nobody would act on
MISSED = 0.2  # of an AUC: where one of so much would be missed, or is not excluded, nothing is said
ALPHA = 0.05
TOLD = 0.025  # one-sided p after Holm's correction, below which something is said to tell the label: as 95 % two-sided
GOES = 0.05  # two-sided p after Holm's correction, below which an attribute is said to go with the label


class Finding(NamedTuple):
    """What was measured of one network, or several of a source, and one confounder.

    `effect` with its 95 % interval is a fall of the AUC, below 0 where the confounder is taken for a sign of health;
    `p`, corrected, is of one within `SMALL` of 0; `detectable` is the smallest that would be called leaning four times
    in five. `unseen` says why it cannot be seen, `few` why there is too little to tell; empty if neither is so.
    """

    who: str
    confounder: str
    effect: float
    low: float
    high: float
    p: float
    detectable: float
    n: int
    positives: int
    unseen: str = ""
    few: str = ""
    measure: str = "lean"  # or reliance, which below 0 is no leaning; or group, of patients and not of drawn things


def beyond_small(effect: float, error: float, df: float = np.inf) -> float:
    """p, two-sided, of an effect within `SMALL` of 0, from its standard error and degrees of freedom."""
    if not (np.isfinite(effect) and np.isfinite(error)) or np.isnan(df):
        return np.nan
    if error == 0:
        return 0.0 if abs(effect) > SMALL else 1.0
    return float(min(1, 2 * stats.t.sf((abs(effect) - SMALL) / error, df)))


def detectable(error: float, df: float = np.inf) -> float:
    """The smallest effect that is called leaning four times in five, by one test alone."""
    return float(SMALL + sum(stats.t.ppf(q, df) for q in DETECTED) * error)


def corrected(p: Sequence[float], primary: int | None = None) -> list[float]:
    """`p` by Holm, over all of them but the `primary` one, which was declared before; NaN is no test."""
    values = pd.Series(p, dtype=float)
    others = [place for place in range(len(values)) if place != primary]
    values.iloc[others] = metrics.holm(values.iloc[others])
    return values.tolist()


def verdict(found: Finding) -> str:
    """Which of the four it is: an effect beyond chance comes before a control that saw nothing.

    No sign of leaning is an interval that lies within `SMALL`, or that holds 0, excludes `MISSED`, and is of a test
    that would find as much.
    """
    if found.few:
        return TOO_LITTLE
    fall = found.effect if found.measure == "reliance" else abs(found.effect)
    if found.p < ALPHA and fall > SMALL:
        return LEANS
    if found.unseen:
        return NOT_VISIBLE
    low = 0.0 if found.measure == "reliance" else found.low  # below 0 it is no leaning
    within = max(-low, found.high)
    nothing = low <= 0 <= found.high and within <= MISSED and found.detectable <= MISSED
    return NO_SIGN if within <= SMALL or nothing else TOO_LITTLE


def sentence(found: Finding) -> str:
    """The verdict with effect, interval and n."""
    what, size = verdict(found), f"n = {found.n:,}, {found.positives:,} positive"
    known = bool(np.isfinite(found.low) and np.isfinite(found.high))
    measured = rounded(found.effect) + f" [{rounded(found.low)}, {rounded(found.high)}]" * known
    if what == LEANS and found.measure == "reliance":
        return (
            f"{found.who} leans on {found.confounder}: having learned it, it ranks worse where it misleads, by an AUC "
            f"of {measured} (p {p_in_words(found.p)}; {size})."
        )
    if what == LEANS and found.measure == "group":
        return (
            f"{found.who} leans on {found.confounder}, or on what goes with it: where it goes against the disease, the "
            f"AUC is {2 * abs(found.effect):.2f} lower than where it goes along, of which half is the lean, {measured} "
            f"(p {p_in_words(found.p)}; {size})."
        )
    if what == LEANS:
        sign = "disease" if found.effect > 0 else "health"
        return (
            f"{found.who} leans on {found.confounder}, as a sign of {sign}: it alone moves the AUC by "
            f"{abs(found.effect):.2f} [{min(abs(found.low), abs(found.high)):.2f}, "
            f"{max(abs(found.low), abs(found.high)):.2f}] (p {p_in_words(found.p)}; {size})."
        )
    if what == NO_SIGN:
        return (
            f"{found.who} shows no sign of leaning on {found.confounder}: {measured}, and a fall of "
            f"{found.detectable:.2f} would have been seen ({size})."
        )
    if what == NOT_VISIBLE:
        return f"{found.confounder} is not visible to {found.who}: {found.unseen}. That it does nothing says nothing."
    seen = f"the effect is {measured}" if np.isfinite(found.effect) else "no effect was measured"
    why = found.few or f"more than {SMALL:g} is what counts, and {found.detectable:.2f} what would be found"
    return f"too little data to tell whether {found.who} leans on {found.confounder}: {seen}; {why} ({size})."


def rounded(value: float, digits: int = 2) -> str:
    """With so many decimals, and 0 without a sign.

    >>> rounded(-0.001), rounded(0.456)
    ('0.00', '0.46')
    """
    return f"{round(value, digits) + 0.0:.{digits}f}"


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """What is leaned on first, strongest first; then what cannot be told, what is not seen, and the rest."""
    order = (LEANS, TOO_LITTLE, NOT_VISIBLE, NO_SIGN)
    return sorted(findings, key=lambda found: (order.index(verdict(found)), -abs(np.nan_to_num(found.effect))))


def of_sources(table: pd.DataFrame, results: pd.DataFrame) -> list[Finding]:
    """A finding for each row of `statistics.by_source`, sized; p is corrected over all of them.

    `results` are its runs (`grids.collect`): networks that did not learn, or did not get to see the confounder, say
    nothing of leaning.
    """
    rows, keys = list(table.itertuples()), ["task", "confounder", "backbone", "source"]
    p = corrected([beyond_small(row.reliance, row.reliance_error, row.reliance_df) for row in rows])
    groups, found = dict(list(results.groupby(keys))), list[Finding]()
    for row, of in zip(rows, p, strict=True):
        runs = groups[tuple(getattr(row, key) for key in keys)].drop_duplicates("run_id")
        unlearned, few, unseen = int((runs["learned"] == 0).sum()), row.problem if np.isnan(of) else "", ""
        if unlearned:
            few = f"{unlearned} of {len(runs)} networks rank no better than guessing"
        if "input_seen_in" in runs and runs["input_seen_in"].min() < SEEN:
            unseen = f"it changes a pixel of {runs['input_seen_in'].min():.0%} of the images at the network's input"
        name = f"{row.confounder} ({row.task})"
        interval = row.reliance, row.reliance_low, row.reliance_high
        smallest = detectable(row.reliance_error, row.reliance_df)
        found.append(Finding(row.source, name, *interval, of, smallest, row.n, row.positives, unseen, few, "reliance"))
    return found


def p_in_words(p: float) -> str:
    """E.g. `below 0.001`, `0.016`."""
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


def on_top(findings: Iterable[Finding]) -> str:
    """One sentence on all of them: what is leaned on, strongest first; else what was looked at, and how well."""
    by: dict[str, list[Finding]] = {}
    for found in findings:
        by.setdefault(verdict(found), []).append(found)
    if not by:
        return "Nothing was tried."
    leaned = sorted(by.get(LEANS, []), key=lambda found: -abs(found.effect))
    counted = [
        f"{len(by[what])} {words}"
        for what, words in (
            (NO_SIGN, "without a sign of it"),
            (NOT_VISIBLE, "not visible"),
            (TOO_LITTLE, "with too little data to tell"),
        )
        if what in by
    ]
    rest = f" ({', '.join(counted)})" if counted else ""
    if leaned:
        names = ", ".join(f"{found.confounder} ({abs(found.effect):.2f})" for found in leaned[:4])
        more = f" and {len(leaned) - 4} more" if len(leaned) > 4 else ""
        whose = {found.who for found in leaned}
        who = f"{whose.pop()} leans" if len(whose) == 1 else f"{', '.join(sorted(whose))} lean"
        return f"{who} on {names}{more}{rest}."
    return f"No leaning was found on any of {sum(map(len, by.values()))} confounders{rest}."


def as_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """One row a finding: its fields, `verdict` and `sentence`."""
    rows = [{**found._asdict(), "verdict": verdict(found), "sentence": sentence(found)} for found in findings]
    return pd.DataFrame(rows, columns=[*Finding._fields, "verdict", "sentence"])
