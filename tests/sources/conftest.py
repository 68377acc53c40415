"""What several tests of sources start from."""

import pytest
import timm
from networks import randomize
from safetensors.torch import save_file


@pytest.fixture
def small(tmp_path):
    """A checkpoint of timm's smallest network, with its own classifier of 7 classes."""
    state = randomize(timm.create_model("test_resnet", num_classes=7)).state_dict()
    path = tmp_path / "mine.safetensors"
    save_file(state, path)
    return path, state
