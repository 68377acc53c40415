"""Whether the audit finds a shortcut that was planted, and how often it finds one where none was: prints it.

    python tests/benchmarks/planted.py [FOLDER] --folder WORK          # 110 networks, 17 s of a core each
    python tests/benchmarks/planted.py --folder WORK --clean 10 --seeds 2       # fewer; what is there is not done again

FOLDER holds ChestX-ray14 (../shared/data/nih-cxr14 if it is left out). A small network that was pretrained for minutes
on generated radiographs (`radiology-standin`) is fine-tuned for pneumonia on half of the patients: with a confounder in
a share p of the ill (tag, pacemaker, gamma, or women for ill and men for healthy), five seeds each, and with none, 50
seeds. A seed draws who validates, who carries, the classifier and the order of images; who is tested on is the same for
all. Each network is written as a checkpoint with timm's names and audited on the other half as anybody's model is:
opened by `open_model`, scored with one drawn confounder on each of the twelve leaves that have one, and the negative
control; p by Holm over the twelve, no primary. Probes, ladders and the measure of reach for each model are left out:
reach is measured once, on all images, since all models get the same input, and one that is not seen is made stronger.

Of every model the test patients are also halved, by chance and model: what is named on all of them is confirmed if both
halves agree in sign and the second is beyond .05; what is named on the first half alone is confirmed likewise by the
second, which it never met. A network that was not led to a confounder may still answer to it. That is no false alarm.
"""

import argparse
import gc
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd

import sourcematters.demo  # noqa: F401  # registers the stand-in
from sourcematters import checksums
from sourcematters.audit.measures import controls, effects, findings, groups, scoring
from sourcematters.audit.model.choice import ModelChoice
from sourcematters.audit.model.finished import open_model
from sourcematters.cohorts import Request, open_cohort
from sourcematters.confounders import ORIGINAL, Confounder, Gender, Tag, design, make
from sourcematters.files import replacing
from sourcematters.processes import over_processes
from sourcematters.results import verdicts
from sourcematters.seeds import derive, uniform
from sourcematters.sources import resolve
from sourcematters.training import image_bank, reach
from sourcematters.training.recipe import Preprocessing, Training

SEED = 1  # of what is drawn onto images, and of the audit
RECIPE = Training(
    size=96, interpolation="antialias", epochs=12, patience=6, learning_rate=3e-3, batch_size=16, bn_momentum=0.1
)
HOW = Preprocessing(**RECIPE.model_dump(include=set(Preprocessing.model_fields)))
SOURCE, NETWORK, ATTRIBUTES = "radiology-standin", "test_resnet", ("sex", "view", "age_band")
FEWER = 500  # resamples of half of the patients
STRENGTHS, SMALLS = (0.5, 0.8, 1.0), (0.0, 0.02, 0.05, 0.1)
PLANTED = {"tag": Tag(height=96), "pacemaker": make("pacemaker"), "gamma": make("gamma"), "sex": Gender()}
OTHERS = (
    "heart_size", "soft_tissue", "mirrored_heart", "arrow", "rotated", "noise", "denoising", "motion_blur",
    "downsampled",
)  # fmt: skip
CONTROL = controls.OneGreyLevel()


@dataclass(frozen=True)
class Task:
    """A network: what is planted ("" for nothing), in which share of the ill, and its seed."""

    planted: str
    p_art: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.planted or 'clean'}-{self.p_art:g}-{self.seed}"


def tasks(seeds: int, clean: int) -> Iterator[Task]:
    for seed in range(max(seeds, clean)):
        yield from (Task(name, p, seed) for name in PLANTED for p in STRENGTHS if seed < seeds)
        yield from (Task("", 0, each) for each in range(10 * seed, 10 * seed + 10) if each < clean)


def cohort(data: str, folder: Path) -> pd.DataFrame:
    asked = Request(data=data, task="Pneumonia", test_fraction=0.5, bands={"age": (0, 40, 60, 120)}, cache=folder)
    return open_cohort(asked).table


def drawn(table: pd.DataFrame) -> list[Confounder]:
    """One on each leaf, made stronger until it is seen at the network's input."""
    found = []
    for confounder in [*(PLANTED[name] for name in ("tag", "pacemaker", "gamma")), *map(make, OTHERS)]:
        while not reach.of_cohort(table, confounder, HOW, seed=SEED, images=20).enough:
            confounder = confounder.stronger()
        found.append(confounder)
    return found


def banks(table: pd.DataFrame, confounders: Sequence[Confounder], folder: Path) -> list[np.ndarray]:
    """The images plain, then with each of the confounders."""
    renderings = [
        image_bank.Rendering(alteration=alteration, seed=SEED, **HOW.model_dump())
        for alteration in (ORIGINAL, *(one.carrier for one in confounders))
    ]
    return image_bank.build(table, renderings, folder, workers=2)


def fine_tuned(task: Task, table: pd.DataFrame, folder: Path) -> Path:
    """The network's checkpoint, with timm's names; beside it, what was seen of its training."""
    import torch
    from safetensors.torch import save_file

    from sourcematters.training.classifier import Classifier, reproducible
    from sourcematters.training.fine_tuning import fine_tune

    path = folder / "models" / f"{task.name}.safetensors"
    if path.exists():
        return path
    planted = PLANTED.get(task.planted)
    sets = design.sets(table, planted, p_art=task.p_art, fold=task.seed, seed=task.seed)
    base, *carriers = banks(table, [planted] if planted and not planted.sampled else [], folder / "training")
    with reproducible(derive(task.seed, "initialization"), torch.device("cpu")):
        model = Classifier(resolve(SOURCE, NETWORK), NETWORK, size=RECIPE.size, dropout=RECIPE.dropout)
        pixels = image_bank.Pixels(base, (carriers or [base])[0])
        history = fine_tune(model, pixels, sets, RECIPE, seed=task.seed, device=torch.device("cpu"))
    checksums.write_csv(path.with_suffix(".csv"), history.assign(**design.carriers(sets)))
    tensors = {**model.backbone.state_dict(), **{f"fc.{k}": v for k, v in model.classifier.state_dict().items()}}
    with replacing(path) as beside:
        save_file({name: value.contiguous() for name, value in tensors.items()}, beside)
    return path


def audited(task: Task, path: Path, test: pd.DataFrame, confounders: Sequence[Confounder], folder: Path) -> None:
    """Write the effects of each confounder, on all test patients and on each half of them, and those of groups."""
    where = {what: folder / "audits" / f"{task.name}-{what}.csv" for what in ("effects", "groups")}
    if all(each.exists() for each in where.values()):
        return
    source = resolve(SOURCE, NETWORK)
    choice = ModelChoice(
        path=path, architecture=NETWORK, size=HOW.size, interpolation=HOW.interpolation, mean=source.mean,
        std=source.std,
    )  # fmt: skip
    model = open_model(choice, device="cpu")
    scored = scoring.scores(model, test, confounders, HOW, folder=folder / "audit", seed=SEED)
    plain = scored[scored["confounder"] == scoring.PLAIN].set_index("image_id")["logit"]
    logits = test["image_id"].map(plain)
    threshold = effects.youden(test["label"].to_numpy(int), logits.to_numpy(float))
    paired, found = scoring.pairs(scored, confounders), []
    first = first_half(test, task.seed)
    for part, chosen, times in (
        ("all", paired["patient_id"].notna(), effects.TIMES),
        ("first", paired["patient_id"].isin(first), FEWER),
        ("second", ~paired["patient_id"].isin(first), FEWER),
    ):
        measured = effects.effects(paired[chosen], threshold=threshold, seed=SEED, times=times)
        found.append(measured.assign(part=part))
    by_group = groups.by_group(test.assign(logit=logits), ATTRIBUTES, threshold=threshold, seed=SEED)
    of = {"planted": task.planted, "p_art": task.p_art, "model": task.seed}
    checksums.write_csv(where["groups"], by_group.assign(**of))
    checksums.write_csv(where["effects"], pd.concat(found).assign(**of))


def first_half(test: pd.DataFrame, seed: int) -> set[str]:
    """Half of the patients who were ever ill, and half of the others."""
    ill = test.groupby("patient_id")["label"].max()
    rank = pd.Series(uniform(seed, ill.index.tolist(), "half"), ill.index)
    return {name for label in (0, 1) for name in rank[ill == label].nsmallest(round((ill == label).sum() / 2)).index}


def one(task: Task, table: pd.DataFrame, test: pd.DataFrame, confounders: Sequence[Confounder], folder: Path) -> None:
    audited(task, fine_tuned(task, table, folder), test, confounders, folder)


def collected(wanted: Sequence[Task], folder: Path) -> dict[str, pd.DataFrame]:
    """The effects and groups of all networks of which they are there."""
    found = {}
    for what in ("effects", "groups"):
        paths = [folder / "audits" / f"{task.name}-{what}.csv" for task in wanted]
        tables = [pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in paths if path.exists()]
        found[what] = pd.concat(tables).fillna({"planted": ""})
    return found


def judged(of: dict[str, pd.DataFrame], small: float = verdicts.SMALL) -> pd.DataFrame:
    """A row for each network and confounder, or group that is ranked higher, or control: what was found of it.

    Columns: planted, p_art, model, kind (drawn, group, control), confounder, lean, named (it is called leaning), and of
    what is drawn first and second (lean in each half), named_on_first, confirmed and confirmed_first: that of `named`
    or `named_on_first` the second half says the same.
    """
    keys, rows = ["planted", "p_art", "model"], []
    with mock.patch.object(verdicts, "SMALL", small):
        for key, part in of["effects"].groupby(keys):
            is_control = part["confounder"] == CONTROL.name
            by = {half: each for half, each in part[~is_control].groupby("part")}
            all_of, first = (_named(findings.of_effects(by[half])) for half in ("all", "first"))
            found = all_of.assign(
                kind="drawn", first=first["lean"], second=by["second"]["lean"].to_numpy(), named_on_first=first["named"]
            )
            control = _named(findings.of_effects(part[is_control & (part["part"] == "all")])).assign(kind="control")
            rows += [each.assign(**dict(zip(keys, key, strict=True))) for each in (found, control)]
        for key, part in of["groups"].groupby(keys):
            rows.append(_named(findings.of_groups(part)).assign(kind="group", **dict(zip(keys, key, strict=True))))
    found = pd.concat(rows, ignore_index=True)
    same = (found["first"] * found["second"] > 0) & (found["second"].abs() > small)
    found["named_on_first"] = found["named_on_first"] == True  # noqa: E712  # missing where nothing is drawn
    return found.assign(confirmed=found["named"] & same, confirmed_first=found["named_on_first"] & same)


def _named(found: Sequence[verdicts.Finding]) -> pd.DataFrame:
    rows = [(one.confounder, one.effect, verdicts.verdict(one) == verdicts.LEANS) for one in found]
    return pd.DataFrame(rows, columns=["confounder", "lean", "named"]).astype({"named": bool})


def of_planted(found: pd.DataFrame, of: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Of each confounder that was planted and share: how many audits name it, at what lean, and what else is named."""
    rows, plain = [], of["effects"][of["effects"]["part"] == "all"]
    for (planted, p), part in found[found["planted"] != ""].groupby(["planted", "p_art"]):
        target = "sex F" if planted == "sex" else planted
        drawn_or_group = part[part["kind"] == ("group" if planted == "sex" else "drawn")]
        own = drawn_or_group[drawn_or_group["confounder"] == target]
        if planted == "sex":  # where men are ranked higher, women have as much below 0
            groups = of["groups"].query("planted == 'sex' and p_art == @p and attribute == 'sex' and value == 'F'")
            leans = groups["lean"]
        else:
            leans = own["lean"]
        auc = plain[(plain["planted"] == planted) & (plain["p_art"] == p)].groupby("model")["auc_without"].first()
        others = part[part["named"] & (part["confounder"] != target)]
        named = {kind: _counted(others[others["kind"] == kind]["confounder"]) for kind in ("drawn", "group", "control")}
        rows.append(
            {
                "planted": planted, "p": p, "models": part["model"].nunique(),
                "named": int((own["named"] & (own["lean"] > 0)).sum()),
                "as health": int((own["named"] & (own["lean"] < 0)).sum()),
                "lean": leans.median(), "lowest": leans.min(), "highest": leans.max(), "clean AUC": auc.median(),
                "others drawn": named["drawn"], "groups": named["group"], "control": named["control"],
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _counted(names: pd.Series) -> str:
    return ", ".join(f"{name} {count}" for name, count in names.value_counts().items()) or "-"


def of_clean(found: pd.DataFrame) -> pd.DataFrame:
    """Of networks in which nothing was planted: how many are said to lean, and what the second half says to that."""
    clean = found[found["planted"] == ""]
    drawn_only, rows = clean[clean["kind"] == "drawn"], []
    for (kind, name), part in clean.groupby(["kind", "confounder"], sort=False):
        rows.append({"kind": kind, "confounder": name, **_alarms(part, len(part))})
    of_any = drawn_only.assign(
        unconfirmed=drawn_only["named"] & ~drawn_only["confirmed"],
        unconfirmed_first=drawn_only["named_on_first"] & ~drawn_only["confirmed_first"],
    ).groupby("model")[["named", "confirmed", "unconfirmed", "named_on_first", "confirmed_first", "unconfirmed_first"]]
    totals = {"models": clean["model"].nunique(), **of_any.any().sum().to_dict()}
    order = {"drawn": 0, "control": 1, "group": 2}
    table = pd.DataFrame(rows).sort_values("kind", key=lambda kinds: kinds.map(order), kind="stable")
    last = [
        {"kind": "drawn", "confounder": "all of these tests", **_alarms(drawn_only, len(drawn_only))},
        {"kind": "drawn", "confounder": "any, of a model", **totals},
    ]
    return pd.concat([table, pd.DataFrame(last)], ignore_index=True)


def _alarms(part: pd.DataFrame, tests: int) -> dict[str, float]:
    sums = part[["named", "confirmed", "named_on_first", "confirmed_first"]].sum().astype(int)
    first = part[part["named_on_first"]]
    return {
        "models": tests,
        "lean": part["lean"].median(),
        "|lean|": part["lean"].abs().median(),
        **sums.to_dict(),
        "unconfirmed": sums["named"] - sums["confirmed"],
        "unconfirmed_first": sums["named_on_first"] - sums["confirmed_first"],
        "first": first["first"].abs().median(),
        "second": (np.sign(first["first"]) * first["second"]).median(),
    }


def of_smalls(of: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The same alarms, had another fall been taken for one that nobody would act on."""
    rows = []
    for small in SMALLS:
        found = judged(of, small)
        clean = of_clean(found).set_index("confounder")
        every, models, control = (clean.loc[name] for name in ("all of these tests", "any, of a model", CONTROL.name))
        planted = found[found["planted"] != ""]
        target = planted["planted"].where(planted["planted"] != "sex", "sex F")
        rows.append(
            {
                "SMALL": small, "tests": every["models"], "named": every["named"],
                "unconfirmed": every["unconfirmed"], "models": models["models"], "any named": models["named"],
                "any unconfirmed": models["unconfirmed"], "named on first": every["named_on_first"],
                "unconfirmed by second": every["unconfirmed_first"], "any first": models["named_on_first"],
                "any first unconfirmed": models["unconfirmed_first"], "control": control["named"],
                "planted named": int(planted.loc[planted["confounder"] == target, "named"].sum()),
                "planted models": planted.groupby(["planted", "p_art", "model"]).ngroups,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def report(wanted: Sequence[Task], folder: Path) -> None:
    """Print the tables, and write them as CSV."""
    of = collected(wanted, folder)
    # Each of statsmodels' corrections by Holm searches all that lives for garbage: half a second with torch imported.
    gc.freeze()
    found = judged(of)
    tables = {"findings": found, "effects": of["effects"], "groups": of["groups"], "planted": of_planted(found, of)}
    if (found["planted"] == "").any():
        tables |= {"clean": of_clean(found), "smalls": of_smalls(of)}
        auc = of["effects"].query("planted == '' and part == 'all'").groupby("model")["auc_without"].first()
        print(f"AUC of {len(auc)} networks without: median {auc.median():.2f}, {auc.min():.2f} to {auc.max():.2f}")
    for name, table in tables.items():
        checksums.write_csv(folder / "tables" / f"{name}.csv", table)
        if name not in ("findings", "effects", "groups"):
            print(f"\n{name}\n{table.to_string(index=False, float_format='{:.3f}'.format, na_rep='-')}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="../shared/data/nih-cxr14")
    parser.add_argument("--folder", type=Path, help="keeps networks, audits and tables; none: a scratch one")
    parser.add_argument("--seeds", type=int, default=5, help="networks for each planted confounder and share")
    parser.add_argument("--clean", type=int, default=50, help="networks without")
    parser.add_argument("--tables", action="store_true", help="print what is there, and make nothing")
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp())).absolute()
    wanted = list(tasks(options.seeds, options.clean))
    if options.tables:
        return report(wanted, folder)
    table = cohort(options.data, folder)
    test = table[table["split"] == "test"].reset_index(drop=True)
    confounders = [*drawn(table), CONTROL]
    print(*(each.label for each in confounders), sep="\n", flush=True)
    banks(table, [each for each in PLANTED.values() if not each.sampled], folder / "training")
    banks(test, confounders, folder / "audit" / "banks")
    work = partial(one, table=table, test=test, confounders=confounders, folder=folder)
    for number, (task, _) in enumerate(over_processes(work, wanted, 2), 1):
        print(f"{number} of {len(wanted)}: {task.name}", flush=True)
    report(wanted, folder)


if __name__ == "__main__":
    main()
