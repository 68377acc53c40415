"""A clone with tiny notebooks and a profile, for the tests of settings, notebooks, execution and command line."""

import nbformat

PARAMETERS = 'profile = "demo"\nresults = ""'

PROFILE = """data: {data}
task: brightness
sources: [random]
backbone: test_resnet
p_art: [0, 1]
folds: 2
size: 32
epochs: 1
smallest_test: 4
device: cpu
tag: {{height: 300}}
denoising: {{diameter: 30}}
"""
"""Settings of a study on `tiny_runs.make_cohort`, whose table is to be put into `data`."""


def write_notebook(root, name, *sources, title="Tag", cost="Cost: 1 s", parameters=PARAMETERS):
    cells = [nbformat.v4.new_markdown_cell(f"# {title}\n\nWhat it shows.\n\n**{cost}**")]
    cells += [nbformat.v4.new_code_cell(source) for source in (parameters, *sources)]
    cells[1].metadata["tags"] = ["parameters"]
    (root / "notebooks" / "profiles").mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks" / f"{name}.ipynb")


def write_profile(root, text, name="demo"):
    (root / "notebooks" / "profiles" / f"{name}.yaml").write_text(text)
