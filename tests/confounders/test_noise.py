"""Noise against closed forms: Poisson statistics, and what filtered back-projection makes of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.special import j0

from sourcematters.confounders import Noise, NoiseHighVsLow
from sourcematters.confounders.noise import hounsfield_noise, poisson_noise, projection_noise
from sourcematters.errors import StudyError


def flat(grey: int, rows: int = 64, columns: int = 64) -> np.ndarray:
    return np.full((rows, columns), grey, np.uint8)


def slice_of(hu: int, side: int = 64) -> np.ndarray:
    return np.full((side, side), hu, np.int16)


def disc(side: int, radius: float, inside: int = 0, outside: int = -1000) -> np.ndarray:
    offset = np.arange(side) - side // 2
    return np.where(offset[:, None] ** 2 + offset**2 <= radius**2, inside, outside).astype(np.int16)


def neighbours(noise: np.ndarray) -> float:
    """Correlation of horizontal neighbours."""
    return float(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1])


# --- Eq. 2 on grey levels -------------------------------------------------------------------------


def sd_in_grey(grey: float, n0: float) -> float:
    """Closed form: the sd of -ln(Poisson(N)/n0) is 1/sqrt(N), brought to grey levels; 1/6 is the dither's."""
    hu = grey * 2000 / 255 - 1200
    mu = hu * (0.1837 - 0.1662) / 1000 + 0.1837
    noise = 255 / 2000 * 1000 / (0.1837 - 0.1662) / math.sqrt(n0 * math.exp(-mu))
    return math.sqrt(noise**2 + 1 / 6)


@pytest.mark.parametrize("grey", [30, 128, 220])
@pytest.mark.parametrize("n0", [2e7, 1.5e7, 2e6])
def test_noise_has_the_closed_forms_mean_and_sd(grey, n0):
    n = 400
    noisy = poisson_noise(flat(grey, n, n), 11, n0=n0)[0].astype(float)
    # Four standard errors of a mean and of an sd over n^2 pixels.
    expected = sd_in_grey(grey + 0.5, n0)
    assert noisy.mean() == pytest.approx(grey, abs=4 * expected / n)
    assert noisy.std() == pytest.approx(expected, abs=4 * expected / n / math.sqrt(2))


def test_closed_form_is_the_published_strength():
    without_dither = [math.sqrt(sd_in_grey(128, n0) ** 2 - 1 / 6) for n0 in (2e7, 1.5e7)]
    assert without_dither == pytest.approx([1.8, 2.05], abs=0.03)


def test_noise_is_white():
    noisy = poisson_noise(flat(128, 300, 300), 5, n0=2e7)[0] - 128.0
    for shift in ((1, 0), (0, 1), (1, 1)):
        correlation = np.mean(noisy * np.roll(noisy, shift, (0, 1))) / noisy.var()
        assert abs(correlation) < 4 / 300


def test_noise_at_the_ends_of_the_scale_is_clipped_not_wrapped():
    black, white = (poisson_noise(flat(grey, 100, 100), 1, n0=2e7)[0] for grey in (0, 255))
    assert black.max() < 15 and black.min() == 0 and (black == 0).mean() > 0.4
    assert white.min() > 240 and white.max() == 255 and (white == 255).mean() > 0.4


def test_a_scan_without_photons_is_white_and_warns_nobody():
    with np.errstate(all="raise"):
        assert (poisson_noise(flat(128), 0, n0=1e-6)[0] == 255).all()


@settings(max_examples=25, deadline=None)
@given(key=st.integers(0, 2**63), grey=st.integers(25, 230), n0=st.sampled_from([2e6, 1.5e7, 2e7]))
def test_noise_is_unbiased_at_every_grey(key, grey, n0):
    noisy = poisson_noise(flat(grey, 100, 100), key, n0=n0)[0].astype(float)
    assert noisy.mean() == pytest.approx(grey, abs=5.5 * sd_in_grey(grey, n0) / 100)


# --- Eq. 2 on Hounsfield units --------------------------------------------------------------------


def sd_in_hu(hu: float, n0: float) -> float:
    mu = hu * (0.1837 - 0.1662) / 1000 + 0.1837
    return 1000 / (0.1837 - 0.1662) / math.sqrt(n0 * math.exp(-mu))


@pytest.mark.parametrize("hu", [-1000, 0, 900])
@pytest.mark.parametrize("n0", [2e7, 1.5e7, 1e6])
def test_hounsfield_noise_has_the_closed_forms_mean_and_sd(hu, n0):
    n = 300
    noisy, mask = hounsfield_noise(slice_of(hu, n), 3, n0=n0)
    expected = math.sqrt(sd_in_hu(hu, n0) ** 2 + 1 / 6)
    assert mask.all() and noisy.dtype == np.int16
    # -ln is curved: E[-ln(N / n0)] is above the truth by 1/(2 N), in HU sd^2 times half the slope.
    bias = sd_in_hu(hu, n0) ** 2 / 2 * (0.1837 - 0.1662) / 1000
    assert noisy.mean() == pytest.approx(hu + bias, abs=4 * expected / n)
    assert noisy.std() == pytest.approx(expected, abs=4 * expected / n / math.sqrt(2))


def test_hounsfield_noise_is_14_hu_in_water_and_little_less_in_air():
    assert sd_in_hu(0, 2e7) == pytest.approx(14.0, abs=0.05)
    assert sd_in_hu(-1000, 2e7) / sd_in_hu(0, 2e7) == pytest.approx(math.exp(-0.0175 / 2))


def test_hounsfield_noise_is_white():
    noise = hounsfield_noise(slice_of(-300, 300), 5, n0=2e7)[0] + 300.0
    for shift in ((1, 0), (0, 1), (1, 1)):
        assert abs(np.mean(noise * np.roll(noise, shift, (0, 1))) / noise.var()) < 4 / 300


def test_hounsfield_noise_knows_no_window_and_does_not_wrap():
    # Grey levels end at -1200 and 800 HU; air at -1200 must lose no half of its noise.
    below = (hounsfield_noise(slice_of(-1200, 200), 1, n0=2e7)[0] < -1200).mean()
    assert below == pytest.approx(0.5, abs=0.02)
    assert hounsfield_noise(slice_of(32760, 100), 1, n0=2e7)[0].min() > 32000
    with np.errstate(all="raise"):
        assert (hounsfield_noise(slice_of(0), 1, n0=1e-9)[0] == 32767).all()


# --- noise of projections -------------------------------------------------------------------------

SIDE, VIEWS = 96, 120


def scan(hu: np.ndarray, key: int, **parameters: float) -> tuple[np.ndarray, np.ndarray]:
    return projection_noise(hu, key, **{"n0": 2e7, "views": VIEWS, "pixel_mm": 0.7, **parameters})


def noise_of(hu: np.ndarray, key: int = 0, **parameters: float) -> np.ndarray:
    return scan(hu, key, **parameters)[0] - hu.astype(float)


def middle(noise: np.ndarray, half: int = 12) -> np.ndarray:
    centre = noise.shape[0] // 2
    return noise[centre - half : centre + half, centre - half : centre + half]


def test_with_photons_without_end_the_slice_comes_back():
    rng = np.random.default_rng(0)
    hu = rng.integers(-1000, 1000, (SIDE, SIDE)).astype(np.int16)
    assert (scan(hu, 1, n0=1e15)[0] == hu).all()


def test_the_sd_in_water_is_the_closed_form():
    """Kak and Slaney's variance of the ramp, and the loss by interpolating linearly between rays.

    With ray spacing d and N views, a ray of variance v gives pi^2/(N d^2) v F, where F averages over the position
    between two rays: 2/3 * int_0^1/2 2 w^2 dw + 1/3 * int_0^1/2 2 w^2 cos(2 pi w) dw = 2/3 / 12 - 1/3 / (2 pi^2).
    A water disc of radius r is 2 r thick around its centre, and v = exp(2 r 0.1837 / cm) / n0.
    """
    radius, n0 = 40, 1e5
    noise = np.stack([middle(noise_of(disc(SIDE, radius), key, n0=n0, pixel_mm=2)) for key in range(8)])
    interpolated = 2 / 3 / 12 - 1 / 3 / (2 * math.pi**2)
    ray = math.exp(2 * radius * 0.2 * 0.1837) / n0
    expected = math.pi / 0.2 * math.sqrt(ray * interpolated / VIEWS) * 1000 / 0.1837
    assert noise.std() == pytest.approx(expected, rel=0.05)


def test_the_sd_falls_with_the_root_of_the_photons():
    few, many = (middle(noise_of(disc(SIDE, 40), 5, n0=n0), 25).std() for n0 in (1e5, 4e5))
    assert few / many == pytest.approx(2, rel=0.05)


def test_it_is_unbiased_where_photons_abound():
    noise = np.stack([noise_of(disc(SIDE, 40), key, n0=1e6) for key in range(10)])
    # The ramp stops the constant part, so the mean of many pixels is far surer than for white noise.
    assert abs(noise.mean()) < 4 * noise.std() / math.sqrt(noise.size)


def test_the_ramp_stops_low_frequencies_and_correlates_neighbours():
    hu = disc(SIDE, 40)
    spectra = {}
    for make in (noise_of, lambda hu, key: hounsfield_noise(hu, key, n0=2e7)[0] - hu.astype(float)):
        noise = np.stack([middle(make(hu, key), 24) for key in range(6)])
        power = np.mean(np.abs(np.fft.fft2(noise)) ** 2, axis=0)
        cycles = np.hypot(*np.meshgrid(np.fft.fftfreq(48), np.fft.fftfreq(48)))
        low, high = (power[(cycles > a) & (cycles < b)].mean() for a, b in ((0.01, 0.06), (0.2, 0.3)))
        spectra[make] = low / high, np.mean([neighbours(each) for each in noise])
    (ratio, correlation), (white_ratio, white_correlation) = spectra.values()
    assert white_ratio == pytest.approx(1, abs=0.25) and abs(white_correlation) < 0.04
    # Power grows as the frequency does: |w| averages 0.04 in the low band, 0.25 in the high one, which
    # interpolation lowers to sinc^4(0.25) = 0.66 of it.
    assert ratio == pytest.approx(0.04 / (0.25 * 0.66), rel=0.35)
    # The spectrum of a filtered and interpolated projection, its neighbours 1 px apart seen from all angles.
    f = np.linspace(0, 8, 80_001)
    projection = np.abs(f - np.rint(f)) ** 2 * np.sinc(f) ** 4
    assert correlation == pytest.approx((projection * j0(2 * np.pi * f)).sum() / projection.sum(), abs=0.03)
    assert correlation > 0.08


def test_streaks_join_what_few_photons_pass():
    hu = disc(SIDE, 46)
    hu[22:28, 24:30] = hu[22:28, 66:72] = 30_000  # two metal rods, side by side above the centre
    noise = np.stack([noise_of(hu, key, n0=1e6) for key in range(4)])
    between, mirrored = noise[:, 23:27, 36:60].std(), noise[:, 69:73, 36:60].std()
    assert between > 1.4 * mirrored
    turned = np.stack([noise_of(np.ascontiguousarray(hu.T), key, n0=1e6) for key in range(4)])
    assert turned[:, 36:60, 23:27].std() > 1.4 * turned[:, 36:60, 69:73].std()


def test_air_by_the_definition_of_hu_stops_nothing():
    # Without attenuation a count has sd 1/sqrt(n0): Eq. 2's air would stop 15 % a cm and be noisier.
    empty, padded = (middle(noise_of(slice_of(hu, SIDE), 3, n0=1e5), 30) for hu in (-1000, -3000))
    expected = math.pi / 0.07 * math.sqrt((2 / 3 / 12 - 1 / 6 / math.pi**2) / VIEWS / 1e5) * 1000 / 0.1837
    assert empty.std() == pytest.approx(expected, rel=0.06)
    assert np.abs(empty - padded).max() <= 1  # rounding apart


@pytest.mark.parametrize("shape", [(64, 64), (63, 63), (64, 90), (91, 60)])
def test_outside_the_circle_nothing_changes(shape):
    hu = np.random.default_rng(2).integers(-1000, 400, shape).astype(np.int16)
    before = hu.copy()
    noisy, mask = scan(hu, 1, n0=1e4, views=30)
    assert (hu == before).all() and not np.shares_memory(noisy, hu)
    assert (noisy[~mask] == hu[~mask]).all() and (noisy != hu)[mask].mean() > 0.9
    rows, columns = np.nonzero(mask)
    radius = min(shape) // 2
    assert mask.sum() == pytest.approx(math.pi * radius**2, rel=0.05)
    assert np.abs([rows.mean() - shape[0] / 2, columns.mean() - shape[1] / 2]).max() <= 1
    inscribed = int(radius / math.sqrt(2))
    centre = [side // 2 for side in shape]
    assert mask[centre[0] - inscribed : centre[0] + inscribed, centre[1] - inscribed : centre[1] + inscribed].all()


def test_a_scan_without_photons_is_finite_and_says_nothing():
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        noisy, mask = scan(disc(SIDE, 40, inside=30_000), 0, n0=1, views=20)
    assert mask.any() and noisy.dtype == np.int16


def test_the_key_alone_chooses_the_noise():
    hu = disc(64, 20)
    first = scan(hu, 7, views=20)[0]
    other = scan(hu, 8, views=20)[0]
    np.random.default_rng(0).random(5)
    again = scan(hu, 7, views=20)[0]
    assert (first == again).all() and (first != other).any()


def test_more_views_are_more_photons():
    few, many = (middle(noise_of(disc(SIDE, 40), 1, n0=1e5, views=v), 25).std() for v in (60, 240))
    assert few / many == pytest.approx(2, rel=0.06)


# --- confounders by noise -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Noise, NoiseHighVsLow])
def test_noise_has_three_domains_of_one_name(kind):
    assert kind() == kind(domain="grey")
    assert {"name": "poisson_noise", "parameters": {"n0": 20_000_000}, "revision": "1"} in (
        kind().to_dict()["base"],
        kind().to_dict()["carrier"],
    )
    by_domain = [kind(domain=domain) for domain in ("grey", "hounsfield", "projection")]
    assert [c.carrier.name for c in by_domain] == ["poisson_noise", "hounsfield_noise", "projection_noise"]
    assert [c.carrier.space for c in by_domain] == [
        c.base.space if c.base.parameters else c.carrier.space for c in by_domain
    ]
    assert len({c.name for c in by_domain}) == 1 and len(set(by_domain)) == 3
    assert len({dict(c.carrier.parameters)["n0"] for c in by_domain}) == 1
    with pytest.raises(StudyError, match="domain = 'HU'.*grey.*hounsfield.*projection"):
        kind(domain="HU")


def test_the_labels_are_those_from_which_keys_derive():
    labels = [Noise(domain=domain).carrier.label for domain in ("grey", "hounsfield", "projection")]
    assert labels == [
        "poisson_noise(n0=2e+07)",
        "hounsfield_noise(n0=2e+07)",
        "projection_noise(n0=2e+07, pixel_mm=0.7, views=360)",
    ]
    assert Noise(n0=12345678).carrier.label == "poisson_noise(n0=12345678)"


def test_low_noise_is_that_of_noise_against_none_and_high_noise_has_fewer_photons():
    for domain in ("grey", "projection"):
        design = NoiseHighVsLow(domain=domain)
        assert design.base == Noise(domain=domain).carrier
        assert dict(design.carrier.parameters)["n0"] == 15_000_000
    for high in (2e7, 3e7):
        with pytest.raises(StudyError, match="fewer are noisier|are both"):
            NoiseHighVsLow(high=high)


@pytest.mark.parametrize("n0", [0, -1.0, 1e19, "many", math.nan])
def test_photons_that_cannot_be_counted_are_refused(n0):
    with pytest.raises(StudyError, match="n0 = "):
        Noise(n0=n0)


def test_the_effect_on_real_radiographs_is_as_strong_as_published(shared_data):
    paths = sorted((shared_data / "nih-cxr14" / "images").glob("*.png"))[:8]
    images = [np.asarray(Image.open(path).convert("L")) for path in paths]
    changes = [
        np.abs(poisson_noise(image, i, n0=2e7)[0].astype(float) - image).mean() for i, image in enumerate(images)
    ]
    # The mean absolute deviation of a normal variable is sqrt(2/pi) of its sd.
    # The published sd is 1.8 grey levels; 1/6 is the variance of the dither.
    assert np.mean(changes) == pytest.approx(math.sqrt(2 / math.pi * (1.8**2 + 1 / 6)), rel=0.1)
