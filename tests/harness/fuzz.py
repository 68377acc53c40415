"""Random inputs of each kind: every one must give a result or a StudyError, never another error, within seconds.

    python tests/harness/fuzz.py 10000             # so many of each kind, over all cores
    python tests/harness/fuzz.py 10000 table image

An input is a sound one, damaged: bytes are changed, cut out, doubled or moved, at places drawn from its number. It
prints a row a kind (tried, gave a result, refused, other errors, slowest in seconds), then each other error with the
number of its input, and ends with 1 if there was one. A worker that dies, or that takes more than 2 GiB, is one.
"""

import contextlib
import io
import os
import random
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # for scripts; pytest has it there
from sourcematters import sources  # noqa: E402
from sourcematters.cohorts import Request, open_cohort, pixels  # noqa: E402
from sourcematters.cohorts.lidc import lidc_xml  # noqa: E402
from sourcematters.errors import StudyError  # noqa: E402
from sourcematters.sources import keras_weights  # noqa: E402
from sourcematters.study.study import Study  # noqa: E402

SECONDS, MEMORY = 20, 2 * 2**30
TABLE = b"image_id,path,patient_id,label,split,sex,age\n" + b"".join(
    b"i%d,%d.png,p%d,%d,%s,%s,%d\n" % (k, k, k // 2, k % 2, b"dev" if k < 12 else b"test", b"FM"[k % 2 :][:1], 40 + k)
    for k in range(16)
)
PROFILE = b"""sources: [imagenet, mine, random]  # pretrained weights
weights: {mine: {path: /tmp/a.pt, mean: [.5, .5, .5], std: [.5, .5, .5]}}
data: cohort.csv
task: brightness
p_art: [0, 0.5, 1]
folds: 2
size: 32
tag: {height: 300, letter: "R", size: 64}
gender: {attribute: sex, value: F, other: M}
ct: {noise: {domain: projection, n0: 2e7}, images: [20, 10]}
slurm: {partition: gpu, time: 60}
"""
XML = b"""<?xml version="1.0" encoding="UTF-8"?>
<LidcReadMessage uid="9.1" xmlns="http://www.nih.gov"><ResponseHeader><SeriesInstanceUid>1.2.840.1</SeriesInstanceUid>
<StudyInstanceUID>1.2.840.2</StudyInstanceUID></ResponseHeader><readingSession><annotationVersion>3.12
</annotationVersion><unblindedReadNodule><noduleID>Nodule 001</noduleID><characteristics><malignancy>4</malignancy>
</characteristics><roi><imageZposition>-100.5</imageZposition><imageSOP_UID>1.2.3</imageSOP_UID><inclusion>TRUE
</inclusion><edgeMap><xCoord>10</xCoord><yCoord>20</yCoord></edgeMap><edgeMap><xCoord>14</xCoord><yCoord>20</yCoord>
</edgeMap><edgeMap><xCoord>14</xCoord><yCoord>24</yCoord></edgeMap></roi></unblindedReadNodule></readingSession>
</LidcReadMessage>
"""


def pictures() -> list[bytes]:
    """A small picture in each of the formats that cohorts have."""
    made = []
    ramp = np.outer(np.arange(24), np.arange(20)).astype(np.uint8)
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "JPEG2000", "WEBP"):
        with io.BytesIO() as file:
            Image.fromarray(ramp).save(file, kind)
            made.append(file.getvalue())
    with io.BytesIO() as file:
        Image.fromarray(ramp.astype(np.uint16) * 100).save(file, "PNG")
        return [*made, file.getvalue()]


def scans() -> list[bytes]:
    """A slice of a CT, as the demo draws it, and the same of one that is compressed."""
    import pydicom
    from dicom_files import BODY, write_slice

    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder, "a.dcm"), Path(folder, "b.dcm")
        write_slice(plain, BODY, z_mm=1.0, study_uid="1.2.3", series_uid="1.2.4", sop_uid="1.2.5", patient_id="p")
        dataset = pydicom.dcmread(plain)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(packed)
        return [plain.read_bytes(), packed.read_bytes()]


def checkpoints() -> list[bytes]:
    """The weights of a small network, in torch's format and in safetensors'."""
    import timm
    import torch
    from safetensors.torch import save

    state = timm.create_model("test_resnet", num_classes=2).state_dict()
    with io.BytesIO() as file:
        torch.save({"state_dict": state, "epoch": 3}, file)
        return [file.getvalue(), save(state)]


def keras_files() -> list[bytes]:
    """Two layers as Keras 2 writes them: no network of ours has only these."""
    import h5py

    with io.BytesIO() as buffer:
        with h5py.File(buffer, "w") as file:
            file.attrs["layer_names"] = [b"conv1"]
            layer = file.create_group("conv1")
            layer.attrs["weight_names"] = [b"conv1/kernel:0", b"conv1/bias:0"]
            layer["conv1/kernel:0"] = np.zeros((3, 3, 1, 4), np.float32)
            layer["conv1/bias:0"] = np.zeros(4, np.float32)
        return [buffer.getvalue()]


def zipped() -> list[bytes]:
    """Reads of LIDC-IDRI in a zip, as TCIA serves them."""
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("tcia/1.xml", XML)
            archive.writestr("tcia/2.xml", XML.replace(b"1.2.840.1", b"1.2.840.3"))
        return [buffer.getvalue()]


def weights_of(path: Path, backbone: str) -> object:
    """Load a file as a user's own source."""
    return sources.resolve("mine", backbone, weights={"mine": str(path)}, folder=path.parent).load(backbone, size=32)


def table(path: Path) -> object:
    """Open a cohort whose images are there."""
    for number in range(16):
        path.with_name(f"{number}.png").touch()
    return open_cohort(Request(data=path, task="t", cache=path.parent))


def study(path: Path) -> object:
    """Take a profile's settings, and say which runs it would make."""
    return Study(str(path), {}, path.parent / "results").outline("tag")


Kind = tuple[Callable[[], list[bytes]], str, Callable[[Path], object]]
KINDS: dict[str, Kind] = {
    "profile": (lambda: [PROFILE], "a.yaml", study),
    "table": (
        lambda: [TABLE, TABLE.replace(b",", b";"), "\ufeff".encode() + TABLE, TABLE.decode().encode("utf-16")],
        "a.csv",
        table,
    ),
    "image": (pictures, "a.png", pixels.read),
    "DICOM": (scans, "a.dcm", pixels.read),
    "XML": (lambda: [XML], "a.xml", lambda path: lidc_xml.read(path.parent)),
    "zip of XML": (zipped, "a.zip", lidc_xml.read),
    "weights": (checkpoints, "a.pt", partial(weights_of, backbone="test_resnet")),
    "Keras file": (keras_files, "a.h5", partial(weights_of, backbone="resnet50")),
}


@cache
def sound(kind: str) -> list[bytes]:
    """The inputs of a kind that nothing is wrong with."""
    return KINDS[kind][0]()


def damaged(content: bytes, drawn: random.Random) -> bytes:
    """`content` with one to eight damages, most often one, or noise of its length."""
    if drawn.random() < 0.02:
        return drawn.randbytes(len(content))
    made = bytearray(content)
    for _ in range(drawn.choice((1, 1, 1, 2, 4, 8))):
        # Headers come first, and are where most can go wrong.
        at = drawn.randrange(min(len(made), drawn.choice((64, 512, len(made)))) or 1) if made else 0
        length = drawn.choice((1, 1, 2, 4, 16, 200))
        how = drawn.randrange(6)
        if how == 0:
            made[at : at + length] = drawn.randbytes(length)
        elif how == 1:
            del made[at : at + length]
        elif how == 2:
            made[at:at] = made[at : at + length]
        elif how == 3:
            made[at : at + length] = drawn.choice((b"\0", b"\xff", b"9", b"\n", b"{", b"-", b"nan")) * length
        elif how == 4 and made:
            made[at % len(made)] ^= 1 << drawn.randrange(8)
        else:
            del made[drawn.randrange(len(made) + 1) :]
    return bytes(made)


def trial(kind: str, number: int) -> tuple[str, float]:
    """Take input `number` of a kind: result, refused or the other error in words, and the seconds that it took."""
    drawn, (_, name, take) = random.Random(f"{kind} {number}"), KINDS[kind]
    content = damaged(drawn.choice(sound(kind)), drawn)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path, began = Path(folder, name), time.perf_counter()
        path.write_bytes(content)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                take(path)
            found = "result"
        except StudyError:
            found = "refused"
        except Exception as error:
            found = f"{type(error).__name__}: {str(error)[:200]}"
        took = time.perf_counter() - began
    return (f"took {took:.0f} s" if took > SECONDS else found), took


def _several(task: tuple[str, range]) -> list[tuple[int, str, float]]:
    kind, numbers = task
    keras_weights.TRY_SECONDS = 10  # a study waits longer, for slow disks
    trial(kind, 0)  # what it imports and keeps does not count: torch alone maps several
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
    return [(number, *trial(kind, number)) for number in numbers]


def main(count: int, kinds: list[str]) -> int:
    """Try `count` inputs of each of `kinds`, all if empty, and print what became of them."""
    from concurrent.futures import ProcessPoolExecutor

    wrong = 0
    print(f"{'kind':12} {'tried':>7} {'result':>7} {'refused':>8} {'other':>6} {'slowest':>8}")
    for kind in kinds or KINDS:
        tasks = [(kind, range(start, min(start + 100, count))) for start in range(0, count, 100)]
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            ended = [each for part in pool.map(_several, tasks) for each in part]
        others = [(number, what) for number, what, _ in ended if what not in ("result", "refused")]
        results, slowest = sum(what == "result" for _, what, _ in ended), max(took for *_, took in ended)
        refused = len(ended) - results - len(others)
        print(f"{kind:12} {len(ended):7} {results:7} {refused:8} {len(others):6} {slowest:7.1f}s", flush=True)
        for number, what in others[:20]:
            print(f"    {kind} {number}: {what}")
        wrong += len(others)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
