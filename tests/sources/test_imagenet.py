"""ImageNet's weights come through timm, and a local file stands in for them."""

import re

import pytest
import timm
import torch
import yaml
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


def test_the_recipe_for_weights_that_cannot_be_downloaded_works(monkeypatch, tmp_path):
    """`model.safetensors` of timm's inception_v3 is torchvision's network, with its second classifier."""
    source = sources.resolve("imagenet", "inception_v3")
    with monkeypatch.context() as patch, pytest.raises(StudyError) as raised:
        patch.setattr(timm, "create_model", lambda *a, **o: 1 / 0)
        source.fetch("inception_v3")
    with torch.device("cpu"):
        save_file(timm.create_model("inception_v3", aux_logits=True).state_dict(), tmp_path / "model.safetensors")
    entry = re.search(r"weights: ({.*?})", str(raised.value))[1].replace("path/to", str(tmp_path))
    local = sources.resolve("imagenet", "inception_v3", weights=yaml.safe_load(entry))
    assert (local.mean, local.std) == (source.mean, source.std)
    assert "AuxLogits.fc.weight" not in local.load("inception_v3", size=96).state_dict()
