"""Small runs of two promises; `make chaos` runs them whole.

On every change both are kept by `tests/billing/posting/test_sink_faults.py`: a gateway killed, PostgreSQL restarted.
"""

import pytest
from chaos import promise_04_recorded, promise_06_postgres

pytestmark = pytest.mark.slow


def test_what_a_killed_gateway_acknowledged_is_recorded_and_its_streams_lose_two_seconds_at_most():
    figures = promise_04_recorded.measure(kills=1, at_once=1, is_patient=False)
    assert [figure for figure in figures if not figure.holds] == []


def test_a_crash_of_postgres_loses_no_reply_and_clients_go_on():
    figures = promise_06_postgres.measure(cycles=1)
    assert [figure for figure in figures if not figure.holds] == []
