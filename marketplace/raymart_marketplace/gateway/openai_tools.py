"""OpenAI's tools, tool calls and response format: from the body to what the replica is asked for."""

import json
import re

import msgspec

from raymart_core.errors import InvalidRequest
from raymart_core.wire.replica import GenerationOptions, ResponseFormat, Tool, ToolCall
from raymart_marketplace.gateway.openai_body import (
    ChatBody,
    FunctionBody,
    MessageBody,
    NamedTool,
    ResponseFormatBody,
    ToolBody,
)

TOOLS_MAX = 128
SCHEMA_BYTES_MAX = 64 * 1024
SCHEMA_DEPTH_MAX = 64
ID_CHARACTERS_MAX = 256
TOOLS_TEMPLATE_TOKENS = 1_024
"""What a chat template may say about tools as such, once."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_TOOL_TEMPLATE_BYTES = 256
_INDENT = 4
"""Blanks a level: the widest that templates write schemas with."""
_TEXT = GenerationOptions(reasoning=True)
"""Of most requests."""


def generation_options(body: ChatBody) -> GenerationOptions:
    """What the body asks of an engine beyond sampling. Raises: InvalidRequest naming the field."""
    if not body.tools and body.tool_choice is None and body.response_format is None:
        return _TEXT
    tools = tuple(_tool(tool, param=f"tools[{place}]") for place, tool in enumerate(body.tools or ()))
    if len(tools) > TOOLS_MAX:
        raise InvalidRequest(f"{len(tools)} tools; the limit is {TOOLS_MAX}", param="tools")
    names = {tool.name for tool in tools}
    if len(names) < len(tools):
        raise InvalidRequest("two tools have the same name; each needs its own", param="tools")
    choice, name = _choice(body.tool_choice, names)
    return GenerationOptions(
        response_format=_response_format(body.response_format),
        tools=tools,
        tool_choice=choice,  # type: ignore[arg-type]  # checked there
        tool_name=name,
        reasoning=True,
    )


def tool_calls(message: MessageBody, *, param: str) -> tuple[ToolCall, ...]:
    """The calls of an assistant's turn. Raises: InvalidRequest naming the field."""
    if not message.tool_calls:
        return ()
    if message.role != "assistant":
        raise InvalidRequest(f"a {message.role} message calls no tools", param=f"{param}.tool_calls")
    if len(message.tool_calls) > TOOLS_MAX:
        count = len(message.tool_calls)
        raise InvalidRequest(f"{count} tool calls; the limit is {TOOLS_MAX}", param=f"{param}.tool_calls")
    calls = []
    for place, call in enumerate(message.tool_calls):
        where = f"{param}.tool_calls[{place}]"
        _check_name(call.function.name, param=f"{where}.function.name")
        check_call_id(call.id, param=f"{where}.id")
        # Templates write arguments as an object, and some fail on anything else.
        _document(call.function.arguments.encode(), param=f"{where}.function.arguments")
        calls.append(ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments))
    return tuple(calls)


def check_call_id(text: str, *, param: str) -> None:
    """Refuse what cannot be a call's id. Raises: InvalidRequest."""
    if not (1 <= len(text) <= ID_CHARACTERS_MAX and text.isascii() and text.isprintable()):
        raise InvalidRequest(
            f"a call's id has 1 to {ID_CHARACTERS_MAX} printable ASCII characters", param=param
        )


def schema_document(raw: bytes, *, param: str) -> msgspec.Raw:
    """`raw` as a schema. Raises: InvalidRequest for what is no JSON object of bounded size and depth."""
    _document(raw, param=param)
    return msgspec.Raw(raw)


def options_bytes(options: GenerationOptions) -> int:
    """Upper bound of the bytes that a template writes for the tools; a byte-level tokenizer makes no more tokens."""
    if not options.tools or (options.tool_choice == "none" and options.tool_name is None):
        return 0
    return TOOLS_TEMPLATE_TOKENS + sum(
        written_bytes(bytes(tool.parameters))
        + len(tool.name)
        + written_bytes(msgspec.json.encode(tool.description))
        + _TOOL_TEMPLATE_BYTES
        for tool in options.tools
    )


def calls_bytes(calls: tuple[ToolCall, ...]) -> int:
    """The same bound of an assistant's calls in the conversation."""
    return sum(
        written_bytes(call.arguments.encode()) + len(call.name) + len(call.id) + _TOOL_TEMPLATE_BYTES
        for call in calls
    )


def written_bytes(document: bytes) -> int:
    """Bytes of a JSON document at its widest: indented, everything beyond ASCII escaped."""
    return max(len(document), len(json.dumps(msgspec.json.decode(document), indent=_INDENT)))


def _tool(body: ToolBody, *, param: str) -> Tool:
    if body.type != "function" or body.function is None:
        raise InvalidRequest(
            f"a tool of type {body.type[:40]!r} is not served; give type 'function' with its function",
            param=param,
        )
    function: FunctionBody = body.function
    _check_name(function.name, param=f"{param}.function.name")
    parameters = b"{}" if function.parameters is msgspec.UNSET else bytes(function.parameters)
    if parameters == b"null":
        parameters = b"{}"
    _document(parameters, param=f"{param}.function.parameters")
    return Tool(
        name=function.name, description=function.description or "", parameters=msgspec.Raw(parameters)
    )


def _choice(choice: str | NamedTool | None, names: set[str]) -> tuple[str, str | None]:
    if isinstance(choice, NamedTool):
        if choice.type != "function" or choice.function.name not in names:
            raise InvalidRequest(
                f"tool_choice names {choice.function.name[:64]!r}, which is none of the tools",
                param="tool_choice",
            )
        return "required", choice.function.name
    if choice is None:
        return "auto", None
    if choice not in {"auto", "none", "required"}:
        raise InvalidRequest(
            f"tool_choice {choice[:40]!r} is none of auto, none, required; or name a function",
            param="tool_choice",
        )
    if choice == "required" and not names:
        raise InvalidRequest("tool_choice 'required' needs tools", param="tool_choice")
    return choice, None


def _response_format(body: ResponseFormatBody | None) -> ResponseFormat | None:
    if body is None or body.type == "text":
        return None
    if body.type == "json_object":
        return ResponseFormat(type="json_object")
    if body.type != "json_schema":
        raise InvalidRequest(
            f"response_format {body.type[:40]!r} is none of text, json_object, json_schema",
            param="response_format.type",
        )
    if body.json_schema is None or body.json_schema.schema is msgspec.UNSET:
        raise InvalidRequest(
            "response_format of type 'json_schema' needs json_schema.schema",
            param="response_format.json_schema",
        )
    schema = schema_document(bytes(body.json_schema.schema), param="response_format.json_schema.schema")
    return ResponseFormat(type="json_schema", schema=schema)


def _check_name(name: str, *, param: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(
            f"the name {name[:64]!r} is none: 1 to 64 letters, digits, underscores and dashes", param=param
        )


def _document(raw: bytes, *, param: str) -> None:
    """Refuse what is no JSON object of bounded size and depth, or cannot be written again. Raises: InvalidRequest."""
    if len(raw) > SCHEMA_BYTES_MAX:
        raise InvalidRequest(f"{param} has {len(raw)} bytes; the limit is {SCHEMA_BYTES_MAX}", param=param)
    try:
        document = msgspec.json.decode(raw)
        written_bytes(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        # ValueError: a number of thousands of digits, which Python does not write.
        raise InvalidRequest(f"{param} is no JSON that can be read", param=param) from None
    if not isinstance(document, dict):
        raise InvalidRequest(f"{param} must be a JSON object", param=param)
    level: list[object] = [document]
    for _ in range(SCHEMA_DEPTH_MAX):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise InvalidRequest(f"{param} is nested more than {SCHEMA_DEPTH_MAX} levels deep", param=param)


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
