"""Lung mass on LIDC-IDRI (Armato et al., Medical Physics 38(2), 2011): axial CT slices with a nodule and without.

The paper published no split of this cohort and no code for it, so the definition is ours:

- *positive*: a slice on which at least `readers` of the four readers outlined the same nodule of 3 mm or more;
- *negative*: a slice of the same scan, at least `margin_mm` away from every slice on which anybody outlined a nodule,
  and at most `reach_mm` from a positive one, so that the two classes show the same part of the chest. Marks of
  findings below 3 mm and of non-nodules do not count: they are what makes a negative hard;
- every patient gives as many negatives as positives, so that knowing the patient tells nothing about the label;
- positives are taken in rounds, each nodule's largest slice first: many nodules before many slices of one;
- patients are dealt to dev and test; the numbers of images are the paper's (1710 and 500) where there are enough.

The cohort's files are the DICOM slices themselves; nothing is copied.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sourcematters.cohorts import table as tables
from sourcematters.cohorts.lidc import lidc_xml, nodules, series
from sourcematters.errors import StudyError
from sourcematters.processes import progress
from sourcematters.seeds import uniform

TASK = "lung-mass-ct"

IMAGES = (1710, 500)
"""Slices to train and validate on, and to test on, as in the paper's Table 1 (recalled from it)."""

ARCHIVE = "LIDC-XML-only.zip"
NODULES = ["series_uid", "nodule", "sop_uid", "readers", "readers_anywhere", "malignancy", "area_px", "diameter_px"]
ATTRIBUTES = ["readers", "diameter_mm", "malignancy", "z_mm", "series_uid", "sop_uid"]


@dataclass(frozen=True)
class Survey:
    """What a folder of LIDC-IDRI holds.

    `slices` and `scans` as `series.series` gives them. `nodules`: one row a nodule of 3 mm or more and slice
    on which somebody enclosed a pixel of it, `NODULES`, where `readers` did so on that slice, `readers_anywhere` on
    any. `outlines`: `series_uid, z_mm` of every outline of such a nodule, also of one that encloses nothing.
    `problems`: `kind, where, what`, one row for whatever was left out or is odd. `notes`: sentences that count it.
    """

    slices: pd.DataFrame
    scans: pd.DataFrame
    nodules: pd.DataFrame
    outlines: pd.DataFrame
    problems: pd.DataFrame
    notes: list[str]


def is_release(root: str | Path) -> bool:
    """Whether a folder looks like LIDC-IDRI as TCIA distributes it: patients' folders, or the annotations."""
    root = Path(root)
    return (root / ARCHIVE).exists() or next(root.glob("LIDC-IDRI-*"), None) is not None


def survey(root: str | Path, *, cache: str | Path | None = None, workers: int = 1) -> Survey:
    """Read the headers of all slices and all annotations below `root`.

    The annotations are `root`/LIDC-XML-only.zip if it is there, else the XML files anywhere below `root`. `cache`, a
    CSV file, remembers the headers. Pixels are not read, so memory does not grow with them.
    Raises StudyError if there is no CT slice or no annotation, or if none of the two fit together.
    """
    root = Path(root)
    slices, left_out = series.index(root, cache=cache, workers=workers)
    left_out = left_out[~left_out["where"].str.lower().str.endswith(".xml")]  # those are read below
    slices, scans, odd = series.series(slices)
    annotations = lidc_xml.read(root / ARCHIVE if (root / ARCHIVE).exists() else root)
    nodules, unmatched = _nodules(annotations, slices, scans)
    read = [("annotation", file, what) for file, what in annotations.problems.itertuples(index=False, name=None)]
    problems = pd.concat([left_out, odd, pd.DataFrame([*read, *unmatched], columns=series.PROBLEMS)], ignore_index=True)
    if nodules.empty:
        raise StudyError(
            f"{root}: {len(scans)} CT series and {len(annotations.reads)} annotated ones, but no outlined nodule lies "
            f"on a slice that is here ({_counted(problems['kind'])}). Download whole series, and the annotations of "
            "the same release."
        )
    by_nodule = nodules.drop_duplicates(["series_uid", "nodule"])["readers_anywhere"].value_counts().sort_index()
    agreement = ", ".join(f"{n:,} by {readers}" for readers, n in by_nodule.items())
    notes = [
        f"{scans['patient_id'].nunique():,} patients, {len(scans):,} CT series, {len(slices):,} slices; "
        f"{scans['missing'].sum():,} slices missing within series.",
        f"{annotations.files:,} annotation files: {len(annotations.reads):,} CT reads, {annotations.duplicates} "
        f"repeated, {annotations.chest_films} of chest films, {len(annotations.problems)} not usable.",
        f"{by_nodule.sum():,} nodules of 3 mm or more, outlined {agreement} reader(s).",
        f"Left out or odd: {_counted(problems['kind'])}.",
    ]
    return Survey(slices, scans, nodules, _outlines(annotations, slices), problems, notes)


def cohort(
    root: str | Path,
    *,
    cache: str | Path | None = None,
    readers: int = 3,
    margin_mm: float = 10.0,
    reach_mm: float = 50.0,
    images: tuple[int, int] = IMAGES,
    seed: int = 0,
    workers: int = 1,
) -> pd.DataFrame:
    """The cohort table of lung mass on the LIDC-IDRI in `root`; the module's text defines it.

    `path` is the slice's DICOM file. Attributes, empty for negatives where they are a nodule's: `readers` who outlined
    the nodule there, `diameter_mm` of the disc of its area (median over readers; the largest nodule of the slice),
    `malignancy` (1 to 5, median over readers), `z_mm`, `series_uid`, `sop_uid`. `images` is how many slices dev and
    test are to have at most, half of each class. `attrs["problems"]` lists (kind, where, what) of all left out.

    Raises StudyError as `survey` does, for settings out of range, or if a part would have no image.
    """
    for name, value, fine in (
        ("readers", readers, 1 <= readers <= 4),
        ("margin_mm", margin_mm, margin_mm >= 0),
        ("reach_mm", reach_mm, reach_mm > margin_mm),
        ("images", tuple(images), len(images) == 2 and min(images) >= 2),
    ):
        if not fine:
            raise StudyError(
                f"{name} = {value}: readers are 1 to 4, margin_mm 0 or more, reach_mm above margin_mm, images at "
                "least 2 for dev and for test."
            )
    found = survey(root, cache=cache, workers=workers)
    candidates = _candidates(found, readers, margin_mm, reach_mm)
    candidates["image_id"] = candidates["patient_id"] + "-" + candidates["sop_uid"].str.rsplit(".").str[-1].str[-8:]
    candidates = _matched_within_patients(candidates, seed)
    if candidates["patient_id"].nunique() < 2:
        raise StudyError(
            f"{root}: {candidates['patient_id'].nunique()} patient(s) with a nodule that {readers} readers outlined "
            f"and a slice {margin_mm:g} to {reach_mm:g} mm away; dev and test need one each. Add series, or lower "
            "readers or margin_mm."
        )
    patients = sorted(candidates["patient_id"].unique())
    order = [patients[i] for i in np.argsort(uniform(seed, patients, "lidc split"), kind="stable")]
    n_test = min(max(1, round(len(order) * images[1] / sum(images))), len(order) - 1)
    candidates["split"] = np.where(candidates["patient_id"].isin(order[:n_test]), "test", "dev")
    chosen = pd.concat(
        [
            _in_rounds(candidates[candidates["split"] == part], n // 2)
            for part, n in zip(tables.SPLITS, images, strict=True)
        ]
    )
    table = tables.check(chosen[[*tables.COLUMNS, *ATTRIBUTES]], origin=str(root))
    counts = table["split"].value_counts()
    notes = [
        *found.notes,
        f"Positive: outlined by {readers} of 4 readers or more. Negative: {margin_mm:g} to {reach_mm:g} mm away from "
        "one, in the same scan. This definition is ours; the paper published none.",
        *(
            f"{part}: {counts[part]:,} images of {wanted:,} wanted; the scans hold no more."
            for part, wanted in zip(tables.SPLITS, images, strict=True)
            if counts[part] < 2 * (wanted // 2)
        ),
        f"Split by patient with seed {seed}; no patient is in two parts.",
    ]
    table.attrs = {
        "name": "lidc",
        "task": TASK,
        "origin": str(root),
        "notes": notes,
        "problems": list(found.problems.itertuples(index=False, name=None)),
    }
    return table


def _nodules(
    annotations: lidc_xml.Annotations, slices: pd.DataFrame, scans: pd.DataFrame
) -> tuple[pd.DataFrame, list[tuple[str, str, str]]]:
    """`Survey.nodules`, and what of the annotations fits no slice. Slices are told by UID: positions are ambiguous."""
    sizes = {uid: (rows, columns) for uid, rows, columns in scans[["series_uid", "rows", "columns"]].to_numpy()}
    here = {uid: set(group) for uid, group in slices.groupby("series_uid")["sop_uid"]}
    rows, problems = [], []
    for read in progress(annotations.reads, desc="annotations", unit="read", disable=len(annotations.reads) < 100):
        if read.series_uid not in sizes:
            problems.append(("read without series", read.file, f"its CT series {read.series_uid} is not here."))
            continue
        height, width = sizes[read.series_uid]
        for number, group in enumerate(nodules.group(read)):
            for sop_uid, _, readers, area, diameter, _, _, x1, y1 in group.slices().itertuples(index=False):
                where = f"{read.file}, nodule {group.marks[0][1].id}"
                if sop_uid not in here[read.series_uid]:
                    problems.append(("outline without slice", where, f"the slice {sop_uid} is not here."))
                elif x1 >= width or y1 >= height:
                    what = f"it reaches x = {x1}, y = {y1} on {sop_uid}, an image of {width} x {height} px."
                    problems.append(("outline beyond the image", where, what))
                else:
                    identity = (read.series_uid, number, sop_uid)
                    rows.append((*identity, readers, group.readers, group.malignancy, area, diameter))
    annotated = {read.series_uid for read in annotations.reads}
    for patient, uid in scans.loc[~scans["series_uid"].isin(annotated), ["patient_id", "series_uid"]].to_numpy():
        problems.append(("series without read", f"{patient}, series {uid}", "nobody's annotation of it is here."))
    return pd.DataFrame(rows, columns=NODULES).astype({"malignancy": float}), problems


def _outlines(annotations: lidc_xml.Annotations, slices: pd.DataFrame) -> pd.DataFrame:
    """`Survey.outlines`: each at its slice's position, or where the annotation puts it if the slice is not here."""
    rows = [
        (read.series_uid, contour.sop_uid, contour.z_mm)
        for read in annotations.reads
        for reader in read.readers
        for nodule in reader
        if nodule.kind == "nodule"
        for contour in nodule.contours
    ]
    table = pd.DataFrame(rows, columns=["series_uid", "sop_uid", "z_mm"])
    table["z_mm"] = table["sop_uid"].map(slices.set_index("sop_uid")["z_mm"]).fillna(table["z_mm"])
    return table[["series_uid", "z_mm"]].drop_duplicates(ignore_index=True)


def _candidates(found: Survey, readers: int, margin_mm: float, reach_mm: float) -> pd.DataFrame:
    """Every slice that may be an image: label, patient_id, path, attributes and `round` (0: a nodule's largest)."""
    agreed = found.nodules[found.nodules["readers"] >= readers].copy()
    agreed = agreed.sort_values(["area_px", "sop_uid"], ascending=[False, True])
    agreed["round"] = agreed.groupby(["series_uid", "nodule"]).cumcount()
    first = agreed.groupby("sop_uid")["round"].min()
    largest = agreed.drop_duplicates("sop_uid").assign(round=lambda table: table["sop_uid"].map(first))
    slices = found.slices.merge(largest.drop(columns="series_uid"), on="sop_uid", how="left", validate="one_to_one")
    slices["label"] = slices["nodule"].notna().astype(int)
    pixel_mm = np.sqrt(slices["spacing_row_mm"] * slices["spacing_column_mm"])
    slices["diameter_mm"] = (slices["diameter_px"] * pixel_mm).round(2)
    slices["readers"] = slices["readers"].astype("Int64")
    outlines = dict(list(found.outlines.groupby("series_uid")["z_mm"]))
    kept = []
    for series_uid, scan in slices.groupby("series_uid"):
        positive = scan["label"] == 1
        if positive.any():
            from_outline = _distance(scan["z_mm"], outlines[series_uid])
            from_positive = _distance(scan["z_mm"], scan.loc[positive, "z_mm"])
            kept.append(scan[positive | ((from_outline >= margin_mm) & (from_positive <= reach_mm))])
    return pd.concat(kept) if kept else slices.iloc[:0]


def _distance(positions: pd.Series, others: pd.Series) -> np.ndarray:
    """Of each position, how far the nearest of `others` is, in mm."""
    return np.abs(positions.to_numpy()[:, None] - others.to_numpy()[None, :]).min(axis=1)


def _matched_within_patients(candidates: pd.DataFrame, seed: int) -> pd.DataFrame:
    """As many negatives as positives of each patient, each with its `turn` (0, 1, ...) and the round of the positive.

    Positives in the order of their rounds, negatives in an order drawn from the seed and the image's name.
    """
    if candidates.empty:
        return candidates
    candidates = candidates.assign(draw=uniform(seed, candidates["image_id"].tolist(), "lidc sample"))
    candidates = candidates.sort_values(["round", "draw"])
    candidates["turn"] = candidates.groupby(["patient_id", "label"]).cumcount()
    pairs = candidates.groupby(["patient_id", "turn"])["label"].transform("nunique") == 2
    candidates = candidates[pairs].copy()
    candidates["round"] = candidates.groupby(["patient_id", "turn"])["round"].transform("min")
    candidates["draw"] = candidates.groupby(["patient_id", "turn"])["draw"].transform("min")
    return candidates


def _in_rounds(candidates: pd.DataFrame, pairs: int) -> pd.DataFrame:
    """The first `pairs` pairs of a positive and a negative: every nodule's largest slice, then the next."""
    return candidates.sort_values(["round", "draw", "patient_id", "turn", "label"]).head(2 * pairs)


def _counted(kinds: pd.Series) -> str:
    return ", ".join(f"{n:,} {kind}" for kind, n in kinds.value_counts().items()) or "nothing"
