"""flowmetrics computes: events in, histories, contributions, panes and KPIs out; it has no clock and no I/O.

The package `agents` acts: it reads files and requests, keeps the journal and serves the page.
Start reading at `flowmetrics.topology`, then `flowmetrics.kpi`.
"""

__version__ = "0.1.0"
