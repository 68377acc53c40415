"""Measure every number of notebooks/DIFFERENCES.md: how far this software is from the paper, and what it costs.

    python tests/benchmarks/differences.py                      # closed forms and phantoms: 6 seconds
    python tests/benchmarks/differences.py --images FOLDER      # pixels of real radiographs too (1024 px PNGs)
    python tests/benchmarks/differences.py --splits FOLDER --nih FOLDER    # the authors' split files, and ours
    python tests/benchmarks/differences.py --lidc ZIP           # the nodules of LIDC-IDRI's annotations
    python tests/benchmarks/differences.py --fit                # 18 small fine-tunings, ResNet50's biases: 4 minutes
    python tests/benchmarks/differences.py ... --write          # put the numbers into the page

FOLDERs: ChestX-ray14's images; data/chest14 of https://github.com/DovileDo/source-matters; a ChestX-ray14 folder with
NIH's table and the expert labels (see the README); LIDC-XML-only.zip. All together take five minutes on one core.

One function a group of rows; each returns name -> number. On the page a number is followed by its name in a comment,
`0.45<!-- shear_px -->`, so that the page and what is measured cannot drift apart (tests/test_differences.py;
but for `fit` and `folded_biases`, which take too long there, and whose digits depend on the processor).
"""

import argparse
import itertools
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import scipy.fft
import scipy.ndimage
import scipy.stats
from PIL import Image, ImageDraw

from sourcematters import confounders, metrics
from sourcematters.cohorts import cohort as tables
from sourcematters.cohorts import paper_tasks
from sourcematters.cohorts import published_splits as split_files
from sourcematters.cohorts.lidc import lidc_xml, nodules
from sourcematters.cohorts.lidc.lidc_xml import Annotations
from sourcematters.cohorts.pixels import read
from sourcematters.confounders import design
from sourcematters.confounders.noise import poisson_noise
from sourcematters.demo import phantoms
from sourcematters.results import diagrams, published, statistics
from sourcematters.training.image_bank import INTERPOLATIONS
from sourcematters.training.recipe import Training

PAGE = Path(__file__).parents[2] / "notebooks" / "DIFFERENCES.md"
NUMBER = re.compile(r"([^\s(|,]+)<!-- (\w+) -->")
SIZE, NETWORK = 1024, 512  # px: a radiograph of ChestX-ray14, and what the paper's network sees of it
N0, N0_HIGH = 2e7, 1.5e7


def tag() -> dict[str, float]:
    """The letter in a 1024 px image: width and height in px, pixels touched, ink (the sum of its coverage, in px)."""
    drawn, mask = confounders.Tag().draw(np.zeros((SIZE, SIZE), np.uint8), 0)
    rows, columns = np.nonzero(mask)
    found = {"tag_width": np.ptp(columns) + 1, "tag_height": np.ptp(rows) + 1, "tag_pixels": mask.sum()}
    return found | {"tag_ink": drawn.sum() / 255}


def tag_of_the_light_font() -> dict[str, float]:
    """The letter as the authors' code draws it where its font search finds DejaVu Sans ExtraLight; else nothing."""
    from matplotlib import font_manager
    from PIL import ImageFont

    path = font_manager.findfont(font_manager.FontProperties(family="sans-serif", weight="light"))
    if Path(path).name != "DejaVuSans-ExtraLight.ttf":
        return {}
    canvas = Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(canvas).text((200, 200), "R", font=ImageFont.truetype(path, 64), fill=255)
    rows, columns = np.nonzero(np.asarray(canvas))
    found = {"light_width": np.ptp(columns) + 1, "light_height": np.ptp(rows) + 1, "light_pixels": len(rows)}
    ink = np.asarray(canvas).sum() / 255
    return found | {"light_ink": ink, "ink_ratio": tag()["tag_ink"] / ink}


def disc() -> dict[str, float]:
    """Frequencies that Pillow's disc of diameter 500 keeps and ours, x^2 + y^2 <= 250^2, does not."""
    index = np.arange(SIZE) - SIZE // 2
    ours = index[:, None] ** 2 + index[None, :] ** 2 <= 250**2
    return {"disc_bins": ours.sum(), "disc_more": (_disc().astype(bool) & ~ours).sum()}


def _disc() -> np.ndarray:
    image = Image.new("L", (SIZE, SIZE))
    middle = SIZE / 2
    ImageDraw.Draw(image).ellipse((middle - 250, middle - 250, middle + 250, middle + 250), fill=1)
    return np.asarray(image)


def arithmetic() -> dict[str, float]:
    """Closed forms of the fine-tuning: shear in px at the edge of 512 px, epsilons, the loss's cap, initializations."""
    from sourcematters.sources import create

    norms = [m for m in create("resnet50", size=None).modules() if type(m).__name__.startswith("BatchNorm")]
    return {
        "shear_px": np.sin(np.deg2rad(0.1)) * NETWORK / 2,
        # Keras adds epsilon before the correction of the second moment, torch after it.
        "adam_epsilon_first": 1e-7 / np.sqrt(1 - 0.999),
        "adam_epsilon_last": 1e-7 / np.sqrt(1 - 0.999 ** (200 * 8)),
        "loss_cap": -np.log(1e-12),
        "norms": len(norms),
        "norms_at_zero": sum(bool((m.weight == 0).all()) for m in norms),
        # A 3 x 3 convolution with as many channels in as out: Glorot 2 / (in + out), timm (Kaiming) 2 / out.
        "glorot_to_kaiming_sd": np.sqrt(1 / 2),
    }


def aucs() -> dict[str, float]:
    """The two kinds of AUC on 52 negatives and 31 positives (the last pair of many): constant, sure, shifted by -3."""
    constant = pd.DataFrame({"label": [0] * 52 + [1] * 31, "score": 0.3})
    example = diagrams.binormal(negatives=5200, positives=3100, auc=0.92)
    logits = np.log(example["score"] / (1 - example["score"]))
    shifted = example.assign(score=1 / (1 + np.exp(3 - logits)))
    sure = pd.DataFrame({"label": [0] * 52 + [1] * 31, "score": np.linspace(0.9990, 0.9999, 83)})
    return {
        "constant_auc": metrics.auc(constant),
        "constant_keras": metrics.auc_keras(constant),
        "plain_keras": metrics.auc_keras(example),
        "plain_auc": metrics.auc(example),
        "shifted_auc": metrics.auc(shifted),
        "shifted_keras": metrics.auc_keras(shifted),
        "sure_auc": metrics.auc(sure),
        "sure_keras": metrics.auc_keras(sure),
        "keras_compared": _compared(),
    }


def _compared(draws: int = 200) -> float:
    """How far Keras's AUC gets, at most, if scores of k / 199 are compared with its thresholds instead of counted."""
    labels, limits = np.array([0] * 52 + [1] * 31), np.float32([-1e-7, *(np.arange(1, 199) / 199), 1 + 1e-7])
    truth, apart = np.concatenate([1 - labels, labels]).astype(bool), []
    for seed in range(draws):
        score = (np.random.default_rng(seed).integers(0, 200, 83) / 199).astype(np.float32)
        column = np.concatenate([1 - score, score])
        hits, alarms = ((column[truth == side] > limits[:, None]).mean(axis=1) for side in (True, False))
        compared = np.sum((alarms[:-1] - alarms[1:]) * (hits[:-1] + hits[1:]) / 2)
        apart.append(compared - metrics.auc_keras(pd.DataFrame({"label": labels, "score": score})))
    return float(np.abs(apart).max())


def tests() -> dict[str, float]:
    """The 18 published permutation tests: floor, what Holm leaves; false alarms at 5 folds, in % (statistics.md)."""
    false = pd.read_csv(Path(statistics.__file__).with_name("false_alarms.csv")).query("folds == 5")
    false = false[~false["null"].str.contains("anew")]
    table = published.table("tests").assign(floor=2 / 252, family="published")
    holm = statistics.holm(table.rename(columns={"p_permutation": "p"}), by=["family"])
    return {
        "tests": len(holm),
        "p_floor": 2 / 252,
        "p_floor_4_folds": 2 / 70,
        "tests_at_floor": (holm["p"] < 2.01 / 252).sum(),
        "tests_below_05": (holm["p"] < 0.05).sum(),
        "holm_floor": holm["floor_holm"].iloc[0],
        "holm_below_05": (holm["p_holm"] < 0.05).sum(),
        "tests_with_4_folds": (holm["n_imagenet_folds"] == 4).sum(),
        "paper_wrong": 100 * false["paper"].max(),
        "primary_wrong": 100 * false["primary"].max(),
    }


def published_numbers() -> dict[str, float]:
    """What the published numbers say of each other: the gender gap in points of AUC, folds against figures."""
    folds = published.table("folds").groupby(["panel", "test_set", "source", "p_art"])["auc"].mean()
    means = published.table("means").set_index(["panel", "test_set", "source", "p_art"])
    strengths = (0.1, 0.2, 0.5, 0.8, 1.0)
    gaps = {
        p: means["mean_auc"]["gender", "ood", "RadImageNet", p] - folds["gender", "ood", "ImageNet", p]
        for p in strengths
    }
    off = (folds - means["mean_auc"].reindex(folds.index)).abs()
    noise = off.xs("noise_xray")
    random = np.random.default_rng(0)
    ratios = []
    for _, part in published.table("folds").groupby(["panel", "p_art"]):
        values = part["auc"].to_numpy()
        resampled = random.choice(values, (1000, len(values))).mean(axis=1)  # as seaborn draws its bands
        low, high = np.percentile(resampled, [2.5, 97.5])
        student = 2 * scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        ratios.append(student / (high - low))
    return {
        "gender_gap_80": 100 * gaps[0.8],
        "gender_gap": 100 * np.mean(list(gaps.values())),
        "noise_folds": folds["noise_xray", "ood", "ImageNet", 1.0],
        "noise_figure": means["mean_auc"]["noise_xray", "ood", "ImageNet", 1.0],
        "noise_off": noise.max(),
        "interval_ratio": np.mean(ratios),
        "others_off": off.drop("noise_xray").max(),
    }


def pixels(images: list[np.ndarray], prefix: str) -> dict[str, float]:
    """Grey levels that filter, noise and resizing change in 1024 px images, means over them; `prefix` names them."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(f"{prefix}_{name}", []).append(float(value))

    for key, image in enumerate(images):
        exact = image.astype(float)
        ours, _ = confounders.Denoising().draw(image, 0)
        note("truncation", confounders.Denoising(truncate=True).draw(image, 0)[0].mean() - ours.mean())
        note("filter_diameter", np.abs(ours - exact).mean())
        note("filter_radius", np.abs(confounders.Denoising(diameter=1000).draw(image, 0)[0] - exact).mean())
        half = _resize(image, "antialias").astype(np.uint8)
        note("filter_512", np.abs(confounders.Denoising().draw(half, 0)[0] - half.astype(float)).mean())
        note("filter_disc", np.abs(ours - _drawn_disc(exact).astype(float)).mean())
        seen = {how: _resize(ours, how) - _resize(image, how) for how in INTERPOLATIONS}
        for how, change in seen.items():
            note(f"filter_seen_{how}", np.abs(change).mean())
        note("filter_energy", 100 * (seen["antialias"] ** 2).sum() / (seen["nearest"] ** 2).sum())
        means = np.rint(exact.reshape(NETWORK, 2, NETWORK, 2).mean(axis=(1, 3))).astype(np.uint8)
        note("resize", np.abs(_resize(image, "nearest") - means).mean())
        noisy, _ = poisson_noise(image, key, n0=N0)
        note("noise_nearest", (_resize(noisy, "nearest") - _resize(image, "nearest")).std())
        note("noise_antialias", (_resize(noisy, "antialias") - _resize(image, "antialias")).std())
        note("noise_resized_first", (poisson_noise(means, key, n0=N0)[0] - means.astype(float)).std())
        high, _ = poisson_noise(image, key, n0=N0_HIGH)
        note("noise_high", (_resize(high, "nearest") - _resize(image, "nearest")).std())
    return {name: float(np.mean(values)) for name, values in found.items()}


def _resize(image: np.ndarray, how: str) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((NETWORK, NETWORK), INTERPOLATIONS[how])).astype(float)


def _drawn_disc(image: np.ndarray) -> np.ndarray:
    """The filter with its disc drawn by Pillow, as the authors do, instead of computed."""
    smooth = scipy.fft.ifft2(scipy.fft.fft2(image) * scipy.fft.ifftshift(_disc())).real
    return np.rint(np.clip(smooth, 0, 255))


def augmentation(image: np.ndarray) -> dict[str, float]:
    """Grey levels between our augmentation and the same maps by SciPy (as Keras does it), without and with shear."""
    import torch

    from sourcematters.seeds import keys
    from sourcematters.training.batches import affine_matrices, augment

    small = np.asarray(Image.fromarray(image).resize((NETWORK, NETWORK), INTERPOLATIONS["antialias"]))
    names = [f"image {k}" for k in range(4)]
    matrices = affine_matrices(keys(0, names, "augment"), Training(), 0)
    ours = augment(torch.from_numpy(np.stack([small] * 4)).unsqueeze(1), matrices)[:, 0].numpy()
    centre = (NETWORK - 1) / 2
    angle = np.deg2rad(0.1)
    shear = np.array([[1, -np.sin(angle)], [0, np.cos(angle)]])
    off, sheared = [], []
    for matrix, drawn in zip(matrices.numpy().astype(float), ours, strict=True):
        linear, shift = matrix[:, :2], matrix[:, 2] * NETWORK / 2

        def by_scipy(linear: np.ndarray, shift: np.ndarray = shift) -> np.ndarray:
            turned, moved = linear[::-1, ::-1], shift[::-1]  # x, y to row, column
            offset = moved + centre - turned @ [centre, centre]
            return scipy.ndimage.affine_transform(small.astype(float), turned, offset, order=1, mode="nearest")

        zoom = np.linalg.norm(linear, axis=0)
        plain = by_scipy(linear)
        off.append(np.abs(plain - drawn).mean())
        sheared.append(np.abs(by_scipy((linear / zoom) @ shear @ np.diag(zoom)) - plain).mean())
    return {"augmentation_off": np.mean(off), "shear_change": np.mean(sheared)}


def splits(folder: Path, nih: Path) -> dict[str, float]:
    """The authors' split files beside our own splits: sizes, classes, patients, carriers."""
    theirs, _ = split_files.read(folder, split_files.LUNG_MASS)
    gender, _ = split_files.read(folder, split_files.GENDER)
    found: dict[str, float] = {}
    test = theirs[theirs["split"] == "test"]
    found |= {"test_negatives": (test["label"] == 0).sum(), "test_positives": (test["label"] == 1).sum()}
    columns = tables.fold_columns(theirs)
    shares = [100 * theirs.loc[theirs[column] == "val", "label"].mean() for column in columns]
    found["val_positives_low"] = min(theirs.loc[theirs[column] == "val", "label"].sum() for column in columns)
    found["val_positives_high"] = max(theirs.loc[theirs[column] == "val", "label"].sum() for column in columns)
    sizes = [int((theirs[column] == "val").sum()) for column in columns]
    trains = [int((theirs[column] == "train").sum()) for column in columns]
    found |= {"val_low": min(sizes), "val_high": max(sizes)}
    found |= {"val_share_low": min(shares), "val_share_high": max(shares)}
    found |= {"dev_share": 100 * theirs.loc[theirs["split"] == "dev", "label"].mean()}
    found |= {"test_share": 100 * test["label"].mean(), "last_batch": min((n - 1) % 32 + 1 for n in trains)}
    vals = [set(theirs.loc[theirs[column] == "val", "image_id"]) for column in columns]

    ours = [paper_tasks.listed(nih, task="lung-mass", seed=seed).table for seed in range(5)]
    tests = [table[table["split"] == "test"] for table in ours]
    found |= {"our_test_negatives": np.mean([(t["label"] == 0).sum() for t in tests])}
    found |= {"our_test_positives": np.mean([(t["label"] == 1).sum() for t in tests])}
    parts = [(table, design.fold_parts(table, fold=fold)) for table in ours for fold in range(5)]
    shares = [100 * table.loc[part == "val", "label"].mean() for table, part in parts]
    found |= {"our_val_share_low": min(shares), "our_val_share_high": max(shares)}
    theirs_in = [set(theirs.loc[theirs[column] == "train", "image_id"]) for column in columns]
    found |= {"val_shared": _shared([vals]), "train_shared": _shared([theirs_in])}

    def of_ours(part: str) -> list[list[set[str]]]:
        sets = [set(table.loc[fold == part, "image_id"]) for table, fold in parts]
        return [sets[k : k + 5] for k in range(0, len(sets), 5)]  # the folds of one seed, which alone are compared

    found |= {"our_val_shared": _shared(of_ours("val")), "our_train_shared": _shared(of_ours("train"))}

    # The authors draw round(p * 99) carriers of all positives, those of the test and of every part included.
    positives = int(theirs["label"].sum())
    part = theirs.loc[theirs["label"] == 1, columns[0]].value_counts()
    half = scipy.stats.hypergeom(positives, round(0.5 * positives), part["train"])
    tenth = scipy.stats.hypergeom(positives, round(0.1 * positives), part["val"])
    found |= {"train_positives": part["train"], "val_positives": part["val"]}
    found |= {"carriers_sd": half.std(), "val_without_carrier": 100 * tenth.pmf(0)}

    leaks = tables.leaks(gender)["patients"]
    found |= {"leak_low": leaks.min(), "leak_high": leaks.max()}
    found |= {"gender_images": len(gender), "gender_patients": gender["patient_id"].nunique()}
    found["gender_most_images"] = gender["patient_id"].value_counts().max()
    own = paper_tasks.listed(nih, task="atelectasis-gender", seed=0).table
    found |= {"our_gender_images": len(own), "our_gender_patients": own["patient_id"].nunique()}
    women = {}
    for p in (0.2, 0.5):
        used = gender[gender[tables.fold_column(0, p)].isin(["train", "val"]) & (gender["label"] == 1)]
        listed = paper_tasks.listed(nih, task="atelectasis-gender", splits=folder).table
        sex = listed.set_index("image_id")["sex"]
        women[p] = {name for name in used["image_id"] if sex[name] == "F"}
    found["gender_nested"] = 100 * len(women[0.2] & women[0.5]) / len(women[0.2])
    return found


def _shared(groups: list[list[set[str]]]) -> float:
    """How much of a set is in another of its group, in percent, on average."""
    return 100 * np.mean([len(a & b) / len(a) for group in groups for a, b in itertools.permutations(group, 2)])


def lidc(annotations: Annotations) -> dict[str, float]:
    """The nodules of 3 mm or more in LIDC-IDRI's annotations, as outlines that share a pixel make them; by readers."""
    readers = [group.readers for read in annotations.reads for group in nodules.group(read)]
    return {
        "lidc_nodules": len(readers),
        "lidc_by_1": readers.count(1),
        "lidc_by_2": readers.count(2),
        "lidc_by_3": readers.count(3),
        "lidc_by_4": readers.count(4),
        "lidc_agreed": readers.count(3) + readers.count(4),
    }


def folded_biases(backbone: str = "resnet50", size: int = 64, steps: int = 40) -> dict[str, float]:
    """What biases of convolutions do in evaluation, once Adam has moved them: relative change of the features.

    In training the batch's mean takes a bias away. So its gradient is a rounding error, which Adam divides by its own
    size, up to its epsilon: the bias walks by up to the learning rate in each step. In evaluation the running mean
    lags behind it. A network without biases is the same one with each bias in the place where the running mean has it.
    Untrained weights, noise in batches of 16, momentum .01; at the learning rates 1e-3 and 1e-5.
    """
    import torch
    from torch.nn import functional

    from sourcematters.sources import create
    from sourcematters.training.classifier import reproducible, set_bn_momentum

    def change(learning_rate: float) -> float:
        with reproducible(0, torch.device("cpu")):
            network = create(backbone, size=size, zero_init_last=False)  # Keras starts no normalization at 0
            head = torch.nn.Linear(network.num_features, 2)
            convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
            for each in convolutions:
                each.bias = torch.nn.Parameter(torch.zeros(each.out_channels))
            set_bn_momentum(network, 0.01)
            lagging = [torch.zeros(each.out_channels) for each in convolutions]
            labels = torch.arange(64) % 2
            images = torch.randn(64, 3, size, size) + 0.3 * labels[:, None, None, None]
            optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=learning_rate, eps=1e-7)
            for _ in range(steps):
                for mean, each in zip(lagging, convolutions, strict=True):
                    mean.lerp_(each.bias.detach(), 0.01)
                chosen = torch.randperm(64)[:16]
                optimizer.zero_grad()
                functional.cross_entropy(head(network(images[chosen])), labels[chosen]).backward()
                optimizer.step()
            with torch.inference_mode():
                with_biases = network.eval()(images)
                for mean, each in zip(lagging, convolutions, strict=True):
                    each.bias.copy_(mean)
                without = network(images)
            return float((with_biases - without).norm() / without.norm())

    return {"biases_fast": change(1e-3), "biases_slow": change(1e-5)}


def fit() -> dict[str, float]:
    """What Adam's epsilon does to 6 small fits (64 px phantoms, clean test): 1e-7 instead of 1e-8.

    A fit amplifies any last digit, so the control is 1.001e-8. The mean AUC with 1e-8, then mean and standard
    deviation over the fits of how AUC changes by 1e-7 and by the control; `fit_seed_sd` is between seeds.
    """
    import torch

    from sourcematters.sources import resolve
    from sourcematters.training.batches import Pixels
    from sourcematters.training.classifier import Classifier, reproducible
    from sourcematters.training.fine_tuning import fine_tune, score

    cohort = tables.check(phantoms.population(0, 200).assign(path="-"), origin="phantoms")
    cohort = tables.split_by_patient(cohort, seed=0, strata=["sex"])
    rows = cohort[["patient_id", "image_id", "sex", "label"]].itertuples(index=False)
    base = np.stack([phantoms.draw(0, p, i, sex=s, lesion=bool(y), size=64) for p, i, s, y in rows])
    carrier = np.stack([confounders.Tag(height=128).draw(image, 0)[0] for image in base])
    chosen = design.sets(cohort, confounders.Tag(), p_art=0.5, fold=0, seed=0)
    training = Training(size=64, epochs=20, patience=20, learning_rate=1e-3, batch_size=16)
    clean, device, banks = chosen[chosen["part"] == "clean"], torch.device("cpu"), Pixels(base, carrier)

    torch_adam = torch.optim.Adam

    def scores(seed: int, epsilon: float) -> np.ndarray:
        def adam(parameters, **settings):
            return torch_adam(parameters, **settings | {"eps": epsilon})

        with reproducible(seed, device), mock.patch("torch.optim.Adam", adam):
            model = Classifier(resolve("random", "test_resnet"), "test_resnet", size=64)
            fine_tune(model, banks, chosen, training, seed=seed, device=device)
            return score(model, banks, clean, training, device=device)

    plain, keras, control = ([scores(seed, epsilon) for seed in range(6)] for epsilon in (1e-8, 1e-7, 1.001e-8))
    aucs = np.array([[metrics.auc(clean.assign(score=run)) for run in runs] for runs in (plain, keras, control)])
    return {
        "fit_auc": aucs[0].mean(),
        "fit_seed_sd": aucs[0].std(ddof=1),
        "fit_epsilon": (aucs[1] - aucs[0]).mean(),
        "fit_epsilon_sd": (aucs[1] - aucs[0]).std(ddof=1),
        "fit_control": (aucs[2] - aucs[0]).mean(),
        "fit_control_sd": (aucs[2] - aucs[0]).std(ddof=1),
    }


def drawn(count: int = 2) -> list[np.ndarray]:
    """Phantoms of 1024 px."""
    people = phantoms.population(0, 40).drop_duplicates("patient_id").head(count)
    rows = people[["patient_id", "image_id", "sex", "label"]].itertuples(index=False)
    return [phantoms.draw(0, p, i, sex=s, lesion=bool(y), size=SIZE) for p, i, s, y in rows]


def radiographs(folder: Path, count: int = 12) -> list[np.ndarray]:
    """Every so many-th of a folder's PNGs by name, those of 1024 px."""
    paths = sorted(folder.glob("*.png"))
    images = [read(path) for path in paths[:: max(1, len(paths) // count)][:count]]
    return [image for image in images if image.shape == (SIZE, SIZE)]


def without_data() -> dict[str, float]:
    """Everything that needs no data beside the package."""
    images = drawn()
    found = tag() | disc() | arithmetic() | aucs() | tests() | published_numbers()
    return found | pixels(images, "phantom") | augmentation(images[0])


def on_page() -> dict[str, str]:
    """Name -> number, as the page has it."""
    return {name: number for number, name in NUMBER.findall(PAGE.read_text())}


def said(value: float) -> str:
    """Three digits, or the whole of a whole number."""
    return f"{value:d}" if isinstance(value, int | np.integer) else f"{float(f'{value:.3g}'):.10g}"


def main() -> None:
    """Measure, print `name: value`, and write the page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("images", "splits", "nih", "lidc"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = without_data() | tag_of_the_light_font()
    if options.images:
        found |= pixels(radiographs(options.images), "real")
    if options.splits and options.nih:
        found |= splits(options.splits, options.nih)
    if options.lidc:
        found |= lidc(lidc_xml.read(options.lidc))
    if options.fit:
        found |= fit() | folded_biases()
    for name, value in found.items():
        print(f"{name}: {said(value)}")
    if options.write:
        text = NUMBER.sub(lambda m: f"{said(found[m[2]])}<!-- {m[2]} -->" if m[2] in found else m[0], PAGE.read_text())
        PAGE.write_text(text)
        print("not measured in this call:", ", ".join(name for name in on_page() if name not in found) or "none")


if __name__ == "__main__":
    main()
