"""MICCAT, the Medical Imaging Contextualized Confounder Taxonomy, as data.

Source: Juodelyte et al. 2024, Fig. 1 (https://arxiv.org/abs/2403.04484). The levels, the branches and the tested leaves
are the paper's; the other leaves are examples in the field's own words.
"""

import pandas as pd

PATIENT, ENVIRONMENT = "patient level", "environment level"

# Level and branch -> the leaves on it.
MICCAT = {
    (PATIENT, "demographic"): ("age", "gender", "ethnicity", "socioeconomic status"),
    (PATIENT, "anatomical"): ("organ size", "body composition", "anatomical variant", "comorbidity"),
    (ENVIRONMENT, "external"): ("tag", "medical device", "annotation", "patient positioning"),
    (ENVIRONMENT, "imaging"): ("noise", "denoising", "motion", "contrast", "resolution"),
}
TESTED = ("gender", "tag", "noise", "denoising")  # by the paper


def leaves() -> tuple[str, ...]:
    """The names of all leaves, in the taxonomy's order."""
    return tuple(leaf for branch in MICCAT.values() for leaf in branch)


def as_table() -> pd.DataFrame:
    """One row a leaf: `level, branch, leaf, tested`."""
    rows = [(*branch, leaf, leaf in TESTED) for branch, names in MICCAT.items() for leaf in names]
    return pd.DataFrame(rows, columns=["level", "branch", "leaf", "tested"])
