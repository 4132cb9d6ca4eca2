"""The language of `when`: what holds, and what is not taken."""

from __future__ import annotations

from datetime import date

import pytest

from flowmetrics.sources.row_conditions import compile_condition

ROW = {
    "kind": "item",
    "n": 5,
    "text": "5",
    "flag": "false",
    "attrs": {"tags": ["a", "b"], "on": date(2025, 3, 2)},
}


@pytest.mark.parametrize(
    "condition",
    [
        'kind == "item"',
        'kind != "note"',
        'kind in ["note", "item"]',
        'kind not in ("note", "task")',
        "n in [4, 5]",
        'n == 5 and text == 5 and n == "5"',
        "4 < n <= 5 and text >= 4.5 and n > -1",
        "not (n < 5 or n > 5)",
        "gone == null and gone != 1 and not gone",
        "not gone > 1 and not gone < 1 and not kind > 1 and not attrs < attrs",
        "flag == false and not flag",
        '"a" in attrs.tags and not "c" in attrs.tags and "a" not in gone',
        '"te" in kind and not n in kind',
        'attrs.on >= "2025-03-01" and attrs.on == "2025-03-02"',
        'startswith(kind, "it") and not startswith(kind, "tem") and not startswith(gone, "")',
        'glob(kind, "i*m") and not glob(kind, "I*") and not glob(gone, "*")',
        'field("kind") == "item" and field("attrs.tags")',
        '  kind == "item"\n  and n == 5  ',
        "true and not false and not null",
    ],
)
def test_a_condition_holds(condition: str) -> None:
    assert compile_condition(condition)(ROW)


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        ("kind = 'x'", "cannot be read"),
        ("kind === 'x'", "cannot be read"),
        ("kind == 'x' && n", "cannot be read"),
        ("", "cannot be read"),
        ("kind\0", "cannot be read"),
        (r'kind == "\d"', "cannot be read"),
        ("kind is null", 'compares "kind" with "is"; write =='),
        ("n + 1 == 2", r'holds "n \+ 1", which is not taken'),
        ("attrs['tags']", "which is not taken"),
        ("__import__('os').system('true')", "calls \"__import__\\('os'\\).system\""),
        ("(lambda: 1)()", "only field, glob, startswith are known"),
        ("startwith(kind, 'x')", 'calls "startwith".* Did you mean "startswith"?'),
        ("glob(kind, n)", "write it as in glob"),
        ("field(kind)", "write it as in field"),
        ("f'{kind}'", "which is not taken"),
        ("kind == b'x'", "write a text, a number, true, false or null"),
        ("-kind", 'only "not" and "-" before a number'),
        ("'a'.upper", "only names can stand before a dot"),
        ("(" * 300 + "n" + ")" * 300, "cannot be read|too deep"),
        ("not " * 3000 + "n", "too deep"),
    ],
)
def test_a_condition_that_is_not_in_the_language_is_refused(condition: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        compile_condition(condition)
