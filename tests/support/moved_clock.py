"""A Python process whose clocks are wrong: `python -m support.moved_clock MODULE [ARGUMENTS]`.

`MOVED_CLOCK_FILE` names a file that holds the shift in seconds; it is read at each look at the clock, so that a test can
let the time jump in mid-run. Moved are the wall clocks: time.time, time.time_ns, datetime.now and datetime.utcnow, as
a machine's clock is when it is set. The monotonic clock is not: the kernel does not move it either.
"""

import datetime as dt
import os
import runpy
import sys
import time as time_module
from pathlib import Path

_FILE = Path(os.environ["MOVED_CLOCK_FILE"])
_time, _time_ns, _datetime = time_module.time, time_module.time_ns, dt.datetime


def shift_s() -> float:
    return float(_FILE.read_text() or 0)


class _MovedType(type(_datetime)):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)


class _Moved(_datetime, metaclass=_MovedType):
    @classmethod
    def now(cls, tz=None):
        return _datetime.fromtimestamp(_time() + shift_s(), tz)

    @classmethod
    def utcnow(cls):
        return _datetime.fromtimestamp(_time() + shift_s(), dt.UTC).replace(tzinfo=None)


def move() -> None:
    """From now on this process's wall clocks are wrong."""
    time_module.time = lambda: _time() + shift_s()
    time_module.time_ns = lambda: _time_ns() + int(shift_s() * 1e9)
    dt.datetime = _Moved


if __name__ == "__main__":
    move()
    module = sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
