"""How Kafka is reached: addresses, and whatever it asks for to let somebody in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    InvalidReplicationFactorError,
    InvalidSessionTimeoutError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError, OperationError

KNOCK_MS: Final = 10_000
END_SECONDS: Final = 2.0
SELDOM_SECONDS: Final = 30.0
_PROTOCOLS: Final = {"none": "PLAINTEXT", "tls": "SSL", "sasl": "SASL_PLAINTEXT", "sasl_tls": "SASL_SSL"}
_CREDENTIALS: Final = "look at kafka.user and kafka.password_file, and whether kafka.mechanism is the one they are for"
_LOOK: Final[tuple[tuple[type[Exception], str], ...]] = (
    (SaslAuthenticationFailed, _CREDENTIALS),
    (AuthenticationFailedError, _CREDENTIALS),
    (UnsupportedSaslMechanismError, "look at kafka.mechanism"),
    (IllegalSaslStateError, "it asks for no password there; look at kafka.security and the port"),
    (
        ssl.SSLCertVerificationError,
        "name the authority that signed its certificate in kafka.ca_file, and in broker a host that is in it",
    ),
    (ssl.SSLError, "name a certificate that it trusts in kafka.certificate_file and its key in kafka.key_file"),
    (GroupAuthorizationFailedError, "let this user read the group of that name"),
    (
        InvalidSessionTimeoutError,
        "look at kafka.session, and at group.min.session.timeout.ms and group.max.session.timeout.ms of the brokers",
    ),
)
_PASSES: Final = (OSError, KafkaTimeoutError, InvalidReplicationFactorError)
"""Nobody answers, or too few brokers are up yet. What the client did not expect is a KafkaError of no other kind."""


class Seldom(logging.Filter):
    """Lets what a client says pass once in a while: without a broker each says the same many times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this was not said lately, whatever was in it."""
        what, now = f"{record.name} {record.msg}", time.monotonic()
        if now < self._said.get(what, -math.inf) + SELDOM_SECONDS:
            return False
        self._said[what] = now
        return True


def _quiet() -> None:
    clients = logging.getLogger("aiokafka")
    if clients.propagate:
        told = logging.StreamHandler()
        told.addFilter(Seldom())
        told.setLevel(logging.WARNING)
        clients.addHandler(told)
        clients.propagate = False


class Connection:
    """What every client of one Kafka needs. Raises ConfigurationError where a file of the configuration is missing."""

    def __init__(self, configuration: Configuration) -> None:
        _quiet()
        self.brokers = configuration.broker.removeprefix("kafka://")
        security = configuration.kafka_security
        self._shown: dict[str, Any] = {"security_protocol": _PROTOCOLS[security]}
        if security in ("tls", "sasl_tls"):
            self._shown["ssl_context"] = _context(configuration)
        if security in ("sasl", "sasl_tls"):
            self._shown["sasl_mechanism"] = configuration.kafka_mechanism
            self._shown["sasl_plain_username"] = configuration.kafka_user
            self._shown["sasl_plain_password"] = _password(configuration)

    def client(self, name: str) -> dict[str, Any]:
        """The arguments of a client, whose name is seen in the broker's log."""
        return {"bootstrap_servers": self.brokers.split(","), **self._shown, "client_id": f"flowmetrics-{name}"}

    def refusal(self, error: KafkaError | OSError) -> OperationError | None:
        """What to tell where Kafka refuses; nothing where it may answer otherwise later."""
        if isinstance(error, _PASSES) or error.retriable or type(error) is KafkaError:
            return None
        look = _look(error)
        return OperationError(f"Kafka at {self.brokers} refuses: {error}{look and f'; {look}'}")

    async def knock(self) -> None:
        """Whether somebody lets us in: clients take every refusal for a broker that is away, and try for ever.

        Raises OperationError where what we show is refused, and KafkaError where nobody answers.
        """
        away: list[str] = []
        for host, port, _ in collect_hosts(self.brokers):
            try:
                return await self._enter(host, port)
            except (KafkaError, OSError) as error:
                look = _look(error)
                if look:
                    raise OperationError(f"Kafka at {host}:{port} does not let us in ({error}); {look}") from None
                away.append(f"{host}:{port} {_absence(error)}")
        raise KafkaConnectionError("; ".join(away))

    async def _enter(self, host: str, port: int) -> None:
        connection = await create_conn(
            host, port, client_id="flowmetrics-knocks", request_timeout_ms=KNOCK_MS, **self._shown
        )
        try:
            await connection.send(MetadataRequest([]))  # without it a broker that wants a password says nothing
        finally:
            connection.close()


@contextlib.contextmanager
def own_cancels() -> Iterator[None]:
    """What Kafka's client cancels of its own is a KafkaError here: where a broker goes away it cancels what others wait
    for, to whom that looks as if they were to end."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise KafkaError("Kafka's client gave up what was waited for") from None


async def end(producer: AIOKafkaProducer) -> None:
    """Let go of a producer within seconds, whatever state it is in; what it still had to write is dropped."""
    # Its own stop waits until all is written, and cut short leaves a task behind that tries for ever.
    producer._closed = True
    sender = producer._sender.sender_task if producer._sender else None
    if sender is not None:
        sender.cancel()
    with contextlib.suppress(KafkaError, TimeoutError):
        await asyncio.wait_for(producer.client.close(), END_SECONDS)
    if sender is not None:
        await asyncio.wait([sender], timeout=END_SECONDS / 2)
        sender.cancel()  # it may wait for an answer that cannot come any more
        await asyncio.wait([sender], timeout=END_SECONDS / 2)


async def leave(consumer: AIOKafkaConsumer) -> None:
    """Let go of a consumer within seconds, whatever state it is in."""
    # Where a fetch has just failed, its own stop ends as if cancelled before it closes the connections; where no broker
    # answers, its farewell to the group would take 40 s.
    try:
        with contextlib.suppress(KafkaError, TimeoutError), own_cancels():
            await asyncio.wait_for(consumer.stop(), END_SECONDS)
    finally:
        with contextlib.suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(consumer._client.close(), END_SECONDS)


def _look(error: BaseException | None) -> str:
    """Where to look when it was a refusal; nothing where the broker may only be away."""
    if error is None or isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return ""
    return next((look for kind, look in _LOOK if isinstance(error, kind)), "") or _look(error.__cause__)


def _absence(error: Exception) -> str:
    if isinstance(error, (KafkaConnectionError, ConnectionResetError, ssl.SSLError)):
        return "ends the connection at once: if that stays so, look at kafka.security and the port"
    return str(error) or "does not answer"


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
