"""A checkpoint is read without running code, and loads whole or not at all."""

import pytest
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
