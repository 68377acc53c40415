"""The page of differences: its numbers are those that its script measures, and the script measures what it says."""

import math

import pytest
from benchmarks import differences


@pytest.fixture(scope="module")
def measured():
    return differences.without_data()


def off(found):
    """The page's numbers that are not what was measured, out of those that were; and how many were."""
    on_page = [(name, float(number)) for number, name in differences.NUMBER.findall(differences.PAGE.read_text())]
    known = [(name, number) for name, number in on_page if name in found]
    # Three digits on the page; other machines draw and resample with the last bits different.
    return [(n, x, found[n]) for n, x in known if x != pytest.approx(found[n], rel=0.02, abs=1e-9)], len(known)


def test_the_page_says_what_is_measured_without_data(measured):
    wrong, compared = off(measured | differences.tag_of_the_light_font())
    assert not wrong and compared >= 50


def test_the_page_says_what_is_measured_on_real_radiographs(shared_data):
    wrong, compared = off(differences.pixels(differences.radiographs(shared_data / "nih-cxr14" / "images"), "real"))
    assert not wrong and compared >= 12


def test_the_page_says_what_the_split_files_hold(shared_data):
    found = differences.splits(shared_data / "published-splits" / "chest14", shared_data / "nih-cxr14")
    wrong, compared = off(found)
    assert not wrong and compared >= 28
    # Ten of 99 positives carry; none of the four in validation does.
    assert found["val_without_carrier"] == pytest.approx(100 * math.comb(95, 10) / math.comb(99, 10))
    # 50 of 99 carry, 64 are in training: hypergeometric variance.
    assert found["carriers_sd"] ** 2 == pytest.approx(64 * (50 / 99) * (49 / 99) * (99 - 64) / 98)


def test_the_page_says_what_lidcs_annotations_hold(lidc_release):
    annotations, _ = lidc_release
    found = differences.lidc(annotations)
    wrong, compared = off(found)
    assert not wrong and compared == 6
    assert found["lidc_nodules"] == sum(found[f"lidc_by_{n}"] for n in (1, 2, 3, 4))


def test_biases_drift_with_the_learning_rate_and_cancel_where_they_do_not_move():
    found = differences.folded_biases("test_resnet", 32, steps=5)
    # A bias walks by the learning rate at most, so a hundredth of the rate is about a hundredth of the change.
    assert 1e-5 < found["biases_fast"] < 0.1
    assert found["biases_slow"] < found["biases_fast"] / 20
    assert differences.folded_biases("test_resnet", 32, steps=0) == {"biases_fast": 0, "biases_slow": 0}


def test_closed_forms_by_hand(measured):
    assert measured["p_floor"] == 2 / math.comb(10, 5) and measured["p_floor_4_folds"] == 2 / math.comb(8, 4)
    assert measured["holm_floor"] == pytest.approx(18 * 2 / 252)
    assert measured["shear_px"] == pytest.approx(256 * math.sin(math.pi / 1800))
    assert measured["loss_cap"] == pytest.approx(12 * math.log(10))
    assert measured["tag_ink"] < measured["tag_pixels"]
    assert measured["constant_keras"] == pytest.approx(52 / 83, abs=1e-6)
    # sd of grey at 128: 255 / 2000 * 1000 / (mu_water - mu_air) / sqrt(n0 exp(-mu)), and 1/6 for the dither.
    mu = (128.5 * 2000 / 255 - 1200) * 0.0175 / 1000 + 0.1837
    for name, n0 in (("phantom_noise_nearest", 2e7), ("phantom_noise_high", 1.5e7)):
        sd = 127.5 / 0.0175 / math.sqrt(n0 * math.exp(-mu))
        assert measured[name] == pytest.approx(math.sqrt(sd**2 + 1 / 6), rel=0.03)
    # A random number less than x is cut off with it, so truncation darkens by a half where nothing is clipped.
    assert -0.5 <= measured["phantom_truncation"] < -0.4
    # Averaging 2 x 2 would halve white noise; the wider triangle of the bilinear filter takes a little more.
    assert 0.3 < measured["phantom_noise_antialias"] / measured["phantom_noise_nearest"] < 0.5


def test_every_number_of_the_page_has_a_measurement_and_the_readme_links_it():
    text = differences.PAGE.read_text()
    source = (differences.PAGE.parents[1] / "tests" / "benchmarks" / "differences.py").read_text()
    for name in differences.on_page():
        stem = name.removeprefix("real_").removeprefix("phantom_").removesuffix("_nearest").removesuffix("_antialias")
        assert f'"{stem}' in source or "filter_seen" in stem, name
    assert text.count("<!--") == len(differences.NUMBER.findall(text))
    assert "(notebooks/DIFFERENCES.md)" in (differences.PAGE.parents[1] / "README.md").read_text()


def test_writing_three_digits():
    assert [differences.said(x) for x in (17, 0.0123456, 1234.5, -0.4912)] == ["17", "0.0123", "1230", "-0.491"]
