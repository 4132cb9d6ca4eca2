"""The alerts about the engine itself: whether what is shown is complete, current and all that was sent.

Counters of the engine are kept over restarts, but on Kafka they move from worker to worker with their partitions: for a
moment nobody shows them, and then another worker shows all of them. `increase` would take that for events. So sums over
workers are recorded first, and growth is a difference of the largest of ten minutes each: a dip changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.drift import WEEKS_MIN
from flowmetrics.kpi import BurnAlert, Severity
from flowmetrics.kpis import catalogue
from flowmetrics.publishing.rules.cells import own_labels
from flowmetrics.publishing.rules.form import Alert, Recording, RuleGroup, asking, links, still_firing
from flowmetrics.publishing.rules.recording import BRIDGED, WITHOUT_WORKER, WORKER

REJECTS_BUDGET: Final = 0.001
"""The share of events that may be refused."""
REJECTS_MIN: Final = 10
"""Fewer refused events are read one by one, and wake nobody."""
EXPECTED_MIN: Final = 20
"""So many events in each of the former weeks make none of them now a surprise: by chance it is one in 10⁸."""
LATE_SECONDS: Final = 3600
LAG_EVENTS_MIN: Final = 10
RESTARTS_MIN: Final = 4
"""A new version and a second try are fewer; what crashes again and again is more, however long it is held off."""

HELD_BACK_SECONDS: Final = 120
"""A transaction of the engine lasts ten seconds at most, and one of a producer that died as a rule a minute."""

DIP: Final = "10m"
"""For so long at most nobody shows a partition that moves."""
BURNS: Final = (
    (Severity.PAGE, "15m", ((14.4, "1h", "5m"), (6, "6h", "30m"))),
    (Severity.TICKET, "1h", ((3, "1d", "2h"), (1, "3d", "6h"))),
)
"""Severity, for how long, and the pairs of windows with the burn rate that both must exceed."""

LAG_LIMIT: Final = f"clamp_min(flowmetrics:engine:accepted_growth5m / 5, {LAG_EVENTS_MIN})"
"""A minute of events: so many may wait."""


HELD_BACK: Final = f"max {WITHOUT_WORKER} (last_over_time(flowmetrics_engine_stable_offset_age_seconds[{DIP}]))"
"""For how long the input of a unit has stood still; who takes a unit over begins to count anew."""


def engine_groups(configuration: Configuration) -> tuple[RuleGroup, ...]:
    """What is recorded of the engine, level by level, and its alerts."""
    return (
        RuleGroup("flowmetrics-engine-1-sums", _sums()),
        RuleGroup("flowmetrics-engine-2-growth", _growths()),
        RuleGroup("flowmetrics-engine-3-burn", _reject_burns()),
        RuleGroup("flowmetrics-engine-alerts", [each.alert(configuration) for each in _alerts(configuration)]),
    )


def _sums() -> list[Recording]:
    """What nobody shows any more is as it was last; what an engine that is ready never showed is zero."""
    workers = ", ".join((*WORKER, "version"))
    return [
        Recording("flowmetrics:engine:workers", f"count without ({workers}) (flowmetrics_build_info)"),
        Recording("flowmetrics:source:accepted", f"sum {WITHOUT_WORKER} (flowmetrics_events_accepted_total)"),
        *(
            Recording(
                f"flowmetrics:engine:{name}",
                f"sum without ({', '.join((*WORKER, label))}) (flowmetrics_{metric}_total)\n"
                f"or last_over_time(flowmetrics:engine:{name}[1d])\n"
                f"or 0 * (min {WITHOUT_WORKER} (flowmetrics_engine_ready) == 1)",
            )
            for name, metric, label in (
                ("accepted", "events_accepted", "source"),
                ("rejected", "events_rejected", "reason"),
                ("overflow", "label_overflow", "metric"),
            )
        ),
        Recording("flowmetrics:source:event_lag", f"min {WITHOUT_WORKER} (flowmetrics_event_lag_seconds)"),
        Recording("flowmetrics:engine:lag", f"sum {WITHOUT_WORKER} (flowmetrics_consumer_lag_events)"),
    ]


def _growths() -> list[Recording]:
    windows = {
        "source:accepted": ("1h", "1d"),
        "engine:accepted": burn_windows(),
        "engine:rejected": burn_windows(),
        "engine:overflow": ("1h",),
    }
    return [
        Recording(
            f"flowmetrics:{name}_growth{window}",
            f"max_over_time(flowmetrics:{name}[{DIP}]) - max_over_time(flowmetrics:{name}[{DIP}] offset {window})",
        )
        for name, lengths in windows.items()
        for window in lengths
    ]


def burn_windows() -> list[str]:
    """Every window over which refused events are counted."""
    return list(dict.fromkeys(window for *_, pairs in BURNS for _, long, short in pairs for window in (long, short)))


def _reject_burns() -> list[Recording]:
    return [
        Recording(
            f"flowmetrics:engine:reject_burn{window}",
            f"flowmetrics:engine:rejected_growth{window}\n"
            f"/ (flowmetrics:engine:accepted_growth{window} + flowmetrics:engine:rejected_growth{window})\n"
            f"/ {REJECTS_BUDGET}",
        )
        for window in burn_windows()
    ]


class _Engine:
    """An alert of the engine, as it is declared here."""

    def __init__(
        self,
        name: str,
        severity: Severity,
        hold: str,
        expr: str,
        summary: str,
        when: str,
        next_step: str,
        steps: Sequence[str],
    ) -> None:
        self._of = (name, severity, hold, expr, summary, when, next_step, steps)

    def alert(self, configuration: Configuration) -> Alert:
        """The rule under a configuration."""
        name, severity, hold, expr, summary, when, next_step, steps = self._of
        owner = configuration.engine_owner or configuration.alerts_owner
        return Alert(
            name,
            expr,
            hold,
            hold,
            {"severity": severity.value, "alert_class": "engine", "owner": owner},
            {
                "summary": summary,
                "description": f"It fires when {when}.",
                "next_step": next_step,
                **links(name, "engine", configuration),
            },
            when,
            steps,
        )


def _alerts(configuration: Configuration) -> list[_Engine]:
    return [
        _Engine(
            "FlowmetricsSourceStale",
            Severity.PAGE,
            "15m",
            "\nor ".join([*(_silent(window) for window in ("1h", "1d")), _still_silent()]),
            "No event of {{ $labels.source }} arrives any more",
            f"a source sent nothing for an hour, or a day, in which it sent {EXPECTED_MIN} events or more in each of "
            f"the last {WEEKS_MIN} weeks",
            "Look whether the sender runs and reaches the engine: its own log, and `flowmetrics rejected`.",
            (
                "Ask Prometheus when its latest event happened; an engine that began anew does not know: "
                "`last_over_time(flowmetrics_last_event_timestamp_seconds[3d])`.",
                "Look at the sender's credentials: a token that ran out gives 401, which its log shows.",
                f"Where the source is gone for good, silence the alert; {WEEKS_MIN} weeks after its last event it is "
                "forgotten. Until then it goes on till an event comes, also through nights and weekends; only where "
                "Prometheus is away for more than five minutes, or the engine for more than twenty, it may end, and "
                "come again in the morning.",
                "KPIs of what this source tells stand still meanwhile; say so to those who read them.",
            ),
        ),
        _Engine(
            "FlowmetricsLagNotDraining",
            Severity.PAGE,
            "10m",
            f"min_over_time(flowmetrics:engine:lag[15m])\n> {LAG_LIMIT}\nand deriv(flowmetrics:engine:lag[15m]) >= 0",
            '{{ $value | printf "%.0f" }} events wait, and they do not get fewer',
            f"more than a minute of events (and {LAG_EVENTS_MIN} at least) wait for a quarter of an hour and do not "
            "get fewer; a large import that drains does not fire it",
            "Look at the log of the engine and at the CPU of its machine; on Kafka add a worker.",
            (
                "On one machine look whether its disk is full or slow: `df -h`, and `iostat -x 5`.",
                "On Kafka look how long a transaction takes, and where it is seconds at the disks of the brokers: "
                "`rate(flowmetrics_engine_checkpoint_seconds_total[5m]) "
                "/ rate(flowmetrics_engine_checkpoints_total[5m])`.",
                "On Kafka look which partitions lag (`flowmetrics_partition_lag_records`) and who owns them.",
                "Nothing is lost: what was accepted is in the log, and is counted once it is taken.",
            ),
        ),
        _Engine(
            "FlowmetricsEventsHeldBack",
            Severity.PAGE,
            "5m",
            f"{HELD_BACK} > {HELD_BACK_SECONDS}",
            "Nothing of {{ $labels.unit }} is taken since {{ $value | humanizeDuration }}",
            f"a partition that a worker on Kafka reads stands still for more than {HELD_BACK_SECONDS} s, because a "
            "transaction in it was not ended, or because its broker does not answer",
            "Find the producer with an open transaction; `track-3` reads partition 3: "
            "`kafka-transactions.sh --bootstrap-server BROKER describe-producers --topic PREFIX.events --partition 3`.",
            (
                "It is the one whose `CurrentTransactionStartOffset` is not `None`. Where there is none, look at "
                "`PREFIX.links`, too (`tally-3` reads `PREFIX.changes`), and then at the broker of the partition.",
                "`kafka-transactions.sh --bootstrap-server BROKER list` says its `TransactionalId`. Look at the "
                "log of the program that uses it, and start it again: that ends its transaction.",
                "Where no such program is left, `kafka-transactions.sh --bootstrap-server BROKER find-hanging --topic "
                "PREFIX.events --partition 3` shows what no broker ends by itself. End it; what it wrote is then void: "
                "`kafka-transactions.sh --bootstrap-server BROKER abort --topic PREFIX.events --partition 3 "
                "--start-offset OFFSET`.",
                "Nothing that was accepted is lost: it is counted once the transaction ends. Until then no number is "
                "shown, of other partitions neither, as it could be without what is held back; the engine takes "
                "events, and says that it is ready.",
            ),
        ),
        *(
            _Engine(
                "FlowmetricsRejectsBurning",
                severity,
                hold,
                "\nor ".join(
                    f"(\n  flowmetrics:engine:reject_burn{long} > {factor}\n"
                    f"  and flowmetrics:engine:reject_burn{short} > {factor}\n"
                    f"  and flowmetrics:engine:rejected_growth{long} >= {REJECTS_MIN}\n)"
                    for factor, long, short in pairs
                ),
                'Events are refused {{ $value | printf "%.1f" }} times as often as they may',
                f"{REJECTS_MIN} events or more were refused, and more than "
                + ", or ".join(
                    f"{factor:g} times {REJECTS_BUDGET:.1%} over {long} and {short}" for factor, long, short in pairs
                ),
                "Read the reasons: `flowmetrics rejected | head`.",
                (
                    "Look which sender it is: the same reason again and again is a release of one producer.",
                    "Mend the producer; then send again what was kept: `flowmetrics rejected --replay`.",
                    "`bad_signature` and 401 from a stranger is no lost event; find out who it is.",
                ),
            )
            for severity, hold, pairs in BURNS
        ),
        _Engine(
            "FlowmetricsLateEvents",
            Severity.TICKET,
            "1h",
            f"min_over_time(flowmetrics:source:event_lag[1h]) > {LATE_SECONDS}\n"
            f"and flowmetrics:source:accepted_growth1h >= {EXPECTED_MIN}\n"
            "unless min_over_time(flowmetrics:source:event_lag[2h] offset 167h) * 2 >= flowmetrics:source:event_lag",
            "Events of {{ $labels.source }} arrive {{ $value | humanizeDuration }} after they happened",
            f"every latest event of a source in an hour came more than {LATE_SECONDS // 3600} h late, and more than "
            "twice as late as a week ago",
            "Look at the queue of the sender; late events are counted where they belong, so numbers of the past move.",
            (
                "Look at the clock of the sender: one that is behind makes every event late by the same time.",
                "Where the source always sends in batches, it is known after a week and tells nobody any more.",
            ),
        ),
        _Engine(
            "FlowmetricsSeriesBudget",
            Severity.TICKET,
            "15m",
            "flowmetrics:engine:overflow_growth1h > 0",
            "Label sets beyond `labels.max_per_metric` are folded into one",
            "in the last hour a label set came that has no series of its own, because there are too many",
            "Look which measure it is: `flowmetrics_label_overflow_total`, and which label has so many values.",
            (
                "A word that people type (a segment, a channel, a feature) is no label; map it in the producer.",
                "Raise `labels.max_per_metric` only where Prometheus has the memory: each set is some series.",
            ),
        ),
        _Engine(
            "FlowmetricsNotReady",
            Severity.PAGE,
            "15m",
            f"min {WITHOUT_WORKER} (last_over_time(flowmetrics_engine_ready[{DIP}])) == 0",
            "The engine is not ready, so KPIs are absent"
            + _workers(f"last_over_time(flowmetrics_engine_ready{{}}[{DIP}]) == 0"),
            "a worker reads its state, or does not catch up, for a quarter of an hour, however few scrapes reach it",
            "Ask the worker that is named why: `curl -s http://HOST:8080/readyz` says it in a sentence.",
            (
                "`catching up`: wait while the number gets smaller; a first start on a long log takes minutes.",
                "`waiting for Kafka`, `joining the group`: look at the brokers; the engine goes on by itself.",
                "KPI alerts are quiet meanwhile, and nothing is lost.",
            ),
        ),
        _Engine(
            "FlowmetricsRestarting",
            Severity.PAGE,
            "5m",
            f"max {WITHOUT_WORKER} (changes(flowmetrics_engine_start_time_seconds[90m])) >= {RESTARTS_MIN}",
            "A worker of the engine began {{ $value }} times in the last 90 minutes"
            + _workers(f"changes(flowmetrics_engine_start_time_seconds{{}}[90m]) >= {RESTARTS_MIN}"),
            f"a worker begins {RESTARTS_MIN} times or more in 90 minutes, though it may be ready in between",
            "Read the last lines of its log before it begins: what ends it says why.",
            (
                "Where the log ends without a reason, look whether the system killed it: `dmesg` or the events of its "
                "pod say `OOMKilled`.",
                "Did it begin with a new version or configuration? Go back to the former one; nothing is lost.",
            ),
        ),
        _Engine(
            "FlowmetricsWorkerDown",
            Severity.TICKET,
            "15m",
            "up == 0\nand on (instance, job) present_over_time(flowmetrics_build_info[7d])",
            "The worker {{ $labels.instance }} cannot be scraped",
            "a target that showed a worker within the last week cannot be scraped, while others may have taken over",
            "Look whether its process runs; on Kafka the other workers count meanwhile what it counted, more slowly.",
            (
                "Where the process runs, ask it from the machine of Prometheus: `curl -s http://HOST:8080/healthz`.",
                "Where it is gone for good, take it out of the targets of Prometheus; after a week it is forgotten.",
            ),
        ),
        _Engine(
            "FlowmetricsAbsent",
            Severity.PAGE,
            "5m",
            f"absent_over_time(flowmetrics_build_info[{DIP}])\n"
            f"or present_over_time(flowmetrics:engine:workers[6d] offset 1d)\n"
            f"unless present_over_time(flowmetrics:engine:workers[{DIP}])",
            "No engine is scraped, so no KPI is known",
            "Prometheus has seen no engine for ten minutes, or not one of several that it saw a day to a week ago",
            "Look whether the process runs and whether Prometheus reaches it: its page Status, Targets.",
            (
                "`curl -s http://HOST:8080/healthz` from the machine of Prometheus.",
                "Start it again; what producers send meanwhile is their queue, so watch FlowmetricsLateEvents.",
                "Of several engines, where one is gone for good, silence the alert; a week later it is forgotten.",
            ),
        ),
        _Engine(
            "FlowmetricsBaselineMissing",
            Severity.INFO,
            "1d",
            f"count without (value_stream, {', '.join(own_labels(configuration))}) (\n"
            f'  last_over_time(flowmetrics:kpi:trusted{{kpi!~"{"|".join(of_budgets(configuration))}"}}[{BRIDGED}])\n'
            f"  unless flowmetrics:kpi:baseline_weeks >= {WEEKS_MIN}\n)",
            "{{ $labels.kpi }} has no baseline yet in {{ $value }} series, so its drift alert is quiet there",
            f"a KPI has a value but fewer than the {WEEKS_MIN} former weeks that its drift alert compares it with",
            "After a first start wait four weeks, or give Prometheus the past: "
            "`flowmetrics backfill --prometheus DIRECTORY`.",
            (
                "Look at the retention of Prometheus: it must exceed 30 days, and its default is 15 "
                "(`--storage.tsdb.retention.time=400d`).",
                "Look at the samples of the former weeks: `flowmetrics_kpi_samples` below the floor gives no baseline.",
                "Look at the labels of the former weeks: one that Prometheus gives the engine, such as `namespace` by "
                "its operator, must be there as well (`flowmetrics backfill --label namespace=NAME`).",
            ),
        ),
        _Engine(
            "FlowmetricsWatchdog",
            Severity.NONE,
            "0s",
            "vector(1)",
            "Alerting works",
            "rules are evaluated, so always: its absence at the receiver means that alerts do not arrive",
            "Nothing, while it arrives.",
            ("Where it does not arrive look at Prometheus, then Alertmanager, then the receiver, in this order.",),
        ),
    ]


def of_budgets(configuration: Configuration) -> list[str]:
    """The KPIs that are compared with what is expected, and not with former weeks."""
    return [kpi.name for kpi in catalogue(configuration) if isinstance(kpi.alert, BurnAlert)]


def _workers(query: str) -> str:
    """The workers that a query finds, as Prometheus and as Kubernetes call them."""
    names = "{{ range . }} {{ .Labels.instance }}{{ with .Labels.pod }} (pod {{ . }}){{ end }}{{ end }}"
    return asking(query, f":{names}")


def _silent(window: str) -> str:
    """Nothing now, and enough in each of the former weeks; the least of two hours, so that a gap then is no matter."""
    growth = f"flowmetrics:source:accepted_growth{window}"
    former = [
        f"and min_over_time({growth}[2h] offset {week * 168 - 1}h) >= {EXPECTED_MIN}"
        for week in range(1, WEEKS_MIN + 1)
    ]
    return "\n".join([f"{growth} == 0", *former])


def _still_silent() -> str:
    """Still nothing, whatever is usual at this hour; until its last event was so long ago that it is forgotten."""
    accepted = "flowmetrics:source:accepted"
    return (
        f"{accepted}_growth1h == 0\n"
        f"unless {accepted} == {accepted} offset {WEEKS_MIN * 7}d\n"
        f"{still_firing('FlowmetricsSourceStale')}"
    )
