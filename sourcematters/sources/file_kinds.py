"""What a file is, by its first bytes and never by its name: a checkpoint, or what people take for one."""

import zipfile
from pathlib import Path

from sourcematters import files
from sourcematters.errors import StudyError

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
TORCH = (
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # torch's own number, with which its files began before they were zips
)
INSIDE = "model.weights.h5"  # of the zip that Keras 3 makes
PACKED = ("a packed archive", "Unpack it, and give the file of weights inside.")
SAVED = ("a TensorFlow model", "Load it in Keras, save it with `model.save('NAME.h5')`, and give that file.")
ONNX, SCRIPT = "an ONNX model", "a TorchScript archive, which holds code"
EXPORTED = "Save `model.state_dict()` of the model it was exported from, and give that file."
BEGINNINGS = {
    b"version https://git-lfs": ("a git-lfs pointer, not the file", "Run `git lfs pull` where it was cloned."),
    b"model_checkpoint_path": SAVED,
    b"\x08\x01\x12": SAVED,  # protocol buffers: the first field is a version
    b"\x1f\x8b": PACKED, b"BZh": PACKED, b"\xfd7zXZ": PACKED, b"7z\xbc\xaf": PACKED, b"Rar!": PACKED,
    b"GGUF": ("a language model (GGUF)", "Give the weights of an image network."),
    b"\x93NUMPY": ("a NumPy array", "Give a file of named tensors."),
    **{bytes([8, version, field]): (ONNX, EXPORTED) for version in range(2, 32) for field in (0x12, 0x3A)},
}  # fmt: skip


def beginning(path: str | Path) -> bytes:
    """The first bytes of a file."""
    with files.opened(path) as file:
        return file.read(1024)


def is_keras(path: Path) -> bool:
    """Whether a file is HDF5, or the zip of a `.keras`."""
    return beginning(path).startswith(HDF5) or INSIDE in _listed(path)


def is_onnx(path: Path) -> bool:
    """Whether a file is an ONNX graph."""
    return _no_checkpoint(path, beginning(path))[0] == ONNX


def is_torchscript(path: Path) -> bool:
    """Whether a file is what torch.jit.save makes: a zip of tensors and code."""
    return _no_checkpoint(path, beginning(path))[0] == SCRIPT


def refuse_what_is_no_checkpoint(path: str | Path) -> None:
    """Raise StudyError saying what a file is, and what to do, when it is something else that is known.

    What is neither known nor a checkpoint is left to the reader's own complaint.
    """
    head = beginning(path)
    what, mend = _no_checkpoint(Path(path), head)
    if what:
        raise StudyError(f"{path}: is {what}, no checkpoint. {mend}")


def _no_checkpoint(path: Path, head: bytes) -> tuple[str, str]:
    """What else than a checkpoint a file is, and what to do; twice "" for nothing known."""
    if not head:
        return "empty", "Fetch it again."
    if head[8:9] == b"{":  # safetensors, before which stands the length of its header: any eight bytes
        return "", ""
    if head.startswith(ZIP):
        return _no_checkpoint_in(_listed(path))
    for start, said in BEGINNINGS.items():
        if head.startswith(start):
            return said
    if head[4:8] == b"TFL3" or ".data-0" in path.name or _end(path) == b"\x57\xfb\x80\x8b\x24\x75\x47\xdb":
        return SAVED
    if head[257:262] == b"ustar":
        return PACKED
    if head.startswith(b"\x80") and not head.startswith(TORCH):
        return "a Python pickle, which could run code", "Save `model.state_dict()` with torch.save, and give that file."
    text = head.decode("utf-8-sig", errors="replace").strip()
    if text.lower().startswith(("<!doctype", "<html", "<?xml", "<head")):
        return "a web page", "A server gave it in the file's place, to log in or to confirm: fetch it in a browser."
    if all(sign.isspace() or (sign.isprintable() and sign != "\ufffd") for sign in text[:-1]):
        return f"text ({' '.join(text.split())[:60]!r})", "Fetch the file of weights itself."
    return "", ""


def _no_checkpoint_in(names: dict[str, int]) -> tuple[str, str]:
    """The same of a zip, by the names and sizes in it; torch's has its tensors' names in `data.pkl`."""
    largest = max(names, key=names.__getitem__, default="nothing")
    if any(name.endswith((".dist-info/METADATA", ".dist-info/RECORD")) for name in names):
        return "a Python package (a wheel)", f"Unpack it like a zip; its largest file is {largest}."
    if any(name.endswith("/constants.pkl") for name in names):
        return SCRIPT, f"{EXPORTED[:-1]}, or that of torch.jit.load(FILE)."
    if any(name.endswith("/data.pkl") for name in names) or not names:
        return "", ""
    if any(name.endswith((".pt2", "archive_format")) for name in names):
        return "an exported program of torch", EXPORTED
    if all(name.endswith(".npy") for name in names):
        return "a NumPy archive", "Give a file of torch's or Keras's: what its arrays are called is not known here."
    return "a zip archive", f"Unpack it; its largest file is {largest}."


def instead_of(path: Path) -> str:
    """What TensorFlow saved where a file of weights is looked for, in words; "" for nothing."""
    beside = {each.name for each in path.parent.glob("*")}
    if beside & {"saved_model.pb", "checkpoint", f"{path.name}.index"}:
        return f"is {SAVED[0]}, no checkpoint. {SAVED[1]}"
    return ""


def _listed(path: Path) -> dict[str, int]:
    """Name to size in bytes of what a zip holds; nothing for what is no whole zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {member.filename: member.file_size for member in archive.infolist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return {}


def _end(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - 8, 0))
        return file.read()
