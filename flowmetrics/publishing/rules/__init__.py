"""The rules for Prometheus that follow from the catalogue, the history that they need, and a runbook for each alert."""
