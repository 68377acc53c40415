"""What the audit says unasked of data that is confounded already: sentences made from the tables, and no further."""

import pandas as pd

from sourcematters.audit.data.attributes import CRAMER, THE_LABEL
from sourcematters.audit.data.shortcuts import ATTRIBUTE, IMAGE, METADATA, ORDER
from sourcematters.cohorts.cohort import some
from sourcematters.results.verdicts import GOES, TOLD

SHOWN_VALUES = 4
NOT_LOOKED_AT = (
    "Not looked at: what stands in no column and in none of these statistics, as a device or lettering that is grey or "
    "far from the edges, and whether a network uses any of it."
)


def in_words(
    associations: pd.DataFrame, shortcuts: pd.DataFrame, counts: pd.DataFrame | None = None, *, anatomy: str = "anatomy"
) -> list[str]:
    """Sentences on what goes with the label, what tells it without `anatomy`, and what was not looked at.

    An attribute is said to go with the label if its permutation p is below `GOES` after Holm's correction, anything to
    tell it if its one-sided p is below `TOLD` after it. The tables are those of `attributes.associations`,
    `shortcuts.shortcuts` and `attributes.counts`, whose numbers of images stand in the sentences if it is given.
    """
    told = shortcuts[shortcuts["p_holm"] < TOLD].sort_values("auc", ascending=False)
    goes = associations[associations["p_holm"] < GOES].sort_values(["p", "auc"], ascending=[True, False])
    said = [_goes(row, counts) for row in goes.to_dict("records")]
    said += [
        f"{METADATA.capitalize()} tell it with an AUC of {_auc(row)}, without any image."
        for row in told[told["what"] == METADATA].to_dict("records")
    ]
    if len(images := told[told["of"] == IMAGE]):
        said.append(f"Without reading {anatomy} the label is told by {_listed(images)}.")
    if len(order := told[told["of"] == ORDER]):
        said.append(
            f"It is told by {_listed(order)}: the classes lie in different stretches of it. A network does not see it, "
            "but may see whatever changed along it."
        )
    measured = shortcuts[shortcuts["auc"].notna()]
    visible = told[(told["of"] != ORDER) & (told["auc"] <= THE_LABEL)]
    if len(visible):
        best = visible.iloc[0]
        said.append(
            f"So an AUC of up to {_number(best['auc'])}, that of {best['what']}, is no evidence here of reading "
            f"{anatomy}."
        )
    elif measured.empty:
        said.append("Nothing could be measured that might tell the label.")
    elif told.empty:
        best = measured.sort_values("auc", ascending=False).iloc[0]
        said.append(
            f"Nothing that was looked at tells the label (largest AUC alone {_auc(best)}, of {best['what']}; "
            f"no interval reaches beyond {_number(measured['ci_high'].max())})."
        )
    missed = pd.concat([
        associations.loc[associations["auc"].isna(), ["attribute", "note"]].set_axis(["what", "note"], axis=1),
        shortcuts.loc[shortcuts["auc"].isna() & (shortcuts["of"] != ATTRIBUTE), ["what", "note"]],
    ])  # fmt: skip
    if len(missed):
        said.append(f"Not measured: {'; '.join(f'{what} ({note})' for what, note in missed.to_numpy())}.")
    said.append(NOT_LOOKED_AT)
    if len(measured):
        said.append(
            f"Each AUC is of others' patients ({measured['n'].iloc[0]:,} images of {measured['patients'].iloc[0]:,} "
            f"patients, as far as these are known), with its own 95 % interval over patients. Said is what holds after "
            f"Holm's correction over the {len(measured)} that were looked at."
        )
    return said


def _goes(row: dict[str, object], counts: pd.DataFrame | None) -> str:
    name, note = row["attribute"], str(row["note"])
    if row["measure"] == CRAMER:
        how = f"Cramér's V {_interval(row['value'], row['ci_low'], row['ci_high'])}"
    else:
        larger = "larger" if float(row["value"]) > 0.5 else "smaller"  # type: ignore[arg-type]
        how = f"it is {larger} with label 1, AUC {_interval(row['value'], row['ci_low'], row['ci_high'])}"
    if counts is not None and len(own := counts[counts["attribute"] == name]):
        values = [f"{int(r.positives)} of {int(r.positives + r.negatives)} {r.value}" for r in own.itertuples()]
        more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
        how += f"; positive are {', '.join(values[:SHOWN_VALUES])}{more}"
    alone = f"; alone it tells it with an AUC of {_interval(row['auc'], row['auc_low'], row['auc_high'])}"
    return f"{name} goes with the label ({how}){alone}." + (f" {note[0].upper()}{note[1:]}" if note else "")


def _listed(rows: pd.DataFrame) -> str:
    return some(f"{row['what']} (AUC {_auc(row)})" for row in rows.to_dict("records"))


def _auc(row: dict[str, object] | pd.Series) -> str:
    return _interval(row["auc"], row["ci_low"], row["ci_high"])


def _interval(value: object, low: object, high: object) -> str:
    if pd.isna(low):
        return _number(value)
    return f"{_number(value)} [{_number(low)}, {_number(high)}]"


def _number(value: object) -> str:
    """Two decimals."""
    return f"{value:.2f}"
