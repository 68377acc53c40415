from collections import Counter

import numpy as np
import pytest

from sourcematters.demo.pictures import NATURAL_CLASSES, RADIOLOGY_CLASSES, _cloud, natural, radiology

WORLDS = [(natural, NATURAL_CLASSES), (radiology, RADIOLOGY_CLASSES)]


@pytest.mark.parametrize(("world", "classes"), WORLDS)
def test_labels_cover_all_classes_evenly(world, classes):
    assert len(set(classes)) == len(classes) == 12
    counts = Counter(world(1, index, 16)[1] for index in range(10 * len(classes)))
    assert counts == dict.fromkeys(range(len(classes)), 10)


@pytest.mark.parametrize(("world", "classes"), WORLDS)
@pytest.mark.parametrize("size", [33, 64])
def test_pictures_are_rgb_bytes_that_use_the_range(world, classes, size):
    pictures = np.array([world(1, index, size)[0] for index in range(len(classes))])
    assert pictures.shape == (len(classes), size, size, 3) and pictures.dtype == np.uint8
    assert (np.ptp(pictures.reshape(len(classes), -1), axis=1) > 100).all()


@pytest.mark.parametrize(("world", "classes"), WORLDS)
def test_a_picture_depends_on_seed_and_index_alone(world, classes):
    forth = [world(1, index)[0] for index in range(14)]
    back = [world(1, index)[0] for index in reversed(range(14))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forth, back, strict=True))
    assert len({picture.tobytes() for picture in forth}) == 14
    assert not np.array_equal(forth[0], world(2, 0)[0])


def test_color_is_in_natural_only():
    for index in range(24):
        picture, label = natural(1, index)
        assert np.ptp(picture.astype(int), axis=2).mean() > 5, NATURAL_CLASSES[label]
        picture, label = radiology(1, index)
        assert np.ptp(picture, axis=2).max() == 0, RADIOLOGY_CLASSES[label]


def test_natural_backgrounds_fall_as_one_over_frequency():
    clouds = [_cloud(np.random.default_rng(i), 64) for i in range(40)]
    amplitude = np.sqrt(np.mean([np.abs(np.fft.fft2(cloud)) ** 2 for cloud in clouds], axis=0))
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None, :])
    band = (frequency > 0.03) & (frequency < 0.45)
    slope = np.polyfit(np.log(frequency[band]), np.log(amplitude[band]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.05)
    assert np.mean([cloud.var() for cloud in clouds]) == pytest.approx(1, rel=0.1)


def test_texture_shows_as_steps_within_the_object():
    def steps(texture: str) -> float:
        """Mean brightness step between neighbours in the picture's middle, where the object is."""
        labels = [i for i, name in enumerate(NATURAL_CLASSES) if name.startswith(texture)]
        middles = [natural(1, 12 * turn + i)[0][20:44, 20:44].mean(axis=2) for turn in range(10) for i in labels]
        return np.abs(np.diff(middles, axis=2)).mean()

    assert steps("striped") > 1.3 * steps("plain")
    assert steps("checked") > 1.3 * steps("plain")


def test_modalities_are_told_apart_by_their_mean_picture():
    def pictures(turns: range) -> dict[str, np.ndarray]:
        found: dict[str, list[np.ndarray]] = {}
        for index in (12 * turn + label for turn in turns for label in range(12)):
            picture, label = radiology(1, index, 32)
            found.setdefault(RADIOLOGY_CLASSES[label].split()[0], []).append(picture[..., 0].astype(float))
        return {modality: np.array(row) for modality, row in found.items()}

    means = {modality: row.mean(axis=0) for modality, row in pictures(range(20)).items()}
    assert set(means) == {"CT", "MR", "ultrasound"}
    right = [
        min(means, key=lambda m, p=picture: np.square(means[m] - p).mean()) == modality
        for modality, row in pictures(range(20, 40)).items()
        for picture in row
    ]
    assert np.mean(right) > 0.85


def test_findings_change_the_picture_where_they_should():
    def blocks(name: str) -> np.ndarray:
        """Median over pictures of the darkest and the brightest 5 x 5 block near the middle, whatever the noise."""
        label = RADIOLOGY_CLASSES.index(name)
        middles = [radiology(1, 12 * turn + label)[0][20:44, 20:44, 0].astype(float) for turn in range(40)]
        means = np.lib.stride_tricks.sliding_window_view(middles, (5, 5), axis=(1, 2)).mean(axis=(3, 4))
        return np.median([means.min(axis=(1, 2)), means.max(axis=(1, 2))], axis=1)

    for modality in ("CT", "ultrasound"):
        normal, mass, cyst = (blocks(f"{modality} {finding}") for finding in ("normal", "mass", "cyst"))
        assert cyst[0] < normal[0] - 15 and mass[1] > normal[1] + 5
