"""A broker that lets nobody in without a password or a certificate: a worker runs over each, and says what is wrong."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from broker import Broker
from engine import done, until
from fleet import SESSION_SECONDS, Worker

pytestmark = pytest.mark.long

USER: Final = "flow"
VISITOR: Final = "visitor"
"""Somebody with the same password who may do nothing but what a test allows."""
PASSWORD: Final = "the right one"
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
SECONDS: Final = 120.0
LISTENERS: Final = {"NAMED": "SASL_PLAINTEXT", "CERTIFIED": "SSL", "MUTUAL": "SSL", "BOTH": "SASL_SSL"}


class Certificates:
    """An authority, a broker's certificate for this address, a client's, and another authority nobody trusts."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("certificates need openssl: what runs over TLS is left out")
        folder.mkdir()
        self.folder = folder
        self.authority, self.stranger = self._authority("authority"), self._authority("stranger")
        self._signed("broker", "subjectAltName=IP:127.0.0.1")
        self._signed("client", "extendedKeyUsage=clientAuth")
        self.certificate, self.key = folder / "client.pem", folder / "client.key"
        self.store = folder / "store.pem"
        self.store.write_text((folder / "broker.key").read_text() + (folder / "broker.pem").read_text())

    def _authority(self, name: str) -> Path:
        at = self.folder / f"{name}.pem"
        self._openssl("req", "-x509", "-days", "2", "-subj", f"/CN={name}", *self._new_key(name), "-out", at)
        return at

    def _signed(self, name: str, extension: str) -> None:
        asked, said = self.folder / f"{name}.csr", self.folder / f"{name}.extension"
        said.write_text(extension)
        self._openssl("req", "-subj", f"/CN={name}", *self._new_key(name), "-out", asked)
        by = ("-CA", self.authority, "-CAkey", self.authority.with_suffix(".key"), "-CAcreateserial")
        self._openssl(
            "x509", "-req", "-days", "2", "-in", asked, *by, "-extfile", said, "-out", self.folder / f"{name}.pem"
        )

    def _new_key(self, name: str) -> list[str | Path]:
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        return [*curve, "-nodes", "-keyout", self.folder / f"{name}.key"]

    def _openssl(self, *words: str | Path) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def guarded(brokers: Callable[..., Broker], certificates: Certificates) -> Broker:
    """A broker with a listener for each way to get in."""
    stores = {
        "keystore.type": "PEM",
        "keystore.location": certificates.store,
        "truststore.type": "PEM",
        "truststore.location": certificates.authority,
    }
    settings: dict[str, Any] = {
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER};User:CN=client",
        "group.max.session.timeout.ms": "60000",
    }
    for listener, protocol in LISTENERS.items():
        at = f"listener.name.{listener.lower()}"
        if protocol.endswith("SSL"):
            settings |= {f"{at}.ssl.{name}": value for name, value in stores.items()}
        if protocol.startswith("SASL"):
            security = "org.apache.kafka.common.security"
            plain = f'{security}.plain.PlainLoginModule required user_{USER}="{PASSWORD}" user_{VISITOR}="{PASSWORD}";'
            settings[f"{at}.plain.sasl.jaas.config"] = plain
            for mechanism in ("scram-sha-256", "scram-sha-512"):
                settings[f"{at}.{mechanism}.sasl.jaas.config"] = f"{security}.scram.ScramLoginModule required;"
    settings["listener.name.mutual.ssl.client.auth"] = "required"
    known = {name: f'name={USER},password="{PASSWORD}"' for name in MECHANISMS if name.startswith("SCRAM")}
    return brokers(settings=settings, listeners=LISTENERS, scram=known)


class Guest(Worker):
    """A worker that says who it is."""

    def __init__(self, directory: Path, broker: str, prefix: str, **kafka: str | Path) -> None:
        self._kafka = kafka
        super().__init__(directory, broker, f"topics: {{prefix: {prefix}, partitions: 2}}\n")

    def configure(self, settings: str, listen: str = "127.0.0.1:0") -> None:
        """Write the configuration; it counts from the next start."""
        rows = {"session": f"{SESSION_SECONDS}s", "store": self.directory / "store", **self._kafka}
        kafka = "".join(f"  {name}: {value}\n" for name, value in rows.items())
        self.config.write_text(
            f'broker: kafka://{self.broker}\nhttp: {{listen: "{listen}"}}\n{settings}kafka:\n{kafka}'
        )


Make = Callable[..., Guest]


@pytest.fixture
def make(tmp_path: Path, guarded: Broker, prefix: str) -> Iterator[Make]:
    """Workers at a listener, each in a directory of its own, not started."""
    with ExitStack() as held:

        def one(listener: str, **kafka: str | Path) -> Guest:
            directory = tmp_path / f"worker-{listener.lower()}"
            return held.enter_context(Guest(directory, guarded.addresses[listener], prefix, **kafka))

        yield one


@pytest.fixture
def password(tmp_path: Path) -> Path:
    """A file with the right password, as an editor leaves it."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    return file


def counts(worker: Guest) -> None:
    """It runs, takes events, and shows them."""
    worker.start()
    until(lambda: worker.get("/readyz").status == 200, "the worker is ready", SECONDS)
    worker.post(*(done(f"A-{n}") for n in range(20)))
    worker.shows(lambda page: page.velocity(), 20, SECONDS)
    worker.stop()


def refused(worker: Guest, *words: str, code: int = 1) -> None:
    """It ends by itself with one clear sentence."""
    worker.spawn()
    assert worker.ended(SECONDS) == code
    assert "Traceback" not in worker.said
    for word in words:
        assert word in worker.said, f"{word!r} is not in: {worker.said}"


# --- it runs ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_worker_runs_with_a_password(make: Make, password: Path, mechanism: str) -> None:
    counts(make("NAMED", security="sasl", mechanism=mechanism, user=USER, password_file=password))


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_worker_runs_with_a_password_over_tls(
    make: Make, password: Path, certificates: Certificates, mechanism: str
) -> None:
    said = {"user": USER, "password_file": password, "ca_file": certificates.authority}
    counts(make("BOTH", security="sasl_tls", mechanism=mechanism, **said))


def test_a_worker_runs_over_tls(make: Make, certificates: Certificates) -> None:
    counts(make("CERTIFIED", security="tls", ca_file=certificates.authority))


def test_a_worker_runs_over_tls_with_a_certificate_of_its_own(make: Make, certificates: Certificates) -> None:
    own = {"certificate_file": certificates.certificate, "key_file": certificates.key}
    counts(make("MUTUAL", security="tls", ca_file=certificates.authority, **own))


# --- it says what is wrong ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password_ends_the_worker_and_names_the_keys(make: Make, password: Path, mechanism: str) -> None:
    password.write_text("guessed")
    worker = make("NAMED", security="sasl", mechanism=mechanism, user=USER, password_file=password)
    refused(worker, worker.broker, "kafka.user", "kafka.password_file")
    assert "guessed" not in worker.said, "a password is never told"


def test_a_wrong_password_over_tls_ends_the_worker_and_names_the_keys(
    make: Make, password: Path, certificates: Certificates
) -> None:
    password.write_text("guessed")
    said = {"user": USER, "password_file": password, "ca_file": certificates.authority}
    refused(make("BOTH", security="sasl_tls", **said), "kafka.user", "kafka.password_file")


def test_an_unknown_user_ends_the_worker_and_names_the_keys(make: Make, password: Path) -> None:
    refused(make("NAMED", security="sasl", user="nobody", password_file=password), "kafka.user", "kafka.password_file")


def test_a_password_file_that_is_missing_ends_the_worker_and_is_named(make: Make, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    refused(
        make("NAMED", security="sasl", user=USER, password_file=missing), "kafka.password_file", str(missing), code=2
    )


def test_a_password_that_is_not_configured_ends_the_worker_and_names_the_keys(make: Make) -> None:
    refused(make("NAMED", security="sasl"), "kafka.security is sasl", "kafka.user", "kafka.password_file", code=2)


def test_a_broker_whose_certificate_nobody_trusted_signed_ends_the_worker_and_names_the_key(
    make: Make, certificates: Certificates
) -> None:
    worker = make("CERTIFIED", security="tls", ca_file=certificates.stranger)
    refused(worker, worker.broker, "kafka.ca_file", "certificate")


def test_a_broker_that_is_not_who_its_certificate_says_ends_the_worker(make: Make, certificates: Certificates) -> None:
    worker = make("CERTIFIED", security="tls", ca_file=certificates.authority)
    worker.broker = worker.broker.replace("127.0.0.1", "localhost")
    worker.configure("topics: {prefix: named, partitions: 2}\n")
    refused(worker, worker.broker, "kafka.ca_file", "certificate")


def test_a_certificate_that_is_missing_ends_the_worker_and_names_the_keys(
    make: Make, certificates: Certificates
) -> None:
    worker = make("MUTUAL", security="tls", ca_file=certificates.authority)
    refused(worker, worker.broker, "kafka.certificate_file", "kafka.key_file")


def test_tls_files_that_cannot_be_read_end_the_worker_and_are_named(make: Make, certificates: Certificates) -> None:
    missing = certificates.folder / "nowhere.pem"
    refused(make("CERTIFIED", security="tls", ca_file=missing), "TLS files of kafka", str(missing), code=2)


# A broker that is going down ends connections as well, so these wait: who forgot a key reads it on /readyz.
def waits(worker: Guest, *words: str) -> None:
    """It goes on trying, and says where to look."""
    worker.start()
    told = until(lambda: next((text for text in [worker.get("/readyz").text] if all(w in text for w in words)), ""),
                 f"the reason names {words}", SECONDS)  # fmt: skip
    assert worker.broker in told
    assert worker.get("/healthz").status == 200
    worker.stop()


def test_a_worker_that_shows_no_password_where_one_is_asked_for_names_the_key(make: Make) -> None:
    waits(make("NAMED"), "kafka.security")


def test_a_worker_that_speaks_plainly_where_tls_is_spoken_names_the_key(make: Make) -> None:
    waits(make("CERTIFIED"), "kafka.security")


def test_a_worker_that_speaks_tls_where_none_is_spoken_names_the_key(make: Make, certificates: Certificates) -> None:
    waits(make("NAMED", security="tls", ca_file=certificates.authority), "kafka.security")


def test_a_worker_that_shows_a_password_where_none_is_asked_for_ends_and_names_the_key(
    make: Make, password: Path
) -> None:
    refused(make("PLAINTEXT", security="sasl", user=USER, password_file=password), "kafka.security")


# --- it is let in, and may not do everything ----------------------------------------------------------------------
@pytest.fixture
def visitor(make: Make, password: Path) -> Guest:
    """A worker of somebody who may do what `rights` gives."""
    return make("NAMED", security="sasl", mechanism="PLAIN", user=VISITOR, password_file=password)


def rights(broker: Broker, prefix: str, *kinds: str, change: str = "--add") -> None:
    """Give the visitor all rights to what begins with the prefix, or take them away."""
    at, who = ("--bootstrap-server", broker.address), ("--allow-principal", f"User:{VISITOR}", "--operation", "All")
    what = [word for kind in kinds for word in (f"--{kind}", prefix)]
    broker.java(
        "org.apache.kafka.tools.AclCommand", *at, change, "--force", *who, "--resource-pattern-type", "prefixed", *what
    )


def test_a_user_who_may_not_make_the_topics_is_told_so(visitor: Guest) -> None:
    refused(visitor, "does not make the topic", "let this user create topics, or create it")


def test_a_user_who_may_not_read_the_group_is_told_its_name(visitor: Guest, guarded: Broker, prefix: str) -> None:
    rights(guarded, prefix, "topic", "transactional-id")
    refused(visitor, f"{prefix}.workers; let this user read the group of that name")


def test_a_worker_that_may_not_read_the_group_any_more_ends_and_names_it(
    visitor: Guest, guarded: Broker, prefix: str
) -> None:
    rights(guarded, prefix, "topic", "group", "transactional-id")
    visitor.start()
    until(lambda: visitor.get("/readyz").status == 200, "the worker is ready", SECONDS)
    rights(guarded, prefix, "group", change="--remove")
    assert visitor.ended(SECONDS) == 1
    assert f"{prefix}.workers; let this user read the group of that name" in visitor.said


def test_a_user_who_may_not_write_the_transactional_ids_is_told_so(
    visitor: Guest, guarded: Broker, prefix: str
) -> None:
    rights(guarded, prefix, "topic", "group")
    refused(visitor, f"Kafka refuses the transactional id {prefix}-t", "let this user write transactional ids")


def test_a_session_that_this_broker_does_not_allow_ends_the_worker_and_names_the_key(make: Make) -> None:
    refused(make("PLAINTEXT", session="2m"), "kafka.session", "group.max.session.timeout.ms")
