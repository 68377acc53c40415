"""A cohort of radiographs that the package draws itself (see `sourcematters.phantoms`)."""

import hashlib
import json
from functools import partial
from pathlib import Path

from PIL import Image

from sourcematters import files
from sourcematters.cohorts import Cohort, Reader, Request, register, tables
from sourcematters.cohorts.cohort import COLUMNS, check, split_by_patient
from sourcematters.demo import phantoms
from sourcematters.processes import over_processes, progress

IMAGES_A_TASK = 32
DISCLAIMER = "Phantoms drawn by the package: they show a mechanism and are no evidence about real images."
CAUTION = "phantoms, not patients"


def cohort(
    root: str | Path,
    *,
    patients: int,
    seed: int,
    size: int = 256,
    test_fraction: float = 0.25,
    workers: int = 1,
) -> Cohort:
    """Draw the phantoms that are not yet below `root`; return their cohort table (task "lesion").

    Each setting has its own folder, `root/phantoms-<hash of the settings and of the drawing code>`, so one
    drawn otherwise is never taken for this one. It holds 8-bit grey PNGs of `size` x `size`, `phantoms.csv`
    (a cohort table) and `phantoms.json` (the settings). An interrupted drawing goes on where it was.

    Raises StudyError when the settings make no cohort, or when the folder cannot be written.
    """
    settings = {"patients": patients, "seed": seed, "size": size, "test_fraction": test_fraction}
    settings["drawing"] = files.sha256(phantoms.__file__)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    folder = Path(root).absolute() / f"phantoms-{digest}"
    population = phantoms.population(seed, patients)
    table = population.assign(path=[str(folder / "images" / f"{i}.png") for i in population["image_id"]])
    table = check(table, origin=f"{patients} phantoms")
    table = split_by_patient(table, test_fraction=test_fraction, seed=seed, strata=["sex"])
    table = table[[*COLUMNS, *(c for c in table if c not in COLUMNS)]]
    missing = table[[not Path(path).exists() for path in table["path"]]]
    rows = list(missing[["path", "patient_id", "image_id", "sex", "label"]].itertuples(index=False, name=None))
    chunks = [rows[i : i + IMAGES_A_TASK] for i in range(0, len(rows), IMAGES_A_TASK)]
    files.write_json(folder / "phantoms.json", settings)
    with progress(total=len(table), initial=len(table) - len(rows), desc="phantoms", unit="image") as bar:
        for chunk, _ in over_processes(partial(_draw, seed=seed, size=size), chunks, workers):
            bar.update(len(chunk))
    tables.write_csv(folder / "phantoms.csv", table)
    return Cohort(table, "phantoms", "lesion", str(folder / "phantoms.csv"), [DISCLAIMER], caution=CAUTION)


@register
class Phantoms(Reader):
    """Radiographs that the package draws itself."""

    name = "phantoms"
    help = "the word phantoms: radiographs that are drawn; task lesion"
    tasks = ("lesion",)

    def claims(self, data: str) -> bool:
        """Whether it is that word."""
        return data == self.name

    def open(self, request: Request) -> Cohort:
        """`cohort` of the request's values."""
        names = ("patients", "seed", "size", "test_fraction", "workers")
        return cohort(request.cache, **{name: getattr(request, name) for name in names})


def _draw(rows: list[tuple[str, str, str, str, int]], *, seed: int, size: int) -> None:
    for path, patient_id, image_id, sex, label in rows:
        image = phantoms.draw(seed, patient_id, image_id, sex=sex, lesion=bool(label), size=size)
        with files.replacing(path) as beside:
            Image.fromarray(image).save(beside, compress_level=1)
