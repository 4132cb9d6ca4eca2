"""Brokers are those of the tests on Kafka."""

from kafka.conftest import brokers, prefix

__all__ = ["brokers", "prefix"]
