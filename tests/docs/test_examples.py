"""What the pages tell people to write and to type does what they say; what they quote, the programs say."""

import ast
import re
import shlex
from functools import cache

import documented
import pandas as pd
import pytest
import timm
from safetensors.torch import save_file
from small_images import png

from sourcematters import __main__, plugins
from sourcematters.cohorts import Request, open_cohort, readers
from sourcematters.errors import StudyError
from sourcematters.sources import resolve

ROOT = documented.ROOT
TEXTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def code(page):
    (found,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.S)
    return found


def test_the_reader_of_the_page_opens_its_data(tmp_path):
    (tmp_path / "scans.py").write_text(code("cohorts.md"))
    plugins.load([str(tmp_path / "scans.py")])
    data = tmp_path / "data"
    rows = [
        {"scan": f"{k:02d}", "person": f"p{k // 2}", "nodule": k // 2 % 2, "scanner": "AB"[k % 2]} for k in range(24)
    ]
    for row in rows:
        png(data / f"{row['scan']}.png")
    pd.DataFrame(rows).to_json(data / "scans.json", orient="records")
    cohort = open_cohort(Request(data=data, task="nodule", cache=""))
    assert (cohort.name, len(cohort.table), cohort.table["label"].sum()) == ("scans", 24, 12)
    assert set(cohort.table["split"]) == {"dev", "test"} and set(cohort.table["scanner"]) == {"A", "B"}
    assert cohort.table.groupby("patient_id")["split"].nunique().max() == 1
    assert readers.known()["scans"].help in "".join(readers._what_reads(""))
    with pytest.raises(StudyError, match="unknown task `x`"):
        open_cohort(Request(data=data, task="x", cache=""))


def test_the_source_of_the_page_is_read_from_the_users_file(tmp_path):
    (tmp_path / "chestnet.py").write_text(code("sources.md"))
    plugins.load([str(tmp_path / "chestnet.py")])
    with pytest.raises(StudyError, match="chestnet: download it from example.org"):
        resolve("chestnet", "test_resnet")
    model = timm.create_model("test_resnet", num_classes=0)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    source = resolve("chestnet", "test_resnet", weights={"chestnet": str(tmp_path / "a.safetensors")})
    assert (source.name, source.mean[0], source.std[0]) == ("chestnet", 0.5, 0.25)
    loaded = source.load("test_resnet", size=64).state_dict()
    assert all((loaded[name] == tensor).all() for name, tensor in model.state_dict().items())


def calls():
    """Every call of the package's command line on the pages."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in TEXTS)
    found = re.findall(r"python -m sourcematters (?!run)([^`\n#>]+)", text)
    return sorted({call.strip() for call in found if not call.startswith((".", "["))})


@pytest.mark.parametrize("call", calls())
def test_every_call_is_one_that_the_command_line_takes(call):
    words = [word for word in shlex.split(re.sub(r"\[(.*?)\]", r"\1", call)) if word != "..."]
    assert callable(__main__._parser().parse_args(words).command)


def test_there_are_calls_to_try():
    assert len(calls()) >= 6


@cache
def said():
    """All texts in the package's code, what is filled in being an ellipsis."""
    found = []
    for path in (ROOT / "sourcematters").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(v.value if isinstance(v, ast.Constant) else "\u2026" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def quotes():
    """The sentences that pages quote: lines that begin with >, and of Troubleshooting what stands between stars."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/*.md"))
    return sorted(set(re.findall(r"^> (.+)$", text, re.M)))


@pytest.mark.parametrize("quote", quotes())
def test_what_is_quoted_is_said(quote):
    parts = [part.strip() for part in quote.split("...") if part.strip()]
    assert parts and all(part in said() for part in parts), quote


def test_there_are_quotes_to_look_for():
    assert len(quotes()) >= 7
