"""Sources are found by name: the published, a user's own, matched ones, and those of modules outside the package."""

import importlib
import pickle
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from sourcematters import sources
from sourcematters.errors import StudyError
from sourcematters.processes import over_processes
from sourcematters.results import style
from sourcematters.sources import loading


def test_normalization_belongs_to_the_source(small):
    own = sources.resolve(
        "mine", "test_resnet", weights={"mine": {"path": str(small[0]), "mean": [0.1] * 3, "std": [2] * 3}}
    )
    assert (own.mean, own.std) == ((0.1, 0.1, 0.1), (2.0, 2.0, 2.0))
    # torchvision documents these for its ImageNet weights; Inception was trained on [-1, 1].
    assert sources.resolve("imagenet", "resnet50").mean == (0.485, 0.456, 0.406)
    assert sources.resolve("imagenet", "inception_v3").std == (0.5, 0.5, 0.5)


def test_identity_follows_content_not_place(small, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(small[0].read_bytes())
    one, two = (sources.resolve("mine", "test_resnet", weights={"mine": str(p)}) for p in (small[0], copy))
    assert one == two and one.location != two.location
    save_file({**small[1], "fc.bias": torch.ones(7)}, copy)
    assert sources.resolve("mine", "test_resnet", weights={"mine": str(copy)}) != one


def test_a_file_that_was_changed_after_its_runs_were_planned_is_refused(small, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(small[0].read_bytes())
    source = sources.resolve("mine", "test_resnet", weights={"mine": str(copy)})
    source.load("test_resnet", size=32)
    content = bytearray(copy.read_bytes())
    content[-3] ^= 1
    copy.write_bytes(content)
    for change in (lambda: None, copy.unlink):
        change()
        with pytest.raises(
            StudyError, match=r"copy\.safetensors was changed since its runs were planned\. Start again"
        ):
            source.load("test_resnet", size=32)


def test_what_the_hub_keeps_is_named_by_its_checksum(tmp_path):
    blob = tmp_path / "blobs" / "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc"
    path = tmp_path / "snapshots" / "1" / "model.safetensors"
    for each in (blob, path):
        each.parent.mkdir(parents=True)
    blob.write_text("abc")
    path.symlink_to(blob)
    assert loading.as_downloaded(path) == str(path)
    blob.write_text("abd")
    with pytest.raises(StudyError, match=rf"model\.safetensors: is not what was downloaded. Delete {blob}"):
        loading.as_downloaded(path)
    own = tmp_path / "own.safetensors"
    own.write_text("anything")
    assert loading.as_downloaded(own) == str(own)


@pytest.mark.parametrize(
    ("name", "backbone", "weights", "message"),
    [
        (
            "imagnet",
            "resnet50",
            {},
            r"unknown source `imagnet`\. Did you mean imagenet\?.*imagenet, radimagenet, radimagenet-keras, random",
        ),
        ("radimagenet", "test_resnet", {}, "radimagenet was published for resnet50, densenet121, inception_v3"),
        ("mine", "resnet50", {"mine": "/nowhere/a.pt"}, "a.pt does not exist"),
        ("mine", "resnet50", {"mine": {"file": "a.pt"}}, "needs `path`"),
        ("imagenet", "resnet5000", {}, "timm has no backbone 'resnet5000'"),
    ],
)
def test_what_cannot_be_found_is_said(name, backbone, weights, message):
    with pytest.raises(StudyError, match=message):
        sources.resolve(name, backbone, weights=weights)


def test_a_matched_source_is_the_same_weights_behind_imagenets_normalization(small):
    plain = sources.resolve("radimagenet", "resnet50")
    matched = sources.resolve("radimagenet+matched", "resnet50")
    assert (matched.name, plain.name) == ("radimagenet+matched", "radimagenet")
    # torchvision documents these for its ImageNet weights.
    assert (matched.mean, matched.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (matched.kind, matched.identity, matched.location) == (plain.kind, plain.identity, plain.location)
    assert sources.resolve("imagenet+matched", "inception_v3").mean == matched.mean
    weights = {"mine": {"path": str(small[0]), "mean": [0.5] * 3, "std": [1] * 3}}
    own, other = (sources.resolve(name, "test_resnet", weights=weights) for name in ("mine", "mine+matched"))
    own, other = (source.load("test_resnet", size=64).state_dict() for source in (own, other))
    assert all(torch.equal(own[key], other[key]) for key in own)


@pytest.mark.parametrize("name", ["imagenet", "random"])
def test_a_matched_source_that_would_be_the_plain_one_is_refused(name):
    with pytest.raises(StudyError, match=rf"{name}\+matched is {name}: its own normalization is ImageNet's"):
        sources.resolve(f"{name}+matched", "resnet50")


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        # (0 - 127.5) / 127.5 = -1 and (1 - 127.5) / 127.5
        ([127.5] * 3, [127.5] * 3, r"span -1 to -0\.9922 .*divide by 255, mean \[0\.5, 0\.5, 0\.5\]"),
        ([0.5] * 3, [58.0, 57.0, 57.0], r"divide by 255, mean .* and std \[0\.2275"),
        ([123.7, 116.8, 103.9], [1.0] * 3, "span -123.7 to -102.9 .*divide by 255"),
        ([-1.5, 0, 0], [1.0] * 3, "Give them for pixels scaled to 0..1"),
        ([0.5] * 3, [1e-4] * 3, "span -5000 to 5000"),
    ],
)
def test_a_normalization_that_is_not_for_pixels_of_0_to_1_is_refused(small, mean, std, said):
    entry = {"path": str(small[0]), "mean": mean, "std": std}
    with pytest.raises(StudyError, match=f"source 'mine': .*black to white would {said}|{said}"):
        sources.resolve("mine", "test_resnet", weights={"mine": entry})


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([103.939 / 255, 116.779 / 255, 123.68 / 255], [1 / 255] * 3),  # Caffe's, without a scale
        ([103.939 / 255, 116.779 / 255, 123.68 / 255], [1.0] * 3),  # RadImageNet's Keras release
        ([0.0] * 3, [1.0] * 3),
        ([0.1] * 3, [2.0] * 3),
    ],
)
def test_published_normalizations_are_not(small, mean, std):
    entry = {"path": str(small[0]), "mean": mean, "std": std}
    assert sources.resolve("mine", "test_resnet", weights={"mine": entry}).std == tuple(std)


def test_all_that_is_wrong_with_an_entry_is_said_at_once():
    entry = {"path": "a.pt", "mean": [0.5, 0.5], "std": [1, 0, 1], "size": 3}
    with pytest.raises(StudyError, match=r"(?s)weights\['mine'\] needs `path`.*mean.*std.*greater than 0.*`size`"):
        sources.resolve("mine", "resnet50", weights={"mine": entry})


@pytest.mark.parametrize("published", sources.known().values(), ids=lambda published: published.name)
def test_every_published_source_says_what_it_is(published):
    assert published.title and published.where and published.backbones
    assert published.curve in ("ImageNet", "RadImageNet", "random", "")


OUTSIDE = '''
"""Weights of one value, as a module outside the package would bring them."""

import torch

from sourcematters import sources


class Constant(sources.Source):
    kind = "constant"
    at_hand = True

    def load(self, backbone, *, size):
        network = sources.create(backbone, size=size)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(0.25)
        return network


def find(backbone, weights, folder):
    return Constant("constant", "constant:0.25", sources.HALF, sources.HALF, caution="constants, not weights")


sources.register(
    sources.Published("constant", title="a constant", curve="", where="here", backbones="any timm model", find=find)
)
'''


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A module that registers the source `constant`."""
    (tmp_path / "constant_weights.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "constant_weights", raising=False)
    return importlib.import_module("constant_weights")


def test_a_source_from_outside_the_package_is_one_like_the_others(outside):
    assert "constant" in sources.known() and sources.known()["constant"].title == "a constant"
    source, matched = (sources.resolve(name, "test_resnet") for name in ("constant", "constant+matched"))
    assert (source.kind, source.mean, matched.mean) == ("constant", sources.HALF, sources.IMAGENET_MEAN)
    assert source.at_hand and matched.caution == source.caution == "constants, not weights"
    with pytest.raises(StudyError, match="Did you mean constant?"):
        sources.resolve("konstant", "test_resnet")
    styles = style.styles(["imagenet", "radimagenet", "random", "constant"])
    assert len({(s.color, s.marker) for s in styles.values()}) == len(styles)


def test_a_source_from_outside_the_package_loads_in_a_worker_process(outside):
    source = sources.resolve("constant", "test_resnet")
    assert pickle.loads(pickle.dumps(source)) == source
    for _, weight in over_processes(first_weight, [source, replace(source, name="other")], workers=2):
        assert weight == 0.25


def first_weight(source):
    return next(source.load("test_resnet", size=32).parameters()).flatten()[0].item()


def test_weights_of_a_twin_architecture_are_refused_by_the_config_beside_them(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"a")
    (tmp_path / "config.json").write_text('{"architecture": "tf_efficientnet_lite0"}')
    weights = {"mine": str(tmp_path / "model.safetensors")}
    assert sources.resolve("mine", "tf_efficientnet_lite0", weights=weights).kind == "checkpoint"
    with pytest.raises(StudyError, match="weights of 'tf_efficientnet_lite0', not of 'efficientnet_lite0'"):
        sources.resolve("mine", "efficientnet_lite0", weights=weights)
