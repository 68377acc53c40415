"""How a finished model does in each group of patients, and where an attribute goes against the label.

Of an attribute no image can be had with another value, so groups are compared, not an image with itself. What differs
between groups may be the disease: that a model does worse in one is seen, why is not.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sourcematters.audit.measures.effects import TIMES, Floats, drawn_patients, interval, mean, size_of, weighted_auc

OF_GROUP = ["auc", "sensitivity", "specificity", "accuracy_at_half", "gap"]
AGAINST = ["auc_reversed", "auc_aligned", "lean"]
MOST = 12  # values of an attribute; one with more is no group


def by_group(
    scored: pd.DataFrame,
    attributes: Sequence[str],
    *,
    threshold: float,
    seed: int,
    fewest: int = 10,
    times: int = TIMES,
) -> pd.DataFrame:
    """AUC, sensitivity and specificity in each group of each attribute, and how far the attribute leads the model.

    `scored` has image_id, patient_id, label, logit and the attributes; `threshold` is the logit from which on a
    decision is positive. One row a group: attribute, value, n, positives, patients, rarer, then with NAME_low and
    NAME_high (95 %, percentiles over patients)

    auc, sensitivity, specificity   within the group
    accuracy_at_half   (sensitivity + specificity) / 2: of a group of which half is ill, whatever share of it is here
    gap                accuracy_at_half, less that of all others
    auc_aligned        positives of the group against negatives of the others, who go with the group's being ill
    auc_reversed       positives of the others against negatives of the group
    lean               (aligned - reversed) / 2, as of a drawn confounder

    `lean_error` is a standard error. Of a group, or its complement, with fewer than `fewest` images of a class nothing
    is measured, and `note` says so; so it does of an attribute with one value or more than `MOST`.
    """
    scored = scored.sort_values("image_id")
    labels, logits = scored["label"].to_numpy(int), scored["logit"].to_numpy(float)
    drawn = drawn_patients(scored["patient_id"].astype(str), seed=seed, times=times)
    weights = np.concatenate([np.ones((1, len(scored))), drawn])
    rows = []
    for attribute in attributes:
        values = scored[attribute].astype("string").fillna("missing")
        groups = values.value_counts()
        if not 1 < len(groups) <= MOST:
            what = f"it has {len(groups)} value{'s' * (len(groups) != 1)}"
            if len(groups) > MOST:
                what += f"; give bands, such as bands: {{{attribute}: [0, 40, 60]}}"
            rows.append({"attribute": attribute, "value": "", "note": what})
            continue
        for value in sorted(groups.index):
            inside = (values == value).to_numpy()
            row = {"attribute": attribute, "value": value, **size_of(scored[inside])}
            if few := _too_few(labels, inside, fewest):
                rows.append(row | {"note": few})
                continue
            found = _measured(labels, logits, inside, weights, threshold)
            for name, of in found.items():
                row |= {name: of[0], **interval(name, of[1:])}
            rows.append(row | {"lean_error": float(np.nanstd(found["lean"][1:], ddof=1)), "note": ""})
    names = [column for name in (*OF_GROUP, *AGAINST) for column in (name, f"{name}_low", f"{name}_high")]
    columns = ["attribute", "value", "n", "positives", "patients", "rarer", *names, "lean_error", "note"]
    return pd.DataFrame(rows, columns=columns)


def _too_few(labels: NDArray[np.int64], inside: NDArray[np.bool_], fewest: int) -> str:
    counts = [int((labels[group] == label).sum()) for group in (inside, ~inside) for label in (1, 0)]
    if min(counts) >= fewest:
        return ""
    return (
        f"{counts[0]} positive and {counts[1]} negative images here, {counts[2]} and {counts[3]} elsewhere: fewer than "
        f"{fewest} say little"
    )


def _measured(
    labels: NDArray[np.int64], logits: Floats, inside: NDArray[np.bool_], weights: Floats, threshold: float
) -> dict[str, Floats]:
    found, half = dict[str, Floats](), dict[bool, Floats]()
    for here in (True, False):
        group = inside == here
        right = {label: group & (labels == label) for label in (1, 0)}
        sensitivity = mean((logits[right[1]] >= threshold).astype(float), weights[:, right[1]])
        specificity = mean((logits[right[0]] < threshold).astype(float), weights[:, right[0]])
        half[here] = (sensitivity + specificity) / 2
        if here:
            found["auc"] = weighted_auc(labels[group], logits[group], weights[:, group])
            found |= {"sensitivity": sensitivity, "specificity": specificity, "accuracy_at_half": half[True]}
    found["gap"] = half[True] - half[False]
    for name, positives_inside in (("auc_reversed", False), ("auc_aligned", True)):
        subset = np.where(labels == 1, inside == positives_inside, inside != positives_inside)
        found[name] = weighted_auc(labels[subset], logits[subset], weights[:, subset])
    found["lean"] = (found["auc_aligned"] - found["auc_reversed"]) / 2
    return found
