"""Schemas are checked before an engine sees them, and no constraint lets white space grow."""

import json

import msgspec
import pytest

from raymart_core.wire.replica import ResponseFormat, Tool
from raymart_serve.engines.protocol import RequestRefused
from raymart_serve.engines.vllm.constraints import (
    SCHEMA_BYTES_MAX,
    SCHEMA_DEPTH_MAX,
    bounded,
    format_tag,
    read_schema,
    tool_document,
)


def nested(depth: int) -> msgspec.Raw:
    return msgspec.Raw(b'{"a":' * depth + b"1" + b"}" * depth)


class TestFormatTag:
    def test_any_object_is_a_schema_too(self):
        tag = json.loads(format_tag(ResponseFormat(type="json_object")))
        assert tag["format"] == {
            "type": "json_schema",
            "json_schema": {"type": "object"},
            "max_whitespace_cnt": 1,
        }

    def test_schema_is_taken_as_it_is(self):
        schema = {"type": "object", "properties": {"type": {"const": "json_schema"}}}
        asked = ResponseFormat(type="json_schema", schema=msgspec.Raw(msgspec.json.encode(schema)))
        assert json.loads(format_tag(asked))["format"]["json_schema"] == schema


class TestBounded:
    def test_every_schema_of_a_tag_is_bounded_and_none_is_changed(self):
        inner = {
            "type": "json_schema",
            "json_schema": {"properties": {"json_schema": {}}, "type": "json_schema"},
        }
        tag = {"format": {"type": "or", "elements": [inner, {"type": "tag", "content": inner}]}}
        found = json.loads(bounded(tag))
        for part in (found["format"]["elements"][0], found["format"]["elements"][1]["content"]):
            assert part == {**inner, "max_whitespace_cnt": 1}


class TestReadSchema:
    @pytest.mark.parametrize(
        ("raw", "said"),
        [
            (b"[]", "must be a JSON object"),
            (b"5", "must be a JSON object"),
            (b"{", "cannot be read"),
            (b'{"a":"\xff"}', "cannot be read"),
            (b'{"a":"%b"}' % (b"x" * SCHEMA_BYTES_MAX), "too large"),
            (bytes(nested(SCHEMA_DEPTH_MAX + 1)), "nested more than"),
            (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "cannot be read"),
        ],
        ids=["list", "number", "cut", "bad-utf8", "large", "deep", "bottomless"],
    )
    def test_what_is_no_schema_is_refused_by_name(self, raw: bytes, said: str):
        with pytest.raises(RequestRefused, match=said) as refused:
            read_schema(msgspec.Raw(raw), param="tools")
        assert refused.value.param == "tools"

    def test_deepest_that_is_taken(self):
        assert read_schema(nested(SCHEMA_DEPTH_MAX - 1), param="tools")


class TestToolDocument:
    def test_it_is_openai_s(self):
        tool = Tool(name="f", description="does", parameters=msgspec.Raw(b'{"type":"object"}'))
        function = {"name": "f", "description": "does", "parameters": {"type": "object"}}
        assert tool_document(tool) == {"type": "function", "function": function}
