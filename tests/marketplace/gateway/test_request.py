"""Whatever bytes arrive, the answer is a request or a 400 that names the field."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.errors import InvalidRequest
from raymart_core.wire.replica import ChatMessage
from raymart_marketplace.gateway.choices import Asked
from raymart_marketplace.gateway.openai_body import ENGINE_FIELDS
from raymart_marketplace.gateway.openai_chat import parse_chat
from raymart_marketplace.gateway.quote import needs_of
from raymart_marketplace.gateway.request import ChatRequest, Sampling
from raymart_marketplace.routing.preference import NO_PREFERENCE, RoutingPreference, Sort
from raymart_marketplace.supply.pace import at_least, at_most
from raymart_marketplace.supply.trust import DataPolicy, Trust

WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def body(**changes: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **changes}).encode()


def parse(**changes: object) -> Asked:
    return parse_chat(body(**changes))


class TestGoodBodies:
    def test_defaults_are_openais(self):
        parsed = parse()
        assert (parsed.stream, parsed.include_usage) == (False, False)
        assert parsed.request.sampling == Sampling()
        assert parsed.request.sampling.max_tokens is None
        assert parsed.request.routing is NO_PREFERENCE

    def test_null_means_not_set(self):
        names = [
            "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stop", "seed",
            "logprobs", "top_logprobs", "response_format", "provider", "tools", "user",
        ]  # fmt: skip
        assert parse(**dict.fromkeys(names)) == parse()

    def test_every_served_field_arrives(self):
        sampling = parse(
            max_tokens=9, temperature=0, top_p=0.5, seed=7, stop=["a", "b"], logprobs=True, top_logprobs=3
        ).request.sampling
        assert sampling == Sampling(
            max_tokens=9, temperature=0.0, top_p=0.5, seed=7, stop=("a", "b"), top_logprobs=3
        )

    def test_the_smaller_of_both_limits_counts(self):
        assert parse(max_tokens=5, max_completion_tokens=9).request.sampling.max_tokens == 5
        assert parse(max_completion_tokens=9).request.sampling.max_tokens == 9

    def test_content_may_come_in_text_parts(self):
        content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        message = parse(messages=[{"role": "user", "content": content}]).request.messages[0]
        assert message.content == "a\nb"

    def test_developer_is_the_system_and_silent_assistants_are_empty(self):
        messages = parse(
            messages=[
                {"role": "developer", "content": "be brief"},
                {"role": "assistant", "content": None},
                {"role": "user", "content": "42"},
            ]
        ).request.messages
        assert messages == (
            ChatMessage(role="system", content="be brief"),
            ChatMessage(role="assistant", content=""),
            ChatMessage(role="user", content="42"),
        )

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("tools", []),
            ("tool_choice", "auto"),
            ("frequency_penalty", 0.5),
            ("logit_bias", {"50256": -100}),
            ("metadata", {"a": "b"}),
            ("user", "u"),
            ("store", True),
            ("reasoning_effort", "low"),
            ("response_format", {"type": "text"}),
            ("n", 1),
            ("top_k", 40),
            ("transforms", []),
            ("usage", {"include": True}),
        ],
    )
    def test_documented_fields_that_change_nothing_are_no_error(self, field, value):
        assert parse(**{field: value}) == parse()

    def test_seeds_are_64_bits_for_customers_and_32_for_engines(self):
        assert parse(seed=-1).request.sampling.engine_seed == 0xFFFF_FFFF
        assert parse(seed=2**40 + 5).request.sampling.engine_seed == 5


class TestRouting:
    def test_openrouters_object_is_read(self):
        routing = parse(
            provider={
                "order": ["a", "b"], "only": ["a", "b", "c"], "ignore": ["d"], "allow_fallbacks": False,
                "sort": "throughput", "max_price": {"prompt": 0.1, "completion": "2.5", "request": 0},
                "preferred_max_latency": {"p90": 2}, "data_collection": "allow", "require_parameters": False,
            }
        ).request.routing  # fmt: skip
        assert routing.order == ("a", "b")
        assert routing.only == ("a", "b", "c")
        assert routing.ignore == ("d",)
        assert not routing.allow_fallbacks
        assert routing.sort is Sort.THROUGHPUT
        # USD per million tokens is a thousand nano-USD per token, exactly.
        assert (routing.prompt_nano_usd_max, routing.completion_nano_usd_max) == (100, 2500)

    @pytest.mark.parametrize(
        ("provider", "wish"),
        [
            ({"data_collection": "deny"}, RoutingPreference(data_policy=DataPolicy.NO_RETENTION)),
            ({"zdr": True}, RoutingPreference(data_policy=DataPolicy.NO_RETENTION)),
            ({"quantizations": ["fp8"]}, RoutingPreference(quantizations=("fp8",))),
            ({"regions": ["eu"]}, RoutingPreference(regions=("eu",))),
            ({"trust": "verified"}, RoutingPreference(trust=Trust.VERIFIED)),
            ({"sort": "round_robin"}, RoutingPreference(sort=Sort.ROUND_ROBIN)),
            ({"sort": {"by": "latency", "partition": "model"}}, RoutingPreference(sort=Sort.LATENCY)),
            ({"region": "eu"}, RoutingPreference(regions=("eu",))),
            ({"region": ["eu", "us"]}, RoutingPreference(regions=("eu", "us"))),
            ({"min_trust": "verified"}, RoutingPreference(trust=Trust.VERIFIED)),
            ({"max_price": {"request": "0.001"}}, RoutingPreference(request_nano_usd_max=1_000_000)),
            ({"max_price": {"image": 0.02}}, RoutingPreference(image_nano_usd_max=20_000_000)),
            (
                {"preferred_min_throughput": 40},
                RoutingPreference(tokens_per_s_min_preferred=at_least(p50=40.0)),
            ),
            (
                {"preferred_max_latency": {"p90": 2, "p50": 1.5}},
                RoutingPreference(first_token_ms_max_preferred=at_most(p50=1500.0, p90=2000.0)),
            ),
            (
                {"preferred_min_throughput": {"p99": 3}},
                RoutingPreference(tokens_per_s_min_preferred=at_least(p99=3.0)),
            ),
            ({"preferred_max_latency": {}}, NO_PREFERENCE),
            ({"require_parameters": True}, NO_PREFERENCE),
            ({"hedge": True}, RoutingPreference(hedge=True)),
            ({"hedge": False}, NO_PREFERENCE),
        ],
    )
    def test_conditions_of_who_may_serve(self, provider, wish):
        assert parse(provider=provider).request.routing == wish

    def test_what_is_required_is_what_the_body_asks_for(self):
        body = {"seed": 7, "stop": "x", "tools": [WEATHER], "provider": {"require_parameters": True}}
        assert parse(**body).request.routing.capabilities == ("seed", "stop", "tools")
        body["provider"] = {"require_parameters": False}
        assert parse(**body).request.routing == NO_PREFERENCE

    @pytest.mark.parametrize(
        ("field", "value"), [("frequency_penalty", 0.5), ("logit_bias", {"5": -100}), ("top_k", 40)]
    )
    def test_a_parameter_that_nobody_applies_can_be_ignored_and_not_required(self, field, value):
        assert parse(**{field: value}) == parse()
        with pytest.raises(InvalidRequest) as caught:
            parse(**{field: value}, provider={"require_parameters": True})
        assert caught.value.param == field
        assert (
            parse(frequency_penalty=0, provider={"require_parameters": True}).request.routing == NO_PREFERENCE
        )

    @pytest.mark.parametrize(
        ("model", "slug", "revision", "sort"),
        [
            ("a/b:floor", "a/b", None, Sort.PRICE),
            ("a/b:nitro@stable", "a/b", "stable", Sort.THROUGHPUT),
            ("a/b", "a/b", None, None),
            ("a/b:free", "a/b:free", None, None),
        ],
    )
    def test_a_suffix_of_the_model_sorts(self, model, slug, revision, sort):
        request = parse(model=model).request
        assert (request.reference.slug, request.reference.revision) == (slug, revision)
        assert (request.model, request.routing.sort) == (model, sort)

    def test_a_sort_that_is_given_counts_before_the_suffix(self):
        assert parse(model="m:floor", provider={"sort": "latency"}).request.routing.sort is Sort.LATENCY

    def test_an_empty_object_wishes_nothing(self):
        assert parse(provider={}).request.routing == NO_PREFERENCE

    @pytest.mark.parametrize(
        ("provider", "param"),
        [
            ({"sort": "vibes"}, "provider.sort"),
            ({"order": "a"}, "provider.order"),
            ({"order": ["a"] * 101}, "provider.order"),
            ({"max_price": {"prompt": -1}}, "provider.max_price.prompt"),
            ({"max_price": {"completion": "NaN"}}, "provider.max_price.completion"),
            ({"max_price": {"completion": "1e999999"}}, "provider.max_price.completion"),
            ({"max_price": {"completion": "cheap"}}, "provider.max_price.completion"),
            ({"data_collection": "never"}, "provider.data_collection"),
            ({"quantizations": ["fp8"] * 101}, "provider.quantizations"),
            ({"regions": ["eu"] * 101}, "provider.regions"),
            ({"trust": "blind"}, "provider.trust"),
            ({"enforce_distillable_text": True}, "provider.enforce_distillable_text"),
            ({"sort": {"by": "vibes"}}, "provider.sort"),
            ({"sort": {"by": "price", "partition": "none"}}, "provider.sort.partition"),
            ({"sort": {"by": "price", "upside": "down"}}, "provider.sort.upside"),
            ({"min_trust": "blind"}, "provider.min_trust"),
            ({"region": 5}, "provider.region"),
            ({"max_price": {"request": -1}}, "provider.max_price.request"),
            ({"max_price": {"image": "NaN"}}, "provider.max_price.image"),
            ({"preferred_min_throughput": -1}, "provider.preferred_min_throughput"),
            ({"preferred_min_throughput": {"p50": 1, "p99": -1}}, "provider.preferred_min_throughput"),
            ({"preferred_max_latency": {"p42": 1}}, "provider.preferred_max_latency.p42"),
            ({"preferred_max_latency": "soon"}, "provider.preferred_max_latency"),
            ({"ordr": ["a"]}, "provider.ordr"),
        ],
    )  # fmt: skip
    def test_a_wish_that_cannot_be_kept_is_refused_by_name(self, provider, param):
        with pytest.raises(InvalidRequest) as caught:
            parse(provider=provider)
        assert caught.value.param == param


class TestBadBodies:
    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"model": 5}, "model"),
            ({"model": ""}, "model"),
            ({"model": "m" * 257}, "model"),
            ({"messages": []}, "messages"),
            ({"messages": "hi"}, "messages"),
            ({"messages": [{"content": "hi"}]}, "messages[0].role"),
            ({"messages": [{"role": "king", "content": "hi"}]}, "messages[0].role"),
            ({"messages": [{"role": "user"}]}, "messages[0].content"),
            ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
            ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
            ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": [5]}]}, "messages[1].content[0]"),
            ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages[0].content[0]"),
            ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0]"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_tokens": -5}, "max_tokens"),
            ({"max_tokens": 2**31}, "max_tokens"),
            ({"max_tokens": 1.5}, "max_tokens"),
            ({"max_tokens": "5"}, "max_tokens"),
            ({"max_completion_tokens": True}, "max_completion_tokens"),
            ({"temperature": -0.1}, "temperature"),
            ({"temperature": 2.1}, "temperature"),
            ({"temperature": "hot"}, "temperature"),
            ({"top_p": 0}, "top_p"),
            ({"top_p": 1.01}, "top_p"),
            ({"seed": 2**63}, "seed"),
            ({"n": 9}, "n"),
            ({"n": 0}, "n"),
            ({"stop": ["a"] * 5}, "stop"),
            ({"stop": ""}, "stop"),
            ({"stop": ["x" * 1001]}, "stop"),
            ({"stop": [5]}, "stop[0]"),
            ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
            ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
            ({"top_logprobs": 2}, "top_logprobs"),
            ({"stream": "yes"}, "stream"),
            ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
            ({"max_token": 5}, "max_token"),
        ],
    )  # fmt: skip
    def test_the_field_that_is_wrong_is_named(self, changes, param):
        with pytest.raises(InvalidRequest) as caught:
            parse(**changes)
        assert caught.value.param == param
        assert len(caught.value.message) < 500

    def test_a_typo_is_told_apart_from_a_habit(self):
        with pytest.raises(InvalidRequest, match="did you mean 'max_tokens'"):
            parse(max_token=5)

    @pytest.mark.parametrize("field", sorted(ENGINE_FIELDS))
    def test_engine_fields_are_refused_by_name(self, field):
        with pytest.raises(InvalidRequest, match="engine's own field") as caught:
            parse(**{field: {}})
        assert caught.value.param == field

    @pytest.mark.parametrize(
        "raw",
        [
            b"", b"{", b"null", b"[]", b"5", b'"x"', b"\xff\xfe", b'{"model":"\xff"}', b'{"model":"m","messages":[],}',
            b'{"model":"m"}', b"[" * 200_000, b'{"tools":' + b"[" * 200_000, b'{"messages":' + b'[{"content":' * 50_000,
            b'{"max_tokens":' + b"9" * 5_000 + b"}", b'{"temperature":' + b"9" * 5_000 + b"}",
            b'{"temperature":NaN}', b'{"temperature":Infinity}', b'{"temperature":1e999}', b'{"user":NaN}',
            b'{"model":"\\ud800","messages":[{"role":"user","content":"x"}]}',
            b'{"model":"m","messages":[{"role":"user","content":"\\udfff x"}]}',
            b'{"provider":{"max_price":{"prompt":' + b"9" * 5_000 + b"}}}",
            '{"model":"m"}'.encode("utf-16"), body() + b"x",
        ],
    )  # fmt: skip
    def test_bytes_that_are_no_request_are_400(self, raw):
        with pytest.raises(InvalidRequest):
            parse_chat(raw)

    @given(st.binary(max_size=200))
    def test_random_bytes_are_400(self, raw):
        with pytest.raises(InvalidRequest):
            parse_chat(raw)

    json_values = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    )
    fields = st.sampled_from(
        [
            "model",
            "messages",
            "stream",
            "stop",
            "temperature",
            "provider",
            "tools",
            "tool_choice",
            "response_format",
            "n",
            "seed",
            "max_tokens",
            "zzz",
        ]
    )

    @given(st.dictionaries(fields, json_values, max_size=4))
    def test_any_json_is_a_request_or_400(self, changes):
        with contextlib.suppress(InvalidRequest):
            assert parse(**changes).request.messages


class TestOtherSurfaces:
    def test_text_that_utf8_cannot_carry_is_refused(self):
        with pytest.raises(InvalidRequest) as caught:
            ChatRequest(model="m", messages=(ChatMessage(role="user", content="a\ud800"),))
        assert caught.value.param == "messages[0].content"

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
    def test_numbers_that_json_cannot_carry_are_refused(self, value):
        with pytest.raises(InvalidRequest):
            Sampling(temperature=value)


class TestBound:
    @given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
    def test_a_prompt_is_bounded_by_its_bytes_and_the_template(self, contents):
        contents = [content.encode("utf-8", "replace").decode() for content in contents]
        messages = tuple(ChatMessage(role="user", content=content) for content in contents)
        needs = needs_of(ChatRequest(model="m", messages=messages))
        assert (
            needs.tokens_prompt_max
            == sum(len(content.encode()) for content in contents) + 16 * len(messages) + 32
        )
        assert needs.tokens_min == len(messages) + 1

    def test_of_a_prompt_in_tokens_all_are_known(self):
        needs = needs_of(
            ChatRequest(model="m", prompt_ids=tuple(range(500)), sampling=Sampling(max_tokens=7))
        )
        assert needs.tokens_min == 507
        assert needs.tokens_prompt_max >= 500

    def test_a_prompt_is_a_conversation_of_one_turn_to_whoever_looks_at_turns(self):
        assert ChatRequest(model="m", prompt="once").turns == (ChatMessage(role="user", content="once"),)
        assert ChatRequest(model="m", prompt_ids=(5, 6)).turns == (ChatMessage(role="user", content="5 6"),)
