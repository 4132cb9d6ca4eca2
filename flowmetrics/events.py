"""What producers may say: the event types of the public contract, as typed values.

An event is a CloudEvents 1.0 envelope whose `type` selects the class, so that one pass of the decoder reads both.
An absent optional field means "unchanged" and is `None` here; unknown fields are ignored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

Name: TypeAlias = Annotated[str, Meta(min_length=1)]


class ItemFields(msgspec.Struct, frozen=True, gc=False):
    """What is told about a work item."""

    item: Name
    value_stream: Name
    state: Name
    item_type: str | None = None
    team: str | None = None
    parent: str | None = None
    title: str | None = None
    blocked: bool | None = None
    deleted: bool | None = None


class RequestFields(msgspec.Struct, frozen=True, gc=False):
    """What is told about a customer's request."""

    request: Name
    value_stream: Name
    state: Name
    channel: str | None = None
    customer: str | None = None
    priority: str | int | None = None
    party: Literal["agent", "requester", "third_party"] | None = None
    handle_seconds: float | None = None
    duplicate_of: str | None = None


class ActivityFields(msgspec.Struct, frozen=True, gc=False):
    """A customer did something."""

    customer: Name
    value_stream: Name
    feature: str | None = None
    segment: str | None = None
    actor: Literal["human", "bot", "internal", "test"] = "human"


class CustomerFields(msgspec.Struct, frozen=True):
    """What is told about a customer or employee: a milestone, attributes, other ids."""

    customer: Name
    value_stream: str | None = None
    milestone: str | None = None
    segment: str | None = None
    plan: str | None = None
    account: str | None = None
    kind: Literal["customer", "employee"] | None = None
    aliases: list[Name] | None = None
    consent: dict[str, bool] | None = None


class ResponseFields(msgspec.Struct, frozen=True, gc=False):
    """An answer to a survey."""

    respondent: Name
    value_stream: Name
    survey: Name
    score: int
    response: str | None = None
    touchpoint: str | None = None
    segment: str | None = None
    channel: str | None = None
    asked_at: datetime | None = None
    sentiment: Annotated[float, Meta(ge=-1, le=1)] | None = None
    partial: bool | None = None


class TouchpointFields(msgspec.Struct, frozen=True, gc=False):
    """A customer passed a touchpoint of a journey."""

    customer: Name
    value_stream: Name
    journey: Name
    touchpoint: Name
    signal: Literal["interaction", "perception", "outcome"] | None = None
    name: str | None = None
    value: float | str | None = None


class DeliveryFields(msgspec.Struct, frozen=True, gc=False):
    """A change, deployment or incident; the other fields are those of the matching CDEvents subject."""

    id: Name
    value_stream: Name
    environment: str | None = None
    service: str | None = None
    change: str | None = None
    deployment: str | None = None
    outcome: str | None = None


class BusinessFields(msgspec.Struct, frozen=True, gc=False):
    """An amount of a business measure: leads, meetings, sales."""

    value_stream: Name
    measure: Name
    amount: float
    unit: str | None = None


class EraseFields(msgspec.Struct, frozen=True, gc=False):
    """Hides and deletes all facts of a person up to the time of the event."""

    person: Name


class Envelope(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """The CloudEvents attributes that are read. `id` and `source` identify the event; `time` is when it happened."""

    specversion: Literal["1.0"]
    id: Name
    source: Name
    time: datetime
    sequence: int | str | None = None


class ItemEvent(Envelope, frozen=True, kw_only=True, tag="flowmetrics.item.v1", gc=False):
    data: ItemFields


class RequestEvent(Envelope, frozen=True, kw_only=True, tag="flowmetrics.request.v1", gc=False):
    data: RequestFields


class ActivityEvent(Envelope, frozen=True, kw_only=True, tag="flowmetrics.activity.v1", gc=False):
    data: ActivityFields


class CustomerEvent(Envelope, frozen=True, kw_only=True, tag="flowmetrics.customer.v1"):
    data: CustomerFields


class ResponseEvent(Envelope, frozen=True, kw_only=True, tag="flowmetrics.response.v1", gc=False):
    data: ResponseFields


class TouchpointEvent(Envelope, frozen=True, kw_only=True, tag="flowmetrics.touchpoint.v1", gc=False):
    data: TouchpointFields


class ChangeEvent(Envelope, frozen=True, kw_only=True, tag="flowmetrics.change.v1", gc=False):
    data: DeliveryFields


class DeploymentEvent(Envelope, frozen=True, kw_only=True, tag="flowmetrics.deployment.v1", gc=False):
    data: DeliveryFields


class IncidentEvent(Envelope, frozen=True, kw_only=True, tag="flowmetrics.incident.v1", gc=False):
    data: DeliveryFields


class BusinessEvent(Envelope, frozen=True, kw_only=True, tag="flowmetrics.business.v1", gc=False):
    data: BusinessFields


class EraseEvent(Envelope, frozen=True, kw_only=True, tag="flowmetrics.erase.v1", gc=False):
    data: EraseFields


Event: TypeAlias = (
    ItemEvent
    | RequestEvent
    | ActivityEvent
    | CustomerEvent
    | ResponseEvent
    | TouchpointEvent
    | ChangeEvent
    | DeploymentEvent
    | IncidentEvent
    | BusinessEvent
    | EraseEvent
)

EVENT_CLASSES: Final[tuple[type[Envelope], ...]] = (
    ItemEvent,
    RequestEvent,
    ActivityEvent,
    CustomerEvent,
    ResponseEvent,
    TouchpointEvent,
    ChangeEvent,
    DeploymentEvent,
    IncidentEvent,
    BusinessEvent,
    EraseEvent,
)

EVENT_TYPES: Final[dict[str, type[Envelope]]] = {str(c.__struct_config__.tag): c for c in EVENT_CLASSES}
"""The class of each value of `type`."""


def sequence_number(sequence: int | str | None) -> int:
    """The CloudEvents `sequence` extension as an integer; absent is -1. Raises ValueError for other text.

    >>> sequence_number("10"), sequence_number(None)
    (10, -1)
    """
    return -1 if sequence is None else int(sequence)
