"""What is wrong is said before the first run, all of it at once, and nothing is made."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import write_slice
from tiny_runs import make_cohort
from tiny_study import PROFILE, write_notebook, write_profile

from sourcematters.cohorts import tables
from sourcematters.demo.ct_phantoms import uid
from sourcematters.errors import StudyError
from sourcematters.runs import grids
from sourcematters.runs.run_folder import Workspace
from sourcematters.study import checks, notebooks
from sourcematters.study.study import Study
from sourcematters.training import image_bank, trials


@pytest.fixture
def study_of(root, tmp_path):
    """A clone whose notebooks run the tag and gender on a tiny cohort, and gather all of it; gives its folder."""
    images = tmp_path / "images"
    images.mkdir()
    tables.write_csv(tmp_path / "cohort.csv", make_cohort(images).table)
    write_profile(root, PROFILE.format(data=tmp_path / "cohort.csv"))
    (root / "notebooks" / "21_noise.ipynb").unlink()
    write_notebook(root, "10_prepare", "study.verify()\nstudy.contact_sheet()\nstudy.prepare_sources()")
    write_notebook(root, "20_tag", 'study.show("tag")\nstudy.design("tag")\nstudy.run("tag")')
    write_notebook(root, "24_gender", 'study.show("gender")\nruns = study.run("gender")')
    write_notebook(root, "30_figures", "runs = study.collected()")
    (tmp_path / "page.pt").write_text("<!DOCTYPE html><html>Please log in</html>")
    (tmp_path / "a file").write_text("")
    return tmp_path


@pytest.fixture
def here(monkeypatch):
    """Networks are tried in this process, which has torch already."""

    @contextlib.contextmanager
    def begun(asked):
        yield lambda: [(number, sentence) for number, one in enumerate(asked) for sentence in trials._one(one)]

    monkeypatch.setattr(trials, "begun", begun)


def made(folder):
    """Runs, banks and weights below a results folder."""
    return [path for name in ("runs", "bank", "sources") for path in folder.rglob(f"{name}/*")]


BAD = {
    "nine sources": (
        ["-p", "sources", "[a, b, c, d, e, f, g, h, random]"],
        ["20_tag, 24_gender, 30_figures: a figure cannot tell 9 sources apart"],
    ),
    "a column that is not there": (
        ["-p", "gender.attribute", "sexx"],
        ["24_gender: the cohort has no attribute 'sexx'. It has: sex. Did you mean sex?"],
    ),
    "a value that is not there": (
        ["-p", "gender.value", "female"],
        ["24_gender: gender: sex is 'female' in none of the 64 images. It is 'F' (32), 'M' (32). Did you mean F?"],
    ),
    "weights that are a web page": (
        ["-p", "sources", "[mine, random]", "-p", "weights", "{{mine: {folder}/page.pt}}"],
        ["10_prepare, 20_tag, 24_gender: {folder}/page.pt: is a web page, no checkpoint"],
    ),
    "weights that are not there": (
        ["-p", "sources", "[mine]", "-p", "weights", "{{mine: {folder}/none.pt}}"],
        ["10_prepare, 20_tag, 24_gender: weights of source 'mine': {folder}/none.pt does not exist"],
    ),
    "an unknown source": (["-p", "sources", "[imagnet]"], ["unknown source `imagnet`. Did you mean imagenet?"]),
    "an unknown backbone": (["-p", "backbone", "resnet5"], ["timm has no backbone 'resnet5'"]),
    "a size too small for the backbone": (
        ["-p", "backbone", "inception_v3"],
        ["backbone 'inception_v3' cannot take images of 32 px", "Sizes that it takes: 96, "],
    ),
    "a crop larger than the images": (["-p", "crop", "65"], ["64 x 64 px (width x height) are too few for crop 65"]),
    "a tag that does not fit": (["-p", "tag.x", "1020"], ["20_tag: ", ": tag: 'R' would span columns 64 to "]),
    "more folds than patients": (["-p", "folds", "30"], ["there must be more patients than folds"]),
    "a test part too small to count": (
        ["-p", "smallest_test", "9"],
        ["20_tag: tag: the o.o.d. test has 8 positive and 8 negative images; smallest_test asks for 9 of each"],
    ),
    "a device that is not here": (["-p", "device", "warp"], ["20_tag, 24_gender: device 'warp' is not usable here"]),
    "tf32 on a processor": (
        ["-p", "precision", "tf32"],
        ["20_tag, 24_gender: precision tf32: the device cpu has no TF32"],
    ),
    "recompute of a compiled network": (
        ["-p", "recompute", "true", "-p", "compiled", "true"],
        ["20_tag, 24_gender: recompute and compiled exclude each other"],
    ),
    "an unknown option of sbatch": (
        ["--executor", "slurm", "-p", "slurm", "{{partion: gpu}}"],
        ["20_tag, 24_gender: executor slurm: "],
    ),
    "the state of the art of another task": (
        ["-p", "state_of_the_art", "{{brightnes: 0.9}}"],
        ["30_figures: state_of_the_art: unknown task `brightnes`. Did you mean brightness?"],
    ),
    "a reference that is no source": (
        ["-p", "reference", "imagenet"],
        ["30_figures: reference = 'imagenet' is not one of the sources: random."],
    ),
    "data that is not there": (
        ["-p", "data", "{folder}/none.csv"],
        ["10_prepare, 20_tag, 24_gender: {folder}/none.csv: there is no such table"],
    ),
    "a results folder below a file": (
        ["--results", "{folder}/a file"],
        ["error: {folder}/a file", "Something else stands where the study writes"],
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_wrong_is_said_before_anything_is_made(command, study_of, root, bad, here):
    arguments, sentences = BAD[bad]
    code, out, err = command("run", *(argument.format(folder=study_of) for argument in arguments))
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ") and "Traceback" not in err
    for sentence in sentences:
        assert sentence.format(folder=study_of) in err
    assert made(root / "results") == []


def test_everything_is_said_at_once(command, study_of, root):
    changes = {"sources": "[mine, random]", "weights": f"{{mine: {study_of}/page.pt}}", "gender.attribute": "sexx"}
    changes |= {"crop": "65", "device": "warp", "reference": "imagenet", "tag.x": "1020", "recompute": "true"}
    given = [text for name, value in (changes | {"compiled": "true"}).items() for text in ("-p", name, value)]
    code, _, err = command("run", *given)
    assert code == 2 and err.startswith("error: 7 things are to be mended first; nothing was run.\n")
    for words in ("page.pt", "sexx", "crop 65", "warp", "reference", "columns 64", "compiled"):
        assert sum(words in line for line in err.splitlines()) == 1, (words, err)


def test_a_study_with_nothing_wrong_is_let_through(study_of):
    notebooks.check(notebooks.plan("demo"))


def test_notebooks_that_are_not_asked_for_are_not_looked_at(command, study_of, here):
    notebooks.check(notebooks.plan("demo", [("gender.attribute", "sexx")], ["20"]))
    with pytest.raises(StudyError, match="^24_gender: the cohort has no"):
        notebooks.check(notebooks.plan("demo", [("gender.attribute", "sexx")], ["24"]))


def test_a_dry_run_looks_at_nothing_and_says_so(command, study_of):
    code, out, _ = command("run", "--dry-run", "-p", "data", "nowhere", "-p", "gender.attribute", "sexx")
    assert code == 0 and "Cohorts and weights are not looked at here" in out


def test_slurm_without_sbatch(study_of, here, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    plan = notebooks.plan("demo", [("executor", "slurm")], ["20"])
    with pytest.raises(StudyError, match="^20_tag: executor slurm: there is no sbatch here"):
        notebooks.check(plan)
    specs = plan.study.specs("tag")
    with pytest.raises(StudyError, match="there is no sbatch here"):
        grids.run(specs, plan.study.workspace, name="tag", executor="slurm")
    assert not (plan.study.results / "plans").exists() and not list(plan.study.workspace.shared("bank").glob("*.npy"))


def test_banks_that_do_not_fit_on_the_disk(study_of, here, monkeypatch):
    usage = type("Usage", (), {"free": 10 * 64 * 32 * 32})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    plan = notebooks.plan("demo", [], ["20"])
    notebooks.check(plan)
    usage.free = 64 * 32 * 32 * 3 // 2  # of the two banks, without and with the tag, one fits
    with pytest.raises(StudyError, match="the image banks will take 0 MiB, and 0 MiB are free"):
        notebooks.check(plan)
    # One that is there takes no more space.
    image_bank.build(plan.study.cohort.table, [image_bank.Rendering(size=32)], plan.study.workspace.shared("bank"))
    notebooks.check(plan)


def test_a_cohort_of_ct_is_shown_and_one_of_grey_images_is_refused_where_ct_is_needed(study_of, here, root):
    write_notebook(root, "11_ct", "study.noise_domains()")
    with pytest.raises(StudyError, match="^11_ct: .*i01-0.png: a grey image, and noise_domains shows CT slices"):
        notebooks.check(notebooks.plan("demo", [], ["11"]))
    table = tables.read_csv(study_of / "cohort.csv")
    for number, path in enumerate(table["path"]):
        hu = 40 * np.random.default_rng(number).standard_normal((96, 96)) - 600
        names = {name: uid(name, number) for name in ("study_uid", "series_uid", "sop_uid")}
        write_slice(path.replace(".png", ".dcm"), hu.astype(np.int16), z_mm=number, patient_id="a", **names)
    table["path"] = table["path"].str.replace(".png", ".dcm")
    tables.write_csv(study_of / "ct.csv", table)
    plan = notebooks.plan("demo", [("data", str(study_of / "ct.csv"))])
    notebooks.check(plan)
    shown = plan.study.show("tag", "denoising", "noise", "noise_high_vs_low", save_as="fig2")
    assert shown.data.startswith(b"\x89PNG") and pydicom.dcmread(table["path"].iloc[0]).Modality == "CT"


# By hand


def test_a_notebook_by_hand_is_told_everything_too(study_of, monkeypatch):
    monkeypatch.delenv("SOURCEMATTERS_HEADLESS", raising=False)
    changes = {"sources": ["mine", "random"], "weights": {"mine": str(study_of / "page.pt")}, "device": "warp"}
    study = Study("demo", changes)
    with pytest.raises(StudyError, match=r"(?s)^2 things are .*page.pt: is a web page.*device 'warp'"):
        study.run("tag")
    assert {path.suffix for path in made(study.results.parent)} <= {".csv", ".sha256"}, "what is known of files only"


def test_showing_an_attribute_that_is_not_there_names_those_that_are(study_of):
    with pytest.raises(StudyError, match="no attribute 'sexx'. It has: sex"):
        Study("demo", {"gender": {"attribute": "sexx"}}).show("gender")
    shown = Study("demo").show("gender")
    assert shown.sum().sum() == 64 and list(shown.columns.names) == ["label", "sex"]


def test_runs_that_are_done_are_not_checked_again(study_of, here, monkeypatch):
    monkeypatch.delenv("SOURCEMATTERS_HEADLESS", raising=False)
    study = Study("demo", {"folds": 1, "p_art": [0], "workers": 1})
    study.run("tag")
    monkeypatch.setattr("sourcematters.study.checks.check", None)
    assert len(study.run("tag").table) == 3


def test_of_two_studies_that_begin_at_once_neither_minds_what_the_other_deletes(tmp_path, monkeypatch):
    """Both look whether the folder can be written to, with a file of one name."""
    touch = Path.touch

    def touch_and_lose(path):
        touch(path)
        path.unlink()

    monkeypatch.setattr(Path, "touch", touch_and_lose)
    found = checks.Complaints()
    checks._folders(Workspace(str(tmp_path / "results" / "demo")), found)
    found.refuse()
    assert (tmp_path / "results" / "demo").is_dir()
