"""DuckDB: everything computed anew from the file, on all cores. Not a stream: the bound for one look at a whole day."""

from __future__ import annotations

import os
import time

import duckdb
from harness import DAY, EVENTS, answer, report

COLUMNS = "kind", "item_id", "user_id", "product", "type", "state", "event_time"

connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
begun, cpu = time.perf_counter(), time.process_time()
columns = ", ".join(f"{name}: 'VARCHAR'" for name in COLUMNS)
connection.execute(
    f"""CREATE TEMP TABLE told AS SELECT * REPLACE (epoch_ms(event_time::TIMESTAMPTZ) AS event_time)
    FROM read_json('{os.environ["EVENTS_FILE"]}', format = 'newline_delimited', columns = {{{columns}}})"""
)
(latest,) = connection.execute("SELECT max(event_time) FROM told").fetchone()
flow = connection.execute(
    f"""WITH items AS (
        SELECT any_value(product || '|' || type) AS part, min(event_time) FILTER (state = 'created') AS created,
        min(event_time) FILTER (state = 'done') AS done FROM told WHERE kind = 'item' GROUP BY item_id)
    SELECT part, count(*), quantile_cont(done - created, 0.5), quantile_cont(done - created, 0.95) FROM items
    WHERE done > {latest} - 7 * {DAY} AND created IS NOT NULL GROUP BY part"""
).fetchall()
active = connection.execute(
    f"""WITH customers AS (
        SELECT product, max(event_time // {DAY}) AS day FROM told WHERE kind = 'activity' GROUP BY product, user_id)
    SELECT product, day, count(*) FROM customers GROUP BY product, day"""
).fetchall()
seconds, used = time.perf_counter() - begun, time.process_time() - cpu
days: dict[str, dict[int, int]] = {}
for product, day, n in active:
    days.setdefault(product, {})[day] = n
right = answer(latest, {}, days)
right["flow"] = {group: figures for group, *figures in flow}
report(EVENTS, seconds, used, right)
