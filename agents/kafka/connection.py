"""How Kafka is reached: addresses, and whatever it asks for to let somebody in."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError

_PROTOCOLS: Final = {"none": "PLAINTEXT", "tls": "SSL", "sasl": "SASL_PLAINTEXT", "sasl_tls": "SASL_SSL"}


class Connection:
    """What every client of one Kafka needs. Raises ConfigurationError where a file of the configuration is missing."""

    def __init__(self, configuration: Configuration) -> None:
        self.brokers = configuration.broker.removeprefix("kafka://")
        security = configuration.kafka_security
        self._common: dict[str, Any] = {
            "bootstrap_servers": self.brokers.split(","),
            "security_protocol": _PROTOCOLS[security],
        }
        if security in ("tls", "sasl_tls"):
            self._common["ssl_context"] = _context(configuration)
        if security in ("sasl", "sasl_tls"):
            self._common["sasl_mechanism"] = configuration.kafka_mechanism
            self._common["sasl_plain_username"] = configuration.kafka_user
            self._common["sasl_plain_password"] = _password(configuration)

    def client(self, name: str) -> dict[str, Any]:
        """The arguments of a client, whose name is seen in the broker's log."""
        return {**self._common, "client_id": f"flowmetrics-{name}"}


def _context(configuration: Configuration) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=configuration.kafka_ca_file)
        if configuration.kafka_certificate_file:
            context.load_cert_chain(configuration.kafka_certificate_file, configuration.kafka_key_file)
    except (OSError, ssl.SSLError) as error:
        names = (configuration.kafka_ca_file, configuration.kafka_certificate_file, configuration.kafka_key_file)
        files = ", ".join(name for name in names if name)
        raise ConfigurationError(f"the TLS files of kafka ({files}) cannot be used: {error}") from None
    return context


def _password(configuration: Configuration) -> str:
    if configuration.kafka_user is None or configuration.kafka_password_file is None:
        raise ConfigurationError(
            f"kafka.security is {configuration.kafka_security}; give kafka.user and kafka.password_file too"
        )
    try:
        return Path(configuration.kafka_password_file).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"kafka.password_file {configuration.kafka_password_file}: {error}") from None
