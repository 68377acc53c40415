"""Pages that follow from the package are those that it makes now: columns of tables, and every confounder."""

import re

import documented
import pytest
from PIL import Image

from sourcematters import confounders
from sourcematters.confounders import Artefact

DOCS = documented.ROOT / "docs"
MAKE = "run: python docs/make_pages.py"


@pytest.fixture(scope="module")
def pages():
    return documented.make_pages()


@pytest.fixture(scope="module")
def sections():
    """The page of confounders, by its headings."""
    text = (DOCS / "confounders.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.M | re.S))


def test_the_pages_are_those_that_are_made_now(pages):
    for page, made in (("tables.md", pages.tables()), ("confounders.md", pages.gallery())):
        by_hand, _, rest = (DOCS / page).read_text(encoding="utf-8").partition(pages.MADE)
        assert by_hand.startswith("# ") and pages.MADE + rest == made, MAKE


def test_every_column_has_a_unit_and_a_meaning_and_stands_once(pages):
    rows = pages.documented()
    assert (rows["meaning"] != "").all() and (rows.loc[rows["column"] != "", "unit"] != "").all()
    each = [(table, column) for table, names in zip(rows["table"], rows["column"], strict=True) for column in
            names.split(", ")]  # fmt: skip
    assert len(each) == len(set(each))
    page = (DOCS / "tables.md").read_text(encoding="utf-8")
    assert all(f"### {table}\n" in page for table in rows["table"])


def package():
    return {name: kind for name, kind in confounders.known().items() if kind.__module__.startswith("sourcematters.c")}


@pytest.mark.parametrize("name", package())
def test_every_confounder_has_a_section_with_its_leaf_practice_and_parameters(sections, name):
    kind, section = confounders.known()[name], sections[name]
    assert kind.practice in section and (kind.model_fields["leaf"].is_required() or kind().leaf in section
                                         if not kind.sampled else True)  # fmt: skip
    for key, field in kind.parameters().items():
        (row,) = re.findall(rf"^\| `{key}` \|.*$", section, re.M)
        assert field.description in row
        if isinstance(field.default, str) and field.default:
            assert f"`{field.default}`" in row


def test_there_is_a_picture_of_each_that_is_drawn_and_all_are_small(pages, sections):
    drawn = {pages.picture_of(kind()) for kind in package().values() if not kind.sampled}
    there = {f"gallery/{path.name}": path for path in (DOCS / "gallery").iterdir()}
    assert set(there) == drawn, MAKE
    assert sum(path.stat().st_size for path in there.values()) < 1_500_000
    for name, path in there.items():
        with Image.open(path) as image:
            assert image.size == (3 * pages.SIDE + 2 * pages.GAP, pages.HEAD + pages.SIDE)
        assert sum(name in section for section in sections.values()) == 1


def test_a_picture_shows_what_is_done(pages):
    sheet = pages.picture(confounders.make("tag", height=400, x=300, y=300))
    boxes = [(place * (pages.SIDE + pages.GAP), pages.HEAD) for place in range(3)]
    without, carrying, difference = (sheet.crop((x, y, x + pages.SIDE, y + pages.SIDE)) for x, y in boxes)
    assert carrying.getextrema()[1] > 240 and without.tobytes() != carrying.tobytes()
    assert difference.getpixel((5, 5)) == 128 and difference.getextrema()[1] > 150


def test_a_new_confounder_or_parameter_is_missed_on_the_page(pages, monkeypatch):
    page = (DOCS / "confounders.md").read_text(encoding="utf-8")

    class Stamp(Artefact):
        """A stamp."""

        name: str = "stamp"
        leaf: str = "annotation"
        title, practice = "stamp", "Nowhere."

        def draw(self, image, key):
            return image + 1, image == image

    assert "stamp" not in page and pages.gallery() in page
    monkeypatch.setitem(confounders.known(), "stamp", Stamp)
    assert "### stamp\n" not in pages.gallery(), "it is not the package's"
    Stamp.__module__ = "sourcematters.confounders.stamp"
    assert "### stamp\n" in pages.gallery()
