"""What a fine-tuning computes on: the device, its precision, and how many runs it takes at once."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psutil
import torch

from sourcematters.errors import StudyError
from sourcematters.processes import cores
from sourcematters.sources import create
from sourcematters.training.recipe import Training

FILLING = 7.5e9
"""Operations of one step, for each multiprocessor of a card, that keep it busy for the 10 ms that a CPU core takes to
issue the step's thousand kernels. An estimate: `workers` overrules what follows from it."""

ROOM = 8 * 2**30  # bytes of a card's memory for each of several runs: a step that does not fill a card needs less


def choose(device: str = "auto") -> torch.device:
    """The device to train on: "auto" takes CUDA, then MPS, then the CPU. Raises StudyError if it is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise StudyError(f"device {device!r} is not usable here ({str(error).splitlines()[0]}). Try cpu.") from error
    return torch.device(device)


def best_precision(device: torch.device) -> str:
    """What precision auto means: bf16 where the device computes it in hardware, fp32 elsewhere."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "fp32"


def check_precision(precision: str, device: torch.device) -> None:
    """Raise StudyError if the device cannot compute in the recipe's `precision`: TF32 is a format of recent GPUs."""
    if precision == "tf32" and not _has_tf32(device):
        raise StudyError(
            f"precision tf32: the device {device} has no TF32, which NVIDIA GPUs have since Ampere. Try fp32."
        )


def _has_tf32(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_tf32_supported()


@contextlib.contextmanager
def rounding(precision: str) -> Iterator[None]:
    """Within it, a GPU multiplies single-precision numbers as they are; for precision tf32 it cuts them to 10 bits.

    torch's own default is TF32 in convolutions (https://docs.pytorch.org/docs/stable/notes/cuda.html).
    """
    backends: Any = torch.backends  # whose stubs lack the new names
    kinds = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    before = [kind.fp32_precision for kind in kinds]

    def multiply_in(formats: list[str]) -> None:
        # Each kind has an old name too, and torch refuses to answer where the two disagree. The old one resets the new.
        backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32 = (each == "tf32" for each in formats[:2])
        for kind, each in zip(kinds, formats, strict=True):
            kind.fp32_precision = each

    multiply_in(["tf32" if precision == "tf32" else "ieee"] * len(kinds))
    try:
        yield
    finally:
        multiply_in(before)


def autocast(device: torch.device, training: Training) -> torch.autocast:
    """The autocast region of a forward pass in the run's precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bf16")


def place(model: torch.nn.Module, device: torch.device) -> None:
    """Bring a model to the device, in the memory layout its convolutions are fastest in; `model.layout` tells which."""
    chosen = layout(model, device)
    model.to(device).to(memory_format=chosen)
    vars(model)["layout"] = chosen


def layout(model: torch.nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last, but where that is slow (Apple's MPS) or breaks.

    On a CPU with AVX-512, oneDNN's gradient of a 1 x 1 convolution with a stride on fewer than 16 channels (the first
    of RepVGG, MobileOne, FastViT) writes outside its memory: the process crashes, at some sizes only.
    """
    breaks = device.type == "cpu" and any(
        module.kernel_size == (1, 1) and module.stride != (1, 1) and module.groups == 1 and module.in_channels < 16
        for module in model.modules()
        if isinstance(module, torch.nn.Conv2d)
    )
    return torch.contiguous_format if device.type == "mps" or breaks else torch.channels_last


def limit_memory(device: torch.device, share: float) -> None:
    """Let this process take no more than `share` (0..1) of a card's memory, so that several fit on one."""
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share, device.index)


def memory(device: torch.device) -> int:
    """Bytes of memory that this process may take on the device."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return int(total * torch.cuda.get_per_process_memory_fraction(device.index))
    return psutil.virtual_memory().total


def runs_at_once(backbone: str, training: Training, device: torch.device) -> int:
    """How many such fine-tunings to make at once: one a core on a CPU; on a card, as many as it takes to fill it."""
    if device.type == "cpu":
        return cores()
    if device.type != "cuda":
        return 1
    card = torch.cuda.get_device_properties(device)
    to_fill = card.multi_processor_count * FILLING // step_operations(backbone, training)
    return max(1, int(min(to_fill, card.total_memory // ROOM, cores())))


def step_operations(backbone: str, training: Training) -> float:
    """Floating-point operations of one training step: the forward pass's, counted by torch, and twice as many back."""
    from torch.utils.flop_counter import FlopCounterMode

    # On the meta device tensors have shapes and no content: nothing is computed.
    model = create(backbone, size=training.size).to("meta")
    batch = torch.empty(training.batch_size, 3, training.size, training.size, device="meta")  # (B, 3, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch)
    return 3.0 * counter.get_total_flops()
