"""The server itself, before there is a connection."""

import socket

import psutil
import pytest

from raymart_serve.replica.http_connection import HttpLimits
from raymart_serve.replica.http_server import HttpServer


class TestStart:
    async def test_a_taken_port_is_told_and_no_socket_stays_open(self) -> None:
        """It would be closed whenever the collector meets it, in the midst of something else."""

        async def handle(*_: object) -> None: ...

        server = HttpServer(handle, secret="s" * 20, limits=HttpLimits())
        with socket.create_server(("127.0.0.1", 0)) as taken:
            before = psutil.Process().num_fds()
            with pytest.raises(OSError, match="in use") as refused:
                await server.start("127.0.0.1", taken.getsockname()[1])
            assert psutil.Process().num_fds() == before, refused
