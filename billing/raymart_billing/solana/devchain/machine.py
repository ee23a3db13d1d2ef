"""The virtual machine: real programs, executed one transaction at a time, with what LiteSVM leaves out.

LiteSVM executes the programs of mainnet. It does not look at the header of a v1 transaction: the priority fee, the limit
of what it loads and the limit of its compute units are kept here, in that order around the execution. What the header
does not set is zero, and a transaction that may load nothing fails and pays. Source: SIMD-0385; SIMD-0186 for sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from solders.account import Account
from solders.clock import Clock
from solders.compute_budget import ID as COMPUTE_BUDGET
from solders.litesvm import LiteSVM
from solders.message import Message, MessageV0, MessageV1
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, InnerInstruction

from raymart_billing.solana.devchain.transaction_errors import (
    ACCOUNT_NOT_FOUND,
    INSUFFICIENT_FUNDS_FOR_FEE,
    MAX_LOADED_ACCOUNTS_DATA_SIZE_EXCEEDED,
    ErrorJson,
    error_as_json,
)

LAMPORTS_PER_SIGNATURE = 5_000
UNITS_MAX = 1_400_000
"""Compute units of one transaction, at most."""
UNITS_OF_INSTRUCTION = 200_000
"""What an instruction may use where a transaction sets no limit."""
UNITS_OF_BUILTIN = 3_000
"""The same for programs that are part of the validator. Source: SIMD-0170."""
_UPGRADEABLE_LOADER = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
_BUILTINS = frozenset(
    {
        Pubkey.default(),
        COMPUTE_BUDGET,
        Pubkey.from_string("Vote111111111111111111111111111111111111111"),
        Pubkey.from_string("BPFLoader1111111111111111111111111111111111"),
        Pubkey.from_string("BPFLoader2111111111111111111111111111111111"),
        _UPGRADEABLE_LOADER,
    }
)
MICRO_LAMPORTS = 1_000_000
_GENESIS_LAMPORTS = 10**18
_SYSTEM_PROGRAM = Pubkey.default()
_LOADED_META_BYTES = 64
"""What an account counts besides its data."""
_TABLE_META_BYTES = 56
"""What an address lookup table holds before its addresses."""

AnyMessage = Message | MessageV0 | MessageV1


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What one transaction did, or why it did nothing.

    `before` and `after` stand beside `keys`: the message's own, then those loaded from tables (`writable`, `readonly`).
    `is_included`: whether a block holds it and its fee was taken; a transaction can fail and be included.
    """

    is_included: bool
    error: ErrorJson | None
    logs: Sequence[str]
    units: int
    fee_lamports: int
    keys: Sequence[Pubkey]
    loaded_writable: Sequence[Pubkey]
    loaded_readonly: Sequence[Pubkey]
    before: Sequence[Account | None]
    after: Sequence[Account | None]
    inner: Sequence[Sequence[InnerInstruction]]

    @property
    def changed(self) -> Sequence[tuple[Pubkey, Account | None]]:
        """The accounts that are not what they were, each as it was."""
        both = zip(self.keys, self.before, self.after, strict=True)
        return [(key, before) for key, before, after in both if before != after]


class Machine:
    """Accounts, and the programs that change them."""

    def __init__(self, *, faucet: Pubkey) -> None:
        self._svm = (
            LiteSVM()
            # Signatures, blockhashes and repeats are checked in front, where slots and forks are known.
            .with_sigverify(sigverify=False)
            .with_blockhash_check(check=False)
            .with_transaction_history(capacity=0)
        )
        self._programs: dict[Pubkey, Account] = {}
        self._program_sizes: dict[Pubkey, int] = {}
        self._svm.set_account(faucet, Account(_GENESIS_LAMPORTS, b"", _SYSTEM_PROGRAM))

    def account(self, address: Pubkey) -> Account | None:
        """The account as the last transaction left it; None when it is not there or has no lamports."""
        account = self._svm.get_account(address)
        return account if account is not None and account.lamports > 0 else None

    def owned_by(self, program: Pubkey) -> Sequence[Pubkey]:
        """The addresses of the accounts that belong to `program`."""
        return [address for address, _ in self._svm.get_program_accounts(program)]

    def rent_exempt(self, space_bytes: int) -> int:
        """The lamports an account of this size must hold."""
        return self._svm.minimum_balance_for_rent_exemption(space_bytes)

    def set_time(self, *, slot: int, unix_time: int) -> None:
        """What programs see as the present."""
        self._svm.set_clock(
            Clock(
                slot=slot, epoch_start_timestamp=0, epoch=0, leader_schedule_epoch=0, unix_timestamp=unix_time
            )
        )

    def restore(self, accounts: Sequence[tuple[Pubkey, Account | None]]) -> None:
        """Put accounts back to what they were."""
        for address, account in accounts:
            self._svm.set_account(address, account or Account(0, b"", _SYSTEM_PROGRAM))

    def try_out(self, transaction: VersionedTransaction) -> Execution:
        """Execute and undo."""
        execution = self.execute(transaction)
        self.restore(execution.changed)
        return execution

    def execute(self, transaction: VersionedTransaction) -> Execution:
        """Execute it. Nothing is changed unless the result `is_included`."""
        message = transaction.message
        own, writable, readonly = self._keys(message)
        keys = [*own, *writable, *readonly]
        written = written_keys(message) | frozenset(writable)
        before = [self.account(key) if key in written else self._read_only(key) for key in keys]
        execution = Execution(
            is_included=False,
            error=None,
            logs=(),
            units=0,
            fee_lamports=fee_of(message),
            keys=keys,
            loaded_writable=writable,
            loaded_readonly=readonly,
            before=before,
            after=before,
            inner=(),
        )
        payer = before[0]
        if payer is None:
            return replace(execution, error=ACCOUNT_NOT_FOUND)
        if payer.lamports < execution.fee_lamports:
            return replace(execution, error=INSUFFICIENT_FUNDS_FOR_FEE)
        if isinstance(message, MessageV1) and self._loaded_bytes(execution) > _loaded_bytes_max(message):
            return self._failed_to_load(execution, payer=payer)
        return self._run(transaction, execution, payer=payer)

    def _run(self, transaction: VersionedTransaction, draft: Execution, *, payer: Account) -> Execution:
        """Run the programs; of a failure nothing stays but the fee, of what no block takes not even that."""
        priority_fee = _priority_fee_of_v1(transaction.message)
        if priority_fee:
            self._svm.set_account(draft.keys[0], _with_lamports(payer, payer.lamports - priority_fee))
        result = self._svm.send_transaction(transaction)
        if isinstance(result, FailedTransactionMetadata):
            error: ErrorJson | None = error_as_json(result.err())
            meta = result.meta()
        else:
            error, meta = None, result
        done = replace(
            draft,
            error=error,
            logs=meta.logs(),
            units=meta.compute_units_consumed(),
            after=self._accounts_after(transaction.message, draft),
            inner=meta.inner_instructions(),
        )
        if error is None and done.units > _unit_limit_of_v1(transaction.message):
            return self._ran_out_of_units(transaction.message, done, payer=payer)
        paid = payer.lamports - priority_fee
        if error is not None and done.after[0] is not None and done.after[0].lamports == paid:
            self.restore([(draft.keys[0], payer)])
            return replace(done, after=draft.before)
        return replace(done, is_included=True)

    def _failed_to_load(self, draft: Execution, *, payer: Account) -> Execution:
        """What remains of a transaction that loads more than it may: the whole fee."""
        charged = _with_lamports(payer, payer.lamports - draft.fee_lamports)
        self._svm.set_account(draft.keys[0], charged)
        after = [charged, *draft.before[1:]]
        return replace(draft, is_included=True, error=MAX_LOADED_ACCOUNTS_DATA_SIZE_EXCEEDED, after=after)

    def _loaded_bytes(self, draft: Execution) -> int:
        """What counts against the limit of loaded data: each account there is, its data and 64 bytes."""
        both = zip(draft.keys, draft.before, strict=True)
        return sum(
            self._program_bytes(key) if account.executable else len(account.data) + _LOADED_META_BYTES
            for key, account in both
            if account is not None
        )

    def _program_bytes(self, address: Pubkey) -> int:
        """The same of a program; the account with the code of an upgradeable one counts with it."""
        if address not in self._program_sizes:
            program = self._svm.get_account(address)
            assert program is not None
            content = bytes(program.data)
            size = len(content) + _LOADED_META_BYTES
            if program.owner == _UPGRADEABLE_LOADER and content[:4] == b"\x02\0\0\0":
                code = self._svm.get_account(Pubkey.from_bytes(content[4:36]))
                size += 0 if code is None else len(code.data) + _LOADED_META_BYTES
            self._program_sizes[address] = size
        return self._program_sizes[address]

    def _ran_out_of_units(self, message: AnyMessage, done: Execution, *, payer: Account) -> Execution:
        """What remains of a v1 transaction that needed more than its limit: the fee."""
        self.restore(done.changed)
        charged = _with_lamports(payer, payer.lamports - done.fee_lamports)
        self._svm.set_account(done.keys[0], charged)
        return replace(
            done,
            is_included=True,
            # Which instruction ran out is not known here; the last one stands for it.
            error={"InstructionError": [len(message.instructions) - 1, "ComputationalBudgetExceeded"]},
            units=_unit_limit_of_v1(message),
            logs=[*done.logs, "Computational budget exceeded"],
            after=self._accounts_after(message, done),
        )

    def _read_only(self, address: Pubkey) -> Account | None:
        """An account that is not written; a program without its code, which is large and would be kept with each call."""
        if address in self._programs:
            return self._programs[address]
        account = self.account(address)
        if account is not None and account.executable:
            account = Account(account.lamports, b"", account.owner, account.executable, account.rent_epoch)
            self._programs[address] = account
        return account

    def _accounts_after(self, message: AnyMessage, draft: Execution) -> Sequence[Account | None]:
        """Beside `draft.keys`; only what may be written is read again, for programs are large to copy."""
        written = written_keys(message) | frozenset(draft.loaded_writable)
        both = zip(draft.keys, draft.before, strict=True)
        return [self.account(key) if key in written else before for key, before in both]

    def _keys(self, message: AnyMessage) -> tuple[list[Pubkey], list[Pubkey], list[Pubkey]]:
        """The message's own keys, and those it loads from lookup tables: writable, read only."""
        writable: list[Pubkey] = []
        readonly: list[Pubkey] = []
        if isinstance(message, MessageV0):
            for lookup in message.address_table_lookups:
                table = self.account(lookup.account_key)
                content = bytes(table.data)[_TABLE_META_BYTES:] if table is not None else b""
                writable += _addresses(content, bytes(lookup.writable_indexes))
                readonly += _addresses(content, bytes(lookup.readonly_indexes))
        return list(message.account_keys), writable, readonly


def fee_of(message: AnyMessage) -> int:
    """The lamports that a message costs when it lands, whatever becomes of it."""
    base = LAMPORTS_PER_SIGNATURE * message.header.num_required_signatures
    if isinstance(message, MessageV1):
        return base + (message.config.priority_fee or 0)
    price, limit = unit_price_and_limit(message)
    # Rounded up to whole lamports. Source: `FeeBudgetLimits` of Agave's compute-budget crate.
    return base - (-price * limit // MICRO_LAMPORTS)


def unit_price_and_limit(message: AnyMessage) -> tuple[int, int]:
    """Micro-lamports per compute unit, and the most units that it may use."""
    if isinstance(message, MessageV1):
        limit = _unit_limit_of_v1(message)
        return (message.config.priority_fee or 0) * MICRO_LAMPORTS // max(1, limit), limit
    price, given_limit, usual_limit = 0, None, 0
    for instruction in message.instructions:
        content, program = bytes(instruction.data), message.account_keys[instruction.program_id_index]
        usual_limit += UNITS_OF_BUILTIN if program in _BUILTINS else UNITS_OF_INSTRUCTION
        if program != COMPUTE_BUDGET:
            continue
        if content[:1] == b"\x02":
            given_limit = int.from_bytes(content[1:5], "little")
        elif content[:1] == b"\x03":
            price = int.from_bytes(content[1:9], "little")
    return price, min(UNITS_MAX, usual_limit if given_limit is None else given_limit)


def written_keys(message: AnyMessage) -> frozenset[Pubkey]:
    """The message's own keys that it may write to."""
    header, keys = message.header, message.account_keys
    signed = header.num_required_signatures
    # Keys stand in this order: signers that are written, signers that are read, others written, others read.
    signers = keys[: signed - header.num_readonly_signed_accounts]
    others = keys[signed : len(keys) - header.num_readonly_unsigned_accounts]
    return frozenset([*signers, *others])


def _addresses(content: bytes, indexes: bytes) -> Sequence[Pubkey]:
    """Those of a table's addresses; an index beyond its end is left for the machine to refuse."""
    found = [content[32 * index : 32 * index + 32] for index in indexes]
    return [Pubkey.from_bytes(address) for address in found if len(address) == 32]


def _priority_fee_of_v1(message: AnyMessage) -> int:
    """Lamports in all, not per compute unit. Source: SIMD-0385, "Priority Fee"."""
    return (message.config.priority_fee or 0) if isinstance(message, MessageV1) else 0


def _unit_limit_of_v1(message: AnyMessage) -> int:
    return (message.config.compute_unit_limit or 0) if isinstance(message, MessageV1) else UNITS_MAX


def _loaded_bytes_max(message: MessageV1) -> int:
    return message.config.loaded_accounts_data_size_limit or 0


def _with_lamports(account: Account, lamports: int) -> Account:
    return Account(lamports, account.data, account.owner, account.executable, account.rent_epoch)
