import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss as sklearn_log_loss

from sourcematters import sources, training
from sourcematters.errors import StudyError
from sourcematters.models import Classifier, reproducible, set_bn_momentum
from sourcematters.specs import Training

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
    return training.Pixels(images, images), table


# Pixels


def test_a_batch_shows_the_artefact_only_where_it_is_carried():
    base, carrier = np.zeros((4, 2, 2), np.uint8), np.full((4, 2, 2), 9, np.uint8)
    batch = training.Pixels(base, carrier).batch(np.array([3, 1, 3]), np.array([True, False, False]))
    assert batch.shape == (3, 1, 2, 2) and batch.dtype == torch.uint8
    assert batch[:, 0, 0, 0].tolist() == [9, 0, 0]
    assert base.max() == 0


# Augmentation


def test_no_augmentation_is_the_identity():
    still = Training(rotation=0, shift=0, zoom=0)
    images = torch.randint(0, 256, (3, 1, 17, 17), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    moved = training.augment(images, training.affine_matrices(["a", "b", "c"], still, 0, 0))
    assert torch.allclose(moved, images.float(), atol=1e-3)


def test_a_shift_of_a_quarter_moves_by_a_quarter_and_repeats_the_edge():
    images = torch.arange(8.0).repeat(8, 1)[None, None]
    matrix = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])  # 0.5 of 2 is a quarter of the width
    assert torch.allclose(training.augment(images, matrix)[0, 0, 0], torch.tensor([2.0, 3, 4, 5, 6, 7, 7, 7]))


def test_matrices_stay_in_the_published_ranges_and_fill_them():
    settings = Training(rotation=10, shift=0.1, zoom=0.1)
    matrices = training.affine_matrices([str(i) for i in range(500)], settings, 0, 0).double().numpy()
    zoom = np.linalg.norm(matrices[:, :, :2], axis=1)
    angle = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    # The offset is the rotation of the shift, which is at most 10 % of the width (2) per axis.
    rotation = matrices[:, :, :2] / zoom[:, None, :]
    shift = np.einsum("bji,bj->bi", rotation, matrices[:, :, 2]) / 2
    for values, low, high in ((zoom, 0.9, 1.1), (angle, -10, 10), (shift, -0.1, 0.1)):
        width = high - low
        assert low - 1e-6 <= values.min() < low + 0.02 * width
        assert high - 0.02 * width < values.max() <= high + 1e-6
        assert abs(values.mean() - (low + high) / 2) < 0.05 * width


def test_augmentation_depends_on_seed_image_and_epoch_only():
    def matrix(seed, image_id, epoch, company=()):
        return training.affine_matrices([*company, image_id], Training(), seed, epoch)[-1]

    assert torch.equal(matrix(1, "a", 2), matrix(1, "a", 2, company=["x", "y"]))
    for other in (matrix(2, "a", 2), matrix(1, "b", 2), matrix(1, "a", 3)):
        assert not torch.allclose(matrix(1, "a", 2), other)


# Batches


@pytest.mark.parametrize(("n", "size", "lengths"), [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (3, 8, [3]), (8, 4, [4, 4])])
def test_batches_hold_every_image_once_and_never_a_single_one(n, size, lengths):
    batches = training._batches([str(i) for i in range(n)], size, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == lengths
    assert sorted(np.concatenate(batches)) == list(range(n))


def test_the_order_changes_with_the_epoch():
    one, two = (np.concatenate(training._batches([str(i) for i in range(50)], 8, 0, epoch)) for epoch in (0, 1))
    assert not np.array_equal(one, two)


# The model


def test_normalization_happens_in_the_model():
    source = sources.Source("s", "random", "x", (0.1, 0.2, 0.3), (0.5, 1.0, 2.0))
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


# Fine-tuning


def test_reproducible_seeds_and_leaves_no_trace():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.random.get_rng_state()
    with reproducible(3, CPU):
        first = torch.rand(3)
        assert torch.get_num_threads() == 1 and torch.are_deterministic_algorithms_enabled()
    with reproducible(3, CPU):
        assert torch.equal(torch.rand(3), first)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[:2]
    assert torch.equal(torch.random.get_rng_state(), before[2])


def test_it_learns_what_is_there_to_learn():
    pixels, sets = bright_and_dark()
    model = make_model()
    history = training.fine_tune(model, pixels, sets, TINY, seed=0, device=CPU)
    clean = sets[sets["part"] == "clean"]
    scores = training.score(model, pixels, clean, TINY, device=CPU)
    assert scores[clean["label"] == 1].min() > scores[clean["label"] == 0].max()
    assert history["val_auc"].iloc[-1] == 1.0 and history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 2


def test_the_weights_of_the_best_validation_loss_are_kept():
    pixels, sets = bright_and_dark()
    sets["label"] = np.random.default_rng(3).permutation(sets["label"])  # nothing to learn: it overfits
    settings = Training(**{**TINY.__dict__, "epochs": 10, "patience": 10})
    model = make_model()
    history = training.fine_tune(model, pixels, sets, settings, seed=1, device=CPU)
    val = sets[sets["part"] == "val"]
    scores = training.score(model, pixels, val, settings, device=CPU)
    assert np.isclose(sklearn_log_loss(val["label"], scores), history["val_loss"].min(), rtol=1e-6)
    before = history["val_loss"].cummin().shift(fill_value=np.inf)
    assert history["best"].tolist() == (history["val_loss"] < before).astype(int).tolist()
    assert history["val_loss"].iloc[-1] > history["val_loss"].min(), "a case where the last epoch is not the best"


def test_it_stops_after_patience_epochs_without_a_better_one(monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.1, 2.0, 1.0])
    monkeypatch.setattr(training, "log_loss", lambda *a: next(losses))
    pixels, sets = bright_and_dark()
    settings = Training(**{**TINY.__dict__, "epochs": 50, "patience": 3})
    history = training.fine_tune(make_model(), pixels, sets, settings, seed=0, device=CPU)
    assert history["val_loss"].tolist() == [3.0, 2.0, 2.5, 2.1, 2.0]
    assert history["best"].tolist() == [1, 1, 0, 0, 0]


def test_the_same_seed_gives_the_same_bytes():
    def weights():
        pixels, sets = bright_and_dark()
        model = make_model()
        with reproducible(5, CPU):
            training.fine_tune(model, pixels, sets, TINY, seed=0, device=CPU)
        return model.state_dict()

    one, two = weights(), weights()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_loss_that_is_not_finite_is_an_error():
    pixels, sets = bright_and_dark()
    model = make_model()
    with torch.no_grad():
        model.classifier.weight.fill_(float("nan"))
    with pytest.raises(StudyError, match="not finite"):
        training.fine_tune(model, pixels, sets, TINY, seed=0, device=CPU)


def test_scores_are_the_softmax_and_follow_the_rows():
    pixels, _ = bright_and_dark()
    model = make_model().eval()
    rows = pd.DataFrame({"row": [5, 2, 5, 2], "carries": [0, 0, 0, 0]})
    scores = training.score(model, pixels, rows, TINY, device=CPU)
    with torch.inference_mode():
        logits = model(torch.from_numpy(pixels.base[[2, 5]]).unsqueeze(1)).double().numpy()
    expected = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    assert np.allclose(scores, [expected[1], expected[0], expected[1], expected[0]], atol=1e-9)


def test_log_loss_is_the_textbooks():
    labels, scores = np.array([1, 0, 1]), np.array([0.9, 0.4, 0.2])
    assert np.isclose(training.log_loss(labels, scores), -(np.log(0.9) + np.log(0.6) + np.log(0.2)) / 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_learns_the_same_task():
    pixels, sets = bright_and_dark()
    model = make_model()
    settings = Training(**{**TINY.__dict__, "precision": "bf16"})
    training.fine_tune(model, pixels, sets, settings, seed=0, device=torch.device("cuda"))
    clean = sets[sets["part"] == "clean"]
    scores = training.score(model, pixels, clean, settings, device=torch.device("cuda"))
    assert scores[clean["label"] == 1].min() > scores[clean["label"] == 0].max()


def test_devices_and_precision():
    assert training.choose_device("cpu") == CPU
    with pytest.raises(StudyError, match="device 'warp' is not usable here"):
        training.choose_device("warp")
    assert training.choose_precision("fp32", CPU) == "fp32"
    assert training.choose_precision("auto", CPU) == ("bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32")
