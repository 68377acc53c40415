import hashlib
import multiprocessing
import os
import shutil
import threading

import dicom_files
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sourcematters.cohorts.pixels import window
from sourcematters.confounders import Denoising, Noise, Tag, apply, key_for
from sourcematters.errors import StudyError
from sourcematters.training import image_bank
from sourcematters.training.image_bank import Rendering


def make_cohort(folder, n=11, size=(48, 40)):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        path = folder / f"img{i:02d}.png"
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
        rows.append({"image_id": f"img{i:02d}", "path": str(path)})
    return pd.DataFrame(rows)


def test_nearest_takes_the_pixel_under_the_centre(tmp_path):
    cohort = make_cohort(tmp_path)
    bank = image_bank.build(cohort, [Rendering(size=16)], tmp_path / "bank")[0]
    assert bank.shape == (11, 16, 16) and bank.dtype == np.uint8
    # Output pixel k of 16 has its centre at (k + .5) * 48 / 16 = 3k + 1.5: row 3k + 1; columns: (k + .5) * 2.5.
    rows, columns = 3 * np.arange(16) + 1, ((np.arange(16) + 0.5) * 2.5).astype(int)
    for i, path in enumerate(cohort["path"]):
        assert np.array_equal(bank[i], np.asarray(Image.open(path))[np.ix_(rows, columns)])


def test_antialias_averages_what_it_drops(tmp_path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 200
    Image.fromarray(stripes).save(tmp_path / "s.png")
    cohort = pd.DataFrame({"image_id": ["s"], "path": [str(tmp_path / "s.png")]})
    renderings = [Rendering(size=16, interpolation=how) for how in ("nearest", "antialias")]
    nearest, smooth = image_bank.build(cohort, renderings, tmp_path / "bank")
    assert set(np.unique(nearest)) <= {0, 200}
    assert np.abs(smooth[0, 2:-2, 2:-2].astype(int) - 100).max() <= 5


def test_artefacts_act_before_the_resize(tmp_path):
    Image.fromarray(np.zeros((1024, 1024), np.uint8)).save(tmp_path / "z.png")
    cohort = pd.DataFrame({"image_id": ["z"], "path": [str(tmp_path / "z.png")]})
    bank = image_bank.build(cohort, [Rendering(alteration=Tag().carrier, size=128)], tmp_path / "bank")[0]
    rows, columns = np.nonzero(bank[0])
    # A glyph of about 37 x 47 px at (200, 200) of 1024 is about 5 x 6 px at (25, 25) of 128.
    assert 3 <= np.ptp(columns) + 1 <= 6 and 4 <= np.ptp(rows) + 1 <= 7
    assert 24 <= columns.min() <= 27 and 24 <= rows.min() <= 33


def test_any_number_of_workers_gives_the_same_bank(tmp_path, monkeypatch):
    monkeypatch.setattr(image_bank, "ALONE_SECONDS", 0)
    cohort = make_cohort(tmp_path, n=20)
    noise = Rendering(alteration=Noise(n0=2e5).carrier, size=24)
    one = image_bank.build(cohort, [noise], tmp_path / "one", workers=1)[0]
    two = image_bank.build(cohort, [noise], tmp_path / "two", workers=2)[0]
    assert np.array_equal(one, two) and one.std() > 0


def test_a_bank_is_found_again_and_depends_on_content_not_on_place(tmp_path, monkeypatch):
    cohort = make_cohort(tmp_path, n=3)
    image_bank.build(cohort, [Rendering(size=16)], tmp_path / "bank")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in cohort["path"]:
        os.rename(path, moved / os.path.basename(path))
    cohort = cohort.assign(path=[str(moved / os.path.basename(path)) for path in cohort["path"]])
    monkeypatch.setattr(image_bank, "render", lambda *a: pytest.fail("built again"))
    image_bank.build(cohort, [Rendering(size=16)], tmp_path / "bank")
    monkeypatch.undo()
    Image.fromarray(np.full((48, 40), 7, np.uint8)).save(cohort["path"][1])
    assert (image_bank.build(cohort, [Rendering(size=16)], tmp_path / "bank")[0][1] == 7).all()


def interrupted(folder, monkeypatch):
    """A cohort whose bank is interrupted at its 20th image, the bank as it should be, and the images drawn so far."""
    cohort = make_cohort(folder, n=30)
    whole = image_bank.build(cohort, [Rendering(size=16)], folder / "whole")[0]
    rendered, real = [], image_bank.render

    def counting(path, image_id, renderings):
        rendered.append(image_id)
        if len(rendered) == 20:
            raise KeyboardInterrupt
        return real(path, image_id, renderings)

    monkeypatch.setattr(image_bank, "render", counting)
    with pytest.raises(KeyboardInterrupt):
        image_bank.build(cohort, [Rendering(size=16)], folder / "bank")
    return cohort, whole, rendered


def test_an_interrupted_build_goes_on_with_what_was_missing(tmp_path, monkeypatch):
    cohort, whole, rendered = interrupted(tmp_path, monkeypatch)
    assert not list((tmp_path / "bank").glob("*.npy"))
    resumed = image_bank.build(cohort, [Rendering(size=16)], tmp_path / "bank")[0]
    assert np.array_equal(resumed, whole)
    # Two whole tasks of 8 images were done and are not done again.
    assert len(rendered) == 20 + (30 - 16)
    assert not [p for p in (tmp_path / "bank").iterdir() if p.suffix in (".partial", ".done")]


def test_two_processes_building_at_once_agree(tmp_path):
    cohort = make_cohort(tmp_path, n=12)
    context = multiprocessing.get_context("spawn")
    arguments = (cohort, [Rendering(size=16)], tmp_path / "bank")
    other = context.Process(target=image_bank.build, args=arguments)
    other.start()
    threads = [threading.Thread(target=image_bank.build, args=arguments) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.join()
    assert other.exitcode == 0
    banks = list((tmp_path / "bank").glob("*.npy"))
    assert len(banks) == 1
    assert np.array_equal(np.load(banks[0]), image_bank.build(cohort, [Rendering(size=16)], tmp_path / "fresh")[0])


def test_a_missing_or_truncated_image_is_named_and_no_bank_is_left(tmp_path):
    cohort = make_cohort(tmp_path, n=4)
    content = open(cohort["path"][2], "rb").read()
    open(cohort["path"][2], "wb").write(content[: len(content) // 2])
    with pytest.raises(StudyError, match="img02.png"):
        image_bank.build(cohort, [Rendering(size=16)], tmp_path / "bank")
    os.remove(cohort["path"][2])
    with pytest.raises(StudyError, match=r"image img02: .*img02.png cannot be read"):
        image_bank.build(cohort, [Rendering(size=16)], tmp_path / "bank")
    assert not list((tmp_path / "bank").glob("*.npy"))


def test_radiographs_of_any_kind_share_a_bank(tmp_path):
    """DICOM of 12 bits, black or white at 0, and PNG of 16 and 8 bits, of the same ramp."""
    ramp = np.tile(np.linspace(0, 255, 48).round().astype(np.uint16), (48, 1))
    identity = {name: dicom_files.uid(name) for name in ("study_uid", "series_uid", "sop_uid")}
    for name, form, levels in (("1", "MONOCHROME1", 4080 - ramp * 16), ("2", "MONOCHROME2", ramp * 16)):
        dicom_files.write_slice(tmp_path / f"{name}.dcm", levels, z_mm=0, patient_id="p", intercept=0, **identity)
        tags = {"Modality": "CR", "PhotometricInterpretation": form, "WindowCenter": 2040.5, "WindowWidth": 4081}
        dicom_files.edit(tmp_path / f"{name}.dcm", PixelRepresentation=0, BitsStored=12, HighBit=11, **tags)
    Image.fromarray(ramp * 257).save(tmp_path / "16.png")
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "8.png")
    paths = [str(tmp_path / name) for name in ("1.dcm", "2.dcm", "16.png", "8.png")]
    cohort = pd.DataFrame({"image_id": ["a", "b", "c", "d"], "path": paths})
    bank = image_bank.build(cohort, [Rendering(size=48)], tmp_path / "bank")[0]
    assert bank.dtype == np.uint8 and (bank == ramp).all()


def chest(side=40):
    """A slice in HU: air, a body of water, and a ramp of lung."""
    hu = np.full((side, side), -1000, np.int16)
    hu[5:-5, 5:-5] = 0
    hu[10:-10, 10:-10] = np.linspace(-900, -300, side - 20).astype(np.int16)
    return hu


@pytest.fixture
def ct(monkeypatch):
    """One file, which reads as a CT slice."""
    monkeypatch.setattr(image_bank, "read", lambda path: chest())
    return lambda **settings: image_bank.render("a.dcm", "a", [Rendering(size=40, **settings)])[0]


def test_a_ct_slice_is_windowed(ct):
    assert np.array_equal(ct(), window(chest(), -600, 1500))
    assert np.array_equal(ct(window=(40, 400)), window(chest(), 40, 400))
    assert not np.array_equal(ct(), ct(window=(40, 400)))


@pytest.mark.parametrize("domain", ["hounsfield", "projection"])
def test_noise_in_hounsfield_units_acts_before_the_window(ct, domain):
    noise = Noise(n0=1e5, domain=domain).carrier
    noisy = apply(noise, chest(), key_for(0, "a", noise))[0]
    assert np.array_equal(ct(alteration=noise), window(noisy, -600, 1500))
    assert not np.array_equal(ct(alteration=noise), ct(alteration=noise, seed=1))


@pytest.mark.parametrize("each", [Noise(n0=1e5).carrier, Denoising(diameter=9).carrier])
def test_a_grey_alteration_acts_after_the_window(ct, each):
    grey = window(chest(), -600, 1500)
    assert np.array_equal(ct(alteration=each), apply(each, grey, key_for(0, "a", each))[0])


def test_noise_in_hounsfield_units_needs_a_ct_slice(tmp_path):
    cohort = make_cohort(tmp_path, n=1)
    noise = Rendering(alteration=Noise(domain="hounsfield").carrier, size=16)
    with pytest.raises(StudyError, match=r"img00.png: hounsfield_noise needs a CT slice.*domain grey"):
        image_bank.build(cohort, [noise], tmp_path / "bank")


@pytest.mark.parametrize("side", [39, 40])
def test_the_crop_keeps_the_centre_at_native_size(tmp_path, side):
    cohort = make_cohort(tmp_path, n=1, size=(48, 41))
    native = np.asarray(Image.open(cohort["path"][0]))
    bank = image_bank.build(cohort, [Rendering(size=side, crop=side)], tmp_path / "bank")[0]
    top, left = {39: (4, 1), 40: (4, 0)}[side]
    assert np.array_equal(bank[0], native[top : top + side, left : left + side])


def test_the_crop_comes_after_the_artefact(tmp_path):
    Image.fromarray(np.zeros((1024, 1024), np.uint8)).save(tmp_path / "z.png")
    whole, cut = image_bank.render(
        str(tmp_path / "z.png"),
        "z",
        [
            Rendering(alteration=Tag().carrier, size=1024),
            Rendering(alteration=Tag().carrier, size=724, crop=724),
        ],
    )
    assert np.array_equal(cut, whole[150:874, 150:874]) and cut.max() == 255


def test_an_image_smaller_than_the_crop_is_named(tmp_path):
    cohort = make_cohort(tmp_path, n=1, size=(48, 40))
    with pytest.raises(StudyError, match=r"img00.png: 40 x 48 px .* too few for crop 41"):
        image_bank.build(cohort, [Rendering(size=16, crop=41)], tmp_path / "bank")


def test_what_is_not_altered_has_one_bank_for_all_seeds():
    content = pd.Series(["x", "y"], index=["a", "b"])
    tag = [Rendering(alteration=Tag().carrier, size=64, interpolation="antialias", seed=seed) for seed in (0, 3)]
    first, second = (image_bank.bank_path(content, each, "f").name for each in tag)
    assert first != second and first.startswith("draw_tag-64px-antialias-") and first.endswith(".npy")
    assert image_bank.bank_path(content, Rendering(seed=0), "f") == image_bank.bank_path(
        content, Rendering(seed=3), "f"
    )


def test_window_and_crop_enter_a_banks_name():
    content = pd.Series(["x"], index=["a"])
    settings = [{}, {"crop": 32}, {"crop": 33}, {"window": (-600, 1400)}, {"window": (-500, 1500)}, {"seed": 32}]
    settings += [{"crop": 32, "window": (-600, 1400)}]
    noise = Noise().carrier
    names = {image_bank.bank_path(content, Rendering(alteration=noise, **each), "f") for each in settings}
    assert len(names) == len(settings)
    assert Rendering(window=[-600, 1500]) == Rendering() and hash(Rendering(window=[-600, 1500])) == hash(Rendering())


@pytest.mark.parametrize(
    "wrong",
    [
        {"interpolation": "cubic"},
        {"size": 4},
        {"size": 5000},
        {"crop": -1},
        {"crop": 3},
        {"window": (0, 0)},
        {"window": (1, 2, 3)},
        {"window": 5},
    ],
    ids=str,
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(StudyError):
        Rendering(**wrong)


def test_a_full_disk_is_said_before_the_first_pixel(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(StudyError, match="the disk is full"):
        image_bank.build(make_cohort(tmp_path, n=2), [Rendering(size=16)], tmp_path / "bank")
    assert not [p for p in (tmp_path / "bank").iterdir() if p.suffix in (".npy", ".partial")]


def other(path):
    """Another image under that name, of the same size in bytes and at the same time."""
    stat = os.stat(path)
    content = bytearray(open(path, "rb").read())
    content[-20] ^= 1
    open(path, "wb").write(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert os.stat(path).st_size == stat.st_size and os.stat(path).st_mtime_ns == stat.st_mtime_ns


def test_an_image_replaced_at_the_same_size_and_time_is_noticed(tmp_path):
    cohort = make_cohort(tmp_path, n=3)
    before = image_bank.fingerprints(cohort, tmp_path / "bank")
    other(cohort["path"][1])
    after = image_bank.fingerprints(cohort, tmp_path / "bank")
    assert (before != after).tolist() == [False, True, False]
    assert after["img01"] == hashlib.sha256(open(cohort["path"][1], "rb").read()).hexdigest()
    assert len(pd.read_csv(tmp_path / "bank" / "files.csv")) == 3, "what it was before is forgotten"
    # A file that took the name of another one, with its size and time.
    shutil.copy2(cohort["path"][0], tmp_path / "beside.png")
    os.utime(tmp_path / "beside.png", ns=(os.stat(cohort["path"][2]).st_mtime_ns,) * 2)
    os.replace(tmp_path / "beside.png", cohort["path"][2])
    assert image_bank.fingerprints(cohort, tmp_path / "bank")["img02"] == after["img00"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text(""),
        lambda path: path.write_text("<html>\n"),
        lambda path: path.write_bytes(path.read_bytes()[:-70]),
        lambda path: path.write_text(path.read_text().replace(",a", ",b").replace(",1", ",2")),
        lambda path: path.with_suffix(".sha256").unlink(),
    ],
    ids=["empty", "no table", "cut", "changed", "not sealed"],
)
def test_what_is_remembered_of_images_is_read_again_when_it_is_damaged(tmp_path, capsys, damage):
    cohort, memory = make_cohort(tmp_path, n=5), tmp_path / "bank" / "files.csv"
    before = image_bank.fingerprints(cohort, tmp_path / "bank")
    damage(memory)
    assert image_bank.fingerprints(cohort, tmp_path / "bank").equals(before)
    assert capsys.readouterr().err.count("all images are read again") == 1
    assert image_bank.fingerprints(cohort, tmp_path / "bank").equals(before) and not capsys.readouterr().err


def zeros(path):
    bank = np.load(path)
    bank[len(bank) // 2 :] = 0
    np.save(path, bank)


def other_header(path):
    content = path.read_bytes()
    assert b"'shape': (11" in content
    path.write_bytes(content.replace(b"'shape': (11", b"'shape'(: 11", 1))


@pytest.mark.parametrize(
    "damage",
    [
        zeros,
        other_header,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-99]),
        lambda path: path.with_suffix(".sha256").write_text(""),
    ],
    ids=["half zeros", "header", "empty", "cut", "not sealed"],
)
def test_a_damaged_bank_is_built_again_and_said_once(tmp_path, capsys, damage):
    cohort = make_cohort(tmp_path)
    renderings = [Rendering(size=16), Rendering(size=16, alteration=Tag().carrier)]
    before = [bank.copy() for bank in image_bank.build(cohort, renderings, tmp_path / "bank")]
    path = next((tmp_path / "bank").glob("draw_tag*.npy"))
    whole = path.read_bytes()
    damage(path)
    after = image_bank.build(cohort, renderings, tmp_path / "bank")
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True)) and path.read_bytes() == whole
    said = capsys.readouterr().err
    assert said.count("the bank is built again") == said.count(path.name) == 1
    image_bank.build(cohort, renderings, tmp_path / "bank")
    assert "built again" not in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["what was done", "its account", "all of it"])
def test_what_a_crash_of_the_machine_lost_of_half_a_bank_is_made_again(tmp_path, monkeypatch, lost):
    cohort, whole, rendered = interrupted(tmp_path, monkeypatch)
    (half,), (done,) = ((tmp_path / "bank").glob(f"*.{suffix}") for suffix in ("partial", "done"))
    if lost == "what was done":
        bank = np.load(half, mmap_mode="r+")
        bank[5] = 0
        bank.flush()
    elif lost == "its account":
        done.write_bytes(done.read_bytes()[:50])
    else:
        half.write_bytes(b"\x93NUMPY")
    assert np.array_equal(image_bank.build(cohort, [Rendering(size=16)], tmp_path / "bank")[0], whole)
    assert len(rendered) == 20 + (30 - 16 + 1 if lost == "what was done" else 30)
