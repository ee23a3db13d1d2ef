"""Tools, tool calls and formats of a body: what an engine is asked for, what is refused, and how long a prompt may get."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.errors import InvalidRequest
from raymart_core.wire.replica import ChatMessage, GenerationOptions, ResponseFormat, Tool, ToolCall
from raymart_marketplace.gateway.openai_chat import parse_chat
from raymart_marketplace.gateway.openai_tools import (
    SCHEMA_BYTES_MAX,
    SCHEMA_DEPTH_MAX,
    TOOLS_MAX,
    written_bytes,
)
from raymart_marketplace.gateway.quote import needs_of
from raymart_marketplace.gateway.request import ChatRequest

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "of a city", "parameters": CITY},
}


def parse(**changes: object) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **changes}
    return parse_chat(json.dumps(body).encode()).request


def options(**changes: object) -> GenerationOptions:
    return parse(**changes).options


def named(name: str, **function: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, **function}}


def nested(depth: int) -> dict[str, object]:
    document: dict[str, object] = {}
    for _ in range(depth - 1):
        document = {"a": document}
    return document


def called(arguments: str = "{}", **changes: object) -> dict[str, object]:
    call = {"id": "call-1", "type": "function", "function": {"name": "f", "arguments": arguments}, **changes}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


class TestGoodOptions:
    def test_a_chat_that_asks_for_nothing_wants_reasoning_apart_and_no_more(self):
        assert options() == GenerationOptions(reasoning=True)

    def test_tools_arrive_as_they_were_written(self):
        (tool,) = options(tools=[WEATHER]).tools
        assert (tool.name, tool.description) == ("get_weather", "of a city")
        assert msgspec.json.decode(tool.parameters) == CITY

    @pytest.mark.parametrize("parameters", [{}, {"parameters": None}, {"parameters": {}}])
    def test_a_tool_may_take_nothing(self, parameters: dict[str, object]):
        assert options(tools=[named("ping", **parameters)]).tools == (Tool(name="ping"),)

    @pytest.mark.parametrize(
        ("choice", "read"),
        [
            (None, ("auto", None)),
            ("auto", ("auto", None)),
            ("none", ("none", None)),
            ("required", ("required", None)),
            ({"type": "function", "function": {"name": "get_weather"}}, ("required", "get_weather")),
        ],
    )
    def test_choice_says_whether_and_which(self, choice: object, read: tuple[str, str | None]):
        asked = options(tools=[WEATHER], tool_choice=choice)
        assert (asked.tool_choice, asked.tool_name) == read

    @pytest.mark.parametrize(
        ("given_format", "read"),
        [
            ({"type": "text"}, None),
            ({"type": "json_object"}, ResponseFormat(type="json_object")),
            (
                {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": {"type": "object"}},
                },
                ResponseFormat(type="json_schema", schema=msgspec.Raw(b'{"type": "object"}')),
            ),
        ],
    )
    def test_format_arrives(self, given_format: object, read: ResponseFormat | None):
        assert options(response_format=given_format).response_format == read

    def test_calls_and_their_results_stay_in_the_conversation(self):
        messages = parse(
            messages=[
                {"role": "user", "content": "weather?"},
                called('{"city": "Oslo"}'),
                {"role": "tool", "content": "sunny", "tool_call_id": "call-1"},
            ]
        ).messages
        call = ToolCall(id="call-1", name="f", arguments='{"city": "Oslo"}')
        assert messages[1] == ChatMessage(role="assistant", content="", tool_calls=(call,))
        assert messages[2] == ChatMessage(role="tool", content="sunny", tool_call_id="call-1")


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"tools": [{"type": "web_search"}]}, "tools[0]"),
            ({"tools": [{"type": "function"}]}, "tools[0]"),
            ({"tools": [named("")]}, "tools[0].function.name"),
            ({"tools": [named("a b")]}, "tools[0].function.name"),
            ({"tools": [named("x" * 65)]}, "tools[0].function.name"),
            ({"tools": [named("f", description="\ud800")]}, None),
            ({"tools": [named("f", parameters=[])]}, "tools[0].function.parameters"),
            ({"tools": [named("f", parameters={"a": "\udfff"})]}, None),
            ({"tools": [named("f", parameters={"a": "x" * SCHEMA_BYTES_MAX})]}, "tools[0].function.parameters"),
            ({"tools": [named("f", parameters=nested(SCHEMA_DEPTH_MAX + 1))]}, "tools[0].function.parameters"),
            ({"tools": [named("f"), named("f")]}, "tools"),
            ({"tools": [named(f"f{n}") for n in range(TOOLS_MAX + 1)]}, "tools"),
            ({"tools": [WEATHER], "tool_choice": "some"}, "tool_choice"),
            ({"tools": [WEATHER], "tool_choice": named("other")}, "tool_choice"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"tool_choice": named("f")}, "tool_choice"),
            ({"response_format": {"type": "yaml"}}, "response_format.type"),
            ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
            ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
            ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, "response_format.json_schema"),
            (
                {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": True}}},
                "response_format.json_schema.schema",
            ),
            ({"messages": [called("{")]}, "messages[0].tool_calls[0].function.arguments"),
            ({"messages": [called("[]")]}, "messages[0].tool_calls[0].function.arguments"),
            ({"messages": [called(id="")]}, "messages[0].tool_calls[0].id"),
            ({"messages": [called(id="x" * 257)]}, "messages[0].tool_calls[0].id"),
            ({"messages": [called(id="é")]}, "messages[0].tool_calls[0].id"),
            ({"messages": [{**called(), "role": "user", "content": "x"}]}, "messages[0].tool_calls"),
            ({"messages": [{"role": "tool", "content": "x", "tool_call_id": ""}]}, "messages[0].tool_call_id"),
            ({"cache_salt": "mine"}, "cache_salt"),
        ],
    )  # fmt: skip
    def test_the_field_that_is_wrong_is_named(self, changes: dict[str, Any], param: str | None):
        with pytest.raises(InvalidRequest) as refused:
            parse(**changes)
        assert refused.value.param == param
        assert len(refused.value.message) < 500

    def test_a_number_that_python_would_not_write_is_no_fault_of_ours(self):
        body = (
            b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":'
            b'{"name":"f","parameters":{"a":%b}}}]}' % (b"9" * 5_000)
        )
        with pytest.raises(InvalidRequest):
            parse_chat(body)


class TestBound:
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=10,
    )

    @given(st.dictionaries(st.text(max_size=8), json_values, max_size=4))
    def test_no_way_of_writing_a_schema_is_longer(self, document: dict[str, object]):
        """Templates indent by up to four blanks, escape what is not ASCII or leave it."""
        bound = written_bytes(json.dumps(document, ensure_ascii=False).encode())
        for indent in (None, 1, 2, 4):
            for ascii_only in (True, False):
                assert len(json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()) <= bound

    def test_tools_and_calls_widen_what_the_prompt_may_have(self):
        plain = needs_of(parse()).tokens_prompt_max
        assert needs_of(parse(tools=[WEATHER])).tokens_prompt_max > plain + len(json.dumps(WEATHER, indent=4))
        without = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}]
        bare = needs_of(parse(messages=without)).tokens_prompt_max
        arguments = json.dumps({"city": "Oslo" * 50})
        spoken = needs_of(parse(messages=[without[0], called(arguments)])).tokens_prompt_max
        assert spoken > bare + len(arguments)

    def test_tools_that_must_not_be_used_are_not_shown_and_not_counted(self):
        assert needs_of(parse(tools=[WEATHER], tool_choice="none")) == needs_of(parse())
