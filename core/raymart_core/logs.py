"""Structured logs: one JSON object a line on standard error, `event` = "noun.verb", fields instead of sentences.

Never log prompts, completions, keys, tokens or addresses.
"""

import logging
import sys
from typing import TextIO

import structlog


def configure_logs(*, process: str, level: str = "INFO", stream: TextIO = sys.stderr) -> None:
    """Send structlog's events to `stream` as JSON with `process`, UTC time and level. Call once, in main."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
