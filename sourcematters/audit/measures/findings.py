"""From what was measured of a finished model to findings, each with its verdict (`results.verdicts`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sourcematters.audit.measures.effects import FEWEST
from sourcematters.results import verdicts
from sourcematters.results.verdicts import Finding

WHO = "the model"


def of_effects(effects: pd.DataFrame, *, primary: str = "", unseen: Mapping[str, str] | None = None) -> list[Finding]:
    """A finding a row of `effects.effects`, p corrected over all but the `primary` confounder.

    `unseen` maps confounders to why the model cannot see them.
    """
    names = effects["confounder"].tolist()
    p = verdicts.corrected(_p(effects), names.index(primary) if primary in names else None)
    rows = zip(effects.itertuples(), p, strict=True)
    return [_finding(row, of, row.confounder, (unseen or {}).get(row.confounder, "")) for row, of in rows]


def of_unscored(confounder: str, why: str, images: pd.DataFrame) -> Finding:
    """That a confounder was not scored, since it does not reach the model."""
    return Finding(WHO, confounder, *(np.nan,) * 5, len(images), int(images["label"].sum()), why)


def of_groups(groups: pd.DataFrame) -> list[Finding]:
    """A finding a group that is ranked higher, ill or not (`groups.by_group`); of two groups that is one."""
    found = groups[groups["lean"] > 0]
    rows = zip(found.itertuples(), verdicts.corrected(_p(found)), strict=True)
    return [_finding(row, of, f"{row.attribute} {row.value}", "", "group") for row, of in rows]


def negative_control(effects: pd.DataFrame) -> str:
    """What an alteration does that should do nothing, from its only row of `effects.effects`, in a sentence."""
    (row,) = effects.itertuples()
    found = _finding(row, _p(effects)[0], row.confounder, "")
    measured = f"one grey level moves the AUC by {found.effect:.3f} [{found.low:.3f}, {found.high:.3f}]"
    if verdicts.verdict(found) == verdicts.LEANS:
        return f"Negative control failed: {measured}. What is said of the others may be true of anything at all."
    return f"Negative control: {measured}."


def _p(rows: pd.DataFrame) -> list[float]:
    return [verdicts.beyond_small(row.lean, row.lean_error) for row in rows.itertuples()]


def _finding(row: Any, p: float, name: str, unseen: str, measure: str = "lean") -> Finding:
    few = f"{row.rarer} patients of a class are fewer than {FEWEST}" if row.rarer < FEWEST else ""
    numbers = row.lean, row.lean_low, row.lean_high, p, verdicts.detectable(row.lean_error)
    return Finding(WHO, name, *numbers, int(row.n), int(row.positives), unseen, few, measure)
