"""What an answer is held to, as xgrammar's structural tags.

Everything is a structural tag, also a plain JSON schema, because only there can white space be bounded: by default
xgrammar lets a model write blanks for ever between two names, and small models do (facts: engines, section 2). One
blank, as in `{"a": 1, "b": 2}`, is what models are trained to write.
"""

import json
from collections.abc import Mapping
from typing import cast

import msgspec

from raymart_core.wire.replica import ResponseFormat, Tool
from raymart_serve.engines.protocol import RequestRefused

WHITESPACE_MAX = 1
"""Blanks in a row between the parts of a JSON document."""
SCHEMA_BYTES_MAX = 64 * 1024
SCHEMA_DEPTH_MAX = 64

Json = dict[str, object] | list[object] | str | int | float | bool | None


def format_tag(response_format: ResponseFormat) -> str:
    """The structural tag of a response format, as JSON. Raises: RequestRefused naming response_format."""
    schema: Json = {"type": "object"}
    if response_format.type == "json_schema":
        schema = read_schema(response_format.schema, param="response_format")
    return bounded({"type": "structural_tag", "format": {"type": "json_schema", "json_schema": schema}})


def read_schema(raw: msgspec.Raw, *, param: str) -> dict[str, object]:
    """A JSON schema that is an object of bounded size and depth. Raises: RequestRefused naming `param`."""
    if len(bytes(raw)) > SCHEMA_BYTES_MAX:
        raise RequestRefused(
            f"a schema of {len(bytes(raw))} bytes is too large; at most {SCHEMA_BYTES_MAX} are taken",
            param=param,
        )
    try:
        schema = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestRefused(f"the schema cannot be read: {error}", param=param) from error
    if not isinstance(schema, dict):
        raise RequestRefused("the schema must be a JSON object", param=param)
    if _deeper_than(schema, SCHEMA_DEPTH_MAX):
        raise RequestRefused(f"the schema is nested more than {SCHEMA_DEPTH_MAX} levels deep", param=param)
    return cast("dict[str, object]", schema)


def tool_document(tool: Tool) -> dict[str, object]:
    """A tool as OpenAI writes it. Raises: RequestRefused naming tools."""
    parameters = read_schema(tool.parameters, param="tools")
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def bounded(tag: Mapping[str, object]) -> str:
    """The structural tag as JSON, white space bounded in each schema that it holds."""
    return json.dumps(_bounded(cast("Json", dict(tag))))


def _bounded(node: Json) -> Json:
    if isinstance(node, list):
        return [_bounded(cast("Json", part)) for part in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") == "json_schema" and "json_schema" in node:
        # Below is the customer's schema, which may well have names like these.
        return {**node, "max_whitespace_cnt": WHITESPACE_MAX}
    return {name: _bounded(cast("Json", part)) for name, part in node.items()}


def _deeper_than(document: object, limit: int) -> bool:
    level = [document]
    for _ in range(limit):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
