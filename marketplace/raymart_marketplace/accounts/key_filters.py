"""Which keys a list shows, as conditions in SQL. Times are the database's."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ColumnElement, func, not_, or_

from raymart_marketplace.accounts.models import ApiKey
from raymart_marketplace.accounts.scopes import KeyScope


class KeyState(StrEnum):
    """Whether a key works."""

    ACTIVE = "active"
    EXPIRED = "expired"
    """Its end has come; moving it brings the key back."""
    REVOKED = "revoked"
    """Ended by somebody, for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFilter:
    """Conditions that all hold; None asks for nothing."""

    state: KeyState | None = None
    project_id: UUID | None = None
    scope: KeyScope | None = None

    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """As `where` takes them."""
        found: list[ColumnElement[bool]] = []
        if self.state is not None:
            found += _in_state(self.state)
        if self.project_id is not None:
            found.append(ApiKey.project_id == self.project_id)
        if self.scope is not None:
            found.append(ApiKey.scopes.contains([self.scope.value]))
        return tuple(found)


def _in_state(state: KeyState) -> list[ColumnElement[bool]]:
    has_ended = ApiKey.expires_at.is_not(None) & (ApiKey.expires_at <= func.clock_timestamp())
    match state:
        case KeyState.REVOKED:
            return [ApiKey.revoked_at.is_not(None)]
        case KeyState.EXPIRED:
            return [ApiKey.revoked_at.is_(None), has_ended]
        case KeyState.ACTIVE:
            return [ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), not_(has_ended))]
