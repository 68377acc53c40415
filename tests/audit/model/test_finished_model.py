"""A finished model's log-odds are those of its own network on normalized images, whatever its file looks like."""

import numpy as np
import pytest
import timm
import torch
import torchvision
from scipy.special import logit
from torch import nn

from sourcematters.audit.model.choice import ModelChoice
from sourcematters.audit.model.finished import open_model
from sourcematters.errors import StudyError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32), dtype=np.uint8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network(outputs=1, channels=3, name="test_resnet"):
    """Its running statistics are not those of a fresh network, which would hide that they were lost."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = timm.create_model(name, num_classes=outputs, in_chans=channels)
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.8, 1.2)
    return made.eval()


@pytest.fixture(scope="module")
def plain():
    return network()


def own(model, images=IMAGES, mean=MEAN, std=STD):
    """What the network itself says of normalized images."""
    grey = torch.from_numpy(images).float()[:, None] / 255
    mean, std = (torch.tensor(each)[:, None, None] for each in (mean, std))
    with torch.inference_mode():
        return model.eval()((grey - mean) / std).double().numpy()


def opened(path, **changes):
    defaults = {"architecture": "test_resnet", "size": 32, "mean": MEAN, "std": STD}
    return open_model(ModelChoice(path=path, **{**defaults, **changes}), device="cpu")


def saved(tmp_path, state, name="model.pt"):
    torch.save(state, tmp_path / name)
    return tmp_path / name


def renamed(model, prefix):
    return {prefix + key: value for key, value in model.state_dict().items()}


def without_head(model, prefix=""):
    return {prefix + key: value for key, value in model.state_dict().items() if not key.startswith("fc.")}


def refusal(path, **changes):
    with pytest.raises(StudyError) as caught:
        opened(path, **changes)
    return str(caught.value)


WRAPPED = {
    "plain": (lambda model: model.state_dict(), "timm's test_resnet"),
    "Lightning": (
        lambda model: {"epoch": 3, "state_dict": {**renamed(model, "model."), "criterion.pos_weight": torch.ones(1)}},
        "state_dict.model. taken off",
    ),
    "DataParallel": (lambda model: renamed(model, "module."), "module. taken off"),
    "torch.compile": (lambda model: {"model": renamed(model, "_orig_mod.")}, "model._orig_mod. taken off"),
    "a running average beside it": (
        lambda model: {"model_ema": renamed(network(), ""), "model": renamed(model, "")},
        "not taken, though it fits: model_ema.",
    ),
    "a head called fc.1": (
        lambda model: {**without_head(model), "fc.1.weight": model.fc.weight, "fc.1.bias": model.fc.bias},
        "fc made again as Linear",
    ),
    "a head beside the backbone": (
        lambda model: {
            "state_dict": {
                **without_head(model, "backbone."), "classifier.1.weight": model.fc.weight,
                "classifier.1.bias": model.fc.bias,
            }
        },
        "from classifier beside the network",
    ),
    "children by number": (
        lambda model: {
            f"{[name for name, _ in model.named_children()].index(key.split('.')[0])}.{key.split('.', 1)[1]}": value
            for key, value in model.state_dict().items()
        },
        "children by number",
    ),
    "half precision, without counters": (
        lambda model: {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")},
        "one output, the logit of label 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", WRAPPED)
def test_a_wrapped_checkpoint_is_its_network(tmp_path, plain, how):
    wrap, said = WRAPPED[how]
    model = opened(saved(tmp_path, wrap(plain)))
    assert said in model.how and "ImageNet" not in model.how
    np.testing.assert_allclose(model.logits(IMAGES), own(plain)[:, 0], atol=1e-6, rtol=0)
    features = model.features(IMAGES)
    assert features.shape == (20, 96) and model.features_are == "pooled features"
    by_hand = features @ plain.fc.weight.detach().numpy().T + plain.fc.bias.detach().numpy()
    np.testing.assert_allclose(by_hand[:, 0], model.logits(IMAGES), atol=1e-5)


def test_number_of_threads_and_call_change_no_bit(tmp_path, plain, monkeypatch):
    model = opened(saved(tmp_path, plain.state_dict()))
    first = model.logits(IMAGES)
    assert (model.logits(IMAGES) == first).all()
    monkeypatch.setattr("sourcematters.audit.model.finished.cores", lambda: 1)
    assert (model.logits(IMAGES) == first).all()


def test_one_channel(tmp_path):
    one = network(channels=1)
    model = opened(saved(tmp_path, renamed(one, "net.")), mean=0.5, std=0.25)
    assert "first layer conv1.0.weight of one channel" in model.how and "; 1 channel;" in model.how
    np.testing.assert_allclose(model.logits(IMAGES), own(one, mean=(0.5,), std=(0.25,))[:, 0], atol=1e-6)
    refused = refusal(saved(tmp_path, one.state_dict()), mean=[0.1, 0.2, 0.3], std=0.25)
    assert "takes one channel" in refused


def test_two_outputs_are_a_softmax_and_many_need_an_index(tmp_path):
    two, many = network(2), network(14)
    path = saved(tmp_path, two.state_dict())
    z = own(two)
    np.testing.assert_allclose(opened(path).logits(IMAGES), z[:, 1] - z[:, 0], atol=1e-6)
    np.testing.assert_allclose(opened(path, output=0).logits(IMAGES), z[:, 0] - z[:, 1], atol=1e-6)
    path = saved(tmp_path, many.state_dict())
    assert "this model has 14 outputs: give output: 0..13, the index of label 1" in refusal(path)
    assert "there is no output 14" in refusal(path, output=14)
    z = own(many)
    np.testing.assert_allclose(opened(path, output=6).logits(IMAGES), z[:, 6], atol=1e-6)
    against = opened(path, output=6, negative_output=2)
    np.testing.assert_allclose(against.logits(IMAGES), z[:, 6] - z[:, 2], atol=1e-6)
    assert "output 6 against output 2 of 14" in against.how


HEADS = {
    "dropout and a layer": (lambda: nn.Sequential(nn.Dropout(), nn.Linear(96, 3)), "fc made again as Linear"),
    "two layers": (lambda: nn.Sequential(nn.Linear(96, 8), nn.ReLU(), nn.Linear(8, 1)), "Linear-ReLU-Linear"),
    "with dropout": (
        lambda: nn.Sequential(nn.Dropout(), nn.Linear(96, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 1)),
        "ReLU is assumed",
    ),
    "no activation": (lambda: nn.Sequential(nn.Linear(96, 8), nn.Linear(8, 1)), "Linear-Linear"),
    "normalized first": (
        lambda: nn.Sequential(nn.Linear(96, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 1)),
        "Linear-BatchNorm1d-ReLU-Linear",
    ),
    "normalized after": (
        lambda: nn.Sequential(nn.Linear(96, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 1)),
        "Linear-ReLU-BatchNorm1d-Linear",
    ),
    "layer norm before": (lambda: nn.Sequential(nn.LayerNorm(96), nn.Linear(96, 1)), "LayerNorm-Linear"),
}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("place", ["in its place", "beside"])
def test_heads_of_other_layers_are_made_again(tmp_path, kind, place):
    layers, said = HEADS[kind]
    model = network()
    torch.manual_seed(1)
    model.fc = layers()
    for module in model.fc.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.8, 1.2)
    state = model.state_dict()
    if place == "beside":
        head = {f"net.head.{key}": value for key, value in model.fc.state_dict().items()}
        state, said = {**without_head(model, "net.encoder."), **head}, said.replace("fc", "head")
    found = opened(saved(tmp_path, state), output=0)
    assert said in found.how
    np.testing.assert_allclose(found.logits(IMAGES), own(model)[:, 0], atol=1e-6)
    assert found.features(IMAGES).shape == (20, 96)


def test_heads_that_tensors_do_not_tell_are_refused(tmp_path, plain):
    model = network()
    model.fc = nn.Sequential(
        nn.Linear(96, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 1)
    )  # or dropout first, and ReLU last
    assert "where among them an activation stands" in refusal(saved(tmp_path, model.state_dict()))
    rest = without_head(plain, "backbone.")
    two = {"a.weight": torch.ones(1, 96), "a.bias": torch.ones(1), "b.weight": torch.ones(3, 96)}
    assert "a and b could each be the head" in refusal(saved(tmp_path, rest | two))
    attention = {"head.weight": torch.ones(1, 96), "attention.weight": torch.ones(96, 96, 1, 1)}
    assert "what attention does is not known" in refusal(saved(tmp_path, rest | attention))
    further = {**renamed(network(1000), "backbone."), "head.weight": torch.ones(2, 1000), "head.bias": torch.ones(2)}
    assert "what could be a head too: head" in refusal(saved(tmp_path, further))
    chosen = opened(saved(tmp_path, rest | two), rename={"backbone.": "", "a.": "fc."})
    assert chosen.reading.outputs == 1


def test_what_is_no_finished_model_of_this_architecture_is_refused(tmp_path, plain):
    path = saved(tmp_path, without_head(plain))
    assert "no classifier on its features. That is a source, not a finished model" in refusal(path)
    path = saved(tmp_path, torchvision.models.resnet18(num_classes=1).state_dict())
    refused = refusal(path, architecture="resnet34")
    assert "does not hold the weights of timm's 'resnet34', but those of resnet18: keys " in refused
    assert "missing: layer1.2.conv1.weight" in refused and "Give architecture: resnet18." in refused
    assert "Did you mean resnet18?" in refusal(path, architecture="resnet_18")
    both = opened(path, architecture="resnet18")
    assert "timm's resnet18; the names fit torchvision's too" in both.how
    assert "torchvision's resnet18;" in opened(path, architecture="resnet18", library="torchvision").how
    assert "Give `architecture`, a name in timm or torchvision.models" in refusal(path, architecture="")
    state = plain.state_dict() | {"attention.weight": torch.ones(3)}
    assert "1 not of this network: attention.weight" in refusal(saved(tmp_path, state))
    state = {**plain.state_dict(), "fc.weight": torch.full((1, 96), np.nan)}
    assert "not finite" in refusal(saved(tmp_path, state))
    assert "does not exist" in refusal(tmp_path / "none.pt")
    path, cut = saved(tmp_path, plain.state_dict()), tmp_path / "cut.pt"
    cut.write_bytes(path.read_bytes()[:5000])
    assert f"{cut}: damaged or not a checkpoint" in refusal(cut)
    assert "device 'nowhere' is not usable here" in _device(path, "nowhere")


def _device(path, device):
    with pytest.raises(StudyError) as caught:
        open_model(ModelChoice(path=path, architecture="test_resnet", size=32), device=device)
    return str(caught.value)


def test_torchvision_by_name(tmp_path):
    torch.manual_seed(0)
    model = torchvision.models.mobilenet_v3_small(num_classes=2).eval()
    path = saved(tmp_path, model.state_dict())
    found = opened(path, architecture="mobilenet_v3_small", mean=None, std=None)
    assert "torchvision's mobilenet_v3_small" in found.how and "(torchvision's of mobilenet_v3_small)" in found.how
    z = own(model)
    np.testing.assert_allclose(found.logits(IMAGES), z[:, 1] - z[:, 0], atol=1e-6)
    assert found.features(IMAGES).shape == (20, 1024), "what its last layer gets"
    model.classifier = nn.Linear(576, 1)
    found = opened(saved(tmp_path, model.state_dict()), architecture="mobilenet_v3_small")
    np.testing.assert_allclose(found.logits(IMAGES), own(model)[:, 0], atol=1e-6)


def test_pickles_are_loaded_only_where_that_is_asked_for(tmp_path, plain):
    path = saved(tmp_path, network())
    refused = refusal(path)
    assert "runs whatever code the file holds" in refused and "`unpickle: true`" in refused
    found = opened(path, unpickle=True, architecture="")
    assert found.kind == "pickled network"
    np.testing.assert_allclose(found.logits(IMAGES), own(plain)[:, 0], atol=1e-6)
    assert found.features(IMAGES).shape == (20, 96)
    path = saved(tmp_path, {"net": plain.state_dict(), "config": ModelChoice(path="x")})
    assert "`unpickle: true`" in refusal(path)
    np.testing.assert_allclose(opened(path, unpickle=True).logits(IMAGES), own(plain)[:, 0], atol=1e-6)
    assert "neither a network nor tensors" in refusal(saved(tmp_path, ModelChoice(path="x")), unpickle=True)
    path.write_bytes(b"PK\x03\x04 cut")
    assert "cannot be unpickled" in refusal(path, unpickle=True)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript(tmp_path, plain):
    torch.jit.save(torch.jit.trace(plain, torch.zeros(2, 3, 32, 32)), tmp_path / "model.any")
    found = opened(tmp_path / "model.any", architecture="")
    assert found.kind == "TorchScript" and found.features_are == "outputs"
    first = found.logits(IMAGES)
    np.testing.assert_allclose(first, own(plain)[:, 0], atol=1e-6)
    assert all((found.logits(IMAGES) == first).all() for _ in range(3))
    assert found.features(IMAGES).shape == (20, 1)
    one = network(channels=1)
    torch.jit.save(torch.jit.trace(nn.Sequential(one, nn.Sigmoid()), torch.zeros(2, 1, 32, 32)), tmp_path / "one.pt")
    found = opened(tmp_path / "one.pt", architecture="", mean=0.5, std=0.5)
    assert "; 1 channel;" in found.how and "the probability of label 1 (they lie in" in found.how
    np.testing.assert_allclose(found.logits(IMAGES), own(one, mean=(0.5,), std=(0.5,))[:, 0], atol=1e-4)
    (tmp_path / "cut.pt").write_bytes((tmp_path / "one.pt").read_bytes()[:-3000])
    assert "damaged" in refusal(tmp_path / "cut.pt")


@pytest.mark.filterwarnings("ignore")
def test_identity_and_defaults(tmp_path, plain):
    path = saved(tmp_path, plain.state_dict())
    first = opened(path)
    (tmp_path / "other").write_bytes(path.read_bytes())
    assert opened(tmp_path / "other").identity == first.identity
    others = [opened(path, **changes).identity for changes in ({"size": 64}, {"mean": 0.5, "std": 0.5})]
    assert len({first.identity, *others}) == 3
    inverted = opened(path, inverted=True)
    np.testing.assert_allclose(inverted.logits(255 - IMAGES), first.logits(IMAGES), atol=1e-6)
    bytes_ = opened(path, mean=0, std=0.00392157)
    grey = torch.from_numpy(IMAGES).float()[:, None].expand(-1, 3, -1, -1)
    with torch.inference_mode():
        np.testing.assert_allclose(bytes_.logits(IMAGES), plain(grey)[:, 0].double(), rtol=1e-4)
    with pytest.raises(StudyError, match=r"takes grey images \(N, 32, 32\), not \(20, 16, 16\)"):
        first.logits(IMAGES[:, :16, :16])


def test_choices_that_do_not_fit_together():
    for values, said in (
        ({"mean": 0.5}, "give mean and std, or neither"),
        ({"mean": [123, 117, 104], "std": [58, 57, 57]}, r"divide by 255, which gives \[0.4824, 0.4588, 0.4078\]"),
        ({"mean": [0.5, 0.5], "std": 1}, "one number, or three"),
        ({"negative_output": 1}, "give output"),
        ({"output": 1, "negative_output": 1}, "are the same"),
        ({"library": "timm"}, "give `architecture`"),
        ({"archtecture": "resnet18"}, "Did you mean architecture?"),
        ({"std": 0, "mean": 0}, "greater than 0"),
    ):
        with pytest.raises(StudyError, match=said):
            ModelChoice(path="x", **values)
    assert ModelChoice(path="x", mean=0, std=1).mean == (0,)
    assert [ModelChoice(path="x", channels=each).channels for each in ("1", 3, "auto")] == [1, 3, "auto"]


def test_log_odds_of_probabilities_by_hand(tmp_path):
    from sourcematters.audit.model.outputs import LIMIT, read_outputs

    choice = ModelChoice(path="x")
    one = read_outputs(choice, np.array([[0.2], [1.0]]), "")
    assert one.probabilities
    np.testing.assert_allclose(one.log_odds(np.array([[0.2], [0.5]])), [np.log(0.2 / 0.8), 0])
    limits = one.log_odds(np.array([[0.0], [1.0], [0.9]]))
    np.testing.assert_allclose(limits, [-LIMIT, LIMIT, logit(0.9)])
    assert one.clipped(limits) == 2
    with pytest.raises(StudyError, match="kind_of_output: logits"):
        one.log_odds(np.array([[1.2]]))
    softmax = read_outputs(choice, np.array([[0.2, 0.8], [0.5, 0.5]]), "")
    np.testing.assert_allclose(softmax.log_odds(np.array([[0.2, 0.8]])), np.log(4))
    with pytest.raises(StudyError, match="do not add up to 1"):
        read_outputs(choice, np.array([[0.2, 0.7], [0.5, 0.1]]), "")
    alone = read_outputs(choice.replaced(output=1), np.array([[0.2, 0.7], [0.5, 0.1]]), "")
    np.testing.assert_allclose(alone.log_odds(np.array([[0.9, 0.2]])), np.log(0.2 / 0.8))
    assert not read_outputs(choice, np.array([[0.2], [0.9]]), "Linear").probabilities
    assert not read_outputs(choice.replaced(kind_of_output="logits"), np.array([[0.2]]), "Sigmoid").probabilities
    assert read_outputs(choice, np.array([[0.2]]), "Sigmoid").probabilities
    with pytest.raises(StudyError, match="not finite for 1 of 2 images"):
        one.log_odds(np.array([[np.nan], [0.5]]))
