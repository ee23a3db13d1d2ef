"""How the database's refusals are recognised: by the name of the constraint that refused."""

import psycopg

from raymart_core.errors import RaymartError

NO_OVERDRAFT = "ck_ledger_account_no_overdraft"
"""The balance does not cover the amount."""
KEY_OF_ANOTHER = "uq_transfer_key"
"""The idempotency key was used before for a transfer with other accounts, amount or code."""

AMOUNT_MAX = 2**63 - 1
"""What a bigint holds: 9.2 billion dollars. No account can cover more."""


class LedgerBroken(RaymartError):
    """The books are not what they were: somebody got past the guards. The message names the first bad row."""


def refused_by(constraint: str, error: BaseException | None) -> bool:
    """Whether `error` is the database's refusal in the name of `constraint`."""
    return isinstance(error, psycopg.Error) and error.diag.constraint_name == constraint
