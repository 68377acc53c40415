"""Every image's log-odds, plain and with each confounder: computed and kept, or read from tables made elsewhere."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit

from sourcematters import checksums
from sourcematters.audit.model.finished import Finished
from sourcematters.audit.model.outputs import CLIPPED
from sourcematters.cohorts.cohort import some
from sourcematters.cohorts.spelling import kind
from sourcematters.cohorts.tables import parse
from sourcematters.confounders import ORIGINAL, Alteration, Confounder
from sourcematters.errors import StudyError
from sourcematters.training.recipe import Preprocessing

COLUMNS = ["image_id", "patient_id", "label", "confounder", "variant", "logit"]
PLAIN = ""  # the confounder of images as they are
WITHOUT, GIVEN = "without", "given"  # the name of their table, and the variant of the others
SCORES = ("logit", "prediction", "predictions", "prob", "probability", "score", "ypred", "yscore", "yprob", "pred")
IDS = ("image_id", "path")  # kinds of a column that names images, as `spelling` knows them


def scores(
    model: Finished,
    table: pd.DataFrame,
    confounders: Iterable[Confounder],
    how: Preprocessing,
    *,
    folder: str | Path,
    seed: int,
    workers: int = 1,
) -> pd.DataFrame:
    """Score every image of a cohort's table plain, and as each drawn confounder's `base` and `carrier` make it.

    Columns: image_id, patient_id, label, confounder ("" for the plain image), variant (the alteration's label), logit
    (log-odds of label 1). Sampled confounders draw nothing and are passed over. `folder` keeps image banks and, of each
    bank, the model's scores, which are used again. Raises StudyError as `image_bank.build` and `Finished.logits` do.
    """
    from sourcematters.training.image_bank import Rendering, bank_path, build, fingerprints

    folder = Path(folder)
    own = {"interpolation": model.interpolation} if model.interpolation else {}
    fed = how.replaced(size=model.size, **own).model_dump(include=set(Preprocessing.model_fields))
    wanted = list(_variants(confounders))
    renderings = {alteration: Rendering(alteration=alteration, seed=seed, **fed) for _, alteration in wanted}
    content = fingerprints(table, folder / "banks")
    banks = {a: bank_path(content, rendering, folder / "banks") for a, rendering in renderings.items()}
    kept = {a: folder / "scores" / f"{bank.stem}-{model.identity[:12]}.csv" for a, bank in banks.items()}
    missing = [a for a, path in kept.items() if not checksums.usable(path, "its images are scored again")]
    images = build(table, [renderings[a] for a in missing], folder / "banks", workers=workers) if missing else []
    for alteration, bank in zip(missing, images, strict=True):
        found = pd.DataFrame({"image_id": table["image_id"].to_numpy(), "logit": model.logits(bank)})
        checksums.write_csv(kept[alteration], found)
    # As text first: Python reads a float exactly.
    read = {a: pd.read_csv(path, dtype=str, keep_default_na=False)["logit"] for a, path in kept.items()}
    return pd.concat(
        [_rows(table, name, alteration.label, read[alteration].to_numpy(float)) for name, alteration in wanted],
        ignore_index=True,
    )


def pairs(scored: pd.DataFrame, confounders: Sequence[Confounder]) -> pd.DataFrame:
    """Each image's logit without a confounder beside that with it, from a table of `scores` or `read_scores`.

    Columns: image_id, patient_id, label, confounder, variant (the carrier's), without, carrying. Of `confounders` each
    is compared with its own `base`; without any, whatever was given is compared with the plain image.
    """
    by = {key: part.set_index("image_id") for key, part in scored.groupby(["confounder", "variant"], sort=False)}
    plain = next(part for (name, _), part in by.items() if name == PLAIN)
    wanted = [(one.name, one.carrier.label, one.base) for one in confounders if not one.sampled]
    wanted = wanted or [(name, variant, ORIGINAL) for name, variant in by if name != PLAIN]
    frames = []
    for name, variant, base in wanted:
        without = plain if base == ORIGINAL else by[name, base.label]
        both = {"without": without["logit"], "carrying": by[name, variant]["logit"]}
        frames.append(plain[["patient_id", "label"]].assign(confounder=name, variant=variant, **both).reset_index())
    return pd.concat(frames, ignore_index=True)


def _variants(confounders: Iterable[Confounder]) -> Iterable[tuple[str, Alteration]]:
    """The plain image, then what each drawn confounder makes of it."""
    yield PLAIN, ORIGINAL
    for confounder in confounders:
        if not confounder.sampled:
            yield from ((confounder.name, a) for a in (confounder.base, confounder.carrier) if a != ORIGINAL)


def _rows(table: pd.DataFrame, confounder: str, variant: str, logits: NDArray[np.float64]) -> pd.DataFrame:
    of = {name: table[name].to_numpy() for name in ("image_id", "patient_id", "label")}
    return pd.DataFrame({**of, "confounder": confounder, "variant": variant, "logit": logits})[COLUMNS]


def read_scores(paths: Mapping[str, str | Path], table: pd.DataFrame) -> pd.DataFrame:
    """Scores made elsewhere, as `scores` gives them: `{"without": "a.csv", "tag": "b.csv"}`, the same model's.

    A table names its images by id, path, file name or its stem, and has a column of probabilities or logits of label
    1; the variant is `given`. `attrs["notes"]` says what was taken for what. Raises StudyError, with counts and the
    first names, for images that are missing, twice there, or not of the cohort, and for scores that are no numbers.
    """
    if WITHOUT not in paths or len(paths) < 2:
        raise StudyError(
            "scores made elsewhere: give two tables or more, as in {without: a.csv, tag: b.csv}: the plain images' "
            "under `without`, and each confounder's under its name."
        )
    read = {name: _one(Path(path), table) for name, path in paths.items()}
    notes = [f"{name}: {note}." for name, (_, _, note) in read.items()]
    # One kind for all: of probabilities near 1 none tells by itself that it is no logit.
    probabilities = not any(named for _, named, _ in read.values()) and all(
        bool(((values >= 0) & (values <= 1)).all()) for values, _, _ in read.values()
    )
    if probabilities:
        clipped = sum(int(((v < CLIPPED) | (v > 1 - CLIPPED)).sum()) for v, _, _ in read.values())
        notes.append(f"All scores lie in 0..1 and are taken as probabilities; {clipped} are 0 or 1 and were clipped.")
    else:
        notes.append("The scores are taken as logits.")
    rows = []
    for name, (values, _, _) in read.items():
        logits = logit(np.clip(values, CLIPPED, 1 - CLIPPED)) if probabilities else values
        confounder, variant = (PLAIN, ORIGINAL.label) if name == WITHOUT else (name, GIVEN)
        rows.append(_rows(table, confounder, variant, logits))
    found = pd.concat(sorted(rows, key=lambda each: each["confounder"].iloc[0] != PLAIN), ignore_index=True)
    found.attrs["notes"] = notes
    return found


def _one(path: Path, table: pd.DataFrame) -> tuple[NDArray[np.float64], bool, str]:
    """A table's scores in the cohort's order, whether its column is called logit, and what was taken for what."""
    cells, _ = parse(path)
    ids = [name for name in cells if kind(name) in IDS] or [name for name in cells if kind(name) in ("id", "name")]
    values = [name for name in cells if kind(name) in SCORES]
    for what, found, known in (("images", ids, "image_id, path"), ("scores", values, "logit, probability, score")):
        if not found:
            raise StudyError(
                f"{path}: no column of {what}, such as {known}. It has {', '.join(map(str, cells))}. Rename one."
            )
    if len(values) > 1:
        raise StudyError(f"{path}: {' or '.join(map(repr, values))} could be the scores. Leave one of them.")
    scored = pd.to_numeric(cells[values[0]], errors="coerce").to_numpy(float)
    if (wrong := ~np.isfinite(scored)).any():
        first = cells[wrong].iloc[0]
        raise StudyError(
            f"{path}: {wrong.sum()} of {len(cells)} scores are no finite numbers, the first {first[values[0]]!r} of "
            f"image {first[ids[0]]!r}. Give each image a score."
        )
    how, order = _matched(path, cells[ids[0]].fillna("").astype(str).str.strip().tolist(), table)
    is_logit = kind(values[0]) == "logit"
    return scored[order], is_logit, f"scores from column {values[0]!r}, images by {ids[0]!r} as {how}"


def _matched(path: Path, given: Sequence[str], table: pd.DataFrame) -> tuple[str, list[int]]:
    """How a table names the cohort's images, and the row of each of them. Raises StudyError where they differ."""
    paths = table["path"].astype(str).tolist() if "path" in table else []
    ways: dict[str, tuple[list[str], Callable[[str], str]]] = {
        "image_id": (table["image_id"].astype(str).tolist(), str),
        "path": (paths, str),
        "file name": ([_file(each) for each in paths], _file),
        "stem of the file name": ([_stem(each) for each in paths], _stem),
    }
    # Whose names are most in common, and no two of the cohort's are alike.
    fit = {how: len({*map(plain, given)} & {*own}) for how, (own, plain) in ways.items() if len({*own}) == len(table)}
    how = max(fit, key=fit.__getitem__)
    own, plain = ways[how]
    names, known = [plain(each) for each in given], set(own)
    rows = {name: row for row, name in enumerate(names)}
    twice = [name for name, count in Counter(names).items() if count > 1]
    missing, other = [name for name in own if name not in rows], [name for name in rows if name not in known]
    for wrong, what, mend in (
        (twice, "are there more than once", "Leave one row of each."),
        (missing, "of the cohort have no score", "Score them too, or leave them out of the cohort's table."),
        (other, "have a score and are not in the cohort", "Leave these rows out."),
    ):
        if wrong:
            beside = (
                f" (and {len(other)} rows are of other images: {some(other)})" if wrong is missing and other else ""
            )
            raise StudyError(f"{path}: {len(wrong)} images {what}: {some(wrong)}{beside}. {mend}")
    return how, [rows[name] for name in own]


def _file(name: str) -> str:
    return PureWindowsPath(name).name  # which knows both kinds of slashes


def _stem(name: str) -> str:
    return PureWindowsPath(name).stem
