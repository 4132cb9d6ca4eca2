"""How families are written as text: Prometheus 0.0.4 for a scrape, OpenMetrics 1.0 for history.

The only file that knows these formats. Labels are written in the order in which they are given.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from flowmetrics.families import Family, Labels, Sample

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of `render` and `Page.render`."""

OPENMETRICS_CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""The content type of `render_openmetrics`."""


def render(families: Iterable[Family]) -> bytes:
    r"""The text of a page. A family without samples prints nothing.

    The bytes are those of prometheus_client for the same families, once labels are sorted by name as it does.

    >>> load = Family("load_items", "Open items.", "gauge", (Sample((("stream", 'a"b'),), 2.0),))
    >>> print(render([load]).decode(), end="")
    # HELP load_items Open items.
    # TYPE load_items gauge
    load_items{stream="a\"b"} 2.0
    """
    parts = []
    for family in families:
        if family.samples:
            parts.append(_head(family))
            parts.extend(f"{_prefix(family.name, s.labels)}{number_text(s.value)}\n" for s in family.samples)
    return _encoded("".join(parts))


class Page:
    """A page that is written again and again, and remembers what the latest writing can give to the next.

    Gives the bytes of `render`. What it keeps is bounded by the latest page: a family that was not on it is
    forgotten, and so is a series.
    """

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, str, str], _Block] = {}

    def render(self, families: Iterable[Family]) -> bytes:
        """The text of a page; cheap where labels and values are those of the page before."""
        latest: dict[tuple[str, str, str], _Block] = {}
        parts = []
        for family in families:
            if family.samples:
                key = (family.name, family.type, family.help)
                block = latest[key] = self._blocks.get(key) or _Block(family.name, _head(family))
                parts.append(block.render(family.samples))
        self._blocks = latest
        return b"".join(parts)


def render_openmetrics(readings: Iterable[tuple[float, Iterable[Family]]]) -> bytes:
    """The text of families read at several times, each in seconds since 1970 and kept to the millisecond.

    Each family stands once; all samples of one series stand together, in time order. Of two readings of one
    time only the one given later counts. `promtool tsdb create-blocks-from openmetrics` accepts it.

    >>> depth = Family("depth", "How deep.", "gauge", (Sample((), 3.0),))
    >>> print(render_openmetrics([(60.0, [depth]), (0.25, [depth])]).decode(), end="")
    # HELP depth How deep.
    # TYPE depth gauge
    depth 3.0 0.250
    depth 3.0 60.000
    # EOF
    """
    latest = {round(at * 1000): families for at, families in readings}
    chapter = Chapter()
    for millisecond, families in sorted(latest.items()):
        chapter.add(millisecond, families)
    parts, head = [], ""
    for series, text in chapter.texts():
        if series.head != head:
            head = series.head
            parts.append(head)
        parts.append(text)
    return _encoded("".join([*parts, END]))


END: Final = "# EOF\n"
"""The last line of an OpenMetrics text."""


class SeriesName(NamedTuple):
    """What tells a series from all others in an OpenMetrics text."""

    head: str
    """The lines that stand once above all series of the family."""
    start: str
    """What each of its lines begins with: name and labels."""


class Chapter:
    """Readings of successive times, turned over: each series with its samples, as OpenMetrics has them.

    A long history is written in several chapters; the texts of one series, put together in their order, are what a
    single chapter would have given. Each series has `labels` behind its own.

    >>> depth, chapter = Family("depth", "How deep.", "gauge", (Sample((), 3.0),)), Chapter()
    >>> chapter.add(250, [depth])
    >>> chapter.add(60_000, [depth])
    >>> [(series.start, text) for series, text in chapter.texts()]
    [('depth ', 'depth 3.0 0.250\\ndepth 3.0 60.000\\n')]
    """

    def __init__(self, labels: Labels = ()) -> None:
        self._labels = labels
        self._heads: dict[str, str] = {}
        self._series: dict[str, dict[Labels, tuple[array[int], array[float]]]] = {}
        self._times: list[str] = []
        self.samples = 0

    def add(self, millisecond: int, families: Iterable[Family]) -> None:
        """A reading; its time, in milliseconds since 1970, is later than that of every one before."""
        number = len(self._times)
        self._times.append(f" {millisecond / 1000:.3f}\n")
        for family in families:
            by_labels = self._series.get(family.name)
            if by_labels is None:
                by_labels = self._series[family.name] = {}
                self._heads[family.name] = _openmetrics_head(family)
            for sample in family.samples:
                column = by_labels.get(sample.labels)
                if column is None:
                    column = by_labels[sample.labels] = (array("I"), array("d"))
                column[0].append(number)
                column[1].append(sample.value)
            self.samples += len(family.samples)

    def texts(self) -> Iterator[tuple[SeriesName, str]]:
        """Each series with its lines, those of one family together."""
        times = self._times
        for name, by_labels in self._series.items():
            for labels, (numbers, values) in by_labels.items():
                start = _prefix(name, labels + self._labels)
                bits = array("q", values.tobytes())  # NaN equals itself, and zero does not equal negative zero
                words = {key: start + number_text(value) for key, value in dict(zip(bits, values, strict=True)).items()}
                lines = [words[key] + times[number] for number, key in zip(numbers, bits, strict=True)]
                yield SeriesName(self._heads[name], start), "".join(lines)


def number_text(value: float) -> str:
    """A sample's value as prometheus_client writes it: the shortest text that reads back the same.

    >>> [number_text(v) for v in (0.1, -0.0, 1234567.0, float("inf"), float("nan"))]
    ['0.1', '-0.0', '1.234567e+06', '+Inf', 'NaN']
    """
    text = repr(float(value))
    dot = text.find(".")
    if dot > 6 and value > 0:  # Go turns to exponents sooner than Python, and for these only
        mantissa = f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0.")
        return f"{mantissa}e+{dot - 1:02d}"
    return _WORDS.get(text, text)


_WORDS: Final = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


@dataclass(slots=True)
class _Block:
    """The latest writing of one family: its lines, and the labels and values that they were made from.

    Values are compared as bits, so that NaN equals itself and zero does not equal negative zero.
    """

    name: str
    head: str
    labels: list[Labels] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    bits: array[int] = field(default_factory=lambda: array("q"))
    lines: list[str] = field(default_factory=list)
    text: bytes = b""

    def render(self, samples: tuple[Sample, ...]) -> bytes:
        labels = [s.labels for s in samples]
        values = [s.value for s in samples]
        bits = array("q", array("d", values).tobytes())
        if labels != self.labels:
            self._relabel(labels)
            self._write([p + number_text(v) for p, v in zip(self.prefixes, values, strict=True)], bits)
        elif bits != self.bits:
            steps = zip(self.lines, self.bits, bits, self.prefixes, values, strict=True)
            self._write([line if a == b else p + number_text(v) for line, a, b, p, v in steps], bits)
        return self.text

    def _relabel(self, labels: list[Labels]) -> None:
        known = dict(zip(self.labels, self.prefixes, strict=True))
        self.prefixes = [known.get(given) or _prefix(self.name, given) for given in labels]
        self.labels = labels

    def _write(self, lines: list[str], bits: array[int]) -> None:
        self.lines, self.bits = lines, bits
        self.text = _encoded("\n".join([self.head + lines[0], *lines[1:], ""]))


def _head(family: Family) -> str:
    return f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} {family.type}\n"


def _openmetrics_head(family: Family) -> str:
    name = family.name.removesuffix("_total") if family.type == "counter" else family.name
    return f"# HELP {name} {_quotable(family.help)}\n# TYPE {name} {family.type}\n"


def _prefix(name: str, labels: Labels) -> str:
    pairs = ",".join([f'{label}="{_quotable(value)}"' for label, value in labels])
    return f"{name}{{{pairs}}} " if pairs else f"{name} "


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quotable(text: str) -> str:
    return _escaped(text).replace('"', r"\"")


def _encoded(text: str) -> bytes:
    # Half a surrogate pair has no UTF-8; one bad word must not cost the whole page.
    return text.encode("utf-8", "replace")
