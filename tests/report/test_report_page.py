"""The page of a results folder, read back as a browser would."""

import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import small_results
from small_results import executed, figure, picture, write

from sourcematters import report
from sourcematters.study import Study


class Page(HTMLParser):
    """Links, pictures, table rows, headings, ids, text, and the tags that were opened."""

    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.tags, self.rows, self.ids = [], [], [], [], []
        self.headings, self.notes, self.captions, self.text, self._open = [], [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes["href"]] if tag == "a" else []
        self.images += [attributes["src"]] if tag == "img" else []
        self.ids += [attributes["id"]] if "id" in attributes else []
        self._open.append((tag, attributes.get("class")))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))
        if tag == "p" and attributes.get("class") == "note":
            self.notes.append("")
        if tag == "figcaption":
            self.captions.append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tags = [tag for tag, _ in self._open]
        if "style" in tags or "script" in tags:
            return
        self.text += data
        if {"th", "td"} & set(tags):
            self.rows[-1][-1] += data
        if self.headings and any(re.fullmatch("h[1-6]", tag) for tag in tags):
            level, text = self.headings[-1]
            self.headings[-1] = level, text + data
        if ("p", "note") in self._open:
            self.notes[-1] += data
        if "figcaption" in tags:
            self.captions[-1] += data


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "demo"


def page(folder):
    return Page(report.write(folder).read_text(encoding="utf-8"))


def test_every_link_leads_to_a_file(folder):
    executed(folder / "notebooks", "20_tag")
    executed(folder / "notebooks", "21_100% noise #2")
    (folder / "figures").mkdir()
    for name in ("fig3_tag.pdf", "fig3_tag.csv", ".half.png"):
        (folder / "figures" / name).touch()
    for name in ("fig3_tag", "only a picture?"):
        picture(folder / "figures" / f"{name}.png")
    found = page(folder)
    links = [unquote(link) for link in found.links]
    assert all((folder / link).is_file() for link in links if not link.startswith("#"))
    assert set(links) == {
        "#answer", "report.json",
        *(f"notebooks/{n}.{s}" for n in ("20_tag", "21_100% noise #2") for s in ("html", "ipynb")),
        *(f"figures/fig3_tag.{s}" for s in ("png", "pdf", "csv")), "figures/only a picture?.png",
    }  # fmt: skip
    assert "answer" in found.ids


def test_the_page_and_its_numbers_hold_what_the_folder_holds(folder):
    small_results.study(folder)
    small_results.audit(folder)
    found = page(folder)
    assert [text for level, text in found.headings if level == 2] == [
        "The answer", "Each confounder and source", "What is confounded in the data already", "Images that flipped",
        "Controls", "Leaks and data checks", "Statistics", "Notebooks", "Provenance",
        "What this does not establish",
    ]  # fmt: skip
    levels = [level for level, _ in found.headings]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))
    assert not re.findall(r"(?<![\w.])\.\d", found.text), "a number without its zero"
    assert len(found.ids) == len(set(found.ids))
    rows = {tuple(row[:2]): row[2] for row in found.rows if len(row) == 6}
    assert rows["tag", "radiology"] == "0.46 [0.30, 0.61]" and rows["tag", "the model"] == "0.43 [0.40, 0.45]"
    told = json.loads((folder / "report.json").read_text())
    mine = [each for each in told["findings"] if (each["who"], each["confounder"]) == ("radiology", "tag")]
    assert [each["effect"] for each in mine] == [0.456] and told["differences"][0]["p"] == 0.004
    (positive,) = told["positive"]
    assert positive["head"] == ["Confounder", "Source", "AUC, never with it", "AUC, always with it"]
    assert [cell["value"] for cell in positive["rows"][1][2:]] == [0.82, 1.0]
    assert all(sentence in found.text for sentence in told["answer"] + told["limits"] + told["controls"])


def test_the_page_calls_sources_as_figures_do_and_machines_get_their_names_in_the_settings(tmp_path):
    folder = tmp_path / "imagenet"
    text = "radiology-standin leans on tag (lung-mass-ct)."
    row = ("radiology-standin", 0.5, 0.3, 0.7, "leans on it", text)
    small_results.answers(folder, "tag", row, task="lung-mass-ct")
    small_results.compared(folder, ("tag", "imagenet", "radiology-standin", -0.4, -0.6, -0.2, 0.01, 0.2))
    small_results.curves(folder, "tag", {("radiology-standin", "ood"): (0.8, 0.3)}, task="lung-mass-ct")
    found = page(folder)
    assert (
        "Radiology stand-in leans on tag (lung mass, CT)." in found.text
        and "ImageNet less radiology stand-in" in found.text
    )
    assert "Source Matters: imagenet" in found.text, "the folder's name stays"
    assert "standin" not in found.text and "mass-ct" not in found.text
    told = json.loads((folder / "report.json").read_text())
    assert told["findings"][0]["who"] == "radiology-standin" and told["differences"][0]["a"] == "imagenet"
    assert "radiology stand-in 0.80 to 0.30" in told["figures"][0]["alt"]


def test_the_explorers_of_study_and_audit_have_a_link_each(folder):
    executed(folder / "notebooks", "00_walkthrough")
    (folder / "explorer.html").touch()
    (folder / "audit_explorer.html").touch()
    found = page(folder)
    assert {"explorer.html", "audit_explorer.html"} <= set(found.links)
    assert "Put a hand on the artefact, or on the audit's: move it" in found.text


def test_it_is_the_same_page_each_time_and_a_pdf_of_another_one_goes(folder):
    small_results.study(folder)
    index = report.write(folder)
    before = index.read_bytes()
    (folder / "report.pdf").write_bytes(b"of this page")
    assert report.write(folder).read_bytes() == before and (folder / "report.pdf").exists()
    small_results.audit(folder)
    assert report.write(folder).read_bytes() != before and not (folder / "report.pdf").exists()


EVIL = "<script>alert('1')</script>&amp;'onload=\"x"


def test_text_from_outside_cannot_become_markup(folder):
    small_results.study(folder)
    harmless = page(folder).tags
    executed(folder / "notebooks", "20_tag", title=EVIL)
    quoted = EVIL.replace('"', '""')
    names = [f'"{quoted}"'] * 2
    small_results.answers(folder, names[0], (names[1], 0.4, 0.3, 0.5, "leans on it", quoted), name="evil")
    write(folder / "tables" / "settings.csv", f'setting,value,profile\n"{quoted}","{quoted}","{quoted}"\n')
    write(folder / "plans" / "tag.csv", f'run_id,data,task,caution\n"{quoted}","{quoted}","{quoted}","{quoted}"\n')
    write(folder / "tables" / "sources.csv", f'source,warning\n"{quoted}","{quoted}"\n')
    figure(folder, "tag", f'task,confounder,a,b,difference,ci_low,ci_high\n"{quoted}","{quoted}","{quoted}",b,1,0,2\n')
    found = page(folder)
    assert found.tags.count("script") == harmless.count("script") == 1
    assert not {"b", "alert"} & (set(found.tags) - set(harmless))
    assert found.text.count(EVIL) > 6


def test_a_file_name_cannot_become_markup(folder):
    picture(folder / "figures" / "'onerror='x.png")
    picture(folder / "figures" / '"><script>x<script>.png')
    found = page(folder)
    assert found.tags.count("script") == 1 and len(found.images) == 2


def test_status_title_and_time_come_from_the_executed_notebook(folder):
    executed(folder / "notebooks", "20_tag", title="Went well")
    executed(folder / "notebooks", "21_noise", title="Went wrong", exception=True, markers=True)
    rows = page(folder).rows
    assert [row[:4] for row in rows if row[0] in ("20", "21")] == [
        ["20", "Went well", "done", "2 min 05 s"],
        ["21", "Went wrong", "failed", "2 min 05 s"],
    ]


def test_the_settings_stand_beside_the_profiles(folder):
    evil = "<b>&amp;"
    write(folder / "tables" / "settings.csv", f'setting,value,profile\nepochs,5,10\nsources,"[""{evil}"", random]",\n')
    found = page(folder)
    assert found.rows[-3:] == [
        ["Setting", "Value", "Profile"],
        ["epochs", "5", "10"],
        ["sources", f'["{evil}", random]', ""],
    ]
    assert "tables/settings.csv" in found.links and "b" not in found.tags[found.tags.index("table") :]


def test_what_is_no_evidence_is_said_on_top(folder):
    standins = '"phantoms, not patients; natural-standin is not ImageNet"'
    write(
        folder / "plans" / "20_tag.csv",
        f'run_id,task,caution\na,lesion,{standins}\nb,lesion,"phantoms, not patients"\n',
    )
    write(folder / "plans" / "24_gender.csv", f"run_id,task,caution\nc,lesion,\nd,lesion,{standins}\n")
    assert page(folder).notes == ["phantoms, not patients; natural-standin is not ImageNet"]
    for name in ("20_tag", "24_gender"):
        write(folder / "plans" / f"{name}.csv", "run_id,task,caution\na,lesion,\nb,lesion,\n")
    assert page(folder).notes == []


def test_what_is_said_names_the_task_and_stands_under_the_figure(folder):
    write(folder / "plans" / "20_tag.csv", "run_id,task,caution\na,Pneumonia,stand-ins\nb,Pneumonia,\n")
    write(folder / "plans" / "23_noise_ct.csv", "run_id,task,caution\na,mass-ct,drawn; stand-ins\nb,mass-ct,drawn\n")
    for name, table in {
        "tag": "task,caution\nPneumonia,stand-ins\nPneumonia,\n",
        "overview": "task,caution\nPneumonia,\nmass-ct,drawn\n",
        "cohort": "image_id,caution\na,drawn\nb,drawn\n",
        "calibration": "shift,auc\n1,.5\n",
    }.items():
        picture(folder / "figures" / f"{name}.png")
        write(folder / "figures" / f"{name}.csv", table)
    found = page(folder)
    assert found.notes == ["stand-ins", "mass-ct: drawn"]
    said = dict(re.fullmatch(r"(\w+)(?:\. (.*?))? PNG CSV ", text).groups("") for text in found.captions)
    assert said == {"Calibration": "", "Cohort": "drawn", "Overview": "mass-ct: drawn", "Tag": "stand-ins"}


@pytest.mark.parametrize("content", ["", "{}", "[]", "<html>", '{"nbformat": 4, "metadata": {}}'])
def test_what_is_no_notebook_is_passed_over_and_said(folder, content, capsys):
    executed(folder / "notebooks", "20_tag", title="Went well")
    (folder / "notebooks" / "21_other.ipynb").write_text(content)
    assert [row[1] for row in page(folder).rows if row[0] in ("20", "21")] == ["Went well"]
    assert "21_other" not in (folder / "index.html").read_text()
    assert capsys.readouterr().err.count("21_other.ipynb: not readable as a notebook") == 1


AUDITED = ("answer", "shortcuts", "associations", "flipped", "effects", "probes")
NAMES = [f"tables/{name}.csv" for name in ("settings", "tag_answer", "primary", "cohort_counts", "tag")]
NAMES += [f"tables/audit_{name}.csv" for name in AUDITED]
NAMES += ["plans/tag.csv", "figures/tag.csv", "figures/audit_data.csv"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study and an audit, made once."""
    folder = tmp_path_factory.mktemp("whole") / "demo"
    small_results.study(folder)
    small_results.audit(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_table_is_passed_over_and_said_once(whole, folder, name, capsys):
    shutil.copytree(whole, folder)
    for damage in (b"", b"\xff\xfe\x00", b"run_id,caution\na,not to be seen\n"):
        (folder / name).write_bytes(damage)
        assert "not to be seen" not in page(folder).text
        assert capsys.readouterr().err.count(f"{name}: does not match its checksum") == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_table_without_its_columns_or_of_no_rows_is_passed_over(whole, folder, name):
    shutil.copytree(whole, folder)
    for text in ("", "a\n1\n", '"'):
        write(folder / name, text)
        assert "The answer" in page(folder).text


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_words_where_numbers_are_due_makes_a_page_too(whole, folder, name):
    shutil.copytree(whole, folder)
    head, *lines = (folder / name).read_text().splitlines()
    write(folder / name, "\n".join([head, *(re.sub(r"-?[\d.]+", "x", line) for line in lines)]) + "\n")
    text = page(folder).text
    assert "The answer" in text and not re.search(r"\bnan\b", text)


@pytest.mark.parametrize("name", ["demo", "Łódź é 100% #2 & 'it'?", '"q" <b>;[x]: y'])
def test_a_link_from_a_notebook_leads_to_the_page(tmp_path, name):
    index = tmp_path / name / "results" / "index.html"
    for beside in (tmp_path / name / "notebooks", index.parent / "notebooks", tmp_path / "elsewhere"):
        found = Page(report.link(index, beside))
        (href,) = found.links
        assert href.isascii() and not set(href) & set(" #?:&\"'<>")
        assert Path(os.path.normpath(beside / unquote(href))) == index
        assert str(index.parent) in found.text and "b" not in found.tags


def test_every_notebook_ends_with_that_link():
    paths = sorted(Path(__file__).parents[2].glob("notebooks/*.ipynb"))
    assert len(paths) >= 12
    for path in paths:
        own = {"33_where_it_looks": "where", "40_audit": "audit"}.get(path.stem, "study")
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


def test_an_empty_folder_has_a_page_that_says_what_to_run(folder):
    text = page(folder).text
    assert "Nothing has been answered yet" in text and "./run_all.sh --only 20" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3599.4, "59 min 59 s"), (7860, "2 h 11 min")],
)
def test_durations(seconds, text):
    assert report.lasting(seconds) == text


def test_runs_beside_the_folder_tell_what_made_them(folder):
    small_results.study(folder)
    for run, torch in (("a", "2.9.0"), ("b", "2.9.1")):
        (folder.parent / "runs" / run).mkdir(parents=True)
        about = {"commit": f"c0ffee{run}", "changed": run == "b", "torch": torch, "seconds": 60.0, "device": "cpu"}
        (folder.parent / "runs" / run / "env.json").write_text(json.dumps(about))
    write(folder / "plans" / "tag.csv", "run_id,caution\na,\nb,\nc,\n../../etc,\n")
    text = page(folder).text
    for told in ("runs: 2, 2 min 00 s of work", "c0ffeea and c0ffeeb and changes", "torch: 2.9.0 and 2.9.1"):
        assert told.replace(": ", " ", 1) in text or told in text, told


def test_the_command_writes_it_anew_and_refuses_what_holds_no_results(folder, command):
    small_results.study(folder)
    assert command("report", str(folder)) == (0, f"report: {folder / 'index.html'}\n", "")
    code, _, said = command("report", str(folder / "tables"))
    assert code == 2 and "no results are here" in said
