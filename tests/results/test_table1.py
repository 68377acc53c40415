"""Table 1 counts what the runs used: the paper's own numbers come out of cohorts made like the paper's."""

import pandas as pd
import pytest

from sourcematters import checksums, confounders, files
from sourcematters.cohorts import paper_tasks
from sourcematters.errors import StudyError
from sourcematters.results import published, table1
from sourcematters.runs import grids, specs
from sourcematters.runs.run_folder import Workspace
from sourcematters.sources import resolve
from sourcematters.training.recipe import Training


def cohort(*groups) -> pd.DataFrame:
    """`groups`: (images, split, label, sex); each image is another patient's."""
    drawn = [group[1:] for group in groups for _ in range(group[0])]
    table = pd.DataFrame(drawn, columns=["split", "label", "sex"])
    names = [f"{k:05d}" for k in range(len(table))]
    return table.assign(image_id=names, patient_id=names, path=names)


LUNG_MASS = cohort((180, "dev", 0, "F"), (68, "dev", 1, "M"), (52, "test", 0, "M"), (31, "test", 1, "F"))
GENDER = cohort(
    (200, "dev", 1, "M"), (200, "dev", 1, "F"), (200, "dev", 0, "M"), (200, "test", 1, "M"), (200, "test", 0, "F")
)  # fmt: skip


@pytest.fixture
def workspace(tmp_path):
    return Workspace(str(tmp_path / "made"))


def results(workspace, table, drawn, *, data="cxr14", task="lung-mass", p_art=(0, 0.5, 1), folds=2, **settings):
    """The results table of a grid of which nothing but specs and cohort is there: no network was trained."""
    digest = f"{data}-{task}"
    checksums.write_csv(workspace.shared("cohorts") / f"{digest}.csv", table)
    made = specs.grid(
        data=data, task=task, cohort=digest, confounders=drawn, p_art=p_art, folds=folds, backbone="test_resnet",
        sources=[resolve("random", "test_resnet", folder=workspace.shared("sources"))], training=Training(**settings),
    )  # fmt: skip
    for spec in made:
        files.write_json(workspace.run(spec) / "spec.json", {"id": spec.id, **spec.to_dict()})
    return grids.plan_table(made)


def test_cohorts_made_like_the_papers_give_the_papers_table(workspace):
    drawn = [confounders.Tag(), confounders.Denoising(), confounders.Noise()]
    runs = [
        results(workspace, LUNG_MASS, drawn, folds=5),
        results(workspace, GENDER, [confounders.Gender()], task="atelectasis-gender", size=256, batch_size=64),
    ]
    lung, gender = table1.summarise(pd.concat(runs), workspace).to_dict("records")
    # 331 images with 99 masses, 83 of the images in the test; all of them are used.
    assert [lung[column] for column in table1.COUNTS] == [248, 68, 180, 83, 31, 52, 331]
    # Of 600 images for training a run takes 200 positives and 200 negatives, at every strength.
    assert [gender[column] for column in table1.COUNTS] == [400, 200, 200, 400, 200, 200, 800]
    for ours in (lung, gender):
        for column in ("confounders", "train_val", "test", "size", "batch_size"):
            assert ours[column] == ours[f"paper_{column}"]
        assert ours["paper_recalled"] == "size, batch_size" and ours["strengths"] == "0, 0.5, 1"
    assert (lung["folds"], gender["folds"]) == (5, 2)


def test_a_sampled_confounder_has_a_row_of_its_own_where_its_sets_are_smaller(workspace):
    # Of men without the disease there are 20 for training: no such set can have more of a class. None of them is in the
    # o.o.d. test, of 12 men with it and 12 women without.
    table = cohort(
        *[(40, "dev", 1, "F"), (40, "dev", 1, "M"), (40, "dev", 0, "F"), (20, "dev", 0, "M")],
        *[(12, "test", 1, "F"), (12, "test", 1, "M"), (12, "test", 0, "F"), (8, "test", 0, "M")],
    )
    runs = results(workspace, table, [confounders.Tag(), confounders.Gender(), confounders.Noise()], task="Mass")
    first, second = table1.summarise(runs, workspace).to_dict("records")
    assert first["confounders"] == "tag, noise" and second["confounders"] == "gender"
    assert [first[column] for column in table1.COUNTS] == [140, 80, 60, 44, 24, 20, 184]
    assert [second[column] for column in table1.COUNTS[:6]] == [40, 20, 20, 24, 12, 12]
    # 40 for training; 12 + 12 in the o.o.d. test, 8 more men in the clean test, and up to 8 women with the disease in
    # the i.i.d. test.
    assert second["patients"] == "72 to 80"
    assert pd.isna(first["paper_test"]) and pd.isna(second["paper_recalled"])


def test_counts_that_differ_between_folds_are_given_as_a_range(workspace):
    table = cohort((6, "dev", 0, "F"), (6, "dev", 1, "F"), (2, "test", 0, "F"), (2, "test", 1, "F"))
    parts = ["train", "train", "train", "train", "val", "val"] * 2 + ["test"] * 4
    table = table.assign(fold_0=parts, fold_1=[None, *parts[1:]])
    runs = results(workspace, table, [confounders.Tag()], task="own")
    (row,) = table1.summarise(runs, workspace).to_dict("records")
    assert [row[c] for c in table1.COUNTS] == ["11 to 12", 6, "5 to 6", 4, 2, 2, "15 to 16"]


def test_other_settings_are_another_row(workspace):
    runs = [
        results(workspace, LUNG_MASS, [confounders.Tag()], size=64),
        results(workspace, LUNG_MASS, [confounders.Noise()], size=96, p_art=[0, 1]),
    ]
    table = table1.summarise(pd.concat(runs), workspace)
    assert table[["confounders", "size", "strengths"]].to_numpy().tolist() == [
        ["tag", 64, "0, 0.5, 1"],
        ["noise", 96, "0, 1"],
    ]


def test_patients_are_counted_once(workspace):
    table = LUNG_MASS.assign(patient_id=[f"p{k // 2}" for k in range(248)] + [f"q{k}" for k in range(83)])
    (row,) = table1.summarise(results(workspace, table, [confounders.Tag()]), workspace).to_dict("records")
    assert (row["train_val"], row["patients"]) == (248, 124 + 83)


def test_the_papers_targets_are_those_of_its_panels():
    targets = published.table("table1").set_index(["data", "task"])
    for panel in published.table("panels").itertuples():
        target = targets.loc[panel.data, panel.task]
        assert panel.confounder in target["confounders"].split(", ")
    ct = targets.loc["lidc", "lung-mass-ct"].tolist()
    assert ct == ["noise, noise_high_vs_low", 1710, 500, 362, 32, "train_val, test, size, batch_size"]


def test_what_is_not_there_is_named(workspace):
    runs = results(workspace, LUNG_MASS, [confounders.Tag()])
    (workspace.shared("cohorts") / "cxr14-lung-mass.csv").unlink()
    with pytest.raises(StudyError, match=r"cohorts/cxr14-lung-mass\.csv: is not there"):
        table1.summarise(runs, workspace)
    with pytest.raises(StudyError, match="the table has no row"):
        table1.summarise(runs.iloc[:0], workspace)


def test_the_published_split_files_give_the_published_table(workspace, shared_data):
    splits, runs = shared_data / "published-splits" / "chest14", []
    for task, drawn in (("lung-mass", confounders.Tag()), ("atelectasis-gender", confounders.Gender())):
        table = paper_tasks.listed(shared_data / "nih-cxr14", task=task, splits=splits).table
        runs.append(results(workspace, table, [drawn], task=task))
    table = table1.summarise(pd.concat(runs), workspace)
    assert table[["train_val", "test"]].to_numpy().tolist() == [[248, 83], [400, 400]]
    assert table[["paper_train_val", "paper_test"]].to_numpy().tolist() == [[248, 83], [400, 400]]
    assert table[["test_negatives", "test_positives"]].to_numpy().tolist() == [[52, 31], [200, 200]]
