"""Promise 16: every operation of the schema, as every role, on its own tenant's things and on another's.

Operations are made of the schema (`support.operations`), and who may do what is read off the two tables, so a new
operation is in the matrix by being in the schema. A rule of a new kind, or an id that nothing is known of, fails here.

The rules run for real, against real rows; the resolvers behind them do not. What is counted is whether a resolver
would have been reached.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from graphql import GraphQLObjectType
from starlette.routing import BaseRoute, Route, WebSocketRoute
from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

import raymart_graphql.schema as schema_module
from raymart_core.errors import Conflict
from raymart_core.ids import Prefix, new_id, show
from raymart_graphql.context import Client
from raymart_graphql.permissions import (
    Authenticated,
    Guard,
    MayInfer,
    MemberOf,
    MemberOfSource,
    Platform,
    Public,
    SignedIn,
)
from raymart_graphql.rules import RULES
from raymart_graphql.rules.budgets import MemberOfScope
from raymart_graphql.rules.keys import HolderOfKey
from raymart_graphql.schema import build_schema
from raymart_graphql.schema.guarded import GuardedSchema
from raymart_marketplace.accounts.models import OrganizationKind, Role
from raymart_marketplace.accounts.permissions import KEY_PERMISSIONS, REACH, TABLE, Permission
from raymart_marketplace.accounts.scopes import DEFAULT_SCOPES
from raymart_marketplace.accounts.service_accounts import create_service_account
from raymart_marketplace.db.session import session_scope
from raymart_marketplace.gateway.images.sdapi.lists_route import FIXED
from support.api_server import Api, Seller, Tenant
from support.operations import MadeOperation, beneath, id_paths, nested, operations

REFUSALS = {"UNAUTHENTICATED", "FORBIDDEN"}
SELLERS = {Prefix.PROVIDER, Prefix.POOL, Prefix.NODE, Prefix.PLACEMENT, Prefix.OFFER, Prefix.ENDPOINT}
"""Kinds of things that a provider owns; all others are the customer's."""
IDS: Mapping[str, Prefix] = {
    "scopeId": Prefix.ORGANIZATION,
    "subjectId": Prefix.ORGANIZATION,
    "keepSessionId": Prefix.SESSION,
    "id": Prefix.WORK,
    "ids": Prefix.MODEL,
    "windowId": Prefix.MAINTENANCE,
}
"""Kinds of ids whose names do not say it. `projectId` does."""


class Probe(FieldExtension):
    """Stands between a rule and its resolver, and says whether the first let the second be reached."""

    def __init__(self, name: str, probing: "Probing") -> None:
        self._name = name
        self._probing = probing

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: object, info: Any, **kwargs: Any
    ) -> Any:
        if self._probing.armed != self._name:
            made = next_(source, info, **kwargs)
            return await made if hasattr(made, "__await__") else made
        self._probing.is_reached = True
        raise Conflict("the resolver was reached")


@dataclass(slots=True)
class Probing:
    """A schema with a probe behind every rule."""

    schema: GuardedSchema = field(init=False)
    armed: str = ""
    is_reached: bool = False

    @classmethod
    def build(cls) -> "Probing":
        probing = cls()
        probed: list[tuple[StrawberryField, Probe]] = []

        class ProbedSchema(GuardedSchema):
            def get_fields(self, type_definition: StrawberryObjectDefinition) -> list[StrawberryField]:
                fields = super().get_fields(type_definition)
                type_name = self.config.name_converter.from_type(type_definition)
                for each in fields:
                    places = [at for at, item in enumerate(each.extensions) if isinstance(item, Guard)]
                    if places and not any(isinstance(item, Probe) for item in each.extensions):
                        name = f"{type_name}.{self.config.name_converter.get_graphql_name(each)}"
                        probe = Probe(name, probing)
                        each.extensions.insert(places[0], probe)
                        probed.append((each, probe))
                return fields

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(schema_module, "GuardedSchema", ProbedSchema)
            probing.schema = build_schema()
        # Fields are shared by all schemas that are built of their classes.
        for each, probe in probed:
            each.extensions.remove(probe)
        return probing

    async def reaches(self, client: Client, operation: MadeOperation) -> bool:
        """Whether the operation's resolver is reached; a refusal must be one of the two that there are."""
        self.armed, self.is_reached = operation.name, False
        if operation.name.startswith("Subscription."):
            answer = await self.schema.subscribe(
                operation.document, operation.variables, context_value=client
            )
            result = await anext(answer) if hasattr(answer, "__anext__") else answer
        else:
            result = await self.schema.execute(operation.document, operation.variables, context_value=client)
        errors = getattr(result, "errors", None) or []
        codes = {(error.extensions or {}).get("code") for error in errors}
        if not self.is_reached:
            is_hidden = operation.name.split(".")[0] not in {"Query", "Mutation", "Subscription"}
            assert codes <= REFUSALS, (operation, errors)
            assert codes or is_hidden, operation
        return self.is_reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    """Whose things are asked for, and everybody who asks."""

    api: Api
    customer: Tenant
    seller: Seller
    ids: Mapping[Prefix, str]
    credentials: Mapping[str, str | None]
    """By name: "<tenant>.<role>", "key" (the customer's), "strangers_key", "nobody"."""

    def client(self, who: str) -> Client:
        credential = self.credentials[who]
        return Client(
            services=self.api.services,
            authorization=f"Bearer {credential}".encode() if credential else None,
            request_id="req_matrix",
            address="127.0.0.1",
        )

    def id_for(self, name: str) -> Any:
        """Ids of the operation `name`: what its rule asks about is the customer's or the seller's."""
        rule = RULES[name]

        def choose(path: str) -> str:
            last = path.rpartition(".")[2]
            if isinstance(rule, MemberOf) and last == _camel(rule.field):
                return self.ids[rule.kind]
            prefix = IDS.get(last) or Prefix.__members__.get(
                _constant(last.removesuffix("s").removesuffix("Id"))
            )
            # An id that no rule asks about is only parsed.
            assert prefix is not None, f"{name}: what does {path} name? Say it in IDS"
            return self.ids.get(prefix) or show(prefix, new_id())

        return choose


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tenants(api: Api) -> Tenants:
    customer, stranger = await api.tenant(), await api.tenant()
    seller, rival = await api.seller(), await api.seller()
    platform = await api.tenant(OrganizationKind.PLATFORM)
    key_id, secret = await api.api_key(customer)
    _, strangers_secret = await api.api_key(stranger)
    [request_id] = await api.use(customer, seller, 1)
    async with session_scope(api.services.sessions) as session:
        account = await create_service_account(
            session,
            organization_id=customer.organization_id,
            user_id=customer.owner.user_id,
            name="robot",
            role=Role.DEVELOPER,
        )
    people = {
        "customer": customer,
        "stranger": stranger,
        "seller": seller.tenant,
        "rival": rival.tenant,
        "platform": platform,
    }
    return Tenants(
        api=api,
        customer=customer,
        seller=seller,
        ids={
            Prefix.ORGANIZATION: customer.id,
            Prefix.PROJECT: customer.project,
            Prefix.API_KEY: show(Prefix.API_KEY, key_id),
            Prefix.SERVICE_ACCOUNT: show(Prefix.SERVICE_ACCOUNT, account.id),
            Prefix.PROVIDER: seller.id,
            Prefix.POOL: show(Prefix.POOL, seller.pool_id),
            Prefix.NODE: show(Prefix.NODE, seller.node_id),
            Prefix.OFFER: show(Prefix.OFFER, seller.offer_id),
            Prefix.MODEL: show(Prefix.MODEL, seller.model_id),
            Prefix.REQUEST: show(Prefix.REQUEST, request_id),
        },
        credentials={
            **{
                f"{name}.{role.value}": person.token
                for name, tenant in people.items()
                for role, person in tenant.people.items()
            },
            "key": secret,
            "strangers_key": strangers_secret,
            "nobody": None,
        },
    )


@pytest.fixture(scope="module")
def probing() -> Probing:
    return Probing.build()


def expected(name: str) -> frozenset[str]:  # noqa: PLR0911 - a row for each kind of rule
    """Who may do the operation on the customer's or the seller's things, by the two tables."""
    rule = RULES[name]
    match rule:
        case Public():
            return EVERYBODY
        case SignedIn():
            return PEOPLE
        case Authenticated():
            return EVERYBODY - {"nobody"}
        case HolderOfKey(scope=scope):
            return KEYS if scope is None or scope in DEFAULT_SCOPES else frozenset()
        case Platform(permission=permission):
            return _holders("platform", permission)
        case MemberOf(kind=kind, permission=permission):
            return _holders("seller" if kind in SELLERS else "customer", permission) | _reaching(permission)
        case MemberOfSource(permission=permission):
            customers = ("Organization.", "Project.", "Request.", "ServiceAccount.")
            tenant = "customer" if name.startswith(customers) else "seller"
            return _holders(tenant, permission) | _reaching(permission)
        case MayInfer(permission=permission) | MemberOfScope(permission=permission):
            return _holders("customer", permission) | _reaching(permission)
    raise AssertionError(f"say here who may do {name}: its rule {rule!r} is of a new kind")


def _holders(tenant: str, permission: Permission) -> frozenset[str]:
    granted = TABLE[KINDS[tenant]].items()
    return frozenset(f"{tenant}.{role.value}" for role, permissions in granted if permission in permissions)


def _reaching(permission: Permission) -> frozenset[str]:
    return frozenset(f"platform.{role.value}" for role, granted in REACH.items() if permission in granted)


KINDS = {
    "customer": OrganizationKind.CUSTOMER,
    "stranger": OrganizationKind.CUSTOMER,
    "seller": OrganizationKind.PROVIDER,
    "rival": OrganizationKind.PROVIDER,
    "platform": OrganizationKind.PLATFORM,
}
PEOPLE = frozenset(f"{tenant}.{role.value}" for tenant, kind in KINDS.items() for role in TABLE[kind])
KEYS = frozenset({"key", "strangers_key"})
"""With the scopes that a key has unless its maker says otherwise; test_keys.py has others."""
EVERYBODY = PEOPLE | KEYS | {"nobody"}
OUTSIDERS = frozenset({"stranger", "rival"})


ASKING = sorted(who for who in EVERYBODY if who.partition(".")[0] not in OUTSIDERS or who.endswith(".owner"))
"""Who tries: of the other tenants the owner alone, who may do all that their other roles may (test of the table)."""
NESTED = sorted(name for name in RULES if name.partition(".")[0] not in {"Query", "Mutation", "Subscription"})
NODES = {
    "Organization": Prefix.ORGANIZATION,
    "Provider": Prefix.PROVIDER,
    "Pool": Prefix.POOL,
    "Offer": Prefix.OFFER,
    "Project": Prefix.PROJECT,
    "Request": Prefix.REQUEST,
    "ServiceAccount": Prefix.SERVICE_ACCOUNT,
}
"""Types with guarded fields, by what reaches them."""


async def mistakes(tenants: Tenants, probing: Probing, operation: MadeOperation) -> list[str]:
    """Who got further, or less far, than the tables say."""
    allowed, found = expected(operation.name), []
    for who in ASKING:
        if await probing.reaches(tenants.client(who), operation) != (who in allowed):
            found.append(f"{operation.name} as {who}: must be {'allowed' if who in allowed else 'refused'}")
    return found


class TestOperations:
    async def test_each_is_for_those_whom_the_tables_name_and_nobody_else(
        self, tenants: Tenants, probing: Probing
    ) -> None:
        made = list(operations(probing.schema._schema, tenants.id_for))
        assert {operation.name for operation in made} == set(RULES) - set(NESTED)
        found = [mistake for operation in made for mistake in await mistakes(tenants, probing, operation)]
        assert not found, "\n".join(found)

    def test_what_is_open_to_strangers_is_meant_to_be(self) -> None:
        assert {name for name, rule in RULES.items() if isinstance(rule, Public)} == MEANT_FOR_STRANGERS

    async def test_a_tenants_ids_are_refused_to_another_tenant_wherever_an_input_takes_them(
        self, tenants: Tenants, probing: Probing
    ) -> None:
        """Own things in the place that the rule asks about, another's in any other place: the rule cannot see those.

        Row-level security hides them from the resolver; here stands that each such place is known.
        """
        places = set()
        for name, made in probing.schema._schema.mutation_type.fields.items():
            rule = RULES[f"Mutation.{name}"]
            if isinstance(rule, MemberOf):
                asked = f"input.{_camel(rule.field)}"
                places |= {f"{name}.{path}" for path in id_paths(made.args) if path != asked}
        assert places == SECOND_IDS


MEANT_FOR_STRANGERS = {
    "Query.node",
    "Query.nodes",
    "Query.models",
    "Query.model",
    "Query.provider",
    "Query.offers",
    "Query.offerSearch",
    "Query.explainRoute",
    "Query.quoteRequest",
    "Query.benchmarkRules",
    "Query.knownGpus",
    "Query.rateLimit",
    "Mutation.login",
    "Mutation.createWalletLoginChallenge",
    "Mutation.loginWithWallet",
    "Mutation.completeLogin",
    "Mutation.signUp",
    "Mutation.verifyEmail",
    "Mutation.verifyProviderContact",
    "Mutation.requestPasswordReset",
    "Mutation.resetPassword",
    "Mutation.exchangeLoginCode",
    "Query.loginProviders",
    "Mutation.refreshSession",
}
"""Operations without credentials. Adding one is a decision; each type's own rule is in NODE_RULES."""
SECOND_IDS = {
    "cancelMaintenance.input.windowId",  # test_supply_life.py: of another machine it is not found.
    "revokeJoinToken.input.joinTokenId",  # test_pools.py: of another provider it is not found.
    "createApiKey.input.serviceAccountId",  # test_service_accounts.py: another organization's is not found.
    "openOffer.input.revisionId",  # Published revisions are for everybody to offer.
    "setOfferPlacement.input.nodeIds",  # test_placing.py: a machine of another provider is refused.
    "createJoinToken.input.poolId",  # test_supply.py: of another provider's pool it is refused.
    "changeMemberRole.input.userId",  # test_members.py: who is no member is not found.
    "removeMember.input.userId",
    "transferOwnership.input.userId",
}
"""Ids besides the one that a rule asks about; each needs a test of its own that another tenant's is refused."""


class TestFields:
    async def test_each_guarded_field_is_for_those_whom_the_tables_name(
        self, tenants: Tenants, probing: Probing
    ) -> None:
        found = []
        for name in NESTED:
            type_name, _, field_name = name.partition(".")
            owner = probing.schema._schema.type_map[type_name]
            assert isinstance(owner, GraphQLObjectType)
            made = owner.fields[field_name]
            if type_name == "CallingKey":
                operation = beneath("callingKey", type_name, field_name, made)
            else:
                operation = nested(type_name, field_name, made, tenants.ids[NODES[type_name]])
            found += await mistakes(tenants, probing, operation)
        assert not found, "\n".join(found)


STAFF_ROUTES = {
    "/admin/v1/health",
    "/admin/v1/signs",
    "/admin/v1/endpoints",
}
"""Paths for those of the platform's people who look after its running."""
NODES_ROUTES = {
    "/worker/v1/enrolments",
    "/worker/v1/challenges",
    "/worker/v1/tokens",
    "/worker/v1/node",
    "/worker/v1/placements",
    "/worker/v1/endpoints",
    "/worker/v1/nodes",
    "/worker/v1/offers",
    "/worker/v1/benchmarks",
}
"""Paths for machines, whose credential is their own key: tests/graphql/rest."""
OPEN_ROUTES = {
    "/auth/oidc/{provider}/start",
    "/auth/oidc/{provider}/callback",
    "/graphql/assets/{name}",
    "/docs",
    "/docs/{asset}",
    "/openapi.json",
    "/v1/{rest:path}",
    "/health",
    "/ready",
    "/metrics",
    "/graphql",
    "/link",
    "/webhooks/stripe",
    "/objects/{key:path}",
    "/sdapi/v1/{rest:path}",
}
"""Paths that no bearer credential guards: public, or with a proof of their own (GraphQL's rules, node keys, signatures)."""
TENANTS_ROUTES = {
    "/billing/invoices/{document}.pdf": Prefix.INVOICE,
    "/billing/invoices/{document}.csv": Prefix.INVOICE,
    "/billing/credit-notes/{document}.pdf": Prefix.CREDIT_NOTE,
    "/billing/self-billing/{document}.pdf": Prefix.INVOICE,  # By number; test_provider_payouts.py has another's.
    "/billing/self-billing/{document}.csv": Prefix.INVOICE,
    "/billing/usdc-top-ups/{reference}.svg": Prefix.DEPOSIT,
    "/audit/{organization}.csv": Prefix.ORGANIZATION,
    "/audit/{organization}.jsonl": Prefix.ORGANIZATION,
    "/privacy/exports/{export}.zip": Prefix.ORGANIZATION,  # test_privacy.py has another's.
}
"""Paths to one tenant's things: 404 for everybody else's. test_invoices.py shows them to those who may see them."""
KEY_ROUTES = {
    "/v1/chat/completions": "POST",
    "/v1/embeddings": "POST",
    "/v1/rerank": "POST",
    "/v1/images/generations": "POST",
    "/v1/images/edits": "POST",
    "/v1/completions": "POST",
    "/completion": "POST",
    "/v1/generation": "GET",
    "/v1/models": "GET",
    "/v1/models/{slug:path}": "GET",
    "/v1/models/{slug:path}/endpoints": "GET",
    "/sdapi/v1/img2img": "POST",
    "/sdapi/v1/sd-models": "GET",
    "/sdapi/v1/loras": "GET",
    "/sdapi/v1/sd-vae": "GET",
    "/sdapi/v1/progress": "GET",
    "/sdapi/v1/samplers": "GET",
}
"""Paths for a key, or a person who may infer."""
SDAPI_ALIKE = {f"/sdapi/v1/{path}" for path in FIXED} - {"/sdapi/v1/samplers"}
SDAPI_ALIKE |= {f"/sdapi/v1/{path}" for path in ("txt2img", "options", "interrupt", "skip")}
"""Paths of the same classes as those above, for which an empty body is not malformed; test_sdapi.py shows them keyless."""
MALFORMED_BARE = {"/v1/generation"}
"""Paths of those above that are asked about something; test_generation.py shows whose they show."""
KEYS_OWN_ROUTES = {"/v1/key"}
"""Paths that show a key to itself, and to nobody else."""


class TestRoutes:
    def test_every_route_is_known(self, api: Api) -> None:
        paths = set(_paths(api.app.routes))
        known = (
            OPEN_ROUTES
            | set(TENANTS_ROUTES)
            | set(KEY_ROUTES)
            | SDAPI_ALIKE
            | KEYS_OWN_ROUTES
            | STAFF_ROUTES
            | NODES_ROUTES
        )
        assert paths == known

    async def test_inference_is_for_those_who_may_infer(self, tenants: Tenants) -> None:
        may = _holders("customer", Permission.INFER) | _holders("stranger", Permission.INFER)
        may |= _holders("seller", Permission.INFER) | _holders("rival", Permission.INFER)
        # The platform's organization has no project that usage could belong to.
        may |= {"key", "strangers_key"}
        assert Permission.INFER in KEY_PERMISSIONS
        for path, method in KEY_ROUTES.items():
            for who in ASKING:
                credential = tenants.credentials[who]
                headers = {"authorization": f"Bearer {credential}"} if credential else {}
                url = path.replace("{slug:path}", tenants.seller.model_slug)
                status = (await tenants.api.client.request(method, url, json={}, headers=headers)).status_code
                # An empty body is malformed, which is only told to those who may ask.
                wanted = (
                    (400 if method == "POST" or path in MALFORMED_BARE else 200)
                    if who in may
                    else 401
                    if who == "nobody"
                    else 403
                )
                assert status == wanted, f"{path} as {who}"

    async def test_a_key_is_shown_to_itself_alone(self, tenants: Tenants) -> None:
        for path in KEYS_OWN_ROUTES:
            for who in ASKING:
                credential = tenants.credentials[who]
                headers = {"authorization": f"Bearer {credential}"} if credential else {}
                status = (await tenants.api.client.get(path, headers=headers)).status_code
                wanted = 200 if who in KEYS else 401 if who == "nobody" else 403
                assert status == wanted, f"{path} as {who}"

    async def test_operations_are_for_those_who_look_after_them(self, tenants: Tenants) -> None:
        may = _holders("platform", Permission.PLATFORM_WORK_READ)
        for path in sorted(STAFF_ROUTES):
            for who in ASKING:
                credential = tenants.credentials[who]
                headers = {"authorization": f"Bearer {credential}"} if credential else {}
                status = (await tenants.api.client.get(path, headers=headers)).status_code
                wanted = 200 if who in may else 401 if who == "nobody" else 403
                assert status == wanted, f"{path} as {who}"

    async def test_what_is_a_tenants_is_missing_for_everybody_else(self, tenants: Tenants) -> None:
        for path, prefix in TENANTS_ROUTES.items():
            for who in ("nobody", "key", "stranger.owner", "rival.owner", "platform.support"):
                credential = tenants.credentials[who]
                headers = {"authorization": f"Bearer {credential}"} if credential else {}
                url = re.sub("{.*}", show(prefix, new_id()), path)
                status = (await tenants.api.client.get(url, headers=headers)).status_code
                assert status == {"nobody": 401, "key": 403}.get(who, 404), f"{path} as {who}"


def _paths(routes: Sequence[BaseRoute]) -> Iterator[str]:
    """Paths of all routes, of included routers too."""
    for route in routes:
        if isinstance(route, Route | WebSocketRoute):
            yield route.path
        else:
            yield from _paths(getattr(route, "routes", ()))


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _constant(name: str) -> str:
    """The constant API_KEY for apiKey."""
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in name).upper()
