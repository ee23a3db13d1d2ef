"""What `VllmEngine` promises, shown on vLLM itself."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from raymart_core.units import FinishReason
from raymart_core.wire.replica import (
    NO_OPTIONS,
    ChatMessage,
    GenerationOptions,
    ResponseFormat,
    Sampling,
    Tool,
    ToolCall,
    ToolDelta,
)
from raymart_serve.engines.protocol import (
    EngineBusy,
    EngineFailed,
    EngineSpec,
    GenerationFinish,
    GenerationStep,
    PromptTooLong,
    RequestRefused,
)
from raymart_serve.engines.vllm import VllmEngine

ANSWERS = [
    ("What is the capital of Norway?", "The capital of Norway is Oslo."),
    ("What is 7 + 5?", "7 + 5 = 12."),
    ("What is 6 times 7?", "6 * 7 = 42."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("Count from 3 to 9.", "3, 4, 5, 6, 7, 8, 9"),
    ("Return JSON with name and age for Ada, 36.", '{"name": "Ada", "age": 36}'),
    ("Repeat after me: hello world", "hello world"),
    ("Spell cat.", "c-a-t"),
    ("What is latency?", "Latency is the time between asking for something and getting the answer."),
]
STORY = "Please tell a story with a cat named Nora."
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER, TIME = (
    Tool(name=name, description=text, parameters=msgspec.Raw(msgspec.json.encode(CITY)))
    for name, text in (("get_weather", "the weather in a city"), ("get_time", "the time in a city"))
)
TOOLS = (WEATHER, TIME)


def sampling(**changes: object) -> Sampling:
    return msgspec.convert({"max_tokens": 120, "temperature": 0.0, **changes}, Sampling)


def schema_of(document: object) -> GenerationOptions:
    schema = msgspec.Raw(msgspec.json.encode(document))
    return GenerationOptions(response_format=ResponseFormat(type="json_schema", schema=schema))


async def asked(
    engine: VllmEngine, question: str, options: GenerationOptions = NO_OPTIONS
) -> tuple[int, ...]:
    return await engine.encode_chat([ChatMessage(role="user", content=question)], options)


async def collect(
    engine: VllmEngine,
    ids: Sequence[int],
    how: Sampling,
    *,
    resume_ids: Sequence[int] = (),
    options: GenerationOptions = NO_OPTIONS,
) -> tuple[list[GenerationStep], GenerationFinish]:
    """All of a generation, with the checks that hold for every one."""
    steps: list[GenerationStep] = []
    async with engine.generate(ids, sampling=how, resume_ids=resume_ids, options=options) as events:
        async for event in events:
            if isinstance(event, GenerationFinish):
                break
            assert event.exact
            assert event.count == sum(len(step.ids) for step in steps) + len(event.ids)
            steps.append(event)
        assert [left async for left in events] == []
    assert event.usage.prompt == len(ids) + len(resume_ids)
    assert event.usage.completion == (steps[-1].count if steps else 0)
    return steps, event


def text_of(steps: Sequence[GenerationStep]) -> str:
    return "".join(step.text for step in steps)


def ids_of(steps: Sequence[GenerationStep]) -> list[int]:
    return [token for step in steps for token in step.ids]


def calls_of(deltas: Sequence[ToolDelta]) -> list[tuple[str, object]]:
    """The calls that the deltas make, put together as a client does."""
    calls: dict[int, dict[str, str]] = {}
    for delta in deltas:
        call = calls.setdefault(delta.index, {"id": "", "name": "", "arguments": ""})
        call["id"] += delta.id
        call["name"] += delta.name
        call["arguments"] += delta.arguments
    assert all(call["id"] for call in calls.values())
    return [(call["name"], json.loads(call["arguments"])) for _, call in sorted(calls.items())]


class TestGenerate:
    @pytest.mark.parametrize(("question", "answer"), ANSWERS, ids=[question for question, _ in ANSWERS])
    async def test_trained_question_has_its_one_answer(
        self, engine: VllmEngine, question: str, answer: str
    ) -> None:
        steps, finish = await collect(engine, await asked(engine, question), sampling())
        assert text_of(steps) == answer
        assert finish.reason is FinishReason.STOP

    async def test_steps_come_one_by_one_with_their_ids(self, engine: VllmEngine) -> None:
        ids = await asked(engine, STORY)
        steps, finish = await collect(engine, ids, sampling(max_tokens=40))
        assert finish.reason is FinishReason.LENGTH
        assert len(ids_of(steps)) == 40
        # One token a step, and what a character needs more; never the answer in one piece.
        assert len(steps) > 20

    async def test_many_at_once_answer_as_each_alone(self, engine: VllmEngine) -> None:
        prompts = [await asked(engine, question) for question, _ in ANSWERS[:5]]
        together = await asyncio.gather(*(collect(engine, prompt, sampling()) for prompt in prompts))
        assert [text_of(steps) for steps, _ in together] == [answer for _, answer in ANSWERS[:5]]

    @pytest.mark.parametrize("text", ["héllo 😀 ✓ 你好", "日本語、漢字", "🙂🚀👍🏽", "a😀b你c\né"])
    async def test_characters_of_many_bytes_are_whole_and_every_token_has_an_id(
        self, engine: VllmEngine, text: str
    ) -> None:
        # The schema makes the model write what it would never say.
        schema = {"type": "object", "properties": {"t": {"const": text}}, "required": ["t"]}
        steps, finish = await collect(
            engine, await asked(engine, "Hello!"), sampling(max_tokens=300), options=schema_of(schema)
        )
        assert finish.reason is FinishReason.STOP
        assert json.loads(text_of(steps)) == {"t": text}
        assert all("\ufffd" not in step.text for step in steps)
        assert len(ids_of(steps)) == finish.usage.completion

    async def test_stop_string_ends_the_text_before_it(self, engine: VllmEngine) -> None:
        ids = await asked(engine, "What is the capital of Norway?")
        whole, _ = await collect(engine, ids, sampling())
        steps, finish = await collect(engine, ids, sampling(stop=("way is", "zebra")))
        assert text_of(steps) == "The capital of Nor"
        assert finish.reason is FinishReason.STOP
        assert ids_of(steps) == ids_of(whole)[: len(ids_of(steps))]
        assert finish.usage.completion < len(ids_of(whole))

    async def test_seed_gives_the_same_tokens_whatever_ran_before(self, engine: VllmEngine) -> None:
        ids = await asked(engine, STORY)
        how = sampling(seed=7, temperature=1.0, max_tokens=60)
        first, _ = await collect(engine, ids, how)
        await collect(engine, ids, sampling(temperature=1.0, max_tokens=30))
        again, finish = await collect(engine, ids, how)
        other, _ = await collect(engine, ids, sampling(seed=8, temperature=1.0, max_tokens=60))
        assert ids_of(again) == ids_of(first)
        assert ids_of(other) != ids_of(first)
        assert finish.usage.cached == 0

    async def test_resumed_anywhere_goes_on_with_the_same_tokens_and_text(self, engine: VllmEngine) -> None:
        ids = await asked(engine, STORY)
        whole, _ = await collect(engine, ids, sampling(max_tokens=60))
        delivered = ids_of(whole)
        for cut in range(1, len(delivered), 7):
            rest, finish = await collect(
                engine, ids, sampling(max_tokens=60 - cut), resume_ids=delivered[:cut]
            )
            before = "".join(step.text for step in whole if step.count <= cut)
            assert ids_of(rest) == delivered[cut:]
            assert before + text_of(rest) == text_of(whole)
            assert finish.usage.prompt == len(ids) + cut

    async def test_logprobs_come_with_every_token(self, engine: VllmEngine) -> None:
        ids = await asked(engine, "What is 7 + 5?")
        steps, finish = await collect(engine, ids, sampling(top_logprobs=3))
        entries = [entry for step in steps for entry in step.logprobs or ()]
        assert len(entries) == finish.usage.completion
        assert "".join(entry.token for entry in entries) == "7 + 5 = 12."
        for entry in entries:
            assert len(entry.top) == 3
            assert entry.top[0].token == entry.token
            assert 0 >= entry.top[0].logprob >= entry.top[1].logprob >= entry.top[2].logprob
        bare, _ = await collect(engine, ids, sampling(top_logprobs=0, max_tokens=2))
        assert all(entry.top == () for step in bare for entry in step.logprobs or ())
        without, _ = await collect(engine, ids, sampling(max_tokens=2))
        assert all(step.logprobs is None for step in without)

    async def test_leaving_aborts_at_the_engine(self, engine: VllmEngine) -> None:
        aborted = engine.stats().requests_aborted_total
        async with engine.generate(
            await asked(engine, STORY), sampling=sampling(max_tokens=900, ignore_eos=True)
        ) as events:
            await anext(events)
            assert engine.stats().running == 1
        assert engine.stats().running == 0
        assert engine.stats().requests_aborted_total == aborted + 1
        assert engine._llm is not None
        assert engine._llm.get_num_unfinished_requests() == 0

    async def test_cancelled_reader_aborts_at_the_engine(self, engine: VllmEngine) -> None:
        begun = asyncio.Event()

        async def read() -> None:
            async with engine.generate(
                await asked(engine, STORY), sampling=sampling(max_tokens=900, ignore_eos=True)
            ) as events:
                async for _ in events:
                    begun.set()

        reader = asyncio.create_task(read())
        await begun.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert engine.stats().running == 0
        assert engine._llm is not None
        assert engine._llm.get_num_unfinished_requests() == 0

    async def test_beyond_slots_and_queue_is_busy_at_once(self, engine: VllmEngine) -> None:
        ids = await asked(engine, STORY)
        how = sampling(max_tokens=900, ignore_eos=True)
        started = asyncio.Semaphore(0)
        leave = asyncio.Event()

        async def hold() -> None:
            async with engine.generate(ids, sampling=how) as events:
                await anext(events)
                started.release()
                await leave.wait()

        holders = [asyncio.create_task(hold()) for _ in range(4)]
        for _ in holders:
            await started.acquire()
        waiter = asyncio.create_task(collect(engine, ids, sampling(max_tokens=1)))
        while engine.stats().waiting == 0:
            await asyncio.sleep(0)
        with pytest.raises(EngineBusy):
            await collect(engine, ids, sampling(max_tokens=1))
        leave.set()
        await asyncio.gather(*holders, waiter)
        assert (engine.stats().running, engine.stats().waiting) == (0, 0)


class TestPrefixCache:
    async def test_one_tenant_s_prefix_is_read_again_by_it_and_by_no_other(self, engine: VllmEngine) -> None:
        ids = await engine.encode_prompt("The gateway holds the money before it touches an endpoint. " * 12)
        mine, other, nobody = (GenerationOptions(cache_salt=salt) for salt in ("mine", "other", ""))
        how = sampling(max_tokens=2)

        async def cached(options: GenerationOptions) -> int:
            return (await collect(engine, ids, how, options=options))[1].usage.cached

        assert await cached(mine) == 0
        assert await cached(mine) > 0
        assert await cached(other) == 0
        assert await cached(nobody) == 0
        assert await cached(nobody) == 0

    async def test_seeded_request_reads_nothing_of_it(self, engine: VllmEngine) -> None:
        """Computed in other pieces, a nearly even draw may tip."""
        ids = await engine.encode_prompt("A seed gives the same tokens whatever ran before. " * 12)
        options = GenerationOptions(cache_salt="mine")
        for how, reads in ((sampling(max_tokens=2), False), (sampling(max_tokens=2), True)):
            _, finish = await collect(engine, ids, how, options=options)
            assert (finish.usage.cached > 0) == reads
        _, seeded = await collect(engine, ids, sampling(max_tokens=2, seed=1), options=options)
        assert seeded.usage.cached == 0


class TestFormat:
    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    async def test_answer_is_of_the_schema(self, engine: VllmEngine, temperature: float) -> None:
        options = schema_of(PERSON)
        ids = await asked(engine, "Return JSON with name and age for Ada, 36.", options)
        steps, finish = await collect(engine, ids, sampling(temperature=temperature, seed=1), options=options)
        assert finish.reason is FinishReason.STOP
        document = json.loads(text_of(steps))
        assert document.keys() == {"name", "age"}
        assert isinstance(document["age"], int)

    async def test_white_space_is_bounded_where_the_model_would_write_pages_of_it(
        self, engine: VllmEngine
    ) -> None:
        options = schema_of(
            {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "required": ["a", "b"]}
        )
        for seed in range(5):
            ids = await asked(engine, STORY, options)
            steps, finish = await collect(
                engine, ids, sampling(temperature=1.5, seed=seed, max_tokens=40), options=options
            )
            assert finish.reason is FinishReason.STOP
            assert json.loads(text_of(steps)) == {"a": 1, "b": 2}
            assert len(text_of(steps)) <= len('{ "a" : 1 , "b" : 2 }')

    async def test_any_object_will_do_for_json_object(self, engine: VllmEngine) -> None:
        options = GenerationOptions(response_format=ResponseFormat(type="json_object"))
        ids = await asked(engine, "Return JSON with country and capital for Norway.", options)
        steps, _ = await collect(engine, ids, sampling(), options=options)
        assert json.loads(text_of(steps)) == {"country": "Norway", "capital": "Oslo"}

    @pytest.mark.parametrize(
        "schema",
        [
            ["no", "object"],
            {"type": "integer", "multipleOf": 7},
            {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}, "required": ["a"]},
            {"a": "x" * 70_000},
        ],
        ids=["no-object", "multiple-of", "dangling-reference", "too-large"],
    )
    async def test_schema_that_cannot_be_held_to_is_refused_before_anything_runs(
        self, engine: VllmEngine, schema: object
    ) -> None:
        ids = await asked(engine, "Hello!")
        with pytest.raises(RequestRefused) as refused:
            await collect(engine, ids, sampling(), options=schema_of(schema))
        assert refused.value.param == "response_format"
        assert engine.stats().running == 0

    async def test_taking_it_up_in_the_middle_is_refused(self, engine: VllmEngine) -> None:
        ids = await asked(engine, "Hello!")
        with pytest.raises(RequestRefused) as refused:
            await collect(engine, ids, sampling(), resume_ids=ids[:1], options=schema_of(PERSON))
        assert refused.value.param == "resume_ids"


class TestTools:
    async def test_call_comes_apart_from_the_text(self, engine: VllmEngine) -> None:
        options = GenerationOptions(tools=TOOLS)
        ids = await asked(engine, "What is the weather in Oslo?", options)
        steps, finish = await collect(engine, ids, sampling(), options=options)
        assert calls_of([delta for step in steps for delta in step.tool_deltas]) == [
            ("get_weather", {"city": "Oslo"})
        ]
        assert text_of(steps) == ""
        assert finish.usage.completion == len(ids_of(steps)) > 10

    async def test_no_call_where_none_is_due(self, engine: VllmEngine) -> None:
        options = GenerationOptions(tools=TOOLS)
        ids = await asked(engine, "What is the capital of Norway?", options)
        steps, _ = await collect(engine, ids, sampling(), options=options)
        assert text_of(steps) == "The capital of Norway is Oslo."
        assert not any(step.tool_deltas for step in steps)

    async def test_required_call_is_made_also_where_the_model_would_make_none(
        self, engine: VllmEngine
    ) -> None:
        options = GenerationOptions(tools=TOOLS, tool_choice="required")
        steps, finish = await collect(
            engine, await asked(engine, "Hello!", options), sampling(), options=options
        )
        ((name, arguments),) = calls_of([delta for step in steps for delta in step.tool_deltas])
        assert name in ("get_weather", "get_time")
        assert isinstance(arguments, dict)
        assert arguments.keys() == {"city"}
        assert finish.reason is FinishReason.STOP

    async def test_named_tool_is_the_one_that_is_called(self, engine: VllmEngine) -> None:
        options = GenerationOptions(tools=TOOLS, tool_name="get_time")
        ids = await asked(engine, "What is the weather in Oslo?", options)
        steps, _ = await collect(engine, ids, sampling(), options=options)
        assert calls_of([delta for step in steps for delta in step.tool_deltas]) == [
            ("get_time", {"city": "Oslo"})
        ]

    async def test_tools_that_must_not_be_used_are_not_shown(self, engine: VllmEngine) -> None:
        options = GenerationOptions(tools=TOOLS, tool_choice="none")
        question = "What is the weather in Oslo?"
        assert await asked(engine, question, options) == await asked(engine, question)
        steps, _ = await collect(engine, await asked(engine, question, options), sampling(), options=options)
        assert not any(step.tool_deltas for step in steps)

    async def test_result_of_a_call_goes_back_to_the_model(self, engine: VllmEngine) -> None:
        options = GenerationOptions(tools=TOOLS)
        call = ToolCall(id="call-1", name="get_weather", arguments='{"city": "Oslo"}')
        ids = await engine.encode_chat(
            [
                ChatMessage(role="user", content="What is the weather in Oslo?"),
                ChatMessage(role="assistant", content="", tool_calls=(call,)),
                ChatMessage(role="tool", content="sunny", tool_call_id="call-1"),
            ],
            options,
        )
        spelled = engine._llm.get_tokenizer().decode(ids)  # type: ignore[union-attr]
        assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>' in spelled
        assert "sunny" in spelled

    async def test_resumed_in_the_middle_of_a_call_completes_it(self, engine: VllmEngine) -> None:
        options = GenerationOptions(tools=TOOLS)
        ids = await asked(engine, "What is the weather in Oslo?", options)
        whole, _ = await collect(engine, ids, sampling(), options=options)
        for cut in range(1, len(ids_of(whole)) - 1, 3):
            delivered = [delta for step in whole if step.count <= cut for delta in step.tool_deltas]
            rest, _ = await collect(engine, ids, sampling(), resume_ids=ids_of(whole)[:cut], options=options)
            deltas = [*delivered, *(delta for step in rest for delta in step.tool_deltas)]
            assert calls_of(deltas) == [("get_weather", {"city": "Oslo"})]
            assert text_of(rest) == ""

    async def test_schema_of_a_tool_that_is_none_is_refused(self, engine: VllmEngine) -> None:
        options = GenerationOptions(tools=(Tool(name="x", parameters=msgspec.Raw(b"[]")),))
        with pytest.raises(RequestRefused) as refused:
            await asked(engine, "Hello!", options)
        assert refused.value.param == "tools"


class TestReasoning:
    """The bundled model does not reason: what it would think is put into its mouth through the resumed ids."""

    @pytest.mark.parametrize(
        ("thought", "part"),
        [
            ("Here is my thought process: Norway is in", "reasoning"),
            ("Here is my thought process: Oslo. Here is my response: The capital of Norway", "text"),
        ],
    )
    async def test_reasoning_comes_apart_from_the_answer(
        self, engine: VllmEngine, thought: str, part: str
    ) -> None:
        options = GenerationOptions(reasoning=True)
        ids = await asked(engine, "What is the capital of Norway?", options)
        begun = await engine.encode_prompt(thought)
        how = sampling(max_tokens=8, ignore_eos=True)
        plain, _ = await collect(engine, ids, how, resume_ids=begun)
        steps, finish = await collect(engine, ids, how, resume_ids=begun, options=options)
        parts = {name: "".join(getattr(step, name) for step in steps) for name in ("reasoning", "text")}
        other = "text" if part == "reasoning" else "reasoning"
        assert parts[part] == text_of(plain) != ""
        assert parts[other] == ""
        assert finish.usage.completion == 8

    async def test_plain_prompt_is_never_parsed(self, engine: VllmEngine) -> None:
        ids = await asked(engine, "What is the capital of Norway?")
        begun = await engine.encode_prompt("Here is my thought process: Norway is in")
        steps, _ = await collect(engine, ids, sampling(max_tokens=8, ignore_eos=True), resume_ids=begun)
        assert not any(step.reasoning for step in steps)
        assert text_of(steps)

    async def test_answer_after_reasoning_is_of_the_schema(self, engine: VllmEngine) -> None:
        """A model that does not think begins with its answer, and the schema holds from the first token."""
        options = msgspec.structs.replace(schema_of(PERSON), reasoning=True)
        ids = await asked(engine, "Return JSON with name and age for Ada, 36.", options)
        steps, _ = await collect(engine, ids, sampling(), options=options)
        assert json.loads(text_of(steps)).keys() == {"name", "age"}


class TestEncode:
    async def test_assistant_s_beginning_is_continued_not_answered(self, engine: VllmEngine) -> None:
        ids = await engine.encode_chat(
            [
                ChatMessage(role="user", content="What is the capital of Norway?"),
                ChatMessage(role="assistant", content="The capital of Norway"),
            ]
        )
        steps, _ = await collect(engine, ids, sampling())
        assert text_of(steps) == " is Oslo."

    async def test_prompt_and_its_ids_are_the_same_prompt(self, engine: VllmEngine) -> None:
        ids = await engine.encode_prompt("héllo 😀\nworld")
        assert engine._llm is not None
        assert engine._llm.get_tokenizer().decode(ids) == "héllo 😀\nworld"

    async def test_prompt_that_fills_the_context_is_too_long(self, engine: VllmEngine) -> None:
        ids = (await asked(engine, STORY)) * 80
        with pytest.raises(PromptTooLong):
            await collect(engine, ids[:1024], sampling())
        with pytest.raises(PromptTooLong):
            await collect(engine, ids[:1000], sampling(), resume_ids=ids[:24])
        steps, finish = await collect(engine, ids[:1023], sampling(ignore_eos=True))
        assert (len(ids_of(steps)), finish.reason) == (1, FinishReason.LENGTH)

    async def test_conversation_that_fills_the_context_is_refused(self, engine: VllmEngine) -> None:
        with pytest.raises(RequestRefused) as refused:
            await asked(engine, "word " * 4000)
        assert refused.value.param == "messages"

    @pytest.mark.parametrize("token", [-1, 2048, 2**40])
    async def test_id_outside_of_the_vocabulary_is_refused(self, engine: VllmEngine, token: int) -> None:
        with pytest.raises(RequestRefused) as refused:
            await collect(engine, [1, token], sampling())
        assert refused.value.param == "prompt_ids"
        assert (await engine.health()).state == "ready"


class TestLife:
    async def test_loaded_engine_is_healthy_and_names_its_version(self, engine: VllmEngine) -> None:
        assert (await engine.health()).state == "ready"
        assert engine.label == "vllm 0.32.0"
        assert (engine.capacity, engine.context_length) == (4, 1024)

    async def test_before_the_load_it_is_loading_and_takes_nothing(self, engine: VllmEngine) -> None:
        other = VllmEngine(engine._spec)
        assert (await other.health()).state == "loading"
        with pytest.raises(EngineFailed):
            await other.encode_prompt("Hello")
        await other.close()

    async def test_folder_of_pickles_is_not_loaded(self, tmp_path: Path, engine: VllmEngine) -> None:
        """Good weights they are, and vLLM would take them."""
        import torch
        from safetensors.torch import load_file

        for file in engine._spec.path.iterdir():
            if file.name != "model.safetensors":
                (tmp_path / file.name).write_bytes(file.read_bytes())
        torch.save(load_file(engine._spec.path / "model.safetensors"), tmp_path / "pytorch_model.bin")
        other = VllmEngine(EngineSpec(path=tmp_path, context_length=64, slots=1))
        with pytest.raises(EngineFailed):
            await other.load(lambda _: None)
        await other.close()
