"""What the treasury's key is not used for, whoever asks. Each message here would do harm, or hide what it does."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import request_heap_frame, set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0, MessageV1, TransactionConfig, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import (
    CreateAccountWithSeedParams,
    TransferParams,
    TransferWithSeedParams,
    create_account_with_seed,
    transfer,
    transfer_with_seed,
)
from spl.token import instructions as token
from spl.token import models
from spl.token.constants import TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID

from raymart_billing.solana.addresses import SYSTEM_PROGRAM_ID, token_account
from raymart_billing.solana.errors import SignerMisconfigured, SigningRefused
from raymart_billing.solana.marker import create_marker, marker_of, reclaim_marker
from raymart_billing.solana.signing import KeypairFileSigner, Policy, PolicySigner
from raymart_billing.solana.signing.policy import UNRECORDED_S_MAX
from raymart_billing.solana.signing.reading import read_message
from raymart_billing.solana.transactions import memo_instruction
from raymart_core.ids import new_id
from support.treasury import MARKER_KEY, OpenBooks

RENT = 890_880
KEY = Keypair()
TREASURY = KEY.pubkey()
MINT, OTHER_MINT = Pubkey.new_unique(), Pubkey.new_unique()
SOURCE = token_account(TREASURY, MINT)
PAYEE = Pubkey.new_unique()
THIEF = Keypair()
POLICY = Policy(
    treasury=TREASURY,
    token_account=SOURCE,
    mint=MINT,
    decimals=6,
    transaction_micro_usdc_max=1_000,
    day_micro_usdc_max=2_500,
    priority_fee_lamports_max=100,
)


def marker():
    return marker_of(MARKER_KEY, TREASURY, new_id(), 0)


def marking(lamports: int = RENT, **changes: object) -> Instruction:
    chosen = marker()
    params = {
        "from_pubkey": TREASURY,
        "to_pubkey": chosen.address,
        "base": TREASURY,
        "seed": chosen.seed,
        "lamports": lamports,
        "space": 0,
        "owner": SYSTEM_PROGRAM_ID,
    }
    return create_account_with_seed(CreateAccountWithSeedParams(**(params | changes)))


def paying(amount: int = 5, **changes: object) -> Instruction:
    params = {
        "program_id": TOKEN_PROGRAM_ID,
        "source": SOURCE,
        "mint": MINT,
        "dest": PAYEE,
        "owner": TREASURY,
        "amount": amount,
        "decimals": 6,
        "signers": [],
    }
    return token.transfer_checked(models.TransferCheckedParams(**(params | changes)))


def reclaiming(**changes: object) -> Instruction:
    chosen = marker()
    params = {
        "from_pubkey": chosen.address,
        "from_base": TREASURY,
        "from_seed": chosen.seed,
        "from_owner": SYSTEM_PROGRAM_ID,
        "to_pubkey": TREASURY,
        "lamports": RENT,
    }
    return transfer_with_seed(TransferWithSeedParams(**(params | changes)))


def opening(
    mint: Pubkey = MINT, *, payer: Pubkey = TREASURY, program: Pubkey = TOKEN_PROGRAM_ID
) -> Instruction:
    return token.create_idempotent_associated_token_account(payer, PAYEE, mint, program)


def v1(*instructions: Instruction, payer: Pubkey = TREASURY, **config: int | None) -> bytes:
    usual = {
        "compute_unit_limit": 30_000,
        "priority_fee": 100,
        "loaded_accounts_data_size_limit": 8 * 1024 * 1024,
    }
    limits = TransactionConfig(**(usual | config))
    return to_bytes_versioned(MessageV1.try_compile(payer, list(instructions), Hash.default(), limits))


def v0(*instructions: Instruction, tables: Sequence[AddressLookupTableAccount] = ()) -> bytes:
    return to_bytes_versioned(
        MessageV0.try_compile(TREASURY, list(instructions), list(tables), Hash.default())
    )


def changed(
    instruction: Instruction, *, data: bytes | None = None, accounts: int | None = None
) -> Instruction:
    """The same with other data, or fewer accounts."""
    return Instruction(
        instruction.program_id,
        bytes(instruction.data) if data is None else data,
        instruction.accounts[:accounts],
    )


@dataclass
class CountingSigner:
    """Counts what reaches the key."""

    key: Keypair = KEY
    signed: int = 0
    address: Pubkey = field(default=TREASURY)

    async def sign(self, message: bytes) -> Signature:
        self.signed += 1
        return self.key.sign_message(message)

    async def aclose(self) -> None:
        """Nothing is open."""


async def refusal(message: bytes, *, books: OpenBooks | None = None) -> str:
    """Why it is refused; the key was not used."""
    inner = CountingSigner()
    with pytest.raises(SigningRefused) as refused:
        await PolicySigner(inner, POLICY, books or OpenBooks()).sign(message)
    assert inner.signed == 0
    assert refused.value.reasons or "no message" in refused.value.message
    return refused.value.message


async def is_signed(message: bytes, *, books: OpenBooks | None = None) -> bool:
    signature = await PolicySigner(CountingSigner(), POLICY, books or OpenBooks()).sign(message)
    return signature.verify(TREASURY, message)


class TestWhatIsSigned:
    @pytest.mark.parametrize("build", [v1, v0])
    async def test_a_payout_behind_its_marker(self, build) -> None:
        assert await is_signed(build(marking(), memo_instruction(TREASURY, "x"), paying(), paying(995)))

    async def test_a_marker_that_pays_nobody(self) -> None:
        assert await is_signed(v1(marking()))

    async def test_token_accounts(self) -> None:
        assert await is_signed(v1(opening()))

    async def test_a_reclaim_that_the_books_set_free(self) -> None:
        chosen = marker()
        message = v1(reclaim_marker(TREASURY, chosen, lamports=RENT))
        assert await is_signed(message, books=OpenBooks(free={str(chosen.address)}))

    async def test_a_version_0_budget_within_the_cap(self) -> None:
        budget = (set_compute_unit_limit(10_000), set_compute_unit_price(10_000))
        assert await is_signed(v0(*budget, marking(), paying()))


EVIL: dict[str, tuple[bytes, str]] = {
    "somebody else pays its fee": (
        v1(marking(), paying(), payer=THIEF.pubkey()),
        "the treasury alone signs",
    ),
    "a second signer": (
        v1(
            marking(),
            paying(),
            Instruction(
                memo_instruction(TREASURY, "").program_id,
                b"",
                [AccountMeta(THIEF.pubkey(), is_signer=True, is_writable=False)],
            ),
        ),
        "2 signers",
    ),
    "SOL to somebody": (
        v1(transfer(TransferParams(from_pubkey=TREASURY, to_pubkey=PAYEE, lamports=1))),
        "something else than a marker",
    ),
    "tokens without a marker": (v1(paying()), "behind one marker"),
    "a marker after the tokens": (v1(paying(), marking()), "behind one marker"),
    "two markers": (v1(marking(), marking(), paying()), "behind one marker"),
    "a marker made and emptied": (v1(marking(), paying(), reclaiming()), "behind one marker"),
    "a payout that opens accounts": (v1(marking(), opening(), paying()), "behind one marker"),
    "reclaims and openings": (v1(reclaiming(), opening()), "behind one marker"),
    "only a memo": (v1(memo_instruction(TREASURY, "x")), "does nothing"),
    "another token": (v1(marking(), paying(mint=OTHER_MINT)), "not on the list"),
    "other decimals": (v1(marking(), paying(decimals=9)), "not on the list"),
    "another token account": (v1(marking(), paying(source=Pubkey.new_unique())), "not the treasury's USDC"),
    "somebody else's right": (v1(marking(), paying(owner=THIEF.pubkey())), "the treasury alone signs"),
    "nothing": (v1(marking(), paying(0)), "pays nobody"),
    "itself": (v1(marking(), paying(dest=SOURCE)), "pays nobody"),
    "Token-2022": (v1(marking(), paying(program_id=TOKEN_2022_PROGRAM_ID)), "not on the list"),
    "a multisig": (
        v1(marking(), paying(signers=[THIEF.pubkey()])),
        "something else than TransferChecked",
    ),
    "an unchecked transfer": (
        v1(marking(), changed(paying(), data=b"\x03" + bytes(8), accounts=3)),
        "something else than TransferChecked",
    ),
    "a delegate": (
        v1(marking(), changed(paying(), data=b"\x04" + bytes(8), accounts=3)),
        "something else than TransferChecked",
    ),
    "a new owner": (
        v1(marking(), changed(paying(), data=b"\x06\x02\x01" + bytes(32), accounts=2)),
        "something else than TransferChecked",
    ),
    "a longer transfer": (
        v1(marking(), changed(paying(), data=bytes(paying().data) + b"\x00")),
        "something else than TransferChecked",
    ),
    "more than the cap": (v1(marking(), paying(600), paying(401)), "one transaction may move 1000"),
    "a marker for somebody": (v1(marking(owner=PAYEE), paying()), "not the treasury's own"),
    "a marker with data": (v1(marking(space=1), paying()), "holds the rent of none"),
    "a rich marker": (v1(marking(2_000_001), paying()), "holds the rent of none"),
    "a marker elsewhere": (v1(marking(to_pubkey=PAYEE), paying()), "not the address of its seed"),
    "a marker without a seed": (
        v1(marking(seed="", to_pubkey=Pubkey.create_with_seed(TREASURY, "", SYSTEM_PROGRAM_ID)), paying()),
        "not the address of its seed",
    ),
    "a reclaim for somebody": (v1(reclaiming(to_pubkey=PAYEE)), "not to the treasury"),
    "a reclaim from elsewhere": (v1(reclaiming(from_pubkey=PAYEE)), "not the address of its seed"),
    "a reclaim of a live part": (v1(reclaiming()), "not free to be reclaimed"),
    "an account of another token": (v1(opening(OTHER_MINT)), "not on the list"),
    "an account of Token-2022": (v1(opening(program=TOKEN_2022_PROGRAM_ID)), "not on the list"),
    "an account that is not its owner's": (
        v1(
            Instruction(
                opening().program_id,
                b"\x01",
                [
                    opening().accounts[0],
                    AccountMeta(THIEF.pubkey(), is_signer=False, is_writable=True),
                    *opening().accounts[2:],
                ],
            )
        ),
        "not the token account of",
    ),
    "an account not idempotent": (v1(changed(opening(), data=b"")), "another way"),
    "a long memo": (
        v1(
            marking(),
            paying(),
            Instruction(memo_instruction(TREASURY, "").program_id, b"m" * 41, []),
        ),
        "its memo has 41 bytes",
    ),
    "an unknown program": (
        v1(marking(), paying(), Instruction(THIEF.pubkey(), b"", [])),
        "not on the list",
    ),
    "a high fee": (v1(marking(), paying(), priority_fee=101), "exceeds 100"),
    "a header with a heap": (v1(marking(), paying(), heap_size=65_536), "more than limits"),
    "a header that loads nothing": (
        v1(marking(), paying(), loaded_accounts_data_size_limit=0),
        "load or compute nothing",
    ),
    "a header without a data limit": (
        v1(marking(), paying(), loaded_accounts_data_size_limit=None),
        "load or compute nothing",
    ),
    "a header without a compute limit": (
        v1(marking(), paying(), compute_unit_limit=None),
        "load or compute nothing",
    ),
    "a budget in version 1": (v1(set_compute_unit_limit(1), marking(), paying()), "in its header"),
    "a high price": (
        v0(set_compute_unit_limit(10_000), set_compute_unit_price(10_001), marking(), paying()),
        "exceeds 100",
    ),
    "a price without a limit": (v0(set_compute_unit_price(72), marking(), paying()), "exceeds 100"),
    "two limits": (
        v0(set_compute_unit_limit(1), set_compute_unit_limit(2), marking(), paying()),
        "or twice",
    ),
    "a heap": (v0(request_heap_frame(65_536), marking(), paying()), "unknown way"),
    "a lookup table": (
        v0(
            marking(),
            paying(),
            tables=[AddressLookupTableAccount(key=Pubkey.new_unique(), addresses=[PAYEE])],
        ),
        "lookup table",
    ),
    "a legacy message": (
        bytes(Message.new_with_blockhash([marking(), paying()], TREASURY, Hash.default())),
        "legacy",
    ),
    "bytes after its end": (v1(marking(), paying()) + b"\x00", "no message|say nothing"),
    "text": (b"example.com wants you to sign in with your Solana account", "no message|legacy"),
    "no bytes": (b"", "no message"),
    "more bytes than land": (bytes(4_097), "no transaction carries more"),
}


class TestWhatIsRefused:
    @pytest.mark.parametrize("name", EVIL)
    async def test_with_its_reason_and_without_touching_the_key(self, name: str) -> None:
        message, reason = EVIL[name]
        assert re.search(reason, await refusal(message))


PAYOUT = v1(marking(), memo_instruction(TREASURY, "memo"), paying(), paying(9))
PAYOUT_V0 = v0(set_compute_unit_limit(9), set_compute_unit_price(9), marking(), paying())


class TestReadMessage:
    @given(
        message=st.sampled_from([PAYOUT, PAYOUT_V0, v1(opening()), v1(reclaiming())]),
        changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
        cut=st.floats(0, 1),
    )
    def test_any_bytes_are_read_or_refused(
        self, message: bytes, changes: list[tuple[float, int]], cut: float
    ) -> None:
        mutated = bytearray(message)
        for place, value in changes:
            mutated[int(place * len(mutated))] = value
        try:
            read_message(bytes(mutated[: int(cut * len(mutated))] if cut < 0.5 else mutated))
        except SigningRefused as refused:
            reason = refused.message
        else:
            reason = "read"
        assert reason.isprintable()

    @given(message=st.binary(max_size=300))
    def test_noise_is_never_signed(self, message: bytes) -> None:
        with pytest.raises(SigningRefused):
            asyncio.run(PolicySigner(CountingSigner(), POLICY, OpenBooks()).sign(message))


class TestDay:
    async def test_what_was_recorded_counts(self) -> None:
        books = OpenBooks(signed={"other": 2_000})
        assert await is_signed(v1(marking(), paying(500)), books=books)
        assert "2500 may leave in a day" in await refusal(v1(marking(), paying(501)), books=books)

    async def test_another_attempt_of_the_same_part_does_not_count_twice(self) -> None:
        chosen = marker()
        creation = create_marker(TREASURY, chosen, rent_lamports=RENT)
        books = OpenBooks(signed={str(chosen.address): 1_000, "other": 1_500})
        assert await is_signed(v1(creation, paying(1_000)), books=books)

    async def test_what_was_signed_a_moment_ago_counts_before_it_is_recorded(self) -> None:
        signer = PolicySigner(CountingSigner(), POLICY, OpenBooks())
        for _ in range(2):
            await signer.sign(v1(marking(), paying(1_000)))
        await signer.sign(v1(marking(), paying(500)))
        with pytest.raises(SigningRefused, match="after 2500 in the last 24 hours"):
            await signer.sign(v1(marking(), paying(1)))

    async def test_a_repeat_is_counted_once_also_unrecorded(self) -> None:
        signer = PolicySigner(CountingSigner(), POLICY, OpenBooks())
        await signer.sign(v1(marking(), paying(1_000)))
        creation = marking()
        for fee in range(5):
            await signer.sign(v1(creation, paying(1_000), priority_fee=fee))

    async def test_many_at_once_do_not_pass_together(self) -> None:
        signer = PolicySigner(CountingSigner(), POLICY, OpenBooks())
        messages = [v1(marking(), paying(1_000)) for _ in range(10)]
        results = await asyncio.gather(
            *(signer.sign(message) for message in messages), return_exceptions=True
        )
        assert sum(isinstance(result, Signature) for result in results) == 2

    async def test_many_whose_questions_overlap_do_not_pass_together(self) -> None:
        """All have asked the books before any has its answer: each sees them without the others."""
        everybody = asyncio.Barrier(10)

        class Books(OpenBooks):
            async def signed_micro_usdc(self, **question) -> int:
                before = await super().signed_micro_usdc(**question)
                await everybody.wait()
                return before

        signer = PolicySigner(CountingSigner(), POLICY, Books())
        messages = [v1(marking(), paying(1_000)) for _ in range(10)]
        results = await asyncio.gather(
            *(signer.sign(message) for message in messages), return_exceptions=True
        )
        assert sum(isinstance(result, Signature) for result in results) == 2

    async def test_what_leaves_memory_during_the_question_still_counts(self) -> None:
        """The books were asked to leave it out, because it was in memory when they were asked."""
        now, asked = 0.0, 0

        class Books(OpenBooks):
            async def signed_micro_usdc(self, **question) -> int:
                nonlocal now, asked
                asked += 1
                if asked == 3:
                    now = UNRECORDED_S_MAX + 1
                    await signer.sign(v1(marking(), paying(1)))
                return await super().signed_micro_usdc(**question)

        signer = PolicySigner(CountingSigner(), POLICY, Books(), monotonic=lambda: now)
        await signer.sign(v1(marking(), paying(1_000)))
        await signer.sign(v1(marking(), paying(1_000)))
        now = UNRECORDED_S_MAX - 1
        with pytest.raises(SigningRefused, match="after 2001 in the last 24 hours"):
            await signer.sign(v1(marking(), paying(500)))

    async def test_memory_ends_when_the_books_must_have_it(self) -> None:
        now = 0.0
        signer = PolicySigner(CountingSigner(), POLICY, OpenBooks(), monotonic=lambda: now)
        for _ in range(5):
            await signer.sign(v1(marking(), paying(1_000)))
            now += UNRECORDED_S_MAX

    async def test_what_pays_nobody_needs_no_day(self) -> None:
        assert await is_signed(v1(marking()), books=OpenBooks(signed={"other": 10**9}))


class TestPolicySigner:
    def test_a_key_of_another_wallet_is_refused(self) -> None:
        with pytest.raises(SignerMisconfigured, match="correct RAYMART_TREASURY_ADDRESS or the key"):
            PolicySigner(KeypairFileSigner(THIEF), POLICY, OpenBooks())

    async def test_a_signature_that_is_not_the_treasurys_is_not_handed_out(self) -> None:
        signer = PolicySigner(CountingSigner(key=THIEF), POLICY, OpenBooks())
        with pytest.raises(SigningRefused, match="not the treasury's"):
            await signer.sign(v1(marking(), paying()))
