"""The cyclic garbage collector of a gateway process."""

import contextlib
import gc
from collections.abc import Iterator

THRESHOLDS = 10_000, 20, 20
"""New containers until a look at the youngest; the interpreter's own 700 is about what one request allocates."""


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Collect rarely, and never look at what is there already: modules, schema, services.

    Requests free what they use by reference counts. With the interpreter's settings each look promotes the requests
    that run at the time to the oldest generation, whose collection stops the process for 50 to 150 ms, again and
    again. Enter once all is imported and built. It is the whole process's setting: restored in the end.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
