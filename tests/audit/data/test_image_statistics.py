"""Image statistics against pictures whose numbers are known."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFont

from sourcematters.audit.data import image_statistics
from sourcematters.audit.data.image_statistics import (
    HISTOGRAM,
    blockiness,
    border,
    jpeg_quality,
    noise,
    of_images,
    sharpness,
    text,
)
from sourcematters.errors import StudyError

RNG = np.random.default_rng(0)


def smooth(height=256, width=256):
    y, x = np.mgrid[:height, :width]
    return (90 + 50 * np.sin(x / 40) * np.cos(y / 30)).astype(np.uint8)


def test_noise_of_a_known_standard_deviation_is_found_over_a_smooth_picture():
    for sigma in (3, 10):
        noisy = np.clip(smooth() + RNG.normal(0, sigma, (256, 256)), 0, 255).round().astype(np.uint8)
        assert noise(noisy) == pytest.approx(sigma, rel=0.05)
    assert noise(smooth()) < 1


def test_sharpness_is_the_variance_of_the_laplacian():
    from scipy.ndimage import laplace

    picture = RNG.integers(0, 256, (40, 30), np.uint8)
    assert sharpness(picture) == pytest.approx(laplace(picture.astype(float))[1:-1, 1:-1].var())


def test_a_border_is_as_wide_as_it_was_made():
    picture = RNG.integers(20, 200, (100, 200), np.uint8)
    assert set(border(picture).values()) == {0}
    picture[:10] = 3
    picture[:, -40:] = 255
    found = border(picture)
    assert (found["border_px"], found["border_top"], found["border_right"]) == (40, 0.1, 0.2)
    assert (found["border_left"], found["border_bottom"]) == (0, 0)
    assert found["border_share"] == pytest.approx(1 - 0.9 * 0.8)
    assert border(np.zeros((20, 20), np.uint8))["border_share"] == 1


def test_the_quality_of_a_jpeg_is_read_and_its_blocks_are_seen(tmp_path):
    picture = Image.fromarray(np.clip(smooth() + RNG.normal(0, 6, (256, 256)), 0, 255).astype(np.uint8))
    steps = {}
    for quality in (10, 50, 75, 95):
        path = tmp_path / f"{quality}.jpg"
        picture.save(path, quality=quality)
        assert jpeg_quality(str(path)) == pytest.approx(quality, abs=1)
        steps[quality] = blockiness(np.asarray(Image.open(path)))
    assert steps[10] > steps[50] > steps[75] > steps[95] and steps[95] < 1.2 < 2 < steps[10]
    cropped = np.asarray(Image.open(tmp_path / "10.jpg"))[3:, 5:]
    assert blockiness(cropped) == pytest.approx(steps[10], rel=0.1)
    picture.save(tmp_path / "a.png")
    assert np.isnan(jpeg_quality(str(tmp_path / "a.png")))
    assert blockiness(np.zeros((32, 32), np.uint8)) == 1


def test_letters_near_an_edge_are_counted_and_other_bright_things_are_not():
    picture = Image.fromarray(smooth(512, 512))
    assert text(np.asarray(picture)) == (0, 0)
    draw = ImageDraw.Draw(picture)
    draw.text((20, 16), "PORTABLE", fill=255, font=ImageFont.load_default(size=24))
    signs, area = text(np.asarray(picture))
    assert signs == 8 and 0.001 < area < 0.01
    others = Image.fromarray(smooth(512, 512))
    draw = ImageDraw.Draw(others)
    draw.rectangle((20, 20, 50, 50), fill=255)  # no stroke
    draw.line((0, 100, 511, 120), fill=255, width=3)  # it runs through the whole picture
    draw.text((250, 250), "AP", fill=255, font=ImageFont.load_default(size=24))  # far from all edges
    draw.text((400, 16), "R", fill=150, font=ImageFont.load_default(size=24))  # grey
    assert text(np.asarray(others)) == (0, 0)


def test_large_images_are_searched_for_text_at_a_smaller_size():
    picture = Image.fromarray(smooth(512, 512))
    ImageDraw.Draw(picture).text((20, 16), "SUPINE", fill=255, font=ImageFont.load_default(size=24))
    large = np.asarray(picture.resize((2048, 2048)))
    assert text(large)[0] == text(np.asarray(picture))[0] == 6


def test_one_row_an_image_in_the_tables_order(tmp_path):
    black_and_white = np.zeros((64, 96), np.uint8)
    black_and_white[:, 48:] = 255
    Image.fromarray(black_and_white).save(tmp_path / "b.png")
    Image.fromarray(smooth(80, 70)).convert("RGB").save(tmp_path / "a.jpg", quality=90)
    table = pd.DataFrame({"image_id": ["2", "1"], "path": [str(tmp_path / "b.png"), str(tmp_path / "a.jpg")]})
    found = of_images(table, workers=1)
    assert found.columns.tolist() == image_statistics.COLUMNS and found["image_id"].tolist() == ["2", "1"]
    first, second = found.to_dict("records")
    assert (first["width"], first["height"], first["aspect"], first["stored"]) == (96, 64, 1.5, "L")
    assert (first["mean"], first["std"]) == (127.5, 127.5)
    assert (first["grey_00"], first["grey_31"], sum(first[name] for name in HISTOGRAM)) == (0.5, 0.5, 1)
    assert first["bytes"] == (tmp_path / "b.png").stat().st_size and first["bytes_a_pixel"] == first["bytes"] / 6144
    assert (second["stored"], second["jpeg_quality"]) == ("RGB", 90)
    pd.testing.assert_frame_equal(found, of_images(table, workers=2))


def test_a_tiny_image_lacks_what_it_is_too_small_for(tmp_path):
    Image.fromarray(np.zeros((2, 12), np.uint8)).save(tmp_path / "a.png")
    row = of_images(pd.DataFrame({"image_id": ["a"], "path": [str(tmp_path / "a.png")]})).iloc[0]
    assert row[["noise", "sharpness", "blockiness", "text_signs", "text_share"]].isna().all()
    assert row["grey_00"] == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    table = pd.DataFrame({"image_id": ["a"], "path": [str(tmp_path / "broken.png")]})
    with pytest.raises(StudyError, match="broken.png: not an image"):
        of_images(table)
    with pytest.raises(StudyError, match="no column path"):
        of_images(table.drop(columns="path"))
