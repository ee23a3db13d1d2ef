"""Against a real HTTP server; the doctor's tests ask a whole marketplace."""

import http.server
import threading
from contextlib import contextmanager

import pytest

from raymart_providers.preflight import marketplace_checks


@contextmanager
def served(*, status=200, date="", file_bytes=1_200_000):
    """A marketplace's two paths; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = b"x" * file_bytes if self.path.startswith("/docs") else b"ok"
            self.send_response_only(status if self.path == "/health" else 200)
            self.send_header("Date", date or self.date_time_string())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Nothing to tell."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def results(url):
    return {check.check: check.result for check in marketplace_checks(url)}


class TestMarketplaceChecks:
    def test_a_good_one_has_four_good_checks(self):
        with served() as url:
            assert results(url) == {
                "marketplace": "ok",
                "clock": "ok",
                "round trip": "ok",
                "bandwidth": "ok",
            }

    def test_one_that_is_not_well_or_far_off_in_time_is_a_warning(self):
        with served(status=503, date="Mon, 01 Jan 2024 00:00:00 GMT") as url:
            found = results(url)
        assert (found["marketplace"], found["clock"]) == ("warn", "warn")

    def test_without_the_file_the_bandwidth_is_not_guessed(self):
        with served(file_bytes=10) as url:
            assert results(url)["bandwidth"] == "warn"

    @pytest.mark.parametrize("server", ["http://127.0.0.1:1", "ftp://x"])
    def test_one_that_cannot_be_reached_fails_and_ends_the_checks(self, server):
        [check] = marketplace_checks(server)
        assert (check.check, check.result) == ("marketplace", "fail")
        assert check.fix
