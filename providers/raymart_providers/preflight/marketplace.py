"""Looks at the way to the marketplace: whether it answers, its clock, how far it is and how wide the way."""

import http.client
import statistics
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

from raymart_providers.errors import ProviderError
from raymart_providers.link.server_address import link_url
from raymart_providers.preflight import rules
from raymart_providers.preflight.check import Check

_TIMEOUT_S = 5.0
_ROUND_TRIPS = 5
_FILE = "/docs/swagger-ui-bundle.js"
"""A file of over a megabyte that every marketplace serves to anybody."""
_FILE_BYTES_MAX = 8_000_000
_FILE_S_MAX = 3.0


def marketplace_checks(server: str) -> Iterator[Check]:
    """Every check of the marketplace at `server`, as a person typed it; the first failure is the last check."""
    try:
        url = urlsplit(link_url(server, allow_plaintext=True))
    except ProviderError as error:
        yield Check(check="marketplace", result="fail", found=str(error), fix="correct --server")
        return
    connection = _connection(url)
    try:
        yield from _checks(connection, server)
    except (OSError, http.client.HTTPException) as error:
        yield Check(
            check="marketplace",
            result="fail",
            found=f"{server} cannot be reached: {error}",
            fix="check the address, DNS, the firewall's outbound rules and the proxy variables",
        )
    finally:
        connection.close()


def _checks(connection: http.client.HTTPConnection, server: str) -> Iterator[Check]:
    """Raises: OSError, HTTPException."""
    status, date, _ = _get(connection, "/health")
    ok = status == 200
    yield Check(
        check="marketplace",
        result="ok" if ok else "warn",
        found=f"{server} answers {status}",
        fix="" if ok else "the marketplace is not well; try later",
    )
    if date is not None:
        yield rules.clock_check(time.time() - parsedate_to_datetime(date).timestamp())
    # The connection is open by now: what is measured is the way, not the handshakes.
    yield rules.round_trip_check(
        1000 * statistics.median(_seconds(connection, "/health") for _ in range(_ROUND_TRIPS))
    )
    yield _bandwidth(connection)


def _bandwidth(connection: http.client.HTTPConnection) -> Check:
    began_at = time.monotonic()
    status, _, size = _get(connection, _FILE)
    took_s = max(time.monotonic() - began_at, 1e-6)
    if status != 200 or size < 100_000:
        return rules.bandwidth_check(None, size_bytes=size)
    return rules.bandwidth_check(size * 8 / took_s / 1e6, size_bytes=size)


def _seconds(connection: http.client.HTTPConnection, path: str) -> float:
    began_at = time.monotonic()
    _get(connection, path)
    return time.monotonic() - began_at


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, str | None, int]:
    """Status, date and size of `GET path`, of which at most some megabytes and seconds are read."""
    connection.request("GET", path)
    response = connection.getresponse()
    size, deadline = 0, time.monotonic() + _FILE_S_MAX
    while chunk := response.read(65_536):
        size += len(chunk)
        if size > _FILE_BYTES_MAX or time.monotonic() > deadline:
            connection.close()  # The next request opens another.
            break
    return response.status, response.getheader("Date"), size


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if url.scheme == "wss" else http.client.HTTPConnection
    return kind(url.hostname or "", url.port, timeout=_TIMEOUT_S)
