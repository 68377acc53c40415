"""MICCAT, the Medical Imaging Contextualized Confounder Taxonomy, as data.

Source: Juodelyte et al. 2024, Fig. 1 (https://arxiv.org/abs/2403.04484). The two levels, the four branches
and the four tested instances are the paper's; the other leaves are examples in the field's own words. Which
confounder of this package acts on a leaf is told by `confounders.IMPLEMENTED`.
"""

from dataclasses import asdict, dataclass

import pandas as pd

from sourcematters.errors import StudyError


@dataclass(frozen=True)
class Leaf:
    """A kind of confounder: where it hangs, and whether the paper tested it."""

    level: str
    branch: str
    name: str
    tested: bool = False


PATIENT, ENVIRONMENT = "patient level", "environment level"

MICCAT: tuple[Leaf, ...] = (
    Leaf(PATIENT, "demographic", "age"),
    Leaf(PATIENT, "demographic", "gender", tested=True),
    Leaf(PATIENT, "demographic", "ethnicity"),
    Leaf(PATIENT, "demographic", "socioeconomic status"),
    Leaf(PATIENT, "anatomical", "organ size"),
    Leaf(PATIENT, "anatomical", "body composition"),
    Leaf(PATIENT, "anatomical", "anatomical variant"),
    Leaf(PATIENT, "anatomical", "comorbidity"),
    Leaf(ENVIRONMENT, "external", "tag", tested=True),
    Leaf(ENVIRONMENT, "external", "medical device"),
    Leaf(ENVIRONMENT, "external", "annotation"),
    Leaf(ENVIRONMENT, "external", "patient positioning"),
    Leaf(ENVIRONMENT, "imaging", "noise", tested=True),
    Leaf(ENVIRONMENT, "imaging", "denoising", tested=True),
    Leaf(ENVIRONMENT, "imaging", "motion"),
    Leaf(ENVIRONMENT, "imaging", "contrast"),
    Leaf(ENVIRONMENT, "imaging", "resolution"),
)


def leaves() -> tuple[str, ...]:
    """The names of all leaves, in the taxonomy's order."""
    return tuple(leaf.name for leaf in MICCAT)


def path(name: str) -> tuple[str, str, str]:
    """Level, branch and name of a leaf, from the root down. Raises StudyError for an unknown leaf."""
    for leaf in MICCAT:
        if leaf.name == name:
            return leaf.level, leaf.branch, leaf.name
    raise StudyError(f"{name!r} is not a leaf of MICCAT. Its leaves are: {', '.join(leaves())}.")


def tested() -> tuple[str, ...]:
    """The leaves of which the paper tests an instance."""
    return tuple(leaf.name for leaf in MICCAT if leaf.tested)


def as_table() -> pd.DataFrame:
    """One row a leaf: `level, branch, leaf, tested`."""
    return pd.DataFrame([asdict(leaf) for leaf in MICCAT]).rename(columns={"name": "leaf"})
