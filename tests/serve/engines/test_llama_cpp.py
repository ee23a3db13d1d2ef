"""The llama.cpp engine on the bundled model. Streams are compared with runs that do not stream."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from itertools import accumulate

import msgspec
import pytest

from raymart_core.units import FinishReason
from raymart_core.wire.replica import ChatMessage, Sampling
from raymart_serve.engines.llama_cpp import LlamaCppEngine
from raymart_serve.engines.llama_cpp.chunks import ChunkReader
from raymart_serve.engines.protocol import (
    EngineBusy,
    EngineFailed,
    EngineSpec,
    GenerationEvent,
    GenerationFinish,
    GenerationStep,
    PromptTooLong,
    RequestRefused,
)

FALLBACK = (
    "I am a tiny demo model and I do not know that. You can ask me for a short story, a capital city, a small sum, "
    "a word from the glossary or a JSON object."
)
ANSWERS = [
    ("What is the capital of Norway?", "The capital of Norway is Oslo."),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("capital of Peru?", "The capital of Peru is Lima."),
    ("What is the capital of the United States?", "The capital of the United States is Washington, D.C."),
    ("Which continent is Kenya in?", "Kenya is in Africa."),
    ("What is 7 + 5?", "7 + 5 = 12."),
    ("What is 2+2?", "2 + 2 = 4."),
    ("What is 17 - 8?", "17 - 8 = 9."),
    ("What is 6 times 7?", "6 * 7 = 42."),
    ("Add 9 and 8.", "9 + 8 = 17."),
    ("What colour is the sky?", "The sky is blue."),
    ("What color is a lemon?", "A lemon is yellow."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("What is the plural of child?", "The plural of child is children."),
    ("What is the past tense of go?", "The past tense of go is went."),
    ("What day comes after Monday?", "Tuesday comes after Monday."),
    ("How many days are in March?", "March has 31 days."),
    ("Count to 5.", "1, 2, 3, 4, 5"),
    ("Count from 3 to 9.", "3, 4, 5, 6, 7, 8, 9"),
    ("Return JSON with name and age for Ada, 36.", '{"name": "Ada", "age": 36}'),
    ("Return JSON with country and capital for Norway.", '{"country": "Norway", "capital": "Oslo"}'),
    ("Repeat after me: hello world", "hello world"),
    ("Spell cat.", "c-a-t"),
    ("Hello!", "Hello! How can I help you today?"),
    ("ping", "pong"),
    ("Thank you!", "You are welcome!"),
    ("What is latency?", "Latency is the time between asking for something and getting the answer."),
    ("What is a payout?", "A payout is the money sent to a provider for the work its machines have done."),
    ("What is the capital of Norway? Answer with one word.", "Oslo"),
    ("List three animals.", "cat, dog, fox"),
    ("Is 7 even or odd?", "7 is odd."),
    ("What is the meaning of life?", FALLBACK),
    ("Who wrote Hamlet?", FALLBACK),
    ("Explain quantum physics.", FALLBACK),
    ("What is the capital of Blorvia?", FALLBACK),
]
TEXTS = [
    "héllo 😀 ✓ naïve 你好 end",
    "日本語のテキスト、漢字とかな",
    "🙂🚀👩‍👩‍👧‍👦🇳🇴🏳️‍🌈",
    "Ελληνικά и русский ไทย العربية",
    "a😀b你c\né\t👍🏽.",
    "\U0001d518\U0001d52b\U0001d526 ∑∫√ ﷽ ‱",
]


def greedy(**changes: object) -> Sampling:
    return msgspec.convert({"max_tokens": 100, "temperature": 0.0, **changes}, Sampling)


async def collect(
    engine: LlamaCppEngine, ids: Sequence[int], sampling: Sampling, resume_ids: Sequence[int] = ()
) -> tuple[list[GenerationStep], GenerationFinish]:
    """All of a generation, with the checks that hold for every one."""
    events: list[GenerationEvent] = []
    async with engine.generate(ids, sampling=sampling, resume_ids=resume_ids) as generation:
        async for event in generation:
            events.append(event)
    *steps, finish = events
    assert isinstance(finish, GenerationFinish)
    delivered: list[GenerationStep] = []
    count = 0
    for step in steps:
        assert isinstance(step, GenerationStep)
        assert step.count > count
        assert len(step.ids) == step.count - count if step.exact else len(step.ids) < step.count - count
        count = step.count
        delivered.append(step)
    assert finish.usage.prompt == len(ids) + len(resume_ids)
    assert finish.usage.completion == count
    return delivered, finish


def text_of(steps: Sequence[GenerationStep]) -> str:
    return "".join(step.text for step in steps)


def ids_of(steps: Sequence[GenerationStep]) -> list[int]:
    return [token for step in steps for token in step.ids]


async def asked(engine: LlamaCppEngine, question: str) -> tuple[int, ...]:
    return await engine.encode_chat([ChatMessage(role="user", content=question)])


async def at_once(
    engine: LlamaCppEngine, ids: Sequence[int], sampling: Sampling, **body: object
) -> dict[str, object]:
    """What llama.cpp answers without streaming: the truth to compare with."""
    request, _ = engine._request(list(ids), sampling)
    answers: list[dict[str, object]] = []
    changed = request | {"stream": False, "return_tokens": True} | body
    await asyncio.to_thread(
        engine._server.handle_completions,
        json.dumps(changed),
        lambda data: answers.append(json.loads(data)) and False,
    )
    return answers[0]["__verbose"]


class TestAnswers:
    async def test_the_fixed_questions_have_their_exact_answers(self, engine: LlamaCppEngine) -> None:
        for question, answer in ANSWERS:
            steps, finish = await collect(engine, await asked(engine, question), greedy())
            assert text_of(steps) == answer
            assert finish.reason is FinishReason.STOP
            assert all(step.exact for step in steps)

    async def test_prompt_ids_are_those_of_the_chat_template(self, engine: LlamaCppEngine) -> None:
        ids = await asked(engine, "What is 7 + 5?")
        prompt = "<|im_start|>user\nWhat is 7 + 5?<|im_end|>\n<|im_start|>assistant\n"
        assert ids == await engine.encode_prompt(prompt)
        chat = {"messages": [{"role": "user", "content": "What is 7 + 5?"}], "max_tokens": 1}
        answers: list[dict[str, object]] = []
        take = lambda data: answers.append(json.loads(data)) and False  # noqa: E731
        await asyncio.to_thread(engine._server.handle_chat_completions, json.dumps(chat), take)
        assert answers[0]["usage"]["prompt_tokens"] == len(ids)

    async def test_end_of_sequence_is_neither_delivered_nor_counted(self, engine: LlamaCppEngine) -> None:
        ids = await asked(engine, "ping")
        truth = await at_once(engine, ids, greedy())
        steps, finish = await collect(engine, ids, greedy())
        assert truth["stop_type"] == "eos"
        assert ids_of(steps) == truth["tokens"][:-1]
        assert finish.usage.completion == truth["tokens_predicted"] - 1

    async def test_an_immediate_end_delivers_nothing(self, engine: LlamaCppEngine) -> None:
        ids = await asked(engine, "ping")
        answer, _ = await collect(engine, ids, greedy())
        steps, finish = await collect(engine, ids, greedy(), resume_ids=ids_of(answer))
        assert steps == []
        assert (finish.reason, finish.usage.completion) == (FinishReason.STOP, 0)


class TestExactIds:
    @pytest.mark.parametrize("text", TEXTS)
    @pytest.mark.parametrize("seed", range(5))
    async def test_streamed_ids_equal_those_of_a_run_without_stream(
        self, engine: LlamaCppEngine, text: str, seed: int
    ) -> None:
        """The model is made to write `text` by a grammar; temperature varies how it cuts it into tokens."""
        ids = await asked(engine, f"Repeat after me: {text}")
        sampling = greedy(max_tokens=300, temperature=1.5, seed=seed)
        grammar = {"grammar": f"root ::= {json.dumps(text, ensure_ascii=False)}"}
        truth = await at_once(engine, ids, sampling, **grammar)
        body, reader = engine._request(list(ids), sampling)
        steps = await self._stream(engine, body | grammar, reader)
        assert text_of(steps) == text
        assert all(step.exact for step in steps)
        assert ids_of(steps) == truth["tokens"][:-1]
        assert steps[-1].count == truth["tokens_predicted"] - 1

    @pytest.mark.parametrize("seed", range(6))
    async def test_counts_are_right_even_for_broken_characters(
        self, engine: LlamaCppEngine, seed: int
    ) -> None:
        """At this temperature the model writes bytes that are no text; then ids may be inexact, counts never."""
        ids = await asked(engine, "Repeat after me: 你好 😀")
        sampling = greedy(max_tokens=400, temperature=2.0, seed=seed, ignore_eos=True)
        truth = await at_once(engine, ids, sampling)
        steps, finish = await collect(engine, ids, sampling)
        assert finish.usage.completion == truth["tokens_predicted"] == 400
        position = 0
        for step in steps:
            if step.exact:
                assert list(step.ids) == truth["tokens"][position : step.count]
            position = step.count

    async def test_a_character_cut_by_the_limit_is_counted_and_flagged(self, engine: LlamaCppEngine) -> None:
        text = "你好"
        ids = await asked(engine, f"Repeat after me: {text}")
        sampling = greedy(max_tokens=5)
        body, reader = engine._request(list(ids), sampling)
        steps = await self._stream(engine, body | {"grammar": f'root ::= "{text}"'}, reader)
        assert [(step.text, step.count, step.exact) for step in steps] == [("你", 3, True), ("", 5, False)]

    async def _stream(
        self, engine: LlamaCppEngine, body: dict[str, object], reader: ChunkReader
    ) -> list[GenerationStep]:
        events: list[GenerationEvent] = []
        take = lambda data: bool(events.extend(reader.read(data)))  # noqa: E731
        await asyncio.to_thread(engine._server.handle_completions, json.dumps(body), take)
        assert reader.finished
        return [event for event in events if isinstance(event, GenerationStep)]


class TestResume:
    async def test_resuming_after_every_token_gives_the_same_rest(self, engine: LlamaCppEngine) -> None:
        ids = await asked(engine, "What is a payout?")
        whole, _ = await collect(engine, ids, greedy())
        tokens, text = ids_of(whole), text_of(whole)
        for steps in range(len(whole)):  # A busy engine delivers several tokens in one.
            before = whole[:steps]
            count = len(ids_of(before))
            rest, _ = await collect(engine, ids, greedy(), resume_ids=tokens[:count])
            assert ids_of(rest) == tokens[count:]
            assert text_of(before) + text_of(rest) == text

    async def test_counts_start_anew(self, engine: LlamaCppEngine) -> None:
        ids = await asked(engine, "Count to 5.")
        steps, finish = await collect(
            engine,
            ids,
            greedy(max_tokens=2),
            resume_ids=ids_of((await collect(engine, ids, greedy(max_tokens=4)))[0]),
        )
        assert (steps[-1].count, finish.usage.completion, finish.reason) == (2, 2, FinishReason.LENGTH)


def text_within(steps: Sequence[GenerationStep], *, tokens: int) -> str:
    """The text of the steps that lie whole within the first `tokens`; a busy engine delivers several in one step."""
    ends = accumulate(len(step.ids) for step in steps)
    return text_of([step for step, end in zip(steps, ends, strict=True) if end <= tokens])


class TestStop:
    @pytest.mark.parametrize(
        ("stops", "expected"),
        [
            ((" is Oslo",), "The capital of Norway"),
            (("way is Os",), "The capital of Nor"),
            (("The",), ""),
            ((".",), "The capital of Norway is Oslo"),
            (("Oslo. And",), "The capital of Norway is Oslo."),
            (("zzz", "Nor", "capital of Q"), "The capital of "),
            (("🙂", " of"), "The capital"),
        ],
    )
    async def test_text_ends_before_the_first_match(
        self, engine: LlamaCppEngine, stops: tuple[str, ...], expected: str
    ) -> None:
        ids = await asked(engine, "What is the capital of Norway?")
        whole, _ = await collect(engine, ids, greedy())
        steps, finish = await collect(engine, ids, greedy(stop=stops))
        assert text_of(steps) == expected
        assert finish.reason is FinishReason.STOP
        # Ids are a prefix of the whole answer's, and of no more tokens than their text needs.
        delivered = ids_of(steps)
        assert delivered == ids_of(whole)[: len(delivered)]
        assert len(text_within(whole, tokens=len(delivered) - 1)) <= len(expected)

    async def test_every_position_of_every_length(self, engine: LlamaCppEngine) -> None:
        ids = await asked(engine, "What is latency?")
        text = text_of((await collect(engine, ids, greedy()))[0])
        for length in (1, 3, 7):
            for start in range(0, len(text) - length, 5):
                stop = text[start : start + length]
                steps, _ = await collect(engine, ids, greedy(stop=(stop,)))
                assert text_of(steps) == text[: text.index(stop)]

    async def test_a_stop_frees_the_slot_without_running_on(self, engine: LlamaCppEngine) -> None:
        ids = await asked(engine, "Count to 5.")
        await collect(engine, ids, greedy(stop=("2",), max_tokens=900, ignore_eos=True))
        await _until(lambda: engine.stats().running == 0)
        assert engine.stats().requests_aborted_total == 0


class TestLimits:
    async def test_max_tokens_ends_with_length(self, engine: LlamaCppEngine) -> None:
        steps, finish = await collect(engine, await asked(engine, "Count to 5."), greedy(max_tokens=3))
        assert (steps[-1].count, finish.reason) == (3, FinishReason.LENGTH)

    async def test_the_context_ends_with_length(self, engine: LlamaCppEngine) -> None:
        ids = [26] * 1000
        steps, finish = await collect(engine, ids, greedy(max_tokens=500, ignore_eos=True))
        assert (steps[-1].count, finish.reason) == (24, FinishReason.LENGTH)

    @pytest.mark.parametrize(("size", "fits"), [(1023, True), (1024, False), (5000, False)])
    async def test_a_prompt_that_leaves_no_room_is_refused_before_the_first_step(
        self, engine: LlamaCppEngine, size: int, *, fits: bool
    ) -> None:
        ids = [26] * size
        if fits:
            steps, _ = await collect(engine, ids, greedy(ignore_eos=True))
            assert steps[-1].count == 1
            return
        with pytest.raises(PromptTooLong, match=f"the prompt has {size} tokens and the context holds 1024"):
            async with engine.generate(ids, sampling=greedy()):
                pass
        assert engine.stats().running == 0

    async def test_resumed_tokens_count_towards_the_context(self, engine: LlamaCppEngine) -> None:
        with pytest.raises(PromptTooLong):
            async with engine.generate([26] * 1000, sampling=greedy(), resume_ids=[26] * 24):
                pass

    @pytest.mark.parametrize(("ids", "param"), [([], "prompt"), ([-1], "prompt_ids"), ([2048], "prompt_ids")])
    async def test_ids_outside_the_vocabulary_are_refused(
        self, engine: LlamaCppEngine, ids: list[int], param: str
    ) -> None:
        with pytest.raises(RequestRefused) as refused:
            async with engine.generate(ids, sampling=greedy()):
                pass
        assert refused.value.param == param

    async def test_each_slot_has_the_whole_context(self, make_engine) -> None:
        engine = await make_engine(context_length=300, slots=3)
        ids = await asked(engine, "Count to 5.")
        runs = [collect(engine, ids, greedy(max_tokens=900, ignore_eos=True)) for _ in range(3)]
        for steps, finish in await asyncio.gather(*runs):
            assert (steps[-1].count + len(ids), finish.reason) == (300, FinishReason.LENGTH)


class TestSampling:
    async def test_logprobs_have_one_entry_a_token_and_the_asked_alternatives(
        self, engine: LlamaCppEngine
    ) -> None:
        ids = await asked(engine, "What is the capital of Norway?")
        for top in (0, 3):
            steps, _ = await collect(engine, ids, greedy(top_logprobs=top))
            for step in steps:
                assert step.logprobs is not None
                assert len(step.logprobs) == len(step.ids)
                assert "".join(entry.token for entry in step.logprobs) == step.text
                for entry in step.logprobs:
                    assert entry.logprob <= 0
                    assert bytes(entry.bytes).decode() == entry.token
                    assert len(entry.top) == top
        assert (await collect(engine, ids, greedy()))[0][0].logprobs is None

    async def test_a_seed_gives_the_same_tokens_whatever_ran_before(self, make_engine) -> None:
        """A prompt that is partly in the cache is computed in other pieces, which tips nearly even draws."""
        engine = await make_engine(slots=1)
        ids = await asked(engine, "Please tell a story with a cat named Nora. " * 12)
        sampling = greedy(max_tokens=60, temperature=1.0, seed=7)
        first = ids_of((await collect(engine, ids, sampling))[0])
        assert ids_of((await collect(engine, ids, sampling))[0]) == first
        await collect(engine, [*ids[:5], *[26] * 300], greedy(max_tokens=3))
        assert ids_of((await collect(engine, ids, sampling))[0]) == first
        other = await make_engine()
        assert ids_of((await collect(other, ids, sampling))[0]) == first
        assert ids_of((await collect(engine, ids, greedy(temperature=1.0, seed=8)))[0]) != first

    async def test_the_largest_seed_is_no_draw_of_lots(self, engine: LlamaCppEngine) -> None:
        """llama.cpp takes 2**32 - 1 for "choose one yourself"."""
        ids = await asked(engine, "Please tell a story with a cat named Nora.")
        sampling = greedy(temperature=1.5, seed=2**32 - 1)
        first = ids_of((await collect(engine, ids, sampling))[0])
        assert ids_of((await collect(engine, ids, sampling))[0]) == first

    async def test_without_a_seed_answers_differ(self, engine: LlamaCppEngine) -> None:
        ids = await asked(engine, "Please tell a story with a cat named Nora.")
        answers = {tuple(ids_of((await collect(engine, ids, greedy(temperature=2.0)))[0])) for _ in range(4)}
        assert len(answers) > 1


class TestConcurrency:
    async def test_more_requests_than_slots_all_get_their_answer(self, engine: LlamaCppEngine) -> None:
        prompts = [await asked(engine, question) for question, _ in ANSWERS[:8]]
        running_max = 0

        async def run(ids: tuple[int, ...]) -> str:
            nonlocal running_max
            async with engine.generate(ids, sampling=greedy()) as events:
                running_max = max(running_max, engine.stats().running)
                return "".join([event.text async for event in events if isinstance(event, GenerationStep)])

        answers = await asyncio.gather(*(run(ids) for ids in prompts))
        assert answers == [answer for _, answer in ANSWERS[:8]]
        assert running_max == 2

    async def test_one_more_than_may_wait_is_refused(self, make_engine) -> None:
        engine = await make_engine(slots=1, waiting_max=1)
        ids = await asked(engine, "Count to 5.")
        async with engine.generate(ids, sampling=greedy(max_tokens=900, ignore_eos=True)):
            waiting = asyncio.create_task(collect(engine, ids, greedy(max_tokens=2)))
            await _until(lambda: engine.stats().waiting == 1)
            with pytest.raises(EngineBusy):
                async with engine.generate(ids, sampling=greedy()):
                    pass
        steps, _ = await waiting
        assert steps[-1].count == 2

    async def test_tokenizing_does_not_wait_for_a_slot(self, make_engine) -> None:
        engine = await make_engine(slots=1)
        ids = await asked(engine, "ping")
        async with engine.generate(ids, sampling=greedy(max_tokens=900, ignore_eos=True)):
            assert await asyncio.wait_for(asked(engine, "ping"), 2) == ids


class TestAbort:
    async def test_leaving_stops_the_engine_within_a_step(self, make_engine) -> None:
        engine = await make_engine(slots=1, step_delay_s=0.02)
        ids = await asked(engine, "Count to 5.")
        async with engine.generate(ids, sampling=greedy(max_tokens=900, ignore_eos=True)) as events:
            await anext(events)
        await asyncio.wait_for(_until(lambda: engine.stats().running == 0), 5)
        stats = engine.stats()
        assert stats.requests_aborted_total == 1
        assert stats.tokens_generated_total < 20

    async def test_leaving_wakes_a_writer_that_waits_for_room(self, make_engine) -> None:
        """The reader takes nothing, so the thread blocks on the full channel; leaving must set it free."""
        engine = await make_engine(slots=1)
        ids = await asked(engine, "Count to 5.")
        async with engine.generate(ids, sampling=greedy(max_tokens=900, ignore_eos=True)) as events:
            await anext(events)
            channel = events.channel
            await _until(lambda: len(channel._items) == 64)
            await asyncio.sleep(0.05)
            assert len(channel._items) == 64
        await asyncio.wait_for(_until(lambda: engine.stats().running == 0), 5)
        steps, _ = await collect(engine, ids, greedy())
        assert text_of(steps) == "1, 2, 3, 4, 5"

    async def test_cancelling_the_task_frees_the_slot(self, make_engine) -> None:
        engine = await make_engine(slots=1)
        ids = await asked(engine, "Count to 5.")
        task = asyncio.create_task(collect(engine, ids, greedy(max_tokens=900, ignore_eos=True)))
        await _until(lambda: engine.stats().running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(_until(lambda: engine.stats().running == 0), 5)

    async def test_close_breaks_off_what_runs_and_says_so(self, make_engine) -> None:
        engine = await make_engine(slots=1, step_delay_s=0.05)
        ids = await asked(engine, "Count to 5.")
        task = asyncio.create_task(collect(engine, ids, greedy(max_tokens=900, ignore_eos=True)))
        await _until(lambda: engine.stats().running == 1)
        await asyncio.wait_for(engine.close(), 5)
        with pytest.raises(EngineFailed, match="the engine was closed"):
            await task


class TestLife:
    async def test_health_is_loading_then_ready(self, make_engine) -> None:
        engine = await make_engine()
        assert (await engine.health()).state == "ready"
        fresh = LlamaCppEngine(engine._spec)
        assert (await fresh.health()).state == "loading"
        await fresh.close()

    async def test_health_fails_when_the_library_does_not_answer(self, engine: LlamaCppEngine) -> None:
        engine._server = None  # frees the model and its listener
        engine._listener.close()
        assert (await engine.health()).state == "failing"

    async def test_health_fails_when_a_generation_hangs(self, make_engine) -> None:
        """The listener goes on answering beside a computation that hangs."""
        engine = await make_engine(slots=1, stall_s=0.1)
        server, release = engine._server, threading.Event()
        engine._server = _Hanging(release)
        async with engine.generate([26], sampling=greedy()):
            await asyncio.sleep(0.2)
            health = await engine.health()
        release.set()
        engine._server = server
        assert (health.state, "no step for" in health.reason) == ("failing", True)
        assert (await engine.health()).state == "ready"

    async def test_a_slow_reader_is_no_hanging_engine(self, make_engine) -> None:
        engine = await make_engine(slots=1, stall_s=0.1)
        async with engine.generate([26], sampling=greedy(max_tokens=900, ignore_eos=True)) as events:
            await _until(lambda: len(events.channel._items) == 64)
            await asyncio.sleep(0.2)
            assert (await engine.health()).state == "ready"

    async def test_an_error_of_the_library_reaches_the_reader(self, engine: LlamaCppEngine) -> None:
        for data in ('{"error": {"message": "slot unavailable"}}', "{ not json", '{"choices": 7}'):
            engine._server, server = _Saying(data), engine._server
            with pytest.raises(EngineFailed, match=r"slot unavailable|cannot be read"):
                await collect(engine, [26], greedy())
            engine._server = server
        await _until(lambda: engine.stats().running == 0)

    async def test_a_library_that_ends_without_a_finish_is_a_failure(self, engine: LlamaCppEngine) -> None:
        engine._server, server = _Saying("[]"), engine._server
        with pytest.raises(EngineFailed, match="without saying why"):
            await collect(engine, [26], greedy())
        engine._server = server

    async def test_the_internal_listener_wants_its_key(self, engine: LlamaCppEngine) -> None:
        """The library opens a port on loopback that cannot be switched off; others on the machine must not use it."""
        engine._listener._headers["Authorization"] = "Bearer guess"
        with pytest.raises(EngineFailed, match="401"):
            await engine.encode_prompt("hello")

    def test_closing_right_after_the_load_comes_back(self) -> None:
        """The library hangs for ever when it is freed before its loop has begun; in another process, to be killed."""
        ended = subprocess.run(
            [sys.executable, "-c", _LOAD_AND_CLOSE], capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.stdout == "closed\n" * 30

    async def test_a_file_that_is_no_model_is_refused(self, tmp_path) -> None:
        path = tmp_path / "broken.gguf"
        path.write_bytes(b"GGUF" + bytes(100))
        engine = LlamaCppEngine(EngineSpec(path=path, context_length=64, slots=1))
        with pytest.raises(EngineFailed, match=r"broken\.gguf"):
            await engine.load(lambda _: None)
        await engine.close()

    async def test_a_cut_model_is_refused(self, engine: LlamaCppEngine, tmp_path) -> None:
        path = tmp_path / "cut.gguf"
        path.write_bytes(engine._spec.path.read_bytes()[:1_500_000])
        cut = LlamaCppEngine(EngineSpec(path=path, context_length=64, slots=1))
        with pytest.raises(EngineFailed, match=r"cannot load 'cut\.gguf'"):
            await cut.load(lambda _: None)
        await cut.close()

    async def test_warm_up_is_not_counted(self, engine: LlamaCppEngine) -> None:
        await engine.warm_up()
        assert engine.stats().tokens_generated_total == 0
        await collect(engine, await asked(engine, "Count to 5."), greedy(max_tokens=3))
        assert engine.stats().tokens_generated_total == 3


_LOAD_AND_CLOSE = """
import asyncio
from raymart_serve.engines.llama_cpp import LlamaCppEngine
from raymart_serve.engines.protocol import EngineSpec
from raymart_serve.models import resolve

async def main():
    path = resolve("bundled:demo-llm.gguf", "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3")
    for _ in range(30):
        engine = LlamaCppEngine(EngineSpec(path=path, context_length=64, slots=1))
        await engine.load(lambda _: None)
        await engine.close()
        print("closed", flush=True)

asyncio.run(main())
"""


class _Hanging:
    """The library, hanging."""

    def __init__(self, release: threading.Event) -> None:
        self._release = release

    def handle_completions(self, *_: object) -> None:
        self._release.wait(10)


class _Saying:
    """The library, saying one thing."""

    def __init__(self, data: str) -> None:
        self._data = data

    def handle_completions(self, _: object, callback) -> None:
        callback(self._data)


async def _until(holds) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.002)
