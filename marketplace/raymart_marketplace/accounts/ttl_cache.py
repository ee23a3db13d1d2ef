"""A bounded map whose entries expire."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class TtlCache(Generic[Value]):
    """At most `size_max` entries; a full cache drops the one that was put first. For one event loop, not for threads."""

    def __init__(self, *, size_max: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic` gives seconds that never go back."""
        assert size_max > 0
        self._size_max = size_max
        self._monotonic = monotonic
        self._entries: OrderedDict[bytes, tuple[float, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Value | None:
        """The value of `key`, unless it has expired or was never put."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires_at, value = entry
        if self._monotonic() < expires_at:
            return value
        del self._entries[key]
        return None

    def put(self, key: bytes, value: Value, *, ttl_s: float) -> None:
        """Keep `value` for `ttl_s` seconds; for none when that is not positive."""
        self._entries.pop(key, None)
        if ttl_s <= 0:
            return
        if len(self._entries) >= self._size_max:
            self._entries.popitem(last=False)
        self._entries[key] = (self._monotonic() + ttl_s, value)

    def drop(self, key: bytes) -> None:
        """Forget `key`, if it is there."""
        self._entries.pop(key, None)

    def drop_where(self, matches: Callable[[Value], bool]) -> None:
        """Forget each value that `matches`; looks at all of them."""
        for key in [key for key, (_, value) in self._entries.items() if matches(value)]:
            del self._entries[key]
