"""backfill: the past as OpenMetrics and as blocks, which a real Prometheus answers from."""

from __future__ import annotations

import io
import json
import multiprocessing
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
import urllib3
from engine import COMMAND, EngineProcess, Event, Finished, command, lines, until
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from scraping import prometheus

from agents.backfill import Backfill, Span
from agents.prometheus import fill, serving
from agents.published import clock_us
from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError
from flowmetrics.instants import DAY_US, HOUR_US, instant_text, parse_instant
from flowmetrics.publishing.rules.files import groups
from flowmetrics.publishing.rules.form import yaml_text
from flowmetrics.publishing.rules.haste import hastened
from flowmetrics.settings import read_settings
from flowmetrics.source import FAR_FUTURE

BEGIN: Final = parse_instant("2025-03-03T00:00:00Z")
EVER: Final = ("--retention", "36500d")
"""The events lie at fixed times, and a Prometheus that is begun today would keep less."""


def told(kind: str, at: int, **fields: Any) -> Event:
    """A native event at an instant."""
    name = f"flowmetrics.{kind}.v1"
    number = f"{at}-{sorted(fields.items())}"
    return {"specversion": "1.0", "id": number, "source": "s", "type": name, "time": instant_text(at), "data": fields}


def weeks(count: int, begin: int = BEGIN) -> Iterator[Event]:
    """Every day eight items are done after three hours each, twelve people come, and two of them answer."""
    for day in range(7 * count):
        for n in range(8):
            at = begin + day * DAY_US + n * 2 * HOUR_US
            item = {"item": f"A-{day}-{n}", "value_stream": "shop", "item_type": "Bug"}
            yield told("item", at, **item, state="Doing")
            yield told("item", at + 3 * HOUR_US, **item, state="Done")
        for n in range(12):
            at = begin + day * DAY_US + n * HOUR_US
            yield told("activity", at, customer=f"c{n}", value_stream="shop", feature="search")
            if n < 2:
                yield told("response", at, respondent=f"c{day}-{n}", value_stream="shop", survey="nps", score=9 - n)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with two weeks of events, in which commands are typed."""
    (tmp_path / "events.jsonl").write_bytes(lines(weeks(2)))
    return tmp_path


def day(number: float) -> str:
    """A time some days after the first event."""
    return instant_text(BEGIN + int(number * DAY_US))


def backfill(folder: Path, *words: str | Path, files: tuple[str, ...] = ("events.jsonl",)) -> Finished:
    return command("backfill", *files, *EVER, *words, cwd=folder, seconds=300)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]], int], float]:
    """Value by name, labels and second."""
    return {
        (sample.name, frozenset(sample.labels.items()), int(float(str(sample.timestamp)))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_backfill_says_at_every_step_what_a_replay_says(folder: Path) -> None:
    span = ("--from", day(1.5), "--to", day(9), "--step", "6h")
    backfill(folder, "--openmetrics", "history.txt", *span).well()
    ats = [instant_text(BEGIN + n * 6 * HOUR_US) for n in range(6, 37)]
    rows = command("replay", "events.jsonl", *(w for at in ats for w in ("--at", at)), cwd=folder).well().rows
    replayed = {
        (row["name"], frozenset(row["labels"].items()), parse_instant(row["at"]) // 1_000_000): row["value"]
        for row in rows
    }
    seen = samples((folder / "history.txt").read_text())
    ready = {key: value for key, value in seen.items() if key[0] == "flowmetrics_engine_ready"}
    assert set(ready.values()) == {1.0}
    assert len(ready) == len(ats)
    assert {key: value for key, value in seen.items() if key not in ready} == replayed


def test_the_log_of_the_engine_has_the_same_past_as_the_files_in_it(folder: Path) -> None:
    span = ("--from", day(3), "--to", day(4), "--step", "1h")
    backfill(folder, "--openmetrics", "files.txt", *span).well()
    command("import", "events.jsonl", cwd=folder).well()
    backfill(folder, "--openmetrics", "log.txt", *span, files=()).well()
    assert (folder / "log.txt").read_bytes() == (folder / "files.txt").read_bytes()


def test_a_past_that_is_read_in_several_processes_is_the_same(tmp_path: Path) -> None:
    texts, done = [], 0
    for processes in (1, 2):
        task = ten_days(tmp_path / str(processes))
        text = io.BytesIO()

        def progress(instants: int) -> None:
            nonlocal done
            done += instants

        written = task.write(text, progress, processes)
        texts.append(text.getvalue())
        assert written.instants == len(task.span.instants) == 2881
        assert len(list(task.folder.glob("*.txt"))) == processes
    assert texts[0] == texts[1]
    assert done == 2 * 2881


def test_an_interrupt_ends_the_processes_before_they_are_through(tmp_path: Path) -> None:
    def interrupted(instants: int) -> None:
        if instants:
            raise KeyboardInterrupt

    for turn in range(5):  # a machine that lets them run and not the test may hide it: then there is another time
        task = ten_days(tmp_path / f"some-{turn}")._replace(configuration=Configuration())  # all KPIs take far longer
        with pytest.raises(KeyboardInterrupt):
            task.write(io.BytesIO(), interrupted, 2)
        assert multiprocessing.active_children() == []
        if not list(task.folder.glob("*.txt")):
            return
    pytest.fail("one of them went on to the end each time")


def ten_days(folder: Path) -> Backfill:
    """A task that is large enough for two processes, in a new folder."""
    configuration = Configuration(kpis=("flow_velocity",), windows_us=(DAY_US,))
    task = Backfill(configuration, Span(BEGIN + DAY_US, BEGIN + 11 * DAY_US, 300_000_000), 5 * DAY_US, folder)
    task.folder.mkdir()
    with task.chronicle() as chronicle:
        chronicle.tell(((FAR_FUTURE, line) for line in lines(weeks(2)).splitlines()), task.span.last)
    return task


def test_a_hole_is_left_empty_and_told(folder: Path) -> None:
    kept = [one for one in weeks(2) if not BEGIN + 4 * DAY_US <= parse_instant(one["time"]) < BEGIN + 8 * DAY_US]
    (folder / "holed.jsonl").write_bytes(lines(kept))
    span = ("--from", day(-1), "--to", day(14), "--step", "12h", "--hole", "3d")
    said = backfill(folder, "--openmetrics", "h.txt", *span, files=("holed.jsonl",)).well().err
    assert "before the first event, 2025-03-03T00:00:00Z" in said
    assert "no event from 2025-03-06T17:00:00Z until 2025-03-11T00:00:00Z: nothing is written" in said
    instants = {second for _, _, second in samples((folder / "h.txt").read_text())}
    empty = {BEGIN // 1_000_000 + n * 43200 for n in (-2, -1, 8, 9, 10, 11, 12, 13, 14, 15)}
    expected = {BEGIN // 1_000_000 + n * 43200 for n in range(-2, 29)} - empty
    assert instants == expected


def test_a_past_that_ends_early_is_not_carried_on(folder: Path) -> None:
    said = backfill(folder, "--openmetrics", "h.txt", "--from", day(12), "--to", day(30), "--step", "12h").well().err
    assert "and none after it: nothing is written" in said
    latest = max(second for _, _, second in samples((folder / "h.txt").read_text()))
    assert instant_text(latest * 1_000_000) == day(13.5)


class Answers:
    """What a Prometheus answers at an instant."""

    def __init__(self, address: str, at: str) -> None:
        self._address, self._at = address, at

    def __call__(self, query: str) -> dict[str, float]:
        """The value of each series, by its labels as JSON."""
        url = f"{self._address}/api/v1/query?query={quote(query)}&time={quote(self._at)}"
        answer = json.loads(urllib3.request("GET", url, retries=False).data)
        assert answer["status"] == "success", answer
        return {json.dumps(one["metric"], sort_keys=True): float(one["value"][1]) for one in answer["data"]["result"]}

    def one(self, query: str) -> float:
        """The value of the only series."""
        (value,) = self(query).values()
        return value


def test_the_command_that_is_told_makes_blocks_with_every_value(folder: Path) -> None:
    span = ("--from", day(3), "--to", day(5), "--step", "5m")
    said = backfill(folder, "--openmetrics", "a history.txt", *span).well().err
    (told_command,) = [line.strip() for line in said.splitlines() if "create-blocks-from" in line]
    words = [word.replace("DIRECTORY", "blocks") for word in shlex.split(told_command)]
    made = subprocess.run(words, cwd=folder, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    history = samples((folder / "a history.txt").read_text())
    assert len(history) > 50_000
    with serving(folder / "blocks", folder, 300_000_000) as address:
        for at in (day(3), day(4.25), day(5)):
            found = Answers(address, at)('{__name__=~"flowmetrics_.+"}')
            second = parse_instant(at) // 1_000_000
            wanted = {key[:2]: value for key, value in history.items() if key[2] == second}
            read = {(dict(json.loads(k)).pop("__name__"), k): v for k, v in found.items()}
            assert {
                (name, frozenset((n, v) for n, v in json.loads(k).items() if n != "__name__")): value
                for (name, k), value in read.items()
            } == wanted


def test_a_fresh_prometheus_over_a_backfilled_directory_has_baselines_at_once(folder: Path) -> None:
    (folder / "events.jsonl").write_bytes(lines(weeks(8)))
    (folder / "flowmetrics.yaml").write_text("kpis: [flow_time, flow_velocity, nps]\nwindows: [1d, 7d]\n")
    said = backfill(folder, "--prometheus", "data", "--to", day(50), "--step", "1h").well().err
    assert "recording rules included" in said
    assert not [path for path in (folder / "data").iterdir() if path.name.startswith("backfill-")]
    with serving(folder / "data", folder, 3_600_000_000) as address:
        ask = Answers(address, day(50))
        assert ask.one('flowmetrics:kpi:baseline{kpi="flow_velocity"}') == 56
        assert ask.one('flowmetrics:kpi:baseline{kpi="flow_time"}') == pytest.approx(10800, rel=0.01)
        assert ask.one('flowmetrics:kpi:baseline_weeks{kpi="flow_velocity"}') == 4
        assert ask.one('flowmetrics:kpi:band_low{kpi="flow_velocity"}') < 56
        assert ask.one('flowmetrics:kpi:band_high{kpi="flow_time"}') > 10800
        assert ask.one('count(flowmetrics_kpi_value{kpi="nps"})') > 1
        assert ask('flowmetrics:kpi:trusted{kpi="nps"}') == {}, "fourteen answers are too few"


def test_what_is_scraped_has_baselines_also_where_prometheus_gives_it_a_label(tmp_path: Path) -> None:
    settings, now = "kpis: [flow_velocity]\nwindows: [7d]\n", clock_us()
    directory, rules = tmp_path / "prometheus", tmp_path / "rules.yaml"
    rules.write_text(yaml_text(hastened([one.plain() for one in groups(read_settings(settings, "it"))], "1s", {})))
    with EngineProcess(tmp_path / "engine", settings) as engine:
        engine.ready().post(*weeks(8, now - 56 * DAY_US))
        span = ("--step", "1h", "--to", instant_text(now - 2 * HOUR_US))
        engine.run("backfill", "--prometheus", directory / "data", *span, "--label", "namespace=shops").well()
        target = engine.url.removeprefix("http://")
        with prometheus(directory, target, rules=[rules], labels={"namespace": "shops"}) as scraper:
            compared = "flowmetrics:kpi:trusted and flowmetrics:kpi:baseline_weeks == 4"
            (series,) = until(lambda: scraper.query(compared), "a live value has a baseline of four weeks")
    assert json.loads(series)["namespace"] == "shops"


DEPTHS: Final = """# TYPE depth gauge
depth{side="left"} 1 1740960300
depth{side="right"} 2 1740960300
# EOF
"""


def filled(folder: Path, text: str, expr: str) -> int:
    """How many blocks are made of an OpenMetrics text and of a rule over it."""
    for name in ("work", "data"):
        (folder / name).mkdir(parents=True)
    (folder / "history.txt").write_text(text)
    rules = {"groups": [{"name": "backfill", "interval": "5m", "rules": [{"record": "twice", "expr": expr}]}]}
    span = Span(BEGIN, BEGIN + HOUR_US, 300_000_000)
    return fill(folder / "history.txt", [json.dumps(rules)], folder / "data", folder / "work", span, lambda parts: None)


def test_a_path_may_hold_any_word(tmp_path: Path) -> None:
    assert filled(tmp_path / "terraform error", DEPTHS, "2 * depth") == 2


@pytest.mark.parametrize(
    ("text", "expr", "message"),
    [
        (DEPTHS, "depth * on () depth", "rule importer error: .*many-to-many matching not allowed"),
        (DEPTHS.replace(" 1 ", " one "), "2 * depth", 'parsing "one"'),
    ],
    ids=["a rule", "a sample"],
)
def test_what_the_tools_of_prometheus_refuse_is_told_in_their_words(
    tmp_path: Path, text: str, expr: str, message: str
) -> None:
    with pytest.raises(OperationError, match=f"promtool tsdb create-blocks-from failed: .*{message}"):
        filled(tmp_path, text, expr)
    assert not list((tmp_path / "data").iterdir())


# --- what goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say where to: --openmetrics OUT"),
        (["--openmetrics", "o", "--from", day(5), "--to", day(4)], "is after --to 2025-03-07T00:00:00Z; swap them"),
        (["--openmetrics", "o", "--from", "yesterday"], '--from "yesterday" is not an RFC 3339 time'),
        (["--openmetrics", "o", "--to", "2999-01-01T00:00:00Z"], "has not come yet; leave --to out"),
        (["--openmetrics", "o", "--step", "7m"], "no multiple of the resolution, 5m"),
        (["--openmetrics", "o", "--step", "1m"], "say --step 5m"),
        (["--openmetrics", "o", "--step", "0m"], "no multiple of the resolution"),
        (["--prometheus", "p", "--step", "2h"], "a baseline now and then only; say --step 1h or shorter"),
        (["--openmetrics", "o", "--hole", "long"], '--hole "long" is not a duration'),
        (["--openmetrics", "o", "--from", day(4.3), "--to", day(4.4), "--step", "1d"], "no full --step of 1d"),
        (["--openmetrics", "o", "--to", day(5), "--retention", "30d"], "too old for a Prometheus that keeps 30d"),
        (["--openmetrics", "o", "--label", "cluster"], '--label "cluster" is not NAME=VALUE'),
        (["--openmetrics", "o", "--label", "cluster="], '--label "cluster=" is not NAME=VALUE'),
        (["--openmetrics", "o", "--label", "__name__=x"], '--label "__name__=x" is not NAME=VALUE'),
        (["--openmetrics", "o", "--label", "window=7d"], "there is a label window already"),
        (["--openmetrics", "o", "--label", "a=1", "--label", "a=2"], "there is a label a already"),
        (["--openmetrics", "events.jsonl", "--to", day(5)], "events.jsonl exists; move it away"),
        (["--openmetrics", "no/such/folder/o", "--to", day(5)], "cannot be written: No such file or directory"),
    ],
)
def test_a_wrong_wish_is_told_with_what_to_do_before_anything_is_written(
    folder: Path, words: list[str], message: str
) -> None:
    before = sorted(folder.iterdir())
    backfill(folder, *words).failed(2, message)
    assert sorted(folder.iterdir()) == before


def test_a_time_without_events_leaves_no_file(folder: Path) -> None:
    far = ("--from", "2024-01-01T00:00:00Z", "--to", "2024-02-01T00:00:00Z")
    backfill(folder, "--openmetrics", "o", *far).failed(1, "there is no event up to 2024-02-01T00:00:00Z")
    late = ("--from", "2025-06-01T00:00:00Z", "--to", "2025-07-01T00:00:00Z")
    backfill(folder, "--openmetrics", "o", *late).failed(1, "no event is near 2025-06-01T00:00:00Z")
    assert not (folder / "o").exists()


def test_without_a_log_and_without_files_there_is_nothing_to_read(folder: Path) -> None:
    backfill(folder, "--openmetrics", "o", files=()).failed(1, "there is no", "flowmetrics-data")
    assert not (folder / "o").exists()


def test_blocks_need_the_tools_of_prometheus(folder: Path) -> None:
    python = folder / "bin"
    python.mkdir()
    env = shutil.which("env")
    assert env
    run = subprocess.run(
        [env, f"PATH={python}", COMMAND, "backfill", "events.jsonl", "--prometheus", "data", "--to", day(5), *EVER],
        cwd=folder, capture_output=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert b"there is no promtool on this machine; install Prometheus" in run.stderr
    assert not (folder / "data").exists()
