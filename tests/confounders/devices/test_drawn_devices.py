"""Each device: where and how large it is, what it leaves alone, and that it hides nothing."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from sourcematters.confounders import known, make
from sourcematters.confounders.devices.radiopaque import Film, Radiopaque
from sourcematters.errors import StudyError

NAMES = [name for name, kind in known().items() if issubclass(kind, Radiopaque)]
each = pytest.mark.parametrize("name", NAMES)


def flat(grey, side=400):
    return np.full((side, side), grey, np.uint8)


class Middle:
    """What a generator would draw, without chance: the middle of everything."""

    def random(self):
        return 0.5

    def uniform(self, low=0.0, high=1.0, size=None):
        return (low + high) / 2 if size is None else np.full(size, (low + high) / 2)

    def normal(self, mean=0.0, sd=1.0, size=None):
        return mean if size is None else np.full(size, mean)

    def integers(self, high):
        return 0


def laid(confounder, side=1024):
    """Nepers (H, W) of a device in its middle pose, and mm of a cell."""
    film = Film((side, side), confounder.field_mm)
    confounder.lay(film, Middle())
    return film.nepers, film.step


def inscribed(there, step):
    """mm, diameter of the largest disc that fits in."""
    return 4 * step * distance_transform_edt(np.pad(there[::2, ::2], 1)).max()


def test_the_six_devices_are_there():
    assert set(NAMES) >= {"pacemaker", "ecg_electrodes", "chest_drain", "port", "surgical_clips", "necklace"}
    assert all(known()[name].model_fields["leaf"].default == "medical device" for name in NAMES)


@each
def test_it_never_darkens_and_the_anatomy_behind_it_still_shows(name):
    device = make(name)
    one, mask = device.draw(flat(100), 5)
    other, same = device.draw(flat(120), 5)
    assert (one >= 100).all() and (one[~mask] == 100).all() and (mask == same).all()
    # 20 grey levels behind it: some are left everywhere.
    assert (other.astype(int) - one)[mask].min() > 3
    assert one.max() < 240 and (one[mask] > 101).mean() > 0.5


@each
def test_on_other_anatomy_the_same_place_is_shaded(name):
    random = np.random.default_rng(1)
    image = random.integers(0, 256, (300, 420), dtype=np.uint8)
    altered, mask = make(name).draw(image, 11)
    assert (altered >= image).all() and (altered[~mask] == image[~mask]).all() and 0 < mask.mean() < 0.2
    assert (make(name).draw(np.full_like(image, 50), 11)[1] == mask).all()


@each
def test_the_key_alone_decides_where_it_lies(name):
    device = make(name)
    drawn = [device.draw(flat(90), key)[1] for key in (1, 2, 1)]
    assert (drawn[0] == drawn[2]).all() and (drawn[0] != drawn[1]).any()


@each
def test_a_stronger_one_changes_more(name):
    changes = [
        np.mean([(device.draw(flat(90), key)[0] - 90.0).mean() for key in range(3)])
        for device in (make(name), make(name).stronger())
    ]
    assert changes[1] > 1.2 * changes[0]


@each
def test_it_is_as_large_on_the_body_in_any_image(name):
    device = make(name, blur_mm=0)
    share = [(device.draw(flat(90, side), 3)[0] - 90.0).mean() for side in (600, 1200)]
    assert share[0] == pytest.approx(share[1], rel=0.1)


SIZES = {"pacemaker": "width_mm", "ecg_electrodes": "pad_mm", "port": "diameter_mm", "surgical_clips": "length_mm"}


@pytest.mark.parametrize("name", SIZES)
def test_what_does_not_fit_is_refused(name):
    with pytest.raises(StudyError, match=f"{name}: .* does not fit into a film of 100 x 100 mm"):
        make(name, field_mm=100, **{SIZES[name]: 100}).draw(flat(90), 1)


def test_a_drain_and_a_pendant_that_do_not_fit_are_refused():
    with pytest.raises(StudyError, match="chest_drain: .* does not fit"):
        make("chest_drain", french=200, field_mm=60).draw(flat(90), 1)
    with pytest.raises(StudyError, match="necklace: .* does not fit"):
        make("necklace", pendant_mm=150, field_mm=100).draw(flat(90), 1)


@pytest.mark.parametrize("wrong", [{"field_mm": 0}, {"blur_mm": -1}, {"leads": 4}, {"width_mm": True}])
def test_bad_parameters_are_refused(wrong):
    with pytest.raises(StudyError, match=f"{next(iter(wrong))} ="):
        make("pacemaker", **wrong)


def test_the_pacemakers_can_has_its_size_in_mm():
    nepers, step = laid(make("pacemaker", leads=0))
    y, x = int(0.26 * len(nepers)), int(0.79 * len(nepers))  # its centre
    assert np.count_nonzero(nepers[y] > 0.3) * step == pytest.approx(50, abs=0.5)
    assert np.count_nonzero(nepers[:, x + int(8 / step)] > 0.3) * step == pytest.approx(45, abs=0.5)
    drawn, _ = make("pacemaker", leads=0, blur_mm=0).draw(flat(90, 1024), 3)
    # In an image: 50 x 45 mm without four corners of 14.4 mm, with its header, at 2.93 px a mm.
    assert 0.85 < (drawn > 140).sum() / (1024 / 350) ** 2 / (50 * 45 - (4 - np.pi) * 14.4**2) < 1.05


def test_leads_go_from_the_can_to_the_heart():
    without, with_one, with_two = (laid(make("pacemaker", leads=n))[0] > 0 for n in (0, 1, 2))
    assert (without <= with_one).all() and (with_one <= with_two).all()
    tip = np.argwhere(with_one & ~without).max(axis=0) / len(without)
    assert tip == pytest.approx([0.72, 0.85], abs=0.13)


def test_it_lies_on_the_left_in_four_of_five():
    can, n = make("pacemaker", leads=0), 100
    left = np.mean([np.nonzero(can.draw(flat(90, 80), key)[1])[1].mean() > 40 for key in range(n)])
    assert left == pytest.approx(0.8, abs=4 * (0.8 * 0.2 / n) ** 0.5)


def test_snaps_pads_tubes_rings_and_pendants_have_their_sizes_in_mm():
    nepers, step = laid(make("ecg_electrodes"))
    assert inscribed(nepers > 0, step) == pytest.approx(35, abs=1)
    assert inscribed(nepers > 0.3, step) == pytest.approx(10, abs=1)
    nepers, step = laid(make("chest_drain"))
    assert inscribed(nepers > 0, step) == pytest.approx(28 / 3, abs=0.5)
    nepers, step = laid(make("port"))
    assert inscribed(nepers > 0, step) == pytest.approx(27, abs=0.7)
    nepers, step = laid(make("necklace"))
    assert inscribed(nepers > 0, step) == pytest.approx(12, abs=1)


def test_a_port_is_open_in_its_middle():
    nepers, _ = laid(make("port"))
    rows, columns = np.nonzero(nepers > 2)
    assert nepers[round(rows.mean()), round(columns.mean())] < 1.2 < nepers.max()


def test_clips_are_as_many_and_as_long_as_said():
    nepers, step = laid(make("surgical_clips", clips=1))
    rows, columns = np.nonzero(nepers)
    # In the middle pose upright, and turned so far that 7/8 of it shows.
    assert (np.ptp(rows) + 1) * step == pytest.approx((8 - 1) * 7 / 8 + 1, abs=0.4)
    assert (np.ptp(columns) + 1) * step == pytest.approx(2, abs=0.4)
    few, many = ((make("surgical_clips", clips=n).draw(flat(90), 4)[0] > 95).sum() for n in (2, 20))
    assert many > 5 * few


def test_on_real_radiographs_each_is_seen_and_hides_nothing(shared_data):
    from PIL import Image

    path = sorted((shared_data / "nih-cxr14" / "images").glob("*.png"))[40]
    image = np.asarray(Image.open(path).convert("L"))
    for name in NAMES:
        altered, mask = make(name).draw(image, 9)
        change = altered.astype(int) - image
        assert change.min() == 0 and change.max() > 20 and 0 < mask.mean() < 0.1
