"""The chain behind HTTP and WebSocket, as a process."""

import asyncio
import errno
import json
import os

import httpx
import psutil
import pytest
from solders.keypair import Keypair
from solders.rpc.responses import SignatureNotification, parse_websocket_message
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from raymart_billing.solana.devchain import DevChain
from raymart_billing.solana.devchain.__main__ import listen
from raymart_billing.solana.devchain.server import DevChainApp
from raymart_core.errors import Unavailable
from support.dev_chain import USDC
from support.dev_chain_process import DevChainProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with DevChainProcess(tmp_path_factory.mktemp("devchain")) as running:
        yield running


def request(method, *params, number=1):
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


class TestHttp:
    def test_a_batch_is_answered_in_order(self, server):
        asked = [
            request("getHealth", number="a"),
            request("noSuchMethod"),
            request("getGenesisHash", number=None),
        ]
        answered = server.post(asked).json()
        assert [one["id"] for one in answered] == ["a", 1, None]
        assert answered[0]["result"] == "ok"
        assert answered[1]["error"] == {"code": -32601, "message": "Method not found"}
        assert answered[2]["result"] == server.told["genesis_hash"]

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (b"{", -32700),
            (b"", -32700),
            (b"[]", -32600),
            (b"3", -32600),
            (b"[3]", -32600),
            (b'{"jsonrpc":"2.0","id":1,"method":5}', -32600),
            (b'{"id":1,"method":"getSlot"}', -32600),
            (b'{"jsonrpc":"2.0","id":1,"method":"getSlot","params":{}}', -32602),
            (b'{"jsonrpc":"2.0","id":1,"method":"getBalance","params":["x"]}', -32602),
            (
                b'{"jsonrpc":"2.0","id":1,"method":"sendTransaction","params":["AAAA",{"encoding":"base64"}]}',
                -32602,
            ),
        ],
    )
    def test_what_is_no_request_is_refused_in_its_own_way(self, server, content, code):
        response = httpx.post(server.url, content=content, headers={"content-type": "application/json"})
        assert response.status_code == 200
        assert response.json()["error"]["code"] == code

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"content-type": "text/plain"}, 415),
            ({"content-type": "application/json", "host": "evil.example"}, 403),
            ({"content-type": "application/json", "host": "127.0.0.1.evil.example"}, 403),
        ],
    )
    def test_pages_in_a_browser_cannot_use_it(self, server, headers, status):
        before = server.ask("getSlot", {"commitment": "processed"})
        response = httpx.post(
            server.url, content=json.dumps(request("devchain_advance", 100_000)).encode(), headers=headers
        )
        assert response.status_code == status
        assert server.ask("getSlot", {"commitment": "processed"}) < before + 50_000

    def test_other_paths_methods_and_large_bodies_are_refused(self, server):
        assert httpx.get(server.url).status_code == 405
        assert httpx.get(server.url + "/health").status_code == 200
        assert server.post(request("getSlot"), "/elsewhere").status_code == 404
        assert server.post(request("getSlot", "x" * 1_000_001)).status_code == 413

    def test_it_listens_on_loopback_alone(self, server):
        listening = [one for one in psutil.Process(server.pid).net_connections() if one.status == "LISTEN"]
        assert {one.laddr.ip for one in listening} == {"127.0.0.1"}


class TestNodes:
    def test_nodes_see_one_chain_and_fail_each_for_itself(self, server):
        wallet = str(Keypair().pubkey())
        server.ask("devchain_faults", {"unavailable": 1}, path="/nodes/second")
        assert server.post(request("getHealth"), "/nodes/second").status_code == 503
        assert server.post(request("getHealth"), "/nodes/third").status_code == 200
        server.ask("requestAirdrop", wallet, 5_000_000, path="/nodes/third")
        for path in ("", "/nodes/second", "/nodes/third"):
            assert (
                server.ask("getBalance", wallet, {"commitment": "processed"}, path=path)["value"] == 5_000_000
            )

    def test_an_unknown_fault_is_named(self, server):
        error = server.post(request("devchain_faults", {"dorp": 1})).json()["error"]
        assert "no fault is called 'dorp'" in error["message"]
        assert "drop" in error["message"]


class TestWebSocket:
    async def opened(self, socket, method, *params):
        await socket.send(json.dumps(request(method, *params)))
        while True:
            answer = json.loads(await asyncio.wait_for(socket.recv(), 10))
            if "id" in answer:
                return answer

    async def test_a_signature_is_told_once_at_its_commitment(self, server):
        wallet = str(Keypair().pubkey())
        async with connect(server.url.replace("http", "ws")) as socket:
            signature = await asyncio.to_thread(server.ask, "devchain_giveTokens", wallet, USDC)
            opened = await self.opened(socket, "signatureSubscribe", signature, {"commitment": "finalized"})
            said = await asyncio.wait_for(socket.recv(), 10)
            assert isinstance(parse_websocket_message(said)[0], SignatureNotification)
            told = json.loads(said)
            assert told["method"] == "signatureNotification"
            assert told["params"]["subscription"] == opened["result"]
            assert told["params"]["result"]["value"] == {"err": None}
            statuses = await asyncio.to_thread(server.ask, "getSignatureStatuses", [signature])
            assert statuses["value"][0]["confirmationStatus"] == "finalized"
            gone = await self.opened(socket, "signatureUnsubscribe", opened["result"])
            assert gone["error"]["message"] == "Invalid subscription id."

    async def test_accounts_and_slots_are_told_as_they_change(self, server):
        wallet = str(Keypair().pubkey())
        async with connect(server.url.replace("http", "ws")) as socket:
            options = {"commitment": "processed", "encoding": "base64"}
            account = await self.opened(socket, "accountSubscribe", wallet, options)
            await asyncio.to_thread(server.ask, "requestAirdrop", wallet, 7_000_000)
            said = await asyncio.wait_for(socket.recv(), 10)
            assert parse_websocket_message(said)[0].result.value.lamports == 7_000_000
            assert (await self.opened(socket, "accountUnsubscribe", account["result"]))["result"] is True
            await self.opened(socket, "slotSubscribe")
            slots = [
                json.loads(await asyncio.wait_for(socket.recv(), 10))["params"]["result"] for _ in range(2)
            ]
            assert slots[1]["slot"] > slots[0]["slot"] > slots[0]["root"]

    async def test_other_methods_and_nonsense_are_refused(self, server):
        async with connect(server.url.replace("http", "ws")) as socket:
            assert (await self.opened(socket, "getSlot"))["error"]["code"] == -32601
            await socket.send("{")
            assert json.loads(await socket.recv())["error"]["code"] == -32700

    async def test_a_page_of_another_origin_gets_no_connection(self, server):
        with pytest.raises((InvalidStatus, ConnectionClosed)):
            async with connect(server.url.replace("http", "ws"), origin="https://evil.example") as socket:
                await socket.recv()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
class TestFullDisk:
    async def test_what_cannot_be_kept_is_not_acknowledged_and_ends_the_chain(self, tmp_path):
        chain = DevChain.persistent(tmp_path)
        failures: list[OSError] = []
        app = DevChainApp(chain, on_failure=failures.append)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            asked = request("requestAirdrop", str(Keypair().pubkey()), 5_000_000)
            assert (await client.post("/", json=asked)).status_code == 200
            full = os.open("/dev/full", os.O_WRONLY)
            try:
                journal = chain.chain._journal._descriptor
                os.dup2(full, journal)
                response = await client.post("/", json=request("devchain_usdcMint"))
            finally:
                os.close(full)
                chain.close()
        assert response.status_code == 500
        assert [failure.errno for failure in failures] == [errno.ENOSPC]
        again = DevChain.persistent(tmp_path)
        assert again.landed == 1
        again.close()


class TestProcess:
    def test_a_killed_chain_comes_back_with_all_that_it_said_had_landed(self, server):
        wallet = str(Keypair().pubkey())
        told = server.told
        signatures = [server.ask("devchain_giveTokens", wallet, USDC) for _ in range(3)]
        server.kill()
        server.start()
        assert {**server.told, "rpc_url": told["rpc_url"]} == told
        account = server.ask(
            "getTokenAccountsByOwner",
            wallet,
            {"mint": told["usdc_mint"]},
            {"commitment": "processed", "encoding": "base64"},
        )["value"][0]["pubkey"]
        balance = server.ask("getTokenAccountBalance", account, {"commitment": "processed"})
        assert balance["value"]["amount"] == str(3 * USDC)
        statuses = server.ask("getSignatureStatuses", signatures, {"searchTransactionHistory": True})
        assert [status["err"] for status in statuses["value"]] == [None] * 3

    def test_the_treasury_has_a_private_key_file_and_money_that_is_final_at_once(self, server):
        assert os.stat(server.treasury_keypair).st_mode & 0o777 == 0o600
        key = Keypair.from_bytes(bytes(json.loads(server.treasury_keypair.read_text())))
        assert str(key.pubkey()) == server.told["treasury"]
        assert server.ask("getBalance", server.told["treasury"])["value"] == 1_000 * 10**9

    def test_a_taken_port_is_a_sentence(self, server):
        port = int(server.url.rsplit(":", 1)[1])
        with pytest.raises(Unavailable, match=rf"port {port} of 127\.0\.0\.1 cannot be had .*choose another"):
            listen(port)
