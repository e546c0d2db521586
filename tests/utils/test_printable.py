"""Nothing of a file acts on the terminal that it is shown on."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest

from fewshot_i2v.utils import progress
from fewshot_i2v.utils.printable import printable, printable_output
from fewshot_i2v.utils.yaml import dump_yaml, parse_yaml

HOSTILE = "a\x1b[2J\x9b31m\r\x07\x7f‮b⁦‏﻿ "
ACTING = {"Cc", "Zl", "Zp"}


def test_signs_become_escapes_and_letters_stay() -> None:
    assert printable("a\x1b[31mb\rc\x9bd‮e") == "a\\x1b[31mb\\x0dc\\u009bd\\u202ee"
    kept = "Übung 走る حركة चलना 👩‍🚀 ± 95 %\n\tline"
    assert printable(kept) == kept


def test_no_sign_that_acts_is_left() -> None:
    left = printable("".join(map(chr, range(0x10000))))
    assert {c for c in left if unicodedata.category(c) in ACTING} == {"\n", "\t"}
    turning = {"RLE", "LRE", "RLO", "LRO", "PDF", "RLI", "LRI", "FSI", "PDI"}
    assert not [c for c in left if unicodedata.bidirectional(c) in turning]


def test_json_and_yaml_stay_the_same_data() -> None:
    data = {"name": HOSTILE}
    assert json.loads(printable(json.dumps(data, ensure_ascii=False))) == data
    assert parse_yaml(printable(dump_yaml(data)), "a.yaml") == data


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_all_that_is_printed_goes_through_it(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    import click

    streams = [io.BytesIO(), io.BytesIO()]
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        text = io.TextIOWrapper(stream, encoding=encoding, errors="backslashreplace")
        monkeypatch.setattr(sys, name, text)
    with printable_output():
        click.echo(HOSTILE)
        click.echo(HOSTILE, err=True)
        click.UsageError(HOSTILE).show()
        sys.stdout.flush()
        sys.stderr.flush()
    for stream in streams:
        written = stream.getvalue().decode()
        assert written
        assert printable(written) == written


def test_a_label_of_a_bar_is_escaped_and_the_bar_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    shown.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", shown)
    with printable_output():
        list(progress.bar(range(3), progress=True, desc="a\x1b[2Jb"))
    assert "\ra\\x1b[2Jb 3 of 3 it |" in shown.getvalue()
    assert "\x1b[2J" not in shown.getvalue()
