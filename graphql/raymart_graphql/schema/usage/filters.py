"""Which requests and attempts are looked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry
from sqlalchemy import ColumnElement
from sqlalchemy.orm import InstrumentedAttribute

from raymart_core.errors import InvalidRequest
from raymart_core.ids import Prefix
from raymart_graphql.enums import AttemptOutcome, Fault, RequestState
from raymart_graphql.relay import parse_global_id
from raymart_marketplace.metering import models
from raymart_marketplace.metering.arrival import first_id_of

MODEL_CHARACTERS_MAX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestWish:
    """What a `RequestFilter` says, as a key of loaders."""

    states: frozenset[RequestState] = frozenset()
    model: str | None = None
    api_key_id: UUID | None = None
    project_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> Sequence[ColumnElement[bool]]:
        """As SQL."""
        row = models.Request
        found = _between(row.id, self.since, self.until)
        if self.states:
            found.append(row.state.in_(self.states))
        equal = (
            (row.model_served, self.model),
            (row.api_key_id, self.api_key_id),
            (row.project_id, self.project_id),
        )
        return [*found, *(column == value for column, value in equal if value is not None)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptWish:
    """What a `ProviderAttemptFilter` says, as a key of loaders."""

    node_id: UUID | None = None
    outcomes: frozenset[AttemptOutcome] = frozenset()
    faults: frozenset[Fault] = frozenset()
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> Sequence[ColumnElement[bool]]:
        """As SQL."""
        row = models.Attempt
        found = _between(row.id, self.since, self.until)
        if self.node_id is not None:
            found.append(row.node_id == self.node_id)
        if self.outcomes:
            found.append(row.outcome.in_(self.outcomes))
        if self.faults:
            found.append(row.fault.in_(self.faults))
        return found


@strawberry.input(description="Which requests. What is left out is no wish.")
class RequestFilter:
    """Every condition holds at once."""

    states: list[RequestState] = strawberry.field(default_factory=list, description="How they ended.")
    model: str | None = strawberry.field(default=None, description="Slug of the model that served.")
    api_key_id: strawberry.ID | None = strawberry.field(default=None, description="The key that asked.")
    project_id: strawberry.ID | None = strawberry.field(default=None, description="The project that paid.")
    since: datetime | None = strawberry.field(default=None, description="Arrived at this moment or later.")
    until: datetime | None = strawberry.field(default=None, description="Arrived before this moment.")

    def wish(self) -> RequestWish:
        """Checked. Raises: InvalidRequest naming the field."""
        if len(self.model or "") > MODEL_CHARACTERS_MAX:
            raise InvalidRequest(f"at most {MODEL_CHARACTERS_MAX} characters", param="filter.model")
        return RequestWish(
            states=frozenset(self.states),
            model=self.model,
            api_key_id=_id(Prefix.API_KEY, self.api_key_id, "filter.api_key_id"),
            project_id=_id(Prefix.PROJECT, self.project_id, "filter.project_id"),
            since=self.since,
            until=self.until,
        )


@strawberry.input(description="Which attempts on a provider's machines. What is left out is no wish.")
class ProviderAttemptFilter:
    """Every condition holds at once."""

    node_id: strawberry.ID | None = strawberry.field(default=None, description="On this machine.")
    outcomes: list[AttemptOutcome] = strawberry.field(default_factory=list, description="How they ended.")
    faults: list[Fault] = strawberry.field(default_factory=list, description="Whose failure ended them.")
    since: datetime | None = strawberry.field(default=None, description="Began at this moment or later.")
    until: datetime | None = strawberry.field(default=None, description="Began before this moment.")

    def wish(self) -> AttemptWish:
        """Checked. Raises: InvalidRequest naming the field."""
        return AttemptWish(
            node_id=_id(Prefix.NODE, self.node_id, "filter.node_id"),
            outcomes=frozenset(self.outcomes),
            faults=frozenset(self.faults),
            since=self.since,
            until=self.until,
        )


Requests = Annotated[
    RequestFilter | None, strawberry.argument(name="filter", description="Which; without it, all.")
]
Attempts = Annotated[
    ProviderAttemptFilter | None, strawberry.argument(name="filter", description="Which; without it, all.")
]


def _id(prefix: Prefix, text: strawberry.ID | None, field: str) -> UUID | None:
    return None if text is None else parse_global_id(prefix, text, field=field)


def _between(
    column: InstrumentedAttribute[UUID], since: datetime | None, until: datetime | None
) -> list[ColumnElement[bool]]:
    """A range of time as one of ids: what the index and the partitions are ordered by."""
    found: list[ColumnElement[bool]] = []
    if since is not None:
        found.append(column >= first_id_of(since))
    if until is not None:
        found.append(column < first_id_of(until))
    return found
