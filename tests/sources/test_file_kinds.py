"""What people take for a checkpoint is named for what it is, whatever it is called."""

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sourcematters import sources
from sourcematters.errors import StudyError


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def saved(save, *arguments):
    buffer = io.BytesIO()
    save(*((buffer, *arguments) if save is np.savez else (*arguments, buffer)))
    return buffer.getvalue()


SCRIPT = {"a__data.pkl": b"", "a__constants.pkl": b"", "a__code____torch__.py": b"code"}
FILES = {
    "empty": (b"", "is empty, no checkpoint. Fetch it again"),
    "web page": (b"\n<!DOCTYPE html><html><title>Sign in \xe9</title>", "is a web page"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "git-lfs pointer.*git lfs pull"),
    "text": (b"404: Not Found", r"is text \('404: Not Found'\)"),
    "wheel": (
        zipped(**{"net__w.pth": b"123", "net-1.dist-info__METADATA": b"", "net-1.dist-info__RECORD": b""}),
        r"is a Python package \(a wheel\).*largest file is net/w.pth",
    ),
    "zip": (zipped(**{"readme.txt": b"1", "w__resnet50.pth": b"123"}), "zip archive.*largest file is w/resnet50.pth"),
    "npz": (saved(np.savez, np.zeros(3)), "is a NumPy archive"),
    "gzip": (gzip.compress(b"weights"), "is a packed archive"),
    "pickle": (pickle.dumps({"conv1.weight": [1.0]}), "Python pickle, which could run code"),
    "TorchScript": (zipped(**SCRIPT), r"TorchScript archive, which holds code.*or that of torch.jit.load\(FILE\)"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x052.9.0", "is an ONNX model"),
    "SavedModel": (b"\x08\x01\x12\xf0\x01\n\x0f", "is a TensorFlow model"),
    "TensorFlow's index": (b"\0\1\2" * 9 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "is a TensorFlow model"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_named_for_what_it_is(kind, tmp_path):
    content, said = FILES[kind]
    for name in ("a.pt", "a.safetensors", "a.h5"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StudyError, match=f"{name}: {'' if said.startswith('is') else 'is .*'}{said}"):
            weights = {"mine": str(tmp_path / name)}
            sources.resolve("mine", "test_resnet", weights=weights, folder=tmp_path).load("test_resnet", size=64)


@pytest.mark.parametrize("zipped", [True, False])
def test_torchs_files_are_read_whatever_they_are_called(zipped, tmp_path):
    tensors = {"a": torch.arange(3.0)}
    torch.save(tensors, tmp_path / "a.safetensors", _use_new_zipfile_serialization=zipped)
    assert torch.equal(sources.read_tensors(tmp_path / "a.safetensors")["a"], tensors["a"])


@pytest.mark.parametrize(("there", "asked"), [("saved_model.pb", ""), ("model.ckpt.index", "model.ckpt")])
def test_tensorflows_folders_are_named(there, asked, tmp_path):
    (tmp_path / there).touch()
    with pytest.raises(StudyError, match="is a TensorFlow model, no checkpoint. Load it in Keras"):
        sources.resolve("mine", "resnet50", weights={"mine": str(tmp_path / asked)})


@pytest.mark.parametrize("length", [0x80, 0x108, 0x880, 0x1080])
def test_a_safetensors_file_is_one_whatever_the_length_of_its_header(tmp_path, length):
    """The length stands first: 128 begins as a pickle does, 264 as a protocol buffer."""
    path, tensors = tmp_path / "a.safetensors", {"conv1.weight": torch.ones(2)}
    save_file(tensors, path, metadata={"why": ""})
    short = int.from_bytes(path.read_bytes()[:8], "little")
    save_file(tensors, path, metadata={"why": "x" * (length - short)})
    assert path.read_bytes()[:8] == length.to_bytes(8, "little")
    assert torch.equal(sources.read_tensors(path)["conv1.weight"], torch.ones(2))
