"""What is published reads as prometheus_client writes it, however it was made."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, utils
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.registry import Collector

from flowmetrics.exposition import (
    CONTENT_TYPE,
    OPENMETRICS_CONTENT_TYPE,
    Page,
    number_text,
    render,
    render_openmetrics,
)
from flowmetrics.families import Family, Labels, Sample

go_text: Callable[[float], str] = utils.floatToGoString
parse_openmetrics: Callable[[str], Iterator[Metric]] = openmetrics.text_string_to_metric_families

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text('"\\\nn,={}# é', max_size=8)
values = st.floats() | st.integers(-(2**60), 2**60).map(float) | st.sampled_from([0.0, -0.0, 1e6, 1e7, 5e-324])
label_names = st.sampled_from(["value_stream", "item_type", "window", "percentile", "A_1", "_x"])
label_sets = st.dictionaries(label_names, texts, max_size=4).map(lambda pairs: tuple(pairs.items()))


@st.composite
def families(draw: st.DrawFn, name: str) -> Family:
    kind = draw(st.sampled_from(["gauge", "counter"]))
    shown = draw(st.lists(label_sets, max_size=4, unique_by=frozenset))
    samples = tuple(Sample(labels, draw(values)) for labels in shown)
    return Family(name + "_total" * (kind == "counter"), draw(texts), kind, samples)  # type: ignore[arg-type]


pages = st.lists(st.sampled_from("abcd"), unique=True).flatmap(
    lambda names: st.tuples(*(families(f"flow:metrics_{n}") for n in names))
)


class Shown(Collector):
    """Shows families to prometheus_client."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            if family.samples:
                make = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
                metric = make(family.name, family.help)
                for sample in family.samples:
                    metric.add_sample(family.name, dict(sample.labels), sample.value)
                yield metric


def by_prometheus_client(families: Iterable[Family]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Shown(families))
    return generate_latest(registry)


def with_sorted_labels(families: Iterable[Family]) -> list[Family]:
    """prometheus_client sorts labels by name; we leave them as they are given."""
    return [
        Family(f.name, f.help, f.type, tuple(Sample(tuple(sorted(s.labels)), s.value) for s in f.samples))
        for f in families
    ]


def read(text: bytes) -> list[tuple[str, str, str, list[tuple[str, dict[str, str], str]]]]:
    return [
        (m.name, m.documentation, m.type, [(s.name, s.labels, go_text(s.value)) for s in m.samples])
        for m in parse(text.decode())
    ]


def gauge(*samples: tuple[Labels, float], name: str = "depth", help: str = "How deep.") -> Family:  # noqa: A002
    return Family(name, help, "gauge", tuple(Sample(labels, value) for labels, value in samples))


@given(pages)
def test_a_page_has_the_bytes_of_prometheus_client_once_labels_are_sorted(page: tuple[Family, ...]) -> None:
    assert render(with_sorted_labels(page)) == by_prometheus_client(page)


@given(pages)
def test_a_page_says_the_same_as_prometheus_client_in_any_order_of_labels(page: tuple[Family, ...]) -> None:
    assert read(render(page)) == read(by_prometheus_client(page))


@given(st.lists(pages, max_size=6))
def test_a_page_that_remembers_gives_the_same_bytes_as_one_that_does_not(
    sequence: list[tuple[Family, ...]],
) -> None:
    page = Page()
    for families in sequence:
        assert page.render(families) == render(families)


@given(pages, st.data())
def test_values_that_change_and_series_that_come_and_go_are_all_seen(
    page: tuple[Family, ...], data: st.DataObject
) -> None:
    remembering = Page()
    remembering.render(page)
    changed = [
        Family(f.name, f.help, f.type, tuple(Sample(s.labels, data.draw(values)) for s in f.samples if keep))
        for f in page
        for keep in [data.draw(st.booleans())]
    ]
    for families in (changed, page, changed[1:], page):
        assert remembering.render(families) == render(families)


@given(values)
def test_numbers_are_written_as_go_writes_them_and_read_back_the_same(value: float) -> None:
    text = number_text(value)
    assert text == go_text(value)
    assert math.isnan(value) or (float(text) == value and math.copysign(1, float(text)) == math.copysign(1, value))


@given(st.lists(st.tuples(st.integers(0, 4_000_000_000_000), pages), max_size=4))
def test_openmetrics_reads_back_in_time_order_with_every_value(
    readings: list[tuple[int, tuple[Family, ...]]],
) -> None:
    plain = [(ms / 1000, [f for f in page if f.type == "gauge"]) for ms, page in readings]
    text = render_openmetrics(plain).decode()
    assert text.endswith("# EOF\n")
    told = {
        (f.name, frozenset(s.labels), round(at * 1000)): number_text(s.value)
        for at, page in dict(plain).items()
        for f in page
        for s in f.samples
    }
    read_back = {
        (s.name, frozenset(s.labels.items()), round(float(str(s.timestamp)) * 1000)): go_text(s.value)
        for metric in parse_openmetrics(text)
        for s in metric.samples
    }
    assert read_back == told


def test_content_types_are_those_of_prometheus_client() -> None:
    assert CONTENT_TYPE == CONTENT_TYPE_PLAIN_0_0_4
    assert OPENMETRICS_CONTENT_TYPE == CONTENT_TYPE_LATEST


def test_labels_stand_in_the_order_in_which_they_are_given() -> None:
    family = gauge(((("window", "1d"), ("item_type", "risk")), 1.0))
    assert b'depth{window="1d",item_type="risk"} 1.0\n' in render([family])


def test_a_family_without_samples_prints_nothing() -> None:
    assert render([gauge()]) == Page().render([gauge()]) == b""
    assert render_openmetrics([(1.0, [gauge()])]) == b"# EOF\n"


def test_a_word_that_has_no_utf8_does_not_cost_the_page() -> None:
    family = gauge(((("feature", "\ud800"),), 1.0), ((), 2.0))
    assert render([family]).endswith(b'depth{feature="?"} 1.0\ndepth 2.0\n')


def test_a_remembering_page_sees_zero_turn_negative_and_a_help_text_change() -> None:
    page = Page()
    for family in (gauge(((), 0.0)), gauge(((), -0.0)), gauge(((), -0.0), help="How far down.")):
        assert page.render([family]) == render([family])


def test_a_remembering_page_keeps_nothing_that_the_latest_page_did_not_show() -> None:
    page = Page()
    page.render([gauge(*[((("n", str(n)),), 1.0) for n in range(9)]), gauge(((), 1.0), name="other")])
    page.render([gauge(((("n", "1"),), 1.0))])
    (block,) = page._blocks.values()
    assert (len(block.labels), len(block.prefixes), len(block.lines)) == (1, 1, 1)


def test_openmetrics_names_a_counter_without_total_and_keeps_a_series_together() -> None:
    def at(time: float, a: float, b: float) -> tuple[float, list[Family]]:
        samples = (Sample((("s", "a"),), a), Sample((("s", "b"),), b))
        return time, [Family("seen_total", 'Seen, "all".', "counter", samples)]

    assert render_openmetrics([at(1.5, 1, 2), at(2.0, 3, 4)]).decode().splitlines() == [
        r"# HELP seen Seen, \"all\".",
        "# TYPE seen counter",
        'seen_total{s="a"} 1.0 1.500',
        'seen_total{s="a"} 3.0 2.000',
        'seen_total{s="b"} 2.0 1.500',
        'seen_total{s="b"} 4.0 2.000',
        "# EOF",
    ]


def promtool(*arguments: str, stdin: bytes = b"") -> bytes:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("left out: promtool is not on this machine, so its reading of the text was not tried")
    ran = subprocess.run([path, *arguments], input=stdin, capture_output=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout + ran.stderr


def test_promtool_has_nothing_to_say_about_a_page() -> None:
    families = [
        gauge(((("value_stream", 'a "b"\\\nc'), ("percentile", "p50")), 3e7), name="flow_time_seconds"),
        Family("seen_total", "How many were seen.", "counter", (Sample((), 1e9),)),
    ]
    assert promtool("check", "metrics", stdin=render(families)) == b""


def test_promtool_makes_blocks_of_openmetrics_that_hold_every_sample(tmp_path: Path) -> None:
    begin = 1_740_873_600
    words = ["plain", 'quote " backslash \\ line\nbreak', "한국어"]
    readings = [
        (
            begin + 900.0 * i,
            [
                gauge(*[((("value_stream", w),), i + 0.25) for w in words]),
                Family("seen_total", 'All "seen".', "counter", (Sample((), float(i)),)),
            ],
        )
        for i in range(100)
    ]
    (tmp_path / "history.txt").write_bytes(render_openmetrics(readings))
    blocks = str(tmp_path / "blocks")
    (tmp_path / "blocks" / "wal").mkdir(parents=True)  # without one, some versions of promtool cannot dump
    promtool("tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "history.txt"), blocks)
    dumped = promtool("tsdb", "dump", blocks).decode().splitlines()
    assert sum("seen_total" in line for line in dumped) == 100
    assert sum('value_stream="plain"' in line for line in dumped) == 100
    assert f"99.25 {begin * 1000 + 99 * 900_000}" in "\n".join(line for line in dumped if "한국어" in line)
