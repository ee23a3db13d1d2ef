"""Who does what at this moment: known to every transaction that is committed meanwhile (`recording.py`)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID

from raymart_core.ids import Prefix
from raymart_marketplace.audit.models import ActorKind

MENTIONS_MAX = 100
"""Things that one entry names; the database refuses more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts. Users, keys, service accounts and nodes have an id, operators and the marketplace itself a name."""

    kind: ActorKind
    id: UUID | None = None
    name: str | None = None
    """At most 100 characters are kept."""


ANONYMOUS = Actor(kind=ActorKind.ANONYMOUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a request came from. Personal data: kept apart from the entry, so that it can be forgotten."""

    address: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What is acted on."""

    prefix: Prefix
    id: UUID


@dataclass(slots=True, kw_only=True)
class Act:
    """Something that somebody does. Each transaction that it changes something in gets an entry."""

    action: str
    """The mutation's name, such as "revokeApiKey", or the command's, such as "raymart budget set"."""
    actor: Actor
    origin: Origin = field(default_factory=Origin)
    session_id: UUID | None = None
    request_id: UUID | None = None
    acting_organization_id: UUID | None = None
    organization_id: UUID | None = None
    subject: Subject | None = None
    mentions: list[UUID] = field(default_factory=list)
    input: Mapping[str, object] = field(default_factory=dict)
    """What was asked, as JSON can hold it, without secrets (`redaction.py`)."""
    entries: int = 0
    """Written so far."""


_CURRENT: ContextVar[Act | None] = ContextVar("raymart_audit_act", default=None)


def current_act() -> Act | None:
    """What is being done; None in work that is not audited, such as inference."""
    return _CURRENT.get()


@contextmanager
def acting(act: Act) -> Iterator[Act]:
    """Whatever the block commits is `act`, in the tasks that it starts too."""
    token = _CURRENT.set(act)
    try:
        yield act
    finally:
        _CURRENT.reset(token)


def signed_in(user_id: UUID, *, session_id: UUID | None = None) -> None:
    """Name the person who acts, once that is known in the act itself: by signing in, or by the token of a mail.

    Call it before the commit; a no-op where nothing is audited.
    """
    act = _CURRENT.get()
    if act is not None:
        act.actor, act.session_id = Actor(kind=ActorKind.USER, id=user_id), session_id
