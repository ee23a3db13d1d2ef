"""Tool calls: found in the text as it comes, however it is cut; shown to the model and forced through its own template."""

import json
from typing import Any

import msgspec
import pytest

from raymart_core.wire.replica import (
    ChatMessage,
    GenerationOptions,
    ResponseFormat,
    Sampling,
    Tool,
    ToolCall,
    ToolDelta,
)
from raymart_serve.engines.llama_cpp import LlamaCppEngine
from raymart_serve.engines.llama_cpp.tools import ToolReader
from raymart_serve.engines.protocol import GenerationStep, RequestRefused

WEATHER = Tool(
    name="get_weather",
    description="Weather of a city",
    parameters=msgspec.Raw(
        b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}'
    ),
)
TIME = msgspec.structs.replace(WEATHER, name="get_time", description="Time in a city")
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def joined(deltas: list[ToolDelta]) -> list[tuple[str, str]]:
    """Name and arguments of each call, put together as a client does it."""
    calls: list[tuple[str, str]] = []
    for delta in deltas:
        if delta.id or delta.name:
            assert delta.index == len(calls)
            assert delta.id.startswith("call_")
            calls.append((delta.name, ""))
        assert delta.index == len(calls) - 1
        calls[-1] = (calls[-1][0], calls[-1][1] + delta.arguments)
    return calls


def read(text: str, *, size: int) -> tuple[str, list[tuple[str, str]]]:
    reader = ToolReader()
    found, deltas = "", []
    for at in range(0, len(text), size):
        part, more = reader.read(text[at : at + size])
        found, deltas = found + part, deltas + list(more)
    part, more = reader.read("", last=True)
    return found + part, joined(deltas + list(more))


NESTED = '{"a": {"b": "}\\" {", "c": [1, {"d": "\\\\"}]}, "e": "</tool_call>"}'
TEXTS = [
    ("no call at all, a < b, <tool", "no call at all, a < b, <tool", []),
    (CALL, "", [("get_weather", '{"city": "Oslo"}')]),
    (f"Let me see. {CALL}", "Let me see. ", [("get_weather", '{"city": "Oslo"}')]),
    (f"{CALL}\n{CALL}\n", "", [("get_weather", '{"city": "Oslo"}')] * 2),
    (f'<tool_call>{{"name":"x","arguments":{NESTED}}}</tool_call>', "", [("x", NESTED)]),
    ('<tool_call>{"name": "caf\\u00e9 \\"q\\"", "arguments": {}}</tool_call>', "", [('café "q"', "{}")]),
    ('<tool_call>{"arguments": {"a": 1}, "name": "x"}</tool_call>', "", [("x", '{"a":1}')]),
    ('<tool_call>{"name": "x", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("x", '{"a": 1}')]),
    ('<tool_call>{"name": "x"}</tool_call>', "", [("x", "{}")]),
    ('<tool_call>{"name": "x", "arguments": {"a": 1', "", [("x", '{"a": 1')]),
    ("<tool_call>nonsense</tool_call> yes", "<tool_call>nonsense</tool_call> yes", []),
    ('<tool_call>{"name": "x", "argu', '<tool_call>{"name": "x", "argu', []),
    ("<tool_call>" + "x" * 5000, "<tool_call>" + "x" * 5000, []),
    (f"{CALL} That was it.", "That was it.", [("get_weather", '{"city": "Oslo"}')]),
]


class TestToolReader:
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
    @pytest.mark.parametrize(("text", "expected", "calls"), TEXTS)
    def test_text_and_calls_are_told_apart_wherever_it_is_cut(
        self, text: str, expected: str, calls: list[tuple[str, str]], size: int
    ) -> None:
        assert read(text, size=size) == (expected, calls)

    def test_nothing_is_delivered_while_it_is_undecided(self) -> None:
        reader = ToolReader()
        assert reader.read("Hello <tool") == ("", ())
        assert reader.undecided
        assert reader.read("box>") == ("Hello <toolbox>", ())
        assert not reader.undecided


async def steps(
    engine: LlamaCppEngine,
    ids: tuple[int, ...],
    options: GenerationOptions,
    resume: Any = (),
    **sampling: Any,
) -> list[GenerationStep]:
    values = {"max_tokens": 120, "temperature": 0.0, **sampling}
    generation = engine.generate(ids, sampling=Sampling(**values), resume_ids=resume, options=options)
    async with generation as events:
        return [event async for event in events if isinstance(event, GenerationStep)]


def said(found: list[GenerationStep]) -> str:
    return "".join(step.text for step in found)


def called(found: list[GenerationStep]) -> list[tuple[str, Any]]:
    calls = joined([delta for step in found for delta in step.tool_deltas])
    return [(name, json.loads(arguments)) for name, arguments in calls]


QUESTION = [ChatMessage(role="user", content="What is the weather in Oslo?")]
OFFERED = GenerationOptions(tools=(WEATHER, TIME))


class TestCalls:
    async def test_the_model_calls_a_tool_and_every_token_is_accounted_for(
        self, engine: LlamaCppEngine
    ) -> None:
        ids = await engine.encode_chat(QUESTION, OFFERED)
        found = await steps(engine, ids, OFFERED)
        assert said(found) == ""
        assert called(found) == [("get_weather", {"city": "Oslo"})]
        whole = await steps(engine, ids, GenerationOptions())
        assert said(whole) == CALL
        assert [t for step in found for t in step.ids] == [t for step in whole for t in step.ids]
        assert found[-1].count == whole[-1].count
        # The arguments come in pieces, not at the end.
        assert len([step for step in found if step.tool_deltas]) > 3

    async def test_an_answer_without_a_call_is_text(self, engine: LlamaCppEngine) -> None:
        ids = await engine.encode_chat([ChatMessage(role="user", content="ping")])
        assert said(await steps(engine, ids, OFFERED)) == "pong"

    async def test_the_result_of_a_call_is_read(self, engine: LlamaCppEngine) -> None:
        turns = [
            *QUESTION,
            ChatMessage(
                role="assistant",
                content="",
                tool_calls=(ToolCall(id="call_1", name="get_weather", arguments='{"city": "Oslo"}'),),
            ),
            ChatMessage(role="tool", content="sunny, 20 degrees", tool_call_id="call_1"),
        ]
        ids = await engine.encode_chat(turns, OFFERED)
        assert CALL in engine._vocabulary.text(ids)
        assert "sunny, 20 degrees" in engine._vocabulary.text(ids)

    async def test_none_shows_no_tools_and_finds_no_calls(self, engine: LlamaCppEngine) -> None:
        nothing = GenerationOptions(tools=(WEATHER,), tool_choice="none")
        assert await engine.encode_chat(QUESTION, nothing) == await engine.encode_chat(QUESTION)
        ids = await engine.encode_chat(QUESTION, OFFERED)
        assert said(await steps(engine, ids, nothing)) == CALL

    async def test_required_is_required(self, engine: LlamaCppEngine) -> None:
        """llama.cpp itself ignores it with this template (facts: engines)."""
        required = GenerationOptions(tools=(WEATHER, TIME), tool_choice="required")
        for seed in range(3):
            ids = await engine.encode_chat([ChatMessage(role="user", content="ping")], required)
            found = await steps(engine, ids, required, temperature=1.0, seed=seed, max_tokens=300)
            assert said(found) == ""
            ((name, arguments),) = called(found)
            assert name in {"get_weather", "get_time"}
            assert list(arguments) == ["city"]

    async def test_a_named_tool_is_the_one(self, engine: LlamaCppEngine) -> None:
        named = GenerationOptions(tools=(WEATHER, TIME), tool_name="get_time")
        ids = await engine.encode_chat(QUESTION, named)
        assert called(await steps(engine, ids, named)) == [("get_time", {"city": "Oslo"})]

    async def test_a_format_and_tools_are_one_or_the_other(self, engine: LlamaCppEngine) -> None:
        either = msgspec.structs.replace(OFFERED, response_format=ResponseFormat(type="json_object"))
        ids = await engine.encode_chat(QUESTION, either)
        assert called(await steps(engine, ids, either)) == [("get_weather", {"city": "Oslo"})]
        asked = [ChatMessage(role="user", content="Return JSON with name and age for Ada, 36.")]
        found = await steps(engine, await engine.encode_chat(asked), either)
        assert json.loads(said(found))["name"] == "Ada"

    async def test_going_on_inside_the_arguments_gives_the_rest_of_the_call(
        self, engine: LlamaCppEngine
    ) -> None:
        ids = await engine.encode_chat(QUESTION, OFFERED)
        whole = await steps(engine, ids, OFFERED)
        for at in range(1, len(whole)):
            before = whole[:at]
            resume = [token for step in before for token in step.ids]
            rest = await steps(engine, ids, OFFERED, resume)
            assert called([*before, *rest]) == [("get_weather", {"city": "Oslo"})]

    @pytest.mark.parametrize(
        ("options", "param"),
        [
            (GenerationOptions(tools=(WEATHER,), tool_name="nobody"), "tool_choice"),
            (
                GenerationOptions(
                    tools=(msgspec.structs.replace(WEATHER, parameters=msgspec.Raw(b'{"type":7}')),),
                    tool_choice="required",
                ),
                "tools",
            ),
            (
                GenerationOptions(tools=(msgspec.structs.replace(WEATHER, parameters=msgspec.Raw(b"[]")),)),
                "tools",
            ),
        ],
    )
    async def test_broken_tools_are_refused(
        self, engine: LlamaCppEngine, options: GenerationOptions, param: str
    ) -> None:
        with pytest.raises(RequestRefused) as refused:
            await steps(engine, await engine.encode_chat(QUESTION, options), options)
        assert refused.value.param == param

    async def test_a_template_without_tools_ignores_what_may_and_refuses_what_must_be_called(
        self, engine: LlamaCppEngine
    ) -> None:
        engine._calls_tools = False
        ids = await engine.encode_chat(QUESTION, OFFERED)
        assert ids == await engine.encode_chat(QUESTION)
        assert not any(step.tool_deltas for step in await steps(engine, ids, OFFERED))
        for must in ({"tool_choice": "required"}, {"tool_name": "get_time"}):
            with pytest.raises(RequestRefused) as refused:
                await steps(engine, ids, msgspec.structs.replace(OFFERED, **must))
            assert refused.value.param == "tool_choice"
