"""Where a stack keeps what: the paths below RAYMART_DATA_DIR."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one stack; `root` is absolute."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held by the one supervisor of this directory."""
        return self.root / "lock"

    @property
    def postgres(self) -> Path:
        """The embedded Postgres."""
        return self.root / "pg"

    @property
    def redis(self) -> Path:
        """The embedded Redis."""
        return self.root / "redis"

    @property
    def solana(self) -> Path:
        """The development chain."""
        return self.root / "solana"

    @property
    def solana_chain(self) -> Path:
        """The running development chain's `rpc_url`, `usdc_mint`, `treasury` and `genesis_hash`, as JSON."""
        return self.solana / "chain.json"

    @property
    def ray(self) -> Path:
        """The house pool's Ray cluster."""
        return self.root / "ray"

    @property
    def logs(self) -> Path:
        """One log per part."""
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        """Secrets that the stack makes for itself, 0700."""
        return self.root / "secrets"

    @property
    def token_secret(self) -> Path:
        """Signs access tokens."""
        return self.secrets / "token-secret"

    @property
    def ledger_seal_key(self) -> Path:
        """Seals the ledger's transfers."""
        return self.secrets / "ledger-seal-key"

    @property
    def model_key(self) -> Path:
        """Wraps the data keys of private models' files; without it they are lost."""
        return self.secrets / "model-key"

    @property
    def operator_settings(self) -> Path:
        """Settings of the running stack for `raymart` at another terminal, 0600."""
        return self.root / "operator.env"

    @property
    def treasury_keypair(self) -> Path:
        """The key of the development chain's treasury, as `solana-keygen` writes it."""
        return self.secrets / "treasury-keypair.json"

    @property
    def payout_marker_key(self) -> Path:
        """Makes the addresses of payouts' markers; never to be replaced."""
        return self.secrets / "payout-marker-key"

    @property
    def ledger_head(self) -> Path:
        """The newest seal, outside the database."""
        return self.root / "ledger" / "head.json"

    @property
    def ray_token(self) -> Path:
        """Lets a process into the Ray cluster."""
        return self.secrets / "ray-token"

    @property
    def join_tokens(self) -> Path:
        """One-time tokens of the nodes and the controller."""
        return self.secrets / "join"

    @property
    def beat_schedule(self) -> Path:
        """When Celery beat sent what."""
        return self.root / "celery" / "beat-schedule"

    @property
    def credentials(self) -> Path:
        """The seeded demo accounts, 0600."""
        return self.root / "credentials.json"

    def node(self, name: str) -> Path:
        """State of the agent of node `name`."""
        return self.root / "nodes" / name

    @property
    def controller(self) -> Path:
        """State of the pool controller."""
        return self.root / "controller"
