"""What a proof of life finds, on networks whose faults are known."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from sourcematters import sources
from sourcematters.training import proof
from sourcematters.training.classifier import reproducible


def bright_and_dark(n=32):
    rng, labels = np.random.default_rng(0), np.arange(n) % 2
    images = (rng.integers(0, 100, (n, 32, 32)) + 100 * labels[:, None, None]).astype(np.uint8)
    return images, labels, [f"p{i // 2}" for i in range(n)]


def settled(tmp_path, images):
    """A network whose running statistics are those of `images` behind mean .5 and std .5."""
    with reproducible(0, torch.device("cpu")), torch.no_grad():
        network = timm.create_model("test_resnet", num_classes=0)
        grey = torch.from_numpy(images[:, None]).float().expand(-1, 3, -1, -1) / 255
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the mean over batches
        network.train()((grey - 0.5) / 0.5)
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    entry = {"path": str(tmp_path / "a.safetensors"), "mean": [0.5] * 3, "std": [0.5] * 3}
    return sources.resolve("mine", "test_resnet", weights={"mine": entry})


def test_another_scaling_of_the_input_is_found(tmp_path):
    images, labels, patients = bright_and_dark()
    source = settled(tmp_path, images)
    right = proof.proof_of_life(source, "test_resnet", images, labels, patients)
    assert right["bn_shift"] < 0.05 and right["bn_stretch"] < 0.1 and right["warning"] == ""
    assert right["probe_auc"] > 0.95
    wrong = proof.proof_of_life(
        replace(source, mean=(0.0,) * 3, std=(1 / 255,) * 3), "test_resnet", images, labels, patients
    )
    # (x - .5) / .5 became 255 x: the first variance is 127.5 squared times as large; of three, the worst is told.
    assert 2 * np.log2(127.5) - 0.1 < wrong["bn_stretch"] < 20
    assert "check mean, std" in wrong["warning"]
    again = proof.proof_of_life(source, "test_resnet", images, labels, patients)
    assert again == right


def test_a_network_without_batch_normalization_is_probed_only():
    images, labels, patients = bright_and_dark()
    found = proof.proof_of_life(sources.resolve("random", "test_vit"), "test_vit", images, labels, patients)
    assert found["bn_shift"] is None and found["bn_stretch"] is None and 0 <= found["probe_auc"] <= 1


def test_the_probe_scores_no_patient_it_was_fitted_on():
    # Features that name the patient, and labels at random by patient: a leak would find them.
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60).repeat(4)
    features = np.eye(60).repeat(4, axis=0)
    aucs = proof.probe(features, labels, [f"p{i // 4}" for i in range(240)])
    assert aucs < 0.6
    telling = features.copy()
    telling[:, 0] = labels + rng.normal(0, 0.5, 240)
    assert proof.probe(telling[:, :1], labels, [f"p{i // 4}" for i in range(240)]) > 0.85


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0.3, 1.9, 0.7, 0.75, 128), ""),
        ((2.5, 0.1, 0.7, 0.6, 128), "2.5 standard deviations off"),
        ((0.1, 3.0, 0.7, 0.6, 128), "variances 8.0-fold"),
        # Three standard errors: 3 sqrt(129 / (3 128^2)) = .154, and 3 sqrt(33 / (3 32^2)) = .311
        ((None, None, 0.5, 0.8, 32), ""),
        ((None, None, 0.56, 0.7, 128), ""),
        ((None, None, 0.5, 0.7, 128), r"less well \(AUC 0.50\) than the untrained network's \(0.70\)"),
    ],
)
def test_what_the_numbers_say(numbers, said):
    import re

    names = ("bn_shift", "bn_stretch", "probe_auc", "probe_random", "probe_images")
    found = proof.warning(**dict(zip(names, numbers, strict=True)))
    assert bool(re.search(said, found)) and bool(found) == bool(said)
