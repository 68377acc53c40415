"""Attributions of networks whose every weight is known, against what they must be by hand."""

import math

import numpy as np
import pytest
import timm
import torch
from torch import nn

from sourcematters.audit.where import attribution, networks
from sourcematters.audit.where.pairs import share
from sourcematters.sources import resolve
from sourcematters.training.classifier import Classifier

SIZE = 32
CHECKED = np.where(np.indices((SIZE, SIZE)).sum(axis=0) % 2, 140, 60).astype(np.uint8)[
    None
]  # each pixel 40 off its mean
MASK = np.zeros((1, SIZE, SIZE), bool)
MASK[0, 4:12, 8:16] = True  # 64 of 1024 pixels


class Linear(nn.Module):
    """A weight a pixel, (S, S)."""

    def __init__(self, weight):
        super().__init__()
        self.layer = nn.Linear(weight.size, 1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(weight.ravel()).float())

    def forward(self, pixels):
        return self.layer(pixels.flatten(1))[:, 0]


class Convolutional(nn.Module):
    """Maps as large as the image by one convolution of 1 px, then their means, weighted."""

    def __init__(self, gains, weights):
        super().__init__()
        self.first = nn.Conv2d(1, len(gains), 1)
        self.relu = nn.ReLU()
        self.last = nn.Linear(len(gains), 1)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor(gains).view(-1, 1, 1, 1))
            self.first.bias.copy_(torch.tensor([-20.0] * len(gains)))
            self.last.weight.copy_(torch.tensor(weights)[None])

    def forward(self, pixels):
        return self.last(self.relu(self.first(pixels)).mean(dim=(2, 3)))[:, 0]


class Smooth(nn.Module):
    """Three layers without a kink, so that 32 steps follow the path closely."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        first, second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2)
        self.layers = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Flatten(), nn.Linear(900, 1))

    def forward(self, pixels):
        return self.layers(pixels / 255)[:, 0]


def test_of_a_network_that_reads_only_the_tag_all_lies_on_it():
    maps = attribution.attribute(Linear(MASK[0] / 10), CHECKED, "integrated gradients")
    assert share(maps, MASK).tolist() == [1.0]
    assert maps[0] == pytest.approx(MASK[0] * (CHECKED[0] - 100.0) / 10, abs=1e-3)


def test_of_a_network_that_reads_all_pixels_alike_the_share_is_the_area():
    maps = attribution.attribute(Linear(np.ones((SIZE, SIZE))), CHECKED, "integrated gradients")
    assert share(maps, MASK) == pytest.approx([64 / 1024], rel=1e-4)


def test_integrated_gradients_add_up_to_the_difference_of_log_odds():
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE)).astype(np.uint8)
    network = Smooth()
    sums = attribution.attribute(network, images, "integrated gradients").sum(axis=(1, 2))
    blank = np.broadcast_to(images.mean(axis=(1, 2), keepdims=True), images.shape)
    with torch.no_grad():
        there, here = (network(torch.tensor(np.array(each)).float()[:, None]).numpy() for each in (blank, images))
    assert np.abs(here - there).min() > 0.005
    assert sums == pytest.approx(here - there, abs=1e-4)


def test_gradcam_is_the_maps_weighted_by_their_gradients():
    gains, weights = [1.0, -1.0, 0.5], [2.0, 3.0, -4.0]
    maps = attribution.attribute(Convolutional(gains, weights), CHECKED, "Grad-CAM")
    pixels = CHECKED[0].astype(float)
    by_hand = sum(w / SIZE**2 * np.maximum(g * pixels - 20, 0) for g, w in zip(gains, weights, strict=True))
    assert maps[0] == pytest.approx(by_hand, rel=1e-5)
    assert {round(float(v) * SIZE**2, 2) for v in maps.ravel()} == {2 * 120 - 4 * 50, 2 * 40 - 4 * 10}


def test_occlusion_is_what_each_square_adds():
    weight = np.random.default_rng(0).normal(size=(SIZE, SIZE))
    image = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE)).astype(np.uint8)
    maps = attribution.attribute(Linear(weight), image[None], "occlusion")[0]
    side = SIZE // attribution.SQUARES
    adds = weight * (image - image.mean())
    by_square = adds.reshape(8, side, 8, side).sum(axis=(1, 3))
    assert maps == pytest.approx(np.kron(by_square, np.ones((side, side))), abs=0.05)
    # The tag covers four whole squares, and nothing else is read: of 4 x 4 px each, all that counts.
    assert share(attribution.attribute(Linear(weight * MASK[0]), image[None], "occlusion"), MASK) == pytest.approx([1])


def test_with_shuffled_weights_the_share_of_a_network_that_reads_only_the_tag_falls_to_about_the_area():
    network, shares = Linear(MASK[0] / 10), []
    for seed in range(20):
        other = networks.shuffled(network, seed)
        assert sorted(other.layer.weight.flatten().tolist()) == sorted(network.layer.weight.flatten().tolist())
        shares.append(share(attribution.attribute(other, CHECKED, "integrated gradients"), MASK)[0])
    # 64 weights that are not 0 fall onto 1024 places: hypergeometric, of mean 64 * 64 / 1024 on the mask.
    sd = math.sqrt(64 / 1024 * (1 - 64 / 1024) * (1024 - 64) / (1023 * 64))
    assert np.mean(shares) == pytest.approx(64 / 1024, abs=4 * sd / math.sqrt(20)) and max(shares) < 0.25
    assert share(attribution.attribute(network, CHECKED, "integrated gradients"), MASK).tolist() == [1.0]


def test_shuffling_depends_on_the_seed_alone_and_leaves_biases_and_norms(tmp_path):
    network = Classifier(resolve("random", "test_resnet"), "test_resnet", size=64)
    first, again, other = (networks.shuffled(network, seed).state_dict() for seed in (1, 1, 2))
    own = network.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in own)
    moved = {name for name in own if not torch.equal(own[name], first[name])}
    assert moved == {name for name in own if own[name].ndim > 1}
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def of_timm(name, size):
    class Grey(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = timm.create_model(name, num_classes=1, in_chans=1).eval()

        def forward(self, pixels):
            return self.inner(pixels)[:, 0]

    return networks.last_maps(Grey(), size)


def test_the_last_maps_are_found_in_networks_that_end_in_some():
    module, cells = networks.last_maps(Convolutional([1.0, 2.0], [1.0, 1.0]), SIZE)
    assert isinstance(module, nn.ReLU) and cells == SIZE
    network = networks.OfRun(Classifier(resolve("random", "test_resnet"), "test_resnet", size=64)).eval()
    module, cells = networks.last_maps(network, 64)
    assert module is network.classifier.backbone.layer4 and cells == 2
    assert of_timm("test_efficientnet", 64)[1] == 2 and of_timm("test_convnext", 64)[1] == 2
    assert of_timm("test_vit", 160) is None


@pytest.mark.parametrize("method", attribution.METHODS)
def test_a_real_network_has_finite_maps_which_do_not_depend_on_the_batch(method, monkeypatch):
    torch.manual_seed(0)
    network = networks.OfRun(Classifier(resolve("random", "test_resnet"), "test_resnet", size=64)).eval()
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64)).astype(np.uint8)
    maps = attribution.attribute(network, images, method)
    assert maps.shape == (2, 64, 64) and maps.dtype == np.float32 and np.isfinite(maps).all()
    assert (np.abs(maps).sum(axis=(1, 2)) > 0).all()
    monkeypatch.setattr(attribution, "BATCH", 1)
    assert attribution.attribute(network, images, method) == pytest.approx(maps, rel=1e-3, abs=1e-5)
