"""Settings of the control plane's processes: API, Celery worker and beat, operator commands."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from raymart_marketplace.chain_settings import ChainSettings
from raymart_marketplace.db.scripts import REPOSITORY_SCRIPTS
from raymart_marketplace.gateway.rate_limits.limits import (
    CONCURRENT_MAX,
    REQUESTS_PER_MINUTE_MAX,
    TOKENS_PER_MINUTE_MAX,
)
from raymart_marketplace.object_settings import ObjectSettings
from raymart_marketplace.routing.preference import Sort
from raymart_marketplace.supply.bulkhead import REQUESTS_MAX


class OidcProviderSettings(BaseModel):
    """An OpenID provider that people may log in with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9-]{1,40}$")
    """In paths: the provider sends people back to `<public_url>/auth/oidc/<name>/callback`."""
    issuer: str = Field(pattern=r"^(https://|http://(localhost|127\.0\.0\.1)([:/]|$))[^?#\s]*$")
    """Exactly as in its metadata; HTTPS, or HTTP on this machine for development."""
    client_id: str = Field(min_length=1, max_length=255)
    client_secret: SecretStr
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    allowed_domains: tuple[str, ...] = ()
    """People must have a verified e-mail address in one of these; none asked for when empty."""

    @field_validator("scopes")
    @classmethod
    def _ask_for_openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError("scopes must have 'openid'")
        return value


class ControlSettings(ObjectSettings, ChainSettings):
    """Read once in main; every name is in the environment as `RAYMART_<NAME>` unless an alias says otherwise."""

    database_url: str = Field(validation_alias="DATABASE_URL")
    """postgresql://user:password@host:port/database, PostgreSQL 16 or newer."""
    broker_url: str = Field(default="redis://127.0.0.1:6379/0", validation_alias="BROKER_URL")
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", validation_alias="REDIS_URL")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    """API processes on the port, each on a core of its own. A node's link is with one of them; all serve on it."""
    worker_patience_s: float = Field(default=10.0, ge=1, le=3_600)
    """With several processes: one whose event loop does not answer for so long is killed and replaced. A debugger that
    holds one for longer needs more."""
    drain_s: float = Field(default=20.0, ge=0, le=3_600)
    """What running requests get after SIGTERM, before they are cut; `request_deadline_s` cuts none."""
    public_url: str = Field(default="http://127.0.0.1:8000", pattern=r"^https?://[^/?#@\s]+$")
    """Where people reach this marketplace, without a path: wallets and OpenID providers are told it."""
    payout_wallet_cool_down_s: float = Field(default=259_200.0, ge=259_200)
    """From the change of a provider's payout wallet until it may be paid; the database lets it be no shorter than 72 h."""
    payout_wallet_proof_fresh_s: float = Field(default=600.0, ge=60, le=3_600)
    """How long after its proof a wallet may be chosen for payouts."""
    log_level: str = "INFO"
    development: bool = False
    """Opens GraphQL introspection and suggestions, for people who build against this instance."""
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins such as `https://app.example.com`, parted by commas, whose pages may use the API from a browser; pages of
    the API's own host always may."""
    graphiql: bool = False
    """Shows GraphiQL at `/graphql` to browsers outside development as well; without introspection it knows no names."""
    graphql_points_per_hour: int = Field(default=50_000, ge=1)
    """What a person or an API key may ask of GraphQL in an hour; a point is about a full page, a mutation is five."""
    graphql_points_per_hour_address: int = Field(default=5_000, ge=1)
    """The same for a network address without credentials; a login is ten."""
    migrations_dir: Path = REPOSITORY_SCRIPTS
    """The alembic folder, whose newest revision `GET /ready` expects the database to be at."""

    token_secret: SecretStr
    """Signs access tokens; at least 32 bytes of randomness, the same in every API process."""
    former_token_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(default=(), max_length=4)
    """Secrets whose tokens are still accepted while they are being replaced, parted by commas.

    Give every process the new one here, then swap the two everywhere, then drop the old one half a day later.
    """
    oidc_providers: tuple[OidcProviderSettings, ...] = Field(default=(), max_length=10)
    """OpenID providers as a JSON list, such as [{"name": "acme", "issuer": "https://id.acme.example", "client_id": ...}]."""
    login_return_url: str | None = Field(default=None, pattern=r"^https?://[^?#\s]+$")
    """Page that people come back to from a provider, with `login_code` or `login_error`; the console unless set."""
    token_issuer: str = "raymart"
    token_audience: str = "raymart-api"
    access_token_ttl_s: int = Field(default=900, ge=60, le=900)
    session_idle_ttl_s: float = Field(default=604_800.0, ge=60)
    """A log-in that is not refreshed for this long is over."""
    session_ttl_s: float = Field(default=2_592_000.0, ge=60)
    """And every log-in after this long. Source: NIST SP 800-63B, AAL1: at most 30 days."""
    require_second_factor: bool = True
    """Whether what the platform's people change, and where providers' money goes, asks for a fresh second factor."""
    second_factor_fresh_s: float = Field(default=900.0, ge=60)
    """How long a proven second factor, or a log-in that enrols one, counts as fresh."""
    encryption_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(default=(), max_length=4)
    """Seal second factors and retained prompts at rest, parted by commas; at least 32 bytes of randomness each, the one that seals first.

    All open: put a new one in front, and drop the old one once nothing is sealed with it. Without any, a key made of
    `token_secret` seals, which then must not be replaced.
    """
    model_key: Annotated[tuple[SecretStr, ...], NoDecode] = Field(default=(), max_length=4)
    """Wraps the data keys of sealed model files, parted by commas; at least 32 bytes of randomness each, the one that wraps
    first. Without one, private models cannot be imported.

    To replace it: put the new one in front, `raymart model rewrap`, drop the old one.
    """
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Networks of our own proxies, parted by commas, whose `X-Forwarded-For` says where a client is."""

    fee_basis_points: int = Field(default=1_000, ge=0, le=10_000)
    """The platform's share of what customers pay."""
    request_deadline_s: float = Field(default=120.0, gt=0)
    """Longest life of one inference request."""
    first_token_timeout_s: float = Field(default=15.0, gt=0)
    """An endpoint that sends no token for this long is left, and the request retried elsewhere."""
    stall_timeout_s: float = Field(default=5.0, gt=0)
    """The same between two tokens; another endpoint then goes on where it stopped."""
    resume_wait_s: float = Field(default=3.0, ge=0)
    """How long an answer that lost its endpoint waits for another to come up, when there is none."""
    attempts_max: int = Field(default=3, ge=1, le=10)
    """Endpoints that are asked until one delivers: at the beginning, and each time an answer is taken up."""
    hedging: bool = True
    """Whether a customer's `provider.hedge` has a second endpoint asked when the first is late; the wish is ignored otherwise."""
    routing_sort: Sort = Sort.BALANCED
    """What decides among endpoints that meet every need where the customer's `provider.sort` does not."""
    provider_requests_max: int = Field(default=REQUESTS_MAX, ge=1)
    """Requests of this process that may be under way at one provider, however large it is."""
    cached_answer_price_basis_points: int = Field(default=2_500, ge=0, le=10_000)
    """What an answer costs that is given again from the response cache, of its prices; 10,000 is all of them."""
    organization_requests_per_minute: int = Field(default=300_000, ge=0, le=REQUESTS_PER_MINUTE_MAX)
    """Inference requests of an organization in a minute, over all its keys; 0 for any number. `setInferenceAllowance`
    gives one organization another."""
    organization_tokens_per_minute: int = Field(default=300_000_000, ge=0, le=TOKENS_PER_MINUTE_MAX)
    """The same of tokens, prompts and answers together."""
    organization_concurrent_requests: int = Field(default=2_000, ge=0, le=CONCURRENT_MAX)
    """The same of requests that run at one time."""
    queue_wait_s: float = Field(default=5.0, gt=0, le=600)
    """The longest a request waits while all slots of its model are taken; a tenth of it once that has lasted for a second."""
    wake_timeout_s: float = Field(default=60.0, ge=0, le=600)
    """How long a request waits for a model that sleeps, within its deadline; 503 with `Retry-After` then."""
    hold_ttl_s: float = Field(default=180.0, gt=0)
    """Must outlive `request_deadline_s`, or a hold could void under a running request."""
    lease_ttl_s: float = Field(default=15.0, ge=1, le=3_600)
    """How long a gateway that died keeps the money it leased; while Postgres is away, requests are admitted this long."""
    lease_idle_s: float = Field(default=3.0, gt=0)
    """A lease under which nothing runs for this long goes back to the balance."""
    lease_slice_min_nano_usd: int = Field(default=50_000_000, gt=0)
    """What a gateway leases of a customer's balance at first; more as the customer spends."""
    lease_slice_max_nano_usd: int = Field(default=50_000_000_000, gt=0)
    lease_share: int = Field(default=4, ge=1)
    """A lease takes at most 1/`lease_share` of what is available; who has less is served request by request."""
    record_timeout_s: float = Field(default=30.0, gt=0)
    """How long a finished request waits for the database before its final byte is given up."""
    data_dir: Path | None = None
    """Exports lie in `exports/` below. Where usage is kept while PostgreSQL is away, in `spill/` below; a disk of its own that survives the process.
    Without one, the Redis of `redis_url` is the only place."""
    spill_bytes_max: int = Field(default=1_000_000_000, ge=1_000_000)
    """Most that may lie there, about a kilobyte a request; beyond, requests are refused as without it."""
    body_bytes_max: int = Field(default=2_000_000, ge=1_000)

    stripe_api_key: SecretStr | None = None
    """Secret or restricted key of the Stripe account; without one there are no top-ups by card."""
    stripe_webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Signing secrets of `POST /webhooks/stripe`, parted by commas; two while one is being replaced."""
    stripe_api_base: str = Field(default="https://api.stripe.com", pattern=r"^https?://")
    deposit_usd_min: int = Field(default=5, ge=1)
    deposit_usd_max: int = Field(default=10_000, le=999_999)
    """Whole dollars of one top-up; Stripe itself takes no more than 999,999.99."""
    deposit_return_url: str = Field(default="http://127.0.0.1:8000/console/", pattern=r"^https?://[^?#]+$")
    """Where Stripe's page sends the customer back to; the deposit's id is added."""

    low_balance_usd: int = Field(default=5, ge=0)
    """Customers are told when their balance falls below this, unless they chose another threshold; 0 for never."""
    smtp_host: str | None = None
    """Mail server; without one alerts are only shown, and people cannot verify their addresses or reset a password.

    On a development machine mails are files in `mail/` below `data_dir`.
    """
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_starttls: bool = True
    mail_from: str = "Raymart <no-reply@localhost>"

    link_server_name: str = "raymart"
    """Name that nodes sign into their proofs; one per marketplace."""
    link_heartbeat_s: float = Field(default=1.0, gt=0)
    link_lease_s: float = Field(default=4.0, gt=0)
    """A node silent for this long leaves routing."""
    benchmarks: bool = True
    """Whether a machine must pass the published benchmark before it gets requests (`supply.benchmarks.rules`)."""
    pool_certificate_s: float = Field(default=7 * 86_400.0, ge=60, le=90 * 86_400)
    """How long a machine's certificate of its house pool is good. Each Ray node is started anew, after a drain, within this
    time; a revoked machine's is not renewed."""
    ready_endpoints_min: int = Field(default=0, ge=0)
    """`GET /ready` waits for this many live endpoints; 0 in production, where readiness is the process's own."""
    sweep_interval_s: float = Field(default=5.0, gt=0)
    """How often what gateways left behind is put right: usage posted, leases and holds expired."""
    work_tick_s: float = Field(default=2.0, gt=0)
    """How often Celery beat lets a worker look for work whose hint was lost."""

    seller_legal_name: str = Field(default="Raymart", min_length=1, max_length=200)
    """Who sells, on invoices; frozen into each when it becomes final."""
    seller_address: str = Field(default="", max_length=500)
    """Its lines, separated by line breaks."""
    seller_country: str = Field(default="", pattern="^([A-Z]{2})?$")
    """ISO 3166, two letters."""
    seller_tax_id: str | None = Field(default=None, max_length=50)
    seller_email: str = Field(default="billing@raymart.example", max_length=254)
    invoice_grace_s: float = Field(default=86_400.0, ge=0)
    """How long after its month a drafted invoice waits before the month-end task makes it final."""
    invoice_fonts_dir: Path | None = None
    """Fonts for names in scripts that the built-in ones lack, such as Chinese or Japanese."""

    ledger_seal_key: SecretStr | None = Field(default=None, min_length=32)
    """Seals transfers and the audit log, so that an edit by the database's owner shows; at least 32 bytes that the
    database never sees.

    The same in every worker. Without it nothing is sealed.
    """
    ledger_head_file: Path | None = None
    """Where the newest seal is kept outside the database, so that a cut end of the ledger shows."""
    audit_address_days: int = Field(default=365, ge=1)
    """How long the audit log keeps from where people acted."""

    @field_validator(
        "allowed_origins",
        "stripe_webhook_secrets",
        "former_token_secrets",
        "trusted_proxies",
        "encryption_keys",
        "model_key",
        mode="before",
    )
    @classmethod
    def _part(cls, value: object) -> object:
        return (
            [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        )

    @property
    def audit_head_file(self) -> Path | None:
        """Where the newest seal of the audit log is kept: beside the ledger's."""
        return audit_head_beside(self.ledger_head_file)

    @property
    def spill_dir(self) -> Path | None:
        """The folder of spilled usage."""
        return None if self.data_dir is None else self.data_dir / "spill"

    @property
    def objects_dir(self) -> Path | None:
        """The folder of images and artifacts where they are not kept elsewhere; the API and the workers share it."""
        return None if self.data_dir is None else self.data_dir / "objects"

    @property
    def exports_dir(self) -> Path | None:
        """The folder of the copies that organizations asked for; the API and the workers share it."""
        return None if self.data_dir is None else self.data_dir / "exports"

    @model_validator(mode="after")
    def _check_providers(self) -> Self:
        names = [provider.name for provider in self.oidc_providers]
        issuers = [provider.issuer for provider in self.oidc_providers]
        if len(set(names)) < len(names) or len(set(issuers)) < len(issuers):
            raise ValueError("RAYMART_OIDC_PROVIDERS names a provider or an issuer twice")
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        secrets = (self.token_secret, *self.former_token_secrets, *self.encryption_keys, *self.model_key)
        for secret in secrets:
            if len(secret.get_secret_value().encode()) < 32:
                raise ValueError(
                    "RAYMART_TOKEN_SECRET or one of RAYMART_FORMER_TOKEN_SECRETS, RAYMART_ENCRYPTION_KEYS or RAYMART_MODEL_KEY has fewer than 32 bytes; make one with"
                    " `openssl rand -hex 32`"
                )
        if self.deposit_usd_min > self.deposit_usd_max:
            raise ValueError(
                f"RAYMART_DEPOSIT_USD_MIN={self.deposit_usd_min} exceeds RAYMART_DEPOSIT_USD_MAX={self.deposit_usd_max}"
            )
        if self.stripe_api_key is not None and not self.stripe_webhook_secrets:
            raise ValueError(
                "RAYMART_STRIPE_API_KEY is set without RAYMART_STRIPE_WEBHOOK_SECRETS; without them nobody could believe "
                "that a customer has paid"
            )
        if self.hold_ttl_s <= self.request_deadline_s:
            raise ValueError(
                f"RAYMART_HOLD_TTL_S={self.hold_ttl_s} must exceed RAYMART_REQUEST_DEADLINE_S={self.request_deadline_s}"
            )
        if self.lease_slice_max_nano_usd < self.lease_slice_min_nano_usd:
            raise ValueError(
                f"RAYMART_LEASE_SLICE_MAX_NANO_USD={self.lease_slice_max_nano_usd} must not be less than"
                f" RAYMART_LEASE_SLICE_MIN_NANO_USD={self.lease_slice_min_nano_usd}"
            )
        return self


def audit_head_beside(ledger_head_file: Path | None) -> Path | None:
    """The file of the audit log's newest seal, in the folder of the ledger's."""
    return None if ledger_head_file is None else ledger_head_file.with_name("audit-head.json")
