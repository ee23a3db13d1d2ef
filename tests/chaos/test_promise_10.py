"""A small run of the promise; `make chaos` runs it whole, and with its times. See also tests/marketplace/gateway/test_leaving.py."""

import pytest
from chaos import promise_10_leaving


@pytest.mark.slow
def test_who_leaves_stops_the_engine_and_pays_for_what_was_delivered():
    figures = promise_10_leaving.measure(clients=30, idle_s_max=20, settled_s_max=60)
    assert [figure for figure in figures if not figure.holds] == []
