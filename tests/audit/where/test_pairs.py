"""Pairs of images as networks get them, shares on a mask, and their mean over patients."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import make_cohort

from sourcematters import confounders
from sourcematters.audit.where import pairs
from sourcematters.training.image_bank import Rendering, render
from sourcematters.training.recipe import Preprocessing


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("pairs")).table


@pytest.mark.parametrize("interpolation", ["nearest", "antialias"])
def test_pairs_are_what_the_image_bank_holds_and_the_mask_covers_all_that_changes(table, interpolation):
    tag, how = confounders.Tag(height=300), Preprocessing(size=32, interpolation=interpolation, crop=60)
    chosen = table.iloc[:4]
    found = pairs.drawn(chosen, tag, how, seed=3)
    for row, path, name in zip(range(4), chosen["path"], chosen["image_id"], strict=True):
        both = [Rendering(alteration=a, seed=3, **how.model_dump()) for a in (tag.base, tag.carrier)]
        without, carrying = render(path, name, both)
        assert np.array_equal(found.without[row], without) and np.array_equal(found.carrying[row], carrying)
    changed = found.without != found.carrying
    assert changed.any() and not (changed & ~found.masks).any()
    assert 0.005 < found.areas.mean() < 0.2 and found.local


def test_a_filter_has_no_place(table):
    found = pairs.drawn(table.iloc[:2], confounders.Denoising(diameter=30), Preprocessing(size=32), seed=0)
    assert found.areas.tolist() == [1, 1] and not found.local


def test_some_are_half_of_each_label_and_the_same_in_any_order(table):
    found = pairs.some(table, 10, seed=1)
    assert found["label"].value_counts().to_dict() == {0: 5, 1: 5}
    again = pairs.some(table.sample(frac=1, random_state=0).reset_index(drop=True), 10, seed=1)
    assert set(again["image_id"]) == set(found["image_id"]) != set(pairs.some(table, 10, seed=2)["image_id"])
    assert len(pairs.some(table, 1000, seed=1)) == len(table)


def test_the_first_of_each_label_come_with_their_arrays(table):
    found = pairs.drawn(pairs.some(table, 8, seed=0), confounders.Tag(height=300), Preprocessing(size=32), seed=0)
    few = found.first(1)
    assert few.images["label"].tolist() == [0, 1] and few.without.shape == few.masks.shape == (2, 32, 32)
    at = found.images["image_id"].tolist().index(few.images["image_id"][1])
    assert np.array_equal(few.carrying[1], found.carrying[at])
    assert few.digest != found.digest == pairs.Pairs(*found).digest


@given(st.integers(0, 99), st.floats(0.1, 100))
def test_a_share_is_the_masks_part_whatever_the_sign_and_scale(seed, scale):
    rng = np.random.default_rng(seed)
    maps, mask = rng.normal(size=(1, 6, 6)), rng.random((1, 6, 6)) < 0.4
    by_hand = sum(abs(v) for v, m in zip(maps.ravel(), mask.ravel(), strict=True) if m) / np.abs(maps).sum()
    assert pairs.share(scale * maps, mask)[0] == pytest.approx(by_hand)
    assert pairs.share(maps, mask) + pairs.share(maps, ~mask) == pytest.approx([1])


def test_a_share_of_nothing_is_unknown_and_of_evenness_the_area():
    mask = np.arange(16).reshape(1, 4, 4) < 3
    assert np.isnan(pairs.share(np.zeros((1, 4, 4)), mask)).all()
    assert pairs.share(np.full((1, 4, 4), -2.0), mask).tolist() == [3 / 16]


def test_an_image_counts_once_with_the_mean_of_its_folds_and_patients_vary_together():
    table = pd.DataFrame(
        {
            "patient_id": ["a", "a", "a", "b", "b", "c"],
            "image_id": ["1", "1", "2", "3", "3", "4"],
            "share": [0.0, 0.2, 0.3, 0.5, 0.7, np.nan],
        }
    )
    found = pairs.over_patients(table, "share", seed=0)
    assert found["mean"] == pytest.approx((0.1 + 0.3 + 0.6) / 3) and found["images"] == 3
    # Two patients: both resamples of one patient alone are among the drawn, a quarter each.
    assert (found["low"], found["high"]) == pytest.approx((0.2, 0.6))
    none = pairs.over_patients(table.assign(share=np.nan), "share", seed=0)
    assert none["images"] == 0 and np.isnan(none["mean"])


def test_the_interval_is_as_wide_as_the_standard_error_says():
    values = np.random.default_rng(0).normal(size=200)
    table = pd.DataFrame({"patient_id": np.arange(200), "image_id": np.arange(200), "share": values})
    found = pairs.over_patients(table, "share", seed=0)
    expected = 2 * 1.96 * values.std() / np.sqrt(200)
    assert found["high"] - found["low"] == pytest.approx(expected, rel=0.1)
