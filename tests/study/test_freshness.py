import os
from pathlib import Path

import pandas as pd
import pytest
from tiny_runs import seem_done

from sourcematters import checksums
from sourcematters.study import freshness


@pytest.fixture
def made(tmp_path):
    """A clone, a data folder with two images, and the results of one executed study."""
    for name, text in {
        "clone/sourcematters/a.py": "x = 1",
        "clone/sourcematters/results/published.csv": "1",
        "clone/notebooks/20_tag.ipynb": "{}",
        "data/images_001/images/one.png": "1",
        "data/labels.csv": "label",
        "lidc/LIDC-IDRI-0001/study/series/1-001.dcm": "d",
        "mine.safetensors": "w",
        "results/demo/figures/tag.png": "p",
        "results/demo/tables/tag.csv": "auc",
        "results/runs/r-3-of-another-profile/done": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("r-1", "r-2"):
        seem_done(tmp_path / "results" / "runs" / name, "number")
    checksums.write_csv(tmp_path / "results/demo/plans/tag.csv", pd.DataFrame({"run_id": ["r-1", "r-2"]}))
    image = str(tmp_path / "data/images_001/images/one.png")
    checksums.write_csv(tmp_path / "results/bank/files.csv", pd.DataFrame({"path": [image], "sha256": ["x"]}))
    return tmp_path


def sign(folder: Path, epochs=3, **more):
    parameters = more | {
        "data": str(folder / "data"),
        "ct": {"data": str(folder / "lidc")},
        "weights": {"mine": {"path": str(folder / "mine.safetensors")}},
        "epochs": epochs,
    }
    notebooks = [folder / "clone/notebooks/20_tag.ipynb"]
    return freshness.signature(folder / "clone", folder / "results/demo", notebooks, parameters)


def test_a_stamped_study_is_fresh_until_something_changes(made):
    folder = made / "results/demo"
    assert freshness.changes(folder, sign(made)) is None, "it was never stamped"
    freshness.stamp(folder, sign(made))
    assert freshness.changes(folder, sign(made)) == [], "writing the stamp itself changes nothing"
    (folder / "report.pdf").write_bytes(b"%PDF")
    assert freshness.changes(folder, sign(made)) == [], "nor does who prints the report"
    assert freshness.changes(folder, sign(made, epochs=4)) == ["settings"]
    edit("results/demo/tables/tag.csv")(made)
    assert freshness.changes(folder, sign(made)) == ["results"]
    for damaged in ("", "5f2a", "[]"):
        (folder / freshness.STAMP).write_text(damaged)
        assert freshness.changes(folder, sign(made)) is None


def test_what_lies_where_one_stands_does_not_count(made, tmp_path, monkeypatch):
    words = {"view": "", "task": "notebooks", "confounder": "tag", "sources": ["mine.safetensors", "."]}
    before = sign(made, **words)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("notebooks", "tag", "mine.safetensors"):
        (tmp_path / "elsewhere" / name).write_text("not meant")
    assert sign(made, **words) == before
    monkeypatch.chdir(tmp_path)
    assert sign(made, **words) == before


def test_a_change_at_the_same_size_and_time_is_seen(made):
    for name in ("data/images_001/images/one.png", "mine.safetensors", "results/demo/tables/tag.csv"):
        before, path = sign(made), made / name
        old = path.stat()
        path.write_bytes(path.read_bytes()[::-1] if old.st_size > 1 else b"7")
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
        assert path.stat().st_size == old.st_size and path.stat().st_mtime_ns == old.st_mtime_ns
        assert sign(made) != before, name


def test_a_touched_figure_and_the_runs_of_other_profiles_change_nothing(made):
    before = sign(made)
    touch("results/demo/figures/tag.png")(made)
    seem_done(made / "results" / "runs" / "r-4")
    assert sign(made) == before


def test_what_jupyterlab_and_file_browsers_leave_behind_changes_nothing(made):
    before = sign(made)
    for name in ("results/demo/.ipynb_checkpoints/index-checkpoint.html", "clone/sourcematters/.DS_Store"):
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text("1")
    assert sign(made) == before


def edit(name):
    def change(folder):
        path = folder / name
        path.write_text(path.read_text() + "+")

    return change


def touch(name):
    return lambda folder: os.utime(folder / name, (1, 1))


@pytest.mark.parametrize(
    "change",
    [
        edit("clone/sourcematters/a.py"),
        edit("clone/sourcematters/results/published.csv"),
        edit("clone/notebooks/20_tag.ipynb"),
        edit("data/images_001/images/one.png"),
        touch("data/images_001/images/one.png"),
        edit("data/labels.csv"),
        edit("mine.safetensors"),
        edit("results/demo/figures/tag.png"),
        edit("results/demo/tables/tag.csv"),
        edit("results/demo/plans/tag.csv"),
        edit("results/runs/r-1/predictions.csv"),
        edit("results/bank/files.csv"),
        lambda folder: (folder / "data/images_001/images/two.png").write_text("2"),
        lambda folder: (folder / "data/images_001/images/one.png").unlink(),
        lambda folder: (folder / "lidc/LIDC-IDRI-0001/study/series/1-002.dcm").write_text("d"),
        lambda folder: (folder / "results/demo/figures/tag.png").unlink(),
        lambda folder: (folder / "results/runs/r-2/done").unlink(),
    ],
    ids=["code", "the package's data", "notebook",
         "image", "image's time", "labels", "weights", "figure", "table", "plan",
         "a run's predictions", "what is known of images", "one image more", "one image less",
         "one slice more", "figure gone", "run gone"],
)  # fmt: skip
def test_whatever_a_study_is_made_from_makes_it_stale(made, change):
    before = sign(made)
    assert sign(made) == before
    change(made)
    assert sign(made) != before
