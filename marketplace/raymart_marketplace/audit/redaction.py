"""What of an input or a row may go into the audit log, by an allow-list: the log is kept for good, so a secret or a name in it
could never be taken back.

Ids, enums, numbers, booleans and times are kept as they are. Of text only what the fields of `SHOWN_TEXT` hold is kept,
cut to 200 characters; of all else there is only a mark that it was there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import cast
from uuid import UUID

from raymart_core.ids import Prefix, parse
from raymart_core.money import Money

HIDDEN = "[hidden]"
TEXT_LENGTH_MAX = 200
ITEMS_MAX = 50
DEPTH_MAX = 6
SHOWN_TEXT = frozenset(
    {
        # What a change is told apart by and why it was made.
        "asset", "country", "currency", "event_id", "feature", "model", "quantization", "reason", "region", "revision",
        "scopes", "slug", "task", "unit",
    }
)  # fmt: skip
"""Names of input fields, options and columns whose text is kept."""
_PREFIXES = frozenset(prefix.value for prefix in Prefix)


def shown(value: object, *, name: str = "", depth: int = 0) -> object:
    """`value` of the field `name`, as JSON can hold it, without what must not be kept."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return _text(value, name)
    members = members_of(value)
    is_list = isinstance(value, (list, tuple, set, frozenset))
    if members is None and not is_list:
        return _plain(value)
    if depth >= DEPTH_MAX:
        return HIDDEN
    if members is None:
        items = cast("Iterable[object]", value)
        return [shown(item, name=name, depth=depth + 1) for item in islice(items, ITEMS_MAX)]
    return {key: shown(item, name=key, depth=depth + 1) for key, item in islice(members.items(), ITEMS_MAX)}


def _plain(value: object) -> object:
    """A value that is neither text nor made of others; hidden where it is of none of the kinds that tell nothing."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return str(value) if isinstance(value, (Decimal, UUID, Money)) else HIDDEN


def members_of(value: object) -> Mapping[str, object] | None:
    """Names and values of an input object or a mapping; None of anything else."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, Money):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        found = {each.name: getattr(value, each.name) for each in fields(value)}
        return {key: item for key, item in found.items() if _is_given(item)}
    return None


def ids_in(value: object, *, depth: int = 0) -> Iterator[tuple[Prefix, UUID]]:
    """Every id that `value` holds, in the order of its fields."""
    if isinstance(value, str):
        found = id_of(value)
        if found is not None:
            yield found
        return
    if depth >= DEPTH_MAX:
        return
    if isinstance(value, (list, tuple)):
        for item in value[:ITEMS_MAX]:
            yield from ids_in(item, depth=depth + 1)
        return
    for item in (members_of(value) or {}).values():
        yield from ids_in(item, depth=depth + 1)


def id_of(text: str) -> tuple[Prefix, UUID] | None:
    """What `text` names, when it is an id as people see it."""
    head = text.partition("_")[0]
    if head not in _PREFIXES:
        return None
    try:
        return Prefix(head), parse(Prefix(head), text)
    except ValueError:
        return None


def _text(value: str, name: str) -> str:
    if id_of(value) is not None:
        return value
    return value[:TEXT_LENGTH_MAX] if name in SHOWN_TEXT and value.isprintable() else HIDDEN


def _is_given(value: object) -> bool:
    """Whether a field was sent: Strawberry marks one that was not by a value of its own."""
    return type(value).__name__ != "UnsetType"
