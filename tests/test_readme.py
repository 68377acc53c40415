"""What the README tells people to type is what the programs take."""

import re
import shlex
from pathlib import Path

import pytest

from sourcematters import __main__
from sourcematters.study import notebooks

ROOT = Path(__file__).parents[1]
TEXTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb")]


def commands() -> list[str]:
    """Every call of run_all.sh in the README, the docs and the notebooks, with continued lines joined."""
    found = []
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            text = text.replace('\\\\\\n",\n    "', "").replace('\\n"', "\n").replace('\\"', '"')
        text = re.sub(r"\\\n\s*", "", text)
        found += [call.split("#")[0].strip() for call in re.findall(r"\./run_all\.sh[^`\n]*", text)]
    return sorted(set(found))


def example() -> str:
    page = ROOT / "docs" / "add_confounder.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    return code


def test_there_are_commands_to_try():
    assert len(commands()) > 15


@pytest.mark.parametrize("command", commands())
def test_every_call_of_the_readme_is_taken(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scale_bar.py").write_text(example())
    options = __main__._parser().parse_args(["run", *shlex.split(command)[1:]])
    given = [("executor", options.executor)] * bool(options.executor) + options.p
    plan = notebooks.plan(options.profile, given, options.only, options.results)
    assert plan.notebooks and all(notebooks.outline(plan, each) is not None for each in plan.notebooks)


def test_the_confounder_of_the_docs_has_20_lines():
    assert len([line for line in example().splitlines() if line.strip()]) <= 20


def test_the_readme_is_at_most_200_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
