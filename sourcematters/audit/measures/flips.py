"""Images whose decision turns when a confounder is drawn onto them: the pairs behind the share of flips."""

import numpy as np
import pandas as pd
from scipy.special import expit

from sourcematters.audit.measures.effects import PAIRED
from sourcematters.metrics import check

TO_POSITIVE, TO_NEGATIVE = "to positive", "to negative"
COLUMNS = [
    "image_id", "patient_id", "label", "confounder", "flips", "wrong", "score_without", "score_with", "threshold"
]  # fmt: skip


def flipped(paired: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The pairs whose decision turns, the largest change of each confounder first: `COLUMNS`.

    `paired` has the columns `effects.PAIRED`, in logits, as is `threshold`, from which on a decision is positive; the
    scores that come out are probabilities. wrong is 1 where the decision was right without the confounder.
    """
    check(paired, PAIRED, "scores")
    before, after = paired["without"] >= threshold, paired["carrying"] >= threshold
    found = paired[before != after].assign(
        flips=np.where(after, TO_POSITIVE, TO_NEGATIVE)[before != after],
        wrong=lambda rows: (rows["label"] != (rows["flips"] == TO_POSITIVE)).astype(int),
        score_without=lambda rows: expit(rows["without"]),
        score_with=lambda rows: expit(rows["carrying"]),
        threshold=expit(threshold),
        moved=lambda rows: (rows["carrying"] - rows["without"]).abs(),
    )
    order = found.sort_values(["moved", "image_id"], ascending=[False, True], kind="stable")
    first = {name: place for place, name in enumerate(paired["confounder"].drop_duplicates())}
    return order.sort_values("confounder", key=lambda names: names.map(first), kind="stable")[COLUMNS].reset_index(
        drop=True
    )


def shown(table: pd.DataFrame, confounders: list[str], most: int) -> pd.DataFrame:
    """At most `most` of `flipped`'s rows: of each confounder in turn the largest change, and each patient once.

    Those that made a right decision wrong come before those that made a wrong one right.
    """
    rows = table[table["confounder"].isin(confounders)].sort_values("wrong", ascending=False, kind="stable")
    rows = rows.drop_duplicates(["confounder", "patient_id"])
    turn = rows.groupby("confounder", sort=False).cumcount()
    order = rows["confounder"].map({name: place for place, name in enumerate(confounders)})
    kept = rows.assign(turn=turn, order=order).sort_values(["turn", "order"], kind="stable")
    return kept.drop_duplicates("patient_id").head(most).sort_values(["order", "turn"], kind="stable")[COLUMNS]
