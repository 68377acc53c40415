"""ONNX models: what the graph says of itself, and results that are worked out by hand."""

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from sourcematters.audit.model.choice import ModelChoice
from sourcematters.audit.model.finished import open_model
from sourcematters.errors import StudyError

IMAGES = np.random.default_rng(0).integers(0, 256, (21, 16, 16), dtype=np.uint8)


def graph(folder, *, shape=("n", 3, 16, 16), end="Sigmoid", weights=((2.0, -1.0, 0.5),), bias=(0.1,), inputs=1):
    """Mean of each channel, a linear layer, and an end; channels last if the shape has them there."""
    last = shape[3] == 3
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])] if last else []
    nodes += [
        helper.make_node("GlobalAveragePool", ["t" if last else "x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["z"], transB=1),
    ]
    if end:
        nodes.append(helper.make_node(end, ["z"], ["y"]))
    weights = [np.array(weights, np.float32), np.array(bias, np.float32)]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "more")[:inputs]],
        [helper.make_tensor_value_info("y" if end else "z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(each, name) for each, name in zip(weights, "wb", strict=True)],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "m.onnx")
    return folder / "m.onnx"


def opened(path, **changes):
    return open_model(ModelChoice(**{"path": path, "mean": 0.5, "std": 0.25, **changes}))


@pytest.mark.parametrize("shape", [("n", 3, 16, 16), (4, 3, 16, 16), ("n", 16, 16, 3), ("n", 3, "h", "w")])
def test_a_sigmoid_by_hand(tmp_path, shape):
    model = opened(graph(tmp_path, shape=shape), size=16)
    grey = (IMAGES.mean(axis=(1, 2)) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(model.logits(IMAGES), 1.5 * grey + 0.1, atol=1e-5)
    np.testing.assert_allclose(model.features(IMAGES), np.repeat(grey[:, None], 3, axis=1), atol=1e-5)
    assert model.kind == "ONNX" and model.features_are == "pooled features"
    assert "the probability of label 1 (the network ends in Sigmoid)" in model.how


def test_size_and_channels_are_the_graphs(tmp_path):
    model = opened(graph(tmp_path))
    assert model.size == 16 and "16 px (as the graph has it); 3 channels" in model.how
    for values, said in (({"size": 32}, "takes size 16 and nothing else"), ({"channels": 1}, "takes channels 3")):
        with pytest.raises(StudyError, match=said):
            opened(tmp_path / "m.onnx", **values)
    free = opened(graph(tmp_path, shape=("n", 3, "h", "w")))
    assert free.size == 224
    one = opened(graph(tmp_path, shape=("n", 1, 16, 16), weights=((2.0,),)))
    np.testing.assert_allclose(one.logits(IMAGES), 2 * (IMAGES.mean(axis=(1, 2)) / 255 - 0.5) / 0.25 + 0.1, atol=1e-5)


def test_logits_and_softmax_by_hand(tmp_path):
    grey = (IMAGES.mean(axis=(1, 2)) / 255 - 0.5) / 0.25
    weights, bias = ((1.0, 0, 0), (3.0, 0, 0)), (0.5, -0.25)
    for end, said in (("", "logits of a softmax"), ("Softmax", "probabilities of a softmax")):
        model = opened(graph(tmp_path, end=end, weights=weights, bias=bias))
        np.testing.assert_allclose(model.logits(IMAGES), 2 * grey - 0.75, atol=1e-5)
        assert said in model.how
    model = opened(graph(tmp_path, end="", weights=weights * 2, bias=bias * 2), output=3)
    np.testing.assert_allclose(model.logits(IMAGES), 3 * grey - 0.25, atol=1e-5)
    with pytest.raises(StudyError, match="this model has 4 outputs: give output: 0..3"):
        opened(tmp_path / "m.onnx")


def test_saturated_probabilities_are_clipped_and_counted(tmp_path):
    model = opened(graph(tmp_path, weights=((400.0, 0, 0),), bias=(0,)))
    black_and_white = np.stack([np.zeros((16, 16)), np.full((16, 16), 255), np.full((16, 16), 128)]).astype(np.uint8)
    logits = model.logits(black_and_white)
    np.testing.assert_allclose(logits[:2], [-16.118, 16.118], atol=1e-3)
    assert model.reading.clipped(logits) == 2


def test_what_is_no_model_of_one_image_is_refused(tmp_path):
    path = graph(tmp_path)
    whole = onnx.load(path)
    onnx.save(whole, tmp_path / "o.onnx", save_as_external_data=True, size_threshold=0, location="w.bin")
    refused = {
        tmp_path / "o.onnx": "keeps 2 of its weights in other files. Save it whole",
        graph(tmp_path, inputs=2): r"takes 2 inputs \(x, more\); a model of one image",
    }
    for each, said in refused.items():
        with pytest.raises(StudyError, match=said):
            opened(each)
    for shape in (("n", 3, 16, 8), ("n", 5, 16, 16)):
        with pytest.raises(StudyError, match="is no square image of 1 or 3 channels"):
            opened(graph(tmp_path, shape=shape, weights=(range(shape[1]),)))
    for cut in (30, 100, 200):
        (tmp_path / "cut.onnx").write_bytes(onnx.load(path).SerializeToString()[:cut])
        with pytest.raises(StudyError, match="cut.onnx"):
            opened(tmp_path / "cut.onnx")
    table = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    onnx.save(helper.make_model(table, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    with pytest.raises(StudyError, match="is no image"):
        opened(path)


@pytest.mark.filterwarnings("ignore")
def test_what_torch_exports_is_its_network(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=1).eval()
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32), dtype=np.uint8)
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    options = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes, "dynamo": False}
    torch.onnx.export(
        nn.Sequential(network, nn.Sigmoid()).eval(), (torch.zeros(2, 3, 32, 32),), tmp_path / "m", **options
    )
    model = opened(tmp_path / "m")
    grey = ((torch.from_numpy(images).float() / 255 - 0.5) / 0.25)[:, None].expand(-1, 3, -1, -1)
    with torch.inference_mode():
        pooled = network.forward_head(network.forward_features(grey), pre_logits=True)
        np.testing.assert_allclose(model.logits(images), network(grey)[:, 0].double(), atol=1e-5)
    np.testing.assert_allclose(model.features(images), pooled, atol=1e-5)
    first = model.logits(images)
    assert (model.logits(images) == first).all()
