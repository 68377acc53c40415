"""Figures on the page: what they are called, what those hear who do not see them, and that they are tame."""

import re

import pytest
import small_results
from PIL import Image
from small_results import curves, figure, picture, write

from sourcematters import report
from sourcematters.report.captions import caption
from sourcematters.report.pictures import embedded, pictures


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "demo"


def test_the_alternative_text_says_what_the_curves_do(folder):
    ends = {("a", "ood"): (0.81, 0.365), ("b", "ood"): (0.7, 0.71), ("a", "iid"): (0.5, 1.0)}
    curves(folder, "tag", ends)
    told = pictures(folder)["tag"].caption
    assert told.title == "AUC against the strength of tag (lesion)"
    assert "from strength 0 to 1" in told.alt and "tag: a 0.81 to 0.36 and b 0.70 to 0.71" in told.alt


def test_the_curves_of_two_tasks_are_not_taken_for_one(folder):
    head = "task,confounder,source,test_set,p_art,mean\n"
    lines = ["x-ray,noise,a,ood,0,.9", "x-ray,noise,a,ood,1,.7", "ct,noise,a,ood,0,.6", "ct,noise,a,ood,1,.2"]
    write(folder / "figures" / "overview.csv", head + "\n".join(lines))
    picture(folder / "figures" / "overview.png")
    alt = pictures(folder)["overview"].caption.alt
    assert "(x-ray): a 0.90 to 0.70" in alt and "(ct): a 0.60 to 0.20" in alt


WHERE = "confounder,source,p_art,method,share,area"


@pytest.mark.parametrize(
    ("name", "header", "row", "title", "told"),
    [
        ("fig1_miccat", "level,branch,leaf,tested,confounder", "env,external,tag,True,tag", "Fig. 1 of", "tag"),
        ("fig2_artefacts", "confounder,masked_pixels,changed_pixels", "tag,300,241", "Fig. 2 of", "241 pixels"),
        ("calibration", "shift,auc,auc_keras", "-6,.92,.5", "Two kinds of AUC", "0.92"),
        ("cohort", "image_id,patient_id,label,split", "a,p,1,dev", "Images of each class", "1 with the disease"),
        ("ct_cohort", "image_id,patient_id,label,split", "a,p,1,dev", "CT slices of each class", "1 patients"),
        ("noise_domains", "domain,sd_hu,neighbour_autocorrelation", "hounsfield,44,-.02", "Noise added", "44 HU"),
        ("audit_leaning", "confounder,effect,low,high,verdict", "tag,.4,.3,.5,leans on it", "How far", "0.40 [0.30,"),
        ("audit_data", "what,of,auc,ci_low,ci_high", "sex,attribute,.62,.5,.7", "What tells", "sex 0.62 [0.50, 0.70]"),
        ("against_the_paper", "panel,ours,published,comparable", "a,.7,.8,True", "Our curves", "from -0.10 to -0.10"),
        ("forest", "confounder,a,b,difference,ci_low,ci_high", "tag,x,y,.3,.1,.5", "How much more", "x less y on tag"),
        ("where_share", WHERE, "tag,a,1,occlusion,.31,.02", "How much of the networks'", "a 31 %"),
        ("audit_where_share", WHERE, "tag,m,,occlusion,.31,.02", "How much of the model's", "m 31 %"),
        ("where_maps", "image_id,patient_id,label,area", "i,p,1,.02", "Where the networks look", "covers 2.0 %"),
        ("where_frequencies", "task,source,p_art,frequency,change", "t,a,1,.25,1.5", "Which spatial", "1.50 at 0.25"),
        ("my_own_figure", "a,b", "1,2", "My own figure", "1 rows with a and b"),
    ],
)  # fmt: skip
def test_every_figure_has_a_title_in_words_and_says_its_numbers(folder, name, header, row, title, told):
    write(folder / "figures" / f"{name}.csv", f"{header}\n{row}\n")
    picture(folder / "figures" / f"{name}.png")
    found = pictures(folder)[name].caption
    assert found.title.startswith(title) and "_" not in found.title
    assert told in found.alt


def test_every_figure_of_a_whole_page_has_its_alternative_text(folder):
    small_results.study(folder)
    small_results.audit(folder)
    picture(folder / "figures" / "sheet.png")
    page = report.write(folder).read_text()
    texts = re.findall(r"<img [^>]*alt=\"([^\"]*)\"", page) + re.findall(r"role=\"img\" aria-label=\"([^\"]*)\"", page)
    assert len(texts) == 4 and all(len(text) > 10 for text in texts)


TAME = """<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="90pt" height="9pt"
 viewBox="0 0 90 9" onload="alert(1)">
<script>alert(2)</script><style>body { display: none }</style><metadata>who</metadata>
<foreignObject><iframe src="http://a.example/"/></foreignObject>
<image xlink:href="http://b.example/x.png"/><image xlink:href="data:image/png;base64,AAAA"/>
<a xlink:href="javascript:alert(3)"><text>x</text></a>
<defs><clipPath id="p1"><rect width="9" height="9"/></clipPath></defs>
<g clip-path="url(#p1)" style="fill: url(http://c.example/y)"><use xlink:href="#p1"/><text>&lt;b&gt; kept</text></g>
</svg>"""


def test_a_drawing_runs_nothing_and_asks_for_nothing(folder):
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "it.svg").write_text(TAME)
    drawn = str(embedded(pictures(folder)["it"]))
    for banned in ("script", "alert", "iframe", "example", "display", "metadata", "javascript", "onload"):
        assert banned not in drawn, banned
    assert "data:image/png;base64,AAAA" in drawn and "&lt;b&gt; kept" in drawn
    assert 'id="it-p1"' in drawn and "url(#it-p1)" in drawn and '"#it-p1"' in drawn
    assert re.search(r'style="width: 156px"', drawn), "90 pt are 120 px, a third larger on a screen"


def test_drawings_keep_their_ids_apart(folder):
    for name in ("one", "two"):
        figure(folder, name)
    page = report.write(folder).read_text()
    ids = re.findall(r"\bid=\"([^\"]+)\"", page)
    asked = re.findall(r"url\(#([^)]+)\)", page) + re.findall(r"href=\"#([^\"]+)\"", page)
    assert len(ids) == len(set(ids)) > 10 and set(asked) <= set(ids)


@pytest.mark.parametrize("content", [b"", b"<svg", b"<html></html>", b"<svg/>", b"\x00\xff"])
def test_a_drawing_that_is_none_gives_way_to_the_picture(folder, content, capsys):
    picture(folder / "figures" / "it.png")
    (folder / "figures" / "it.svg").write_bytes(content)
    assert str(embedded(pictures(folder)["it"])).startswith("<img ")
    assert "it.svg: not readable as a figure" in capsys.readouterr().err
    (folder / "figures" / "it.png").write_bytes(content)
    assert embedded(pictures(folder)["it"]) == ""


def test_a_large_picture_becomes_small_and_keeps_its_size_in_print(folder):
    (folder / "figures").mkdir(parents=True)
    noise = Image.effect_noise((2400, 1200), 60)
    noise.save(folder / "figures" / "it.png", dpi=(300, 300))
    drawn = str(embedded(pictures(folder)["it"]))
    assert "data:image/webp" in drawn and len(drawn) < (folder / "figures" / "it.png").stat().st_size
    assert 'width="998" height="499"' in drawn, "8 inches of 96 px, 1.3 times"


def test_names_that_no_table_explains_are_words():
    assert caption("a_b", []).title == "A b"
