"""From bank to batch: what a batch holds, how it moves, and that nothing but seed, image and epoch matters."""

import threading

import numpy as np
import pandas as pd
import pytest
import torch

from sourcematters.seeds import keys
from sourcematters.training import batches
from sourcematters.training.batches import Pixels, TrainingSet
from sourcematters.training.recipe import Training

CPU = torch.device("cpu")


def numbered(n=12, size=16):
    """Image i is i everywhere, and 100 + i with the artefact."""
    base = np.repeat(np.arange(n, dtype=np.uint8), size * size).reshape(n, size, size)
    return Pixels(base, base + np.uint8(100))


def table(rows, carries):
    ids = [f"i{row}" for row in rows]
    return pd.DataFrame({"row": rows, "image_id": ids, "label": [row % 2 for row in rows], "carries": carries})


# Pixels


def test_a_batch_shows_the_artefact_only_where_it_is_carried():
    base, carrier = np.zeros((4, 2, 2), np.uint8), np.full((4, 2, 2), 9, np.uint8)
    batch = Pixels(base, carrier).batch(np.array([3, 1, 3]), np.array([True, False, False]))
    assert batch.shape == (3, 1, 2, 2) and batch.dtype == np.uint8
    assert batch[:, 0, 0, 0].tolist() == [9, 0, 0]
    assert base.max() == 0


# Augmentation


def test_no_augmentation_is_the_identity():
    still = Training(rotation=0, shift=0, zoom=0)
    images = torch.randint(0, 256, (3, 1, 17, 17), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    moved = batches.augment(images, batches.affine_matrices(keys(0, "abc"), still, 0))
    assert torch.allclose(moved, images.float(), atol=1e-3)


def test_a_shift_of_a_quarter_moves_by_a_quarter_and_repeats_the_edge():
    images = torch.arange(8.0).repeat(8, 1)[None, None]
    matrix = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])  # 0.5 of 2 is a quarter of the width
    assert torch.allclose(batches.augment(images, matrix)[0, 0, 0], torch.tensor([2.0, 3, 4, 5, 6, 7, 7, 7]))


def test_matrices_stay_in_the_published_ranges_and_fill_them():
    settings = Training(rotation=10, shift=0.1, zoom=0.1)
    matrices = batches.affine_matrices(keys(0, range(500)), settings, 0).double().numpy()
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
        return batches.affine_matrices(keys(seed, [*company, image_id]), Training(), epoch)[-1]

    assert torch.equal(matrix(1, "a", 2), matrix(1, "a", 2, company=["x", "y"]))
    for other in (matrix(2, "a", 2), matrix(1, "b", 2), matrix(1, "a", 3)):
        assert not torch.allclose(matrix(1, "a", 2), other)


def test_epochs_share_no_draw():
    # With consecutive numbers of one sequence, epoch e's last draw must not come back as epoch e + 1's first.
    draws = batches.stream(keys(0, ["a"]), 0, 50)[0]
    settings = Training(rotation=180, shift=0, zoom=0)
    turned = [batches.affine_matrices(keys(0, ["a"]), settings, epoch)[0, 1, 0] for epoch in range(10)]
    expected = np.sin(np.pi * (2 * draws[::5] - 1))
    assert len(set(draws)) == 50 and np.allclose(turned, expected, atol=1e-6)


# Batches


@pytest.mark.parametrize(("n", "size", "lengths"), [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (3, 8, [3]), (8, 4, [4, 4])])
def test_batches_hold_every_image_once_and_never_a_single_one(n, size, lengths):
    parts = batches.slices(n, size)
    assert [len(range(n)[part]) for part in parts] == lengths
    assert [i for part in parts for i in range(n)[part]] == list(range(n))


def test_the_order_changes_with_the_epoch_and_follows_the_images():
    def order(rows, epoch):
        still = Training(size=16, batch_size=50, rotation=0, shift=0, zoom=0)
        training_set = TrainingSet(numbered(50), table(rows, [0] * 50), still, seed=0, device=CPU)
        ((images, _),) = training_set.epoch(epoch)
        return images[:, 0, 8, 8].round().int().tolist()

    rows = list(range(50))
    assert sorted(order(rows, 0)) == sorted(order(rows, 1)) == rows and order(rows, 0) != order(rows, 1)
    assert order(rows[::-1], 0) == order(rows, 0)


def test_an_epoch_shows_every_image_once_with_its_label_and_its_artefact():
    rows, carries = [7, 2, 9, 4, 0], [1, 0, 1, 1, 0]
    settings = Training(size=16, batch_size=2, rotation=10, shift=0.1, zoom=0.1)
    training_set = TrainingSet(numbered(), table(rows, carries), settings, seed=0, device=CPU)
    fed = list(training_set.epoch(3))
    assert [tuple(images.shape) for images, _ in fed] == [(2, 1, 16, 16), (3, 1, 16, 16)]
    # An image of one grey level is that level wherever it is moved to.
    grey = torch.cat([images.flatten(1).mean(1) for images, _ in fed]).round().int().tolist()
    labels = torch.cat([labels for _, labels in fed]).tolist()
    assert sorted(zip(grey, labels, strict=True)) == sorted(
        (r + 100 * c, r % 2) for r, c in zip(rows, carries, strict=True)
    )


def test_an_image_is_moved_by_its_own_draw_wherever_it_stands_in_the_epoch():
    rng = np.random.default_rng(0)
    bank = rng.integers(0, 256, (12, 16, 16), dtype=np.uint8)
    settings, rows = Training(size=16, batch_size=3), [5, 1, 8, 3, 10, 2, 7]
    train = table(rows, [0] * 7)
    fed = TrainingSet(Pixels(bank, bank), train, settings, seed=4, device=CPU).epoch(2)
    shown = torch.cat([images for images, _ in fed])
    moved = [batches.affine_matrices(keys(4, [f"i{row}"], "augment"), settings, 2) for row in rows]
    alone = [batches.augment(torch.from_numpy(bank[[row]]).unsqueeze(1), m) for row, m in zip(rows, moved, strict=True)]
    order = np.argsort(batches.stream(keys(4, train["image_id"].tolist(), "order"), 2, 1)[:, 0])
    assert torch.allclose(shown, torch.cat(alone)[order], atol=1e-4)


# Where the banks are kept

CHOICES = [(np.array([3, 1, 3]), np.array([True, False, False])), (np.array([0, 11]), np.array([False, True]))]


def test_streamed_and_resident_banks_feed_the_same_batches(monkeypatch):
    pixels = numbered()
    mapped = list(batches.feed(pixels, CHOICES, CPU))
    both = batches.resident(pixels, CPU)
    kept = [both[torch.from_numpy(rows + 12 * carries)] for rows, carries in CHOICES]
    monkeypatch.setattr(batches, "RESIDENT_SHARE", 0)
    streamed = list(batches.feed(pixels, CHOICES, CPU))
    for ways in zip(mapped, kept, streamed, strict=True):
        assert all(torch.equal(ways[0], way) and way.dtype == torch.uint8 for way in ways)
    assert mapped[0][:, 0, 0, 0].tolist() == [103, 1, 3] and mapped[1][:, 0, 0, 0].tolist() == [0, 111]


def test_runs_on_the_same_banks_share_one_tensor_and_other_banks_replace_it():
    one, other = numbered(), numbered()
    first = batches.resident(one, CPU)
    assert batches.resident(one, CPU) is first
    assert batches.resident(other, CPU) is not first


def test_the_next_batch_is_read_while_one_is_computed(monkeypatch):
    monkeypatch.setattr(batches, "RESIDENT_SHARE", 0)
    asked = threading.Event()

    def choices():
        yield CHOICES[0]
        asked.set()
        yield CHOICES[1]

    fed = batches.feed(numbered(), choices(), CPU)
    next(fed)
    assert asked.wait(10), "the second batch was not prepared before it was wanted"
    assert len(list(fed)) == 1


def test_what_goes_wrong_while_reading_ahead_is_raised_where_it_is_used(monkeypatch):
    monkeypatch.setattr(batches, "RESIDENT_SHARE", 0)
    with pytest.raises(IndexError):
        list(batches.feed(numbered(), [(np.array([99]), np.array([False]))], CPU))
