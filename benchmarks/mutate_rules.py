"""Break every clause of every rule, one at a time, and see whether a generated test of promtool notices.

    python -m benchmarks.mutate_rules [--sample N] [--seed S] [--only TEXT] [--jobs N]

A mutant is a rule with one thing wrong: another comparison, threshold, range, offset, function or label, or a clause
that is left out. Its rules are tested with the tests of the KPIs that it touches alone, which takes a second: what
notices there notices in the whole. Prints each mutant that nothing noticed; of those that cannot be noticed `excuse`
says why. Ends with 1 if there is another, or if a rule is found wrong as it is.
"""

from __future__ import annotations

import argparse
import copy
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from flowmetrics.configuration import Configuration, Expectation, Threshold
from flowmetrics.instants import DAY_US, duration_us
from flowmetrics.kpi import BurnAlert
from flowmetrics.kpis import catalogue
from flowmetrics.publishing.rules.files import documents

FOLDER: Final = "deploy/prometheus"
CONFIGURATION: Final = Configuration(expectations={"flow_time": Expectation(5 * DAY_US, Threshold(85, "%"))})
"""The defaults, and an expectation, so that there is a budget that burns."""
FEW: Final = frozenset({"flow_time", "active_users", "items_reopened", "nps", "flow_efficiency", "flow_time_met"})
"""The KPIs with which rules of all KPIs are tried: each kind of noise in each direction."""
_EXPECTED: Final = [{kpi.name, kpi.alert.of} for kpi in catalogue(CONFIGURATION) if isinstance(kpi.alert, BurnAlert)]
"""Shares that meet an expectation, each with the KPI that its alert tells of."""
SECONDS_MAX: Final = 300

ENGINE: Final = "flowmetrics-engine.yaml"
_MUTANT: Final = "mutant"
NOTHING: Final = "nothing is wrong"
"""Each rule is also tried as it is: a test that fails then would notice whatever is wrong."""

Rules = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Mutant:
    """A rule with one thing wrong."""

    file: str
    group: int
    rule: int
    name: str
    what: str
    content: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"

    @property
    def kpis(self) -> Collection[str]:
        """The KPIs that the rule is about, few where it is about all, as a mutant may be by mistake."""
        label = self.content.get("labels", {}).get("kpi", "").removeprefix("not-")
        found = re.search(r'kpi=~?"(?:not-)?([a-z_|]+)"', self.content["expr"])
        named = {label} if label else set(found[1].split("|")) if found else set[str]()
        if not named or self.what.startswith("matcher kpi left out"):
            named |= FEW
        return named.union(*(pair for pair in _EXPECTED if named & pair))


_EXCUSES: Final = (
    (
        ".*: label kpi left out",
        "the series themselves say the KPI; the label only tells promtool that rules are no duplicates",
    ),
    (
        ".*(Drift|ScoreDrop): matcher alertname left out",
        "no other alert has all the labels of what it is joined with",
    ),
    ("FlowmetricsBaselineMissing: last_over_time → m(ax|in)", "series are counted, whatever their values"),
    ("FlowmetricsRestarting: 4 × 0.98", "starts are whole numbers"),
    ("(FlowmetricsBaselineMissing|flowmetrics:kpi:band_.*): 3 × 0.98", "weeks are whole numbers"),
    ("FlowmetricsWatchdog: 1 ×", "it fires whatever its value is"),
    ("flowmetrics:engine:workers: count without → sum", "each worker shows a one"),
    (
        "flowmetrics:engine:.*: 1d × ",
        "the series goes on from itself with each evaluation, and a test cannot miss one",
    ),
)
"""Mutants that nothing can notice, by what they are called, and why."""


def excuse(mutant: Mutant) -> str | None:
    """Why nothing can notice a mutant; None for most."""
    expr, trusted = mutant.content["expr"], mutant.name.startswith("flowmetrics:kpi:trusted ")
    if left_out := re.match(r"matcher (\w+) left out", mutant.what):
        if f'{left_out[1]}="' in expr and (left_out[1] == "kpi" or trusted):
            return "it is joined, by this label too, with an operand that has the same matcher"
        if "\nand flowmetrics:kpi:trusted{" in expr:
            return "it is joined with what is trusted, of which there are no others"
    return next((reason for pattern, reason in _EXCUSES if re.match(pattern, str(mutant))), None)


# --- mutants ----------------------------------------------------------------------------------------------------------

_SWAPS: Final = (
    (r"(?<![<>=!])>(?!=)", (">=", "<")),
    (r"(?<![<>=!])<(?!=)", ("<=", ">")),
    (r">=", (">", "<")),
    (r"(?<![<>!=])==", ("!=",)),
    (r" \+ ", (" - ",)),
    (r" - ", (" + ",)),
    (r"\bmax_over_time\b", ("min_over_time",)),
    (r"\bmin_over_time\b", ("max_over_time",)),
    (r"\blast_over_time\b", ("min_over_time", "max_over_time")),
    (r"\bquantile_over_time\(0\.5\b", ("quantile_over_time(0", "quantile_over_time(1")),
    (r"\bquantile (without \([^)]*\)) \(0\.5\b", (r"quantile \1 (0", r"quantile \1 (1")),
    (r"\bmax without\b", ("sum without", "count without")),
    (r"\bmin without\b", ("max without",)),
    (r"\bsum without\b", ("max without",)),
    (r"\bcount without\b", ("sum without",)),
    (r"\bsqrt\b", ("abs",)),
    (r"\babs\(", ("1 * (",)),
    (r"\bdelta\b|\bderiv\b", ("changes",)),
)


def mutants(rules: Rules) -> Iterator[Mutant]:
    """Every mutant of every rule, in the order of the files."""
    for file, content in rules.items():
        for number, group in enumerate(content["groups"]):
            for position, rule in enumerate(group["rules"]):
                name = rule.get("alert") or " ".join([rule["record"], *map(str, rule.get("labels", {}).values())])
                for what, changed in _changes(rule):
                    yield Mutant(file, number, position, name, what, changed)


def _changes(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield NOTHING, rule
    for what, expr in _expressions(rule["expr"]):
        yield what, {**rule, "expr": expr}
    for key in ("for", "keep_firing_for"):
        if key in rule:
            yield f"{key} left out", {name: value for name, value in rule.items() if name != key}
            yield f"{key} twice as long", {**rule, key: _scaled(rule[key], 2)}
            yield f"{key} half as long", {**rule, key: _scaled(rule[key], 0.5)}
    for label, value in rule.get("labels", {}).items():
        labels = {name: each for name, each in rule["labels"].items() if name != label}
        yield f"label {label} left out", {**rule, "labels": labels}
        yield f"label {label} is another", {**rule, "labels": {**labels, label: f"not-{value}"}}


def _expressions(expr: str) -> Iterator[tuple[str, str]]:
    """Every expression that is wrong in one place, with what is wrong."""
    seen = {expr}
    for what, wrong in (
        *_swapped(expr),
        *_thresholds(expr),
        *_durations(expr),
        *_matchers(expr),
        *_lists(expr),
        *_clauses(expr),
    ):
        if wrong not in seen:
            seen.add(wrong)
            yield what, wrong


def _swapped(expr: str) -> Iterator[tuple[str, str]]:
    for pattern, replacements in _SWAPS:
        for found in re.finditer(pattern, expr):
            for replacement in replacements:
                text = found.expand(replacement)
                yield f"{found[0].strip()} → {text.strip()} at {found.start()}", _put(expr, found, text)


def _thresholds(expr: str) -> Iterator[tuple[str, str]]:
    """Numbers a little larger and a little smaller; not those of durations, labels or names."""
    bare = re.sub(r'"[^"]*"|\[[^]]*\]|offset \w+|[a-z_:]*\d+[a-z]+\b', lambda m: "\0" * len(m[0]), expr)
    for found in re.finditer(r"(?<![\w.:\0])\d+(?:\.\d+)?(?![\w.\0])", bare):
        number = float(found[0])
        for factor in (1.02, 0.98) if number else ():
            yield f"{found[0]} × {factor} at {found.start()}", _put(expr, found, f"{number * factor:.6g}")
        if not number:
            yield f"0 → 1 at {found.start()}", _put(expr, found, "1")


def _durations(expr: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(r"(?<=\[)\w+(?=\])|(?<=offset )\w+", expr):
        for factor in (3, 0.5):
            yield f"{found[0]} × {factor} at {found.start()}", _put(expr, found, _scaled(found[0], factor))


def _matchers(expr: str) -> Iterator[tuple[str, str]]:
    for found in re.finditer(r'(\w+)(=|!~)"([^"]*)",?', expr):
        left_out = _put(expr, found, "").replace(",}", "}").replace("{}", "")
        yield f"matcher {found[1]} left out at {found.start()}", left_out
        another = found[0].replace('"', '"not-', 1)
        yield f"matcher {found[1]} is another at {found.start()}", _put(expr, found, another)


def _lists(expr: str) -> Iterator[tuple[str, str]]:
    """A label that is not removed, or not left out of a join."""
    for found in re.finditer(r"\b(without|ignoring|on) \(([\w, ]+)\)", expr):
        names = found[2].split(", ")
        for name in names if len(names) > 1 else ():
            kept = ", ".join(each for each in names if each != name)
            yield f"{found[1]} lacks {name} at {found.start()}", _put(expr, found, f"{found[1]} ({kept})")


def _clauses(expr: str) -> Iterator[tuple[str, str]]:
    """A line that begins with `and`, `or` or `unless`, or another operand, is left out."""
    lines = expr.split("\n")
    for number, line in enumerate(lines):
        if re.match(r"\s*(and|or|unless|\+|/)\b", line) and not line.rstrip().endswith("("):
            yield f"without line {number + 1}: {line.strip()[:60]}", "\n".join([*lines[:number], *lines[number + 1 :]])
    if "\nor " in expr and not expr.startswith("("):
        first, _, rest = expr.partition("\nor ")
        yield "only what stands before the first or", first
        yield "only what stands after the first or", rest
    if (found := re.match(r"clamp_min\((.*), [\d.]+\)", expr, re.DOTALL)) is not None:
        yield "not clamped", _put(expr, found, found[1])


def _put(expr: str, found: re.Match[str], text: str) -> str:
    return expr[: found.start()] + text + expr[found.end() :]


def _scaled(duration: str, factor: float) -> str:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return f"{max(1, round(int(duration[:-1]) * units[duration[-1]] * factor))}s"


# --- judging ----------------------------------------------------------------------------------------------------------


class Judge:
    """Runs the generated tests over a mutant."""

    def __init__(self) -> None:
        texts = documents(CONFIGURATION)
        self.rules, tests = (
            {
                Path(path).name: yaml.safe_load(text)
                for path, text in texts.items()
                if path.startswith(f"{FOLDER}/{kind}")
            }
            for kind in ("rules", "tests")
        )
        cases = [(test, case) for test in tests.values() for case in test["tests"]]
        self._cases = sorted(cases, key=_evaluations)  # most is noticed by the shorter ones

    def notices(self, mutant: Mutant) -> bool:
        """Whether some test fails, or the rules are refused."""
        return any(
            self._fails(mutant, test, case)
            for test, case in self._cases
            if mutant.file in [Path(path).name for path in test["rule_files"]]
        )

    def _fails(self, mutant: Mutant, test: dict[str, Any], case: dict[str, Any]) -> bool:
        files = {Path(path).name: copy.deepcopy(self.rules[Path(path).name]) for path in test["rule_files"]}
        groups = [group for content in files.values() for group in content["groups"]]
        wanted = _around(mutant.content, [rule for group in groups for rule in group["rules"]])
        files[mutant.file]["groups"][mutant.group]["rules"][mutant.rule] = {**mutant.content, _MUTANT: True}
        kpis = mutant.kpis if mutant.file != ENGINE else frozenset[str]()
        for group in groups:
            group["rules"] = [
                {key: value for key, value in rule.items() if key != _MUTANT}
                for rule in group["rules"]
                if _MUTANT in rule or (_name(rule) in wanted and _belongs(rule["expr"], kpis))
            ]
        read = {word for group in groups for rule in group["rules"] for word in re.findall(r"[\w:]+", rule["expr"])}
        reduced = _reduced(case, kpis, wanted, read)
        if not reduced["input_series"] and not any(each["exp_samples"] for each in reduced["promql_expr_test"]):
            return False  # nothing is shown that they read, and nothing of them is expected
        order = [group["name"] for group in groups]
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                _write(Path(folder) / "rules" / name, content)
            path = Path(folder) / "tests" / "test.yaml"
            _write(path, {**test, "tests": [reduced], "group_eval_order": order})
            run = subprocess.run(
                ["promtool", "test", "rules", str(path)], capture_output=True, timeout=SECONDS_MAX, check=False
            )
        return run.returncode != 0


def _evaluations(tried: tuple[dict[str, Any], dict[str, Any]]) -> float:
    """How often all rules are evaluated in a case."""
    test, case = tried
    return max(duration_us(each["eval_time"]) for each in case["promql_expr_test"]) / duration_us(
        test["evaluation_interval"]
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.dump(content, Dumper=yaml.CSafeDumper))


def _name(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"])


def _around(rule: dict[str, Any], rules: list[dict[str, Any]]) -> set[str]:
    """The names of what reads a rule, of what that reads in turn, and of what all of them need."""
    reads = {_name(each): set[str]() for each in rules}
    for each in rules:
        reads[_name(each)] |= set(re.findall(r"flowmetrics:[\w:]+", each["expr"]))
    wanted = {_name(rule)}
    while more := {name for name, read in reads.items() if read & wanted} - wanted:
        wanted |= more
    while more := {name for each in wanted for name in reads.get(each, set())} - wanted:
        wanted |= more
    return wanted


def _belongs(text: str, kpis: Collection[str]) -> bool:
    """Whether a rule or a series is about one of some KPIs, or about none."""
    named = [name for name in re.findall(r'kpi="(?:not-)?([a-z_]+)"', text) if name != "any"]
    return not kpis or not named or bool(set(named) & set(kpis))


def _reduced(case: dict[str, Any], kpis: Collection[str], wanted: set[str], read: set[str]) -> dict[str, Any]:
    """The test with what is said of these KPIs, and of the rules that are wanted, alone; and with what they read."""

    def expected(sample: dict[str, Any]) -> bool:
        name = re.search(r'alertname="(\w+)"', sample["labels"]) or re.match(r"([\w:]+)", sample["labels"])
        assert name is not None
        return name[1] in wanted and _belongs(sample["labels"], kpis)

    return {
        **case,
        "input_series": [
            line
            for line in case["input_series"]
            if line["series"].partition("{")[0] in read and _belongs(line["series"], kpis)
        ],
        "promql_expr_test": [
            {**each, "exp_samples": [sample for sample in each["exp_samples"] if expected(sample)]}
            for each in case["promql_expr_test"]
        ],
        "alert_rule_test": [each for each in case.get("alert_rule_test", ()) if each["alertname"] in wanted],
    }


def main() -> int:
    """The whole, or a sample; the figure comes last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=0, help="so many mutants; 0 is all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="mutants whose description holds this text")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    judge = Judge()
    chosen = [mutant for mutant in mutants(judge.rules) if given.only in str(mutant)]
    if given.sample:
        chosen = random.Random(given.seed).sample(chosen, min(given.sample, len(chosen)))
    found: Counter[str] = Counter()
    with ThreadPoolExecutor(given.jobs) as pool:
        for mutant, noticed in zip(chosen, pool.map(judge.notices, chosen), strict=True):
            verdict = _verdict(mutant, noticed)
            found[verdict] += 1
            if verdict in _WRONG:
                print(f"{verdict.upper()} {mutant}", flush=True)
    print(", ".join(f"{number} {verdict}" for verdict, number in found.most_common()))
    return 1 if found.keys() & _WRONG else 0


_WRONG: Final = {"survived", "noticed"}


def _verdict(mutant: Mutant, noticed: bool) -> str:
    if mutant.what == NOTHING:
        return "noticed" if noticed else "passed as they are"
    return "killed" if noticed else "equivalent" if excuse(mutant) else "survived"


if __name__ == "__main__":
    sys.exit(main())
