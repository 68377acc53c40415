"""How long a move of the explorer takes, from a parameter to the last picture: python tests/benchmarks/explorer.py.

Every drawn confounder with its defaults, and noise in projections, on an image of --side px; two cores at most. Beside
the median of a move stand what it is made of: drawing and spectra (frame), pictures (panels, PNG), and the score of a
network, if one is named; and the CPU time that it takes, which tells more where others work on the cores too.
"""

import argparse
import statistics
import time

import numpy as np

from sourcematters import confounders
from sourcematters.confounders import HOUNSFIELD
from sourcematters.errors import StudyError
from sourcematters.study.explorer.frames import frame, keys_of
from sourcematters.study.explorer.panels import limit, panels, png
from sourcematters.training.recipe import Preprocessing

BUDGET = 200  # ms


def images(side):
    """A radiograph of sorts, grey, and a CT slice of sorts, in HU: smooth, with noise."""
    rng, y, x = np.random.default_rng(0), *np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    body = np.exp(-4 * (x**4 + y**4)) + 0.05 * rng.normal(size=(side, side))
    return (body * 200).clip(0, 255).astype(np.uint8), (body * 1100 - 1000).clip(-1024, 3000).astype(np.int16)


def moves(image, confounder, how, score, times):
    """Milliseconds of each part, of the whole, and of CPU time: medians over `times` moves."""
    keys, rows = keys_of(confounder, "image", seed=0), []
    for _ in range(times):
        start, cpu = time.perf_counter(), time.process_time()
        arrays = frame(image, confounder, how, keys)
        drawn = time.perf_counter()
        for panel in panels(arrays, confounder, how, end=limit(arrays["difference"])).values():
            png(panel.picture)
        shown = time.perf_counter()
        score(arrays["input"][None])  # the other is known from the move before
        end, spent = time.perf_counter(), time.process_time() - cpu
        rows.append([1000 * each for each in (drawn - start, shown - drawn, end - shown, end - start, spent)])
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def main():
    """Print a row a confounder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512, help="px of the image (default: 512)")
    parser.add_argument("--size", type=int, default=512, help="px of the network's input (default: 512)")
    parser.add_argument("--backbone", default="", help="score with a network of timm's, from random weights")
    parser.add_argument("--times", type=int, default=5, help="moves of each confounder (default: 5)")
    options = parser.parse_args()
    grey, hounsfield = images(options.side)
    how, score = Preprocessing(size=options.size), scored_by(options.backbone)
    head = f"{options.side} px, input {options.size} px"
    print(f"| {head} | frame | pictures | score | a move, ms | CPU, ms |\n|---|---|---|---|---|---|")
    slow = []
    tried = [confounders.make(name) for name, kind in confounders.known().items() if not kind.sampled]
    for confounder in [*tried, confounders.make("noise", domain="projection")]:
        name = ", ".join([confounder.name, *(["in projections"] if confounder not in tried else [])])
        image = hounsfield if confounder.carrier.space == HOUNSFIELD else grey
        try:
            found = moves(image, confounder, how, score, options.times)
        except StudyError as error:
            print(f"| {name} | {error} |")
            continue
        slow += [name] if min(found[-2:]) > BUDGET else []
        print(f"| {name} | {' | '.join(f'{each:.0f}' for each in found)} |", flush=True)
    print(f"\nover {BUDGET} ms: {', '.join(slow) or 'none'}")


def scored_by(backbone):
    """A function that scores images (N, size, size) with such a network, as `Finished` does; nothing without a name."""
    if not backbone:
        return lambda images: None
    import timm
    import torch

    network = timm.create_model(backbone, num_classes=1).eval()

    def score(images):
        with torch.inference_mode():
            return network(torch.from_numpy(images)[:, None].float().expand(-1, 3, -1, -1) / 255)

    return score


if __name__ == "__main__":
    main()
