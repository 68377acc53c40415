"""What the sample of profile `nih-sample` gives away without a lung being read: prints it.

    python tests/benchmarks/sample.py [FOLDER]

FOLDER is that of the profile's `data` if it is left out. Each AUC is of scores that were made without the patient's own
images, in five folds by patient.
"""

import sys

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from sourcematters.cohorts.pixels import read
from sourcematters.sources import resolve
from sourcematters.study.study import Study
from sourcematters.training.classifier import Classifier, reproducible
from sourcematters.training.image_bank import Rendering, render
from sourcematters.training.proof import probe

GREYS = 32


def main(*folder: str) -> None:
    """Print a line for each way to tell the classes apart."""
    study = Study("nih-sample", {"data": folder[0]} if folder else {})
    table, asked = study.cohort.table, study.settings
    label, patients = table["label"].to_numpy(), table["patient_id"]
    numbers = patients.astype(int)
    low, high = numbers[label == 0].agg(["min", "max"])
    inside = int(numbers[label == 1].between(low, high).sum())
    print(f"patients of label 0: numbers {low} to {high}; of {(label == 1).sum()} images with label 1: {inside}")

    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    histograms = np.array([np.bincount(read(p).ravel() // (256 // GREYS), minlength=GREYS) for p in table["path"]])
    shares = histograms / histograms.sum(axis=1, keepdims=True)
    for what, features in (("patient's number", numbers.to_frame()), (f"histogram of {GREYS} greys", shares)):
        scores = cross_val_predict(
            RandomForestClassifier(300, random_state=0), features, label, groups=patients, cv=folds,
            method="predict_proba",
        )  # fmt: skip
        print(f"AUC of the {what} alone: {roc_auc_score(label, scores[:, 1]):.2f}")

    how = Rendering(size=asked.size, interpolation=asked.interpolation)
    images = np.stack([render(p, i, [how])[0] for p, i in zip(table["path"], table["image_id"], strict=True)])
    with reproducible(0, torch.device("cpu")), torch.inference_mode():
        model = Classifier(resolve("random", asked.backbone), asked.backbone, size=asked.size).eval()
        features = torch.cat([model.features(torch.from_numpy(part[:, None])) for part in np.array_split(images, 30)])
    print(f"AUC of an untrained {asked.backbone}'s features: {probe(features.numpy(), label, patients.tolist()):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
