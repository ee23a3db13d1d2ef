"""Settings of commands that seal or check seals: of the ledger, and of the audit log."""

from pathlib import Path

from pydantic import Field, SecretStr

from raymart_billing.seals.chain import KEY_BYTES_MIN
from raymart_graphql.operator.settings import DatabaseSettings
from raymart_marketplace.settings import audit_head_beside


class LedgerSettings(DatabaseSettings):
    """Read once by the command."""

    ledger_seal_key: SecretStr | None = Field(default=None, min_length=KEY_BYTES_MIN)
    """The key of the seals, as the workers have it."""
    ledger_head_file: Path | None = None
    """Where the sealer keeps the newest seal."""

    @property
    def audit_head_file(self) -> Path | None:
        """Where the sealer keeps the audit log's newest seal."""
        return audit_head_beside(self.ledger_head_file)

    @property
    def key(self) -> bytes | None:
        """The key's bytes."""
        return None if self.ledger_seal_key is None else self.ledger_seal_key.get_secret_value().encode()
