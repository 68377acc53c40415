"""Attributions of a network's log-odds to the pixels of an image, by captum (https://captum.ai): three methods.

What an image is compared with, where a method needs that, is an image of one grey, its own mean: a blank film. A black
one would give all that is white, tags first, more than its due.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

Maps = NDArray[np.float32]
STEPS = 32  # of the path of integrated gradients
SQUARES = 8  # are occluded in a row, side by side
AT_ONCE = 64  # images in a pass
BATCH = 8  # images in a call


def gradcam(network: "nn.Module", pixels: "Tensor") -> "Tensor | None":
    """Gradient-weighted maps of the last layer that has any, with their sign, resized to the image, bilinear.

    Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391. None where a network does not end in maps.
    """
    from sourcematters.audit.where.networks import last_maps

    size = pixels.shape[-1]
    if (found := last_maps(network, size)) is None:
        return None
    made = _captum().LayerGradCam(network, found[0]).attribute(pixels)
    return _captum().LayerAttribution.interpolate(made, (size, size), "bilinear")


def integrated_gradients(network: "nn.Module", pixels: "Tensor") -> "Tensor":
    """Gradients along the straight path from the blank film, times the way; they add up to the difference of log-odds.

    Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365.
    """
    how = {"n_steps": STEPS, "internal_batch_size": AT_ONCE}
    return _captum().IntegratedGradients(network).attribute(pixels, _blank(pixels), **how)


def occlusion(network: "nn.Module", pixels: "Tensor") -> "Tensor":
    """What the log-odds lose when a square of an eighth of the side is blank, at each of its pixels.

    Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901.
    """
    import torch

    side = -(-pixels.shape[-1] // SQUARES)
    with torch.no_grad():
        return (
            _captum()
            .Occlusion(network)
            .attribute(
                pixels,
                sliding_window_shapes=(1, side, side),
                strides=(1, side, side),
                baselines=_blank(pixels),
                perturbations_per_eval=max(1, AT_ONCE // len(pixels)),
            )
        )


def _captum() -> Any:
    import captum.attr  # type: ignore[import-untyped]

    return captum.attr


def _blank(pixels: "Tensor") -> "Tensor":
    return pixels.mean(dim=(1, 2, 3), keepdim=True).expand_as(pixels).contiguous()


METHODS: dict[str, Callable[["nn.Module", "Tensor"], "Tensor | None"]] = {
    "Grad-CAM": gradcam,
    "integrated gradients": integrated_gradients,
    "occlusion": occlusion,
}


def attribute(network: "nn.Module", images: NDArray[np.uint8], method: str) -> Maps | None:
    """The attribution of a network's log-odds to each pixel of grey images (N, S, S): float32 (N, S, S), signed.

    None where the method has nothing to show of such a network.
    """
    import torch

    from sourcematters.audit.where.networks import device_of

    device, made = device_of(network), []
    for start in range(0, len(images), BATCH):
        pixels = torch.from_numpy(images[start : start + BATCH]).float()[:, None].to(device)
        found = METHODS[method](network, pixels)
        if found is None:
            return None
        made.append(found[:, 0].detach().float().cpu().numpy())
    return np.concatenate(made)
