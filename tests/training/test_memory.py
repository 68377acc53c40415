"""That memory is kept and given back, and that computing blocks again changes no bit."""

import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_fine_tuning import CPU, TINY, bright_and_dark

from sourcematters import sources
from sourcematters.training import fine_tuning, memory
from sourcematters.training.classifier import Classifier, reproducible, set_bn_momentum
from sourcematters.training.recipe import Training

RESIDENT = """
import mmap
import torch
from sourcematters.training import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * mmap.PAGESIZE // 2**20

before = resident()
with memory.kept():
    torch.ones(2**28, dtype=torch.uint8)
    within = resident() - before
print(within, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library gives back so soon")
def test_freed_memory_stays_with_the_process_and_is_given_back_at_the_end():
    answer = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True)
    within, afterwards = map(int, answer.stdout.split())
    assert within > 250 and afterwards < 64


def recomputing(backbone, settings, again):
    torch.manual_seed(0)
    model = Classifier(sources.resolve("random", backbone), backbone, size=settings.size)
    set_bn_momentum(model, 0.1)
    if again:
        memory.recompute(model.backbone)
    return model


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_fine_tuning_that_computes_blocks_again_gives_the_same_bytes(precision):
    pixels, sets = bright_and_dark()
    settings = TINY.replaced(epochs=2, precision=precision)
    weights, scores = [], []
    for again in (False, True):
        model = recomputing("test_resnet", settings, again)
        with reproducible(0, CPU):
            fine_tuning.fine_tune(model, pixels, sets, settings, seed=0, device=CPU)
            scores.append(fine_tuning.score(model, pixels, sets, settings, device=CPU))
        weights.append(model.state_dict())
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        assert torch.equal(weights[0][name], weights[1][name]), name
    assert np.array_equal(*scores)


@pytest.mark.parametrize(
    "backbone", ["densenet121", "inception_v3", "inception_resnet_v2", "resnet50", "vit_tiny_patch16_224"]
)
def test_the_papers_networks_and_a_transformer_keep_less_and_give_the_same_gradients(backbone):
    size, kept = 96, []
    gradients, statistics = [], []
    for again in (False, True):
        with reproducible(0, CPU):
            model = recomputing(backbone, Training(size=size), again).train()
            held = {}

            def note(tensor, held=held):
                held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                loss = model(torch.arange(3 * size * size).reshape(3, 1, size, size) % 251).sum()
            kept.append(sum(held.values()))
            loss.backward()
        gradients.append([p.grad for p in model.parameters()])
        statistics.append(dict(model.named_buffers()))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
    for name, value in statistics[0].items():
        assert torch.equal(value, statistics[1][name]), name
    weights = sum(p.nbytes for p in model.parameters())
    assert kept[1] - weights < 0.6 * (kept[0] - weights)


def test_blocks_are_what_repeats_between_plain_sequences():
    def names(backbone):
        return {type(block).__name__ for block in memory.blocks(sources.create(backbone, size=64))}

    assert names("resnet50") == {"Bottleneck"}
    assert names("densenet121") == {"DenseLayer"}
    assert names("vit_tiny_patch16_224") == {"Block"}
    assert names("vgg11") == {"ConvMlp"}, "the rest is layers one after the other"
