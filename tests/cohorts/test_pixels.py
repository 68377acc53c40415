import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sourcematters.cohorts import pixels
from sourcematters.cohorts.pixels import decode, is_dicom, read, window
from sourcematters.errors import StudyError

RAMP = np.arange(256, dtype=np.uint8).reshape(8, 32)


def png(path, width, height, depth, colour, rows):
    """A PNG assembled by hand from the specification (ISO/IEC 15948), for what Pillow will not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def save(path, array, mode="L", **options):
    Image.fromarray(array).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_grey_survives_every_mode_unchanged(tmp_path, mode):
    grey = read(save(tmp_path / "a.png", RAMP, mode))
    assert grey.dtype == np.uint8
    np.testing.assert_array_equal(grey, RAMP)


def test_palette_is_looked_up(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8), mode="P")
    image.putpalette([10, 10, 10, 200, 200, 200])
    image.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read(tmp_path / "p.png"), [[10, 200], [200, 10]])


def test_alpha_is_ignored(tmp_path):
    rgba = np.full((4, 4, 4), 90, dtype=np.uint8)
    rgba[..., 3] = 0
    Image.fromarray(rgba).save(tmp_path / "transparent.png")
    assert (read(tmp_path / "transparent.png") == 90).all()


def test_colour_is_weighted_by_itu_r_601(tmp_path):
    Image.new("RGB", (1, 1), (100, 150, 200)).save(tmp_path / "c.png")
    assert read(tmp_path / "c.png")[0, 0] == round(0.299 * 100 + 0.587 * 150 + 0.114 * 200)


def test_jpeg(tmp_path):
    save(tmp_path / "a.jpg", np.full((16, 16), 77, dtype=np.uint8))
    assert abs(int(read(tmp_path / "a.jpg")[3, 3]) - 77) <= 2


def test_non_square_is_height_by_width(tmp_path):
    assert read(save(tmp_path / "a.png", np.zeros((3, 7), dtype=np.uint8))).shape == (3, 7)


def complaint(path):
    with pytest.raises(StudyError) as caught:
        decode(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_empty_text_and_folder(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>404</html>")
    assert "No such file" in complaint(tmp_path / "none.png")
    assert "is empty" in complaint(tmp_path / "empty.png")
    assert "not an image" in complaint(tmp_path / "text.png")
    assert "cannot be read" in complaint(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_truncation_anywhere_in_the_pixels_is_seen(tmp_path, name):
    rng = np.random.default_rng(0)
    content = save(tmp_path / name, rng.integers(0, 256, (64, 64), dtype=np.uint8)).read_bytes()
    cut = tmp_path / f"cut-{name}"
    for keep in (0.3, 0.6, 0.9, 0.99):
        cut.write_bytes(content[: int(keep * len(content))])
        assert "truncated or corrupt" in complaint(cut) or "not an image" in complaint(cut)


def test_a_flipped_bit_is_seen(tmp_path):
    # Stored without compression, so that only the checksum at the end of the pixels can tell.
    content = bytearray(save(tmp_path / "a.png", RAMP, compress_level=0).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    assert "truncated or corrupt" in complaint(tmp_path / "a.png")


def test_sixteen_bit_and_float_are_refused(tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(tmp_path / "grey16.png")
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(tmp_path / "float.tif")
    png(tmp_path / "rgb16.png", 2, 1, 16, 2, bytes(13))
    for name in ("grey16.png", "float.tif", "rgb16.png"):
        assert "8-bit" in complaint(tmp_path / name)


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_zero_size(tmp_path, size):
    complaint(png(tmp_path / "z.png", *size, 8, 0, bytes(4)))


@pytest.mark.parametrize("limit", [40, 60])
def test_decompression_bomb(tmp_path, monkeypatch, limit):
    save(tmp_path / "a.png", np.zeros((10, 10), dtype=np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # over twice the limit an error, else a warning
    assert "more pixels" in complaint(tmp_path / "a.png")


@pytest.fixture
def slices(monkeypatch):
    """Stands for the reader of DICOM: any file is one slice, and the paths it was asked for."""
    asked = []

    def read_hu(path):
        asked.append(path)
        return np.array([[-1000, 0]], dtype=np.int16)

    monkeypatch.setattr(pixels, "read_hu", read_hu)
    return asked


def test_dicom_is_known_by_its_name_or_its_magic(tmp_path, slices):
    named, unnamed = tmp_path / "a.DCM", tmp_path / "000001"
    named.write_bytes(b"implicit, without a preamble")
    unnamed.write_bytes(bytes(128) + b"DICM" + bytes(4))
    for path in (named, unnamed, str(unnamed)):
        assert is_dicom(path)
        np.testing.assert_array_equal(read(path), [[-1000, 0]])
    assert slices == [named, unnamed, str(unnamed)]


def test_other_images_are_read_as_grey(tmp_path, slices):
    path = save(tmp_path / "a.png", RAMP)
    shifted = tmp_path / "shifted"
    shifted.write_bytes(bytes(127) + b"DICM" + bytes(9))
    assert not is_dicom(path) and not is_dicom(shifted) and not is_dicom(tmp_path)
    np.testing.assert_array_equal(read(path), RAMP)
    assert read(path).dtype == np.uint8 and slices == []
    with pytest.raises(StudyError, match="No such file"):
        read(tmp_path / "none.dcm")


def test_a_dicom_file_is_no_grey_image(tmp_path):
    path = tmp_path / "slice.dcm"
    path.write_bytes(bytes(128) + b"DICM")
    assert "a DICOM file" in complaint(path) and "pixels.read" in complaint(path)


def test_the_lung_window_by_hand():
    # Centre -600, width 1500: from -1350 to 150 HU, 255/1500 = 0.17 grey levels each.
    hu = np.array([[-3000, -1350, -1349, -1347, -1000], [-600, 0, 149, 150, 3000]], dtype=np.int16)
    grey = window(hu, -600, 1500)
    # 1 * .17 = .17; 3 * .17 = .51; 350 * .17 = 59.5 (to even); 750 * .17 = 127.5; 1350 * .17 = 229.5; 254.83.
    np.testing.assert_array_equal(grey, [[0, 0, 0, 1, 60], [128, 230, 255, 255, 255]])
    assert grey.dtype == np.uint8


def test_a_window_of_255_counts_every_unit():
    hu = np.arange(-200, 300, dtype=np.int16).reshape(1, -1)
    np.testing.assert_array_equal(window(hu, 27.5, 255)[0], np.clip(hu[0] + 100, 0, 255))
    assert window(np.array([[-32768, 32767]], dtype=np.int16), 0, 1).tolist() == [[0, 255]]


def test_nih_images(shared_data):
    folder = shared_data / "nih-cxr14" / "images"
    rgba = [path for path in sorted(folder.iterdir()) if path.read_bytes()[25] == 6]  # PNG colour type
    assert len(rgba) == 4
    assert [decode(path).mode for path in rgba] == ["RGBA"] * 4
    for path in rgba:
        red = np.asarray(Image.open(path))[..., 0]
        np.testing.assert_array_equal(read(path), red)
