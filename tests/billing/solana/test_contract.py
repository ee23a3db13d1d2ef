"""What we rely on of Solana's JSON-RPC, checked against our development chain and, where installed, against surfpool.

Written against the interface alone: airdrops and transactions make all that is there.
"""

import base64
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

import pytest
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0, from_bytes_versioned
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, create_account
from solders.transaction import VersionedTransaction
from spl.token import instructions as token
from spl.token import models
from spl.token.constants import MINT_LEN, TOKEN_PROGRAM_ID

from raymart_billing.solana.addresses import token_account
from raymart_billing.solana.marker import Marker, marker_of
from raymart_billing.solana.transactions import Limits, Payee, Source, Unsigned, build_payout
from support.chain_backends import Backend, OurChain, Surfpool, why_no_surfpool
from support.dev_chain import RpcRefusal

ENCODED = {"encoding": "base64"}
CONFIRMED = {"commitment": "confirmed", **ENCODED}
FINALIZED = {"commitment": "finalized", **ENCODED}
USDC = 1_000_000
SOL = 1_000_000_000
VERSIONS = pytest.mark.parametrize("version", [0, 1])


@dataclass(kw_only=True)
class Scene:
    """A treasury with tokens on the chain behind `backend`."""

    backend: Backend
    treasury: Keypair = field(default_factory=Keypair)
    mint: Pubkey = field(init=False)

    def prepare(self) -> None:
        mint = Keypair()
        self.mint = mint.pubkey()
        authority = self.treasury.pubkey()
        self.backend.ask("requestAirdrop", str(authority), 100 * SOL)
        self.settle()
        rent = self.backend.ask("getMinimumBalanceForRentExemption", MINT_LEN)
        account = CreateAccountParams(
            from_pubkey=authority, to_pubkey=self.mint, lamports=rent, space=MINT_LEN, owner=TOKEN_PROGRAM_ID
        )
        minted = models.InitializeMint2Params(
            decimals=6,
            program_id=TOKEN_PROGRAM_ID,
            mint=self.mint,
            mint_authority=authority,
            freeze_authority=authority,
        )
        self.send(create_account(account), token.initialize_mint2(minted), signers=[mint])
        self.settle()
        self.send(self.opening(authority), self.minting(authority, 1_000_000 * USDC))
        self.settle()

    def settle(self) -> None:
        """Let pass what makes all that was sent final, and a little more for backends that round."""
        self.backend.pass_slots(36)

    def opening(self, owner: Pubkey) -> Instruction:
        return token.create_idempotent_associated_token_account(
            self.treasury.pubkey(), owner, self.mint, TOKEN_PROGRAM_ID
        )

    def minting(self, owner: Pubkey, amount: int) -> Instruction:
        return token.mint_to_checked(
            models.MintToCheckedParams(
                program_id=TOKEN_PROGRAM_ID,
                mint=self.mint,
                dest=token_account(owner, self.mint),
                mint_authority=self.treasury.pubkey(),
                amount=amount,
                decimals=6,
                signers=[],
            )
        )

    def payees(self, count: int) -> list[Pubkey]:
        """Wallets with token accounts."""
        wallets = [Keypair().pubkey() for _ in range(count)]
        self.send(*map(self.opening, wallets))
        self.settle()
        return wallets

    def blockhash(self) -> dict:
        return self.backend.ask("getLatestBlockhash", {"commitment": "confirmed"})["value"]

    def send(self, *instructions: Instruction, signers: list[Keypair] | None = None) -> str:
        blockhash = Hash.from_string(self.blockhash()["blockhash"])
        message = MessageV0.try_compile(self.treasury.pubkey(), instructions, [], blockhash)
        return self.submit(bytes(VersionedTransaction(message, [self.treasury, *(signers or [])])))

    def submit(self, raw: bytes, *, skips_preflight: bool = False) -> str:
        options = {"skipPreflight": skips_preflight, "preflightCommitment": "processed", **ENCODED}
        return self.backend.ask("sendTransaction", base64.b64encode(raw).decode(), options)

    def payout(
        self,
        payees: list[Pubkey],
        *,
        marker: Marker | None = None,
        amount: int = USDC,
        blockhash: str | None = None,
        version: Literal[0, 1] = 1,
    ) -> bytes:
        unsigned = self.unsigned(payees, marker=marker, amount=amount, blockhash=blockhash, version=version)
        return unsigned.signed(self.treasury.sign_message(unsigned.message))

    def unsigned(
        self,
        payees: list[Pubkey],
        *,
        marker: Marker | None = None,
        amount: int = USDC,
        blockhash: str | None = None,
        version: Literal[0, 1] = 1,
    ) -> Unsigned:
        source = Source(
            treasury=self.treasury.pubkey(),
            token_account=token_account(self.treasury.pubkey(), self.mint),
            mint=self.mint,
        )
        return build_payout(
            source,
            [Payee(token_account=token_account(one, self.mint), amount_micro_usdc=amount) for one in payees],
            marker=marker or self.marker(),
            marker_rent_lamports=self.backend.ask("getMinimumBalanceForRentExemption", 0),
            memo="payout contract",
            blockhash=blockhash or self.blockhash()["blockhash"],
            limits=Limits(compute_units=60_000),
            version=version,
        )

    def marker(self) -> Marker:
        return marker_of(b"k" * 32, self.treasury.pubkey(), uuid4(), 0)

    def status(self, signature: str):
        answer = self.backend.ask("getSignatureStatuses", [signature], {"searchTransactionHistory": True})
        return answer["value"][0]

    def balance(self, owner: Pubkey) -> int:
        account = str(token_account(owner, self.mint))
        return int(self.backend.ask("getTokenAccountBalance", account)["value"]["amount"])

    def simulate(self, raw: bytes) -> dict:
        options = {"sigVerify": False, "replaceRecentBlockhash": True, "commitment": "processed", **ENCODED}
        return self.backend.ask("simulateTransaction", base64.b64encode(raw).decode(), options)["value"]


@pytest.fixture(
    scope="module",
    params=["ours", pytest.param("surfpool", marks=[pytest.mark.slow, pytest.mark.timeout(300)])],
)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    if request.param == "surfpool" and (reason := why_no_surfpool()):
        pytest.skip(reason)
    backend = OurChain() if request.param == "ours" else Surfpool()
    try:
        made = Scene(backend=backend)
        made.prepare()
        yield made
    finally:
        backend.close()


class TestPayout:
    @VERSIONS
    def test_it_is_seen_through_to_finality_and_pays_each_once(self, scene, version):
        payees = scene.payees(3)
        marker = scene.marker()
        signature = scene.submit(scene.payout(payees, marker=marker, version=version))
        scene.settle()
        status = scene.status(signature)
        assert (status["confirmationStatus"], status["err"]) == ("finalized", None)
        assert [scene.balance(payee) for payee in payees] == [USDC] * 3
        account = scene.backend.ask("getAccountInfo", str(marker.address), FINALIZED)["value"]
        assert account["lamports"] == scene.backend.ask("getMinimumBalanceForRentExemption", 0)
        assert account["owner"] == str(Pubkey.default())
        assert base64.b64decode(account["data"][0]) == b""

    @VERSIONS
    def test_a_second_attempt_on_the_marker_fails_at_the_marker_and_pays_nobody(self, scene, version):
        payees = scene.payees(2)
        marker = scene.marker()
        scene.submit(scene.payout(payees, marker=marker, version=version))
        scene.settle()
        again = scene.payout(payees, marker=marker, amount=2 * USDC, version=version)
        # Version 0 sets its limits by two instructions in front.
        already_in_use = {"InstructionError": [0 if version == 1 else 2, {"Custom": 0}]}
        assert scene.simulate(again)["err"] == already_in_use
        with pytest.raises(RpcRefusal) as refused:
            scene.submit(again)
        assert refused.value.code == -32002
        signature = scene.submit(again, skips_preflight=True)
        scene.settle()
        assert scene.status(signature)["err"] == already_in_use
        assert [scene.balance(payee) for payee in payees] == [USDC] * 2

    def test_the_same_bytes_sent_again_pay_nobody(self, scene):
        payees = scene.payees(1)
        raw = scene.payout(payees)
        signature = scene.submit(raw)
        scene.settle()
        with suppress(RpcRefusal):
            # Nodes differ in what they say to it; it is no evidence either way.
            scene.submit(raw, skips_preflight=True)
        scene.settle()
        assert scene.balance(payees[0]) == USDC
        assert scene.status(signature)["err"] is None

    def test_after_its_blockhash_it_never_lands(self, scene):
        payees = scene.payees(1)
        blockhash = scene.blockhash()
        raw = scene.payout(payees, blockhash=blockhash["blockhash"])
        while (
            scene.backend.ask("getBlockHeight", {"commitment": "finalized"})
            <= blockhash["lastValidBlockHeight"]
        ):
            scene.backend.pass_slots(5)
        check = scene.backend.ask("isBlockhashValid", blockhash["blockhash"], {"commitment": "processed"})
        assert check["value"] is False
        with pytest.raises(RpcRefusal, match=r"(?i)blockhash ?not ?found") as refused:
            scene.submit(raw)
        assert refused.value.code == -32002
        signature = scene.submit(raw, skips_preflight=True)
        assert signature == str(VersionedTransaction.from_bytes(raw).signatures[0])
        scene.settle()
        assert scene.status(signature) is None
        assert scene.balance(payees[0]) == 0

    def test_a_blockhash_is_good_for_about_150_blocks(self, scene):
        blockhash = scene.blockhash()
        height = scene.backend.ask("getBlockHeight", {"commitment": "confirmed"})
        assert 140 <= blockhash["lastValidBlockHeight"] - height <= 155


class TestFailures:
    @pytest.mark.parametrize("version", [0, 1])
    def test_each_way_a_transfer_fails_has_its_code_at_its_instruction(self, scene, version):
        good, frozen = scene.payees(2)
        freezing = models.FreezeAccountParams(
            program_id=TOKEN_PROGRAM_ID,
            account=token_account(frozen, scene.mint),
            mint=scene.mint,
            authority=scene.treasury.pubkey(),
            multi_signers=[],
        )
        scene.send(token.freeze_account(freezing))
        scene.settle()
        first = len(from_bytes_versioned(scene.unsigned([good], version=version).message).instructions) - 1
        nobody = Keypair().pubkey()
        found = {
            "missing": scene.simulate(scene.payout([good, nobody], version=version))["err"],
            "frozen": scene.simulate(scene.payout([good, frozen], version=version))["err"],
            "too much": scene.simulate(scene.payout([good], amount=10**13, version=version))["err"],
        }
        assert found == {
            "missing": {"InstructionError": [first + 1, "InvalidAccountData"]},
            "frozen": {"InstructionError": [first + 1, {"Custom": 17}]},
            "too much": {"InstructionError": [first, {"Custom": 1}]},
        }

    def test_a_simulation_tells_units_and_logs_and_changes_nothing(self, scene):
        payees = scene.payees(2)
        said = scene.simulate(scene.payout(payees))
        assert said["err"] is None
        assert 300 <= said["unitsConsumed"] <= 20_000
        assert any("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA" in line for line in said["logs"])
        assert [scene.balance(payee) for payee in payees] == [0, 0]


class TestHistory:
    @VERSIONS
    def test_a_transaction_tells_versions_balances_memo_and_fee(self, scene, version):
        payees = scene.payees(2)
        marker = scene.marker()
        raw = scene.payout(payees, marker=marker, version=version)
        signature = scene.submit(raw)
        scene.settle()
        options = {"maxSupportedTransactionVersion": 1, "commitment": "finalized"}
        found = scene.backend.ask("getTransaction", signature, {"encoding": "json", **options})
        assert found["version"] == version
        assert found["meta"]["err"] is None
        assert found["meta"]["fee"] == 5_000
        keys = found["transaction"]["message"]["accountKeys"]
        assert keys[0] == str(scene.treasury.pubkey())
        changes = token_changes(found)
        assert changes[str(token_account(scene.treasury.pubkey(), scene.mint))] == -2 * USDC
        assert [changes[str(token_account(payee, scene.mint))] for payee in payees] == [USDC] * 2
        assert all(one["mint"] == str(scene.mint) for one in found["meta"]["postTokenBalances"])
        encoded = scene.backend.ask("getTransaction", signature, {**ENCODED, **options})
        assert base64.b64decode(encoded["transaction"][0]) == raw

    def test_version_1_is_kept_from_readers_that_say_they_know_0(self, scene):
        signature = scene.submit(scene.payout(scene.payees(1)))
        scene.settle()
        with pytest.raises(RpcRefusal):
            scene.backend.ask("getTransaction", signature, {"maxSupportedTransactionVersion": 0})

    def test_an_addresss_signatures_come_newest_first_in_pages(self, scene):
        payee = scene.payees(1)[0]
        sent = []
        for _ in range(5):
            sent.append(scene.submit(scene.payout([payee])))
            scene.settle()
        address = str(token_account(payee, scene.mint))

        def page(**options):
            listed = scene.backend.ask(
                "getSignaturesForAddress", address, {"commitment": "finalized", **options}
            )
            return [one["signature"] for one in listed]

        newest = sent[::-1]
        everything = page()
        assert everything[:5] == newest
        assert page(limit=2) == newest[:2]
        assert page(limit=2, before=newest[1]) == newest[2:4]
        assert page(until=newest[3]) == newest[:3]
        assert page(until=newest[0]) == []
        listed = scene.backend.ask("getSignaturesForAddress", address, {"limit": 1})[0]
        assert (listed["err"], listed["confirmationStatus"]) == (None, "finalized")
        assert listed["memo"] == "[15] payout contract"

    def test_a_marker_names_the_one_transaction_that_made_it(self, scene):
        marker = scene.marker()
        signature = scene.submit(scene.payout(scene.payees(1), marker=marker))
        scene.settle()
        listed = scene.backend.ask(
            "getSignaturesForAddress", str(marker.address), {"commitment": "finalized"}
        )
        assert [one["signature"] for one in listed] == [signature]

    def test_what_nobody_sent_is_unknown(self, scene):
        unknown = str(Keypair().sign_message(b"never sent"))
        assert scene.status(unknown) is None
        assert scene.backend.ask("getTransaction", unknown, {"maxSupportedTransactionVersion": 1}) is None
        assert scene.backend.ask("getSignaturesForAddress", str(Keypair().pubkey())) == []


class TestReading:
    def test_rents_are_mainnets(self, scene):
        rents = [scene.backend.ask("getMinimumBalanceForRentExemption", space) for space in (0, 82, 165)]
        assert rents == [890_880, 1_461_600, 2_039_280]

    def test_accounts_come_in_order_with_null_for_what_is_not_there(self, scene):
        absent = str(Keypair().pubkey())
        asked = [absent, str(scene.treasury.pubkey()), absent, str(scene.mint)]
        found = scene.backend.ask("getMultipleAccounts", asked, CONFIRMED)["value"]
        assert [one and one["owner"] for one in found] == [
            None,
            str(Pubkey.default()),
            None,
            str(TOKEN_PROGRAM_ID),
        ]
        assert len(base64.b64decode(found[3]["data"][0])) == found[3]["space"] == MINT_LEN

    def test_the_slot_of_an_answer_can_be_asked_for_again(self, scene):
        answer = scene.backend.ask("getAccountInfo", str(scene.mint), CONFIRMED)
        floor = answer["context"]["slot"]
        again = scene.backend.ask("getAccountInfo", str(scene.mint), {**CONFIRMED, "minContextSlot": floor})
        assert again["context"]["slot"] >= floor

    def test_a_slot_that_is_not_there_yet_is_refused(self, scene):
        if scene.backend.gaps & {"minContextSlot"}:
            pytest.skip("surfpool 1.5.0 answers whatever minContextSlot says")
        ahead = scene.backend.ask("getSlot", {"commitment": "processed"}) + 1_000_000
        with pytest.raises(RpcRefusal) as refused:
            scene.backend.ask("getAccountInfo", str(scene.mint), {**CONFIRMED, "minContextSlot": ahead})
        assert refused.value.code == -32016

    def test_heights_and_slots_only_grow_and_finalized_is_behind(self, scene):
        def now():
            return {
                (method, level): scene.backend.ask(method, {"commitment": level})
                for method in ("getSlot", "getBlockHeight")
                for level in ("finalized", "confirmed", "processed")
            }

        before = now()
        scene.backend.pass_slots(3)
        after = now()
        assert all(after[key] >= before[key] for key in before)
        assert before["getSlot", "finalized"] < before["getSlot", "processed"]
        assert before["getBlockHeight", "finalized"] <= before["getBlockHeight", "processed"]

    def test_a_fee_is_told_beforehand(self, scene):
        message = scene.unsigned(scene.payees(1), version=0).message
        fee = scene.backend.ask(
            "getFeeForMessage", base64.b64encode(message).decode(), {"commitment": "processed"}
        )
        assert fee["value"] == 5_000

    def test_a_chain_has_a_name(self, scene):
        name = scene.backend.ask("getGenesisHash")
        assert str(Hash.from_string(name)) == name
        assert scene.backend.ask("getHealth") == "ok"

    @pytest.mark.parametrize(
        ("method", "params", "code"),
        [
            ("getAccountInfo", ["no address", ENCODED], -32602),
            ("getBalance", [], -32602),
            ("getSignatureStatuses", [["no signature"]], -32602),
            ("sendTransaction", ["AAAA", ENCODED], -32602),
            ("noSuchMethod", [], -32601),
        ],
    )
    def test_nonsense_is_refused_with_its_code(self, scene, method, params, code):
        with pytest.raises(RpcRefusal) as refused:
            scene.backend.ask(method, *params)
        assert refused.value.code == code


def token_changes(found: dict) -> dict[str, int]:
    """By token account: what it gained."""
    message, meta = found["transaction"]["message"], found["meta"]
    changes: dict[str, int] = {}
    for sign, balances in ((-1, meta["preTokenBalances"]), (1, meta["postTokenBalances"])):
        for one in balances:
            address = message["accountKeys"][one["accountIndex"]]
            changes[address] = changes.get(address, 0) + sign * int(one["uiTokenAmount"]["amount"])
    return changes
