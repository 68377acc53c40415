"""The explorer without a kernel: one page, and what a notebook shows headless."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from itertools import chain, repeat

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_widget import subject_of, table  # noqa: F401  (a fixture)

from sourcematters import checksums, confounders
from sourcematters.confounders.ladders import ladder
from sourcematters.errors import StudyError
from sourcematters.study import explorer
from sourcematters.study.explorer import Network, explore
from sourcematters.study.explorer.page import write
from sourcematters.study.explorer.panels import PANELS

PAGE = "explorer.html"


def frames_of(path):
    text = path.read_text()
    return text, json.loads(re.search(r'id="frames">(.*?)</script>', text, re.DOTALL)[1])


def opened(uri):
    kind, _, data = uri.partition(";base64,")
    assert kind == "data:image/webp"
    return Image.open(io.BytesIO(base64.b64decode(data)))


class Parts(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_each_confounder_stands_there_at_the_strengths_of_its_ladder(table, tmp_path):  # noqa: F811
    subject = subject_of(table, "denoising", "gamma")
    text, found = frames_of(write(tmp_path / PAGE, subject, ["denoising", "gamma"]))
    assert [one["title"] for one in found["confounders"]] == ["denoising", "gamma"]
    first = found["confounders"][1]["rungs"]
    assert len(first) == len(ladder(confounders.make("gamma")))
    assert [rung["given"] for rung in first].count(True) == 1
    given = next(rung for rung in first if rung["given"])
    assert given["label"] == "gamma 0.7 (the exponent of grey / 255)"
    case = subject.cases[0]
    arrays = subject.frame(case, confounders.make("gamma"))
    for way, key in ((0, "input"), (1, "input_without")):
        seen = opened(found["pictures"][given["pictures"][way]["input"]]).convert("L")
        assert np.array_equal(np.asarray(seen), arrays[key]), "what the network sees is exact"
    withouts = {rung["pictures"][1]["image"] for rung in first}
    assert len(withouts) == 1, "one picture serves all strengths"
    assert str(case) in text and found["confounders"][1]["practice"] == confounders.make("gamma").practice


def test_it_asks_nobody_and_is_for_keyboards_and_screen_readers(table, tmp_path):  # noqa: F811
    text, _ = frames_of(write(tmp_path / PAGE, subject_of(table, "tag", "gamma"), ["tag", "gamma"]))
    tags = Parts(text).tags
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:|//|file:)", text)
    assert "default-src 'none'" in text
    pictures = [about for tag, about in tags if tag == "img"]
    assert [about["id"] for about in pictures] == list(PANELS)
    assert all(len(about["alt"]) > 20 and about["src"].startswith("data:") for about in pictures)
    labelled = {about.get("for") for tag, about in tags if tag == "label"}
    inputs = {about["id"] for tag, about in tags if tag in ("select", "input") and about.get("type") != "checkbox"}
    assert inputs == {"confounder", "strength"} <= labelled
    assert ("html", {"lang": "en"}) in tags and any(tag == "noscript" for tag, _ in tags)


def test_scores_and_cautions_stand_on_it_and_names_are_no_html(table, tmp_path):  # noqa: F811
    answers = chain([-2.0], repeat(2.0))  # of the image without it, which is asked first, and of all others
    network = Network(lambda images: np.array([next(answers)]), 0.0)
    subject = subject_of(table, "gamma", networks={"<b>&": network}, caution="</script><u>drawn")
    text, found = frames_of(write(tmp_path / PAGE, subject, ["gamma"]))
    assert found["confounders"][0]["rungs"][0]["scores"] == [
        "<b>& scores 0.12 without it, 0.88 with it (positive from 0.50 on): it turns to positive"
    ]
    assert "<u>" not in text and "<b>&" not in text


def test_it_is_sealed_the_same_again_and_a_damaged_one_is_written_anew(table, tmp_path, capsys):  # noqa: F811
    subject = subject_of(table, "gamma")
    path = write(tmp_path / PAGE, subject, ["gamma"])
    assert checksums.flaw_of(path) == ""
    before = path.read_bytes()
    path.write_text("cut")
    write(path, subject, ["gamma"])
    assert path.read_bytes() == before and checksums.flaw_of(path) == ""
    assert (
        "explorer.html: does not match its checksum in explorer.sha256; it is written anew" in capsys.readouterr().err
    )


def test_a_page_of_a_study_stays_small(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.normal(120, 30, (512, 512)).clip(0, 255).astype(np.uint8)  # nothing packs worse
    Image.fromarray(noise).save(tmp_path / "i.png")
    made = pd.DataFrame([("i", str(tmp_path / "i.png"), 1)], columns=["image_id", "path", "label"])
    names = ["tag", "denoising", "noise", "noise_high_vs_low"]
    path = write(tmp_path / PAGE, subject_of(made, *names), names)
    assert path.stat().st_size < 1.5e6


@pytest.mark.parametrize("headless", [True, False])
def test_a_headless_notebook_shows_the_first_frame_and_a_live_one_the_widgets(
    table,  # noqa: F811
    tmp_path,
    monkeypatch,
    headless,
):
    monkeypatch.setenv("SOURCEMATTERS_HEADLESS", "1" if headless else "")
    path = tmp_path / "a b" / "results" / PAGE
    linked = []
    monkeypatch.setattr(explorer, "display", linked.append)
    shown = explore(subject_of(table, "tag", caution="drawn"), ["tag", "gamma"], path, beside=path.parent / "notebooks")
    assert path.is_file()
    (link,) = linked
    assert [about["href"] for tag, about in Parts(link.data).tags if tag == "a"] == [f"../{PAGE}"]
    if not headless:
        assert type(shown).__name__ == "VBox" and len(shown.children) == 2
        return
    tags = Parts(shown.data).tags
    assert [opened(about["src"]).format for tag, about in tags if tag == "img"] == ["WEBP"] * len(PANELS)
    assert "tag on i1 (positive): drawn" in shown.data and len(shown.data) < 200_000
    assert not any(tag == "script" for tag, _ in tags)


def test_where_nothing_can_be_drawn_it_says_so(table, tmp_path):  # noqa: F811
    with pytest.raises(StudyError, match=r"^explorer: no confounder can be drawn on i1 \(positive\)\. Choose"):
        explore(subject_of(table, "ring_artefact"), ["ring_artefact"], tmp_path / PAGE, beside=tmp_path)
    assert not list(tmp_path.glob("*.html"))
