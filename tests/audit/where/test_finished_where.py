"""Where a finished model looks: its log-odds in torch, what gives no gradients, and the audit's figure of it."""

import numpy as np
import pandas as pd
import pytest
import tiny_audit
import torch
from IPython.display import Image
from torch import nn

from sourcematters.audit import Audit
from sourcematters.audit.model.choice import ModelChoice
from sourcematters.audit.model.finished import open_model, patterns
from sourcematters.audit.where import finished, networks
from sourcematters.errors import StudyError
from sourcematters.study.settings import ROOT

PLANTED = ROOT / "sourcematters" / "demo" / "weights" / "planted-tag-test_resnet.safetensors"
CORNER = tiny_audit.weights(corner=25)


class Cells(nn.Module):
    """The model of `tiny_audit.model`: a weight for the mean grey of each cell."""

    def __init__(self, weight, end=None):
        super().__init__()
        self.pool = nn.AvgPool2d(tiny_audit.SIDE // tiny_audit.CELLS)
        self.layer = nn.Linear(len(weight), 1)
        self.end = end or nn.Identity()
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor(weight)[None])
            self.layer.bias.fill_(-9.0)

    def forward(self, x):
        return self.end(self.layer(self.pool(x).flatten(1)))


def scripted(path, module, frozen=False):
    made = torch.jit.trace(module.eval(), torch.zeros(2, 1, tiny_audit.SIDE, tiny_audit.SIDE))
    torch.jit.save(torch.jit.freeze(made) if frozen else made, path)
    return {"path": str(path), "mean": 0, "std": 1, "size": tiny_audit.SIDE}


CHOICES = {
    "checkpoint": {"path": PLANTED, "architecture": "test_resnet", "size": 64, "mean": [0.5] * 3, "std": [0.5] * 3},
    "inverted": {"path": PLANTED, "architecture": "test_resnet", "size": 64, "inverted": True},
    "one output": {
        "path": PLANTED, "architecture": "test_resnet", "size": 64, "output": 0, "negative_output": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("which", CHOICES)
def test_the_log_odds_in_torch_are_those_of_the_audit(which):
    model = open_model(ModelChoice(**CHOICES[which]), device="cpu")
    images = patterns(64)
    with torch.no_grad():
        found = networks.OfFinished(model)(torch.from_numpy(images).float()[:, None]).numpy()
    assert found == pytest.approx(model.logits(images), abs=1e-4) and np.ptp(found) > 0.1


def test_probabilities_are_turned_into_log_odds(tmp_path):
    model = open_model(ModelChoice(**scripted(tmp_path / "m.pt", Cells(CORNER, nn.Sigmoid()))), device="cpu")
    images = np.full((1, tiny_audit.SIDE, tiny_audit.SIDE), 80, np.uint8)
    with torch.no_grad():
        found = networks.OfFinished(model)(torch.from_numpy(images).float()[:, None])
    assert model.reading.probabilities and found.item() == pytest.approx(25 * 80 / 255 - 9, abs=1e-3)


def test_a_graph_gives_no_gradients(tmp_path):
    path = tiny_audit.model(tmp_path / "m.onnx", CORNER)
    model = open_model(ModelChoice(**tiny_audit.asked(path)), device="cpu")
    assert finished.refusal(model) == "m.onnx is ONNX, which gives no gradients. Give its checkpoint or TorchScript."
    with pytest.raises(StudyError, match="gives no gradients"):
        networks.OfFinished(model)


@pytest.fixture
def audit(tmp_path):
    tiny_audit.images(tmp_path / "images")
    return lambda **changes: Audit(tiny_audit.study(tmp_path, tmp_path / "images" / "cohort.csv", **changes))


def test_of_a_model_that_reads_the_corner_the_attribution_lies_there(audit, tmp_path, capsys):
    asked = audit(model=scripted(tmp_path / "m.pt", Cells(CORNER)), audited=["tag", "gamma"])
    assert isinstance(asked.where(), Image)
    said = capsys.readouterr().out
    assert "Grad-CAM is left out" in said and "on the tag; shuffled weights" in said and "gamma" not in said
    table = pd.read_csv(asked.study.results / "tables" / "audit_where_share.csv")
    found = table[table["method"] == "integrated gradients"].set_index("randomized")
    # All of it lies in four cells of 64, which the letter does not fill.
    assert found.loc[0, "share"] > 0.3 and found.loc[0, "area"] < 0.03
    assert found.loc[1, "share"] < found.loc[0, "share"] / 3


def test_of_frozen_torchscript_no_weights_can_be_shuffled(audit, tmp_path):
    model = open_model(ModelChoice(**scripted(tmp_path / "m.pt", Cells(CORNER), frozen=True)), device="cpu")
    network = networks.OfFinished(model)
    assert networks.shuffled(network, 0) is None and networks.last_maps(network, tiny_audit.SIDE) is None


def test_where_it_cannot_be_told_a_sentence_says_why(audit, tmp_path, capsys):
    path = tiny_audit.model(tmp_path / "m.onnx", CORNER)
    assert audit(model=tiny_audit.asked(path), audited=["tag"]).where() is None
    assert "Where it looks cannot be told: m.onnx is ONNX" in capsys.readouterr().out
    assert audit().where() is None
    assert "can only be told of a model that is at hand" in capsys.readouterr().out
    asked = audit(model=scripted(tmp_path / "s.pt", Cells(CORNER)), audited=["gamma"])
    assert asked.where() is None
    assert "No confounder that it was tried with has a place" in capsys.readouterr().out
