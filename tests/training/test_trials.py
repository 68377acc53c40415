import pytest
import torch

from sourcematters.errors import StudyError
from sourcematters.sources import create
from sourcematters.training import devices, trials
from sourcematters.training.recipe import Training


def test_a_network_that_can_be_trained_passes_its_trial():
    # At 96 px and channels last, the backward pass of this one crashes torch's CPU kernels (AVX-512).
    trials.trial_step("fastvit_t8", Training(size=96), "cpu")


def test_what_a_trial_dies_of_is_said(monkeypatch):
    with pytest.raises(
        StudyError, match="(?s)'inception_v3' fails in a training step at 64 px: .*Sizes that it takes: 96"
    ):
        trials.trial_step("inception_v3", Training(size=64), "cpu")
    monkeypatch.setattr(trials, "_complaint", crash)
    with pytest.raises(StudyError, match=r"'test_vit' fails .* 32 px: a worker process crashed \(SIGABRT\)"):
        trials.trial_step("test_vit", Training(size=32), "cpu")


def crash(backbone, training, device):
    import os

    os.abort()


@pytest.mark.parametrize(
    ("backbone", "cpu"),
    [
        ("resnet18", torch.channels_last),  # strided 1 x 1 convolutions of 64 channels and more
        ("test_resnet", torch.channels_last),
        ("mobileone_s1", torch.contiguous_format),
        ("fastvit_t8", torch.contiguous_format),
    ],
)
def test_only_networks_that_would_crash_are_laid_out_otherwise(backbone, cpu):
    with torch.device("meta"):
        network = create(backbone, size=64)
    assert devices.layout(network, torch.device("cpu")) == cpu
    assert devices.layout(network, torch.device("cuda")) == torch.channels_last
