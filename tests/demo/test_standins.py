import numpy as np
import pytest
import torch

from sourcematters import sources
from sourcematters.demo import standins
from sourcematters.demo.standins import Pretraining
from sourcematters.errors import StudyError
from sourcematters.files import read_json

QUICK = Pretraining(pictures=1320, held_out=120, size=32, epochs=6, batch_size=24, learning_rate=2e-3)


@pytest.fixture(scope="module", params=standins.STANDINS)
def trained(request, tmp_path_factory):
    source = standins.source(request.param, "test_resnet", tmp_path_factory.mktemp("sources"), QUICK)
    standins.pretrain(source, "test_resnet", QUICK)
    return source


def test_a_standin_learns_its_pictures(trained):
    card = read_json(trained.location.replace(".safetensors", ".json"))
    # Twelve classes: chance is 1/12, and 120 pictures give it a standard deviation of .025.
    assert card["chance"] == 1 / 12 and card["held_out_accuracy"] > 1 / 12 + 4 * 0.025


def test_a_standin_loads_as_any_source_does(trained):
    model = trained.load("test_resnet", size=64)
    untrained = sources.create("test_resnet", size=64).state_dict()
    assert not any(torch.equal(model.state_dict()[k], untrained[k]) for k in untrained if k.endswith("conv1.weight"))


def test_a_standin_is_trained_once(trained, monkeypatch):
    monkeypatch.setattr(standins, "_train", lambda *a: pytest.fail("trained again"))
    standins.pretrain(trained, "test_resnet", QUICK)


def test_training_again_gives_the_same_bytes(trained, tmp_path):
    again = standins.source(trained.name, "test_resnet", tmp_path, QUICK)
    assert again == trained
    standins.pretrain(again, "test_resnet", QUICK)
    one, two = (sources.read_tensors(source.location) for source in (trained, again))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_identity_follows_settings_backbone_and_drawing_code(tmp_path, monkeypatch):
    def identity(name="natural-standin", backbone="test_resnet", settings=QUICK):
        return standins.source(name, backbone, tmp_path, settings).identity

    base = identity()
    assert base == identity()
    assert (
        len({base, identity("radiology-standin"), identity(backbone="resnet10t"), identity(settings=Pretraining())})
        == 4
    )
    world = standins.STANDINS["natural-standin"]

    def other_pictures(seed, index, size):
        pixels, label = world.draw(seed, index, size)
        return 255 - pixels, label

    monkeypatch.setitem(
        standins.STANDINS, "natural-standin", standins.World(other_pictures, *list(vars(world).values())[1:])
    )
    assert identity() != base


def test_standins_keep_the_normalization_of_what_they_stand_for(tmp_path):
    natural, radiology = (sources.resolve(name, "test_resnet", folder=tmp_path) for name in standins.STANDINS)
    assert natural.mean == sources.IMAGENET_MEAN and radiology.mean == radiology.std == (0.5, 0.5, 0.5)


def test_pictures_for_training_and_for_holding_out_are_different():
    images, labels = standins._pictures("radiology-standin", QUICK, workers=1)
    assert len(images) == 1440 and images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3)
    train = {image.tobytes() for image in images[:1320]}
    assert not any(image.tobytes() in train for image in images[1320:])
    assert set(labels[1320:]) == set(range(12))


def test_a_matched_standin_is_trained_under_its_plain_name(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(standins, "pretrain", lambda source, backbone: asked.append((source.name, source.location)))
    plain, matched = (
        sources.resolve(name, "test_resnet", folder=tmp_path)
        for name in ("radiology-standin", "radiology-standin+matched")
    )
    assert not matched.at_hand and matched.caution == "stand-ins, not ImageNet or RadImageNet"
    matched.fetch("test_resnet")
    assert asked == [("radiology-standin", plain.location)]
    with pytest.raises(StudyError, match=r"natural-standin\+matched is natural-standin: its own normalization"):
        sources.resolve("natural-standin+matched", "test_resnet", folder=tmp_path)


def test_a_standin_that_is_trained_has_a_card(trained):
    assert trained.at_hand and trained.card.keys() == {"held_out_accuracy", "chance"}
