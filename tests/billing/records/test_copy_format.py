"""Columns in the binary COPY format: PostgreSQL reads back what was meant."""

import struct
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import psycopg
import pytest

from raymart_billing.records.copy_format import (
    ROWS_AT_ONCE,
    CopiedTable,
    bigint_fields,
    boolean_fields,
    integer_fields,
    text_fields,
    time_fields,
    uuid_fields,
)

COPIED = CopiedTable(
    "copied",
    id=uuid_fields,
    words=text_fields,
    small=integer_fields,
    large=bigint_fields,
    is_so=boolean_fields,
    at=time_fields,
)
NULLS = (None,) * 6
ROWS = [
    (UUID(int=0), "", 0, 0, False, datetime(2000, 1, 1, tzinfo=UTC)),
    (UUID(int=2**128 - 1), "h\u00e9 \U0001f600", 2**31 - 1, 2**63 - 1, True, datetime(2026, 11, 20, 1, 2, 3, 456_789, tzinfo=UTC)),
    NULLS,
    (UUID(int=7), "again", -(2**31), -(2**63), True, datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    (UUID(int=7), "again", 1, 1, True, datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=2)))),
]  # fmt: skip
TIMES = 2 * ROWS_AT_ONCE // len(ROWS) + 1


class TestCopiedTable:
    @pytest.mark.parametrize("aside", [False, True])
    def test_values_nulls_and_extremes_arrive_as_they_were(self, database_url, aside):
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "create temp table copied (number serial, id uuid, words text, small integer, large bigint, is_so boolean,"
                " at timestamptz)"
            )
            if aside:
                connection.execute(COPIED.prepare)
            with connection.cursor().copy(COPIED.statement_aside if aside else COPIED.statement) as copy:
                for part in COPIED.encoded(ROWS * TIMES):
                    copy.write(part)
            for statement in COPIED.finish if aside else ():
                connection.execute(statement)
            found = connection.execute(
                "select id, words, small, large, is_so, at from copied order by number"
            ).fetchall()
        assert found == ROWS * TIMES

    @pytest.mark.parametrize(("encode", "value"), [(integer_fields, 2**31), (bigint_fields, 2**63)])
    def test_a_number_that_does_not_fit_is_refused(self, encode, value):
        with pytest.raises(struct.error):
            encode([value])
