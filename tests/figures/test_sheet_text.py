"""Cleaning, measuring, wrapping and shortening of text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvviz.figures.page.text import MISSING, clean, elide, width_of, wrap

words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
lines = st.lists(words, min_size=1, max_size=12).map(" ".join)


@given(lines, st.floats(0.3, 4), st.booleans())
def test_shortened_and_wrapped_lines_fit_the_width(text, width, bold):
    assert width_of(elide(text, width, 6, bold), 6, bold) <= width
    assert all(width_of(line, 6, bold) <= width for line in wrap(text, width, 6, bold))


@given(lines, st.floats(0.3, 4))
def test_shortened_text_keeps_both_ends(text, width):
    short = elide(text, width, 6)
    if short == text:
        return
    head, tail = short.split("…") if short.count("…") == 1 else pytest.fail(short)
    assert text.startswith(head) and text.endswith(tail)
    assert abs(len(tail) - len(head)) <= 4  # equally long, apart from spaces at the ellipsis


def test_shortened_path_keeps_the_file_name():
    assert elide("/data/" + "a" * 200 + "/n01582220_magpie.jpg", 2.0, 6).endswith("magpie.jpg")


@given(lines)
def test_wrapping_keeps_all_words_that_fit(text):
    widest = max(width_of(word, 6) for word in text.split(" "))
    assert " ".join(wrap(text, widest, 6)) == text


def test_lines_break_at_middle_dots_before_spaces():
    caption = "at (17, 27) · activation 8.01"
    assert wrap(caption, width_of("at (17, 27) · activation", 6), 6) == ("at (17, 27)", "activation 8.01")
    assert wrap(caption, 5, 6) == (caption,)


@pytest.mark.parametrize(
    ("given", "drawn"),
    [
        ("cat.jpg", "cat.jpg"),
        ("a\nb\tc", "a b c"),
        ("e\u0301te\u0301", "été"),  # as macOS writes names
        ("猫.jpg", MISSING + ".jpg"),
        ("\udcffx", r"\xffx"),  # a byte of a file name that is not UTF-8
        ("\ud800x", r"\xed\xa0\x80x"),
        ("\x00\x1b[31m", r"\x00\x1b[31m"),
        ("a\u202egpj.exe", r"a\xe2\x80\xaegpj.exe"),  # would reverse the text after it
        ("\U0001f468\u200d\U0001f469", MISSING * 2),  # a joiner between emoji
        (r"$\alpha_1^2$ & <b>", r"$\alpha_1^2$ & <b>"),
        ("", ""),
    ],
)
def test_clean_returns_drawable_text(given, drawn):
    assert clean(given) == drawn


def test_bold_font_has_different_characters():
    sans, sans_bold = "\U0001d5a0", "\U0001d5d4"
    assert (clean(sans), clean(sans_bold)) == (sans, MISSING)
    assert (clean(sans, bold=True), clean(sans_bold, bold=True)) == (MISSING, sans_bold)


def test_width_grows_with_size_and_weight():
    assert width_of("conv3_4", 12) == pytest.approx(2 * width_of("conv3_4", 6))
    assert width_of("conv3_4", 6, bold=True) > width_of("conv3_4", 6)
