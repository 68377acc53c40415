"""A clone with tiny notebooks and a profile, for the tests of profiles, pipeline and command line."""

import nbformat

DECLARED = """\
results: str = ""  # folder of all results
data: str = "phantoms"  # folder of images, or phantoms
folds: int = 5  # repeats
p_art: list[float] = [0, 1]  # strengths
lr = 1e-3  # learning rate
note: str = ""  # shown on every figure
limit: int | None = None  # images at most
quick = False  # fewer epochs
"""


def write_notebook(root, name, *sources, parameters=DECLARED, title="Tag", cost="Cost: 1 s"):
    cells = [nbformat.v4.new_markdown_cell(f"# {title}\n\nWhat it shows.\n\n**{cost}**")]
    cells += [nbformat.v4.new_code_cell(source) for source in (parameters, *sources)]
    cells[1].metadata["tags"] = ["parameters"]
    (root / "notebooks" / "profiles").mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")


def write_profile(root, text, name="demo"):
    (root / "notebooks" / "profiles" / f"{name}.yaml").write_text(text)
