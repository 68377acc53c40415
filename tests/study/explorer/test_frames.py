"""One frame of the explorer: what the image bank makes, the difference, the spectrum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sourcematters import confounders
from sourcematters.confounders import key_for
from sourcematters.errors import StudyError
from sourcematters.study.explorer.frames import frame, keys_of, log_power, unit
from sourcematters.training.image_bank import Rendering, render
from sourcematters.training.recipe import Preprocessing

GREY = np.random.default_rng(0).integers(0, 256, (120, 96)).astype(np.uint8)
CT = np.random.default_rng(1).integers(-1000, 800, (64, 64)).astype(np.int16)
DRAWN = [name for name, kind in confounders.known().items() if not kind.sampled]


@pytest.mark.parametrize("interpolation", ["nearest", "antialias"])
@pytest.mark.parametrize("name", ["tag", "denoising", "noise_high_vs_low", "pacemaker"])
def test_what_the_network_sees_is_what_the_image_bank_holds(tmp_path, name, interpolation):
    path = tmp_path / "i.png"
    Image.fromarray(GREY).save(path)
    small = {"denoising": {"diameter": 40}}.get(name, {})
    confounder, how = confounders.make(name, **small), Preprocessing(size=32, interpolation=interpolation, crop=80)
    both = [
        Rendering(alteration=one, seed=3, **how.model_dump()) for one in (confounder.base, confounder.carrier)
    ]  # fmt: skip
    without, carrying = render(str(path), "i", both)
    made = frame(GREY, confounder, how, keys_of(confounder, "i", seed=3))
    assert np.array_equal(made["input_without"], without) and np.array_equal(made["input"], carrying)
    assert np.array_equal(made["difference"], made["carrying"].astype(int) - made["without"])


def test_on_ct_the_difference_is_in_hounsfield_units_and_not_cut_by_the_window():
    rings = confounders.make("ring_artefact", hu=300, rings=5)
    how = Preprocessing(size=32, window=(0.0, 100.0))
    keys = keys_of(rings, "i", seed=0)
    made = frame(CT, rings, how, keys)
    altered, _ = rings.draw(CT, keys.carrier)
    assert unit(rings) == "HU" and unit(confounders.make("tag")) == "grey levels"
    assert np.array_equal(made["difference"], altered.astype(int) - CT)
    assert np.abs(made["difference"]).max() > 255, "grey levels could not tell that"
    assert made["carrying"].dtype == np.uint8 and made["without"].max() == 255


def test_keys_are_those_of_the_study_and_stay_while_a_slider_moves():
    pacemaker = confounders.make("pacemaker")
    keys = keys_of(pacemaker, "i", seed=5)
    assert keys == (key_for(5, "i", pacemaker.base), key_for(5, "i", pacemaker.carrier))
    thin, thick = (
        frame(np.full((200, 200), 90, np.uint8), pacemaker.replaced(lead_mm=mm), Preprocessing(size=32), keys)
        for mm in (2, 4)
    )
    changed = [set(zip(*np.nonzero(each["difference"]), strict=True)) for each in (thin, thick)]
    assert changed[0] < changed[1], "thicker leads cover the thinner ones: nothing else moved"


def test_an_image_that_the_confounder_does_not_fit_is_refused_in_its_sentence():
    tag = confounders.make("tag", height=4000)
    with pytest.raises(StudyError, match="tag: height=4000 is a font of .* in an image 96 x 120 px"):
        frame(GREY, tag, Preprocessing(size=32), keys_of(tag, "i", seed=0))
    rings = confounders.make("ring_artefact")
    with pytest.raises(StudyError, match="needs a CT slice"):
        frame(GREY, rings, Preprocessing(size=32), keys_of(rings, "i", seed=0))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([2.0, 5.0, 20.0]))
def test_white_noise_has_the_power_of_its_variance_at_every_frequency(seed, sd):
    noise = np.random.default_rng(seed).normal(120, sd, (128, 128))
    power = 10.0 ** log_power(noise)
    assert power.mean() == pytest.approx(sd**2, rel=0.1)
    inner, outer = power[32:96, 32:96].mean(), power[:16].mean()
    assert inner == pytest.approx(outer, rel=0.2)


def test_a_wave_stands_at_its_frequency_and_the_mean_in_the_middle():
    x = np.arange(64)
    image = np.rint(100 + 50 * np.cos(2 * np.pi * 10 * x / 64))[None].repeat(64, 0)
    row, column = np.unravel_index(log_power(image)[:, :32].argmax(), (64, 32))
    assert (row, column) == (32, 22), "10 periods to the left of the middle, 32"


def test_a_low_pass_empties_the_edges_of_the_spectrum():
    filter_ = confounders.make("denoising", diameter=30)
    made = frame(GREY, filter_, Preprocessing(size=32), keys_of(filter_, "i", seed=0))
    edges = np.s_[:10, :]
    assert made["spectrum"][edges].mean() < made["spectrum_without"][edges].mean() - 2, "two powers of ten"
    middle = np.s_[56:64, 44:52]
    assert made["spectrum"][middle].mean() == pytest.approx(made["spectrum_without"][middle].mean(), abs=0.2)


@pytest.mark.parametrize("name", DRAWN)
def test_every_drawn_confounder_has_a_frame_and_the_same_one_again(name):
    confounder = confounders.make(name)
    image = CT if confounder.carrier.space == np.int16 else np.tile(GREY, (4, 4))
    how = Preprocessing(size=32)
    if name == "downsampled":
        image = np.tile(GREY, (4, 4))
    one, again = (frame(image, confounder, how, keys_of(confounder, "i", seed=0)) for _ in range(2))
    assert all(np.array_equal(one[key], again[key]) for key in one)
    assert one["difference"].any()
