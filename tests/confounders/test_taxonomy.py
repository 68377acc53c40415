"""The taxonomy is the paper's Fig. 1, and every confounder of the package hangs on it."""

import pytest

from sourcematters import confounders
from sourcematters.confounders import taxonomy
from sourcematters.errors import StudyError


def test_levels_and_branches_are_those_of_the_paper():
    table = taxonomy.as_table()
    assert list(table.columns) == ["level", "branch", "leaf", "tested"]
    assert set(table[["level", "branch"]].itertuples(index=False, name=None)) == {
        ("patient level", "demographic"),
        ("patient level", "anatomical"),
        ("environment level", "external"),
        ("environment level", "imaging"),
    }


def test_leaf_names_are_unique():
    assert len(set(taxonomy.leaves())) == len(taxonomy.leaves())


def test_the_four_tested_leaves_hang_where_the_paper_puts_them():
    assert {taxonomy.path(leaf) for leaf in taxonomy.tested()} == {
        ("environment level", "external", "tag"),
        ("environment level", "imaging", "denoising"),
        ("environment level", "imaging", "noise"),
        ("patient level", "demographic", "gender"),
    }


def test_every_tested_leaf_is_implemented():
    assert set(confounders.IMPLEMENTED) == set(taxonomy.tested())
    assert confounders.IMPLEMENTED["noise"] == ("noise", "noise_high_vs_low")


def test_unknown_leaf_is_refused_with_the_known_ones():
    with pytest.raises(StudyError, match="'ruler' is not a leaf.*medical device"):
        taxonomy.path("ruler")
