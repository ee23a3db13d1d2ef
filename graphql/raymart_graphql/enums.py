"""Enums of the domain as the schema shows them, each member with its description.

Types of the schema import these from here: an enum must be exposed before it is used, or it loses name and texts.
"""

from enum import Enum

import strawberry
from strawberry.types.base import has_strawberry_definition
from strawberry.types.enum import StrawberryEnumDefinition

from raymart_billing.credits import GrantSource
from raymart_billing.rollups import Dimension, Step
from raymart_core.money import Asset
from raymart_core.units import Fault, FinishReason
from raymart_marketplace.accounts.key_filters import KeyState
from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.accounts.scopes import KeyScope
from raymart_marketplace.audit.models import ActorKind, AuditOutcome
from raymart_marketplace.catalog.models import Modality, RevisionState
from raymart_marketplace.metering.models import AttemptOutcome, RequestState, Surface
from raymart_marketplace.supply.drift import DriftKind
from raymart_marketplace.supply.models import (
    NodeRole,
    NodeState,
    OfferState,
    PlacementState,
    PoolKind,
    ProviderState,
    Warmth,
)
from raymart_marketplace.supply.planning.snapshot import Misfit as PlacementMisfit
from raymart_marketplace.supply.planning.standing import Standing as ModelStanding


def expose(members: type[Enum], *, name: str, description: str, values: dict[str, str]) -> None:
    """Show `members` in the schema as the enum `name`; `values` describes each member by its Python name."""
    undescribed = {member.name for member in members} ^ set(values)
    assert not undescribed, f"enum {name}: describe exactly its members; differs in {sorted(undescribed)}"
    strawberry.enum(members, name=name, description=description)
    assert has_strawberry_definition(members)
    definition = members.__strawberry_definition__
    assert isinstance(definition, StrawberryEnumDefinition)
    for value in definition.values:
        value.description = values[value.name]


expose(
    Asset,
    name="Currency",
    description="What an amount of money counts.",
    values={"USD": "US dollars, exact to 1e-9.", "USDC": "USDC on Solana, exact to 1e-6."},
)
expose(
    OrganizationKind,
    name="OrganizationKind",
    description="What an organization does in the market.",
    values={
        "CUSTOMER": "Buys inference.",
        "PROVIDER": "Sells inference.",
        "PLATFORM": "Runs the marketplace.",
    },
)
expose(
    Role,
    name="Role",
    description="What a member is in an organization; `docs/permissions.md` says what each may do.",
    values={
        "OWNER": "Everything, handing the organization over included.",
        "ADMIN": "Everything but ownership.",
        "DEVELOPER": "A customer's: keys and inference.",
        "BILLING": "A customer's: money, budgets and invoices.",
        "OPERATOR": "A provider's: machines and offers.",
        "FINANCE": "The platform's: the books, invoices and refunds of all customers.",
        "SUPPORT": "The platform's: the market's state, and a tenant's things while a grant for that is open.",
        "VIEWER": "Reading only.",
    },
)
expose(
    KeyScope,
    name="KeyScope",
    description="What an API key may be used for.",
    values={
        "INFERENCE": "Asking models for the project's money; spelled `inference` over REST.",
        "MODELS_READ": "Listing models over REST; `models:read`.",
        "USAGE_READ": "Seeing what its project used; `usage:read`.",
        "KEYS_READ": "Seeing its project's keys; `keys:read`.",
    },
)
expose(
    KeyState,
    name="ApiKeyState",
    description="Whether an API key works.",
    values={
        "ACTIVE": "It works.",
        "EXPIRED": "Its end has come; moving the end brings it back.",
        "REVOKED": "Ended by somebody, for good.",
    },
)
expose(
    Modality,
    name="Modality",
    description="What a model makes.",
    values={
        "CHAT": "Answers to conversations.",
        "IMAGE": "Pictures.",
        "EMBEDDING": "Vectors of texts.",
    },
)
expose(
    RevisionState,
    name="RevisionState",
    description="Where a model revision stands.",
    values={
        "DRAFT": "Not yet offered.",
        "PUBLISHED": "Can be offered and served.",
        "DEPRECATED": "Still served, no longer placed anew.",
        "WITHDRAWN": "Not served.",
    },
)
expose(
    ProviderState,
    name="ProviderState",
    description="Where a provider stands.",
    values={
        "APPLIED": "Waiting for approval.",
        "ACTIVE": "Sells.",
        "SUSPENDED": "Kept from selling for now.",
        "CLOSED": "Sells no more.",
    },
)
expose(
    PoolKind,
    name="PoolKind",
    description="Who is inside a pool's trust domain.",
    values={
        "HOUSE": "Verified providers on a private network share one Ray cluster.",
        "PROVIDER": "One provider's own Ray cluster.",
    },
)
expose(
    DriftKind,
    name="PoolDriftKind",
    description="How a pool is not as the marketplace wants it.",
    values={
        "NO_CONTROLLER": "Nobody reports on the pool, so that nothing is applied; what ran runs on.",
        "MISSING": "A wanted placement does not run.",
        "WRONG_REVISION": "A revision runs that is not wanted, where another of the same model is.",
        "SURPLUS": "A placement runs that is not wanted.",
        "UNKNOWN_APPLICATION": "Ray Serve has an application that is no placement.",
        "NODE_WITHOUT_RAY": "A machine's agent is linked, and its Ray node is not in the cluster.",
        "RAY_NODE_WITHOUT_AGENT": "A Ray node is in the cluster, and its machine's agent is not linked.",
    },
)
expose(
    NodeState,
    name="ProviderNodeState",
    description="Where a provider's machine stands.",
    values={
        "ENROLLED": "Has a key, was never seen.",
        "BENCHMARKING": "Being measured.",
        "READY": "Serves.",
        "DRAINING": "Finishes what it has, takes nothing new.",
        "OFFLINE": "Its link is down.",
        "RETIRED": "Gone for good.",
    },
)
expose(
    NodeRole,
    name="ProviderNodeRole",
    description="What a machine's key holder does.",
    values={
        "NODE": "Runs replicas and tunnels inference.",
        "CONTROLLER": "Applies a pool's placements beside its Ray head.",
    },
)
expose(
    OfferState,
    name="OfferState",
    description="Whether an offer sells.",
    values={"OPEN": "Sells.", "PAUSED": "Does not sell for now.", "CLOSED": "Sells no more."},
)
expose(
    Warmth,
    name="Warmth",
    description="Whether replicas of an offer are loaded before anybody asks.",
    values={
        "WARM": "One at least, always.",
        "AUTO": "One while the model was asked for in the last half hour, else none until it is asked for.",
        "ON_DEMAND": "None until it is asked for; the first request waits.",
    },
)
expose(
    ModelStanding,
    name="ModelStanding",
    description="What a customer can expect of a model.",
    values={
        "SERVED": "A replica runs.",
        "STARTING": "It is placed, and no replica is ready yet.",
        "SLEEPING": "It is placed, and wakes when it is asked for.",
        "NO_NODE_MATCHES": "Providers offer it, and none of their machines can take it.",
        "NOT_OFFERED": "No provider offers it.",
    },
)
expose(
    PlacementMisfit,
    name="PlacementMisfit",
    description="Why an offer is not placed on a machine.",
    values={
        "NO_NODE": "The provider has no machine.",
        "NODE_NOT_CHOSEN": "The provider named other machines.",
        "NODE_DRAINING": "The machine is being taken out.",
        "OUTSIDE_HOURS": "The provider's hours do not allow it now.",
        "UNSELLABLE": "There is no price at which it may be sold.",
        "NO_GPUS": "It needs more GPUs than the machine has, or than the provider gives it.",
        "GPU_MEMORY": "It does not fit into the memory of the machine's GPUs.",
        "MEMORY": "It does not fit into the machine's memory, were it empty.",
        "DISK": "Its files do not fit on the machine's disk.",
        "RELEASED": "It was tried there and given up a moment ago.",
        "GPUS_TAKEN": "Others have the GPUs.",
        "MEMORY_TAKEN": "Others have the memory.",
        "CPUS_TAKEN": "Others have the processors, as Ray accounts them.",
        "ENOUGH_NODES": "It runs on as many machines as the provider wants.",
    },
)
expose(
    PlacementState,
    name="PlacementState",
    description="Where a placement stands.",
    values={
        "REQUESTED": "Wanted, not yet begun.",
        "PLACING": "Replicas are starting.",
        "RUNNING": "Replicas serve.",
        "FAILED": "Could not be placed; the reason says why.",
        "DRAINING": "Replicas finish what they have.",
        "GONE": "No replica is left.",
    },
)
expose(
    Surface,
    name="Surface",
    description="Through which API a request came.",
    values={"REST": "The OpenAI-compatible HTTP API.", "GRAPHQL": "This API."},
)
expose(
    RequestState,
    name="RequestState",
    description="How a request ended.",
    values={
        "COMPLETED": "The whole answer was delivered.",
        "FAILED": "An error ended it.",
        "CANCELLED": "The client left.",
    },
)
expose(
    AttemptOutcome,
    name="AttemptOutcome",
    description="How a try on one endpoint ended.",
    values={
        "DELIVERED": "The whole answer was delivered.",
        "FAILED": "The endpoint failed.",
        "CANCELLED": "The client left.",
    },
)
expose(
    Fault,
    name="Fault",
    description="Whose failure ended an attempt.",
    values={
        "NONE": "Nobody's.",
        "CUSTOMER": "The request was wrong, or the customer left.",
        "PROVIDER": "The endpoint refused, died, stalled or miscounted.",
        "PLATFORM": "The marketplace's own failure.",
        "NETWORK": "The link broke while both ends lived.",
    },
)
expose(
    FinishReason,
    name="FinishReason",
    description="Why a generation ended.",
    values={
        "STOP": "The model ended, or a stop string matched.",
        "LENGTH": "The token limit or the context was used up.",
        "ABORT": "The caller went away.",
        "ERROR": "The endpoint failed in mid-stream.",
    },
)
expose(
    GrantSource,
    name="CreditGrantSource",
    description="Why credit was granted.",
    values={
        "ADMIN": "An administrator gave it.",
        "PROMOTION": "A campaign gave it.",
        "RULE": "A rule of the platform gave it.",
    },
)

expose(
    Dimension,
    name="UsageDimension",
    description="What sums of usage can be apart by.",
    values={
        "PROJECT": "The customer's project.",
        "API_KEY": "The key that asked.",
        "MODEL": "The model that served.",
        "PROVIDER": "Who served.",
    },
)

expose(
    Step,
    name="UsageStep",
    description="The length of a bucket of usage, in UTC.",
    values={"HOUR": "An hour.", "DAY": "A day."},
)

__all__ = [
    "ActorKind",
    "Asset",
    "AttemptOutcome",
    "AuditOutcome",
    "Dimension",
    "DriftKind",
    "Fault",
    "FinishReason",
    "GrantSource",
    "Modality",
    "ModelStanding",
    "NodeRole",
    "NodeState",
    "OfferState",
    "OrganizationKind",
    "PlacementMisfit",
    "PlacementState",
    "PoolKind",
    "ProviderState",
    "RequestState",
    "RevisionState",
    "Role",
    "Step",
    "Surface",
    "Warmth",
    "expose",
]

expose(
    ActorKind,
    name="ActorKind",
    description="Who acted.",
    values={
        "USER": "A person with an access token.",
        "API_KEY": "The holder of an API key.",
        "SERVICE_ACCOUNT": "A service account.",
        "NODE": "A machine with its node key.",
        "OPERATOR": "Somebody at the marketplace's own command line.",
        "SYSTEM": "The marketplace itself, because of something else that happened.",
        "ANONYMOUS": "Nobody yet: who signs up.",
    },
)
expose(
    AuditOutcome,
    name="AuditOutcome",
    description="What became of an act.",
    values={"DONE": "Done.", "REFUSED": "Somebody who is known was not allowed to."},
)
