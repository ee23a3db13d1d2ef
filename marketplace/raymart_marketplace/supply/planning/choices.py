"""What a provider chooses for an offer: on which of its machines, how many, warm or asleep, at what hours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from raymart_core.errors import InvalidRequest
from raymart_marketplace.pricing.windows import MINUTES_OF_DAY, Hours, is_open, next_change, overlap
from raymart_marketplace.supply.models import Warmth

REPLICAS_MAX = 16
"""On one machine."""
NODES_MAX = 10_000
GPUS_MAX = 64
IDLE_S_MIN, IDLE_S_MAX = 5, 86_400
IDLE_S = 300
"""How long a replica without work stays, unless the provider says otherwise."""
HOURS_MAX = 28
NODES_NAMED_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Of one offer. The defaults: everywhere, one replica, always loaded."""

    warmth: Warmth = Warmth.WARM
    replicas_max: int = 1
    """On one machine; load and memory decide how many of them there are."""
    nodes_max: int | None = None
    """On how many machines; None for all that fit."""
    gpus_max: int | None = None
    """Of one machine's GPUs, for this offer; None for all."""
    idle_s: int = IDLE_S
    """How long a replica without work stays."""
    hours: tuple[Hours, ...] = ()
    """When it may run at all; always when empty."""
    node_ids: frozenset[UUID] = frozenset()
    """Only on these machines; on all when empty."""


def check_choices(choices: Choices) -> Choices:
    """`choices`. Raises: InvalidRequest for what is out of range, or hours that overlap."""
    _in_range("replicas_max", choices.replicas_max, 1, REPLICAS_MAX)
    _in_range("idle_seconds", choices.idle_s, IDLE_S_MIN, IDLE_S_MAX)
    if choices.nodes_max is not None:
        _in_range("nodes_max", choices.nodes_max, 1, NODES_MAX)
    if choices.gpus_max is not None:
        _in_range("gpus_max", choices.gpus_max, 0, GPUS_MAX)
    _in_range("node_ids", len(choices.node_ids), 0, NODES_NAMED_MAX)
    _in_range("hours", len(choices.hours), 0, HOURS_MAX)
    for each in choices.hours:
        if not each.days or not each.days <= frozenset(range(1, 8)):
            raise InvalidRequest(f"days {sorted(each.days)} must be some of 1 (Monday) to 7", param="hours")
        _in_range("hours", each.starts_minute, 0, MINUTES_OF_DAY - 1)
        _in_range("hours", each.ends_minute, 1, MINUTES_OF_DAY)
    if (pair := overlap(choices.hours)) is not None:
        first, second = (choices.hours[position] for position in pair)
        raise InvalidRequest(f"{first} and {second} overlap; join them", param="hours")
    return choices


def may_run(choices: Choices, at: datetime) -> bool:
    """Whether the provider's hours allow it at `at` (aware)."""
    return not choices.hours or any(is_open(each, at) for each in choices.hours)


def opens_at(choices: Choices, at: datetime) -> datetime | None:
    """When its hours next begin or end."""
    return next_change(choices.hours, at)


def hours_to_json(hours: Sequence[Hours]) -> list[dict[str, object]]:
    """As the column `offer.hours` keeps them."""
    return [
        {"days": sorted(each.days), "starts_minute": each.starts_minute, "ends_minute": each.ends_minute}
        for each in hours
    ]


def hours_of_json(kept: Sequence[Mapping[str, object]]) -> tuple[Hours, ...]:
    """What `hours_to_json` wrote."""
    return tuple(
        Hours(
            days=frozenset(each["days"]),  # type: ignore[call-overload]  # JSON that only we write
            starts_minute=int(str(each["starts_minute"])),
            ends_minute=int(str(each["ends_minute"])),
        )
        for each in kept
    )


def _in_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidRequest(f"{name}={value} is outside {least} to {most}", param=name)
