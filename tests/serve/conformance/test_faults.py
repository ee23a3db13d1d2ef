"""An engine that breaks a promise is found out: each check is shown an engine with the fault that it is there to find."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from raymart_core.units import FinishReason
from raymart_core.wire.replica import NO_OPTIONS, ChatMessage, GenerationOptions, Sampling, ToolDelta, Usage
from raymart_serve.conformance import Nonconformance, Rig, Subject, checks_for
from raymart_serve.conformance.embedding import numbers
from raymart_serve.engines.llama_cpp import LlamaCppEngine
from raymart_serve.engines.protocol import (
    Embeds,
    EngineHealth,
    EngineSpec,
    EngineStats,
    Generates,
    GenerationEvent,
    GenerationFinish,
    GenerationStep,
)
from raymart_serve.models import resolve

DEMO = ("bundled:demo-llm.gguf", "6a468f3a94710bd2f7e0c79f63955d70656949835144336d1277bea303bd43a3")
SPEC = EngineSpec(path=resolve(*DEMO), context_length=256, slots=2, waiting_max=1)
CHECKS = {str(check): check for check in checks_for(Generates, Embeds)}


class Sound(LlamaCppEngine):
    """The real engine, with the places where faults can be put in."""

    def stream(
        self, events: AsyncIterator[GenerationEvent], sampling: Sampling
    ) -> AsyncIterator[GenerationEvent]:
        return events

    def asked(self, sampling: Sampling) -> Sampling:
        return sampling

    @asynccontextmanager
    async def generate(
        self,
        prompt_ids: Sequence[int],
        *,
        sampling: Sampling,
        resume_ids: Sequence[int] = (),
        options: GenerationOptions = NO_OPTIONS,
    ) -> AsyncIterator[AsyncIterator[GenerationEvent]]:
        asked = self.asked(sampling)
        generation = super().generate(prompt_ids, sampling=asked, resume_ids=resume_ids, options=options)
        async with generation as events:
            yield self.stream(events, sampling)


def changed(sampling: Sampling, **changes: object) -> Sampling:
    values = {name: getattr(sampling, name) for name in Sampling.__struct_fields__}
    return Sampling(**values | changes)


class WithoutFinish(Sound):
    async def stream(self, events, sampling):
        async for event in events:
            if isinstance(event, GenerationStep):
                yield event


class TwoFinishes(Sound):
    async def stream(self, events, sampling):
        async for event in events:
            yield event
            if isinstance(event, GenerationFinish):
                yield event


class AllAtOnce(Sound):
    async def stream(self, events, sampling):
        *steps, finish = [event async for event in events]
        if steps:
            ids = tuple(token for step in steps for token in step.ids)
            text = "".join(step.text for step in steps)
            yield GenerationStep(ids=ids, count=steps[-1].count, text=text)
        yield finish


class OnTheLoop(Sound):
    async def encode_chat(self, messages: Sequence[ChatMessage], options: GenerationOptions = NO_OPTIONS):
        end = time.thread_time() + 0.3
        while time.thread_time() < end:
            pass
        return await super().encode_chat(messages, options)


class MoreAtOnceThanItSays(Sound):
    capacity = 1


class OneReaderAtATime(Sound):
    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(replace(spec, slots=1))

    capacity = 2


class HalfCharacters(Sound):
    async def stream(self, events, sampling):
        async for event in events:
            yield replace(event, text="\ud83d") if isinstance(event, GenerationStep) else event


class OtherLogprobs(Sound):
    async def stream(self, events, sampling):
        async for event in events:
            some = isinstance(event, GenerationStep) and event.logprobs
            yield replace(event, logprobs=event.logprobs[1:]) if some else event


class OneTokenMore(Sound):
    def asked(self, sampling: Sampling) -> Sampling:
        return changed(sampling, max_tokens=sampling.max_tokens + 1)


class AlwaysStop(Sound):
    async def stream(self, events, sampling):
        async for event in events:
            yield replace(event, reason=FinishReason.STOP) if isinstance(event, GenerationFinish) else event


class EndIsCounted(Sound):
    async def stream(self, events, sampling):
        *steps, finish = [event async for event in events]
        for step in steps:
            yield step
        count = finish.usage.completion
        if finish.reason is FinishReason.STOP and not sampling.stop:
            count += 1
            yield GenerationStep(ids=(2,), count=count, text="")
        yield replace(finish, usage=Usage(prompt=finish.usage.prompt, completion=count))


class WithoutStops(Sound):
    def asked(self, sampling: Sampling) -> Sampling:
        return changed(sampling, stop=())


class KeepsWhatItHeld(Sound):
    async def stream(self, events, sampling):
        *steps, finish = [event async for event in events]
        if sampling.stop and finish.reason is FinishReason.STOP:
            steps = steps[:-1]
        for step in steps:
            yield step
        yield replace(finish, usage=Usage(prompt=finish.usage.prompt, completion=steps[-1].count))


class AbortsAreNotCounted(Sound):
    def stats(self) -> EngineStats:
        return replace(super().stats(), requests_aborted_total=0)


class EveryEndIsAnAbort(Sound):
    aborted = 0

    def stats(self) -> EngineStats:
        self.aborted += 1
        return replace(super().stats(), requests_aborted_total=self.aborted)


class RunsOn(Sound):
    """Leaving stops nothing."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self.left = AsyncExitStack()

    @asynccontextmanager
    async def generate(self, prompt_ids, *, sampling, resume_ids=(), options=NO_OPTIONS):
        generation = super().generate(prompt_ids, sampling=sampling, resume_ids=resume_ids, options=options)
        yield await self.left.enter_async_context(generation)

    async def close(self) -> None:
        await super().close()
        await self.left.aclose()


class WithoutSeeds(Sound):
    def asked(self, sampling: Sampling) -> Sampling:
        return changed(sampling, seed=None)


class OneSeed(Sound):
    def asked(self, sampling: Sampling) -> Sampling:
        return changed(sampling, seed=5)


class NeverCold(Sound):
    def asked(self, sampling: Sampling) -> Sampling:
        return changed(sampling, temperature=2.0 if sampling.seed is not None else sampling.temperature)


class ForgetsWhatWasResumed(Sound):
    @asynccontextmanager
    async def generate(self, prompt_ids, *, sampling, resume_ids=(), options=NO_OPTIONS):
        generation = super().generate([*prompt_ids, *[26] * len(resume_ids)], sampling=sampling)
        async with generation as events:
            yield events


class RepeatsWhatWasResumed(Sound):
    @asynccontextmanager
    async def generate(self, prompt_ids, *, sampling, resume_ids=(), options=NO_OPTIONS):
        generation = super().generate(prompt_ids, sampling=sampling, resume_ids=resume_ids)
        async with generation as events:
            yield self.repeated(events) if resume_ids else events

    async def repeated(self, events):
        first, *rest = [event async for event in events]
        yield replace(first, text="Latency" + first.text) if isinstance(first, GenerationStep) else first
        for event in rest:
            yield event


class CountsTwice(Sound):
    def stats(self) -> EngineStats:
        stats = super().stats()
        return replace(stats, tokens_generated_total=2 * stats.tokens_generated_total)


class TakesAnyPrompt(Sound):
    def generate(self, prompt_ids, **more):
        return super().generate([min(max(token, 0), 2000) for token in prompt_ids] or [26], **more)


class CutsPrompts(Sound):
    def generate(self, prompt_ids, *, resume_ids=(), **more):
        return super().generate([*prompt_ids, *resume_ids][-200:], **more)


class EndlessQueue(Sound):
    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(replace(spec, waiting_max=64))


class RefusalsRun(Sound):
    refused = 0

    def generate(self, prompt_ids, **more):
        self.refused += not prompt_ids
        return super().generate(prompt_ids, **more)

    def stats(self) -> EngineStats:
        return replace(super().stats(), waiting=self.refused)


class WithoutVersion(Sound):
    label = "mine"


class ContextOfItsOwn(Sound):
    context_length = 4096


class SilentLoad(Sound):
    async def load(self, progress: Callable[[int], None]) -> None:
        await super().load(lambda _: None)


class CountsItsWarmUp(Sound):
    async def warm_up(self) -> None:
        await super().warm_up()
        self._tokens_generated = 2


class ReadyTooSoon(Sound):
    async def health(self) -> EngineHealth:
        return EngineHealth(state="ready")


class RawErrors(Sound):
    async def load(self, progress: Callable[[int], None]) -> None:
        try:
            await super().load(progress)
        except Exception as error:
            raise RuntimeError(str(error)) from error


class FailsAtWork(Sound):
    async def health(self) -> EngineHealth:
        return (
            EngineHealth(state="failing", reason="busy") if self.stats().running else await super().health()
        )


class NeverReady(Sound):
    async def health(self) -> EngineHealth:
        return EngineHealth(state="failing", reason="always")


class AliveAfterClose(Sound):
    async def close(self) -> None:
        """Closes nothing; the test does once the fault has been found."""


class AnotherNameEachTime(Sound):
    asked_for = 0

    @property
    def label(self) -> str:
        self.asked_for += 1
        return f"mine {self.asked_for}"


class IgnoresFormats(Sound):
    def generate(self, prompt_ids, *, options=NO_OPTIONS, **more):
        return super().generate(prompt_ids, **more)


class ReranksUnchecked(Sound):
    async def rerank(self, query, documents):
        return ()


class LongVectors(Sound):
    async def embed(self, inputs, *, dimensions=None):
        vectors = await super().embed(inputs, dimensions=dimensions)
        doubled = [struct.pack("<192f", *(2 * x for x in numbers(vector))) for vector in vectors]
        return [replace(one, vector=two) for one, two in zip(vectors, doubled, strict=True)]


class LosesOrder(Sound):
    async def embed(self, inputs, *, dimensions=None):
        return (await super().embed(inputs, dimensions=dimensions))[::-1]


class CountsCharacters(Sound):
    async def embed(self, inputs, *, dimensions=None):
        vectors = await super().embed(inputs, dimensions=dimensions)
        return [replace(one, tokens=len(vectors) + one.tokens) for one in vectors]


class CutsWithoutScaling(Sound):
    async def embed(self, inputs, *, dimensions=None):
        vectors = await super().embed(inputs)
        return [replace(one, vector=one.vector[: 4 * (dimensions or 192)]) for one in vectors]


class CutsInputs(Sound):
    async def embed(self, inputs, *, dimensions=None):
        return await super().embed([text[:600] for text in inputs], dimensions=dimensions)


class NeverCalls(Sound):
    def _tools_for(self, options):
        return ()


class CallsInTheText(Sound):
    def _tool_reader(self, resume_ids):
        return None


class CallsWithoutBeginning(Sound):
    async def stream(self, events, sampling):
        async for event in events:
            deltas = getattr(event, "tool_deltas", ())
            yield replace(event, tool_deltas=deltas[1:]) if deltas else event


class CallsAnyhow(Sound):
    async def stream(self, events, sampling):
        async for event in events:
            delta = ToolDelta(index=0, id="call_1", name="get_weather", arguments="{}")
            yield replace(event, tool_deltas=(delta,)) if isinstance(event, GenerationStep) else event


FAULTS = [
    ("a_required_tool_is_called", NeverCalls),
    ("a_required_tool_is_called", CallsInTheText),
    ("a_required_tool_is_called", CallsWithoutBeginning),
    ("tools_that_must_not_be_called_are_not", CallsAnyhow),
    ("it_can_do_what_is_checked", ReranksUnchecked),
    ("it_says_what_it_is", WithoutVersion),
    ("it_says_what_it_is", ContextOfItsOwn),
    ("loading_is_told", SilentLoad),
    ("loading_is_told", CountsItsWarmUp),
    ("making_one_loads_nothing", ReadyTooSoon),
    ("broken_weights_fail_the_load", RawErrors),
    ("health_answers_beside_work", FailsAtWork),
    ("a_generation_is_steps_and_one_finish", WithoutFinish),
    ("a_generation_is_steps_and_one_finish", TwoFinishes),
    ("steps_come_while_it_generates", AllAtOnce),
    ("the_loop_stays_free", OnTheLoop),
    ("more_than_fit_wait_their_turn", MoreAtOnceThanItSays),
    ("a_slow_reader_holds_up_no_other", OneReaderAtATime),
    ("text_of_several_bytes_a_character_is_whole", HalfCharacters),
    ("logprobs_spell_the_text", OtherLogprobs),
    ("max_tokens_ends_with_length", OneTokenMore),
    ("max_tokens_ends_with_length", AlwaysStop),
    ("the_context_ends_with_length", AlwaysStop),
    ("the_end_is_neither_delivered_nor_counted", EndIsCounted),
    ("a_stop_string_is_never_delivered", WithoutStops),
    ("text_that_only_begins_a_stop_string_is_delivered", KeepsWhatItHeld),
    ("a_stop_ends_the_work", EveryEndIsAnAbort),
    ("leaving_stops_the_engine", AbortsAreNotCounted),
    ("leaving_before_the_first_step_stops_the_engine", RunsOn),
    ("cancelling_the_task_stops_the_engine", RunsOn),
    ("a_seed_gives_the_same_tokens", WithoutSeeds),
    ("other_seeds_give_other_tokens", OneSeed),
    ("without_a_seed_answers_differ", OneSeed),
    ("temperature_zero_is_greedy", NeverCold),
    ("continuing_gives_the_same_rest", ForgetsWhatWasResumed),
    ("continuing_returns_only_what_is_new", RepeatsWhatWasResumed),
    ("continuing_counts_anew", CutsPrompts),
    ("counters_count_what_was_delivered", CountsTwice),
    ("wrong_prompts_are_refused", TakesAnyPrompt),
    ("prompts_without_room_are_refused", CutsPrompts),
    ("one_too_many_is_refused_at_once", EndlessQueue),
    ("a_response_format_is_held_or_refused", IgnoresFormats),
    ("a_broken_schema_is_refused", IgnoresFormats),
    ("a_refusal_leaves_no_trace", RefusalsRun),
    ("a_generation_is_events_in_order", AnotherNameEachTime),
    ("a_whole_answer_has_the_same_in_fewer_pieces", AnotherNameEachTime),
    ("closing_the_connection_stops_the_engine", AbortsAreNotCounted),
    ("refusals_name_fault_and_field", TakesAnyPrompt),
    ("health_and_stats_are_served", NeverReady),
    ("closing_breaks_off_what_runs", AliveAfterClose),
    ("vectors_are_of_length_one_and_one_size", LongVectors),
    ("a_vector_depends_on_its_input_alone", LosesOrder),
    ("a_vector_depends_on_its_input_alone", CountsCharacters),
    ("token_ids_are_inputs_too", CountsCharacters),
    ("fewer_dimensions_are_the_first_ones", CutsWithoutScaling),
    ("wrong_inputs_are_refused", CutsInputs),
]
OURS = {
    # It looks at the routes, which are the same for every engine; tests/serve/replica has them.
    "what_it_cannot_do_is_refused",
}


@pytest.mark.parametrize(("check", "engine"), FAULTS, ids=lambda part: getattr(part, "__name__", part))
def test_the_fault_is_found(check: str, engine: type[LlamaCppEngine]) -> None:
    made: list[LlamaCppEngine] = []

    def factory(spec: EngineSpec) -> LlamaCppEngine:
        made.append(engine(spec))
        return made[-1]

    subject = Subject(factory=factory, spec=SPEC)
    with Rig(subject, check_timeout_s=0.4, settle_s=0.2) as rig, pytest.raises(Nonconformance):
        rig.run(CHECKS[check])
    for one in made:
        asyncio.run(LlamaCppEngine.close(one))


def test_every_check_is_shown_its_fault() -> None:
    assert {name for name, _ in FAULTS} | OURS >= set(CHECKS)
