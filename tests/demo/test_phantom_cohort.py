import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sourcematters.cohorts import Request, open_cohort
from sourcematters.cohorts.cohort import check, check_files
from sourcematters.demo import phantom_cohort, phantoms
from sourcematters.errors import StudyError

SETTINGS = {"patients": 40, "size": 32, "seed": 5}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    return root, phantom_cohort.cohort(root, **SETTINGS).table


def test_cohort_keeps_its_contract(drawn):
    root, cohort = drawn
    checked = check(cohort, origin="phantoms")
    pd.testing.assert_frame_equal(checked, cohort)
    check_files(cohort)
    assert cohort["patient_id"].nunique() == 40
    assert {"sex", "age", "view"} <= set(cohort)
    opened = open_cohort(Request(data="phantoms", task="lesion", cache=root, **SETTINGS))
    pd.testing.assert_frame_equal(opened.table, cohort)
    assert (opened.name, opened.task, opened.caution) == ("phantoms", "lesion", "phantoms, not patients")


def test_files_hold_what_is_drawn(drawn):
    root, cohort = drawn
    for row in cohort.iloc[[0, -1]].itertuples():
        with Image.open(row.path) as image:
            assert image.mode == "L" and image.size == (32, 32)
            expected = phantoms.draw(5, row.patient_id, row.image_id, sex=row.sex, lesion=bool(row.label), size=32)
            np.testing.assert_array_equal(np.asarray(image), expected)


def test_the_folder_is_a_cohort_of_its_own(drawn):
    root, cohort = drawn
    (folder,) = root.iterdir()
    again = open_cohort(Request(data=folder / "phantoms.csv", task="lesion", cache="")).table
    pd.testing.assert_frame_equal(again, cohort, check_dtype=False)
    settings = json.loads((folder / "phantoms.json").read_text())
    assert settings | SETTINGS == settings and settings["test_fraction"] == 0.25


def test_drawing_resumes_and_repeats_nothing(drawn, monkeypatch):
    root, cohort = drawn
    lost = cohort["path"].iloc[3]
    before = open(lost, "rb").read()
    (root / lost).unlink()
    calls = []
    draw = phantoms.draw

    def counting(seed, patient_id, image_id, **options):
        calls.append(image_id)
        return draw(seed, patient_id, image_id, **options)

    monkeypatch.setattr(phantoms, "draw", counting)
    pd.testing.assert_frame_equal(phantom_cohort.cohort(root, **SETTINGS).table, cohort)
    assert calls == [cohort["image_id"].iloc[3]]
    assert open(lost, "rb").read() == before


@pytest.mark.parametrize("other", [{"seed": 6}, {"size": 40}, {"patients": 41}])
def test_other_settings_get_another_folder(drawn, tmp_path, other, monkeypatch):
    monkeypatch.setattr(phantoms, "draw", lambda *a, size, **k: np.zeros((size, size), np.uint8))
    root, cohort = drawn
    changed = phantom_cohort.cohort(tmp_path, **(SETTINGS | other)).table
    (folder,) = tmp_path.iterdir()
    assert folder.name not in {path.name for path in root.iterdir()}
    assert changed["path"].str.startswith(str(folder)).all()


def test_other_drawing_code_gets_another_folder(drawn, tmp_path, monkeypatch):
    root, cohort = drawn
    (tmp_path / "phantoms.py").write_text("changed")
    monkeypatch.setattr(phantoms, "__file__", str(tmp_path / "phantoms.py"))
    monkeypatch.setattr(phantoms, "draw", lambda *a, size, **k: np.zeros((size, size), np.uint8))
    phantom_cohort.cohort(tmp_path / "new", **SETTINGS)
    assert {p.name for p in (tmp_path / "new").iterdir()}.isdisjoint(p.name for p in root.iterdir())


def test_two_workers_draw_the_same(drawn, tmp_path):
    root, cohort = drawn
    spread = phantom_cohort.cohort(tmp_path, **SETTINGS, workers=2).table
    for one, two in zip(cohort["path"], spread["path"], strict=True):
        assert open(one, "rb").read() == open(two, "rb").read()


def test_a_disturbed_drawing_leaves_no_half_file(tmp_path, monkeypatch):
    def fail(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(StudyError, match="disk is full"):
        phantom_cohort.cohort(tmp_path, **SETTINGS)
    assert not list(tmp_path.rglob("*.png"))


def test_refusals(tmp_path):
    with pytest.raises(StudyError, match="lesion"):
        open_cohort(Request(data="phantoms", task="Mass", cache=tmp_path))
    with pytest.raises(StudyError, match="no choice of view"):
        open_cohort(Request(data="phantoms", task="lesion", cache=tmp_path, view="PA"))
    with pytest.raises(StudyError):
        open_cohort(Request(data="phantoms", task="lesion", cache=tmp_path, patients=1))
    with pytest.raises(StudyError, match="test_fraction"):
        open_cohort(Request(data="phantoms", task="lesion", cache=tmp_path, test_fraction=1))
    assert not list(tmp_path.iterdir())
