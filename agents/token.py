"""The bearer token of senders, read from where the configuration says it lies."""

from __future__ import annotations

import hmac
from pathlib import Path

from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError


def token_of(configuration: Configuration) -> str | None:
    """The token of `http.token_file`; None where none is asked for. Raises ConfigurationError."""
    path = configuration.token_file
    return token_at(Path(path) if path is not None else None, "http.token_file")


def token_at(path: Path | None, named: str = "--token-file") -> str | None:
    """The token in a file, None for none; `named` is what names the file, for errors. Raises ConfigurationError."""
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{named} {path} cannot be read: {error}") from None
    if not token:
        raise ConfigurationError(f"{named} {path} is empty; write the token into it")
    return token


def is_shown(authorization: str, token: str) -> bool:
    """Whether a header `Authorization: Bearer …` shows the token; it takes as long for any wrong one.

    >>> is_shown("Bearer secret", "secret"), is_shown("Basic secret", "secret")
    (True, False)
    """
    scheme, _, shown = authorization.partition(" ")
    same = hmac.compare_digest(shown.strip().encode("utf-8", "surrogateescape"), token.encode())
    return scheme.lower() == "bearer" and same
