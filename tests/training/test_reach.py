"""How far a confounder reaches the network is counted in pixels, and what would show is found by trying."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from sourcematters.confounders import Attribute, Denoising, Noise, NoiseHighVsLow, Tag
from sourcematters.errors import StudyError
from sourcematters.runs import guards
from sourcematters.training import reach
from sourcematters.training.recipe import Preprocessing


def test_pixels_are_counted_as_by_hand():
    without = np.full((4, 2, 2), 100, np.uint8)
    carrying = without.copy()
    carrying[0, 0, 0] = 90  # 10 darker
    carrying[1] = 103  # all four, 3 brighter
    carrying[2, 1, 1] = 101  # what rounding alone may do
    found = reach.reach(without, carrying)
    assert found == (4, 0.5, (1 + 4 + 1) / 16, (10 + 12 + 1) / 16, 10)
    assert not found.enough
    assert str(found) == "seen in 50% of 4 images, 37.5% of their pixels, by 1.4 grey levels in the mean and 10 at most"


def test_nine_in_ten_are_enough():
    change = np.zeros((10, 1, 1), np.uint8)
    change[:9] = 2
    assert reach.reach(np.zeros_like(change), change).enough
    change[8] = 1
    assert not reach.reach(np.zeros_like(change), change).enough
    assert reach.reach(np.full_like(change, 255), np.zeros_like(change)).largest_change == 255, "no wrap-around"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """50 smooth pictures of 256 px."""
    folder, rng = tmp_path_factory.mktemp("smooth"), np.random.default_rng(0)
    for k in range(50):
        image = gaussian_filter(rng.normal(100, 60, (256, 256)), 2).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{k}.png")
    return pd.DataFrame(
        {"image_id": [f"i{k}" for k in range(50)], "path": [str(folder / f"{k}.png") for k in range(50)]}
    )


EMPTY = {
    "a tag between the pixels": (
        Tag(height=40, x=40, y=32),
        Preprocessing(size=16),
        "interpolation: antialias, or height:",
    ),
    "photons without number": (Noise(n0=1e15), Preprocessing(size=32), "n0:"),
    "a filter that passes all but corners": (Denoising(diameter=358), Preprocessing(size=32), "diameter:"),
    "noise that a small input averages": (
        Noise(),
        Preprocessing(size=16, interpolation="antialias"),
        "size: 64, or n0:",
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_what_does_not_reach_the_network_is_refused_and_what_would_is_named(cohort, name):
    confounder, how, proposed = EMPTY[name]
    with pytest.raises(StudyError, match=f"cannot be seen by the network: at {how.size} px.*{proposed}.*set force"):
        guards.seen(cohort, confounder, how, seed=0)
    columns, caution = guards.seen(cohort, confounder, how, seed=0, force=True)
    assert caution == f"{confounder.name} cannot be seen at {how.size} px"
    assert list(columns) == guards.COLUMNS[3:] and columns["input_images"] == 40 and columns["input_seen_in"] < 0.9


def test_what_is_proposed_can_be_seen(cohort):
    confounder, how, _ = EMPTY["photons without number"]
    found = reach.of_cohort(cohort, confounder, how, seed=0)
    said = reach.complaint(found, cohort, confounder, how, seed=0)
    n0 = float(said.partition("n0: ")[2].rstrip("."))
    assert reach.of_cohort(cohort, Noise(n0=n0), how, seed=0).enough and n0 < 1e15
    assert not reach.of_cohort(cohort, Noise(n0=16 * n0), how, seed=0).enough, "the first of these steps, not any"


@pytest.mark.parametrize("confounder", [Tag(), Noise(), NoiseHighVsLow(), Denoising(diameter=60)])
def test_what_the_paper_draws_reaches_it_at_128_px(cohort, confounder):
    columns, caution = guards.seen(cohort, confounder, Preprocessing(size=128), seed=0)
    assert caution == "" and columns["input_seen_in"] == 1


def test_which_images_are_looked_at_depends_on_seed_and_identity_alone(cohort):
    how = Preprocessing(size=64)
    first = reach.of_cohort(cohort, Noise(), how, seed=0)
    assert reach.of_cohort(cohort[::-1], Noise(), how, seed=0) == pytest.approx(first)
    assert reach.of_cohort(cohort, Noise(), how, seed=0, workers=2) == first
    assert reach.of_cohort(cohort, Noise(), how, seed=1) != first


def test_of_a_sampled_confounder_there_is_nothing_to_see(cohort):
    sampled = Attribute(name="site", leaf="medical device", attribute="site", value="1", other="2")
    assert guards.seen(cohort, sampled, Preprocessing(), seed=0) == ({}, "")


def test_an_image_that_was_replaced_is_looked_at_again(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((64, 64), 100, np.uint8)).save(path)
    table = pd.DataFrame({"image_id": ["a"], "path": [str(path)]})
    how = Preprocessing(size=64)
    first = reach.of_cohort(table, Tag(height=300), how, seed=0)
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(path)  # on which a white letter shows nowhere
    assert first.enough and reach.of_cohort(table, Tag(height=300), how, seed=0).changed_pixels == 0
