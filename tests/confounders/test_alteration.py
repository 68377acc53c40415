"""Alterations: their text, their keys, and which images they take."""

import json
import pickle

import numpy as np
import pytest

from sourcematters.confounders import GREY, HOUNSFIELD, ORIGINAL, Denoising, Noise, Tag, apply, key_for
from sourcematters.errors import StudyError

GREYS = [Tag().carrier, Denoising(diameter=20).carrier, Noise().carrier]
HUS = [Noise(domain=domain).carrier for domain in ("hounsfield", "projection")]
MISSHAPEN = {
    "float": np.zeros((8, 8)),
    "colour": np.zeros((8, 8, 3), np.uint8),
    "empty": np.zeros((0, 8), np.uint8),
    "list": [[1, 2]],
}


@pytest.mark.parametrize("each", [ORIGINAL, *GREYS, *HUS], ids=lambda a: a.name)
@pytest.mark.parametrize("bad", MISSHAPEN.values(), ids=MISSHAPEN)
def test_only_images_are_taken(each, bad):
    needs = "CT slice in Hounsfield units" if each in HUS else "grey uint8 image"
    with pytest.raises(StudyError, match=f"{each.name}: needs a {needs}"):
        apply(each, bad, 0)


def test_each_acts_in_its_pixel_space_only():
    grey, hu = np.ones((8, 8), np.uint8), np.full((9, 8), -896, np.int16)
    assert {each.space for each in GREYS} == {GREY} and {each.space for each in HUS} == {HOUNSFIELD}
    for each in HUS:
        with pytest.raises(StudyError, match=r"needs a CT slice.*choose domain grey.*got uint8 of shape \(8, 8\)"):
            apply(each, grey, 0)
    for each in GREYS:
        with pytest.raises(StudyError, match="needs a grey uint8.*pixels.window.*got int16"):
            apply(each, hu, 0)


def test_the_original_is_a_copy():
    image = np.ones((8, 8), np.uint8)
    copy, mask = apply(ORIGINAL, image, 0)
    assert (copy == image).all() and copy.dtype == image.dtype and not mask.any()
    assert not np.shares_memory(copy, image)


def test_alterations_that_do_the_same_are_the_same():
    spelled, short = Denoising(truncate=False, diameter=np.int64(500)).carrier, Denoising().carrier
    assert spelled == short and hash(spelled) == hash(short) and short != ORIGINAL
    assert spelled.label == "low_pass(diameter=500, truncate=False)" and ORIGINAL.label == "original"
    assert json.loads(json.dumps(spelled.to_dict())) == {
        "name": "low_pass",
        "parameters": {"diameter": 500, "truncate": False},
        "revision": "1",
    }


@pytest.mark.parametrize("each", [ORIGINAL, *GREYS, HUS[0]], ids=lambda a: a.name)
def test_a_worker_process_gets_the_same_alteration(each):
    again = pickle.loads(pickle.dumps(each))
    image = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(each.space)
    assert again == each and (apply(again, image, 3)[0] == apply(each, image, 3)[0]).all()


def test_keys_depend_on_seed_image_and_alteration_only():
    low, high = Noise().carrier, Noise(n0=1.5e7).carrier
    keys = [key_for(1, "a", low), key_for(2, "a", low), key_for(1, "b", low), key_for(1, "a", high)]
    assert len(set(keys)) == 4
    assert key_for(1, "a", Noise(n0=20_000_000).carrier) == keys[0]
