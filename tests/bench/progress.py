"""Lines that say what a long bench is doing, on standard error, so that nobody thinks it hangs."""

import sys
import time


def say(what: str) -> None:
    """Print `what` with the time of day in UTC."""
    print(f"  {time.strftime('%H:%M:%S', time.gmtime())}  {what}", file=sys.stderr, flush=True)
