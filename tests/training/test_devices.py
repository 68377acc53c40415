import pytest
import torch

from sourcematters.errors import StudyError
from sourcematters.processes import cores
from sourcematters.training import devices
from sourcematters.training.recipe import Training

CPU = torch.device("cpu")


def test_a_device_that_is_not_there_is_refused():
    assert devices.choose("cpu") == CPU
    with pytest.raises(StudyError, match="device 'warp' is not usable here"):
        devices.choose("warp")


def test_auto_precision_is_bf16_where_the_hardware_has_it():
    assert devices.best_precision(CPU) == ("bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32")


def test_a_step_costs_three_times_the_forward_passes_that_the_papers_of_the_networks_state():
    # Multiply-adds of one 224 px image: 4.1e9 (timm's table, resnet50), 2.87e9 (densenet121). Two operations each.
    for backbone, multiply_adds in (("resnet50", 4.11e9), ("densenet121", 2.87e9)):
        found = devices.step_operations(backbone, Training(size=224, batch_size=32))
        assert found == pytest.approx(3 * 2 * multiply_adds * 32, rel=0.02)
    with pytest.raises(StudyError, match="timm has no backbone 'resnet5'"):
        devices.step_operations("resnet5", Training())


@pytest.mark.parametrize(
    ("operations", "processors", "gib", "cores", "runs"),
    [
        (1e13, 132, 80, 16, 1),  # the paper's: 10 times what fills a large card (132 x 7.5e9 = 1e12)
        (0.8e12, 132, 80, 16, 1),
        (0.3e12, 132, 80, 16, 3),
        (1e9, 132, 80, 16, 10),  # tiny, but only ten times 8 GiB
        (1e9, 132, 80, 4, 4),
        (1e9, 28, 12, 16, 1),
    ],
)
def test_as_many_runs_as_fill_a_card_fit_it_and_have_a_core_each(monkeypatch, operations, processors, gib, cores, runs):
    card = type("Card", (), {"multi_processor_count": processors, "total_memory": gib * 2**30})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(devices, "step_operations", lambda *a: operations)
    monkeypatch.setattr(devices, "cores", lambda: cores)
    assert devices.runs_at_once("resnet50", Training(), torch.device("cuda")) == runs
    assert devices.runs_at_once("resnet50", Training(), torch.device("mps")) == 1


def test_on_a_cpu_one_run_a_core():
    assert devices.runs_at_once("resnet50", Training(), CPU) == cores()
