"""Every limit of the engine, with its reason and the metric that counts when it bites."""

from __future__ import annotations

from typing import Final

# --- intake -------------------------------------------------------------------------------------------------------
EVENT_BYTES_MAX: Final = 256 * 1024
"""One event. Contract section 1. Counted in `events_rejected_total{reason="too_large"}`."""

NESTING_MAX: Final = 200
"""Levels of brackets in an event: the decoder's own limit depends on who calls it. `reason="not_json"`."""

TEXT_CHARACTERS_MAX: Final = 1000
"""A text of an event, such as its id or a state; longer ones are cut. So many facts as a history holds, each with eight
texts in the longest letters there are, are one record on Kafka."""

REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024
"""One HTTP request, unpacked. Contract section 1. Answered with 413."""

AHEAD_US_MAX: Final = 3_600_000_000
"""How far an event may be ahead of its arrival stamp: one hour of clock skew. `reason="too_far_ahead"`."""

TITLE_CHARACTERS_MAX: Final = 200
"""A title is for `explain` only; the rest of it is cut."""

# --- histories ----------------------------------------------------------------------------------------------------
FACTS_PER_HISTORY_MAX: Final = 1024
"""Facts of one work item or request: the first and the last half of them stay, which is the same set in any order
of arrival. Guessed: ten times the longest history in the real logs. Counted in `histories_cut_total`."""

ANSWERS_PER_SURVEY_MAX: Final = 16
"""Answers kept per person, survey and touchpoint, so that an older one returns when the latest is withdrawn."""

ANSWERS_PER_PERSON_MAX: Final = 256
"""Answers kept per person, the latest: a survey tool that names a touchpoint for each page must not fill a history."""

MILESTONES_PER_NAME_MAX: Final = 8
"""Milestones of one name and value stream kept per customer, the earliest."""

MILESTONES_PER_CUSTOMER_MAX: Final = 256
"""Milestones of all names kept per customer, the earliest."""

STREAMS_PER_CUSTOMER_MAX: Final = 100
"""Value streams in which the activity of one customer is kept: the first by name, which are the same in any order."""

FEATURES_PER_STREAM_MAX: Final = 256
"""Features whose last use is kept per customer and value stream: those used last stay."""

LATENESS_DAYS: Final = 30
"""G of `docs/ARCHITECTURE.md`: a fact later than this can join a history that was already forgotten."""

SLOTS_PER_STREAM_MAX: Final = 4096
"""First and last activity of a day kept per customer and value stream: five years and a half of every day."""

HORIZON_US_MIN: Final = 31 * 86_400_000_000
"""The shortest horizon: stickiness reads thirty local days, of which one may have 25 hours. Refused by the settings."""

# --- labels -------------------------------------------------------------------------------------------------------
LABEL_CHARACTERS_MAX: Final = 128
"""A label value; longer ones are cut, so that a stack trace sent as a feature name cannot fill the page."""

VALUE_STREAMS_MAX: Final = 1000
"""Value streams with series of their own in a partition; the rest share `other` in one, and are dropped in the others.
Counted in `label_overflow_total`."""

SERIES_MAX: Final = 1_000_000
"""Series a worker numbers. Counted in `label_overflow_total`."""
