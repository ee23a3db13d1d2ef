"""Response formats of the llama.cpp engine: held to the last brace, or refused; never ignored in silence."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from raymart_core.wire.replica import ChatMessage, GenerationOptions, ResponseFormat, Sampling
from raymart_serve.engines.llama_cpp import LlamaCppEngine
from raymart_serve.engines.llama_cpp.formats import FormatWatch
from raymart_serve.engines.llama_cpp.tools import grammar
from raymart_serve.engines.protocol import EngineFailed, GenerationStep, RequestRefused

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def schema(value: object) -> ResponseFormat:
    return ResponseFormat(type="json_schema", schema=msgspec.Raw(json.dumps(value).encode()))


def grammar_of(asked: ResponseFormat) -> str:
    found = grammar(GenerationOptions(response_format=asked), calls=False)
    assert found is not None
    return found


async def answer(engine: LlamaCppEngine, text: str, asked: ResponseFormat, **sampling: Any) -> str:
    ids = await engine.encode_chat([ChatMessage(role="user", content=text)])
    values = {"max_tokens": 200, "temperature": 0.0, **sampling}
    options = GenerationOptions(response_format=asked)
    async with engine.generate(ids, sampling=Sampling(**values), options=options) as events:
        return "".join([event.text async for event in events if isinstance(event, GenerationStep)])


class TestFormats:
    async def test_a_schema_is_held_at_any_temperature_and_seed(self, engine: LlamaCppEngine) -> None:
        for seed in range(6):
            text = await answer(engine, "What is latency?", schema(PERSON), temperature=1.8, seed=seed)
            person = json.loads(text)
            assert list(person) == ["name", "age", "tags"]
            assert len(person["name"]) <= 12
            assert 0 <= person["age"] <= 150
            assert len(person["tags"]) <= 2
            assert text == json.dumps(person, ensure_ascii=False), "no white space but what json.dumps writes"

    async def test_any_object_is_an_object(self, engine: LlamaCppEngine) -> None:
        asked = ResponseFormat(type="json_object")
        question = "Return JSON with name and age for Ada, 36."
        assert await answer(engine, question, asked) == '{"name": "Ada", "age": 36}'

    async def test_a_stop_string_still_stops(self, engine: LlamaCppEngine) -> None:
        question = "Return JSON with name and age for Ada, 36."
        assert await answer(engine, question, schema({"type": "object"}), stop=(",",)) == '{"name": "Ada"'

    async def test_max_tokens_still_ends_it(self, engine: LlamaCppEngine) -> None:
        text = await answer(engine, "ping", schema({"type": "string", "minLength": 300}), max_tokens=10)
        assert text.startswith('"')
        assert not text.endswith('"')

    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            ({"type": "no-such-type"}, "Invalid type"),
            ({"type": 7}, "type must be"),
            ({"$ref": "#/nowhere"}, "does not exist"),
            ({"$ref": "http://127.0.0.1:9/schema"}, "cannot be held to"),
            ({"type": "string", "pattern": "("}, "regex parse error"),
            ({"not": {"type": "object"}}, "Unimplemented keys"),
            ({"type": "integer", "minimum": 5, "maximum": 3}, "Unsatisfiable"),
            (True, "must be an object"),
            ([], "must be an object"),
            ({"title": "x" * 70_000}, "at most 65536"),
        ],
    )
    async def test_what_cannot_be_held_is_refused_and_says_why(
        self, engine: LlamaCppEngine, broken: object, reason: str
    ) -> None:
        with pytest.raises(RequestRefused, match=reason) as refused:
            await answer(engine, "ping", schema(broken))
        assert refused.value.param == "response_format"
        assert len(refused.value.message) < 300
        assert engine.stats().running == 0

    @pytest.mark.parametrize("levels", [60, 5_000])
    def test_a_schema_too_deep_is_refused(self, levels: int) -> None:
        deep = b'{"items":' * levels + b"{}" + b"}" * levels
        with pytest.raises(RequestRefused, match=r"deeper than 48 levels|not JSON"):
            grammar_of(ResponseFormat(type="json_schema", schema=msgspec.Raw(deep)))

    async def test_resuming_inside_a_format_is_refused(self, engine: LlamaCppEngine) -> None:
        """The grammar would start anew in the middle of the text."""
        options = GenerationOptions(response_format=schema(PERSON))
        with pytest.raises(RequestRefused) as refused:
            async with engine.generate(
                [26], sampling=Sampling(max_tokens=5), resume_ids=[26], options=options
            ):
                pass
        assert refused.value.param == "resume_ids"


class TestFormatWatch:
    """llama.cpp goes on without the grammar when it gives it up; the watch must see that."""

    def read(self, texts: Sequence[str]) -> FormatWatch:
        watch = FormatWatch(grammar_of(schema(PERSON)))
        for text in texts:
            watch.read(text)
        return watch

    def test_text_of_the_format_passes(self) -> None:
        self.read(['{"name": "Ãda 😀', '", "age": 36, "ta', 'gs": ["a"]}']).end()

    @pytest.mark.parametrize(
        "texts", [["Hello"], ['{"name": "x", ', '"height"'], ['{"name": "x", "age": 200'], ['{"name":\n']]
    )
    def test_text_outside_is_a_failure(self, texts: list[str]) -> None:
        with pytest.raises(EngineFailed, match="left the response format"):
            self.read(texts)

    def test_an_end_in_the_middle_is_a_failure(self) -> None:
        with pytest.raises(EngineFailed, match="before the response format was complete"):
            self.read(['{"name": "x", "age": 3']).end()

    async def test_a_library_that_drops_its_grammar_is_found_out(
        self, engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = "raymart_serve.engines.llama_cpp.engine.completion_request"
        from raymart_serve.engines.llama_cpp.library import completion_request

        monkeypatch.setattr(
            whole, lambda *values, grammar, **named: completion_request(*values, **named, grammar=None)
        )
        with pytest.raises(EngineFailed, match="left the response format"):
            await answer(engine, "ping", schema(PERSON))
