"""What training holds in memory: what the next step needs again, and less where it is short; the numbers stay."""

import contextlib
import ctypes
import platform
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Within it, memory that a training step frees stays with the process; afterwards it is given back.

    Else the GNU C library returns every large block at once, and the system clears each page anew for the next step:
    15 to 45 % of ResNet50's time on a CPU. With other C libraries nothing happens. Source: mallopt(3),
    https://man7.org/linux/man-pages/man3/mallopt.3.html.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    trim_threshold, mmap_max = -1, -4  # the names of the settings in malloc.h
    library.mallopt(trim_threshold, -1)
    library.mallopt(mmap_max, 0)
    try:
        yield
    finally:
        library.mallopt(trim_threshold, 128 * 1024)
        library.mallopt(mmap_max, 65536)
        library.malloc_trim(0)


def recompute(model: nn.Module) -> None:
    """Let each block of `model` keep only its input for the backward pass, and compute the rest again there.

    Chen et al. 2016, arXiv:1604.06174. A block is a module of several layers that is not itself a plain sequence:
    a residual block, a dense layer, an Inception module. Numbers stay the same, running statistics included.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    @contextlib.contextmanager
    def statistics_stay() -> Iterator[None]:
        # A second pass over the same batch must not count as a second batch.
        before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        try:
            yield
        finally:
            for norm, (momentum, batches) in zip(norms, before, strict=True):
                norm.momentum, norm.num_batches_tracked = momentum, batches

    once_more = partial(
        checkpoint, use_reentrant=False, context_fn=lambda: (contextlib.nullcontext(), statistics_stay())
    )

    def again(forward: Callable, *inputs: Any, **named: Any) -> Any:
        # DenseNet hands its blocks a list that grows afterwards.
        now = [list(x) if isinstance(x, list) else x for x in inputs]
        return once_more(forward, *now, **named)

    for block in blocks(model):
        block.forward = partial(again, block.forward)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules with more than one layer of weights that are not plain sequences of others."""
    for child in module.children():
        if isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            yield from blocks(child)
        elif sum(isinstance(part, nn.modules.conv._ConvNd | nn.Linear) for part in child.modules()) > 1:
            yield child
