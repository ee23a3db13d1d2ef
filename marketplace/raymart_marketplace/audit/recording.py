"""An entry for every transaction that changes something while an `Act` is known: written by the commit itself.

So a change without its entry cannot be committed, and an entry without its change neither. It needs nothing of the code
that makes the change: `RecordedSession` is the class of every session that `raymart_marketplace.db.session` makes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Insert, event, inspect, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstanceState, ORMExecuteState, Session, SessionTransaction

from raymart_core.ids import Prefix
from raymart_marketplace.audit.act import MENTIONS_MAX, Act, Subject, current_act
from raymart_marketplace.audit.models import AuditOutcome
from raymart_marketplace.audit.redaction import HIDDEN, shown

CHANGES_MAX = 50
"""Rows whose change an entry describes; of the rest it says how many there were."""
DETAIL_LENGTH_MAX = 16_000
NAME_LENGTH_MAX = 100
ADDRESS_LENGTH_MAX, USER_AGENT_LENGTH_MAX = 64, 300

_CHANGES = "raymart.audit.changes"
_APPENDED = "raymart.audit.appended"
_APPEND = text(
    "select audit_append(:if_written, :actor_kind, :actor_id, :actor_name, :acting_organization_id, :organization_id,"
    " :session_id, :request_id, :action, :subject_kind, :subject_id, cast(:mentions as uuid[]), :outcome,"
    " cast(:detail as jsonb), :address, :user_agent)"
)
PREFIX_OF_TABLE: Mapping[str, Prefix] = {
    "user": Prefix.USER,
    "organization": Prefix.ORGANIZATION,
    "project": Prefix.PROJECT,
    "api_key": Prefix.API_KEY,
    "provider": Prefix.PROVIDER,
    "pool": Prefix.POOL,
    "node": Prefix.NODE,
    "join_token": Prefix.JOIN_TOKEN,
    "model": Prefix.MODEL,
    "model_revision": Prefix.REVISION,
    "offer": Prefix.OFFER,
    "placement": Prefix.PLACEMENT,
    "invoice": Prefix.INVOICE,
    "credit_note": Prefix.CREDIT_NOTE,
    "refund": Prefix.REFUND,
    "deposit": Prefix.DEPOSIT,
    "credit_grant": Prefix.CREDIT_GRANT,
    "user_session": Prefix.SESSION,
}
"""How people see the ids of rows that an act may make or change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row that was written."""

    shown: dict[str, object]
    """What the entry says of it."""
    is_new: bool
    subject: Subject | None
    """The row, where people see its id."""
    organization_id: UUID | None
    """Whose row it is, where the row says so."""
    savepoint: SessionTransaction | None
    """The savepoint it was written under."""


READS_ONLY = "reads_only"
"""In `Session.info`: nothing is written with it, so that its commit need not ask whether anything was. What a tenant reads
with has no right to append either."""


class RecordedSession(Session):
    """A session whose commits write the audit log."""


async def append(session: AsyncSession, act: Act, outcome: AuditOutcome) -> int | None:
    """Write an entry for `act` into this transaction, whatever it changes. Returns its number.

    None when nothing was written: of a refusal of an actor who was refused often enough, or whom nobody knows.
    """
    number: int | None = await session.scalar(
        _APPEND, _parameters(act, [], outcome=outcome, if_written=False)
    )
    act.entries += number is not None
    session.sync_session.info[_APPENDED] = True  # The commit needs no second one.
    return number


@event.listens_for(RecordedSession, "after_flush")
def _note_changes(session: Session, _context: object) -> None:
    """Remember what this flush wrote; afterwards nobody could tell what it was before."""
    if current_act() is None:
        return
    noted: list[Change] = session.info.setdefault(_CHANGES, [])
    savepoint = session.get_nested_transaction()
    for verb, rows in (("insert", session.new), ("update", session.dirty), ("delete", session.deleted)):
        for row in rows:
            state = inspect(row)
            if verb == "update" and not session.is_modified(row):
                continue
            change = Change(
                shown=_described(state, verb),
                is_new=verb == "insert",
                subject=_identity(state),
                organization_id=_owner(state),
                savepoint=savepoint,
            )
            noted.append(change)


@event.listens_for(RecordedSession, "do_orm_execute")
def _note_statement(execution: ORMExecuteState) -> None:
    """Remember that a statement wrote to a table, and what an INSERT put there; the rest is for the database to know."""
    mapper = execution.bind_mapper
    if current_act() is None or mapper is None:
        return
    if execution.is_insert:
        verb = "insert"
    elif execution.is_update:
        verb = "update"
    elif execution.is_delete:
        verb = "delete"
    else:
        return
    session = execution.session
    table = str(mapper.local_table)
    values = _inserted(execution) if execution.is_insert else {}
    item_id, owner_id = values.get("id"), values.get("id" if table == "organization" else "organization_id")
    prefix = PREFIX_OF_TABLE.get(table)
    change = Change(
        shown={verb: table, "id": shown(item_id), **_shown_values(values)},
        is_new=execution.is_insert,
        subject=Subject(prefix, item_id) if prefix is not None and isinstance(item_id, UUID) else None,
        organization_id=owner_id if isinstance(owner_id, UUID) else None,
        savepoint=session.get_nested_transaction(),
    )
    session.info.setdefault(_CHANGES, []).append(change)


def _inserted(execution: ORMExecuteState) -> Mapping[str, object]:
    """The values of an INSERT of one row; nothing of one of many, or of one whose rows come from a query."""
    if isinstance(execution.parameters, Mapping):
        return {str(name): value for name, value in execution.parameters.items()}
    if execution.parameters:
        return {}  # One of many rows: SQLAlchemy compiles such a statement in a session only.
    assert isinstance(execution.statement, Insert)
    compiled = execution.statement.compile(dialect=execution.session.get_bind().dialect)
    return {name: value for name, value in compiled.params.items() if value is not None}


def _shown_values(values: Mapping[str, object]) -> dict[str, object]:
    kept = {name: shown(value, name=name) for name, value in values.items() if name != "id"}
    return {"values": kept} if kept else {}


@event.listens_for(RecordedSession, "before_commit")
def _append_entry(session: Session) -> None:
    act = current_act()
    # A savepoint's release comes here as well; the entry belongs to the whole.
    if act is None or session.in_nested_transaction() or READS_ONLY in session.info:
        return
    session.flush()
    changes: list[Change] = session.info.pop(_CHANGES, [])
    if session.info.pop(_APPENDED, False):
        return
    number = session.scalar(_APPEND, _parameters(act, changes, outcome=AuditOutcome.DONE, if_written=True))
    act.entries += number is not None


@event.listens_for(RecordedSession, "after_soft_rollback")
def _forget_changes(session: Session, ended: SessionTransaction) -> None:
    """What was rolled back was not changed, be it all or as far back as a savepoint."""
    noted: list[Change] = session.info.get(_CHANGES, [])
    if ended.nested:
        noted[:] = [change for change in noted if not _is_within(change.savepoint, ended)]
    else:
        noted.clear()
        session.info.pop(_APPENDED, None)


def _is_within(savepoint: SessionTransaction | None, ended: SessionTransaction) -> bool:
    while savepoint is not None and savepoint is not ended:
        savepoint = savepoint.parent
    return savepoint is ended


def _described(state: InstanceState[Any], verb: str) -> dict[str, object]:
    """The row's table, its id and, as far as they may be kept, its values before and after."""
    found: dict[str, object] = {verb: _table(state), "id": _shown_id(state)}
    values: dict[str, object] = {}
    for column in state.mapper.column_attrs:
        before, _, after = _history(state, column.key)
        if verb == "update" and (before or after):
            values[column.key] = [_value(column.key, before), _value(column.key, after)]
        elif verb == "insert" and after and after[0] is not None and column.key not in {"id", "created_at"}:
            values[column.key] = _value(column.key, after)
    if values:
        found["values"] = values
    return found


def _history(state: InstanceState[Any], key: str) -> tuple[list[Any], list[Any], list[Any]]:
    history = state.attrs[key].history
    return list(history.deleted or ()), list(history.unchanged or ()), list(history.added or ())


def _value(name: str, values: list[Any]) -> object:
    return shown(values[0], name=name) if values else None


def _table(state: InstanceState[Any]) -> str:
    return str(state.mapper.local_table.name)  # type: ignore[attr-defined]  # every mapper here has a table of its own


def _shown_id(state: InstanceState[Any]) -> object:
    key = [str(part) for part in state.mapper.primary_key_from_instance(state.obj())]
    return key[0] if len(key) == 1 else key


def _identity(state: InstanceState[Any]) -> Subject | None:
    prefix = PREFIX_OF_TABLE.get(_table(state))
    key = state.mapper.primary_key_from_instance(state.obj())
    return Subject(prefix, key[0]) if prefix is not None and isinstance(key[0], UUID) else None


def _owner(state: InstanceState[Any]) -> UUID | None:
    found = state.dict.get("id" if _table(state) == "organization" else "organization_id")
    return found if isinstance(found, UUID) else None


def _parameters(
    act: Act, changes: Sequence[Change], *, outcome: AuditOutcome, if_written: bool
) -> dict[str, object]:
    subject = _subject(act, changes)
    touched = [change.subject.id for change in changes if change.subject is not None]
    owners = [change.organization_id for change in changes if change.organization_id is not None]
    named = dict.fromkeys([*([subject.id] if subject else []), *act.mentions, *touched])
    return {
        "if_written": if_written,
        "actor_kind": act.actor.kind.value,
        "actor_id": act.actor.id,
        "actor_name": None if act.actor.name is None else act.actor.name[:NAME_LENGTH_MAX],
        "acting_organization_id": act.acting_organization_id,
        "organization_id": act.organization_id or next(iter(owners), None),
        "session_id": act.session_id,
        "request_id": act.request_id,
        "action": act.action[:NAME_LENGTH_MAX],
        "subject_kind": subject.prefix.value if subject else None,
        "subject_id": subject.id if subject else None,
        "mentions": list(named)[:MENTIONS_MAX],
        "outcome": outcome.value,
        "detail": _detail(act, changes),
        "address": _cut(act.origin.address, ADDRESS_LENGTH_MAX),
        "user_agent": _cut(act.origin.user_agent, USER_AGENT_LENGTH_MAX),
    }


def _subject(act: Act, changes: Sequence[Change]) -> Subject | None:
    """The row that a "create<Thing>" made, else what the input names first, else the first thing that was changed."""
    touched = [change for change in changes if change.subject is not None]
    for change in touched:
        made = str(change.shown.get("insert")).replace("_", "")
        if change.is_new and act.action.lower() == f"create{made}":
            return change.subject
    return act.subject or next((change.subject for change in touched), None)


def _detail(act: Act, changes: Sequence[Change]) -> str:
    """JSON of what was asked and changed; without the changes, then without the input, where it would be too long."""
    listed = [change.shown for change in changes[:CHANGES_MAX]]
    left_out = len(changes) - len(listed)
    whole: dict[str, object] = {"input": act.input, "changes": listed}
    if left_out:
        whole["changes_left_out"] = left_out
    for detail in (whole, {"input": act.input, "changes_left_out": len(changes)}):
        encoded = json.dumps(detail)
        # Of the database's own form as well: it spells characters out that are escaped here.
        if len(encoded) <= DETAIL_LENGTH_MAX:
            return encoded
    return json.dumps({"input": HIDDEN, "changes_left_out": len(changes)})


def _cut(value: str | None, length: int) -> str | None:
    """`value` as PostgreSQL can hold it."""
    return None if value is None else value.replace("\0", "")[:length]
