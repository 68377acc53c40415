from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage, stats

from sourcematters.cohorts import Request, open_cohort
from sourcematters.cohorts.cohort import check, check_files
from sourcematters.demo import phantoms
from sourcematters.demo.phantoms import anatomy, draw, population
from sourcematters.errors import StudyError


def sides(seed: int, patient: str, image: str, sex: str = "F") -> tuple[np.ndarray, np.ndarray]:
    """The same image without and with lesions, as integers."""
    return tuple(draw(seed, patient, image, sex=sex, lesion=lesion).astype(int) for lesion in (False, True))


@pytest.mark.parametrize("size", [64, 200, 256])
def test_a_radiograph_is_grey_with_dark_lungs_beside_a_bright_middle(size):
    image = draw(3, "p", "p-0", sex="M", lesion=False, size=size)
    assert image.shape == (size, size) and image.dtype == np.uint8
    lungs, spine = (
        image[int(0.35 * size) : int(0.5 * size), int(a * size) : int(b * size)].mean()
        for a, b in ((0.25, 0.35), (0.47, 0.53))
    )
    assert spine - lungs > 80
    corner = image[: size // 16, : size // 16].mean()
    assert corner < 60  # air beside the neck
    assert np.ptp(image) > 150


def test_the_same_anatomy_at_any_size():
    large, small = (draw(3, "p", "p-0", sex="M", lesion=False, size=s).astype(float) for s in (256, 64))
    blocks = large.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.corrcoef(blocks.ravel(), small.ravel())[0, 1] > 0.97


def test_an_image_does_not_depend_on_what_was_drawn_before():
    ids = [(f"p{i // 2}", f"p{i // 2}-{i % 2}") for i in range(6)]
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()
    forth = [draw(1, *i, sex="F", lesion=True) for i in ids]
    back = [draw(1, *i, sex="F", lesion=True) for i in reversed(ids)][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forth, back, strict=True))
    assert np.array_equal(before, np.random.get_state()[1])
    assert not np.array_equal(forth[0], draw(2, *ids[0], sex="F", lesion=True))
    assert len({image.tobytes() for image in forth}) == 6


def test_images_of_a_patient_resemble_each_other_more_than_other_patients():
    patients = [f"p{i}" for i in range(12)]
    images = np.array(
        [[draw(1, p, f"{p}-{j}", sex="F", lesion=False, size=64).ravel() for j in range(2)] for p in patients], float
    )
    correlation = np.corrcoef((images - images.mean(axis=(0, 1))).transpose(1, 0, 2).reshape(24, -1))[:12, 12:]
    assert np.diag(correlation).mean() > correlation[~np.eye(12, dtype=bool)].mean() + 0.3


@pytest.mark.parametrize("number", range(12))
def test_a_lesion_is_one_to_three_local_opacities_and_nothing_else(number):
    without, with_lesion = sides(1, f"p{number}", f"p{number}-0", "FM"[number % 2])
    difference = with_lesion - without
    assert difference.min() >= 0
    assert difference.max() >= 20
    # A lesion's radius is at most .16 x 1.25 of 128 px, its lobes reach 1.5 times as far: 31 px.
    seen = ndimage.binary_dilation(difference > 0, iterations=3)
    found, count = ndimage.label(seen)
    assert 1 <= count <= 3
    assert 0.001 < (difference > 0).mean() < 0.15


def test_lesions_lie_in_the_lungs_and_range_from_subtle_to_clear():
    peaks = []
    for i in range(30):
        without, with_lesion = sides(5, f"p{i}", f"p{i}-0")
        difference = with_lesion - without
        # Lungs are the dark side of the film.
        assert np.median(without[difference > 10]) < 150
        peaks.append(difference.max())
    assert np.ptp(peaks) > 40


def test_an_ideal_low_pass_finds_fine_detail_to_remove():
    image = draw(1, "p", "p-0", sex="M", lesion=False).astype(float)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None, :])
    smooth = np.fft.ifft2(np.fft.fft2(image) * (frequency <= 0.244)).real
    assert np.abs(image - smooth).mean() > 0.5


def test_a_patient_keeps_their_own_deviation_whatever_their_sex():
    woman, man = (anatomy(1, "p", sex) for sex in "FM")
    assert man.lung_width - woman.lung_width == pytest.approx(0.320 - 0.303)
    assert man.scoliosis == woman.scoliosis
    assert anatomy(1, "p", "F") == woman != anatomy(1, "q", "F")


def test_the_sexes_differ_but_individuals_overlap():
    bodies = {sex: pd.DataFrame([anatomy(1, f"{sex}{i}", sex).__dict__ for i in range(300)]) for sex in "FM"}

    def separation(measure: str) -> float:
        """The chance that a woman's measure exceeds a man's (Mann and Whitney's U, scaled)."""
        return stats.mannwhitneyu(bodies["F"][measure], bodies["M"][measure]).statistic / 300**2

    assert 0.65 < separation("breast") < 0.95
    assert 0.05 < separation("lung_width") < 0.40
    assert 0.05 < separation("base") < 0.40
    assert 0.20 < separation("heart_width") < 0.49
    assert separation("dome") == pytest.approx(0.5, abs=0.1)
    assert bodies["M"]["breast"].min() >= 0


def test_sex_shows_in_the_pictures_lower_lungs():
    def haze(sex: str) -> float:
        return np.mean([draw(1, f"p{i}", f"p{i}-0", sex=sex, lesion=False)[145:160, 60:80].mean() for i in range(8)])

    assert haze("F") > haze("M") + 5


def test_population_is_balanced_within_chance():
    table = population(4, 400)
    assert list(table.columns) == ["image_id", "patient_id", "sex", "age", "view", "label"]
    assert table.image_id.is_unique and table.image_id.is_monotonic_increasing
    assert table.patient_id.nunique() == 400
    assert len(table) == pytest.approx(800, rel=0.08)
    assert table.groupby("patient_id").size().between(1, 3).all()
    cells = table.groupby(["sex", "label"]).size() / len(table)
    assert len(cells) == 4 and cells.between(0.22, 0.28).all()
    assert (table.groupby("patient_id").sex.nunique() == 1).all()
    assert (table.groupby("patient_id").age.nunique() == 1).all()
    assert table.age.between(18, 90).all() and set(table["view"]) == {"PA"}
    assert table.image_id[0] == "phantom-00000-0" and table.patient_id[0] == "phantom-00000"


def test_a_larger_population_contains_the_smaller():
    small, large = population(4, 10), population(4, 30)
    pd.testing.assert_frame_equal(small, large.head(len(small)))
    assert not population(5, 30).equals(large)


# The cohort of them

SETTINGS = {"data": "phantoms", "task": "lesion", "patients": 40, "size": 32, "seed": 5, "workers": 1}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantoms")
    return root, open_cohort(Request(cache=root, **SETTINGS))


def test_cohort_keeps_its_contract(drawn):
    _, cohort = drawn
    pd.testing.assert_frame_equal(check(cohort.table, origin="phantoms"), cohort.table)
    check_files(cohort.table)
    assert list(cohort.table)[:5] == ["image_id", "path", "patient_id", "label", "split"]
    assert cohort.table["patient_id"].nunique() == 40 and {"sex", "age", "view"} <= set(cohort.table)
    assert (cohort.name, cohort.task, cohort.caution) == ("phantoms", "lesion", "phantoms, not patients")
    assert "no evidence" in cohort.notes[0]


def test_files_hold_what_is_drawn(drawn):
    _, cohort = drawn
    for row in cohort.table.iloc[[0, -1]].itertuples():
        with Image.open(row.path) as image:
            assert image.mode == "L" and image.size == (32, 32)
            expected = draw(5, row.patient_id, row.image_id, sex=row.sex, lesion=bool(row.label), size=32)
            np.testing.assert_array_equal(np.asarray(image), expected)


def test_the_folder_is_a_cohort_of_its_own(drawn):
    root, cohort = drawn
    (folder,) = root.iterdir()
    again = open_cohort(Request(data=folder / "phantoms.csv", task="lesion", cache=""))
    pd.testing.assert_frame_equal(again.table, cohort.table, check_dtype=False)


def test_drawing_resumes_and_repeats_nothing(drawn):
    root, cohort = drawn
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*.png")}
    lost = next(iter(files))
    lost.unlink()
    pd.testing.assert_frame_equal(open_cohort(Request(cache=root, **SETTINGS)).table, cohort.table)
    assert lost.read_bytes() == files.pop(lost)[0]
    assert all(path.stat().st_mtime_ns == time for path, (_, time) in files.items())


def test_damaged_phantoms_are_drawn_again_and_said_once(drawn, capsys):
    root, cohort = drawn
    (folder,) = root.iterdir()
    path, seal = Path(cohort.table["path"][3]), folder / ".sha256"
    before, listed = {each: each.read_bytes() for each in root.rglob("*.png")}, seal.read_text()
    assert len(listed.splitlines()) == len(before)
    for damage in (
        lambda: path.write_bytes(Path(cohort.table["path"][4]).read_bytes()),
        lambda: path.write_bytes(b""),
        lambda: seal.write_text(listed[:1000]),
        seal.unlink,
    ):
        damage()
        open_cohort(Request(cache=root, **SETTINGS))
        assert {each: each.read_bytes() for each in root.rglob("*.png")} == before and seal.read_text() == listed
        assert capsys.readouterr().err.count("it is drawn again") == 1
    open_cohort(Request(cache=root, **SETTINGS))
    assert "again" not in capsys.readouterr().err


@pytest.mark.parametrize("other", [{"seed": 6}, {"size": 40}, {"patients": 41}, {"test_fraction": 0.3}])
def test_other_settings_get_another_folder(drawn, tmp_path, other, monkeypatch):
    monkeypatch.setattr(phantoms, "draw", lambda *a, size, **k: np.zeros((size, size), np.uint8))
    root, _ = drawn
    changed = open_cohort(Request(cache=tmp_path, **SETTINGS | other)).table
    (folder,) = tmp_path.iterdir()
    assert folder.name not in {path.name for path in root.iterdir()}
    assert changed["path"].str.startswith(str(folder)).all()


def test_other_drawing_code_gets_another_folder(drawn, tmp_path, monkeypatch):
    root, _ = drawn
    (tmp_path / "phantoms.py").write_text("changed")
    monkeypatch.setattr(phantoms, "__file__", str(tmp_path / "phantoms.py"))
    monkeypatch.setattr(phantoms, "draw", lambda *a, size, **k: np.zeros((size, size), np.uint8))
    open_cohort(Request(cache=tmp_path / "new", **SETTINGS))
    assert {p.name for p in (tmp_path / "new").iterdir()}.isdisjoint(p.name for p in root.iterdir())


def test_two_workers_draw_the_same(drawn, tmp_path):
    _, cohort = drawn
    spread = open_cohort(Request(cache=tmp_path, **SETTINGS | {"workers": 2}))
    for one, two in zip(cohort.table["path"], spread.table["path"], strict=True):
        assert open(one, "rb").read() == open(two, "rb").read()


def test_a_disturbed_drawing_leaves_no_half_file(tmp_path, monkeypatch):
    def fail(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(StudyError, match="disk is full"):
        open_cohort(Request(cache=tmp_path, **SETTINGS))
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("wrong", [{"task": "Mass"}, {"view": "PA"}, {"patients": 1}, {"patients": 0}])
def test_refusals_write_nothing(tmp_path, wrong):
    with pytest.raises(StudyError):
        open_cohort(Request(cache=tmp_path, **SETTINGS | wrong))
    assert not list(tmp_path.iterdir())
