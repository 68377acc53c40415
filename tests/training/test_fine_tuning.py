import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss as sklearn_log_loss

from sourcematters import sources
from sourcematters.errors import StudyError
from sourcematters.training import batches, devices, fine_tuning
from sourcematters.training.batches import Pixels
from sourcematters.training.classifier import Classifier, reproducible, set_bn_momentum
from sourcematters.training.recipe import Training

CPU = torch.device("cpu")
TINY = Training(size=32, epochs=8, patience=8, learning_rate=1e-3, batch_size=8, bn_momentum=0.1, dropout=0.0)


def random_source():
    return sources.resolve("random", "test_resnet")


def make_model(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Classifier(random_source(), "test_resnet", size=32, dropout=0.0)


def bright_and_dark(n=48):
    """Positives are brighter than negatives; half of the images train, a quarter validates, a quarter tests."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = (rng.integers(0, 60, (n, 32, 32)) + 120 * labels[:, None, None]).astype(np.uint8)
    parts = np.array(["train", "train", "train", "train", "val", "val", "clean", "clean"])[np.arange(n) % 8]
    table = pd.DataFrame(
        {"row": np.arange(n), "image_id": [f"i{i}" for i in range(n)], "label": labels, "part": parts, "carries": 0}
    )
    return Pixels(images, images), table


# The model


def test_normalization_happens_in_the_model():
    source = dataclasses.replace(random_source(), mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    model = Classifier(source, "test_resnet", size=32)
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.eval()(torch.full((2, 1, 32, 32), 51, dtype=torch.uint8))
    # 51 / 255 = .2; (.2 - mean) / std by hand
    assert torch.allclose(seen[0][0, :, 0, 0], torch.tensor([0.2, 0.0, -0.05]), atol=1e-6)


def test_bn_momentum_reaches_every_layer():
    model = make_model()
    set_bn_momentum(model, 0.01)
    found = [m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(found) > 5 and set(found) == {0.01}


FAMILIES = [
    "resnet10t", "densenet121", "efficientnet_lite0", "mobilenetv3_small_050", "ghostnet_050", "hgnetv2_b0",
    "inception_next_atto", "vgg11", "test_convnext", "test_vit", "levit_128s", "regnetx_002",
]  # fmt: skip


@pytest.mark.parametrize("backbone", FAMILIES)
def test_a_network_of_any_family_makes_a_step(backbone):
    model = Classifier(sources.resolve("random", backbone), backbone, size=64)
    devices.place(model, CPU)
    optimizer = fine_tuning.optimizer_for(model, TINY)
    before = model.classifier.weight.clone()
    images, labels = 255 * torch.rand(2, 1, 64, 64), torch.tensor([0, 1])
    assert torch.isfinite(fine_tuning.step(model.train(), optimizer, images, labels, TINY))
    # Adam's first step has the length of the learning rate wherever there is a gradient.
    assert (model.classifier.weight - before).abs().max().item() == pytest.approx(1e-3, rel=1e-2)


# Fine-tuning


def test_reproducible_seeds_and_leaves_no_trace():
    def settings():
        flags = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
        kinds = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
        return torch.get_num_threads(), *flags, *(kind.fp32_precision for kind in kinds)

    before = settings(), torch.random.get_rng_state()
    with reproducible(3, CPU):
        first = torch.rand(3)
        assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    with reproducible(3, CPU):
        assert torch.equal(torch.rand(3), first)
    assert settings() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])


def test_it_learns_what_is_there_to_learn():
    pixels, sets = bright_and_dark()
    model = make_model()
    history = fine_tuning.fine_tune(model, pixels, sets, TINY, seed=0, device=CPU)
    clean = sets[sets["part"] == "clean"]
    scores = fine_tuning.score(model, pixels, clean, TINY, device=CPU)
    assert scores[clean["label"] == 1].min() > scores[clean["label"] == 0].max()
    assert history["val_auc"].iloc[-1] == 1.0 and history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 2


def test_the_weights_of_the_best_validation_loss_are_kept():
    pixels, sets = bright_and_dark()
    sets["label"] = np.random.default_rng(3).permutation(sets["label"])  # nothing to learn: it overfits
    settings = TINY.replaced(epochs=10, patience=10)
    model = make_model()
    history = fine_tuning.fine_tune(model, pixels, sets, settings, seed=1, device=CPU)
    val = sets[sets["part"] == "val"]
    scores = fine_tuning.score(model, pixels, val, settings, device=CPU)
    assert np.isclose(sklearn_log_loss(val["label"], scores), history["val_loss"].min(), rtol=1e-6)
    before = history["val_loss"].cummin().shift(fill_value=np.inf)
    assert history["best"].tolist() == (history["val_loss"] < before).astype(int).tolist()
    assert history["val_loss"].iloc[-1] > history["val_loss"].min(), "a case where the last epoch is not the best"


def test_it_stops_after_patience_epochs_without_a_better_one(monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.1, 2.0, 1.0])
    monkeypatch.setattr(fine_tuning, "log_loss", lambda *a: next(losses))
    pixels, sets = bright_and_dark()
    settings = TINY.replaced(epochs=50, patience=3)
    history = fine_tuning.fine_tune(make_model(), pixels, sets, settings, seed=0, device=CPU)
    assert history["val_loss"].tolist() == [3.0, 2.0, 2.5, 2.1, 2.0]
    assert history["best"].tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("share", [batches.RESIDENT_SHARE, 0])
def test_the_same_seed_gives_the_same_bytes_from_memory_and_from_disk(monkeypatch, share):
    def weights():
        pixels, sets = bright_and_dark()
        model = make_model()
        with reproducible(5, CPU):
            fine_tuning.fine_tune(model, pixels, sets, TINY, seed=0, device=CPU)
        return model.state_dict()

    one = weights()
    monkeypatch.setattr(batches, "RESIDENT_SHARE", share)
    two = weights()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_loss_that_is_not_finite_is_an_error():
    pixels, sets = bright_and_dark()
    model = make_model()
    with torch.no_grad():
        model.classifier.weight.fill_(float("nan"))
    with pytest.raises(StudyError, match="not finite"):
        fine_tuning.fine_tune(model, pixels, sets, TINY, seed=0, device=CPU)


def test_scores_are_the_softmax_and_follow_the_rows():
    pixels, _ = bright_and_dark()
    model = make_model().eval()
    rows = pd.DataFrame({"row": [5, 2, 5, 2], "carries": [0, 0, 0, 0]})
    scores = fine_tuning.score(model, pixels, rows, TINY, device=CPU)
    with torch.inference_mode():
        logits = model(torch.from_numpy(pixels.base[[2, 5]]).unsqueeze(1)).double().numpy()
    expected = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    assert np.allclose(scores, [expected[1], expected[0], expected[1], expected[0]], atol=1e-9)


def test_log_loss_is_the_textbooks():
    labels, scores = np.array([1, 0, 1]), np.array([0.9, 0.4, 0.2])
    assert np.isclose(fine_tuning.log_loss(labels, scores), -(np.log(0.9) + np.log(0.6) + np.log(0.2)) / 3)


def test_under_bf16_the_head_is_computed_in_single_precision():
    # Images that differ little: two logits of 8 bits each would tie some of them (161 of 200 were told apart).
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 256, (200, 32, 32)) * np.linspace(0.5, 1, 200)[:, None, None]).astype(np.uint8)
    rows = pd.DataFrame({"row": np.arange(200), "carries": 0})
    model, settings = make_model(), TINY.replaced(precision="bf16")
    features = []
    model.backbone.register_forward_hook(lambda module, inputs, output: features.append(output))
    scores = fine_tuning.score(model, Pixels(images, images), rows, settings, device=CPU)
    assert {each.dtype for each in features} == {torch.bfloat16}, "the backbone's are of bf16, or nothing is tested"
    assert len(np.unique(scores)) == 200
    # The linear layer and the softmax by NumPy, in double precision, from the features as they came.
    weight, bias = (p.detach().double().numpy() for p in (model.classifier.weight, model.classifier.bias))
    logits = torch.cat(features).double().numpy() @ weight.T + bias
    assert scores == pytest.approx(1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), abs=1e-7)
    model.train()
    dropped = []
    model.dropout.register_forward_hook(lambda module, inputs, output: dropped.append(output.dtype))
    with devices.autocast(CPU, settings):
        assert model(torch.from_numpy(images[:8]).unsqueeze(1)).dtype == torch.float32
    assert dropped == [torch.float32]


@pytest.mark.parametrize(("precision", "format"), [("fp32", "ieee"), ("bf16", "ieee"), ("tf32", "tf32")])
def test_training_and_scoring_multiply_in_the_recipes_precision(precision, format):
    pixels, sets = bright_and_dark()
    model, settings, seen = make_model(), TINY.replaced(precision=precision, epochs=1), set()
    model.backbone.register_forward_pre_hook(
        lambda *a: seen.add((model.training, torch.backends.cudnn.conv.fp32_precision))
    )
    model.classifier.weight.register_hook(lambda gradient: seen.add(("back", torch.backends.cudnn.conv.fp32_precision)))
    fine_tuning.fine_tune(model, pixels, sets, settings, seed=0, device=CPU)
    assert seen == {(True, format), (False, format), ("back", format)}
    seen.clear()
    fine_tuning.score(model, pixels, sets, settings, device=CPU)
    assert seen == {(False, format)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_learns_the_same_task():
    pixels, sets = bright_and_dark()
    model = make_model()
    settings = TINY.replaced(precision="bf16")
    fine_tuning.fine_tune(model, pixels, sets, settings, seed=0, device=torch.device("cuda"))
    clean = sets[sets["part"] == "clean"]
    scores = fine_tuning.score(model, pixels, clean, settings, device=torch.device("cuda"))
    assert scores[clean["label"] == 1].min() > scores[clean["label"] == 0].max()
