"""Controls: one grey level and no more, what can be drawn on which images, and what is told of the unseen."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from sourcematters import confounders
from sourcematters.audit.measures import controls
from sourcematters.confounders import Gender, Tag, apply
from sourcematters.confounders.imaging.couch import PatientTable
from sourcematters.errors import StudyError
from sourcematters.training.recipe import Preprocessing


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A table of 44 grey images of 256 px."""
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    for k in range(44):
        Image.fromarray(rng.normal(110, 20, (256, 256)).clip(0, 255).astype(np.uint8)).save(folder / f"{k}.png")
    rows = [(f"i{k}", str(folder / f"{k}.png"), f"p{k}", k % 2) for k in range(44)]
    return pd.DataFrame(rows, columns=["image_id", "path", "patient_id", "label"])


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)), st.integers(1, 9))
def test_one_grey_level_is_one_grey_level(image, by):
    drawn, mask = apply(controls.OneGreyLevel(by=by).carrier, image, key=0)
    assert drawn.dtype == np.uint8 and (drawn == np.minimum(image.astype(int) + by, 255)).all()
    assert (mask == (drawn != image)).all() and (mask == (image < 255)).all()
    assert (apply(controls.OneGreyLevel(by=by).carrier, image, key=1)[0] == drawn).all(), "nothing is drawn by chance"


def test_the_negative_control_is_no_confounder_that_people_choose():
    name = controls.OneGreyLevel().name
    assert name not in confounders.known()
    with pytest.raises(StudyError, match=f"audited: unknown confounder `{name}`"):
        controls.named(["tag", name])


def test_an_unknown_name_is_told_the_nearest():
    controls.named([])
    controls.named(["tag", "gender"])
    with pytest.raises(StudyError, match="audited: unknown confounder `tagg`. Did you mean tag?"):
        controls.named(["tag", "tagg"])


def test_one_of_each_leaf_and_none_of_ct_on_a_grey_image(films, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1024, 1024), dtype=np.uint8)).save(tmp_path / "a.png")
    found = controls.of_each_leaf(films[:1].assign(path=str(tmp_path / "a.png")), seed=0)
    known, by_leaf = confounders.known(), confounders.implemented()
    leaf_of = {name: leaf for leaf, names in by_leaf.items() for name in names}
    assert len({leaf_of[name] for name in found}) == len(found), "one a leaf"
    assert not any(known[name].sampled for name in found)
    grey = {
        leaf
        for leaf, names in by_leaf.items()
        if any(not known[name].sampled and known[name]().carrier.space == confounders.GREY for name in names)
    }
    assert grey == {leaf_of[name] for name in found}
    assert all(confounders.make(name).carrier.space == confounders.GREY for name in found)
    small = {leaf_of[name] for name in controls.of_each_leaf(films, seed=0)}
    assert grey - small == {leaf_of["denoising"]}, "whose filter is wider than all frequencies of 256 px"


def test_what_can_be_drawn(films):
    assert controls.can_be_drawn(Tag(), films, seed=0)
    assert not controls.can_be_drawn(Tag(height=1), films[:1], seed=0), "a font of a quarter of a pixel"
    assert not controls.can_be_drawn(Tag(x=1020), films[:1], seed=0), "out of the image"
    assert not controls.can_be_drawn(PatientTable(), films[:1], seed=0), "needs a CT slice"
    assert controls.can_be_drawn(Gender(), films[:1], seed=0), "nothing is drawn"


def test_a_tag_that_falls_between_the_pixels_is_complained_of(films):
    small, large = Tag(height=16), Tag(name="large_tag", height=300)
    found = controls.visible(films, [small, large], Preprocessing(size=28), seed=0, workers=1)
    assert [one.confounder for one in found] == [small, large]
    assert [one.reach.images for one in found] == [40, 40]
    assert not found[0].reach.enough and found[1].reach.enough and found[1].complaint == ""
    said = found[0].complaint
    assert said.startswith("tag cannot be seen by the network: at 28 px (nearest) it is seen in")
    assert "Seen it would be with" in said and "height: " in said
