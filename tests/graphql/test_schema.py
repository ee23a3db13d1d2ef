"""The schema keeps its conventions (docs: GraphQL conventions), and nothing in it is open by accident."""

import re

import pytest
import strawberry
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    is_introspection_type,
    is_specified_scalar_type,
)

from raymart_core.errors import DomainError
from raymart_core.ids import Prefix
from raymart_graphql.export_schema import COMMITTED, schema_text
from raymart_graphql.rules import PUBLIC_TYPES, RULES
from raymart_graphql.schema import build_schema
from raymart_graphql.schema.guarded import GuardedSchema
from raymart_graphql.schema.nodes import NODE_RULES
from raymart_graphql.schema.user_error import UserError, UserErrorCode

SCHEMA = build_schema()._schema
ROOTS = ("Query", "Mutation", "Subscription")

MEANT_FOR_ALL = {
    "Model": {"id", "slug", "name", "description", "modality", "licence", "revisions", "offers", "lowestPrices", "lowestUnitPrices", "liveEndpoints",
              "rateCards", "currentPrices", "statistics", "aliases", "placement"},
    "ModelAlias": {"name", "quantization", "revision"},
    "ModelRevision": {"id", "digest", "engine", "quantization", "contextLength", "capabilities", "state", "createdAt", "model"},
    "Provider": {"id", "slug", "name", "state", "offers", "dataPolicy"},
    "Offer": {"id", "asks", "unitAsks", "windows", "currentPrice", "state", "createdAt", "provider", "revision"},
    "LiveEndpoint": {"id", "modelSlug", "region", "prices", "unitPrices", "capacity", "running", "quarantined", "provider", "revision",
                     "statistics", "uptime", "breaker", "trust", "dataPolicy", "figures"},
}  # fmt: skip
"""Fields that anybody may read. Adding one here is a decision; the other way is a rule."""


def our_types() -> list[GraphQLNamedType]:
    return [
        named
        for named in SCHEMA.type_map.values()
        if not is_introspection_type(named) and not is_specified_scalar_type(named)
    ]


def objects() -> list[GraphQLObjectType | GraphQLInterfaceType]:
    return [named for named in our_types() if isinstance(named, GraphQLObjectType | GraphQLInterfaceType)]


class TestSnapshot:
    def test_committed_copy_is_the_schema(self) -> None:
        assert COMMITTED.read_text() == schema_text(), "run `python -m raymart_graphql.export_schema --write`"


class TestRules:
    def test_every_operation_has_a_rule_and_no_rule_is_stale(self) -> None:
        fields = {f"{named.name}.{field}" for named in objects() for field in named.fields}
        operations = {name for name in fields if name.split(".")[0] in ROOTS}
        assert operations <= set(RULES)
        assert set(RULES) <= fields

    def test_operation_without_a_rule_does_not_build(self) -> None:
        @strawberry.type
        class Query:
            @strawberry.field
            def forgotten(self) -> str:
                return "open"

        with pytest.raises(TypeError, match=r"Query\.forgotten has no rule"):
            GuardedSchema(query=Query)

    @pytest.mark.parametrize("name", sorted(PUBLIC_TYPES))
    def test_each_field_that_strangers_reach_is_meant_for_all_or_has_a_rule(self, name: str) -> None:
        named = SCHEMA.type_map[name]
        assert isinstance(named, GraphQLObjectType)
        unguarded = {field for field in named.fields if f"{name}.{field}" not in RULES}
        assert unguarded == MEANT_FOR_ALL[name]

    def test_every_node_type_has_a_rule(self) -> None:
        nodes = [named.name for named in SCHEMA.get_possible_types(SCHEMA.type_map["Node"])]
        assert len(nodes) == len(NODE_RULES)

    def test_every_prefix_that_the_schema_shows_can_be_fetched(self) -> None:
        shown_only = {Prefix.ENDPOINT, Prefix.ATTEMPT, Prefix.JOIN_TOKEN, Prefix.MAINTENANCE}
        assert set(NODE_RULES) == set(Prefix) - shown_only


class TestConventions:
    def test_everything_is_described(self) -> None:
        missing = [named.name for named in our_types() if not named.description]
        for named in our_types():
            if isinstance(named, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
                missing += [
                    f"{named.name}.{name}" for name, field in named.fields.items() if not field.description
                ]
            if isinstance(named, GraphQLEnumType):
                missing += [
                    f"{named.name}.{name}" for name, value in named.values.items() if not value.description
                ]
        for named in objects():
            for name, field in named.fields.items():
                missing += [
                    f"{named.name}.{name}({argument})"
                    for argument, found in field.args.items()
                    if not found.description
                ]
        assert missing == []

    def test_mutations_take_an_input_and_give_a_payload_with_user_errors(self) -> None:
        mutation = SCHEMA.mutation_type
        assert mutation is not None
        for name, field in mutation.fields.items():
            title = name[0].upper() + name[1:]
            assert {argument: str(found.type) for argument, found in field.args.items()} == {
                "input": f"{title}Input!"
            }
            assert str(field.type) == f"{title}Payload!"
            payload = SCHEMA.type_map[f"{title}Payload"]
            assert isinstance(payload, GraphQLObjectType)
            assert str(payload.fields["userErrors"].type) == "[UserError!]!"
            for other, found in payload.fields.items():
                assert other == "userErrors" or not isinstance(found.type, GraphQLNonNull), (
                    f"{title}Payload.{other}"
                )

    def test_connections_follow_relay(self) -> None:
        connections = [named for named in objects() if named.name.endswith("Connection")]
        assert len(connections) >= 12
        for connection in connections:
            item = connection.name.removesuffix("Connection")
            assert str(connection.fields["pageInfo"].type) == "PageInfo!"
            assert str(connection.fields["edges"].type) == f"[{item}Edge!]!"
            assert str(connection.fields["nodes"].type) == f"[{item}!]!"
        for named in objects():
            for name, field in named.fields.items():
                if str(field.type).rstrip("!").endswith("Connection"):
                    arguments = {argument: str(found.type) for argument, found in field.args.items()}
                    paging = {"first": "Int", "after": "String", "last": "Int", "before": "String"}
                    # Filters may stand beside them.
                    assert paging.items() <= arguments.items(), f"{named.name}.{name}"

    def test_lists_that_can_grow_are_connections(self) -> None:
        """A plain list of objects is short by nature; each is named here."""
        short = {
            "Organization.budgets", "Project.budgets", "Model.aliases", "RollBackModelAliasPayload.aliases", "ApiKey.budgets", "Hardware.gpus", "Request.attempts", "Request.usageParts", "RefundRequestPayload.refunds", "TokenLogprob.top", "ChatCompletion.logprobs",
            "ChatCompletionChunk.logprobs", "ChatCompletionChunk.resumed", "TrialBalance.rows", "Deposit.refunds", "Deposit.disputes", "TrialBalance.drifts", "Query.nodes",
            "Organization.usageByDay", "Organization.usageByHour", "Provider.earningsByDay", "Query.marketUsageByDay",
            "UsageSummary.byProject", "UsageSummary.byApiKey", "UsageSummary.byModel", "UsageSummary.byProvider",
            "Model.currentPrices", "Model.lowestUnitPrices", "Offer.unitAsks", "Offer.floors", "Offer.windows", "OfferPlacement.hours", "ModelPlacement.misfits", "OfferPrice.prices", "OfferWindow.asks",
            "RateCard.prices", "LiveEndpoint.unitPrices", "EndpointQuote.lines", "OfferPlace.gpus", "Query.featureSwitches", "FlagUsagePayload.flags", "UsageSeries.lines", "UsageLine.points", "EarningsSeries.lines", "EarningsLine.points", "OfferPlace.prices", "UsageRecord.lines",
            "EmbeddingBatch.embeddings", "RetainedExchange.messages", "LedgerHealth.checks", "ReverseTransfersPayload.transfers",
            "CallingKey.budgets", "Query.loginProviders", "CallingKey.usageByDay",
            "UsageTick.lines", "UsageTick.added", "NodesTick.nodes", "PayoutWallet.sharedWith", "UsdcTopUp.deposits", "TreasuryDeposit.sources",
            "PayoutBatch.approvals", "PayoutItem.outliers", "PayoutPart.attempts", "PayoutPolicy.holdbackBands",
            "ChainState.endpoints", "ImageGeneration.images", "Pool.drift",
            "Query.benchmarkRules", "Query.knownGpus", "Benchmark.checks", "Gpu.slices", "MachineTelemetry.gpus",
            "ProviderNode.telemetryHours",
        }  # fmt: skip
        found = set()
        for named in objects():
            if named.name.endswith("Connection"):
                continue
            for name, field in named.fields.items():
                match = re.fullmatch(r"\[(\w+)!?\]!?", str(field.type))
                is_object = match and isinstance(
                    SCHEMA.type_map[match[1]], GraphQLObjectType | GraphQLInterfaceType
                )
                if is_object and name != "userErrors":
                    found.add(f"{named.name}.{name}")
        assert found == short

    def test_money_never_travels_as_a_float(self) -> None:
        floats = {
            f"{named.name}.{name}"
            for named in our_types()
            if isinstance(named, GraphQLObjectType | GraphQLInputObjectType)
            for name, field in named.fields.items()
            if str(field.type).rstrip("!") == "Float"
        }
        assert floats == {
            "TokenLogprob.logprob", "ChatCompletionInput.temperature", "ChatCompletionInput.topP",
            "CreateChatCompletionInput.temperature", "CreateChatCompletionInput.topP",
            "ServiceStatistics.successRate", "ServiceStatistics.tokensPerSecondP50", "ServiceStatistics.tokensPerSecondP95",
            "LiveFigures.firstTokenMs", "LiveFigures.interTokenMs", "LiveFigures.tokensPerSecond", "LiveFigures.errorRate",
            "LiveFigures.observations", "RouteChoice.score", "Percentiles.p50", "Percentiles.p75", "Percentiles.p90",
            "Percentiles.p99",
            "LiveEndpoint.uptime", "OfferPlace.uptime", "ProviderNode.uptime",
            "BenchmarkCheck.value", "BenchmarkCheck.limit", "BenchmarkRule.least", "BenchmarkRule.most",
            "BenchmarkRule.shareOfModel", "KnownGpu.tensorTflops", "KnownGpu.bandwidthGbS", "GpuTelemetry.temperatureC",
            "GpuTelemetry.utilisationPercent", "GpuTelemetry.powerW", "MachineTelemetry.cpuPercent",
            "MachineHour.utilisationPercent", "MachineHour.utilisationPercentMax", "MachineHour.temperatureCMax",
            "MachineHour.powerW",
            "ImageGenerationInput.guidance", "ImageGenerationInput.strength", "CreateImageInput.guidance",
            "ProviderPreferenceInput.firstTokenMsMaxPreferred", "ProviderPreferenceInput.tokensPerSecondMinPreferred",
            "PercentileLimitsInput.p50", "PercentileLimitsInput.p75", "PercentileLimitsInput.p90", "PercentileLimitsInput.p99",
            "CreateImageInput.strength", "LoraInput.weight", "ControlInput.weight", "ControlInput.start", "ControlInput.end",
        }  # fmt: skip


class TestUserError:
    def test_every_expected_failure_has_a_code_of_its_own(self) -> None:
        """A new DomainError must be named in UserErrorCode, or its users could not branch on it."""
        kinds = [DomainError]
        for kind in kinds:
            kinds += kind.__subclasses__()
        ours = {kind.code for kind in kinds[1:] if kind.__module__ == "raymart_core.errors"}
        assert ours <= {code.value for code in UserErrorCode}

    def test_param_becomes_the_path_of_the_inputs_field(self) -> None:
        assert UserError.of(DomainError("x", param="max_tokens")).field == ["input", "maxTokens"]
        assert UserError.of(DomainError("x", param="messages[0].content")).field == [
            "input",
            "messages",
            "0",
            "content",
        ]
        assert UserError.of(DomainError("x")).field is None
