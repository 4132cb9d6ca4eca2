"""The bearer token of senders, read from where the configuration says it lies."""

from __future__ import annotations

import hmac
from pathlib import Path

from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError


def token_of(configuration: Configuration) -> str | None:
    """The token of `http.token_file`; None where none is asked for. Raises ConfigurationError."""
    if configuration.token_file is None:
        return None
    try:
        token = Path(configuration.token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"http.token_file {configuration.token_file} cannot be read: {error}") from None
    if not token:
        raise ConfigurationError(f"http.token_file {configuration.token_file} is empty; write the token into it")
    return token


def is_shown(authorization: str, token: str) -> bool:
    """Whether a header `Authorization: Bearer …` shows the token; it takes as long for any wrong one.

    >>> is_shown("Bearer secret", "secret"), is_shown("Basic secret", "secret")
    (True, False)
    """
    scheme, _, shown = authorization.partition(" ")
    same = hmac.compare_digest(shown.strip().encode("utf-8", "surrogateescape"), token.encode())
    return scheme.lower() == "bearer" and same
