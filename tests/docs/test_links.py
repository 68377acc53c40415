"""Every link between files of the repository leads somewhere, and every table that is named is known; no network."""

import re

import documented
import pytest

ROOT = documented.ROOT
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "notebooks" / "DIFFERENCES.md"])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def text_of(path):
    """A page without its code, in which brackets are no links."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def anchors_of(path):
    """The anchors of a page's headings, as code hosts name them."""
    text, found = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S), []
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return set(found)


def broken(path):
    """The links of a page to files or headings that are not there."""
    said = []
    for target in LINK.findall(text_of(path)):
        if re.match("[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.exists() or not there.is_relative_to(ROOT):
            said.append(target)
        elif anchor and (there.suffix != ".md" or anchor not in anchors_of(there)):
            said.append(target)
    return said


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    assert broken(path) == []


def test_a_link_to_nothing_is_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page, other = tmp_path / "a.md", tmp_path / "b.md"
    other.write_text("# One `heading`, two\n\n## NIH (CXR-14)\n")
    good = "[x](b.md#one-heading-two) [x](b.md#nih-cxr-14) [x](#here) `[x](no.md)` [x](https://no.example/)"
    page.write_text(f"# Here\n\n{good}\n\n```\n[x](no.md)\n```\n[x](c.md) [x](b.md#none) [x](../a.md) ![x](no.png)\n")
    assert broken(page) == ["c.md", "b.md#none", "../a.md", "no.png"]


def test_the_pages_have_links():
    assert sum(len(LINK.findall(text_of(path))) for path in PAGES) > 60


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tables_that_are_named_are_written(path):
    rows = documented.make_pages().documented()
    known = [documented.regex(name) for names in rows["table"].unique() for name in names.split(", ")]
    for name in re.findall(r"\b(?:tables|figures|plans|runs|cohorts)/[\w*/-]+\.csv", path.read_text(encoding="utf-8")):
        if path.name != "CHANGELOG.md":  # which tells of tables that are no more
            assert any(pattern.fullmatch(name.replace("*", "x")) for pattern in known), name
