"""Measure what the software costs, as ratios: both ways side by side in one process, in turn, medians of 5 rounds.

    python tests/benchmarks/speed.py                     # all parts: 40 to 60 minutes on two idle cores
    python tests/benchmarks/speed.py --part a            # one of them
    python tests/benchmarks/speed.py --nih FOLDER        # with ChestX-ray14's own table and images

a  fine-tuning against the floor: the same steps and forward passes on one constant batch in memory
b  an epoch against one that decodes, resizes and augments 1024 px PNGs by torchvision in a plain DataLoader
c  preparing one confounder's sets, all strengths, against writing every set as PNG files
d  the demo profile's time by notebook and stage, from the executed notebooks in results/demo
e  seconds against the number of images, stage by stage, with the exponent of the fitted power; 112,120 rows of
   metadata to a checked split; the image bank on one core and on two
f  one ResNet50 step at the paper's sizes, bf16: seconds and peak memory, also with `recompute` (takes 10 GiB)
g  on a GPU: how exactly fp32 and tf32 multiply; part a for ResNet50 at the paper's sizes, images a second, the share of
   what the card multiplies, hours for the paper's grid; torch.compile; several small runs at once

The ratio of a pair is the median of the rounds' ratios, so that work of others on the machine slows both alike. Not
part of the tests. Networks have random weights: they cost what pretrained ones do.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from sourcematters import confounders
from sourcematters.cohorts import cohort as tables
from sourcematters.cohorts import nih_cxr14
from sourcematters.cohorts.pixels import read
from sourcematters.confounders import apply, design, key_for
from sourcematters.demo import phantoms
from sourcematters.processes import cores, over_processes
from sourcematters.sources import resolve
from sourcematters.training import devices, fine_tuning, image_bank, memory
from sourcematters.training.batches import Pixels, TrainingSet
from sourcematters.training.classifier import Classifier, reproducible, set_bn_momentum
from sourcematters.training.image_bank import Rendering
from sourcematters.training.recipe import Training

ROUNDS = 5
STRENGTHS = (0.0, 0.1, 0.2, 0.5, 0.8, 1.0)
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]

Ways = dict[str, Callable[[], object]]


def in_turn(
    ways: Ways,
    rounds: int = ROUNDS,
    reset: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> pd.DataFrame:
    """Seconds of each way (columns) in each round (rows); one round before goes uncounted. `reset` precedes each.

    A way that returns a number has measured itself.
    """
    taken = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            reset()
            start = clock()
            own = way()
            if number:
                taken[name].append(own if isinstance(own, float) else clock() - start)
    return pd.DataFrame(taken)


def compare(title: str, ways: Ways, target: str, **options: object) -> float:
    """Print the median seconds of two ways, and of the first over the second; return the second's median."""
    seconds = in_turn(ways, **options)
    one, other = seconds.columns
    ratios = seconds[one] / seconds[other]
    print(
        f"{title}: {one} {seconds[one].median():.3f} s, {other} {seconds[other].median():.3f} s, "
        f"ratio {ratios.median():.3f} ({ratios.min():.3f} to {ratios.max():.3f}; target {target})",
        flush=True,
    )
    return float(seconds[other].median())


def network(backbone: str, settings: Training, device: torch.device = CPU) -> Classifier:
    """An untrained classifier in its place."""
    model = Classifier(resolve("random", backbone), backbone, size=settings.size, dropout=settings.dropout)
    set_bn_momentum(model, settings.bn_momentum)
    devices.place(model, device)
    return model


def random_banks(n: int, size: int) -> Pixels:
    """Two banks of noise."""
    banks = np.random.default_rng(0).integers(0, 256, (2, n, size, size), dtype=np.uint8)
    return Pixels(*banks)


def one_set(n: int, part: str, first: int = 0) -> pd.DataFrame:
    """A table as from `design.sets`: `n` images, half of the positives carry."""
    rows = np.arange(first, first + n)
    ids = [f"image {row}" for row in rows]
    return pd.DataFrame({"row": rows, "image_id": ids, "label": rows % 2, "part": part, "carries": rows % 4 == 1})


@contextlib.contextmanager
def as_runs_do(device: torch.device = CPU) -> Iterator[None]:
    """The circumstances in which a run trains."""
    with reproducible(0, device), memory.kept():
        yield


def constant(size: int, n: int, device: torch.device = CPU) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch, made once."""
    return torch.randint(0, 256, (n, 1, size, size), device=device).float(), torch.arange(n, device=device) % 2


def floor(model: Classifier, settings: Training, n: int, n_val: int, device: torch.device = CPU) -> None:
    """What no software can avoid: the steps and forward passes of a fine-tuning, on batches that are just there."""
    optimizer = fine_tuning.optimizer_for(model, settings)
    batch = constant(settings.size, settings.batch_size, device)
    unseen = constant(settings.size, fine_tuning.EVALUATION_BATCH, device)[0]
    for _ in range(settings.epochs):
        model.train()
        for _ in range(n // settings.batch_size):
            loss = fine_tuning.step(model, optimizer, *batch, settings)
        model.eval()
        with torch.inference_mode(), devices.autocast(device, settings):
            for start in range(0, n_val, len(unseen)):
                loss = model(unseen[: n_val - start]).sum()
    float(loss)  # a GPU is done only when its answer is here


def against_floor(
    title: str, backbone: str, settings: Training, n: int, n_val: int, device: torch.device = CPU, **options: object
) -> float:
    """Compare fine-tuning on `n` images with the floor; returns the floor's median seconds."""
    pixels = random_banks(n + n_val, settings.size)
    sets = pd.concat([one_set(n, "train"), one_set(n_val, "val", n)])
    with as_runs_do(device):
        model = network(backbone, settings, device)
        fit = partial(fine_tuning.fine_tune, model, pixels, sets, settings, seed=0, device=device)
        ways = {"fine-tuning": fit, "floor": partial(floor, model, settings, n, n_val, device)}
        return compare(f"{title}, batch {settings.batch_size}, {settings.precision}", ways, **options)


def part_a(options: argparse.Namespace) -> None:
    """Fine-tuning against the floor, both on one thread."""
    cases = [("the demo's network, 64 px", "test_resnet", 64, 16, 480, 85, 15, "<= 1.15")]
    cases += [("ResNet50, 224 px", "resnet50", 224, 32, 64, 4, ROUNDS, "<= 1.03")]
    for title, backbone, size, batch, n, n_val, rounds, target in cases:
        for precision in ("fp32", "bf16"):
            settings = Training(size=size, batch_size=batch, epochs=1, precision=precision)
            how = dict(target=target, rounds=rounds, clock=options.clock)
            against_floor(f"(a) {title}", backbone, settings, n, n_val, **how)


class Decoding(torch.utils.data.Dataset):
    """The usual dataset: a file is decoded, resized and augmented whenever it is asked for."""

    def __init__(self, cohort: pd.DataFrame, settings: Training):
        from torchvision import transforms

        self.paths, self.labels = cohort["path"].tolist(), cohort["label"].tolist()
        self.transform = transforms.Compose(
            [
                transforms.Grayscale(),
                transforms.Resize((settings.size, settings.size), transforms.InterpolationMode.NEAREST),
                transforms.RandomAffine(
                    settings.rotation,
                    translate=(settings.shift, settings.shift),
                    scale=(1 - settings.zoom, 1 + settings.zoom),
                    interpolation=transforms.InterpolationMode.BILINEAR,
                ),
                transforms.PILToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.paths[index])), self.labels[index]


def part_b(options: argparse.Namespace) -> None:
    """An epoch against one that decodes PNGs, both on one thread."""
    for title, backbone, size, batch, n, target in (
        ("the demo's network, 64 px", "test_resnet", 64, 16, 128, "<= 0.1"),
        ("ResNet50, 224 px", "resnet50", 224, 32, 32, "<= 1"),
    ):
        cohort = radiographs(options, n)
        bank = image_bank.build(cohort, [Rendering(size=size)], options.scratch / "bank")[0]
        for precision in ("fp32", "bf16"):
            settings = Training(size=size, batch_size=batch, precision=precision)
            train = one_set(n, "train").assign(image_id=cohort["image_id"])
            with as_runs_do():
                model = network(backbone, settings)
                optimizer = fine_tuning.optimizer_for(model, settings)
                ours = TrainingSet(Pixels(bank, bank), train, settings, seed=0, device=CPU)
                decoding = torch.utils.data.DataLoader(Decoding(cohort, settings), batch, shuffle=True)
                epochs = {"from the bank": partial(ours.epoch, 0), "decoding": partial(iter, decoding)}
                ways = {how: partial(train_on, model, optimizer, settings, batches) for how, batches in epochs.items()}
                name = f"(b) an epoch of {n} images, {title}, batch {batch}, {precision}"
                compare(name, ways, target, clock=options.clock)
            ways = {how: lambda batches=batches: list(batches()) for how, batches in epochs.items()}
        compare("    its batches alone, without the network", ways, "none", clock=options.clock)


def train_on(
    model: Classifier, optimizer: torch.optim.Optimizer, settings: Training, batches: Callable[[], Iterator]
) -> None:
    """One epoch of steps on what `batches` gives."""
    model.train()
    for pixels, labels in batches():
        fine_tuning.step(model, optimizer, pixels, labels, settings)


def part_c(options: argparse.Namespace) -> None:
    """Preparing the sets of one confounder against writing them."""
    n, size = 36, 512
    cohort = tables.split_by_patient(radiographs(options, n), seed=0)
    for confounder in (confounders.Tag(), confounders.Denoising()):
        bank, copies = options.scratch / "c-bank", options.scratch / "c-copies"
        renderings = [Rendering(alteration=each, size=size) for each in (confounder.base, confounder.carrier)]

        def prepare(confounder=confounder, renderings=renderings, bank=bank) -> None:
            image_bank.build(cohort, renderings, bank)
            for strength in STRENGTHS:
                design.sets(cohort, confounder, p_art=strength, fold=0, seed=0)

        def write(confounder=confounder, copies=copies) -> None:
            for strength in STRENGTHS:
                rows = design.sets(cohort, confounder, p_art=strength, fold=0, seed=0)
                # The o.o.d. and the clean test are the same at every strength.
                rows = rows[(strength == 0) | ~rows["part"].isin(["ood", "clean"])]
                for part, row, image_id, carries in rows[["part", "row", "image_id", "carries"]].to_numpy():
                    folder = copies / f"{strength}" / part
                    folder.mkdir(parents=True, exist_ok=True)
                    how = confounder.carrier if carries else confounder.base
                    pixels, _ = apply(how, read(cohort["path"][row]), key_for(0, image_id, how))
                    Image.fromarray(pixels).save(folder / f"{row}.png")

        def reset(folders=(bank, copies)) -> None:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)

        compare(f"(c) {confounder.name}, {n} images", {"banks": prepare, "copies": write}, "<= 0.25", reset=reset)
        prepare()
        banks, written = (sum(f.stat().st_size for f in p.rglob("*") if f.is_file()) for p in (bank, copies))
        print(
            f"    {banks / (n * size**2):.3f} x one grey {size} px copy of the cohort (target <= 2.2); "
            f"copies at native size take {written / banks:.1f} x as many bytes (target >= 4)",
            flush=True,
        )
        reset()


def part_d(options: argparse.Namespace) -> None:
    """Where the demo's time goes."""
    folder = options.results / "demo" / "notebooks"
    executed = sorted(folder.glob("*.ipynb"))
    if not executed:
        print(f"(d) no executed notebooks in {folder}: run ./run_all.sh first, or name results with --results.")
        return
    spent = [cell for path in executed for cell in stages(path)]
    table = pd.DataFrame(spent, columns=["notebook", "stage", "seconds"])
    print("(d) seconds of the demo by notebook and stage, from the notebooks' own metadata")
    by_stage = table.pivot_table("seconds", "notebook", "stage", "sum", 0.0, margins=True, margins_name="all")
    print(by_stage.round(1).to_string(), flush=True)


STAGES = {
    "runs": ("grids.run(",),
    "bank and sources": ("image_bank.build(", "prepare_sources("),
    "cohort": ("open_cohort(", "verify."),
    "figures and tables": ("figures.", "galleries.", "diagrams.", "statistics.", "metrics.", "published."),
}
"""A cell belongs to the first stage one of whose calls it makes."""


def stages(path: Path) -> list[tuple[str, str, float]]:
    """Notebook, stage and seconds of each executed cell, and of starting and ending the kernel."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    spent, total = [], notebook["metadata"]["papermill"]["duration"]
    for cell in notebook["cells"]:
        if seconds := cell["metadata"].get("papermill", {}).get("duration"):
            text = "".join(cell["source"])
            stage = next((name for name, calls in STAGES.items() if any(c in text for c in calls)), "other")
            spent.append((path.stem, stage, seconds))
    return [*spent, (path.stem, "kernel", total - sum(seconds for *_, seconds in spent))]


def part_e(options: argparse.Namespace) -> None:
    """Cost against the number of images."""
    tag = confounders.Tag()
    sizes = [14_000, 28_000, 56_000, 112_000]
    cohorts = {n: generated(n) for n in sizes}
    split = {n: tables.split_by_patient(cohort, seed=0) for n, cohort in cohorts.items()}
    growth("cohort check", {n: partial(tables.check, cohorts[n], origin="generated") for n in sizes})
    growth("split", {n: partial(tables.split_by_patient, cohorts[n], seed=0) for n in sizes})
    growth("design sets", {n: partial(design.sets, split[n], tag, p_art=0.5, fold=0, seed=0) for n in sizes})

    drawn = radiographs(options, 400, size=256)
    banks, sizes = options.scratch / "e-bank", [50, 100, 200, 400]
    build = {
        n: partial(image_bank.build, drawn[:n], [Rendering(size=64), Rendering(tag.carrier, 64)], banks) for n in sizes
    }
    growth("image bank", build, reset=lambda: shutil.rmtree(banks, ignore_errors=True))
    settings, sizes = Training(size=64, batch_size=16, epochs=1), [160, 320, 640, 1280]
    pixels = random_banks(max(sizes), 64)
    with as_runs_do():
        model = network("test_resnet", settings)
        optimizer = fine_tuning.optimizer_for(model, settings)

        def epoch(n: int) -> None:
            train = TrainingSet(pixels, one_set(n, "train"), settings, seed=0, device=CPU)
            train_on(model, optimizer, settings, partial(train.epoch, 0))

        growth("an epoch", {n: partial(epoch, n) for n in sizes}, clock=options.clock)
        score = partial(fine_tuning.score, model, pixels, training=settings, device=CPU)
        growth("scoring", {n: partial(score, rows=one_set(n, "clean")) for n in sizes}, clock=options.clock)

    seconds = in_turn({"split": partial(verified_split, options.nih)})["split"].median()
    origin = "NIH's table" if options.nih else "generated"
    print(f"(e) 112,120 rows ({origin}) to a checked split by patient: {seconds:.2f} s (target <= 10)", flush=True)

    cohort = radiographs(options, 480)
    cohort.to_csv(options.scratch / "cohort.csv", index=False)
    ways = {f"{w}": partial(bank_seconds, options.scratch / "cohort.csv", banks, w) for w in (1, 2)}
    ways = {"one core": ways["1"], "two cores": ways["2"]}
    title = f"(e) banks of {len(cohort)} images, original, tag and denoising at 512 px"
    compare(title, ways, ">= 1.8", reset=lambda: shutil.rmtree(banks, ignore_errors=True))


BANK = """
import sys, time
from sourcematters import confounders
from sourcematters.training import image_bank
from sourcematters.cohorts import tables
cohort, tag = tables.read_csv(sys.argv[1]), confounders.Tag()
renderings = [image_bank.Rendering(alteration=how) for how in (tag.base, tag.carrier, confounders.Denoising().carrier)]
start = time.perf_counter()
image_bank.build(cohort, renderings, sys.argv[2], workers=int(sys.argv[3]))
print(time.perf_counter() - start)
"""


def bank_seconds(cohort: Path, folder: Path, workers: int) -> float:
    """Seconds of building banks in a process that, as a notebook's, has no script which its workers would read."""
    command = [sys.executable, "-P", "-c", BANK, str(cohort), str(folder), str(workers)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def growth(stage: str, ways: dict[int, Callable[[], object]], **options: object) -> None:
    """Print a stage's seconds at each number of images, and the exponent of the power that fits them."""
    median = in_turn(ways, **options).median()
    exponent = np.polyfit(np.log(median.index.to_numpy(float)), np.log(median), 1)[0]
    line = ", ".join(f"{n:,}: {1e3 * seconds:,.1f} ms" for n, seconds in median.items())
    print(f"(e) {stage}: {line}; exponent {exponent:.2f} (target <= 1.05)", flush=True)


def generated(n: int) -> pd.DataFrame:
    """A table of `n` images of n / 4 patients."""
    ids = [f"{i:08d}.png" for i in range(n)]
    patients = [f"patient {i // 4}" for i in range(n)]
    labels = np.random.default_rng(0).integers(0, 2, n)
    return pd.DataFrame({"image_id": ids, "path": ids, "patient_id": patients, "label": labels})


def verified_split(nih: Path | None) -> pd.DataFrame:
    """All of ChestX-ray14's metadata (or as many generated rows), checked, split, and no patient in two parts."""
    if nih:
        table = nih_cxr14.read_metadata(nih)
        table = table.assign(path=table["image_id"], label=(table["findings"] != nih_cxr14.NO_FINDING).astype(int))
    else:
        table = generated(112_120)
    table = tables.split_by_patient(tables.check(table, origin="metadata"), seed=0)
    assert len(table) == 112_120 and not tables.shared_patients(table)
    return table


def part_f(options: argparse.Namespace) -> None:
    """One ResNet50 step at the paper's sizes, each in a process of its own, on all cores."""
    spawn = multiprocessing.get_context("spawn")
    for size, batch, seconds, gib in ((512, 32, 28, 9), (256, 64, 14.6, 4.7)):
        print(f"(f) target: at most {seconds} s and {gib} GiB", flush=True)
        for again in (False, True):
            process = spawn.Process(target=paper_step, args=(size, batch, again))
            process.start()
            process.join()


def paper_step(size: int, batch: int, again: bool) -> None:
    """Time steps in bf16 and print the process's peak memory (its unit is bytes on macOS, KiB elsewhere)."""
    settings = Training(size=size, batch_size=batch, precision="bf16")
    with as_runs_do():
        torch.set_num_threads(cores())
        model = network("resnet50", settings).train()
        if again:
            memory.recompute(model.backbone)
        optimizer, batch_of_noise = fine_tuning.optimizer_for(model, settings), constant(size, batch)
        steps = {"step": partial(fine_tuning.step, model, optimizer, *batch_of_noise, settings)}
        seconds = in_turn(steps)["step"].median()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    print(
        f"(f) ResNet50, {size} px, batch {batch}, bf16, {cores()} threads{', recompute' if again else ''}: "
        f"{seconds:.1f} s a step, peak {peak:.2f} GiB",
        flush=True,
    )


PAPERS_GRID = 3 * 4 * 6 * 5 * 7
"""Fine-tunings: sources x backbones x strengths x folds x panels."""


def part_g(options: argparse.Namespace) -> None:
    """What a GPU does: its rounding, ResNet50 at the paper's sizes against the floor, small runs at once."""
    if not torch.cuda.is_available():
        print("(g) skipped, TF32 neither proved on nor off: torch finds no CUDA device here")
        return
    card = torch.device("cuda")
    print(f"(g) {torch.cuda.get_device_name(card)}, multiplies {1e-12 * multiplies(card):.0f}e12 operations/s in bf16")
    proof_of_rounding(card)
    for size, batch in ((512, 32), (256, 64)):
        gpu_step(card, "resnet50", Training(size=size, batch_size=batch, epochs=1, precision="bf16"), 20)
    small = Training(size=64, batch_size=16, epochs=20, patience=20, precision="bf16")
    at_once(card, "test_resnet", small)


PRODUCTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Callable]] = {
    "matrix product": ((1024, 1024), (1024, 1024), torch.matmul),
    "convolution": ((16, 64, 56, 56), (64, 64, 3, 3), partial(torch.nn.functional.conv2d, padding=1)),
}
"""Shapes of two factors, and how they are multiplied; the convolution is one of ResNet50's."""


def rounding_error(device: torch.device, precision: str, product: str) -> float:
    """Relative error (Frobenius norm) of a product in single precision against the same in double, on `device`.

    Inputs in fp32 have 24 bits, 6e-8 of rounding each; TF32 keeps 11, 5e-4. So about 1e-7 is fp32, and 3e-4 is TF32.
    """
    one, other, multiply = PRODUCTS[product]
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(shape, generator=generator).to(device) for shape in (one, other))
    with devices.rounding(precision):
        found = multiply(left, right).double()
    exact = multiply(left.double(), right.double())
    return float((found - exact).norm() / exact.norm())


def proof_of_rounding(device: torch.device) -> None:
    """Print the errors of both products in fp32 and tf32, and whether they are what the names say."""
    for product in PRODUCTS:
        errors = {precision: rounding_error(device, precision, product) for precision in ("fp32", "tf32")}
        # An older card has no TF32, and the two are the same there.
        told = "TF32 is off in fp32" if errors["fp32"] < 1e-5 else "TF32 IS ON IN FP32"
        told += ", on in tf32" if errors["tf32"] > 1e-4 else ", not used in tf32 either"
        print(f"(g) {product}: relative error {errors['fp32']:.1e} in fp32, {errors['tf32']:.1e} in tf32: {told}")


def multiplies(device: torch.device, n: int = 8192) -> float:
    """Operations a second of one large bf16 matrix product: what the card reaches where nothing is in its way."""
    one, other = torch.randn(2, n, n, dtype=torch.bfloat16, device=device)

    def product() -> None:
        _ = one @ other
        torch.cuda.synchronize(device)

    seconds = in_turn({"product": product})["product"].median()
    return 2 * n**3 / seconds


def gpu_step(device: torch.device, backbone: str, settings: Training, steps: int) -> None:
    """Fine-tuning against the floor, then one step, eager and compiled, and what follows from it for the grid."""
    n, title = steps * settings.batch_size, f"(g) {backbone}, {settings.size} px"
    against_floor(title, backbone, settings, n, 4, device, target="<= 1.03")
    with as_runs_do(device):
        batch = constant(settings.size, settings.batch_size, device)
        ways = {}
        for compiled in (True, False):
            model = network(backbone, settings, device).train()
            if compiled:
                model.compile()
            optimizer = fine_tuning.optimizer_for(model, settings)

            def many(model=model, optimizer=optimizer) -> None:
                for _ in range(steps):
                    loss = fine_tuning.step(model, optimizer, *batch, settings)
                float(loss)

            ways["compiled" if compiled else "eager"] = many
        seconds = compare(f"    {steps} steps", ways, "none") / steps
    operations = devices.step_operations(backbone, settings)
    share = operations / seconds / multiplies(device)
    # 248 of the lung masses' images train and validate; a forward pass costs a third of a step, so this is an
    # upper limit, and early stopping makes it far less.
    hours = PAPERS_GRID * 200 * 248 / settings.batch_size * seconds / 3600
    print(
        f"    {1e3 * seconds:.1f} ms a step, {settings.batch_size / seconds:.0f} images/s, {100 * share:.0f} % of what "
        f"the card multiplies; {PAPERS_GRID} fine-tunings of 200 epochs on 248 images: at most {hours:.0f} h",
        flush=True,
    )


def at_once(device: torch.device, backbone: str, settings: Training, runs: int = 8) -> None:
    """The same small runs one after the other, and several at once."""
    workers = devices.runs_at_once(backbone, settings, device)
    fit = partial(small_fit, backbone=backbone, settings=settings, device=device)
    ways = {
        f"{w} at once": lambda w=w: list(over_processes(fit, list(range(runs)), w)) for w in sorted({1, 2, 4, workers})
    }
    seconds = in_turn(ways, rounds=3).median()
    told = ", ".join(f"{name}: {s:.1f} s" for name, s in seconds.items())
    print(f"(g) {runs} runs of {backbone}, {settings.size} px ({told}; workers 0 would take {workers})", flush=True)


def small_fit(number: int, backbone: str, settings: Training, device: torch.device) -> None:
    """One small fine-tuning."""
    sets = pd.concat([one_set(480, "train"), one_set(85, "val", 480)])
    with as_runs_do(device):
        model = network(backbone, settings, device)
        fine_tuning.fine_tune(model, random_banks(565, settings.size), sets, settings, seed=number, device=device)


@cache
def _drawn(folder: Path, n: int, size: int) -> pd.DataFrame:
    folder.mkdir(exist_ok=True)
    table = phantoms.population(0, n)[:n]
    table = table.assign(path=[str(folder / f"{i}-{size}.png") for i in table["image_id"]])
    for row in table.itertuples():
        drawn = phantoms.draw(0, row.patient_id, row.image_id, sex=row.sex, lesion=bool(row.label), size=size)
        Image.fromarray(drawn).save(row.path)
    return table


def radiographs(options: argparse.Namespace, n: int, size: int = 1024) -> pd.DataFrame:
    """A cohort of `n` PNGs: of ChestX-ray14 where its folder was given, else phantoms."""
    if options.nih and size == 1024:
        table = nih_cxr14.cohort(options.nih, finding="Pneumonia").table
        return table.groupby("label").head(n // 2).drop(columns="split").reset_index(drop=True)
    return tables.check(_drawn(options.scratch / "phantoms", n, size), origin="phantoms")


def machine() -> str:
    """The processor, its cores and what they do besides, the threads and the versions."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    name = names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}, {cores()} cores{load}, {torch.get_num_threads()} torch threads, torch {torch.__version__}"


def main() -> None:
    """Measure what was asked for."""
    parts = {"a": part_a, "b": part_b, "c": part_c, "d": part_d, "e": part_e, "f": part_f, "g": part_g}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=parts, help="only this part")
    parser.add_argument("--nih", type=Path, metavar="FOLDER", help="a ChestX-ray14 folder, with some images")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where results/demo was made")
    parser.add_argument(
        "--busy", action="store_true", help="a, b, e: processor instead of wall seconds of training, on a busy machine"
    )
    options = parser.parse_args()
    options.clock = time.process_time if options.busy else time.perf_counter
    os.environ["SOURCEMATTERS_HEADLESS"] = "1"
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        options.scratch = Path(scratch)
        for name, part in parts.items():
            if options.part in (None, name):
                part(options)
    print(machine(), flush=True)


if __name__ == "__main__":
    main()
