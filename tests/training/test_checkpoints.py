"""A fine-tuning that is killed in the middle, and goes on to the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from test_fine_tuning import CPU, bright_and_dark, make_model
from tiny_runs import TINY, make_cohort, plan

from sourcematters.runs import run_folder
from sourcematters.runs.run_folder import Workspace
from sourcematters.training import fine_tuning
from sourcematters.training.checkpoints import Checkpoint
from sourcematters.training.classifier import reproducible

DROPPING = TINY.replaced(size=32, epochs=6, dropout=0.5)


class Stop(Exception):
    pass


GPU = torch.device("cuda")
DEVICES = [CPU, pytest.param(GPU, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))]


def fine_tune(checkpoint=None, stop_after=None, settings=DROPPING, device=CPU):
    """Weights and history after a fine-tuning with dropout that is stopped when an epoch's checkpoint was written."""
    pixels, sets = bright_and_dark()
    model = make_model()
    model.dropout.p = 0.5
    epochs = []

    def on_epoch(epoch):
        epochs.append(epoch)
        if stop_after is not None and epoch == stop_after + 1:
            raise Stop

    with reproducible(5, device):
        history = fine_tuning.fine_tune(
            model, pixels, sets, settings, seed=0, device=device, on_epoch=on_epoch, checkpoint=checkpoint
        )
    return model.state_dict(), history, epochs


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_a_stopped_fine_tuning_goes_on_to_the_same_weights(tmp_path, device):
    weights, history, _ = fine_tune(device=device)
    path = tmp_path / "run.pt"
    with pytest.raises(Stop):
        fine_tune(Checkpoint(path, 0, device), stop_after=2, device=device)
    torch.manual_seed(99)  # another process stands elsewhere in torch's random numbers
    resumed, history_resumed, epochs = fine_tune(Checkpoint(path, 0, device), device=device)
    assert epochs == [3, 4, 5], "the epochs that were kept are not trained again"
    pd.testing.assert_frame_equal(history_resumed, history, check_exact=True)
    assert all(torch.equal(resumed[key], weights[key]) for key in weights)


def test_without_torchs_random_state_it_would_be_another_one(tmp_path, monkeypatch):
    weights, *_ = fine_tune()
    path = tmp_path / "run.pt"
    with pytest.raises(Stop):
        fine_tune(Checkpoint(path, 0, CPU), stop_after=2)
    monkeypatch.setattr(torch, "set_rng_state", lambda state: None)
    resumed, *_ = fine_tune(Checkpoint(path, 0, CPU))
    assert not torch.equal(resumed["classifier.weight"], weights["classifier.weight"]), "dropout draws from it"


def test_patience_is_remembered(tmp_path, monkeypatch):
    settings = DROPPING.replaced(epochs=50, patience=3)
    losses = iter([3.0, 2.0, 2.5, 2.1, 2.1, 2.0, 1.0])
    monkeypatch.setattr(fine_tuning, "log_loss", lambda *a: next(losses))
    path = tmp_path / "run.pt"
    with pytest.raises(Stop):
        fine_tune(Checkpoint(path, 0, CPU), stop_after=2, settings=settings)
    # Epochs 0 to 2 were kept, epoch 3 is made again: two more without a better loss than 2.0, and it stops.
    _, history, epochs = fine_tune(Checkpoint(path, 0, CPU), settings=settings)
    assert epochs == [3, 4] and history["val_loss"].tolist() == [3.0, 2.0, 2.5, 2.1, 2.0]
    # Killed after its last epoch, it has nothing left to train.
    assert fine_tune(Checkpoint(path, 0, CPU), settings=settings)[2] == []


def test_it_is_written_no_more_often_than_asked(tmp_path, monkeypatch):
    seconds = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: seconds)
    checkpoint = Checkpoint(tmp_path / "run.pt", 30, CPU)
    written = []
    for epoch, seconds in enumerate([10.0, 29.9, 30.0, 45.0, 61.0]):  # noqa: B007 (the clock reads it)
        checkpoint.write({"epoch": epoch})
        written.append(torch.load(checkpoint.path)["state"]["epoch"] if checkpoint.path.exists() else None)
    assert written == [None, None, 2, 2, 4]
    later = Checkpoint(checkpoint.path, 30, CPU)
    assert later.read() == {"epoch": 4} and later.spent == 61.0, "the time of earlier attempts counts"


def test_what_is_of_no_use_counts_as_none(tmp_path, capsys):
    checkpoint = Checkpoint(tmp_path / "run.pt", 0, CPU)
    assert checkpoint.read() is None
    checkpoint.write({"epoch": 1})
    content = checkpoint.path.read_bytes()
    for broken in (b"", content[: len(content) // 2], bytes(len(content)), content[:-99] + b"?" + content[-98:]):
        checkpoint.path.write_bytes(broken)
        assert checkpoint.read() is None
        assert "run.pt: does not match its checksum in run.sha256; the fine-tuning" in capsys.readouterr().err
    checkpoint.path.write_bytes(content)
    assert checkpoint.read() == {"epoch": 1}
    assert Checkpoint(checkpoint.path, 0, torch.device("meta")).read() is None, "another kind of device made it"
    assert (tmp_path / "run.sha256").exists()
    (tmp_path / ".run.1a2b3c4d.pt").touch()  # left by a writer that was killed
    (tmp_path / "other.pt").touch()
    checkpoint.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["other.pt"]


SCRIPT = """
import sys
import pandas as pd
from sourcematters.cohorts import Cohort
sys.path[:0] = {paths!r}
from test_checkpoints import one_run
from sourcematters.runs import run_folder
cohort = Cohort(pd.read_csv({table!r}), "made", "brightness")
spec, workspace = one_run(cohort, {results!r})
run_folder.execute(spec, workspace, run_folder.Execution("cpu", checkpoint_seconds=0))
"""


def one_run(cohort, results):
    workspace = Workspace(results)
    settings = TINY.replaced(epochs=30, patience=30)
    (spec,) = plan(cohort, workspace, p_art=[1], folds=1, training=settings)
    return spec, workspace


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(tmp_path):
    cohort = make_cohort(tmp_path)
    spec, workspace = one_run(cohort, str(tmp_path / "whole" / "made"))
    whole = run_folder.execute(spec, workspace, run_folder.Execution("cpu"))
    spec, workspace = one_run(cohort, str(tmp_path / "killed" / "made"))
    cohort.table.to_csv(tmp_path / "cohort.csv", index=False)
    here = Path(__file__).parent
    script = SCRIPT.format(
        paths=[str(here), str(here.parent)], table=str(tmp_path / "cohort.csv"), results=workspace.results
    )
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "SOURCEMATTERS_HEADLESS": "1"})
    kept = workspace.shared("runs") / ".checkpoints" / f"{spec.id}.pt"
    deadline = time.time() + 180
    while not kept.exists():
        assert process.poll() is None and time.time() < deadline, "no checkpoint was kept"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    epochs_kept = len(torch.load(kept)["state"]["history"])
    assert 1 <= epochs_kept < 30 and run_folder.state(spec.id, workspace.shared("runs")) == "lost"
    resumed = run_folder.execute(spec, workspace, run_folder.Execution("cpu"))
    for name in ("predictions.csv", "history.csv", "metrics.json", "spec.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name
    assert list(kept.parent.iterdir()) == []
