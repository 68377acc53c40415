"""ImageNet's weights come through timm, and a local file stands in for them."""

import re

import numpy as np
import pytest
import skimage.data
import timm
import torch
import yaml
from networks import randomize
from PIL import Image
from safetensors.torch import save_file

from sourcematters import sources
from sourcematters.errors import StudyError
from sourcematters.sources import imagenet


def test_imagenet_weights_come_through_timm(monkeypatch, tmp_path):
    """timm reads a hub file of its own layout; the same file, given locally, makes the same network."""
    state = randomize(timm.create_model("test_resnet")).state_dict()
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *a, **o: None)
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


def test_weights_that_cannot_be_downloaded_come_with_a_recipe_at_once(monkeypatch, capfd, caplog):
    """One question that nobody answers, and none of the hub's own messages; timm is not asked to download."""
    source, asked = sources.resolve("imagenet", "resnet50"), []
    monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda *a: asked.append(a) or "http://127.0.0.1:1/closed")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: None)
    monkeypatch.setattr(timm, "create_model", None)
    recipe = r"(?s)could not be fetched.*\(Connect.*download `model.safetensors` of timm/resnet50.tv_in1k"
    with pytest.raises(StudyError, match=recipe):
        source.fetch("resnet50")
    assert asked == [("timm/resnet50.tv_in1k", "model.safetensors")]
    assert not source.at_hand and not "".join(capfd.readouterr()) and not caplog.records


@pytest.mark.parametrize("backbone", imagenet.TAGS)
def test_the_papers_backbones_have_the_weights_of_the_paper(backbone):
    assert sources.resolve("imagenet", backbone).identity == f"timm:{imagenet.TAGS[backbone]}"


def test_the_recipe_for_weights_that_cannot_be_downloaded_works(monkeypatch, tmp_path):
    """`model.safetensors` of timm's inception_v3 is torchvision's network, with its second classifier."""
    source = sources.resolve("imagenet", "inception_v3")
    with monkeypatch.context() as patch, pytest.raises(StudyError) as raised:
        patch.setattr("huggingface_hub.get_hf_file_metadata", lambda *a, **o: 1 / 0)
        source.fetch("inception_v3")
    with torch.device("cpu"):
        save_file(timm.create_model("inception_v3", aux_logits=True).state_dict(), tmp_path / "model.safetensors")
    entry = re.search(r"weights: ({.*?})", str(raised.value))[1].replace("path/to", str(tmp_path))
    local = sources.resolve("imagenet", "inception_v3", weights=yaml.safe_load(entry))
    assert (local.mean, local.std) == (source.mean, source.std)
    assert "AuxLogits.fc.weight" not in local.load("inception_v3", size=96).state_dict()


# ImageNet's own numbers of its classes: 281 tabby, 282 tiger cat, 285 Egyptian cat; 967 espresso.
@pytest.mark.parametrize(("picture", "classes"), [("cat", {281, 282, 285}), ("coffee", {967})])
def test_with_the_packaged_weights_a_cat_is_a_cat(picture, classes):
    source = sources.resolve("imagenet", "tf_efficientnet_lite0")
    assert source.at_hand and source.mean == source.std == (0.5, 0.5, 0.5)
    photograph = Image.fromarray(getattr(skimage.data, picture)())
    left, top = ((side - min(photograph.size)) // 2 for side in photograph.size)
    square = photograph.crop((left, top, left + min(photograph.size), top + min(photograph.size))).resize((224, 224))
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 255
    classifier = list(sources.read_tensors(source.file()).values())[-2:]
    network = source.load("tf_efficientnet_lite0", size=224).eval()
    with torch.inference_mode():
        logits = torch.nn.functional.linear(network((pixels - 0.5) / 0.5), *classifier)
    assert logits.shape == (1, 1000) and logits.argmax().item() in classes


def test_the_packaged_weights_have_the_names_of_the_package():
    """Named by their order; these were read in both networks' code, and have a shape that others have too."""
    source = sources.resolve("imagenet", "tf_efficientnet_lite0")
    network, file = source.load("tf_efficientnet_lite0", size=64).state_dict(), sources.read_tensors(source.file())
    for ours, theirs in {
        "bn1.weight": "_bn0.weight",
        "blocks.0.0.bn1.running_mean": "_blocks.0._bn1.running_mean",
        "blocks.0.0.conv_pw.weight": "_blocks.0._project_conv.weight",
        "blocks.1.1.conv_pw.weight": "_blocks.2._expand_conv.weight",
        "blocks.1.1.bn1.running_var": "_blocks.2._bn0.running_var",
        "blocks.1.1.bn2.bias": "_blocks.2._bn1.bias",
        "blocks.6.0.conv_pwl.weight": "_blocks.15._project_conv.weight",
        "bn2.running_mean": "_bn1.running_mean",
    }.items():
        assert torch.equal(network[ours], file[theirs]), ours


def test_a_file_of_ones_own_goes_before_the_package_and_the_package_before_the_hub(monkeypatch, tmp_path):
    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), tmp_path / "a.safetensors")
    own = sources.resolve("imagenet", "tf_efficientnet_lite0", weights={"imagenet": str(tmp_path / "a.safetensors")})
    packaged = sources.resolve("imagenet", "tf_efficientnet_lite0")
    assert (own.kind, packaged.kind) == ("checkpoint", "package")
    monkeypatch.setattr(imagenet, "PACKAGE", "no_such_package")
    assert sources.resolve("imagenet", "tf_efficientnet_lite0").identity == "timm:tf_efficientnet_lite0.in1k"
    # The twin has the same tensors and other padding.
    assert sources.resolve("imagenet", "efficientnet_lite0").kind == "timm"


def test_a_damaged_package_is_refused(monkeypatch):
    monkeypatch.setattr(imagenet, "PACKAGED_SHA256", imagenet.PACKAGED_SHA256[:8] + "0" * 56)
    with pytest.raises(StudyError, match="is not what was published. Install it again: pip install"):
        sources.resolve("imagenet", "tf_efficientnet_lite0").load("tf_efficientnet_lite0", size=64)
