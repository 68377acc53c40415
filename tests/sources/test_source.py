import re

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from sourcematters import sources
from sourcematters.demo import standins
from sourcematters.errors import StudyError

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


def randomize(network):
    generator = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.1 + 0.01)
    return network


@pytest.fixture(scope="module", params=BUILDERS)
def release(request, tmp_path_factory):
    """A file in the exact published layout, and the torchvision network that it was made from."""
    network = randomize(BUILDERS[request.param]())
    path = tmp_path_factory.mktemp("weights") / sources.RADIMAGENET_FILES[request.param]
    torch.save(Release(network).state_dict(), path)
    return request.param, path, network


def test_radimagenet_layout_gives_torchvisions_network(release):
    backbone, path, network = release
    assert len(sources.read_tensors(path)) == PUBLISHED_TENSORS[backbone]
    source = sources.resolve("radimagenet", backbone, weights={"radimagenet": str(path)})
    assert source.mean == source.std == (0.5, 0.5, 0.5)
    loaded = sources.load(source, backbone, size=75)
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
        sources.load(source, "resnet50", size=64)


@pytest.fixture
def small(tmp_path):
    """A checkpoint of timm's smallest network, with its own classifier of 7 classes."""
    state = randomize(timm.create_model("test_resnet", num_classes=7)).state_dict()
    path = tmp_path / "mine.safetensors"
    save_file(state, path)
    return path, state


def load_mine(path):
    """Load through the public way in, as a user's own file."""
    source = sources.resolve("mine", "test_resnet", weights={"mine": str(path)})
    return sources.load(source, "test_resnet", size=64)


def test_own_checkpoint_loads_all_but_its_classifier(small):
    path, state = small
    loaded = load_mine(path).state_dict()
    assert set(state) - set(loaded) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "module."])
def test_usual_wrappings_of_a_pt_file(small, tmp_path, wrap):
    _, state = small
    if wrap == "module.":
        state = {f"module.{key}": value for key, value in state.items()}
    torch.save(state if wrap in ("plain", "module.") else {wrap: state, "epoch": 3}, tmp_path / "a.pth")
    assert torch.equal(load_mine(tmp_path / "a.pth").state_dict()["conv1.0.weight"], small[1][next(iter(small[1]))])


def damage_nothing_is_there(state):
    return {f"encoder.{key}": value for key, value in state.items()}


def damage_one_key(state):
    return {key.replace("layer2.0.conv1", "layer2.0.conv9"): value for key, value in state.items()}


def damage_transposed(state):
    return {k: v.transpose(0, 1).contiguous() if k == "layer2.0.conv1.weight" else v for k, v in state.items()}


def damage_left_out(state):
    return {key: value for key, value in state.items() if not key.startswith("layer3")}


def damage_left_over(state):
    return {**state, "layer9.weight": torch.zeros(1)}


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_nothing_is_there, "missing: conv1.0.weight.*not of this network: encoder"),
        (damage_one_key, "missing: layer2.0.conv1.weight.*not of this network: layer2.0.conv9.weight"),
        (damage_transposed, r"of another shape: layer2.0.conv1.weight \(32, 48, 3, 3\)"),
        (damage_left_out, "missing: layer3"),
        (damage_left_over, "1 not of this network: layer9.weight"),
    ],
)
def test_wrong_keys_are_named(small, tmp_path, damage, named):
    save_file(damage(small[1]), tmp_path / "wrong.safetensors")
    with pytest.raises(StudyError, match=f"(?s)wrong.safetensors: does not hold the weights of 'test_resnet'.*{named}"):
        load_mine(tmp_path / "wrong.safetensors")


def test_an_old_checkpoint_without_batch_counters_loads(small, tmp_path):
    state = {k: v for k, v in small[1].items() if not k.endswith("num_batches_tracked")}
    assert len(state) < len(small[1])
    save_file(state, tmp_path / "old.safetensors")
    assert torch.equal(load_mine(tmp_path / "old.safetensors").state_dict()["bn1.weight"], state["bn1.weight"])


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_truncated_file_is_refused(small, tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    torch.save(small[1], path) if suffix == "pt" else save_file(small[1], path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StudyError, match=f"cut.{suffix}: damaged or not a checkpoint"):
        load_mine(path)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(StudyError, match="loading it would run code"):
        load_mine(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(StudyError, match="holds list, not a state_dict"):
        load_mine(tmp_path / "list.pt")


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


@pytest.mark.parametrize(
    ("name", "backbone", "weights", "message"),
    [
        (
            "imagnet",
            "resnet50",
            {},
            r"'imagnet' is not known\. Did you mean imagenet\?.*imagenet, radimagenet, radimagenet-keras, random",
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


def test_weights_that_cannot_be_downloaded_come_with_a_recipe(monkeypatch):
    def offline(*arguments, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(StudyError, match=r"RadImageNet weights ResNet50.pt could not be fetched.*pass weights"):
        sources.fetch(sources.resolve("radimagenet", "resnet50"), "resnet50")
    monkeypatch.setattr(timm, "create_model", offline)
    recipe = r"(?s)could not be fetched.*download `model.safetensors` of timm/resnet50.tv_in1k"
    with pytest.raises(StudyError, match=recipe):
        sources.fetch(sources.resolve("imagenet", "resnet50"), "resnet50")


def test_imagenet_weights_come_through_timm(monkeypatch, tmp_path):
    """timm reads a hub file of its own layout; the same file, given locally, makes the same network."""
    state = randomize(timm.create_model("test_resnet")).state_dict()
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **o: real(name, **o, **_overlay(o, path)))
    source = sources.resolve("imagenet", "test_resnet")
    assert re.fullmatch(r"timm:test_resnet\.r160_in1k", source.identity)
    through_timm = sources.load(source, "test_resnet", size=64).state_dict()
    local = sources.resolve("imagenet", "test_resnet", weights={"imagenet": str(path)})
    assert local.mean == source.mean == (0.5, 0.5, 0.5)
    by_file = sources.load(local, "test_resnet", size=64).state_dict()
    assert through_timm.keys() == by_file.keys() == {key for key in state if not key.startswith("fc.")}
    assert all(torch.equal(through_timm[key], state[key]) and torch.equal(by_file[key], state[key]) for key in by_file)


def _overlay(options, path):
    return {"pretrained_cfg_overlay": {"file": str(path)}} if options.get("pretrained") else {}


def test_a_backbone_of_fixed_input_size_gets_the_studys():
    model = sources.load(sources.resolve("random", "test_vit"), "test_vit", size=96)
    assert model(torch.zeros(1, 3, 96, 96)).shape == (1, 64)


@pytest.mark.parametrize("backbone", sources.IMAGENET_TAGS)
def test_the_papers_backbones_take_the_sizes_of_its_images(backbone):
    model = sources.load(sources.resolve("random", backbone), backbone, size=256).eval()
    with torch.inference_mode():
        for size in (362, 256):
            assert model(torch.zeros(1, 3, size, size)).shape == (1, model.num_features)
    assert sources.resolve("imagenet", backbone).identity == f"timm:{sources.IMAGENET_TAGS[backbone]}"


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
    own, other = (sources.load(source, "test_resnet", size=64).state_dict() for source in (own, other))
    assert all(torch.equal(own[key], other[key]) for key in own)


@pytest.mark.parametrize("name", ["imagenet", "random", "natural-standin"])
def test_a_matched_source_that_would_be_the_plain_one_is_refused(name):
    with pytest.raises(StudyError, match=rf"{name}\+matched is {name}: its own normalization is ImageNet's"):
        sources.resolve(f"{name}+matched", "resnet50")


def test_a_matched_source_is_fetched_under_its_plain_name(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(standins, "pretrain", lambda source, backbone: asked.append((source.name, source.location)))
    plain, matched = (
        sources.resolve(name, "test_resnet", folder=tmp_path)
        for name in ("radiology-standin", "radiology-standin+matched")
    )
    sources.fetch(matched, "test_resnet")
    assert asked == [("radiology-standin", plain.location)]
