"""Every notebook, executed by papermill on a few phantoms; the numbers it wrote are worked out again here."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import documented
import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from small_images import film

from sourcematters import metrics, sources
from sourcematters.cohorts import dicom_tags
from sourcematters.runs import grids, guards, slurm
from sourcematters.runs.run_folder import Execution, Workspace
from sourcematters.study import execute, notebooks

SMALL = {
    "patients": "36",
    "smallest_test": "1",
    "ct.patients": "14",
    "sources": "[random, other]",
    "folds": "2",
    "p_art": "[0, 1]",
    "size": "32",
    "epochs": "6",
    "batch_size": "8",
    "tag.height": "500",
    "own.tag.height": "250",
    "workers": "1",
    "device": "cpu",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """`SMALL`, and the weights of the source called other: random ones, but not those of random."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    save_file({f"module.{name}": tensor for name, tensor in state.items()}, path)
    return SMALL | {"weights": f"{{other: {path}}}"}


@pytest.fixture(scope="module")
def study(tmp_path_factory, small):
    """All notebooks, run in order as ./run_all.sh runs them, with parameters that cost seconds."""
    plan = notebooks.plan("demo", small.items(), (), tmp_path_factory.mktemp("results"))
    assert [notebook.name[:2] for notebook in plan.notebooks] == [
        "00", "10", "11", "20", "21", "22", "23", "24", "25", "30", "31", "32",
    ]  # fmt: skip
    index = execute.run(plan)
    return plan.folder, index.read_text()


def cohort_of(folder, ct=False):
    tables = map(pd.read_csv, (folder.parent / "cohorts").glob("*.csv"))
    (table,) = (table for table in tables if ("series_uid" in table) == ct)
    return table


def predictions_of(folder, run_id):
    return pd.read_csv(folder.parent / "runs" / run_id / "predictions.csv")


DRAWN = "denoising, noise, noise_high_vs_low, small_tag, tag"
KEYS = ["task", "confounder", "source", "test_set", "p_art"]
GRIDS = {
    "tag": ["tag"],
    "denoising": ["denoising"],
    "noise_xray": ["noise", "noise_high_vs_low"],
    "noise_ct": ["noise", "noise_high_vs_low"],
    "gender": ["gender"],
    "small_tag": ["small_tag"],
}


@pytest.mark.parametrize("stem", GRIDS)
def test_tables_hold_the_auc_of_every_run_and_test_set(study, stem):
    folder, _ = study
    table = pd.read_csv(folder / "tables" / f"{stem}.csv")
    assert sorted(table["confounder"].unique()) == sorted(GRIDS[stem])
    assert len(table) == len(GRIDS[stem]) * 2 * 2 * 2 * 3, "confounders x sources x strengths x folds x test sets"
    for row in table.itertuples():
        part = predictions_of(folder, row.run_id).query("test_set == @row.test_set")
        assert (row.n, row.auc) == (len(part), pytest.approx(roc_auc_score(part["label"], part["score"])))


def test_the_dry_run_foretold_every_run(study, small):
    folder, _ = study
    plan = notebooks.plan("demo", small.items(), (), folder.parent)
    stems = {"20_tag": "tag", "25_any_confounder": "small_tag"}
    for notebook in plan.notebooks:
        if specs := notebooks.outline(plan, notebook):
            # The name of the data, and what to say of it, are known when it is opened; the label is the table's.
            # How many carry, and what is seen of it, too.
            unknown = ["run_id", "data", "caution", "confounder", *guards.COLUMNS]
            foretold = grids.plan_table(specs).drop(columns=unknown)
            stem = stems.get(notebook.name, notebook.name[3:])
            made = pd.read_csv(folder / "plans" / f"{stem}.csv").drop(columns=unknown)
            pd.testing.assert_frame_equal(foretold, made)


@pytest.mark.parametrize("stem", GRIDS)
def test_figures_show_mean_and_interval_over_folds_and_patients(study, stem):
    folder, _ = study
    table = pd.read_csv(folder / "tables" / f"{stem}.csv")
    summary = pd.read_csv(
        folder / "figures" / f"{stem}.csv", keep_default_na=False, na_values={"ci_low": "", "ci_high": ""}
    )
    for row in summary.itertuples():
        runs = table[(table[KEYS] == [getattr(row, key) for key in KEYS]).all(axis=1)]
        tests = [predictions_of(folder, run_id).query(f"test_set == {row.test_set!r}") for run_id in runs["run_id"]]
        parts = [metrics.patient_parts(test) for test in tests]
        stacked = (np.array([part[of] for part in parts]) for of in ("positive", "negative"))
        found = metrics.estimate(runs["auc"].to_numpy(), *stacked)
        assert (row.folds, row.mean, row.problem) == (2, pytest.approx(runs["auc"].mean()), found.problem)
        assert [row.ci_low, row.ci_high] == pytest.approx(found.interval_of_auc, nan_ok=True)
        assert found.problem or 0 < row.ci_low < row.mean < row.ci_high < 1
    for suffix in (".png", ".pdf", ".svg"):
        assert (folder / "figures" / f"{stem}{suffix}").stat().st_size > 5000


def test_carriers_in_the_tests_are_what_the_design_says(study):
    folder, _ = study
    for stem, names in GRIDS.items():
        cohort = cohort_of(folder, ct=stem == "noise_ct").set_index("image_id")
        table = pd.read_csv(folder / "tables" / f"{stem}.csv").drop_duplicates("run_id")
        for run in table.itertuples():
            predictions = predictions_of(folder, run.run_id)
            assert (cohort.loc[predictions["image_id"], "split"] == "test").all()
            shares = predictions.groupby(["test_set", "label"])["carries"].mean().unstack()
            assert shares.loc["iid"].tolist() == [0, run.p_art]
            assert shares.loc["ood"].tolist() == [1, 0] and shares.loc["clean"].tolist() == [0, 0]
            if names == ["gender"]:
                female = cohort.loc[predictions["image_id"], "sex"].to_numpy() == "F"
                assert (female == (predictions["carries"] == 1)).all()


def test_a_tag_that_fills_a_quarter_of_the_image_is_read_instead_of_the_lesion(study):
    folder, _ = study
    table = pd.read_csv(folder / "tables" / "tag.csv").query("source == 'random'")
    mean = table.groupby(["test_set", "p_art"])["auc"].mean()
    assert mean["iid", 1.0] > 0.95 and mean["ood", 1.0] < 0.1
    assert mean["iid", 0.0] == mean["clean", 0.0]


def test_the_figures_notebook_gathers_all_of_it(study):
    folder, _ = study
    every = pd.concat([pd.read_csv(folder / "tables" / f"{stem}.csv") for stem in sorted(GRIDS)])
    gathered = pd.read_csv(folder / "tables" / "all_runs.csv")
    keys = ["run_id", "test_set"]
    pd.testing.assert_frame_equal(
        gathered.sort_values(keys).reset_index(drop=True), every.sort_values(keys).reset_index(drop=True)
    )
    assert set(pd.read_csv(folder / "figures" / "fig3.csv")["confounder"]) == {"tag", "denoising", "gender"}
    assert set(pd.read_csv(folder / "figures" / "overview.csv")["confounder"]) == {*sum(GRIDS.values(), [])}
    panels = pd.read_csv(folder / "figures" / "fig4.csv")[["task", "confounder"]].drop_duplicates()
    assert sorted(panels.itertuples(index=False, name=None)) == [
        (task, design) for task in ("lesion", "lung-mass-ct") for design in ("noise", "noise_high_vs_low")
    ]
    of_source = pd.read_csv(folder / "tables" / "by_source.csv").set_index(["task", "confounder", "source"])
    mean = every.groupby(KEYS)["auc"].mean()
    assert len(of_source) == 8 * 2
    for names, row in of_source.iterrows():
        assert row["reliance"] == pytest.approx(mean[(*names, "ood", 0.0)] - mean[(*names, "ood", 1.0)])
        assert row["shift"] == pytest.approx(mean[(*names, "ood", 0.0)] - mean[(*names, "clean", 0.0)])
        assert row["clean"] == pytest.approx(mean[(*names, "clean", 0.0)])


def test_table_1_counts_the_images_that_the_runs_used(study):
    folder, _ = study
    # Counts as text: those that differ between the folds of a small cohort are a range.
    table = pd.read_csv(folder / "tables" / "table1.csv", dtype=str).set_index("confounders")
    cohort = cohort_of(folder)
    drawn = table.loc[DRAWN]
    counted = cohort.groupby(["split", "label"]).size()
    for name, split in (("train_val", "dev"), ("test", "test")):
        assert (drawn[f"{name}_negatives"], drawn[f"{name}_positives"]) == tuple(counted[split].astype(str))
    assert int(drawn["patients"]) == cohort["patient_id"].nunique() == 36
    runs = pd.read_csv(folder / "tables" / "gender.csv")["run_id"]
    sizes = {predictions_of(folder, run).groupby("test_set").size()["ood"] for run in runs}
    assert sizes == {int(table.loc["gender", "test"])} and max(sizes) < int(drawn["test"])
    assert len(table) == 3 and (table["size"] == "32").all() and table["paper_test"].isna().all()
    ct = cohort_of(folder, ct=True)
    assert int(table.loc["noise, noise_high_vs_low", "test"]) == (ct["split"] == "test").sum()


def test_statistics_compare_the_two_sources(study):
    folder, _ = study
    every = pd.read_csv(folder / "tables" / "all_runs.csv").query("test_set == 'ood'")
    runs = every.set_index(["task", "confounder", "p_art", "source", "fold"])
    tests = pd.read_csv(folder / "tables" / "tests.csv")
    assert len(tests) == 8 * 2, "panels x strengths"
    for row in tests.itertuples():
        of = (row.task, row.confounder, row.p_art)
        a, b = ([runs.loc[(*of, source, fold), "auc"] for fold in (0, 1)] for source in ("random", "other"))
        # Four values, dealt two and two: three different splits, each with its mirror image.
        splits = [abs(a[0] + x - y - z) for x, y, z in ((a[1], *b), (b[0], a[1], b[1]), (b[1], a[1], b[0]))]
        reached = sum(split >= splits[0] - 1e-9 for split in splits)
        assert (row.a, row.b, row.p, row.floor) == ("random", "other", pytest.approx(reached / 3), pytest.approx(1 / 3))
        assert row.family_size == 16 and row.p_holm == 1 == row.floor_holm
        assert row.difference == pytest.approx((sum(a) - sum(b)) / 2)
    primary = pd.read_csv(folder / "tables" / "primary.csv")
    assert len(primary) == 8 and set(primary["a"] + primary["b"]) == {"randomother"}
    for row in primary.itertuples():
        lost = {
            (source, fold): -np.subtract(
                *[runs.loc[(row.task, row.confounder, p, source, fold), "auc"] for p in (1, 0)]
            )
            for source in ("random", "other")
            for fold in (0, 1)
        }
        apart = [lost["random", fold] - lost["other", fold] for fold in (0, 1)]
        assert row.difference == pytest.approx(np.mean(apart)) and row.folds == 2
        if np.isfinite(row.p):
            assert row.fold_variance == pytest.approx(np.var(apart, ddof=1) / 2)
            assert row.ci_low < row.difference < row.ci_high and row.p <= row.p_holm
        else:
            assert "nothing to measure by" in row.problem


def test_against_the_paper_says_that_it_means_nothing(study):
    folder, _ = study
    table = pd.read_csv(folder / "tables" / "against_the_paper.csv")
    # Only random has a published curve: six panels, two strengths, i.i.d. in three of them.
    assert len(table) == (6 + 3) * 2 and set(table["source"]) == {"random"} and not table["comparable"].any()
    every = pd.read_csv(folder / "tables" / "all_runs.csv").query("source == 'random'")
    mean = every.groupby(["task", "confounder", "test_set", "p_art"])["auc_keras"].mean()
    for row in table.itertuples():
        assert row.ours == pytest.approx(mean[row.task, row.confounder, row.test_set, row.p_art])
        assert row.difference == pytest.approx(row.ours - row.published)
    tag = table.query("panel == 'tag' and test_set == 'ood' and p_art == 1").iloc[0]
    assert tag["published"] == 0.69
    executed = json.loads((folder / "notebooks" / "32_against_the_paper.ipynb").read_text())
    text = "".join("".join(o.get("text", [])) for cell in executed["cells"] for o in cell.get("outputs", []))
    assert "This comparison means nothing: data ct-phantoms, not lidc; data phantoms, not cxr14" in text
    assert "No panel has the paper's data and task, so none is drawn." in text
    assert not (folder / "figures" / "against_the_paper.png").exists()


def test_preparation_counts_the_cohort(study):
    folder, _ = study
    cohort = cohort_of(folder)
    executed = json.loads((folder / "notebooks" / "10_prepare_nih_cxr14.ipynb").read_text())
    outputs = [output for cell in executed["cells"] for output in cell.get("outputs", [])]
    text = "".join("".join(output.get("text", [])) for output in outputs)
    assert f"No problems: all {len(cohort)} images were opened." in text
    counts = pd.read_csv(folder / "tables" / "cohort_counts.csv")
    assert counts.set_index("group").loc["images", "all"] == len(cohort)
    assert pd.read_csv(folder / "tables" / "cohort_problems.csv").empty


def test_the_preparation_of_ct_says_what_it_found_and_left_out(study):
    folder, _ = study
    cohort = cohort_of(folder, ct=True)
    executed = json.loads((folder / "notebooks" / "11_prepare_lidc_idri.ipynb").read_text())
    outputs = [output for cell in executed["cells"] for output in cell.get("outputs", [])]
    text = "".join("".join(output.get("text", [])) for output in outputs)
    assert "14 patients, 14 CT series, 336 slices" in text and "14 CT reads" in text
    assert f"No problems: all {len(cohort)} images were opened." in text
    assert (cohort["label"].mean(), cohort.groupby("patient_id")["split"].nunique().max()) == (0.5, 1)
    left_out = pd.read_csv(folder / "tables" / "ct_left_out.csv")
    assert "not CT: CR" in set(left_out["kind"])
    noise = pd.read_csv(folder / "figures" / "noise_domains.csv").drop_duplicates("domain").set_index("domain")
    # White noise has uncorrelated neighbours; back-projection correlates them.
    assert abs(noise.loc["hounsfield", "neighbour_autocorrelation"]) < 0.05
    assert noise.loc["projection", "neighbour_autocorrelation"] > 0.08


def test_the_walkthrough_shows_every_artefact(study):
    folder, _ = study
    table = pd.read_csv(folder / "figures" / "fig2_artefacts.csv").set_index("confounder")
    assert list(table.index) == ["tag", "denoising", "noise", "noise_high_vs_low"]
    # The tag changes only pixels under its glyph; filter and noise act everywhere.
    assert 0 < table.loc["tag", "changed_pixels"] <= table.loc["tag", "masked_pixels"] < 256 * 256 / 4
    assert (table.loc[["denoising", "noise"], "masked_pixels"] == 256 * 256).all()
    assert 1e5 < (folder / "explorer.html").stat().st_size < 1.5e6
    executed = (folder / "notebooks" / "00_walkthrough.ipynb").read_text()
    assert "../explorer.html" in executed and "widget-view" not in executed, "a page shows no widget without a kernel"


def test_the_page_shows_the_figures_and_says_what_they_are(study):
    folder, page = study
    assert "phantoms, not patients" in page
    for name in ("fig1_miccat", "fig2_artefacts", "fig3", "fig4", "noise_domains", "forest", "calibration"):
        assert f"figures/{name}.png" in page
    for notebook in (folder / "notebooks").glob("*.ipynb"):
        assert f"notebooks/{notebook.stem}.html" in page
        shown = notebook.with_suffix(".html").read_text()
        assert "No description has been" not in shown and "A picture without a description" not in shown


def test_every_column_of_every_table_is_documented_and_no_other(study, tmp_path, monkeypatch):
    folder, _ = study
    tables = documented.written(folder.parent)
    # What this study has no occasion to write: stand-ins, jobs, DICOM files.
    tables["tables/sources.csv"] |= set(sources.resolve("natural-standin", "test_resnet").card)
    tables["figures/against_the_paper.csv"] = tables["tables/against_the_paper.csv"]  # drawn where it means something
    monkeypatch.setattr(slurm, "_executor", lambda *_: SimpleNamespace(submit_array=list))
    slurm._submit([], Workspace(str(tmp_path / "demo")), Execution(), "jobs", slurm.Slurm())
    dicom_tags.read([str(film(tmp_path / "a.dcm"))], tmp_path / "phantoms")
    tables |= documented.written(tmp_path)
    elsewhere = "audit" if any(name.startswith("where/") for name in tables) else "audit|where"
    assert documented.flaws(tables, lambda name: name in tables or not re.search(elsewhere, name)) == []


def test_a_second_call_trains_nothing_and_changes_no_table(study, small):
    folder, _ = study
    runs = folder.parent / "runs"
    before = {
        path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file() and ".locks" not in path.parts
    }
    tables = {path: path.read_bytes() for path in folder.rglob("*.csv")}
    execute.run(notebooks.plan("demo", small.items(), ["20", "23", "30"], folder.parent))
    after = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file() and ".locks" not in path.parts}
    assert after == before and tables == {path: path.read_bytes() for path in folder.rglob("*.csv")}


def test_a_study_with_a_label_has_names_of_its_own_and_shares_the_networks_without_confounder(study):
    folder, _ = study
    small_tag = pd.read_csv(folder / "tables" / "small_tag.csv")
    tag = pd.read_csv(folder / "tables" / "tag.csv")
    assert set(small_tag["confounder"]) == {"small_tag"} and not set(small_tag["run_id"]) & set(tag["run_id"])
    fits = [
        {json.loads((folder.parent / "runs" / run_id / "spec.json").read_text())["fit"] for run_id in runs}
        for runs in (part.query("p_art == 0")["run_id"] for part in (small_tag, tag))
    ]
    assert fits[0] == fits[1] and len(fits[0]) == 4, "sources x folds"


PLAIN_PAPERMILL = ["00_walkthrough", "20_tag"]


@pytest.mark.parametrize("name", PLAIN_PAPERMILL)
def test_papermill_alone_takes_a_profile_file(study, small, name, tmp_path):
    folder, _ = study
    values = {"profile": "demo", "results": str(folder)}
    changes = notebooks.plan("demo", small.items(), (), folder.parent).parameters
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changes | values))
    path = notebooks.selected(notebooks.notebooks(), [name])[0].path
    before = {path: path.read_bytes() for path in folder.rglob("*.csv")}
    papermill = [sys.executable, "-P", "-m", "papermill", path, tmp_path / "out.ipynb", "-f", tmp_path / "mine.yaml"]
    subprocess.run([*papermill, "--no-progress-bar"], check=True, capture_output=True)
    assert before == {path: path.read_bytes() for path in folder.rglob("*.csv")}
