import contextlib

import pytest
import torch
from benchmarks import speed

from sourcematters.errors import StudyError
from sourcematters.processes import cores
from sourcematters.training import devices
from sourcematters.training.recipe import Training

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device: TF32 is neither proved on nor off"
)


def test_a_device_that_is_not_there_is_refused():
    assert devices.choose("cpu") == CPU
    with pytest.raises(StudyError, match="device 'warp' is not usable here"):
        devices.choose("warp")


def test_auto_precision_is_bf16_where_the_hardware_has_it():
    assert devices.best_precision(CPU) == ("bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32")


def test_tf32_is_refused_where_the_hardware_lacks_it(monkeypatch):
    devices.check_precision("fp32", CPU)
    with pytest.raises(StudyError, match="^precision tf32: the device cpu has no TF32.* Try fp32.$"):
        devices.check_precision("tf32", CPU)
    card = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: False)
    with pytest.raises(StudyError, match="the device cuda has no TF32"):
        devices.check_precision("tf32", card)
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: True)
    devices.check_precision("tf32", card)


def answers():
    """What torch says of TF32, by its old names and by its new ones; it raises where the two disagree."""
    old = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    kinds = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    return *old, torch.get_float32_matmul_precision(), *(kind.fp32_precision for kind in kinds)


def test_single_precision_is_not_tf32_and_what_was_set_comes_back():
    before = answers()
    assert before[1] and before[4] == "tf32", "torch's default has changed: is this still needed?"
    for precision in ("fp32", "bf16"):
        with devices.rounding(precision):
            assert answers() == (False, False, "highest", "ieee", "ieee", "ieee")
    with devices.rounding("tf32"):
        assert answers() == (True, True, "high", "tf32", "tf32", "tf32")
        with devices.rounding("fp32"):
            assert answers()[3:] == ("ieee", "ieee", "ieee")
        assert answers() == (True, True, "high", "tf32", "tf32", "tf32")
    assert answers() == before
    with pytest.raises(KeyError), devices.rounding("tf32"):
        raise KeyError
    assert answers() == before


@pytest.mark.parametrize("product", speed.PRODUCTS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_products_are_as_exact_as_the_recipe_says(device, product):
    assert speed.rounding_error(torch.device(device), "fp32", product) < 1e-6
    if device == "cuda" and torch.cuda.is_tf32_supported():
        assert speed.rounding_error(torch.device(device), "tf32", product) > 1e-4


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
