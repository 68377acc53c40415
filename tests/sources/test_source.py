"""A source makes the backbone it is asked for, at the size of the study's images."""

import json

import pytest
import torch

from sourcematters import sources
from sourcematters.errors import StudyError
from sourcematters.sources import imagenet


def test_a_backbone_of_fixed_input_size_gets_the_studys():
    model = sources.resolve("random", "test_vit").load("test_vit", size=96)
    assert model(torch.zeros(1, 3, 96, 96)).shape == (1, 64)


@pytest.mark.parametrize("backbone", imagenet.TAGS)
def test_the_papers_backbones_take_the_sizes_of_its_images(backbone):
    model = sources.resolve("random", backbone).load(backbone, size=256).eval()
    with torch.inference_mode():
        for size in (362, 256):
            assert model(torch.zeros(1, 3, size, size)).shape == (1, model.num_features)


def test_a_source_whose_file_is_not_there_is_never_an_untrained_network():
    for location in ("", "/nowhere/a.pt"):
        source = sources.Source("mine", "sha256:1", location=location)
        assert not source.at_hand
        with pytest.raises(StudyError, match="not a checkpoint"):
            source.load("test_resnet", size=64)


def test_a_source_is_what_changes_its_numbers_and_nothing_else():
    source = sources.Source("mine", "sha256:1", (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), "/here/a.pt", "a caution")
    elsewhere = sources.Source("mine", "sha256:1", (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), "/there/a.pt")
    assert source == elsewhere and hash(source) == hash(elsewhere) and source.to_dict() == elsewhere.to_dict()
    assert source != sources.Source("mine", "sha256:2", (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert json.loads(json.dumps(sources.resolve("radimagenet", "resnet50").to_dict())) == {
        "name": "radimagenet",
        "kind": "hub",
        "identity": "hub:Lab-Rasool/RadImageNet/ResNet50.pt",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "revision": 1,
    }


def test_the_width_is_that_of_the_pooled_features_and_not_timms_num_features():
    # mobilenetv3_small_050 ends in Conv2d(288, 1024), vgg11 in a layer of 4096, after the pooling.
    widths = [sources.feature_width(name, 64) for name in ("resnet18", "mobilenetv3_small_050", "vgg11")]
    assert widths == [512, 1024, 4096]
