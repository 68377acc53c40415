"""The taxonomy is the paper's Fig. 1, and every confounder of the package hangs on it."""

from sourcematters import confounders
from sourcematters.confounders import taxonomy


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
    table = taxonomy.as_table()
    assert set(table.loc[table["tested"], ["branch", "leaf"]].itertuples(index=False, name=None)) == {
        ("external", "tag"),
        ("imaging", "denoising"),
        ("imaging", "noise"),
        ("demographic", "gender"),
    }


def test_every_tested_leaf_is_implemented():
    implemented = confounders.implemented()
    assert set(taxonomy.TESTED) <= set(implemented)
    assert implemented["noise"][:2] == ["noise", "noise_high_vs_low"]
