"""Images whose disease is a bright disc, finished models whose every log-odds is known, and studies of the two."""

import numpy as np
import onnx
import pandas as pd
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from sourcematters.study.study import Study

SIDE, CELLS = 96, 8  # px of an image; a model sees the mean grey of cells, CELLS x CELLS
DISC = [(row, column) for row in (5, 6) for column in (5, 6)]  # cells around the disc
CORNER = [(row, column) for row in (2, 3) for column in (2, 3)]  # cells that the tag of TAG touches
TAG = {"height": 300}


def images(folder, n=60, size=SIDE):
    """Write `n` grey images, a patient each, and their table; give its path.

    Every second one has a disc, often brighter than the background; of both classes half are female, and the last 40 %
    are test.
    """
    rng, rows = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:size, :size] / size
    disc = (y - 0.75) ** 2 + (x - 0.75) ** 2 < 0.1**2
    for k in range(n):
        levels = rng.normal(90 + rng.normal(0, 6), 12, (size, size)) + disc * (k % 2) * rng.uniform(-10, 70)
        Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(folder / f"i{k:02d}.png")
        sex, split = "FM"[k // 2 % 2], "test" if k >= 0.6 * n else "dev"
        rows.append((f"i{k:02d}", f"i{k:02d}.png", f"p{k:02d}", k % 2, split, sex, int(rng.integers(20, 90))))
    names = ["image_id", "path", "patient_id", "label", "split", "sex", "age"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "cohort.csv", index=False)
    return folder / "cohort.csv"


def weights(**cells):
    """A weight for each cell, (CELLS * CELLS,): `disc` and `corner` are weights of the mean grey, 0..1, of those."""
    found = np.zeros((CELLS, CELLS))
    for name, places in (("disc", DISC), ("corner", CORNER)):
        for place in places:
            found[place] = cells.get(name, 0) / len(places)
    return found.ravel()


def logits(pictures, weight, bias):
    """What `model` says of images, uint8 (N, SIDE, SIDE), by hand."""
    side = pictures.shape[1] // CELLS
    cells = pictures.reshape(-1, CELLS, side, CELLS, side).mean(axis=(2, 4)).reshape(-1, CELLS * CELLS) / 255
    return cells @ weight + bias


def model(path, weight, bias=0.0, *, size=SIDE, outputs=1, sees="all"):
    """Write a model in ONNX whose logit is `weight` times the cells' mean greys, plus `bias`.

    Its features are all cells, or those of the lower right quarter if it `sees` no more.
    """
    side = size // CELLS
    nodes = [helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[side] * 2, strides=[side] * 2)]
    numbers = {"w": np.tile(np.asarray(weight, np.float32), (outputs, 1)), "b": np.full(outputs, bias, np.float32)}
    if sees != "all":
        low, high = CELLS // 2, CELLS
        nodes.append(helper.make_node("Slice", ["p", "low", "high", "axes"], ["q"]))
        numbers["w"] = numbers["w"].reshape(outputs, CELLS, CELLS)[:, low:, low:].reshape(outputs, -1)
        numbers |= {"low": np.array([low] * 2), "high": np.array([high] * 2), "axes": np.array([2, 3])}
    nodes.append(helper.make_node("Flatten", ["p" if sees == "all" else "q"], ["f"]))
    nodes.append(helper.make_node("Gemm", ["f", "w", "b"], ["z"], transB=1))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 1, size, size))],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(each, name) for name, each in numbers.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def asked(path, **changes):
    """The setting `model` of a file that `model` wrote."""
    return {"path": str(path), "mean": 0, "std": 1, **changes}


def settings(folder, data, **changes):
    """Write the settings of an audit of the table `data`, with `changes`, and give their file."""
    values = {"data": str(data), "task": "disc", "interpolation": "antialias", "size": SIDE, "workers": 1}
    values |= {"device": "cpu", "sources": ["random"], "backbone": "test_resnet", "tag": TAG, **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.yaml").write_text(yaml.safe_dump(values))
    return folder / "audit.yaml"


def study(folder, data, **changes):
    """The study of such settings, with its results in `folder`/results/audit."""
    return Study(str(settings(folder, data, **changes)), {}, folder / "results" / "audit")
