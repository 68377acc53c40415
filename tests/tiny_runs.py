"""A cohort small enough that a fine-tuning takes a fraction of a second, and grids on it."""

import numpy as np
import pandas as pd
from PIL import Image

from sourcematters import checksums, confounders, metrics
from sourcematters.cohorts import Cohort
from sourcematters.files import write_csv, write_json
from sourcematters.runs import grids, run_folder, specs
from sourcematters.sources import Source
from sourcematters.training.recipe import Training

TINY = Training(size=32, epochs=3, patience=3, learning_rate=1e-3, batch_size=8, bn_momentum=0.1)
PAPER = Training()


def make_cohort(folder):
    """24 development and 8 test patients with 2 images each; positives are a little brighter."""
    rng = np.random.default_rng(0)
    rows = []
    for patient in range(32):
        for image in range(2):
            label = patient % 2
            path = folder / f"i{patient:02d}-{image}.png"
            pixels = rng.normal(90 + 12 * label, 25, (64, 64)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path)
            sex = "F" if patient // 2 % 2 else "M"
            split = "test" if patient >= 24 else "dev"
            rows.append((path.stem, str(path), f"p{patient:02d}", label, split, sex))
    table = pd.DataFrame(rows, columns=["image_id", "path", "patient_id", "label", "split", "sex"])
    return Cohort(table, name="made", task="brightness", origin="test")


def plan(cohort, workspace, *drawn, **changes):
    settings = dict(p_art=[0, 1], sources=["random"], backbone="test_resnet", folds=2, training=TINY, device="cpu")
    chosen = list(drawn) or [confounders.Tag(height=300)]
    return grids.plan(cohort, workspace, confounders=chosen, **{**settings, **changes})


def seem_done(folder, text=""):
    """Write what a run folder holds when it is done; every file holds `text`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in run_folder.FILES:
        (folder / name).write_text(text)
    checksums.seal(folder / "done", [folder / name for name in run_folder.FILES])


def files_of(workspace):
    """What must not depend on how a grid was run: everything but the environment's account."""
    root = workspace.shared("runs")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != "env.json" and ".locks" not in path.parts
    }


def planned(
    workspace, *, drawn=None, data="made", task="mass", digest="", images=40, p_art=(0, 0.5, 1), folds=2,
    sources=None, training=PAPER, **changes,
):  # fmt: skip
    """The plan of a grid of which nothing but specs and cohort is there: no network was trained."""
    digest = digest or f"{data}-{task}-{images}"
    rows = [(f"i{k}", f"i{k}", f"p{k}", k % 2, "dev" if k < images / 2 else "test") for k in range(images)]
    table = pd.DataFrame(rows, columns=["image_id", "path", "patient_id", "label", "split"])
    checksums.write_csv(workspace.shared("cohorts") / f"{digest}.csv", table)
    made = specs.grid(
        data=data, task=task, cohort=digest, confounders=drawn or [confounders.Tag()], p_art=p_art, folds=folds,
        sources=sources or [Source("random", "")], training=training, **{"backbone": "test_resnet", **changes},
    )  # fmt: skip
    for spec in made:
        write_json(workspace.run(spec) / "spec.json", {"id": spec.id, **spec.to_dict()})
    return grids.plan_table(made)


def finished(plan, workspace):
    """The results of a plan whose runs get predictions: i.i.d. of 24 images, o.o.d. and clean of 30, of 25 patients.

    At p_art = 0 all scores are alike. Else the i.i.d. test is right, the o.o.d. test wrong, the clean test half.
    """
    for row in plan.itertuples():
        folder, tests = workspace.shared("runs") / row.run_id, []
        for name, n, positives in (("iid", 24, 14), ("ood", 30, 20), ("clean", 30, 20)):
            label = np.arange(n) < positives
            right = {"iid": True, "ood": False, "clean": np.arange(n) % 2 == 0}[name]
            score = np.where(row.p_art > 0, np.where(label == right, 0.9, 0.1), 0.5)
            ids = [f"i{k}" for k in range(n)]
            people = [f"p{min(k, 24)}" for k in range(n)]
            tests.append(pd.DataFrame({"image_id": ids, "patient_id": people, "label": label * 1, "score": score}))
            tests[-1] = tests[-1].assign(test_set=name, carries=0)
        write_csv(folder / "predictions.csv", pd.concat(tests))
        write_csv(folder / "history.csv", pd.DataFrame({"epoch": [0], "train_loss": [0.6], "val_loss": [0.7]}))
        write_json(folder / "metrics.json", metrics.by_test_set(pd.concat(tests)).to_dict("records"))
        checksums.seal(folder / "done", list(folder.iterdir()))
    return grids.collect(plan, workspace)
