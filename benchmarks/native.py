"""flow-1 as native events: native.py FLOW1.jsonl NATIVE.jsonl [DAYS]

FLOW1 is what `flow1/generate.py` writes, 60 days from 2025-01-01; DAYS moves it, for an engine that runs today.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

import orjson


def native(row: dict[str, object]) -> dict[str, object]:
    """One row of flow-1 as a CloudEvent."""
    if row["kind"] == "item":
        kind = "item"
        fields = {
            "item": row["item_id"],
            "value_stream": row["product"],
            "item_type": row["type"],
            "state": row["state"],
            "team": row["attrs"]["team"],  # type: ignore[index] # rows are flow-1's
        }
    else:
        kind = "activity"
        fields = {"customer": row["user_id"], "value_stream": row["product"], "feature": row["action"]}
    return {
        "specversion": "1.0",
        "id": row["event_id"],
        "source": row["source"],
        "type": f"flowmetrics.{kind}.v1",
        "time": row["event_time"],
        "data": fields,
    }


if __name__ == "__main__":
    shift = timedelta(days=int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    with open(sys.argv[1], "rb") as rows, open(sys.argv[2], "wb") as events:
        for line in rows:
            row = orjson.loads(line)
            row["event_time"] = datetime.fromisoformat(row["event_time"]) + shift
            events.write(orjson.dumps(native(row)) + b"\n")
