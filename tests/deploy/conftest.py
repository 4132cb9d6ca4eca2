"""Brokers are those of the tests on Kafka."""

from kafka.conftest import brokers, prefix

__all__ = ["brokers", "collect_ignore", "prefix"]

collect_ignore = ["crds.py"]
"""It runs in the environment that checks deploy/, and has no doctests to be collected here."""
