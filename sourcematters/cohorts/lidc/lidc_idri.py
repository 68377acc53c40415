"""Lung mass on LIDC-IDRI (Armato et al., Medical Physics 38(2), 2011): axial CT slices with a nodule and without.

The paper published no split of this cohort and no code for it, so the definition is ours:

- *positive*: a slice on which at least `readers` of the four readers outlined the same nodule of 3 mm or more;
- *negative*: a slice of the same scan, at least `margin_mm` away from every slice on which anybody outlined a nodule,
  and at most REACH_MM from a positive one, so that the two classes show the same part of the chest. Marks of
  findings below 3 mm and of non-nodules do not count: they are what makes a negative hard;
- every patient gives as many negatives as positives, so that knowing the patient tells nothing about the label;
- positives are taken in rounds, each nodule's largest slice first: many nodules before many slices of one;
- patients are dealt to dev and test; the numbers of images are the paper's (1710 and 500) where there are enough.

The cohort's files are the DICOM slices themselves; nothing is copied.
"""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from sourcematters.cohorts.cohort import COLUMNS, SPLITS, Cohort, check
from sourcematters.cohorts.lidc import dicom, lidc_xml, nodules, series
from sourcematters.cohorts.readers import Reader, Request, register
from sourcematters.errors import StudyError
from sourcematters.files import sha256
from sourcematters.processes import progress
from sourcematters.seeds import uniform

TASK = "lung-mass-ct"
REACH_MM = 50.0
ARCHIVE = "LIDC-XML-only.zip"
NODULES = ["series_uid", "nodule", "sop_uid", "readers", "readers_anywhere", "malignancy", "area_px", "diameter_px"]
Problems = list[tuple[str, str, str]]
ATTRIBUTES = ["readers", "diameter_mm", "malignancy", "z_mm", "series_uid", "sop_uid"]


def _survey(request: Request) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Problems, list[str]]:
    """Slices (of `series.series`), nodules, outlines, problems, and notes that count them; no pixels are read.

    Raises StudyError if there is no CT slice or no annotation, or if none of the two fit together.
    """
    root = Path(request.data)
    # Headers that other code read are not taken for those that this code would read.
    digest = hashlib.sha256(f"{root.absolute()} {sha256(dicom.__file__)}".encode()).hexdigest()[:8]
    slices, left_out = series.index(root, cache=Path(request.cache) / f"headers-{digest}.csv", workers=request.workers)
    left_out = left_out[~left_out["where"].str.lower().str.endswith(".xml")]  # those are read below
    slices, scans, odd = series.series(slices)
    annotations = lidc_xml.read(root / ARCHIVE if (root / ARCHIVE).exists() else root)
    nodules, unmatched = _nodules(annotations, slices, scans)
    read = [("annotation", file, what) for file, what in annotations.problems.itertuples(index=False, name=None)]
    problems = pd.concat([left_out, odd, pd.DataFrame([*read, *unmatched], columns=series.PROBLEMS)])
    if nodules.empty:
        raise StudyError(
            f"{root}: {len(scans)} CT series and {len(annotations.reads)} annotated ones, but no outlined nodule lies "
            f"on a slice that is here ({series.counted(problems)}). Download whole series, and the annotations of "
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
        f"Left out or odd: {series.counted(problems)}.",
    ]
    rows = list(problems.itertuples(index=False, name=None))
    return slices, nodules, _outlines(annotations, slices), rows, notes


def _nodules(
    annotations: lidc_xml.Annotations, slices: pd.DataFrame, scans: pd.DataFrame
) -> tuple[pd.DataFrame, Problems]:
    """Each nodule of 3 mm or more on each slice where a reader enclosed a pixel of it; and what fits no slice.

    `readers` enclosed one on that slice, `readers_anywhere` on any. Slices are told by UID: positions are ambiguous.
    """
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
    """`series_uid, z_mm` of every outline of a nodule of 3 mm or more, also of one that encloses nothing.

    At its slice's position, or where the annotation puts it if the slice is not here.
    """
    rows = [
        (read.series_uid, contour.sop_uid, contour.z_mm)
        for read in annotations.reads
        for nodule in itertools.chain(*read.readers)
        if nodule.kind == "nodule"
        for contour in nodule.contours
    ]
    table = pd.DataFrame(rows, columns=["series_uid", "sop_uid", "z_mm"])
    table["z_mm"] = table["sop_uid"].map(slices.set_index("sop_uid")["z_mm"]).fillna(table["z_mm"])
    return table[["series_uid", "z_mm"]].drop_duplicates()


def _candidates(slices: pd.DataFrame, nodules: pd.DataFrame, outlines: pd.DataFrame, request: Request) -> pd.DataFrame:
    """As many negatives as positives of each patient: the cohort's columns but split, in the order to be taken.

    Positives by `round` (0: a nodule's largest slice), negatives in an order drawn from the seed and the image's name.
    """
    agreed = nodules[nodules["readers"] >= request.readers].sort_values(["area_px", "sop_uid"], ascending=[False, True])
    agreed["round"] = agreed.groupby(["series_uid", "nodule"]).cumcount()
    agreed["round"] = agreed.groupby("sop_uid")["round"].transform("min")
    largest = agreed.drop_duplicates("sop_uid").drop(columns="series_uid")
    slices = slices.merge(largest, on="sop_uid", how="left", validate="one_to_one")
    slices["label"] = slices["nodule"].notna().astype(int)
    slices["image_id"] = slices["patient_id"] + "-" + slices["sop_uid"].str.rsplit(".").str[-1].str[-8:]
    alike = slices["image_id"].duplicated(keep=False)  # as when UIDs end in the slice's number
    slices["image_id"] = slices["image_id"].mask(alike, slices["patient_id"] + "-" + slices["sop_uid"])
    pixel_mm = np.sqrt(slices["spacing_row_mm"] * slices["spacing_column_mm"])
    slices["diameter_mm"] = (slices["diameter_px"] * pixel_mm).round(2)
    slices["readers"] = slices["readers"].astype("Int64")
    outlined = dict(list(outlines.groupby("series_uid")["z_mm"]))
    kept = [slices.iloc[:0]]
    for series_uid, scan in slices.groupby("series_uid"):
        positive = scan["label"] == 1
        if positive.any():
            z = scan["z_mm"].to_numpy()
            from_outline = np.abs(np.subtract.outer(z, outlined[series_uid].to_numpy())).min(axis=1)
            from_positive = np.abs(np.subtract.outer(z, z[positive])).min(axis=1)
            kept.append(scan[positive | ((from_outline >= request.margin_mm) & (from_positive <= REACH_MM))])
    found = pd.concat(kept)
    found["draw"] = uniform(request.seed, found["image_id"].tolist(), "lidc sample")
    found = found.sort_values(["round", "draw"])
    # The n-th positive and the n-th negative of a patient are a pair, of the round of the positive.
    found["turn"] = found.groupby(["patient_id", "label"]).cumcount()
    pair = found.groupby(["patient_id", "turn"])
    paired = pair["label"].transform("nunique") == 2
    found[["round", "draw"]] = pair[["round", "draw"]].transform("min")
    return found[paired].sort_values(["round", "draw", "patient_id", "turn", "label"])


@register
class LidcIdri(Reader):
    """LIDC-IDRI as TCIA distributes it: DICOM series in patients' folders, and the radiologists' annotations."""

    name = "lidc-idri"
    help = f"a folder of LIDC-IDRI, with LIDC-IDRI-0001/ and so on in it; task {TASK}"
    recipe = lidc_xml.RECIPE
    tasks = (TASK,)

    def claims(self, data: str) -> bool:
        """Whether patients' folders are there or up to two folders below, or the annotations are there."""
        patterns = (ARCHIVE, "LIDC-IDRI*", "*/LIDC-IDRI*", "*/*/LIDC-IDRI*")
        return any(any(Path(data).glob(pattern)) for pattern in patterns)

    def open(self, request: Request) -> Cohort:
        """Lung mass on its slices; the module's text defines it.

        `path` is the slice's DICOM file. Attributes, empty for negatives where they are a nodule's: `readers` who
        outlined the nodule there, `diameter_mm` of the disc of its area (median over readers; the largest nodule of
        the slice), `malignancy` (1 to 5, median over readers), `z_mm`, `series_uid`, `sop_uid`.
        Raises StudyError if the folder holds nothing to study, or if a part would have no image.
        """
        seed, images, readers = request.seed, request.images, request.readers
        slices, nodules, outlines, problems, notes = _survey(request)
        candidates = _candidates(slices, nodules, outlines, request)
        patients = sorted(candidates["patient_id"].unique())
        distance = f"{request.margin_mm:g} to {REACH_MM:g} mm away"
        if len(patients) < 2:
            raise StudyError(
                f"{request.data}: {len(patients)} patient(s) with a nodule that {readers} readers outlined and a slice "
                f"{distance}; dev and test need one each. Add series, or lower readers or margin_mm."
            )
        order = [patients[i] for i in np.argsort(uniform(seed, patients, "lidc split"), kind="stable")]
        n_test = min(max(1, round(len(order) * images[1] / sum(images))), len(order) - 1)
        candidates["split"] = np.where(candidates["patient_id"].isin(order[:n_test]), "test", "dev")
        wanted = dict(zip(SPLITS, images, strict=True))
        chosen = [candidates[candidates["split"] == part].head(n // 2 * 2) for part, n in wanted.items()]
        table = check(pd.concat(chosen)[[*COLUMNS, *ATTRIBUTES]], origin=request.data)
        counts, few = table["split"].value_counts(), "{}: {:,} images of {:,} wanted; the scans hold no more."
        notes += [
            f"Positive: outlined by {readers} of 4 readers or more. Negative: {distance} from "
            "one, in the same scan. This definition is ours; the paper published none.",
            *(few.format(part, counts[part], n) for part, n in wanted.items() if counts[part] < n // 2 * 2),
            f"Split by patient with seed {seed}; no patient is in two parts.",
        ]
        return Cohort(table, "lidc", TASK, str(Path(request.data)), notes, problems)
