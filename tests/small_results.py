"""A results folder of files that a test writes itself: a study of two sources, and an audit of a model."""

import nbformat
from matplotlib.figure import Figure
from PIL import Image

from sourcematters import checksums

SOURCES = ("natural", "radiology")
SETTINGS = "setting,value,profile\ndata,films,films\ntask,lesion,lesion\nsplits,own,own\nepochs,5,10\n"
STANDINS = "phantoms, not patients"
ANSWER = "task,confounder,backbone,source,folds,strengths,patients,reliance,reliance_low,reliance_high,n,positives,"
ANSWER += "verdict,sentence"


def write(path, text):
    with checksums.sealing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def executed(folder, name, *, title="A title", exception=False, markers=False, cells=()):
    """Write an executed notebook with papermill's metadata, and its page."""
    cells = [nbformat.v4.new_markdown_cell(f"# {title}\n\nText.\n\n**Cost:** 2 min."), *cells]
    if markers:
        marker = nbformat.v4.new_markdown_cell("<span>An Exception</span>")
        marker.metadata["tags"] = ["papermill-error-cell-tag"]
        cells.insert(0, marker)
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["papermill"] = {
        "duration": 125.2,
        "end_time": "2026-01-02T03:04:05+00:00",
        "exception": exception,
    }
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    (folder / f"{name}.html").write_text("page")
    return notebook


def answers(folder, confounder, *rows, task="lesion", name=""):
    """NAME_answer.csv as `runs.answer()` keeps it; a row is source, effect, low, high, verdict, sentence."""
    lines = [
        f'{task},{confounder},resnet,{source},5,3,30,{effect},{low},{high},62,31,{verdict},"{sentence}"'
        for source, effect, low, high, verdict, sentence in rows
    ]
    write(folder / "tables" / f"{name or confounder}_answer.csv", "\n".join([ANSWER, *lines]) + "\n")


def compared(folder, *rows, name="primary", task="lesion"):
    """primary.csv; a row is confounder, a, b, difference, low, high, p_holm, detectable."""
    head = "task,confounder,backbone,a,b,folds,patients,n,difference,ci_low,ci_high,p,p_holm,p_holm_development,"
    lines = [
        f"{task},{confounder},resnet,{a},{b},5,30,62,{difference},{low},{high},{p},{p},.9,{detectable},"
        for confounder, a, b, difference, low, high, p, detectable in rows
    ]
    write(folder / "tables" / f"{name}.csv", "\n".join([head + "detectable,problem", *lines]) + "\n")


def curves(folder, confounder, ends, *, task="lesion", name=""):
    """A figure of curves; `ends` are the AUC at strength 0 and 1, by source and test set."""
    rows = ["task,confounder,source,backbone,test_set,p_art,folds,mean,ci_low,ci_high,caution"]
    for (source, test_set), means in ends.items():
        rows += [
            f'{task},{confounder},{source},resnet,{test_set},{p},5,{mean},{mean},{mean},"{STANDINS}"'
            for p, mean in enumerate(means)
        ]
    figure(folder, name or confounder, "\n".join(rows) + "\n")


def figure(folder, name, table="", *, svg=True):
    """A figure with its files; drawn by matplotlib, which gives the same ids to all of them."""
    drawn = Figure(figsize=(3.5, 2))
    axes = drawn.subplots()
    axes.plot([0, 1], [0.2, 0.7], clip_on=True)
    axes.set_ylabel("AUC <b>&")
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for kind in ("png", "pdf", *["svg"] * svg):
        drawn.savefig(folder / "figures" / f"{name}.{kind}")
    if table:
        write(folder / "figures" / f"{name}.csv", table)


def picture(path, side=40):
    """A plain PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (side, side), 128).save(path)


def study(folder):
    """Fill `folder` with a study: radiology leans on the tag, more than natural does; nobody on the filter."""
    executed(folder / "notebooks", "20_tag", title="Does a tag mislead?")
    write(folder / "tables" / "settings.csv", SETTINGS)
    write(folder / "plans" / "tag.csv", f'run_id,data,task,confounder,caution\na,films,lesion,tag,"{STANDINS}"\n')
    answers(
        folder, "tag",
        ("natural", 0.1, -0.05, 0.25, "too little data to tell", "it cannot be told of natural (p 0.3)."),
        ("radiology", 0.456, 0.302, 0.611, "leans on it", "radiology leans on tag (lesion) (p below 0.001)."),
    )  # fmt: skip
    answers(
        folder, "denoising",
        ("natural", 0.01, -0.02, 0.04, "no sign of leaning", "natural shows no sign."),
        ("radiology", 0.02, -0.01, 0.04, "no sign of leaning", "radiology shows no sign."),
    )  # fmt: skip
    compared(
        folder,
        ("tag", "natural", "radiology", -0.356, -0.54, -0.17, 0.004, 0.21),
        ("denoising", "natural", "radiology", -0.01, -0.06, 0.04, 0.7, 0.08),
    )
    curves(folder, "tag", {
        ("natural", "ood"): (0.8, 0.7), ("natural", "iid"): (0.8, 0.95),
        ("radiology", "ood"): (0.82, 0.36), ("radiology", "iid"): (0.82, 1.0),
    })  # fmt: skip
    reach = "run_id,data,task,confounder,input_images,input_seen_in,input_changed_pixels,input_mean_change,"
    write(folder / "tables" / "tag.csv", f"{reach}input_largest_change\na,films,lesion,tag,40,1.0,0.00409,0.34,214.0\n")
    counts = "group,value,dev 0,dev 1,test 0,test 1,all\nimages,,92,92,31,31,246\npatients,,73,80,24,26,120\n"
    write(folder / "tables" / "cohort_counts.csv", counts)
    write(folder / "tables" / "cohort_problems.csv", "path,image_id,problem\n")


def audit(folder):
    """Add an audit: the model leans on the tag, the sex goes with the label, one grey level does nothing."""
    executed(folder / "notebooks", "40_audit", title="Does this model take shortcuts?")
    head = "who,confounder,effect,low,high,p,detectable,n,positives,unseen,few,measure,verdict,sentence\n"
    top = ',,,,,,,,,,,,,"the model leans on tag (0.43) (1 without a sign of it)."\n'
    rows = (
        'the model,tag,0.427,0.399,0.453,0.0,0.09,246.0,123.0,,,lean,leans on it,"the model leans on tag (p 0.041)."\n'
        'the model,gamma,0.01,-0.01,0.03,1.0,0.07,246.0,123.0,,,lean,no sign of leaning,"the model shows no sign."\n'
    )
    write(folder / "tables" / "audit_answer.csv", head + top + rows)
    write(folder / "tables" / "audit_model.csv", "model,kind,auc\nbest.ckpt,checkpoint,.88\n")
    effects = (
        "confounder,lean,lean_low,lean_high,lean_error\ntag,.427,.399,.453,.014\none_grey_level,.001,-.002,.003,.001\n"
    )
    write(folder / "tables" / "audit_effects.csv", effects)
    write(folder / "tables" / "audit_probes.csv", "confounder,auc,ci_low,ci_high,n\ntag,.981,.946,.994,200\n")
    told = "what,of,features,auc,ci_low,ci_high,p,p_holm,n,patients,note\n"
    told += "sex,attribute,1,.622,.532,.705,.003,.012,300,255,\nsize,image,4,.55,.46,.64,.2,.8,300,255,\n"
    write(folder / "tables" / "audit_shortcuts.csv", told)
    figure(folder, "audit_data", told)
    goes = "attribute,kind,values,n,missing,measure,value,ci_low,ci_high,auc,auc_low,auc_high,p,p_holm,note\n"
    goes += "sex,categorical,2,300,0,Cramér's V,.237,.121,.368,.622,.532,.705,.0015,.006,\n"
    write(folder / "tables" / "audit_associations.csv", goes)
    flipped = "image_id,patient_id,label,confounder,score_without,score_with,threshold,flips\n"
    flipped += "film-7,p7,0,tag,.0127,.9999,.079,to positive\n"
    write(folder / "tables" / "audit_flipped.csv", flipped)
    figure(folder, "audit_flipped", flipped)
