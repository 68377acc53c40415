import numpy as np
import pytest

from sourcematters.errors import StudyError
from sourcematters.results import ct_figures, figures


@pytest.fixture(scope="module")
def hu():
    offset = np.arange(120) - 60
    return np.where(offset[:, None] ** 2 + offset**2 < 50**2, 0, -1000).astype(np.int16)


def test_white_noise_has_its_variance_at_every_frequency():
    noise = np.random.default_rng(0).normal(0, 3, (300, 300))
    spectrum = ct_figures.power_spectrum(noise)
    assert spectrum["frequency"].is_monotonic_increasing and spectrum["frequency"].between(0, 0.5).all()
    # Rings beyond the innermost hold hundreds of frequencies.
    assert np.abs(spectrum["power"][2:] / 9 - 1).max() < 0.25
    assert spectrum["power"].mean() == pytest.approx(9, rel=0.05)


def test_a_wave_has_its_power_at_its_own_frequency():
    wave = np.broadcast_to(np.sin(2 * np.pi * 0.2 * np.arange(200)), (200, 200))
    spectrum = ct_figures.power_spectrum(wave)
    assert spectrum.loc[spectrum["power"].idxmax(), "frequency"] == pytest.approx(0.2, abs=0.02)


def test_the_table_tells_white_from_correlated(hu):
    _, table = ct_figures.noise_domains(hu, n0=2e6, seed=1)
    image, projections = (table[table["domain"] == domain] for domain in ("hounsfield", "projection"))
    # Eq. 2 in water: 1000 / 0.0175 / sqrt(2e6 exp(-0.1837)) HU.
    assert image["sd_hu"].iloc[0] == pytest.approx(1000 / 0.0175 / np.sqrt(2e6 * np.exp(-0.1837)), rel=0.05)
    assert abs(image["neighbour_autocorrelation"].iloc[0]) < 0.04
    # What ramp and linear interpolation make of white rays (see test_noise).
    assert projections["neighbour_autocorrelation"].iloc[0] == pytest.approx(0.119, abs=0.05)
    lowest, middle = projections["power"].iloc[[1, 12]]
    assert lowest < middle / 3
    again, other = (ct_figures.noise_domains(hu, n0=2e6, seed=seed)[1] for seed in (1, 2))
    assert table.equals(again) and not table.equals(other)


def test_the_figure_shows_one_grey_scale_and_says_what_it_shows(hu, tmp_path):
    figure, table = ct_figures.noise_domains(hu, n0=2e6, seed=1, note="a disc of water")
    images = [axes.get_images()[0] for axes in figure.axes if axes.get_images()]
    slices, differences = images[:3], images[3:5]
    assert {image.get_clim() for image in slices} == {(0, 255)}
    assert len({image.get_clim() for image in differences}) == 1
    low, high = differences[0].get_clim()
    assert low == -high and high > 0
    assert np.array_equal(slices[0].get_array(), np.where(hu == 0, 230, 60))  # 1350 and 350 of 1500 HU
    assert "2\u00a0\u00d7\u00a010\u2076 photons" in figure.get_suptitle()
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    for letter, axes in zip("abcdef", panels, strict=True):
        words = [text.get_text() for text in axes.texts]
        assert "a disc of water" in words and letter in words
    for domain, image in zip(("hounsfield", "projection"), differences, strict=True):
        sd = table.loc[table["domain"] == domain, "sd_hu"].iloc[0]
        caption = image.axes.get_xlabel()
        assert f"sd {sd:.1f} HU" in caption
    assert all(path.stat().st_size for path in figures.save(figure, tmp_path / "noise_domains", table))


def test_images_that_are_no_slices_are_refused(hu):
    with pytest.raises(StudyError, match="needs a CT slice in Hounsfield units"):
        ct_figures.noise_domains(hu.astype(np.uint8), n0=2e6, seed=0)
    with pytest.raises(StudyError, match="too small"):
        ct_figures.noise_domains(hu[:60, :60], n0=2e6, seed=0)
