"""On which line a key stands, in TOML and in JSON."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcpctl.documents.fields import Document, Field, Kind, Table
from dcpctl.documents.lines import Where, json_line, toml_keys, toml_line
from dcpctl.documents.parsing import parse_toml
from dcpctl.errors import UsageError

TOML = '''\
top = """
[not.a.table]
x = 1 \\"""
""" # [nor.this]
[a]
"b.c" . 'd e' = [
  1, # ]
  "]",
]
f = { g = 1, h.i = [{ j = 2 }] }
[[list]]
x = 1
[list.sub]
y = 1
[[list]]
x = 2
[list.sub]
y = 2
[[list.more]]
z = 1
"\\u00fc" = 1
'''


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (("top",), 1),
        (("not", "a", "table"), None),
        (("a",), 5),
        (("a", "b.c", "d e"), 6),
        (("a", "f", "h", "i"), 10),
        (("list", 0), 11),
        (("list", 0, "x"), 12),
        (("list", 0, "sub", "y"), 14),
        (("list", 1), 15),
        (("list", 1, "x"), 16),
        (("list", 1, "sub", "y"), 18),
        (("list", 1, "more", 0, "z"), 20),
        (("list", 1, "more", 0, "ü"), 21),
        (("list", 1, "missing"), 15),
        (("list", 2), None),
    ],
    ids=str,
)
def test_toml(where: Where, line: int | None) -> None:
    assert toml_line(TOML, where, 64) == line


JSON = """\
{"a": 1,
 "b": {"c": [
   1,
   {"d": "e: {[", "\\u00fc": 2},
   [3,
    4]
 ], "d": 5},
 "l\\"": [],
 "e": ["x",
  "y"]}"""


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (("a",), 1),
        (("b",), 2),
        (("b", "c", 0), 3),
        (("b", "c", 1), 4),
        (("b", "c", 1, "ü"), 4),
        (("b", "c", 1, "missing"), 4),
        (("b", "c", 2, 0), 5),
        (("b", "c", 2, 1), 6),
        (("b", "d"), 7),
        (('l"',), 8),
        (("e", 1), 10),
        (("missing",), None),
    ],
    ids=str,
)
def test_json(where: Where, line: int | None) -> None:
    json.loads(JSON)
    assert json_line(JSON, where) == line


@given(st.text(alphabet="ab.=[]{}\"'#\\\n, ", max_size=60))
def test_any_text_has_keys_or_none(text: str) -> None:
    for key in toml_keys(text, 8):
        assert 1 <= key.line <= text.count("\n") + 1


@given(
    st.dictionaries(
        st.text(alphabet='ab."\\\n é', max_size=3),
        st.dictionaries(st.text(alphabet="ab.", max_size=3), st.integers(), max_size=3),
        max_size=4,
    )
)
def test_every_key_of_a_document_is_found(tables: dict[str, dict[str, int]]) -> None:
    lines = []
    expected: dict[Where, int] = {}
    for name, table in tables.items():
        lines.append(f"[{json.dumps(name)}]")
        expected[name,] = len(lines)
        for key, value in table.items():
            lines.append(f"{json.dumps(key)}={value}")
            expected[name, key] = len(lines)
    text = "\n".join(lines)
    assert parse_toml(text) == tables
    assert {where: toml_line(text, where, 8) for where in expected} == expected


def test_what_tomllib_takes_hours_for_is_refused() -> None:
    begin = time.process_time()
    for text in (
        "a." * 500_000 + "b = 1",
        f"[{'a.' * 500_000}b]",
        "x = {" + "a." * 500_000 + "b = 1}",
        "x = " + "[" * 100_000,
        "x = " + "{a=" * 100_000,
        "".join(f"{'.'.join('abcdefghijklmnopqrstuvwxyz')}{n} = 1\n" for n in range(20_000)),
        "".join(f"[a{n}]\n" for n in range(600_000)),
    ):
        with pytest.raises(ValueError, match=r"nested too deeply|too many keys"):
            parse_toml(text)
    assert time.process_time() - begin < 10


def test_an_error_names_the_line(tmp_path: Path) -> None:
    kind = Kind("list", UsageError, 1 << 20)
    path = tmp_path / "file"
    path.write_text('{"schema": "x/1",\n "a": 1,\n "b": 2}')
    document = Document.of_json(path, kind, "x/1", "")
    table = Table(document, (), document.found)
    with pytest.raises(UsageError, match=r"file', line 3: 'b' is no text$"):
        table.declared(Field("b", lambda value: isinstance(value, str), "is no text"))
    with pytest.raises(UsageError, match=r"file': 'c' is missing$"):
        table.declared(Field("c", lambda value: True, "is missing"))
    path.write_text("x = 1\n[a]\ny = " + "f" * 5 + "alse\n".replace("alse", ""))
    with pytest.raises(UsageError, match="cannot be parsed"):
        Document.of_toml(path, kind)
    path.write_text(f"x = 0x{'f' * 9000}\n")
    document = Document.of_toml(path, kind)
    with pytest.raises(UsageError, match=r"line 1: 'x' is something enormous, expected a text"):
        Table(document, (), document.found).text("x")
