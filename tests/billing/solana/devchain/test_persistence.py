"""The chain comes back from its file as it was, also from one whose writer died."""

import base64
import json
import os

import pytest

from raymart_billing.solana.devchain import DevChain
from raymart_billing.solana.devchain.journal import JOURNAL_FILE, JournalUnusable
from support.dev_chain import SOL, USDC, Market, ask


class Time:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def opened(tmp_path, time):
    """Opens the chain of one directory; the last one is closed first, as by the end of its process."""
    running = []

    def open_again() -> DevChain:
        while running:
            running.pop().close()
        running.append(DevChain.persistent(tmp_path, now=time))
        return running[0]

    yield open_again
    while running:
        running.pop().close()


async def everything(market, chain, addresses):
    """What a client can see of the chain."""
    signatures = await ask(chain, "getSignaturesForAddress", str(market.treasury_tokens))
    return {
        "genesis": await ask(chain, "getGenesisHash"),
        "accounts": await ask(
            chain, "getMultipleAccounts", [str(address) for address in addresses], {"encoding": "base64"}
        ),
        "signatures": signatures,
        "transactions": [
            await ask(chain, "getTransaction", one["signature"], {"maxSupportedTransactionVersion": 1})
            for one in signatures
        ],
        "blockhash": await ask(chain, "getLatestBlockhash"),
    }


class TestRestart:
    async def test_accounts_history_and_blockhashes_are_the_same_afterwards(self, opened):
        chain = opened()
        market = Market.funded(chain)
        payees = market.wallets(3)
        for payee in payees:
            await market.pay(market.treasury, payee.pubkey(), micro_usdc=USDC)
        failed = await market.pay(payees[0], market.treasury.pubkey(), micro_usdc=5 * USDC)
        chain.finalize()
        addresses = [market.treasury.pubkey(), market.treasury_tokens, *map(market.wallet_tokens, payees)]
        before = await everything(market, chain, addresses)
        assert before["signatures"][0]["signature"] == failed
        assert before["signatures"][0]["err"] is not None
        assert await everything(market, opened(), addresses) == before

    async def test_a_fork_stays_a_fork(self, opened):
        chain = opened()
        market = Market.funded(chain)
        payee = market.wallet()
        chain.advance(5)
        raw = market.v0(market.treasury, market.transfer(market.treasury, payee.pubkey(), micro_usdc=1))
        signature = await market.send(raw)
        chain.rollback(4)
        market.chain = chain = opened()
        assert (await ask(chain, "getSignatureStatuses", [signature]))["value"] == [None]
        await market.send(raw)
        assert market.balance(payee.pubkey()) == 0, "its blockhash was forked away"

    async def test_slots_go_on_while_nobody_runs_it(self, opened, time):
        slot = opened().slot
        time.now += 400
        assert opened().slot == slot + 1_000

    async def test_slots_do_not_go_back_with_the_clock(self, opened, time):
        chain = opened()
        time.now += 400
        Market.funded(chain)
        slot = chain.slot
        time.now -= 500
        assert chain.slot == slot
        assert opened().slot >= slot - 32

    async def test_nothing_lands_twice_over_a_restart(self, opened):
        chain = opened()
        market = Market.funded(chain)
        payee = market.wallet()
        raw = market.v0(market.treasury, market.transfer(market.treasury, payee.pubkey(), micro_usdc=1))
        await market.send(raw)
        market.chain = opened()
        await market.send(raw)
        assert market.balance(payee.pubkey()) == 1


class TestFile:
    @pytest.mark.parametrize("kept_bytes", [1, 20, -1])
    async def test_a_torn_last_line_is_as_if_it_had_not_happened(self, tmp_path, opened, kept_bytes):
        chain = opened()
        wallet = chain.faucet.address
        market = Market.funded(chain)
        payee = market.wallet()
        await market.pay(market.treasury, payee.pubkey(), micro_usdc=1)
        await market.pay(market.treasury, payee.pubkey(), micro_usdc=2)
        path = tmp_path / JOURNAL_FILE
        whole = path.read_bytes()
        last = whole.rindex(b"\n", 0, -1) + 1
        path.write_bytes(whole[:last] + whole[last:][:kept_bytes])
        market.chain = opened()
        assert market.balance(payee.pubkey()) == 1
        assert path.read_bytes() == whole[:last]
        await market.pay(market.treasury, payee.pubkey(), micro_usdc=4)
        market.chain = opened()
        assert market.balance(payee.pubkey()) == 5
        assert market.lamports(wallet) > 0

    def test_a_damaged_line_is_named(self, tmp_path, opened):
        opened().faucet.create_mint()
        path = tmp_path / JOURNAL_FILE
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(lines[0] + b'{"type":"landed"}\n')
        with pytest.raises(JournalUnusable, match=r"line 2 of .*chain\.jsonl is damaged"):
            opened()

    def test_only_its_owner_may_read_it(self, tmp_path, opened):
        opened()
        assert os.stat(tmp_path / JOURNAL_FILE).st_mode & 0o777 == 0o600

    def test_two_processes_cannot_have_one_chain(self, tmp_path, opened):
        opened()
        with pytest.raises(JournalUnusable, match="in use by another development chain"):
            DevChain.persistent(tmp_path)

    def test_each_directory_has_a_chain_of_its_own(self, tmp_path):
        chains = [DevChain.persistent(tmp_path / name) for name in "ab"]
        assert chains[0].genesis_hash != chains[1].genesis_hash
        assert chains[0].faucet.address != chains[1].faucet.address
        for chain in chains:
            chain.close()

    async def test_what_landed_is_in_the_file_before_anybody_is_told(self, tmp_path, opened):
        chain = opened()
        market = Market.funded(chain)
        raw = market.v0(
            market.treasury, market.transfer(market.treasury, market.treasury.pubkey(), micro_usdc=1)
        )
        await market.send(raw)
        last = json.loads((tmp_path / JOURNAL_FILE).read_bytes().splitlines()[-1])
        assert base64.b64decode(last["raw"]) == raw
        assert market.lamports(market.treasury.pubkey()) < 100 * SOL
