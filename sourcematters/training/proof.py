"""A cheap proof of life of pretrained weights: do they see the cohort's images as they were made to see images?

The running statistics of the first normalizations against what arrives there: another input scaling than the weights
were trained with shows. And a ridge regression on the frozen network's pooled features, cross-validated by patient,
against the same network untrained: with so few images only weights far worse than none show. Not seen is other padding
or epsilon: of tf_efficientnet_lite0's weights in efficientnet_lite0 the numbers are as good as in their own network.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from sourcematters import metrics
from sourcematters.errors import StudyError
from sourcematters.seeds import derive, uniform
from sourcematters.sources import MATCHED, Source, resolve
from sourcematters.training import devices
from sourcematters.training.classifier import Classifier, reproducible

NORMALIZATIONS = 3  # the first so many of the network are looked at
SHIFTED = 2.0  # standard deviations between the mean of a channel and the one it was trained with, in the median
STRETCHED = 2.5  # |log2| of the ratio of variances, in the median; ImageNet's weights on grey images are at 1.9
FOLDS = 5
RIDGE = 1.0  # of standardized features, relative to their number

Columns = dict[str, Any]


def proof_of_life(
    source: Source, backbone: str, images: NDArray[np.uint8], labels: NDArray[np.int64], patients: list[str]
) -> Columns:
    """What the network of `source` makes of images, uint8 (N, size, size), with their labels and patients.

    bn_shift, bn_stretch  of the first normalizations: |mean - running mean| in standard deviations, and |log2| of the
                          ratio of variances, the median over channels of the worst of them; None without any
    probe_auc, probe_random  of the frozen features, and those of the same network untrained; on `probe_images`
    warning               what speaks against the source, in words; empty for nothing
    """
    size = images.shape[1]
    untrained = replace(resolve("random", backbone), mean=source.mean, std=source.std)
    with reproducible(derive(0, "proof of life", backbone), torch.device("cpu")):
        features, shift, stretch = _features(Classifier(source, backbone, size=size), images)
        floor, _, _ = _features(Classifier(untrained, backbone, size=size), images)
    found: Columns = {"bn_shift": shift, "bn_stretch": stretch}
    found |= {"probe_auc": probe(features, labels, patients), "probe_random": probe(floor, labels, patients)}
    found["probe_images"] = len(images)
    # With NAME+matched another normalization than its own is what was asked for.
    told = found | {"bn_shift": None} if source.name.endswith(MATCHED) else found
    rounded = {name: None if value is None else round(value, 3) for name, value in found.items()}
    return rounded | {"warning": warning(**told)}


def warning(
    *, bn_shift: float | None, bn_stretch: float | None, probe_auc: float, probe_random: float, probe_images: int
) -> str:
    """What these numbers say against a source, in words; empty for nothing."""
    # The standard error of an AUC that is chance, of as many positives as negatives: Mann-Whitney's.
    error = math.sqrt((probe_images + 1) / (3 * probe_images**2))
    said = []
    if bn_shift is not None and bn_stretch is not None and (bn_shift > SHIFTED or bn_stretch > STRETCHED):
        said.append(
            f"its first normalizations were trained on other values: means are {bn_shift:.1f} standard deviations off, "
            f"variances {2**bn_stretch:.1f}-fold: check mean, std and the backbone's name"
        )
    if probe_auc < probe_random - 3 * error:
        said.append(
            f"its frozen features tell the classes less well (AUC {probe_auc:.2f}) than the untrained network's "
            f"({probe_random:.2f}): check that the file holds what it should"
        )
    return "; ".join(said)


def probe(features: NDArray[np.float64], labels: NDArray[np.int64], patients: list[str]) -> float:
    """AUC of a ridge regression on features (N, F), each image scored by one fitted without its patient's fold."""
    names = sorted(set(patients))
    order = np.argsort(uniform(0, names, "proof of life, folds"), kind="stable")
    fold_of = {names[place]: rank % FOLDS for rank, place in enumerate(order)}
    folds, scores = np.array([fold_of[patient] for patient in patients]), np.zeros(len(labels))
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        mean, std = features[train].mean(axis=0), features[train].std(axis=0)
        alive = std > 1e-6 * max(std.max(initial=0), 1e-12)
        x, z = ((features[rows][:, alive] - mean[alive]) / std[alive] for rows in (train, test))
        y = labels[train] - labels[train].mean()
        # In the space of the images, which are fewer than the features.
        scores[test] = z @ (x.T @ np.linalg.solve(x @ x.T + RIDGE * x.shape[1] * np.eye(len(x)), y))
    return float(metrics.auc(pd.DataFrame({"label": labels, "score": scores})))


def _features(model: Classifier, images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], float | None, float | None]:
    """Pooled features (N, F), and how far the first normalizations are from their running statistics."""
    wanted = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    arrived: dict[Any, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def note(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if module in arrived or len(arrived) < NORMALIZATIONS:
            values = inputs[0].double()
            dims = [d for d in range(values.ndim) if d != 1]
            arrived.setdefault(module, []).append((values.mean(dims), values.square().mean(dims)))

    hooks = [module.register_forward_pre_hook(note) for module in wanted]
    devices.place(model, torch.device("cpu"))
    model.eval()
    with torch.inference_mode():
        parts = [
            model.features(torch.from_numpy(part[:, None])) for part in np.array_split(images, len(images) // 16 or 1)
        ]
    for hook in hooks:
        hook.remove()
    features = torch.cat(parts).double().numpy()
    if not np.isfinite(features).all():
        raise StudyError("its network makes no finite features of the cohort's images.")
    shifts, stretches = [], []
    for module, seen in arrived.items():
        mean = torch.stack([first for first, _ in seen]).mean(0)
        variance = torch.stack([second for _, second in seen]).mean(0) - mean**2
        shifts.append(((mean - module.running_mean).abs() / (module.running_var + module.eps).sqrt()).median().item())
        ratio = (variance.clamp(min=0) + module.eps) / (module.running_var + module.eps)
        stretches.append(ratio.log2().abs().median().item())
    return features, max(shifts, default=None), max(stretches, default=None)
