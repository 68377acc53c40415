"""Resolution: means of blocks, and JPEG by its quality."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from sourcematters.confounders import make
from sourcematters.errors import StudyError


def textured(seed: int, rows: int, columns: int) -> np.ndarray:
    made = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(rows, columns)), 1.5)
    return np.rint(128 + 100 * made / np.abs(made).max()).astype(np.uint8)


def test_each_kept_pixel_is_the_mean_of_its_block():
    image = textured(0, 128, 192)
    made, mask = make("downsampled", side=16).draw(image, 0)
    means = image.reshape(16, 8, 24, 8).mean(axis=(1, 3))
    # Bilinear between the blocks' middles: at a middle (between px 3 and 4) it is the mean of what lies around.
    back = ndimage.map_coordinates(np.rint(means), np.mgrid[:128, :192] / 8 - 7 / 16, order=1, mode="nearest")
    # Pillow rounds after each direction, on the way down and on the way up.
    assert mask.all() and np.abs(made - back).max() <= 2


def test_a_flat_image_stays_and_a_fine_grid_vanishes():
    assert (make("downsampled", side=20).draw(np.full((50, 70), 91, np.uint8), 0)[0] == 91).all()
    board = (255 * (np.indices((64, 64)).sum(axis=0) % 2)).astype(np.uint8)
    assert np.ptp(make("downsampled", side=32).draw(board, 0)[0]) == 0


def test_smaller_is_stronger_and_a_side_that_is_there_already_is_refused():
    image = textured(1, 200, 160)
    errors = [
        np.abs(make("downsampled", side=s).draw(image, 0)[0].astype(int) - image).mean() for s in (150, 80, 40, 9)
    ]
    assert errors == sorted(errors)
    with pytest.raises(StudyError, match="side=160 is no less than an image 160 x 200 px"):
        make("downsampled", side=160).draw(image, 0)


def test_jpeg_is_what_a_file_of_that_quality_gives():
    image = textured(2, 60, 77)
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="jpeg", quality=30)
    made, mask = make("jpeg", quality=30).draw(image, 0)
    assert (made == np.asarray(Image.open(file))).all() and mask.all()


def test_jpegs_error_grows_as_quality_falls():
    image = textured(3, 160, 160)
    errors = [
        np.square(make("jpeg", quality=q).draw(image, 0)[0].astype(int) - image).mean() for q in (95, 75, 50, 25, 5)
    ]
    assert errors == sorted(errors) and errors[0] < 1 < errors[-1]


def test_a_flat_image_of_a_grey_that_the_table_holds_stays():
    # 128 is zero in the transform, which every quality keeps.
    assert (make("jpeg", quality=1).draw(np.full((64, 64), 128, np.uint8), 0)[0] == 128).all()


def test_more_pixels_than_jpeg_can_count_are_refused():
    with pytest.raises(StudyError, match="70000 x 1 px .* cannot be JPEG"):
        make("jpeg").draw(np.zeros((1, 70000), np.uint8), 0)


@pytest.mark.parametrize(
    ("name", "wrong"), [("jpeg", {"quality": 0}), ("jpeg", {"quality": 101}), ("downsampled", {"side": 0})]
)
def test_bad_values_are_refused(name, wrong):
    with pytest.raises(StudyError, match=f"{next(iter(wrong))} ="):
        make(name, **wrong)
