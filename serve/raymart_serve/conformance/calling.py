"""Checks of tool calls."""

from collections.abc import Sequence

import msgspec

from raymart_core.wire.replica import ChatMessage, GenerationOptions, Tool, ToolDelta
from raymart_serve.conformance.checks import Nonconformance, check, require
from raymart_serve.conformance.generations import generated, greedy
from raymart_serve.conformance.rig import Rig
from raymart_serve.engines.protocol import RequestRefused

_WEATHER = Tool(
    name="get_weather",
    description="Weather of a city",
    parameters=msgspec.Raw(
        b'{"type":"object","properties":{"city":{"type":"string","maxLength":40}},"required":["city"],'
        b'"additionalProperties":false}'
    ),
)
_QUESTION = (ChatMessage(role="user", content="What is the weather in Oslo?"),)


@check
async def a_required_tool_is_called(rig: Rig) -> None:
    """A required tool is called with arguments of its schema, apart from the text; an engine that cannot says so."""
    options = GenerationOptions(tools=(_WEATHER,), tool_choice="required")
    if not rig.subject.tools:
        await _require_refused(rig, options)
        return
    ids = await rig.generates.encode_chat(_QUESTION, options)
    whole = await generated(rig, ids, greedy(max_tokens=200), options=options)
    calls = _calls([delta for step in whole.steps for delta in step.tool_deltas])
    require(calls, f"no tool was called; the text is {whole.text!r}")
    for name, arguments in calls:
        fits = isinstance(arguments, dict) and arguments.keys() == {"city"}
        require(name == "get_weather" and fits, f"{name!r} was called with {arguments!r}")
    markup = [mark for mark in ("get_weather", "tool_call", "{") if mark in whole.text]
    require(not markup, f"what belongs to the call is in the text too: {whole.text!r}")


@check
async def tools_that_must_not_be_called_are_not(rig: Rig) -> None:
    """With `tool_choice` "none" there are no calls, and offered tools leave an answer that needs none as it is."""
    ids = await rig.ask(rig.subject.question)
    plain = await generated(rig, ids, greedy())
    for choice in ("none", "auto"):
        options = GenerationOptions(tools=(_WEATHER,), tool_choice=choice)
        whole = await generated(rig, ids, greedy(), options=options)
        require(not any(step.tool_deltas for step in whole.steps), f"with {choice!r} a tool was called")
        require(whole.text == plain.text, f"with {choice!r} it answered {whole.text!r}, else {plain.text!r}")


def _calls(deltas: Sequence[ToolDelta]) -> list[tuple[str, object]]:
    """Names and arguments, put together as a client does. Raises: Nonconformance."""
    calls: dict[int, ToolDelta] = {}
    for delta in deltas:
        begun = calls.get(delta.index)
        if begun is None:
            require(delta.id and delta.name, f"a call must begin with id and name, not {delta}")
            require(
                delta.index == len(calls),
                f"calls are counted from 0; {delta.index} is the next of {len(calls)}",
            )
            calls[delta.index] = delta
        else:
            arguments = begun.arguments + delta.arguments
            calls[delta.index] = msgspec.structs.replace(begun, arguments=arguments)
    require(len({call.id for call in calls.values()}) == len(calls), "two calls have one id")
    try:
        return [(call.name, msgspec.json.decode(call.arguments)) for call in calls.values()]
    except msgspec.DecodeError as error:
        raise Nonconformance(f"the arguments are no JSON ({error}): {list(calls.values())}") from error


async def _require_refused(rig: Rig, options: GenerationOptions) -> None:
    ids = await rig.ask(rig.subject.question)
    try:
        await generated(rig, ids, greedy(max_tokens=5), options=options)
    except RequestRefused as error:
        require(error.param == "tool_choice", f"the refusal must name tool_choice, not {error.param!r}")
        return
    raise Nonconformance("an engine that calls no tools must refuse a required one")


CALLING = (a_required_tool_is_called, tools_that_must_not_be_called_are_not)
