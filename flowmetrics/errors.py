"""Who must act when something is wrong: the sender of an event, the operator of the engine, or nobody.

A mistake in our own code is an `assert`; it has no class here.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


class Reason(enum.Enum):
    """Why a delivery is refused; a closed list, part of the public contract."""

    NOT_JSON = "not_json"
    NOT_CLOUDEVENT = "not_cloudevent"
    UNKNOWN_TYPE = "unknown_type"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BAD_TIME = "bad_time"
    TIME_WITHOUT_OFFSET = "time_without_offset"
    TOO_FAR_AHEAD = "too_far_ahead"
    SCORE_OFF_SCALE = "score_off_scale"
    UNKNOWN_SURVEY = "unknown_survey"
    TOO_LARGE = "too_large"
    BAD_SIGNATURE = "bad_signature"


@dataclass(frozen=True, slots=True)
class Rejection:
    """The sender must act: the reason from the closed list, and a sentence that says what to mend."""

    reason: Reason
    detail: str


class FlowmetricsError(Exception):
    """Base of the errors a person can act on; its message says who must do what. Never raised itself."""

    exit_code = 1


class ConfigurationError(FlowmetricsError):
    """The operator must mend a file or a command line; the message names the place and the nearest right word.

    Of several mistakes each is an argument.

    >>> print(ConfigurationError("the first is wrong", "the second as well"))
    the first is wrong
    the second as well
    """

    exit_code = 2

    def __str__(self) -> str:
        return "\n".join(self.args)


class OperationError(FlowmetricsError):
    """The operator must mend the surroundings: a full disk, a damaged file, a port in use."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`word` with the nearest known word, as the end of an error message; empty when nothing is near.

    >>> nearest("widnows", ["windows", "horizon"])
    ' Did you mean "windows"?'
    >>> nearest("xyz", ["windows"])
    ''
    """
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f' Did you mean "{near[0]}"?' if near else ""
