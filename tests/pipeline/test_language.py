"""Megatron's layout language: what it says, what comes back, and what is no layout at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.pipeline.language import MAX_TOKENS, LayoutSyntaxError, format_layout, parse_layout

CHUNKS = st.lists(st.text("EtmL", max_size=12), min_size=1, max_size=10)

READ = [
    ("EttL", ("EttL",)),
    ("Ett|ttL", ("Ett", "ttL")),
    ("Et*3|t*2|t*2L", ("Ettt", "tt", "ttL")),
    ("E|(t|)*3L", ("E", "t", "t", "t", "L")),
    ("Et*2|(tt|)*2mL", ("Ett", "tt", "tt", "mL")),
    ("E|t*2|(tt|)*2,m|L", ("E", "tt", "tt", "tt", "m", "L")),
    ("E,t,t | t,t, L", ("Ett", "ttL")),
    ("(Et*2|t*3)|L", ("Ett", "ttt", "L")),
    ("Et|*3tL", ("Et", "", "", "tL")),
    ("E|||L", ("E", "", "", "L")),
    ("t*0", ("",)),
    ("", ("",)),
    ("Et*4|(t*4|)*14t*1mL", ("Etttt", *(["tttt"] * 14), "tmL")),
]

NOT_READ = [
    ("Ex*3L", "'x' is not one of"),
    ("Et*3|x*3L", "'x'"),
    ("E t*|L", "'*'"),
    ("*3tL", "'*'"),
    ("3*tL", "'3'"),
    ("et|L", "'e'"),
    ("Et-2L", "'-'"),
    ("E(t(t|)*2)*2L", "nested"),
    ("E(tt|*2L", "parentheses"),
    ("Ett)*2L", "parentheses"),
    ("E(xx|)*2L", "'x'"),
    ("t*99999999999999999999", "repeats to more than"),
    (f"t*{MAX_TOKENS + 1}", "repeats to more than"),
    (f"(t*{MAX_TOKENS}|)*9", "repeats to more than"),
    ("Et🙂L", "is not one of"),
]


@pytest.mark.parametrize(("text", "chunks"), READ)
def test_what_a_string_says(text: str, chunks: tuple[str, ...]) -> None:
    assert parse_layout(text) == chunks


@pytest.mark.parametrize(("text", "complaint"), NOT_READ)
def test_what_is_no_layout_says_where(text: str, complaint: str) -> None:
    with pytest.raises(LayoutSyntaxError, match=r"^layout string ") as caught:
        parse_layout(text)
    assert complaint in str(caught.value)
    assert caught.value.text == text
    assert caught.value.problem in str(caught.value)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(CHUNKS)
def test_what_is_written_is_read_back(chunks: list[str]) -> None:
    assert parse_layout(format_layout(chunks)) == tuple(chunks)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(CHUNKS)
def test_written_layouts_fold_every_run(chunks: list[str]) -> None:
    text = format_layout(chunks)
    assert not any(token * 2 in text for token in "EtmL")
    assert text.count("|") == len(chunks) - 1


@settings(max_examples=200, deadline=None, derandomize=True)
@given(CHUNKS, st.integers(0, 5), st.text("Etm", max_size=3), st.text("tmL", max_size=3))
def test_a_group_is_what_it_repeats(chunks: list[str], times: int, before: str, after: str) -> None:
    body = "|".join(chunks)
    assert parse_layout(f"{before}({body})*{times}{after}") == parse_layout(before + body * times + after)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=30))
def test_any_text_is_a_layout_or_a_syntax_error(text: str) -> None:
    try:
        chunks = parse_layout(text)
    except LayoutSyntaxError as error:
        assert error.problem
        return
    assert set("".join(chunks)) <= set("EtmL")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(CHUNKS, st.integers(0, 60), st.sampled_from([" ", ",", "\n", ", "]))
def test_commas_and_spaces_are_ignored(chunks: list[str], where: int, filler: str) -> None:
    text = format_layout(chunks)
    where = min(where, len(text))
    assert parse_layout(text[:where] + filler + text[where:]) == tuple(chunks)
