"""ImageNet's weights come through timm, and a local file stands in for them."""

import re

import pytest
import timm
import torch
from networks import randomize
from safetensors.torch import save_file

from sourcematters import sources
from sourcematters.errors import StudyError
from sourcematters.sources import imagenet


def test_imagenet_weights_come_through_timm(monkeypatch, tmp_path):
    """timm reads a hub file of its own layout; the same file, given locally, makes the same network."""
    state = randomize(timm.create_model("test_resnet")).state_dict()
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **o: real(name, **o, **_overlay(o, path)))
    source = sources.resolve("imagenet", "test_resnet")
    assert re.fullmatch(r"timm:test_resnet\.r160_in1k", source.identity)
    through_timm = source.load("test_resnet", size=64).state_dict()
    local = sources.resolve("imagenet", "test_resnet", weights={"imagenet": str(path)})
    assert local.mean == source.mean == (0.5, 0.5, 0.5)
    by_file = local.load("test_resnet", size=64).state_dict()
    assert through_timm.keys() == by_file.keys() == {key for key in state if not key.startswith("fc.")}
    assert all(torch.equal(through_timm[key], state[key]) and torch.equal(by_file[key], state[key]) for key in by_file)


def _overlay(options, path):
    return {"pretrained_cfg_overlay": {"file": str(path)}} if options.get("pretrained") else {}


def test_weights_that_cannot_be_downloaded_come_with_a_recipe(monkeypatch):
    def offline(*arguments, **options):
        raise ConnectionError("no network")

    source = sources.resolve("imagenet", "resnet50")
    monkeypatch.setattr(timm, "create_model", offline)
    recipe = r"(?s)could not be fetched.*download `model.safetensors` of timm/resnet50.tv_in1k"
    with pytest.raises(StudyError, match=recipe):
        source.fetch("resnet50")
    assert not source.at_hand


@pytest.mark.parametrize("backbone", imagenet.TAGS)
def test_the_papers_backbones_have_the_weights_of_the_paper(backbone):
    assert sources.resolve("imagenet", backbone).identity == f"timm:{imagenet.TAGS[backbone]}"
