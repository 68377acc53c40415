import os
from pathlib import Path

import pytest

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
        "results/runs/r-1/done": "",
        "results/runs/r-2/done": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    image = tmp_path / "data/images_001/images/one.png"
    (tmp_path / "results/bank").mkdir()
    (tmp_path / "results/bank/files.csv").write_text(f"path,size,mtime,sha256\n{image},1,1,x\n")
    return tmp_path


def sign(folder: Path, epochs=3):
    parameters = {
        "data": str(folder / "data"),
        "ct": {"data": str(folder / "lidc")},
        "weights": {"mine": {"path": str(folder / "mine.safetensors")}},
        "epochs": epochs,
    }
    notebooks = [folder / "clone/notebooks/20_tag.ipynb"]
    return freshness.signature(folder / "clone", folder / "results/demo", notebooks, parameters)


def test_a_stamped_study_is_fresh_until_something_changes(made):
    folder = made / "results/demo"
    assert not freshness.is_fresh(folder, sign(made))
    freshness.stamp(folder, sign(made))
    assert freshness.is_fresh(folder, sign(made)), "writing the stamp itself changes nothing"
    assert not freshness.is_fresh(folder, sign(made, epochs=4))


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
        lambda folder: (folder / "data/images_001/images/two.png").write_text("2"),
        lambda folder: (folder / "data/images_001/images/one.png").unlink(),
        lambda folder: (folder / "lidc/LIDC-IDRI-0001/study/series/1-002.dcm").write_text("d"),
        lambda folder: (folder / "results/demo/figures/tag.png").unlink(),
        lambda folder: (folder / "results/runs/r-2/done").unlink(),
    ],
    ids=["code", "the package's data", "notebook",
         "image", "image's time", "labels", "weights", "figure", "one image more", "one image less",
         "one slice more", "figure gone", "run gone"],
)  # fmt: skip
def test_whatever_a_study_is_made_from_makes_it_stale(made, change):
    before = sign(made)
    assert sign(made) == before
    change(made)
    assert sign(made) != before
