"""A real Prometheus scrapes the real engine, and promtool has nothing to say about its page."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import urllib3
from engine import EngineProcess, Event, done, event, lines, until
from prometheus_client.parser import text_string_to_metric_families
from scraping import prometheus, tool

Make: TypeAlias = Callable[..., EngineProcess]
REFERENCE = Path(__file__).parents[2] / "docs" / "engine-metrics.md"
HOSTILE = (
    'a"b', "a\\b", "a\nb", "a{b=\"c\"}", "\t", "ünïcödé ☃ 🦉", "a" * 5000, "# HELP x y", "\\n", "\x00\x1f\x7f",
    "\u2028", "\ufeff", "\U0010ffff", " ", "all", "other", "none", "{}", "'", ",", "le", "NaN",
)  # fmt: skip


def hostile_events() -> list[Event]:
    """Every word that a sender chooses, with values that nobody should choose."""
    told: list[Event] = []
    for n, word in enumerate(HOSTILE):
        customer = f"c{n}"
        told += [
            done(f"i{n}", word, item_type=word, source=word, team=word, title=word),
            event("item", item=f"w{n}", value_stream=word, state=word, item_type=word, source=word),
            event("request", request=f"r{n}", value_stream=word, state="Open", channel=word),
            event("request", request=f"s{n}", value_stream="shop", state="Solved", channel=word),
            event("activity", customer=customer, value_stream=word, feature=word, segment=word),
            event("activity", customer=f"d{n}", value_stream="shop", feature=word, segment=word),
            event("customer", customer=customer, milestone="signed_up", segment=word, value_stream=word, ago=90),
            event("customer", customer=customer, milestone="value_reached", segment=word, value_stream=word),
            event(
                "response",
                respondent=customer,
                value_stream=word,
                survey="csat",
                score=4,
                touchpoint=word,
                segment=word,
            ),
            event(
                "response",
                respondent=customer,
                value_stream="shop",
                survey="nps",
                score=9,
                touchpoint=word,
                segment=word,
            ),
        ]
    return told


def checked(page: str) -> None:
    """promtool says nothing whatever of a page."""
    found = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=page.encode(), capture_output=True, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def test_prometheus_scrapes_the_engine_and_answers_with_what_was_posted(make: Make, tmp_path: Path) -> None:
    plain, hostile = make().ready(), make().ready()
    plain.post(*(done(f"A-{n}", item_type="Bug") for n in range(7)), *(done(f"B-{n}") for n in range(4)))
    plain.post(*(event("activity", customer=f"c{n}", value_stream="shop") for n in range(5)))
    plain.shows(lambda page: (page.velocity(), page.users()), (11, 5))
    hostile.post(*hostile_events())
    page = hostile.shows(lambda page: page.total("events_accepted_total"), 10 * len(HOSTILE)).text
    samples = sum(len(family.samples) for family in text_string_to_metric_families(page))
    at, there = (each.url.removeprefix("http://") for each in (plain, hostile))
    with prometheus(tmp_path / "prometheus", at, there) as scraper:
        shop = f'instance="{at}",value_stream="shop"'
        velocity = f'flowmetrics_flow_velocity_items{{{shop},window="1d",item_type="%s"}}'
        until(lambda: scraper.one(velocity % "all") == 11, "Prometheus has scraped")
        assert scraper.one(velocity % "defect") == 7
        assert scraper.one(f'flowmetrics_active_users{{{shop},window="7d"}}') == 5
        assert scraper.one(f'flowmetrics_engine_ready{{instance="{at}"}}') == 1
        assert scraper.one(f'flowmetrics_kpi_value{{{shop},kpi="flow_velocity",item_type="all",window="30d"}}') == 11
        assert scraper.one(f'sum(flowmetrics_events_accepted_total{{instance="{at}"}})') == 16
        plain.post(done("C-1"))
        until(lambda: scraper.one(velocity % "all") == 12, "the next scrape shows the next event")

        until(lambda: scraper.one(f'scrape_samples_scraped{{instance="{there}"}}') == samples, "every sample is taken")
        for word in ('a"b', "a\\b", "a\nb", "ünïcödé ☃ 🦉"):
            labels = f'value_stream={json.dumps(word, ensure_ascii=False)},item_type="all",window="1d"'
            assert scraper.one(f'flowmetrics_flow_velocity_items{{instance="{there}",{labels}}}') == 1
        until(
            lambda: [(one["health"], one["lastError"]) for one in scraper.targets()] == [("up", "")] * 2, "both are up"
        )


def test_promtool_has_nothing_to_say_about_a_page_of_everything(make: Make) -> None:
    engine = make("eligible: {search: {segment: enterprise}}\nsurveys: {smiles: {scale: [1, 3], better: low}}").ready()
    checked(engine.get("/metrics").text)
    told = [
        *(event("item", item=f"A-{n}", value_stream="shop", state=state, item_type=kind, ago=600 - i)
          for n, kind in enumerate(("Bug", "Story", "Security", "Chore", "Whatever"))
          for i, state in enumerate(("Backlog", "Ready", "Doing", "Done", "Doing", "Done", "Unheard of"))),
        *(event("item", item=f"O-{n}", value_stream="shop", state="Doing", ago=60) for n in range(3)),
        *(event("request", request=f"R-{n}", value_stream="shop", state=state, channel="web", ago=600 - i)
          for n in range(40) for i, state in enumerate(("Open", "Solved", "Open", "Solved")[: n % 4 + 1])),
        *(event("response", respondent=f"c{n}", value_stream="shop", survey=survey, score=1 + n % 3, touchpoint="cart")
          for n in range(40) for survey in ("nps", "enps", "csat", "ces", "smiles")),
        *(event("customer", customer=f"c{n}", milestone=m, segment="enterprise", value_stream="shop", ago=ago)
          for n in range(40) for m, ago in (("signed_up", 9 * 86400), ("value_reached", 8 * 86400))),
        *(event("activity", customer=f"c{n}", value_stream="shop", feature="search", ago=86400 * d)
          for n in range(40) for d in (0, 1, 7, 9)),
    ]  # fmt: skip
    engine.post(*told)
    engine.send(b"nonsense")
    page = engine.shows(
        lambda page: (page.total("events_accepted_total"), page.total("events_rejected_total")), (len(told), 1)
    ).text
    names = {family.name for family in text_string_to_metric_families(page)}
    assert {"flowmetrics_nps_score_upper", "flowmetrics_adoption_ratio", "flowmetrics_unmapped"} <= names
    assert {"flowmetrics_retention_ratio", "flowmetrics_time_to_value_seconds", "flowmetrics_smiles_score"} <= names
    checked(page)


def test_promtool_has_nothing_to_say_about_hostile_words(make: Make) -> None:
    engine = make("labels: {max_per_metric: 5}").ready()
    engine.post(*hostile_events())
    checked(engine.shows(lambda page: page.total("events_accepted_total"), 10 * len(HOSTILE)).text)


def test_the_reference_lists_what_an_engine_says_of_itself(make: Make) -> None:
    engine = make("labels: {max_per_metric: 2}").ready()
    odd = event("item", item="odd", value_stream="shop", state="Unheard of", name="same")
    engine.post(odd, {**odd, "data": {**odd["data"], "title": "other"}})
    engine.post(*(done(f"{kind}-1", item_type=kind) for kind in ("Bug", "Story", "Security", "Chore")))
    engine.send(b"nonsense")
    page = engine.shows(lambda page: (page.total("events_accepted_total"), page.total("events_rejected_total")), (6, 1))
    samples = (sample for family in text_string_to_metric_families(page.text) for sample in family.samples)
    said = {each.name: sorted(each.labels) for each in samples if "value_stream" not in each.labels}
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| (.*) \| .* \| both \|$", REFERENCE.read_text(), re.MULTILINE)
    listed = {name: sorted(re.findall(r"\w+", labels)) for name, labels in rows}
    assert listed.pop("flowmetrics_histories_cut_total") == ["what"], "a history must be thousands of facts long for it"
    assert said == listed


def test_a_scrape_may_be_packed_and_says_what_it_is(make: Make) -> None:
    engine = make().ready()
    engine.post(*(done(f"A-{n}") for n in range(3)))
    engine.shows(lambda page: page.velocity(), 3)
    packed = engine.ask("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    plain = engine.get("/metrics")
    assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert packed.headers["Content-Type"] == plain.headers["Content-Type"]
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "flowmetrics_flow_velocity_items" in packed.text
    raw = urllib3.request(
        "GET", f"{engine.url}/metrics", headers={"Accept-Encoding": "gzip"}, decode_content=False, retries=False
    )
    assert "flowmetrics_flow_velocity_items" in gzip.decompress(raw.data).decode()
    checked(plain.text)


def test_the_openmetrics_of_a_replay_become_blocks_that_prometheus_can_answer_from(make: Make, tmp_path: Path) -> None:
    engine = make()
    path = engine.directory / "events.jsonl"
    path.write_bytes(lines([*hostile_events(), *(done(f"A-{n}") for n in range(3))]))
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = engine.run("replay", path, "--at", "2025-01-01T00:00:00Z", "--at", at, "--format", "openmetrics").well().out
    (tmp_path / "history.txt").write_text(text, newline="")
    made = subprocess.run(
        [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", tmp_path / "history.txt", tmp_path / "blocks"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert list((tmp_path / "blocks").glob("*/meta.json"))
