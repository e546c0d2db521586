"""BibTeX entries are read strictly, and what they lack is said."""

from __future__ import annotations

import pytest

from fewshot_i2v.utils.bibtex import entry_problems, parse_entries

ENTRY = """@Article{doe2024:a,
  Author = {Doe, J{\\"o}rg and {A Group}}, title = "One {"} of
    two", year = 2024, month = jul,
  journal = {J}
}"""


def test_fields_are_read_and_the_text_stays() -> None:
    (entry,) = parse_entries(f"% of a paper\n\n{ENTRY}\n% and nothing else")
    assert (entry.kind, entry.key, entry.text) == ("article", "doe2024:a", ENTRY)
    assert entry.fields == {
        "author": 'Doe, J{\\"o}rg and {A Group}',
        "title": 'One {"} of two',
        "year": "2024",
        "month": "jul",
        "journal": "J",
    }
    assert list(entry_problems(entry)) == []


def test_the_margin_of_a_text_in_python_goes() -> None:
    text = """
    @misc{a,
      title = {B},
    }
    """
    assert [entry.text for entry in parse_entries(text)] == ["@misc{a,\n  title = {B},\n}"]


def test_an_entry_has_the_same_content_under_another_key() -> None:
    (entry,) = parse_entries("@misc{misc, title = {misc}}")
    other = entry.with_key("b-2")
    assert other.text == "@misc{b-2, title = {misc}}"
    assert parse_entries(other.text)[0] == other
    assert other.content == entry.content
    assert other.content != parse_entries("@misc{misc, title = {Misc}}")[0].content


def test_nothing_is_no_entry() -> None:
    assert parse_entries(" \n% only this\n") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Doe, J., A Title, 2024", "expected an entry such as @misc"),
        ("@misc{a, title = {B}} x", "found 'x'"),
        ("@misc{, title = {B}}", "expected an entry"),
        ("@misc{a title = {B}}", "expected an entry"),
        ("@string{a = {B}}", "expected an entry"),
        ("@misc{a, title = {B}", "entry a: expected a field .* found the end of the text"),
        ("@misc{a, title = {B} year = {C}}", "entry a: expected a field .* found 'year"),
        ("@misc{a, title = {B {C}}", "entry a: expected a field"),
        ("@misc{a, title = {B {C}, year = {2024}", "entry a: title: its braces are not balanced"),
        ('@misc{a, title = "B } C"}', "entry a: title: its braces are not balanced"),
        ("@misc{a, title = {B}}}", "found '}'"),
        ("@misc{a, title = , year = {C}}", "entry a: title: expected {...}"),
        ("@misc{a, title = {B}, Title = {C}}", "entry a: the field title is there twice"),
        ("@misc{a, title = {B}}\n@misc{A, title = {B}}", "the key A is there twice"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_entries(text)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("author = {D}, ", ""), "has no author"),
        (("title = {T}, ", ""), "has no title"),
        (("title = {T}", "title = {}"), "has no title"),
        (("year = {2024}", "year = {in press}"), "has the year 'in press'; expected four digits"),
        ((", url = {u_1%20}", ""), "has neither an address (url, doi, eprint) nor a venue"),
        (("{T}", "{A & B}"), "has & in title, which LaTeX reads as a command; write \\&"),
        (("{T}", "{100% sure}"), "has % in title"),
        (("{D}", "{D\u00f6}"), "has letters in author that not every BibTeX reads"),
    ],
)
def test_what_an_entry_lacks_is_said(change: tuple[str, str], problem: str) -> None:
    text = "@misc{a, author = {D}, title = {T}, year = {2024}, url = {u_1%20}}"
    assert list(entry_problems(parse_entries(text)[0])) == []
    found = list(entry_problems(parse_entries(text.replace(*change))[0]))
    assert [line[: len(problem)] for line in found] == [problem]
