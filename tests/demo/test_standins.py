import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sourcematters import checksums, sources
from sourcematters.demo import standins
from sourcematters.errors import StudyError

NAMES = list(standins.STANDINS)


@pytest.fixture(scope="module", params=NAMES)
def trained(request, tmp_path_factory):
    """A stand-in pretrained in a few steps, as if it were for another backbone than the demo's."""
    path = tmp_path_factory.mktemp("sources") / f"{request.param}.safetensors"
    standins.pretrain(request.param, "test_resnet", path, count=1350, epochs=3)
    return replace(sources.resolve(request.param, "test_resnet"), location=str(path))


def test_a_standin_learns_its_pictures(trained):
    # Twelve classes: chance is 1/12, and 150 pictures give it a standard deviation of .023.
    assert trained.card["chance"] == 1 / 12 and trained.card["held_out_accuracy"] > 1 / 12 + 4 * 0.023


def test_a_standin_loads_as_any_source_does(trained):
    model = trained.load("test_resnet", size=64)
    untrained = sources.create("test_resnet", size=64).state_dict()
    assert not any(torch.equal(model.state_dict()[k], untrained[k]) for k in untrained if k.endswith("conv1.weight"))
    assert all(value.dtype != torch.float16 for value in model.state_dict().values())


def test_training_again_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        standins.pretrain(NAMES[0], "test_resnet", tmp_path / f"{name}.safetensors", count=180, epochs=1)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


@pytest.mark.parametrize(("name", "curve"), [("natural-standin", "ImageNet"), ("radiology-standin", "RadImageNet")])
def test_the_demos_backbone_has_its_weights_shipped(name, curve, tmp_path):
    source = sources.resolve(name, "test_resnet", folder=tmp_path)
    assert source.at_hand and source.kind == "standin" and source.caution == f"{name} is not {curve}"
    assert source.identity == f"sha256:{sources.registry.sha256(source.location)}"
    assert source.card["held_out_accuracy"] > 0.7 and source.card["chance"] == 1 / 12
    source.fetch("test_resnet")
    source.load("test_resnet", size=64)
    assert not list(tmp_path.iterdir())


def test_shipped_weights_are_of_different_networks():
    natural, radiology = (load_file(sources.resolve(name, "test_resnet").location) for name in NAMES)
    assert natural.keys() == radiology.keys()
    assert not any(torch.equal(natural[key], radiology[key]) for key in natural if key.endswith("conv1.weight"))


def test_another_backbones_standin_is_trained_where_it_is_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(standins, "pretrain", lambda *arguments: asked.append(arguments))
    plain, matched = (
        sources.resolve(name, "resnet10t", folder=tmp_path)
        for name in ("radiology-standin", "radiology-standin+matched")
    )
    assert not plain.at_hand and plain.identity.startswith("standin:") and plain.location.startswith(str(tmp_path))
    matched.fetch("resnet10t")
    assert [(name, backbone, str(path)) for name, backbone, path in asked] == [
        ("radiology-standin", "resnet10t", plain.location)
    ]
    others = [
        sources.resolve(name, backbone, folder=tmp_path) for name in NAMES for backbone in ("resnet10t", "resnet18")
    ]
    assert len({source.identity for source in others}) == 4
    path = tmp_path / Path(plain.location).name
    for suffix in (".safetensors", ".json"):
        path.with_suffix(suffix).write_text(suffix)
    checksums.seal(path.with_suffix(".sha256"), [path, path.with_suffix(".json")])
    plain.fetch("resnet10t")
    assert len(asked) == 1 and plain.at_hand


@pytest.mark.parametrize("suffix", [".safetensors", ".json", ".sha256"])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_damaged_standin_is_trained_again_and_a_shipped_one_refused(tmp_path, monkeypatch, capsys, suffix, how):
    for shipped in standins.WEIGHTS.glob("natural-standin-*"):
        shutil.copy(shipped, tmp_path)
    broken = tmp_path / f"natural-standin-test_resnet{suffix}"
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content) if how == "changed" else broken.unlink()
    asked = []
    monkeypatch.setattr(standins, "pretrain", lambda *arguments: asked.append(arguments))
    made = replace(
        sources.resolve("natural-standin", "test_resnet"),
        location=str(tmp_path / "natural-standin-test_resnet.safetensors"),
    )
    with pytest.raises(StudyError, match=r"natural-standin-test_resnet\..*trains the stand-in anew"):
        made.load("test_resnet", size=64)
    made.fetch("test_resnet")
    assert len(asked) == 1
    said = capsys.readouterr().err
    if (suffix, how) != (".safetensors", "gone"):
        assert "the stand-in is trained again" in said
    monkeypatch.setattr(standins, "WEIGHTS", tmp_path)
    with pytest.raises(StudyError, match=r"came with the package; restore it: git checkout -- "):
        sources.resolve("natural-standin", "test_resnet")


def test_identity_follows_the_drawing_code(tmp_path, monkeypatch):
    before = sources.resolve(NAMES[0], "resnet10t", folder=tmp_path)
    (tmp_path / "pictures.py").write_text("changed")
    monkeypatch.setattr(standins.pictures, "__file__", str(tmp_path / "pictures.py"))
    assert sources.resolve(NAMES[0], "resnet10t", folder=tmp_path).identity != before.identity


def test_standins_keep_the_normalization_of_what_they_stand_for(tmp_path):
    natural, radiology = (sources.resolve(name, "test_resnet", folder=tmp_path) for name in NAMES)
    assert natural.mean == sources.IMAGENET_MEAN and radiology.mean == radiology.std == (0.5, 0.5, 0.5)
    with pytest.raises(StudyError, match=r"natural-standin\+matched is natural-standin: its own normalization"):
        sources.resolve("natural-standin+matched", "test_resnet", folder=tmp_path)


def test_a_users_own_file_takes_a_standins_place(trained, tmp_path):
    own = sources.resolve(trained.name, "test_resnet", weights={trained.name: trained.location}, folder=tmp_path)
    assert own.kind == "checkpoint" and own.caution == ""


def test_the_command_says_what_it_takes():
    command = [sys.executable, "-m", "sourcematters.demo.standins", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "--backbone" in done.stdout and "--out" in done.stdout and not done.stderr


def test_cards_are_json_beside_the_weights():
    cards = {path.stem: json.loads(path.read_text()) for path in standins.WEIGHTS.glob("*.json")}
    assert set(cards) == {f"{name}-test_resnet" for name in NAMES}
    assert all(path.stat().st_size < 2**20 for path in standins.WEIGHTS.glob("*.safetensors"))
    assert all((card["pictures"], card["epochs"]) == (9000, 6) for card in cards.values())
