"""ONNX files: what their graph says of input, outputs and the last layer, and what runs them.

onnxruntime runs a graph and does not show it. What is needed of it is read here from its protocol buffers, whose
fields are numbered in https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sourcematters.errors import StudyError
from sourcematters.sources.loading import reason

GRAPH, NODES, WEIGHTS, OUTPUTS, NAME = 7, 1, 5, 12, 1  # fields of ModelProto and GraphProto; NAME of a ValueInfoProto
NODE_INPUTS, NODE_OUTPUTS, OPERATOR = 1, 2, 4  # of NodeProto
EXTERNAL = 13  # of TensorProto
SHAPING = {"Flatten", "Reshape", "Identity", "Squeeze", "Cast", "Add", "Unsqueeze"}
NUMBERS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
Run = Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], NDArray[np.float32]]]


class Exported(NamedTuple):
    """A graph that runs, and what it says of itself."""

    run: Run  # images (B, C, S, S), normalized, to outputs (B, K) and features (B, F)
    channels: int | None  # None: free
    size: int | None
    ends_in: str  # Sigmoid, Softmax, Linear or "" for what is not known
    features_are: str
    done: list[str]


def open_onnx(path: Path) -> Exported:
    """Open an ONNX file on the CPU, one thread a call.

    Raises StudyError when it is damaged, keeps its weights in other files, or takes something else than images.
    """
    import onnxruntime

    content = path.read_bytes()
    try:
        nodes, others = _graph(content)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: a damaged ONNX file ({error}). Copy or export it again.") from error
    if others:
        raise StudyError(
            f"{path}: keeps {others} of its weights in other files. Save it whole: "
            f"onnx.save(onnx.load({path.name!r}), 'whole.onnx', save_as_external_data=False)."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute, options.log_severity_level = True, 4
    plain = _session(path, content, options)
    image = _image(path, plain.get_inputs())
    output = plain.get_outputs()[0].name
    ends_in, features = _last(nodes, output)
    names, session = [output], plain
    if features:
        # Protocol buffers that follow one another are merged: this adds an output to the graph.
        more = content + _field(GRAPH, _field(OUTPUTS, _field(NAME, features.encode())))
        session, names = _session(path, more, options), [output, features]
    done = [f"the first of {len(plain.get_outputs())} outputs, {output!r}"] * (len(plain.get_outputs()) > 1)
    done += ["images with channels last"] * image.last

    def run(images: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        given = (images.transpose(0, 2, 3, 1) if image.last else images).astype(image.numbers)
        step, parts = image.batch or len(given), []
        for start in range(0, len(given), step):
            batch = given[start : start + step]
            missing = step - len(batch) if image.batch else 0
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
            made = session.run(names, {image.name: np.ascontiguousarray(batch)})
            parts.append([np.asarray(each).reshape(len(batch), -1)[: len(batch) - missing] for each in made])
        outputs, *more = (np.concatenate(each) for each in zip(*parts, strict=True))
        return outputs.astype(np.float64), (more[0] if more else outputs).astype(np.float32)

    return Exported(run, image.channels, image.size, ends_in, "pooled features" if features else "outputs", done)


class _Image(NamedTuple):
    name: str
    numbers: Any
    batch: int | None
    channels: int | None
    size: int | None
    last: bool  # whether channels are last


def _image(path: Path, inputs: list[Any]) -> _Image:
    """How the graph takes its images."""
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs)
        raise StudyError(f"{path}: takes {len(inputs)} inputs ({names}); a model of one image is wanted.")
    (only,) = inputs
    shape = [side if isinstance(side, int) and side > 0 else None for side in only.shape]
    kind = f"{only.name}, {only.type}, of shape {list(only.shape)}"
    if len(shape) != 4 or only.type not in NUMBERS:
        raise StudyError(f"{path}: its input ({kind}) is no image: (images, channels, rows, columns) in floats is.")
    last = shape[3] in (1, 3) and shape[1] not in (1, 3)
    channels, rows, columns = (shape[3], shape[1], shape[2]) if last else (shape[1], shape[2], shape[3])
    if channels not in (1, 3, None) or (rows != columns and None not in (rows, columns)):
        raise StudyError(f"{path}: its input ({kind}) is no square image of 1 or 3 channels. Export it for one.")
    return _Image(only.name, NUMBERS[only.type], shape[0], channels, rows or columns, last)


def _session(path: Path, content: bytes, options: Any) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds, one for each way to fail
        raise StudyError(f"{path}: onnxruntime cannot open it ({reason(error)}). Export it again.") from error


class _Node(NamedTuple):
    operator: str
    inputs: list[str]
    outputs: list[str]


def _graph(content: bytes) -> tuple[list[_Node], int]:
    """The operators of a file, and how many of its weights lie in other files."""
    nodes, others = [], 0
    for number, graph in _fields(memoryview(content)):
        for part, value in _fields(graph) if number == GRAPH and isinstance(graph, memoryview) else ():
            if not isinstance(value, memoryview):
                continue
            if part == NODES:
                found = [(key, bytes(each).decode()) for key, each in _fields(value) if key in (1, 2, 4)]
                operator = next((text for key, text in found if key == OPERATOR), "")
                inputs, outputs = ([text for key, text in found if key == k] for k in (NODE_INPUTS, NODE_OUTPUTS))
                nodes.append(_Node(operator, inputs, outputs))
            elif part == WEIGHTS:
                others += any(key == EXTERNAL for key, _ in _fields(value))
    return nodes, others


def _last(nodes: list[_Node], output: str) -> tuple[str, str]:
    """What the graph ends in, and the name of what its last linear layer gets; "" for what is not known."""
    makers, ends_in = {name: node for node in nodes if node.operator != "Constant" for name in node.outputs}, ""
    while (node := makers.get(output)) is not None:
        if node.operator in ("Sigmoid", "Softmax") and not ends_in:
            ends_in = node.operator
        elif node.operator in ("Gemm", "MatMul"):
            return ends_in or "Linear", node.inputs[0] if node.inputs[0] in makers else ""
        elif node.operator not in SHAPING:
            break
        output = next((name for name in node.inputs if name in makers), "")
    return ends_in, ""


def _fields(buffer: memoryview) -> Iterator[tuple[int, "memoryview | int"]]:
    """Number and value of each field of a message (https://protobuf.dev/programming-guides/encoding/)."""
    place = 0
    while place < len(buffer):
        key, place = _varint(buffer, place)
        kind, value = key & 7, 0
        if kind == 0:
            value, place = _varint(buffer, place)
            yield key >> 3, value
            continue
        if kind == 2:
            length, place = _varint(buffer, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no protocol buffer at byte {place}")
        if place + length > len(buffer):
            raise ValueError("it ends early")
        yield key >> 3, buffer[place : place + length]
        place += length


def _varint(buffer: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = buffer[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def _field(number: int, content: bytes) -> bytes:
    """One field of bytes."""

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    return varint(number << 3 | 2) + varint(len(content)) + content
