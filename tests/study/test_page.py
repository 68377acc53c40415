"""The index page, read back as a browser would."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from sourcematters import checksums
from sourcematters.study import Study
from sourcematters.study import page as pages


def executed(folder, name, *, title="A title", exception=False, markers=False):
    """Write an executed notebook with papermill's metadata, and its page."""
    cells = [nbformat.v4.new_markdown_cell(f"# {title}\n\nText.\n\n**Cost:** 2 min.")]
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


class Page(HTMLParser):
    """Links, pictures, table rows, text, and the tags that were opened."""

    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.tags, self.rows, self.text = [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes["href"]] if tag == "a" else []
        self.images += [attributes["src"]] if tag == "img" else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if "style" not in self.tags[-1:]:
            self.text += data
        if self.rows and data.strip():
            self.rows[-1][-1] += data


@pytest.fixture
def study(tmp_path):
    return tmp_path / "demo"


def page(study):
    return Page(pages.index(study).read_text())


def test_every_link_leads_to_a_file(study):
    executed(study / "notebooks", "20_tag")
    executed(study / "notebooks", "21_100% noise #2")
    (study / "figures").mkdir()
    for name in ("fig3_tag.png", "fig3_tag.pdf", "fig3_tag.csv", "only a picture?.png", ".half.png"):
        (study / "figures" / name).touch()
    found = page(study)
    assert found.images == ["figures/fig3_tag.png", "figures/only%20a%20picture%3F.png"]
    links = [unquote(link) for link in found.links]
    assert all((study / link).is_file() for link in links)
    assert set(links) == {
        *(f"notebooks/{n}.{s}" for n in ("20_tag", "21_100% noise #2") for s in ("html", "ipynb")),
        *(f"figures/fig3_tag.{s}" for s in ("png", "pdf", "csv")),
        "figures/only a picture?.png",
    }


def test_text_from_outside_cannot_become_markup(study):
    evil = "<script>alert('1')</script>&amp;"
    executed(study / "notebooks", "20_tag", title=evil)
    (study / "figures").mkdir()
    (study / "figures" / "'onerror='x.png").touch()
    found = page(study)
    assert "script" not in found.tags
    assert found.text.count(evil) == 1


def test_status_title_and_time_come_from_the_executed_notebook(study):
    executed(study / "notebooks", "20_tag", title="Went well")
    executed(study / "notebooks", "21_noise", title="Went wrong", exception=True, markers=True)
    rows = page(study).rows
    assert [row[:4] for row in rows[1:3]] == [
        ["20", "Went well", "done", "2 min 05 s"],
        ["21", "Went wrong", "failed", "2 min 05 s"],
    ]


def write(path, text):
    with checksums.sealing(path) as beside:
        beside.write_text(text)


def test_the_settings_stand_beside_the_profiles(study):
    executed(study / "notebooks", "20_tag")
    evil = "<b>&amp;"
    write(study / "tables" / "settings.csv", f'setting,value,profile\nepochs,5,10\nsources,"[""{evil}"", random]",\n')
    found = page(study)
    assert found.rows[-3:] == [
        ["Setting", "Value", "Profile"],
        ["epochs", "5", "10"],
        ["sources", f'["{evil}", random]', ""],
    ]
    assert "tables/settings.csv" in found.links and "b" not in found.tags[found.tags.index("table") :]


def notes(study):
    return re.findall("<p class='note'>(.*?)</p>", pages.index(study).read_text())


def test_what_is_no_evidence_is_said_on_top(study):
    executed(study / "notebooks", "20_tag")
    standins = '"phantoms, not patients; natural-standin is not ImageNet"'
    write(
        study / "plans" / "20_tag.csv", f'run_id,task,caution\na,lesion,{standins}\nb,lesion,"phantoms, not patients"\n'
    )
    write(study / "plans" / "24_gender.csv", f"run_id,task,caution\nc,lesion,\nd,lesion,{standins}\n")
    assert notes(study) == ["phantoms, not patients; natural-standin is not ImageNet"]
    for name in ("20_tag", "24_gender"):
        write(study / "plans" / f"{name}.csv", "run_id,task,caution\na,lesion,\nb,lesion,\n")
    assert notes(study) == []


def test_what_is_said_names_the_task_and_stands_under_the_figure(study):
    executed(study / "notebooks", "20_tag")
    write(study / "plans" / "20_tag.csv", "run_id,task,caution\na,Pneumonia,stand-ins\nb,Pneumonia,\n")
    write(study / "plans" / "23_noise_ct.csv", "run_id,task,caution\na,mass-ct,drawn; stand-ins\nb,mass-ct,drawn\n")
    assert notes(study) == ["stand-ins", "mass-ct: drawn"]
    for name, table in {
        "tag": "task,caution\nPneumonia,stand-ins\nPneumonia,\n",
        "overview": "task,caution\nPneumonia,\nmass-ct,drawn\n",
        "cohort": "image_id,caution\na,drawn\nb,drawn\n",
        "calibration": "shift,auc\n1,.5\n",
    }.items():
        (study / "figures").mkdir(exist_ok=True)
        (study / "figures" / f"{name}.png").touch()
        write(study / "figures" / f"{name}.csv", table)
    captions = re.findall("<figcaption><b>(.*?)</b>.*CSV</a> (.*?)</figcaption>", pages.index(study).read_text())
    assert dict(captions) == {"calibration": "", "cohort": "drawn", "overview": "mass-ct: drawn", "tag": "stand-ins"}


@pytest.mark.parametrize("content", ["", "{}", "[]", "<html>", '{"nbformat": 4, "metadata": {}}'])
def test_what_is_no_notebook_is_passed_over_and_said(study, content, capsys):
    executed(study / "notebooks", "20_tag", title="Went well")
    (study / "notebooks" / "21_other.ipynb").write_text(content)
    assert [row[1] for row in page(study).rows[1:]][:1] == ["Went well"]
    assert "21_other" not in (study / "index.html").read_text()
    assert capsys.readouterr().err.count("21_other.ipynb: not readable as a notebook") == 1


@pytest.mark.parametrize("name", ["tables/settings.csv", "plans/20_tag.csv"])
@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", b"setting,value", b'a,b\n"', b"run_id,caution\na,phantoms\n"])
def test_a_damaged_table_is_passed_over_and_said(study, name, damage, capsys):
    write(study / name, "setting,value,profile,caution\nepochs,5,10,real\n")
    (study / name).write_bytes(damage)
    text = page(study).text
    assert "phantoms" not in text and "epochs" not in text
    assert f"{name}: does not match its checksum" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["demo", "Łódź é 100% #2 & 'it'?", '"q" <b>;[x]: y'])
def test_a_link_from_a_notebook_leads_to_the_page(tmp_path, name):
    index = tmp_path / name / "results" / "index.html"
    for beside in (tmp_path / name / "notebooks", index.parent / "notebooks", tmp_path / "elsewhere"):
        found = Page(pages.link(index, beside))
        (href,) = found.links
        assert href.isascii() and not set(href) & set(" #?:&\"'<>")
        assert Path(os.path.normpath(beside / unquote(href))) == index
        assert str(index.parent) in found.text and "b" not in found.tags


def test_every_notebook_ends_with_that_link():
    paths = sorted(Path(__file__).parents[2].glob("notebooks/*.ipynb"))
    assert len(paths) >= 12
    for path in paths:
        own = "audit" if path.stem == "40_audit" else "study"
        assert nbformat.read(path, as_version=4).cells[-1].source == f"{own}.page()", path.name


def test_a_study_links_its_page_from_where_the_notebook_is_seen(root, monkeypatch):
    for name in ("SOURCEMATTERS_HEADLESS", "not set"):
        monkeypatch.delenv("SOURCEMATTERS_HEADLESS", raising=False)
        monkeypatch.setenv(name, "1")
        monkeypatch.chdir(root / "notebooks")
        study = Study("demo")
        (href,) = Page(study.page().data).links
        by_hand = name == "not set"
        assert href == ("../results/demo/index.html" if by_hand else "../index.html")
        assert study.results == root / "results" / "demo"
        assert (study.results / "index.html").exists() == by_hand, "by hand nobody else writes it"


def test_an_empty_study_has_a_page_too(study):
    assert "None yet" in page(study).text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3599.4, "59 min 59 s"), (7860, "2 h 11 min")],
)
def test_durations(seconds, text):
    assert pages.lasting(seconds) == text
