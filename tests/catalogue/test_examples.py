"""Every KPI's worked example, run through the real steps."""

from __future__ import annotations

import shlex

import msgspec
import pytest

from flowmetrics.configuration import Configuration
from flowmetrics.instants import parse_instant
from flowmetrics.kpi import Kpi
from flowmetrics.kpis import catalogue
from flowmetrics.testing import Driver


def event(number: int, time: str, told: str) -> bytes:
    kind, *fields = shlex.split(told)
    values = dict(field.split("=", 1) for field in fields)
    body = {**values, **({"score": int(values["score"])} if "score" in values else {})}
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "id": str(number),
            "source": "example",
            "type": f"flowmetrics.{kind}.v1",
            "time": time,
            "data": body,
        }
    )


@pytest.mark.parametrize("kpi", catalogue(Configuration()), ids=lambda kpi: kpi.name)
def test_the_worked_example_of_each_kpi_is_true(kpi: Kpi) -> None:
    driver = Driver(kpi.example.under)
    driver.deliver([event(n, time, told) for n, (time, told) in enumerate(kpi.example.events)])
    driver.advance(parse_instant(kpi.example.at))
    values = driver.values()
    assert not driver.rejected
    for name, expected in kpi.example.values.items():
        if expected is None:
            assert name not in values
        else:
            tolerance = 0.01 if "percentile" in name else 1e-12
            assert values[name] == pytest.approx(expected, rel=tolerance), name
