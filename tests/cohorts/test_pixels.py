import struct
import zlib

import dicom_files
import numpy as np
import pytest
from PIL import Image

from sourcematters.cohorts.pixels import is_dicom, read, seen, window
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
        seen(path)
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


# Every format and mode that Pillow writes and reads again

WIDTHS = (160, 540, 720, 1056, 2016)  # rows of these widths are 160, 1620, 2160, 3168, 2016 bytes long
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "F", "I;16", "I;16B")
LOSSY = ("AVIF", "GIF", "JPEG", "JPEG2000", "MPO", "WEBP")  # GIF, as it has 256 colours
TIFFS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4")
# What Pillow only writes, hands to another program, or makes the size of an icon.
LEFT_OUT = {"BLP", "BUFR", "EPS", "GRIB", "HDF5", "ICNS", "ICO", "PALM", "PDF", "WMF"}
Image.init()
FORMATS = [(kind, {}) for kind in sorted(set(Image.SAVE) - LEFT_OUT)]
OWN_MODES = {  # into which Pillow turns all others before it writes
    "AVIF": ("L", "RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB"),
    "WEBP": ("L", "RGB", "RGBA"),
}


def picture(mode, width):
    """Columns from black to white in a mode, 3 px high; and what they are in grey."""
    ramp = np.tile(np.arange(width) * 255 // (width - 1), (3, 1)).astype(np.uint8)
    if mode.startswith("I;16"):
        words = (ramp.astype(int) << 8).astype(">u2" if mode == "I;16B" else "<u2")
        return Image.frombytes(mode, (width, 3), words.tobytes()), ramp
    image = Image.fromarray(ramp).convert(mode)
    return (image, ramp) if mode in ("I", "F") else (image, np.asarray(image.convert("L")))


@pytest.mark.parametrize(("kind", "options"), [*FORMATS, *(("TIFF", {"compression": name}) for name in TIFFS)])
def test_whatever_pillow_writes_is_read_or_named_at_any_width(tmp_path, kind, options):
    path, tried = tmp_path / "image", 0
    for mode in OWN_MODES.get(kind, MODES):
        for width in WIDTHS:
            image, grey = picture(mode, width)
            try:
                image.save(path, kind, **options)
            except Exception:  # this format has no such mode
                continue
            tried += 1
            deep = mode in ("I", "F") or mode.startswith("I;16")
            known = (
                kind in ("PNG", "TIFF", "JPEG2000", "PPM") and mode.startswith("I;16") or (kind, mode) == ("PPM", "I")
            )
            if kind == "SPIDER" or (deep and not known):
                assert "neither 8 bits a channel nor 16-bit grey" in complaint(path), (mode, width)
                continue
            assert read(path).shape == grey.shape
            off = np.abs(read(path).astype(int) - grey).max()
            # Percentiles cut the ends of a ramp by 1.3 levels; CMYK and YCbCr are rounded on the way.
            most = 40 if kind in LOSSY or options.get("compression") == "jpeg" else 2 if deep or mode[0] in "CY" else 0
            assert off <= most, (mode, width)
    assert tried


def test_sixteen_bits_are_scaled_between_their_percentiles(tmp_path):
    # Of 201 levels the percentiles .5 and 99.5 are the second and the last but one.
    steps = np.arange(201)
    expected = np.clip(np.rint((steps - 1) * 255 / 198), 0, 255)[None]
    for step, first in ((1, 0), (13, 700), (300, 5000)):  # 8, 12 and 16 bits
        levels = (first + step * steps).astype(np.uint16)[None]
        for name in ("a.png", "a.tif", "a.jp2", "a.pgm"):
            Image.fromarray(levels).save(tmp_path / name)
            assert np.array_equal(read(tmp_path / name), expected), (name, step)
        assert seen(tmp_path / "a.png")[1] == "I;16, scaled between its percentiles 0.5 and 99.5"
    levels = np.zeros((30, 30), np.uint16)
    Image.fromarray(levels).save(tmp_path / "blank.png")
    levels[0, 0] = 40000
    Image.fromarray(levels).save(tmp_path / "dot.png")
    assert read(tmp_path / "blank.png").max() == 0
    assert read(tmp_path / "dot.png")[0, 0] == 255 and read(tmp_path / "dot.png").sum() == 255


def test_white_is_zero_in_a_tiff_of_sixteen_bits_too(tmp_path):
    levels = np.arange(201, dtype=np.uint16)[None] * 300
    Image.fromarray(levels).save(tmp_path / "white.tif", tiffinfo={262: 0})
    Image.fromarray(levels).save(tmp_path / "black.tif")
    assert np.array_equal(read(tmp_path / "white.tif"), read(tmp_path / "black.tif")[:, ::-1])


def test_colour_of_sixteen_bits_and_numbers_of_32_are_named(tmp_path):
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.zeros((8, 8), dtype=np.int32)).save(tmp_path / "int.tif")
    png(tmp_path / "rgb16.png", 2, 1, 16, 2, bytes(13))
    png(tmp_path / "la16.png", 2, 1, 16, 4, bytes(9))
    for name, mode, stored in (
        ("float.tif", "F", "F;32F"),
        ("int.tif", "I", "I;32S"),
        ("rgb16.png", "RGB", "RGB;16B"),
        ("la16.png", "RGBA", "LA;16B"),
    ):
        assert f"(Pillow mode {mode}, stored as {stored}). Convert it to 8-bit grey" in complaint(tmp_path / name)


def test_colour_of_twelve_bits_in_jpeg_2000_is_named(tmp_path):
    """Pillow cuts it to 8 bits, and writes none: here the depth that a file of 8 bits declares is changed."""
    Image.new("RGB", (16, 16), (10, 20, 30)).save(tmp_path / "a.j2k", no_jp2=True)
    content = bytearray((tmp_path / "a.j2k").read_bytes())
    sizes = content.index(b"\xff\x51")  # ISO/IEC 15444-1, table A.9: the depths stand 40 bytes behind the marker
    assert content[sizes + 38 : sizes + 41] == b"\0\3\7"
    assert read(tmp_path / "a.j2k")[0, 0] == round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)
    for channel in range(3):
        content[sizes + 40 + 3 * channel] = 11
    (tmp_path / "a.j2k").write_bytes(content)
    assert "stored as RGB;16B" in complaint(tmp_path / "a.j2k")


def test_sixteen_bits_a_pixel_are_no_sixteen_bits_a_channel(tmp_path):
    """A BMP of 5, 6 and 5 bits, which Pillow reads and does not write."""
    pixels = struct.pack("<2H", 0xFFFF, 0x0000)
    masks = struct.pack("<3I", 0xF800, 0x07E0, 0x001F)
    header = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, len(pixels), 0, 0, 0, 0) + masks
    start = 14 + len(header)
    (tmp_path / "a.bmp").write_bytes(struct.pack("<2sIHHI", b"BM", start + 4, 0, 0, start) + header + pixels)
    assert read(tmp_path / "a.bmp").tolist() == [[255, 0]]


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "TIFF", "WEBP"])
def test_an_image_is_turned_as_its_exif_says_and_that_is_said(tmp_path, kind):
    stored = np.zeros((32, 48), np.uint8)
    stored[:16, :16] = 250  # the first row and column
    # TIFF 6.0, Orientation: where the first row and column are to be shown.
    corners = {1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left"}
    corners |= {5: "top left", 6: "top right", 7: "bottom right", 8: "bottom left"}
    for orientation, corner in corners.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(stored).save(tmp_path / "a", kind, exif=exif)
        grey, how = seen(tmp_path / "a")
        assert grey.shape == ((32, 48) if orientation < 5 else (48, 32))
        rows, columns = np.nonzero(grey > 125)
        assert ("top" if rows.mean() < grey.shape[0] / 2 else "bottom") in corner, orientation
        assert ("left" if columns.mean() < grey.shape[1] / 2 else "right") in corner, orientation
        assert how.endswith(", turned as its EXIF says") == (orientation > 1)


def test_damaged_exif_harms_no_pixel(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*garbage")
    assert np.array_equal(read(tmp_path / "a.png"), RAMP)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP", "AVIF"])
def test_several_pages_are_refused(tmp_path, kind):
    pages = [Image.fromarray(np.full((8, 8), 80 * i, np.uint8)) for i in range(3)]
    pages[0].save(tmp_path / "a", kind, save_all=True, append_images=pages[1:])
    assert f"3 pages or frames in one {kind}. Save the one you mean by itself." in complaint(tmp_path / "a")
    pages[1].save(tmp_path / "a", kind, save_all=True)
    assert abs(int(read(tmp_path / "a")[0, 0]) - 80) <= 2


def test_of_a_phones_jpeg_the_first_picture_is_the_picture(tmp_path):
    pages = [Image.fromarray(np.full((16, 16), value, np.uint8)) for value in (80, 160)]
    pages[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=pages[1:])
    assert Image.open(tmp_path / "a.jpg").format == "MPO"
    assert abs(int(read(tmp_path / "a.jpg")[0, 0]) - 80) <= 2


def test_a_transparent_palette_is_looked_up_and_alpha_ignored(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), mode="P")
    image.putpalette([10, 10, 10, 200, 200, 200, 90, 90, 90])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    image.save(tmp_path / "a.gif", transparency=1)
    for name in ("a.png", "a.gif"):
        assert read(tmp_path / name).tolist() == [[10, 200], [200, 90]]


def test_cmyk_is_black_where_there_is_ink(tmp_path):
    """Adobe's JPEG stores it inverted."""
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:, 8:, 3] = 255
    Image.fromarray(ink, "CMYK").save(tmp_path / "a.jpg")
    grey = read(tmp_path / "a.jpg")
    assert grey[:, :8].min() > 250 and grey[:, 8:].max() < 5


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_zero_size(tmp_path, size):
    complaint(png(tmp_path / "z.png", *size, 8, 0, bytes(4)))


@pytest.mark.parametrize("limit", [40, 60])
def test_decompression_bomb(tmp_path, monkeypatch, limit):
    save(tmp_path / "a.png", np.zeros((10, 10), dtype=np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # over twice the limit an error, else a warning
    assert "more pixels" in complaint(tmp_path / "a.png")


HU = np.array([[-1000, 40], [0, 300]], np.int16)


def write_dicom(path, stored=HU, **tags):
    identity = {name: dicom_files.uid(name) for name in ("study_uid", "series_uid", "sop_uid")}
    dicom_files.write_slice(path, stored, z_mm=0, patient_id="p", **identity)
    return dicom_files.edit(path, **tags)


def test_dicom_is_known_by_its_name_or_its_magic(tmp_path):
    for name in ("a.DCM", "000001"):
        path = write_dicom(tmp_path / name)
        assert is_dicom(path) and is_dicom(str(path))
        np.testing.assert_array_equal(read(path), HU)
        assert read(path).dtype == np.int16 and seen(str(path))[1] == "CT, in Hounsfield units"
    (tmp_path / "b.dcm").write_bytes(b"implicit, without a preamble")
    assert is_dicom(tmp_path / "b.dcm") and "not a DICOM file" in complaint(tmp_path / "b.dcm")


def test_other_images_are_read_as_grey(tmp_path):
    path = save(tmp_path / "a.png", RAMP)
    shifted = tmp_path / "shifted"
    shifted.write_bytes(bytes(127) + b"DICM" + bytes(9))
    assert not is_dicom(path) and not is_dicom(shifted) and not is_dicom(tmp_path)
    np.testing.assert_array_equal(read(path), RAMP)
    assert read(path).dtype == np.uint8
    with pytest.raises(StudyError, match="No such file"):
        read(tmp_path / "none.dcm")


def test_a_dicom_radiograph_is_grey(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", Modality="DX", BitsStored=12, HighBit=11, PixelRepresentation=0)
    assert read(path).dtype == np.uint8 and seen(path)[1].startswith("DX, 12 bits, MONOCHROME2, scaled between")


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
    assert [seen(path)[1] for path in rgba] == ["RGBA"] * 4
    for path in rgba:
        red = np.asarray(Image.open(path))[..., 0]
        np.testing.assert_array_equal(read(path), red)
