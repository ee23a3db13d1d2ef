import asyncio
from http import HTTPStatus

import httpx
import pytest

from raymart_providers.errors import UnsafeFile
from raymart_providers.loopback import Answer, LoopbackServer, Request, read_agent_file


@pytest.fixture
async def served(tmp_path):
    """A server that echoes, its agent file, and what it was asked."""
    asked = []

    def handler(request):
        asked.append(request)
        return Answer(HTTPStatus.OK, request.body or b"{}")

    server = LoopbackServer(handler)
    await server.start(tmp_path / "agent.json")
    yield read_agent_file(tmp_path / "agent.json"), asked
    await server.stop()


async def raw(agent, data):
    """What the server answers to these bytes until it closes."""
    port = int(agent.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer


class TestLoopbackServer:
    async def test_the_token_opens_it_and_connections_are_kept(self, served):
        agent, asked = served
        async with httpx.AsyncClient(
            headers={"Authorization": f"Bearer {agent.token}"}, trust_env=False
        ) as client:
            for number in range(3):
                answer = await client.post(f"{agent.url}/v1/x", content=b"%d" % number)
                assert (answer.status_code, answer.content) == (200, b"%d" % number)
        assert asked == [Request("POST", "/v1/x", b"%d" % number) for number in range(3)]

    @pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic x", "Bearer \xff"])
    async def test_nothing_is_handled_without_the_token(self, served, header):
        agent, asked = served
        answer = await raw(
            agent, b"GET / HTTP/1.1\r\nAuthorization: " + header.encode("latin-1") + b"\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert asked == []

    @pytest.mark.parametrize(
        "request_bytes",
        [
            b"nonsense\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"x" * 100_000,
            b"\xff\xff \xff \xff\r\n\r\n",
        ],
    )
    async def test_what_is_no_acceptable_request_closes_the_connection(self, served, request_bytes):
        agent, asked = served
        assert await raw(agent, request_bytes) == b""
        assert asked == []

    async def test_the_agent_file_is_private_and_each_start_has_its_own_token(self, tmp_path):
        tokens = set()
        for _ in range(2):
            server = LoopbackServer(lambda _: Answer(HTTPStatus.OK))
            await server.start(tmp_path / "agent.json")
            tokens.add(read_agent_file(tmp_path / "agent.json").token)
            await server.stop()
        assert len(tokens) == 2
        assert (tmp_path / "agent.json").stat().st_mode & 0o777 == 0o600

    def test_an_agent_file_that_others_may_read_is_not_used(self, tmp_path):
        path = tmp_path / "agent.json"
        path.write_text('{"url": "http://127.0.0.1:1", "token": "t"}')
        path.chmod(0o644)
        with pytest.raises(UnsafeFile):
            read_agent_file(path)
