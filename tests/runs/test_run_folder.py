"""Run folders: what is read back from them."""

import pandas as pd

from sourcematters import checksums
from sourcematters.runs import run_folder

NAMES = ["NA", "nan", "None", "007", "7"]


def test_patients_are_read_back_as_they_are_called(tmp_path):
    folder = tmp_path / "0123456789ab"
    folder.mkdir()
    rows = {"image_id": NAMES, "patient_id": NAMES, "label": [0, 1, 0, 1, 0], "score": [0.1, 0.25, 1, 0, 1e-9]}
    pd.DataFrame(rows).to_csv(folder / "predictions.csv", index=False)
    for name in set(run_folder.FILES) - {"predictions.csv"}:
        (folder / name).write_text('{"id": "0123456789ab"}')
    checksums.seal(folder / "done", folder.iterdir())
    back = run_folder.predictions(folder, dtype={"image_id": str, "patient_id": str})
    assert back.to_dict("list") == rows
