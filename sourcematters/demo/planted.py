"""A classifier with a planted shortcut, for the audit to find: it was fine-tuned while a tag went with lesions.

`python -m sourcematters.demo.planted` makes it anew, in a minute, from phantoms that no study of the demo draws.
"""

import sys
from pathlib import Path

from sourcematters import checksums
from sourcematters.cohorts import Request, open_cohort
from sourcematters.confounders import Tag, design
from sourcematters.demo.standins import WEIGHTS
from sourcematters.files import scratch
from sourcematters.seeds import derive
from sourcematters.sources import resolve
from sourcematters.training.image_bank import Pixels, Rendering, build
from sourcematters.training.recipe import Training

PLANTED = WEIGHTS / "planted-tag-test_resnet.safetensors"
SEED, PATIENTS, P_ART = 1, 400, 0.9
TAG = Tag(height=128)
RECIPE = Training(size=64, epochs=20, patience=20, learning_rate=3e-3, batch_size=16, bn_momentum=0.1)


def make(path: Path) -> str:
    """Fine-tune it, write its weights with timm's names, in half precision, to `path`; its last losses, in words."""
    import torch
    from safetensors.torch import save_file

    from sourcematters.training.classifier import Classifier, reproducible
    from sourcematters.training.fine_tuning import fine_tune

    source = resolve("radiology-standin", "test_resnet")
    with scratch() as folder:
        request = Request(data="phantoms", task="lesion", patients=PATIENTS, seed=SEED, cache=folder)
        table = open_cohort(request).table
        plain = Rendering(size=RECIPE.size, seed=SEED)
        base, carrier = build(table, [plain, plain.replaced(alteration=TAG.carrier)], folder / "bank", workers=2)
        sets = design.sets(table, TAG, p_art=P_ART, fold=0, seed=SEED)
        with reproducible(derive(SEED, "initialization", 0), torch.device("cpu")):
            model = Classifier(source, "test_resnet", size=RECIPE.size, dropout=RECIPE.dropout)
            device = torch.device("cpu")
            history = fine_tune(model, Pixels(base, carrier), sets, RECIPE, seed=SEED, device=device, show=True)
    tensors = {**model.backbone.state_dict(), **{f"fc.{k}": v for k, v in model.classifier.state_dict().items()}}
    halves = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    with checksums.sealing(path) as beside:
        save_file({name: value.contiguous() for name, value in halves.items()}, beside)
    best = history[history["best"] == 1].iloc[-1]
    learned = f"validation AUC {best['val_auc']:.2f} in epoch {best['epoch']:g}"
    return f"{path.name}: mean {source.mean}, std {source.std}; {learned}"


if __name__ == "__main__":
    import sourcematters.demo  # noqa: F401  # registers phantoms and stand-ins

    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else PLANTED))
