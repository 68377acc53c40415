"""Sources can be told apart in every figure, and look the same in all of them."""

import pytest

import sourcematters.demo.standins  # noqa: F401  (registers the stand-ins)
from sourcematters.errors import StudyError
from sourcematters.results import style


def test_styles_are_distinct_in_colour_marker_and_line():
    chosen = style.styles(["mine", "imagenet", "radimagenet", "random", "yours", "third", "fourth"])
    for field in list(zip(*chosen.values(), strict=True))[:3]:
        assert len(set(map(str, field))) == 7
    # Lightness tells them apart only in part; a colour-blind-safe palette is Okabe's and Ito's.
    assert chosen["imagenet"].color == "#D55E00" and chosen["radimagenet"].color == "#0072B2"


def test_styles_do_not_depend_on_the_order_and_stand_ins_wear_their_sources_colours():
    assert style.styles(["b", "random", "a"]) == style.styles(["a", "b", "random"])
    assert style.styles(["natural-standin"]) == {"natural-standin": style.NATURAL}
    both = style.styles(["imagenet", "natural-standin"])
    assert both["imagenet"] == style.NATURAL and both["natural-standin"] in style.OTHERS


def test_a_matched_source_has_its_sources_colour_and_marker_but_is_told_apart():
    chosen = style.styles(["random", "radimagenet+matched", "mine+matched", "radimagenet", "mine"])
    assert list(chosen) == ["radimagenet", "radimagenet+matched", "random", "mine", "mine+matched"]
    for name in ("radimagenet", "mine"):
        plain, matched = chosen[name], chosen[f"{name}+matched"]
        assert (plain.color, plain.marker) == (matched.color, matched.marker)
        assert (plain.hollow, matched.hollow) == (False, True) and plain.linestyle != matched.linestyle
    assert style.styles(["imagenet+matched"])["imagenet+matched"].color == style.NATURAL.color
    assert style.styles(["radimagenet-keras"]) == {"radimagenet-keras": style.RADIOLOGY}


def test_a_confounder_is_called_by_its_title_and_by_its_name_where_that_is_its_own():
    assert style.title_of("noise_high_vs_low") == "noise, high vs low"
    assert style.title_of("scale_bar_of_mine") == "scale bar of mine"


@pytest.mark.parametrize(
    ("name", "of", "words"),
    [
        ("natural-standin", "source", "natural stand-in"),
        ("radiology-standin+matched", "source", "radiology stand-in, matched"),
        ("imagenet", "source", "ImageNet"),
        ("radimagenet-keras", "source", "RadImageNet (Keras)"),
        ("my_net-2", "source", "my net-2"),
        ("noise", "source", "noise"),  # a source of one's own may be called as a confounder is
        ("noise", "confounder", "noise vs none"),
        ("lung-mass-ct", "task", "lung mass, CT"),
        ("COVID-19", "task", "COVID-19"),
    ],
)
def test_sources_tasks_and_confounders_have_names_in_words(name, of, words):
    assert style.title_of(name, of) == words


def test_a_text_names_each_source_in_words_and_no_part_of_another():
    text = "imagenet is not radimagenet; radimagenet-keras, too"
    found = style.named(text, ["imagenet", "radimagenet", "radimagenet-keras"])
    assert found == "ImageNet is not RadImageNet; RadImageNet (Keras), too"
    assert style.named(text, []) == text
    assert style.named("Radiology-standin leans.", ["radiology-standin"]) == "Radiology stand-in leans."


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.5, "0.5"), (1024, "1,024"), (64.0, "64"), (0, "0"), (2e6, "2 \u00d7 10\u2076"), (1.5e7, "1.5 \u00d7 10\u2077")],
)
def test_numbers_are_written_as_people_write_them(value, written):
    assert style.number(value).replace("\u00a0", " ") == written


def test_panels_are_lettered_and_a_single_one_is_not():
    assert style.letters(1) == [""] and style.letters(3) == ["a", "b", "c"]
    assert style.letters(28)[25:] == ["z", "aa", "ab"]


def test_more_sources_than_styles_are_refused():
    with pytest.raises(StudyError, match="cannot tell 8 sources apart: .* Compare fewer at once"):
        style.styles("abcdefgh")
