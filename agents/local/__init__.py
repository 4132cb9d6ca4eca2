"""The engine on one machine: one SQLite file holds log, histories, panes and position."""
