"""Pixels against their equations; confounders against their contract."""

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sourcematters import confounders
from sourcematters.confounders import (
    ALTERATIONS,
    CONFOUNDERS,
    ORIGINAL,
    Alteration,
    Confounder,
    alteration,
    apply,
    draw_tag,
    key_for,
    low_pass,
)
from sourcematters.errors import StudyError


def flat(grey: int, rows: int = 64, columns: int = 64) -> np.ndarray:
    return np.full((rows, columns), grey, np.uint8)


def textured(seed: int, rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, (rows, columns), dtype=np.uint8)


def as_hu(image: np.ndarray) -> np.ndarray:
    return image.astype(np.int16) * 4 - 900


GREY_ONES = [ORIGINAL, alteration("draw_tag"), alteration("low_pass", diameter=20), alteration("poisson_noise")]
HU_ONES = [alteration("hounsfield_noise"), alteration("projection_noise", views=12)]
EVERY = GREY_ONES + HU_ONES


def suited(each: Alteration, image: np.ndarray) -> np.ndarray:
    return as_hu(image) if each.space == "hounsfield" else image


# --- what every alteration keeps ------------------------------------------------------------------


@pytest.mark.parametrize("each", EVERY, ids=lambda a: a.name)
@pytest.mark.parametrize("shape", [(64, 64), (61, 90), (97, 50)])
def test_an_alteration_is_pure_and_repeatable(each, shape):
    image = suited(each, textured(0, *shape))
    before = image.copy()
    first, mask = apply(each, image, 7)
    apply(each, suited(each, textured(1, *shape)), 8)  # another image in between must not matter
    second, _ = apply(each, image, 7)
    assert (image == before).all()
    assert not np.shares_memory(first, image)
    assert first.dtype == image.dtype and first.shape == mask.shape == shape and mask.dtype == bool
    assert (first == second).all()
    assert (first[~mask] == image[~mask]).all()


def test_every_alteration_is_tested_above():
    assert {each.name for each in EVERY} == set(ALTERATIONS)


def test_only_noise_depends_on_the_key():
    image = textured(0, 64, 64)
    pairs = {each.name: [apply(each, suited(each, image), key)[0] for key in (1, 2)] for each in EVERY}
    differ = {name for name, (one, two) in pairs.items() if (one != two).any()}
    assert differ == {"poisson_noise", "hounsfield_noise", "projection_noise"}


MISSHAPEN = {
    "float": np.zeros((8, 8)),
    "colour": np.zeros((8, 8, 3), np.uint8),
    "empty": np.zeros((0, 8), np.uint8),
    "list": [[1, 2]],
}


@pytest.mark.parametrize("each", EVERY, ids=lambda a: a.name)
@pytest.mark.parametrize("bad", MISSHAPEN.values(), ids=MISSHAPEN)
def test_only_images_of_the_declared_space_are_taken(each, bad):
    needs = "CT slice in Hounsfield units" if each in HU_ONES else "grey uint8 image"
    with pytest.raises(StudyError, match=f"{each.name}: needs a {needs}"):
        apply(each, bad, 0)


def test_each_alteration_knows_its_pixel_space():
    assert {each.space for each in GREY_ONES} == {"grey"} and {each.space for each in HU_ONES} == {"hounsfield"}
    for each in HU_ONES:
        with pytest.raises(StudyError, match=r"needs a CT slice.*got uint8 of shape \(8, 8\).*choose domain grey"):
            apply(each, flat(1, 8, 8), 0)
    for each in GREY_ONES[1:]:
        with pytest.raises(StudyError, match="needs a grey uint8.*got int16.*pixels.window"):
            apply(each, as_hu(flat(1, 8, 8)), 0)
    hu = as_hu(textured(0, 9, 8))
    unchanged, mask = apply(ORIGINAL, hu, 0)
    assert (unchanged == hu).all() and unchanged.dtype == np.int16 and not mask.any()


# --- tag ------------------------------------------------------------------------------------------


def test_tag_has_the_documented_place_size_and_colour():
    image, mask = draw_tag(flat(100, 1024, 1024), 0)
    rows, columns = np.nonzero(mask)
    # A capital of DejaVu Sans is 0.729 em high (its OS/2 table: 1493 of 2048 units): 46.7 px of 64.
    assert rows.max() - rows.min() + 1 == math.ceil(64 * 1493 / 2048)
    assert 30 <= columns.max() - columns.min() + 1 <= 40
    # Origin (200, 200); the ascender line of the font is some px above its capitals.
    assert 200 <= columns.min() <= 210 and 200 <= rows.min() <= 220
    assert 500 <= mask.sum() <= 1000
    assert image[mask].max() == 255 and image[mask].min() >= 100
    assert (image == 255).sum() > mask.sum() / 2


def test_tag_scales_with_the_image():
    whole = np.argwhere(draw_tag(flat(0, 1024, 1024), 0)[1])
    half = np.argwhere(draw_tag(flat(0, 512, 512), 0)[1])
    for end in (np.min, np.max):
        assert np.abs(end(whole, axis=0) / 2 - end(half, axis=0)).max() <= 1


def test_tag_on_a_wide_image_follows_the_width_across_and_the_height_down():
    square = np.argwhere(draw_tag(flat(0, 512, 512), 0)[1])
    wide = np.argwhere(draw_tag(flat(0, 512, 1024), 0)[1])
    assert (wide - square == [0, 100]).all()


def test_tag_blends_its_edges_towards_white():
    on_black, mask = draw_tag(flat(0, 256, 256), 0)
    on_grey, _ = draw_tag(flat(100, 256, 256), 0)
    coverage = on_black / 255
    assert ((coverage > 0) == mask).all() and ((coverage > 0) & (coverage < 1)).any()
    assert np.abs(on_grey - (100 + 155 * coverage)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("where", [{"x": 1000}, {"y": 1000}, {"height": 900}, {"height": 1e15}])
def test_tag_outside_the_image_is_refused(where):
    with pytest.raises(StudyError, match="128 x 128 px"):
        draw_tag(flat(0, 128, 128), 0, **where)


def test_tag_that_draws_nothing_is_refused():
    with pytest.raises(StudyError, match="covers no pixel"):
        draw_tag(flat(0, 256, 256), 0, letter=" ")
    with pytest.raises(StudyError, match="a font of 0.312 px"):
        draw_tag(flat(0, 5, 5), 0)


# --- denoising ------------------------------------------------------------------------------------


def by_direct_transform(image: np.ndarray, diameter: float) -> np.ndarray:
    """The ideal low-pass with DFT matrices and signed frequencies in cycles per px: no FFT, no symmetry."""
    rows, columns = image.shape

    def matrix(n: int) -> np.ndarray:
        return np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)

    def cycles(n: int) -> np.ndarray:
        return np.array([k / n if k <= n / 2 else k / n - 1 for k in range(n)])

    spectrum = matrix(rows) @ image @ matrix(columns)
    radius = np.sqrt(cycles(rows)[:, None] ** 2 + cycles(columns)[None, :] ** 2)
    spectrum[radius > diameter / 2 / max(rows, columns) + 1e-12] = 0
    back = np.conj(matrix(rows)) @ spectrum @ np.conj(matrix(columns)) / (rows * columns)
    assert np.abs(back.imag).max() < 1e-6
    return np.clip(back.real, 0, 255)


@pytest.mark.parametrize("shape", [(32, 32), (31, 31), (24, 40), (41, 26)])
@pytest.mark.parametrize("diameter", [2, 10, 16, 21.5])
def test_low_pass_equals_the_direct_transform(shape, diameter):
    image = textured(3, *shape)
    expected = by_direct_transform(image, diameter)
    rounded, mask = low_pass(image, 0, diameter=diameter)
    truncated, _ = low_pass(image, 0, diameter=diameter, truncate=True)
    assert np.abs(rounded - expected).max() <= 0.5 + 1e-6
    assert (truncated <= expected + 1e-6).all() and (truncated > expected - 1 - 1e-6).all()
    assert mask.all()


@pytest.mark.parametrize(("cycles", "survives"), [(19, True), (20, True), (21, False)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_wave_survives_exactly_up_to_half_the_diameter(cycles, survives, axis):
    phase = 2 * np.pi * cycles * np.arange(128) / 128
    wave = np.broadcast_to(np.rint(128 + 60 * np.cos(phase)), (128, 128))
    image = np.ascontiguousarray(wave if axis else wave.T).astype(np.uint8)
    contrast = np.ptp(low_pass(image, 0, diameter=40)[0].astype(int))
    assert contrast >= 115 if survives else contrast <= 2


def test_truncation_darkens_by_half_a_grey_level():
    image = textured(4, 128, 128)
    rounded, truncated = (low_pass(image, 0, diameter=60, truncate=t)[0].astype(float).mean() for t in (False, True))
    assert rounded - truncated == pytest.approx(0.5, abs=0.03)


def test_a_flat_image_stays_flat_even_when_truncated():
    assert (low_pass(flat(80, 60, 77), 0, diameter=20, truncate=True)[0] == 80).all()


def test_a_disc_that_holds_the_whole_spectrum_is_refused():
    # The corner of a 256 px spectrum is sqrt(2) * 128 = 181 bins from DC, less than the default's 250.
    with pytest.raises(StudyError, match="keeps every frequency.*e.g. 125"):
        low_pass(flat(1, 256, 256), 0)


sizes = st.integers(8, 40)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), rows=sizes, columns=sizes, share=st.floats(0.05, 1.2))
def test_low_pass_keeps_the_mean_and_changes_nothing_twice(seed, rows, columns, share):
    # Greys 110..145 keep the ringing of the sharp cutoff away from the clip at 0 and 255.
    image = np.random.default_rng(seed).integers(110, 146, (rows, columns), dtype=np.uint8)
    diameter = share * min(rows, columns)
    once, _ = low_pass(image, 0, diameter=diameter)
    twice, _ = low_pass(once, 0, diameter=diameter)
    assert abs(once.mean() - image.mean()) <= 0.5
    # Each rounding errs by at most 1/2, and what the disc stops of an error has less energy than all of it.
    assert np.sqrt(np.mean((once.astype(float) - twice) ** 2)) <= 1.0


# --- alterations and their keys -------------------------------------------------------------------


def test_alterations_that_do_the_same_are_the_same():
    spelled = alteration("low_pass", truncate=False, diameter=500.0)
    assert spelled == Alteration("low_pass") == alteration("low_pass", diameter=np.int64(500))
    assert hash(spelled) == hash(Alteration("low_pass"))
    assert spelled.parameters == (("diameter", 500), ("truncate", False))
    assert spelled.label == "low_pass(diameter=500, truncate=False)"
    assert pickle.loads(pickle.dumps(spelled)) == spelled
    assert json.loads(json.dumps(spelled.to_dict())) == {
        "name": "low_pass",
        "parameters": {"diameter": 500, "truncate": False},
    }


def test_labels_lose_no_digit():
    close = [alteration("poisson_noise", n0=n0).label for n0 in (12345678, 12345679, 2e7)]
    assert close == ["poisson_noise(n0=12345678)", "poisson_noise(n0=12345679)", "poisson_noise(n0=2e+07)"]


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("blur", {}, "unknown alteration 'blur'.*low_pass"),
        ("low_pass", {"radius": 3}, "unknown parameter radius.*diameter, truncate"),
        ("original", {"n0": 3}, "unknown parameter n0.*none"),
        ("low_pass", {"diameter": 0}, "diameter=0 must be above 0"),
        ("low_pass", {"diameter": math.nan}, "diameter=nan must be a number"),
        ("low_pass", {"truncate": 1}, "truncate=1 must be True or False"),
        ("low_pass", {"diameter": True}, "diameter=True must be a number"),
        ("poisson_noise", {"n0": -1.0}, "n0=-1.0 must be above 0"),
        ("poisson_noise", {"n0": "2e7"}, "n0='2e7' must be a number"),
        ("poisson_noise", {"n0": 1e19}, "at most 1e"),
        ("hounsfield_noise", {"n0": 0}, "n0=0 must be above 0"),
        ("projection_noise", {"views": 2.5}, "views=2.5 must be a whole number"),
        ("projection_noise", {"pixel_mm": 0}, "pixel_mm=0 must be above 0"),
        ("draw_tag", {"letter": ""}, "letter='' must be a text"),
        ("draw_tag", {"x": -1}, "x=-1 must be"),
    ],
)
def test_bad_parameters_are_refused_when_named_and_when_used(name, parameters, says):
    with pytest.raises(StudyError, match=says):
        alteration(name, **parameters)
    if name in ALTERATIONS:
        with pytest.raises(StudyError, match=says):
            ALTERATIONS[name](suited(Alteration(name), flat(1)), 0, **parameters)


def test_keys_depend_on_seed_image_and_alteration_only():
    low, high = alteration("poisson_noise"), alteration("poisson_noise", n0=1.5e7)
    keys = [key_for(1, "a", low), key_for(2, "a", low), key_for(1, "b", low), key_for(1, "a", high)]
    assert len(set(keys)) == 4
    assert key_for(1, "a", alteration("poisson_noise", n0=2e7)) == keys[0]


# --- confounders ----------------------------------------------------------------------------------


def test_constructors_build_the_papers_designs():
    made = {name: make() for name, make in CONFOUNDERS.items()}
    assert all(confounder.name == name for name, confounder in made.items())
    assert [name for name, c in made.items() if c.sampled] == ["gender"]
    assert [name for name, c in made.items() if c.base != ORIGINAL] == ["noise_high_vs_low"]
    assert made["noise_high_vs_low"].base == made["noise"].carrier
    assert dict(made["noise_high_vs_low"].carrier.parameters) == {"n0": 15_000_000}
    assert dict(made["denoising"].carrier.parameters)["diameter"] == 500
    gender = made["gender"]
    assert (gender.attribute, gender.value, gender.other, gender.leaf) == ("sex", "F", "M", "gender")
    assert gender.carrier == gender.base == ORIGINAL


def test_confounders_can_be_compared_hashed_pickled_and_written():
    first, second = confounders.tag(height=64.0), confounders.tag()
    assert first == second and len({first, second, confounders.tag(letter="L")}) == 2
    assert pickle.loads(pickle.dumps(first)) == first
    assert json.loads(json.dumps(first.to_dict()))["carrier"]["parameters"]["letter"] == "R"
    assert set(confounders.gender().to_dict()) == {"name", "leaf", "attribute", "value", "other"}
    assert confounders.noise().label == "noise: poisson_noise(n0=2e+07) against original"
    assert confounders.gender().label == "gender: sex F against M"


def test_any_attribute_can_be_sampled():
    view = confounders.sampled("view", "AP", "PA", leaf="patient positioning")
    assert view.sampled and view.name == "patient_positioning"
    assert confounders.sampled("view", "AP", "PA", leaf="patient positioning", name="view").name == "view"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": "Tag!"}, "small letters"),
        ({"leaf": "ruler"}, "not a leaf"),
        ({"carrier": ORIGINAL}, "needs two different alterations"),
        ({"base": alteration("draw_tag")}, "are both draw_tag"),
        ({"attribute": "sex"}, "either drawn"),
        ({"carrier": ORIGINAL, "attribute": "sex", "value": "F", "other": "F"}, "two different values"),
        ({"carrier": ORIGINAL, "attribute": "sex", "value": "F"}, "other=''"),
    ],
)
def test_a_confounder_is_exactly_one_of_the_two_kinds(fields, says):
    good = {"name": "tag", "leaf": "tag", "carrier": alteration("draw_tag")}
    Confounder(**good)
    with pytest.raises(StudyError, match=says):
        Confounder(**good | fields)


def test_high_noise_must_be_higher_than_low():
    with pytest.raises(StudyError, match="fewer are noisier"):
        confounders.noise_high_vs_low(low=1e7, high=2e7)


@pytest.mark.parametrize("make", [confounders.noise, confounders.noise_high_vs_low])
def test_noise_has_three_domains_and_the_old_one_keeps_its_identity(make):
    assert make() == make(domain="grey")
    low = {"name": "poisson_noise", "parameters": {"n0": 20_000_000}}
    assert low in (make().to_dict()["base"], make().to_dict()["carrier"])
    by_domain = [make(domain=domain) for domain in confounders.NOISE_DOMAINS]
    assert [c.carrier.name for c in by_domain] == ["poisson_noise", "hounsfield_noise", "projection_noise"]
    assert len({c.name for c in by_domain}) == 1 and len(set(by_domain)) == 3
    assert all(dict(c.carrier.parameters)["n0"] == dict(make().carrier.parameters)["n0"] for c in by_domain)
    with pytest.raises(StudyError, match="unknown domain 'HU'.*grey, hounsfield, projection"):
        make(domain="HU")


def test_high_and_low_noise_lie_in_one_domain():
    design = confounders.noise_high_vs_low(domain="projection")
    assert design.base == confounders.noise(domain="projection").carrier
    assert design.base.space == design.carrier.space == "hounsfield"


# --- real images ----------------------------------------------------------------------------------


def test_effects_on_real_radiographs_are_as_strong_as_published(shared_data):
    paths = sorted((shared_data / "nih-cxr14" / "images").glob("*.png"))[:8]
    images = [np.asarray(Image.open(path).convert("L")) for path in paths]

    def mean_change(name: str) -> float:
        pairs = [(ALTERATIONS[name](image, i)[0], image) for i, image in enumerate(images)]
        return float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairs]))

    # The study reports a mean change of 1.12 grey levels for denoising at 1024 px, over other images.
    assert mean_change("low_pass") == pytest.approx(1.12, rel=0.35)
    # The mean absolute deviation of a normal variable is sqrt(2/pi) of its sd.
    # The published sd is 1.8 grey levels; 1/6 is the variance of the dither.
    assert mean_change("poisson_noise") == pytest.approx(math.sqrt(2 / math.pi * (1.8**2 + 1 / 6)), rel=0.1)
