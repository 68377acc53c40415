"""Files in the published layout with random values: the network that torchvision would make of them."""

import pytest
import torch
import torchvision
from networks import randomize

from sourcematters import sources
from sourcematters.errors import StudyError
from sourcematters.sources import radimagenet

BUILDERS = {
    "resnet50": lambda: torchvision.models.resnet50(weights=None),
    "densenet121": lambda: torchvision.models.densenet121(weights=None),
    "inception_v3": lambda: torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False),
}
PUBLISHED_TENSORS = {"resnet50": 318, "densenet121": 725, "inception_v3": 564}


class Release(torch.nn.Module):
    """How the RadImageNet release wraps a network: torchvision's children in a row, without the classifier."""

    def __init__(self, network):
        super().__init__()
        self.backbone = torch.nn.Sequential(*list(network.children())[:-1])


@pytest.fixture(scope="module", params=BUILDERS)
def release(request, tmp_path_factory):
    """A file in the exact published layout, and the torchvision network that it was made from."""
    network = randomize(BUILDERS[request.param]())
    path = tmp_path_factory.mktemp("weights") / radimagenet.FILES["radimagenet"][request.param]
    torch.save(Release(network).state_dict(), path)
    return request.param, path, network


def test_radimagenet_layout_gives_torchvisions_network(release):
    backbone, path, network = release
    assert len(sources.read_tensors(path)) == PUBLISHED_TENSORS[backbone]
    source = sources.resolve("radimagenet", backbone, weights={"radimagenet": str(path)})
    assert source.mean == source.std == (0.5, 0.5, 0.5)
    loaded = source.load(backbone, size=75)
    own = {k: v for k, v in network.state_dict().items() if not k.startswith(("fc.", "classifier."))}
    assert loaded.state_dict().keys() == own.keys()
    assert all(torch.equal(loaded.state_dict()[key], own[key]) for key in own)
    # The same function, not only the same tensors: features before the classifier agree.
    images = torch.rand(1, 3, 75, 75, generator=torch.Generator().manual_seed(1))
    *_, name = [n for n, _ in network.named_children()]
    setattr(network, name, torch.nn.Identity())
    with torch.inference_mode():
        theirs, ours = network.eval()(images), loaded.eval()(images)
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_folder_with_the_published_names_will_do(release):
    backbone, path, _ = release
    weights = {"radimagenet": str(path.parent)}
    assert sources.resolve("radimagenet", backbone, weights=weights).location == str(path)


def test_a_checkpoint_of_another_architecture_is_refused_with_its_keys(tmp_path):
    path = tmp_path / "ResNet50.pt"
    torch.save(Release(BUILDERS["densenet121"]()).state_dict(), path)
    source = sources.resolve("radimagenet", "resnet50", weights={"radimagenet": str(path)})
    with pytest.raises(
        StudyError, match=r"not hold the weights of 'resnet50'.*missing: conv1.weight.*725 not of this network"
    ):
        source.load("resnet50", size=64)


def test_a_file_that_cannot_be_downloaded_comes_with_a_recipe(monkeypatch):
    def offline(*arguments, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", offline)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
    recipe = r"RadImageNet weights ResNet50.pt could not be fetched.*pass weights: {\"radimagenet\": "
    for name in ("radimagenet", "radimagenet+matched"):
        source = sources.resolve(name, "resnet50")
        assert not source.at_hand
        with pytest.raises(StudyError, match=recipe):
            source.fetch("resnet50")
        with pytest.raises(StudyError, match=recipe):
            source.load("resnet50", size=64)


def test_the_hubs_file_loads_as_a_local_one_does(release, monkeypatch):
    backbone, path, _ = release
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *a, **o: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda hub, file: str(path) if file == path.name else None)
    source = sources.resolve("radimagenet", backbone)
    local = sources.resolve("radimagenet", backbone, weights={"radimagenet": str(path)})
    assert (source.mean, source.std) == (local.mean, local.std)
    ours, theirs = (s.load(backbone, size=75).state_dict() for s in (source, local))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
