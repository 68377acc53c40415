"""A checkpoint is read without running code, and loads whole or not at all."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from sourcematters import sources
from sourcematters.errors import StudyError


def load_mine(path):
    """Load through the public way in, as a user's own file."""
    source = sources.resolve("mine", "test_resnet", weights={"mine": str(path)})
    return source.load("test_resnet", size=64)


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
    return {f"my-{key}": value for key, value in state.items()}


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
        (damage_nothing_is_there, "missing: conv1.0.weight.*not of this network: my-"),
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


FAMILIES = [
    "resnet10t", "densenet121", "efficientnet_lite0", "mobilenetv3_small_050", "ghostnet_050", "hgnetv2_b0",
    "inception_next_atto", "vgg11", "test_convnext", "test_vit", "swin_tiny_patch4_window7_224", "levit_128s",
    "repvit_m1",
]  # fmt: skip


@pytest.mark.parametrize("backbone", FAMILIES)
def test_a_file_of_any_family_loads_with_its_classifier_and_without(backbone):
    with torch.device("meta"):
        whole = timm.create_model(backbone, num_classes=7).state_dict()
        network = sources.create(backbone, size=None)
        bare = network.state_dict()
    assert set(bare) < set(whole)
    for state in (whole, bare):
        sources.load_exactly(network, state, backbone, origin="a")
        with pytest.raises(StudyError, match="1 not of this network: layer9.weight"):
            sources.load_exactly(network, {**state, "layer9.weight": torch.zeros(1)}, backbone, origin="a")
        gone = next(key for key in bare if key.endswith("weight"))
        with pytest.raises(StudyError, match="1 missing"):
            sources.load_exactly(network, {k: v for k, v in state.items() if k != gone}, backbone, origin="a")


def test_inceptions_second_classifier_is_left_out_whole_or_complained_of():
    with torch.device("meta"):
        state = timm.create_model("inception_v3", aux_logits=True).state_dict()  # as torchvision's weights have it
        network = sources.create("inception_v3", size=96)
        assert not sources.load_exactly(network, state, "inception_v3", origin="a")
        wrapped = {f"module.{key}": value for key, value in state.items()}
        assert sources.load_exactly(network, wrapped, "inception_v3", origin="a") == "module. taken off"
        for change in (
            {k: v for k, v in state.items() if k != "AuxLogits.conv1.bn.weight"},
            {**state, "AuxLogits.conv9.weight": torch.zeros(3)},
            {**state, "AuxLogits.conv0.conv.weight": torch.zeros(3)},
        ):
            with pytest.raises(StudyError, match="not of this network: AuxLogits"):
                sources.load_exactly(network, change, "inception_v3", origin="a")


def test_what_loading_looks_up_draws_nothing(small):
    network = sources.create("test_resnet", size=32)
    after = torch.random.get_rng_state()
    sources.load_exactly(network, small[1], "test_resnet", origin="a")
    assert torch.equal(after, torch.random.get_rng_state()) and sources.feature_width("test_vit", 32) == 64
    assert torch.equal(after, torch.random.get_rng_state())


def test_a_file_of_fixed_input_size_is_brought_to_the_studys_as_timm_does(tmp_path):
    backbone = "test_vit"
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_file(timm.create_model(backbone).state_dict(), path)
    source = sources.resolve("mine", backbone, weights={"mine": str(path)})
    found = source.load(backbone, size=64).state_dict()
    overlay = {"file": str(path)}
    due = timm.create_model(backbone, pretrained=True, num_classes=0, img_size=64, pretrained_cfg_overlay=overlay)
    due = due.state_dict()
    assert found.keys() == due.keys()
    assert all(torch.allclose(found[key], due[key], atol=1e-6) for key in due if due[key].is_floating_point())
