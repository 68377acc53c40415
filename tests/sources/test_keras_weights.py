"""Files in the published layout with random values: the converted network against Keras's graph."""

import functools
import hashlib
import zipfile

import h5py
import numpy as np
import pytest
import torch
from keras_graphs import Keras, densenet121, inception_resnet_v2, inception_v3, resnet50

from sourcematters import sources
from sourcematters.errors import StudyError
from sourcematters.sources import keras_weights
from sourcematters.sources.radimagenet import FILES

# Graph, number of the first automatically named layer, whether `save` or `save_weights` wrote the file, image size,
# parameters as keras.applications documents them for the network without top.
NETWORKS = {
    "resnet50": (resnet50, 0, "save", 75, 23_587_712),
    "densenet121": (densenet121, 0, "save_weights", 75, 7_037_504),
    "inception_v3": (inception_v3, 95, "save_weights", 139, 21_802_784),
    "inception_resnet_v2": (inception_resnet_v2, 0, "save", 107, 54_336_736),
}


def write(path, weights, how="save_weights"):
    """A file as Keras 2 writes it: the network's layers in an order of its own, those without weights too."""
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if how == "save" else file
        if how == "save":
            file.attrs["model_config"] = b"{}"
            file.create_group("optimizer_weights")
        group.attrs["keras_version"], group.attrs["backend"] = b"2.4.0", b"tensorflow"
        names = ["input_1", *sorted(weights), "avg_pool"]
        group.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            layer = group.create_group(name)
            kinds = weights.get(name, {})
            layer.attrs["weight_names"] = [f"{name}/{kind}:0".encode() for kind in kinds]
            for kind, value in kinds.items():
                layer.create_dataset(f"{name}/{kind}:0", data=value)


@functools.cache
def keras(backbone):
    """A network's weights, images, and the features that Keras's graph gives in evaluation and in training mode."""
    graph, first, _, size, _ = NETWORKS[backbone]
    images = torch.from_numpy(np.random.default_rng(7).normal(0, 1, (4, size, size, 3)).astype(np.float32))
    session = Keras(graph, first)
    with torch.inference_mode():
        features = {training: session(images.double(), training) for training in (False, True)}
    return session.weights, images, features


def features_of(model, images, training, precision):
    model = model.train(training).to(precision)
    with torch.inference_mode():
        return model(images.permute(0, 3, 1, 2).to(precision))


def largest(difference):
    return difference.abs().max().item()


@pytest.fixture(scope="module", params=NETWORKS)
def published(request, tmp_path_factory):
    """A folder with the published file, resolved."""
    *_, how, _, parameters = NETWORKS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    weights, *_ = keras(request.param)
    assert sum(value.size for layer in weights.values() for value in layer.values()) == parameters
    write(folder / FILES["radimagenet-keras"][request.param], weights, how)
    return request.param, folder, resolve(request.param, folder, folder)


def resolve(backbone, path, folder):
    return sources.resolve(
        "radimagenet-keras", backbone, weights={"radimagenet-keras": path}, folder=folder / "converted"
    )


def test_features_are_keras_in_evaluation_and_training_mode(published):
    backbone, _, source = published
    _, images, features = keras(backbone)
    for training in (False, True):
        assert 0.3 < features[training].std() < 3, "activations of order one, or 1e-4 would mean little"
        for precision, bound in ((torch.float32, 1e-4), (torch.float64, 1e-6)):
            model = source.load(backbone, size=images.shape[1])
            ours = features_of(model, images, training, precision)
            assert ours.shape == (4, model.num_features)
            difference = largest(ours - features[training])
            print(f"{backbone} {'train' if training else 'eval'} {precision}: largest difference {difference:.1e}")
            assert difference < bound


@pytest.mark.parametrize("backbone", ["resnet50", "inception_v3"])
def test_the_same_weights_in_timms_own_network_compute_something_else(backbone, tmp_path):
    weights, images, features = keras(backbone)
    write(tmp_path / "a.h5", weights)
    model = sources.create(backbone, size=None)
    model.load_state_dict(keras_weights.convert(tmp_path / "a.h5", backbone)[0], strict=False)
    assert largest(features_of(model, images, False, torch.float64) - features[False]) > 1e-2
    keras_weights.as_keras(model, backbone)
    assert largest(features_of(model, images, False, torch.float64) - features[False]) < 1e-6


def test_only_the_computation_is_changed(published):
    backbone, _, source = published
    model, own = source.load(backbone, size=75), sources.create(backbone, size=75)
    assert model.state_dict().keys() == own.state_dict().keys()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3 if backbone.startswith("inception") else 1.001e-5}
    assert {norm.momentum for norm in norms} == {m.momentum for m in own.modules() if hasattr(m, "momentum")}
    # Keras's Inceptions have no scale to train.
    assert {norm.weight.requires_grad for norm in norms} == {not backbone.startswith("inception")}
    assert all(norm.bias.requires_grad for norm in norms)


def test_source_says_where_it_is_from_and_is_converted_once(published, monkeypatch):
    backbone, folder, source = published
    path = folder / FILES["radimagenet-keras"][backbone]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (source.name, source.kind, source.identity) == ("radimagenet-keras", "keras", f"sha256:{digest}")
    # imagenet_utils.preprocess_input subtracts these from blue, green and red in 0..255; then comes rescale=1/255.
    grey = 200.0
    assert [(grey / 255 - m) / s for m, s in zip(source.mean, source.std, strict=True)] == pytest.approx(
        [(grey - m) / 255 for m in (103.939, 116.779, 123.68)]
    )
    name = f"keras-{backbone}-{digest[:16]}-r1"
    names = sorted(path.name for path in (folder / "converted").iterdir())
    assert names == [f"{name}.safetensors", f"{name}.sha256"]
    monkeypatch.setattr(keras_weights, "convert", None)
    assert resolve(backbone, path, folder) == source


def test_any_keras_file_can_be_a_source_of_its_own(tmp_path):
    weights, *_ = keras("densenet121")
    # Keras 3 has underscores where Keras 2 had slashes.
    write(tmp_path / "mine.h5", {name.replace("/", "_"): value for name, value in weights.items()})
    entry = {"path": tmp_path / "mine.h5", "mean": [0.5] * 3, "std": [0.25] * 3}
    source = sources.resolve("mine", "densenet121", weights={"mine": entry}, folder=tmp_path)
    assert (source.kind, source.mean, source.std) == ("keras", (0.5,) * 3, (0.25,) * 3)
    assert source.load("densenet121", size=64)(torch.zeros(2, 3, 64, 64)).shape == (2, 1024)


def renamed(weights):
    return {name.replace("conv3_block1_2_conv", "conv3_block1_9_conv"): value for name, value in weights.items()}


def transposed(weights):
    layer = weights["conv2_block1_2_conv"]
    return {**weights, "conv2_block1_2_conv": {**layer, "kernel": layer["kernel"].transpose(3, 2, 0, 1)}}


def left_out(weights):
    return {name: value for name, value in weights.items() if not name.startswith("conv5")}


def with_a_layer_more(weights):
    return {**weights, "conv6_conv": {"kernel": np.zeros((1, 1, 2048, 8)), "bias": np.zeros(8)}}


def without_biases(weights):
    return {name: {kind: value for kind, value in layer.items() if kind != "bias"} for name, layer in weights.items()}


def one_fewer(weights):
    return {name: value for name, value in weights.items() if name != "conv2d_188"}


@pytest.mark.parametrize(
    ("backbone", "damage", "named"),
    [
        (
            "resnet50",
            renamed,
            r"2 missing: conv3_block1_2_conv/kernel.*2 not of this network: conv3_block1_9_conv/kernel",
        ),
        (
            "resnet50",
            transposed,
            r"1 of another shape: conv2_block1_2_conv/kernel \(64, 64, 3, 3\) where \(3, 3, 64, 64\)",
        ),
        ("resnet50", left_out, "60 missing: conv5_block1_1_conv/kernel"),
        ("resnet50", with_a_layer_more, "Layers 2 not of this network: conv6_conv/kernel, conv6_conv/bias"),
        ("resnet50", without_biases, "53 missing: conv1_conv/bias"),
        ("inception_v3", one_fewer, "Layers 1 missing: conv2d number 94/kernel"),
    ],
)
def test_layers_that_are_wrong_are_named(backbone, damage, named, tmp_path):
    write(tmp_path / "wrong.h5", damage(keras(backbone)[0]))
    with pytest.raises(StudyError, match=f"wrong.h5: does not hold Keras's weights of '{backbone}'.*{named}"):
        resolve(backbone, tmp_path / "wrong.h5", tmp_path)
    assert not (tmp_path / "converted").exists()


def test_the_file_of_another_backbone_is_refused(tmp_path):
    write(tmp_path / "other.h5", keras("densenet121")[0])
    with pytest.raises(StudyError, match="201 missing: conv1_conv/bias.*487 not of this network: bn/gamma"):
        resolve("resnet50", tmp_path / "other.h5", tmp_path)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "cut.h5"
    write(path, keras("densenet121")[0])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match=r"cut.h5: damaged or not an HDF5 file \(.*truncated"):
        resolve("densenet121", path, tmp_path)
    path.write_bytes(b"<html>Virus scan warning</html>")
    with pytest.raises(StudyError, match="cut.h5: is a web page, no checkpoint"):
        resolve("densenet121", path, tmp_path)
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(StudyError, match="^[^ ]*cut.h5: is HDF5, but not a weight file of Keras"):
        resolve("densenet121", path, tmp_path)


def test_where_to_get_the_files_is_said(tmp_path):
    recipe = "github.com/BMEII-AI/RadImageNet, unpack RadImageNet-IRV2_notop.h5, and pass weights"
    with pytest.raises(StudyError, match=f"read from a local file.*{recipe}"):
        sources.resolve("radimagenet-keras", "inception_resnet_v2")
    with pytest.raises(StudyError, match=f"RadImageNet-IRV2_notop.h5 does not exist.*{recipe}"):
        resolve("inception_resnet_v2", tmp_path, tmp_path)
    with pytest.raises(StudyError, match="published for resnet50, densenet121, inception_v3, inception_resnet_v2; not"):
        sources.resolve("radimagenet-keras", "test_resnet")


def test_the_two_releases_are_kept_apart(tmp_path):
    for name, file in (("radimagenet", "RadImageNet-ResNet50_notop.h5"), ("radimagenet-keras", "ResNet50.pt")):
        (tmp_path / file).touch()
        with pytest.raises(StudyError, match=f"'{name}': {file} is not of that release"):
            sources.resolve(name, "resnet50", weights={name: tmp_path / file})


def test_a_backbone_that_keras_files_cannot_be_converted_for(tmp_path):
    write(tmp_path / "a.h5", {})
    with pytest.raises(StudyError, match="can be converted for resnet50, .*; not for 'test_resnet'"):
        sources.resolve("mine", "test_resnet", weights={"mine": tmp_path / "a.h5"}, folder=tmp_path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What a file of Keras 2 without top is converted to."""
    path = tmp_path_factory.mktemp("plain") / "a.h5"
    write(path, keras("densenet121")[0])
    return keras_weights.convert(path, "densenet121")[0]


TOP = {"dense": {"kernel": np.ones((1024, 8)), "bias": np.ones(8)}, "dense_1": {"kernel": np.ones((8, 2))}}
DROPOUT = np.zeros(2, np.uint32)  # the state of its random numbers


def write_nested(path, weights):
    """As Keras 2 writes a model that has the network as its first layer, and a normalization on its features."""
    norm = {kind: np.ones(1024) for kind in ("gamma", "beta", "moving_mean", "moving_variance")}
    with h5py.File(path, "w") as file:
        layers = {"densenet121": weights, "batch_normalization": {"batch_normalization": norm}}
        layers |= {name: {name: kinds} for name, kinds in TOP.items()}
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, within in layers.items():
            arrays = {f"{name}/{kind}:0": value for name, kinds in within.items() for kind, value in kinds.items()}
            file.create_group(layer).attrs["weight_names"] = [name.encode() for name in arrays]
            for name, value in arrays.items():
                file[layer].create_dataset(name, data=value)


def write_keras_3(path, weights, nested=False, named=True):
    """As Keras 3 writes `.weights.h5`: groups called by their class, arrays by their number."""
    with h5py.File(path, "w") as file:
        within = "layers/functional/" if nested else ""
        for number, (name, kinds) in enumerate({**weights, **TOP}.items()):
            place = f"layers/dense_{number}" if name in TOP else f"{within}layers/conv2d_{number}"
            group = file.create_group(f"{place}/vars")
            if named:
                group.attrs["name"] = name
            order = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
            for index, kind in enumerate(kind for kind in order if kind in kinds):
                group.create_dataset(str(index), data=kinds[kind])
        file.create_group("layers/dropout/seed_generator/vars").create_dataset("0", data=DROPOUT)
        file.create_group("optimizer/vars").create_dataset("0", data=1.0)


@pytest.mark.parametrize(
    ("file", "done"),
    [
        ("top.h5", "dense, dense_1 left out"),
        ("nested.h5", "the model densenet121; batch_normalization, dense, dense_1 left out"),
        ("own.weights.h5", "dense, dense_1 left out"),
        ("nested.weights.h5", "dense, dense_1 left out"),
        ("own.keras", "dense, dense_1 left out"),
    ],
)
def test_a_file_with_a_top_or_of_keras_3_gives_the_same_network(file, done, plain, tmp_path):
    weights, *_ = keras("densenet121")
    path, inside = tmp_path / file, tmp_path / "model.weights.h5"
    if file == "top.h5":
        write(path, weights | TOP, "save")
    elif file == "nested.h5":
        write_nested(path, weights)
    elif file == "own.keras":
        write_keras_3(inside, weights)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
            archive.write(inside, inside.name)
    else:
        write_keras_3(path, weights, nested=file.startswith("nested"))
    source = sources.resolve("mine", "densenet121", weights={"mine": path}, folder=tmp_path)
    found = sources.read_tensors(source.location)
    assert found.keys() == plain.keys() and all(torch.equal(found[key], plain[key]) for key in plain)
    assert source.kind == "keras" and source.card == {"loading": done}


def huge(file):
    file["conv1/conv"].create_dataset("conv1/conv/kernel:1", shape=(10**6, 10**6), dtype="f4", chunks=(1024, 1024))
    file["conv1/conv"].attrs["weight_names"] = [b"conv1/conv/kernel:1"]


def elsewhere(file):
    del file["conv1/conv/conv1/conv/kernel:0"]
    file["conv1/conv/conv1/conv/kernel:0"] = h5py.ExternalLink("/etc/other.h5", "kernel")


def not_finite(file):
    file["conv1/conv/conv1/conv/kernel:0"][0, 0, 0, 0] = np.nan


def integers(file):
    shape = file["conv1/conv/conv1/conv/kernel:0"].shape
    del file["conv1/conv/conv1/conv/kernel:0"]
    file["conv1/conv/conv1/conv/kernel:0"] = np.zeros(shape, np.int8)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (huge, r"1 missing: conv1_conv/kernel; 1 not of this network: conv1_conv/kernel:1"),
        (elsewhere, r"conv1/conv/conv1/conv/kernel:0 is in another file \(/etc/other.h5\)"),
        (not_finite, "1 of its 604 tensors are not finite .*: features.conv0.weight"),
        (integers, "conv1/conv/kernel holds no real numbers"),
    ],
)
def test_values_that_are_no_weights_are_refused_before_they_are_read(damage, said, tmp_path):
    weights, *_ = keras("densenet121")
    path = tmp_path / "a.h5"
    write(path, weights)
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(StudyError, match=said):
        resolve("densenet121", path, tmp_path)


def test_a_file_of_keras_3_that_names_no_layers_is_refused(tmp_path):
    write_keras_3(tmp_path / "a.weights.h5", keras("densenet121")[0], named=False)
    with pytest.raises(StudyError, match=r"names no layers.*model.save\('NAME.h5'\)"):
        resolve("densenet121", tmp_path / "a.weights.h5", tmp_path)


@pytest.mark.parametrize(
    ("tried", "said"),
    [("while True: pass", "reading the names in it does not end"), ("import os; os.abort()", "in it crashes")],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_what_hdf5_cannot_read_is_refused_in_this_process(tried, said, zipped, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_weights, "TRY", tried)
    monkeypatch.setattr(keras_weights, "TRY_SECONDS", 1)
    path = tmp_path / ("a.keras" if zipped else "a.h5")
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
    else:
        (tmp_path / "model.weights.h5").rename(path)
    with pytest.raises(StudyError, match=f"{path.name}: damaged: .*{said}"):
        sources.resolve("mine", "resnet50", weights={"mine": path}, folder=tmp_path)
