"""Checks of how steps come: one after another, side by side with others, and with what was asked for."""

import asyncio

from raymart_core.units import FinishReason
from raymart_serve.conformance.checks import check, require
from raymart_serve.conformance.generations import answer, generated, greedy
from raymart_serve.conformance.rig import LoopLag, Rig
from raymart_serve.engines.protocol import GenerationFinish, RequestRefused

_LOOP_LAG_S_MAX = 0.25
"""Of the loop's own processor time."""


@check
async def a_generation_is_steps_and_one_finish(rig: Rig) -> None:
    """Steps with growing counts, then exactly one finish; after it the iteration is over, however often it is asked."""
    ids = await rig.ask(rig.subject.question)
    await generated(rig, ids, greedy(max_tokens=4))
    async with rig.generates.generate(ids, sampling=greedy(max_tokens=4)) as events:
        async for _ in events:
            pass
        for _ in range(2):
            require(await anext(events, None) is None, "there must be nothing after the finish")


@check
async def steps_come_while_it_generates(rig: Rig) -> None:
    """Tokens are handed on as they are made, not all at the end."""
    ids = await rig.ask(rig.subject.story)
    whole = await generated(rig, ids, greedy(max_tokens=64, ignore_eos=True))
    largest = max(len(step.ids) for step in whole.steps)
    require(
        largest <= 16, f"a step must have a few tokens, not {largest} of 64; stream them as they are sampled"
    )


@check
async def the_loop_stays_free(rig: Rig) -> None:
    """Nothing that the engine does holds the event loop: not loading, not encoding, not generating."""
    require(
        rig.load_lag_s <= _LOOP_LAG_S_MAX,
        f"load or warm_up computed {rig.load_lag_s:.2f} s on the event loop; move it to a thread",
    )
    lag = LoopLag()
    async with lag:
        ids = await rig.ask(rig.subject.story * 4)
        await generated(rig, ids, greedy(max_tokens=128, ignore_eos=True))
    require(
        lag.longest_s <= _LOOP_LAG_S_MAX,
        f"a generation computed {lag.longest_s:.2f} s on the event loop; move it to a thread",
    )


@check
async def more_than_fit_wait_their_turn(rig: Rig) -> None:
    """More generations than slots all get their own whole answer, and no more run at once than `capacity`."""
    capacity = rig.engine.capacity
    count = capacity + min(2, rig.spec.waiting_max)
    prompts = [await rig.ask(rig.subject.question + " " * at) for at in range(count)]
    running: set[int] = set()
    runs = [asyncio.create_task(_counted(rig, ids, 40 + at, running)) for at, ids in enumerate(prompts)]
    await asyncio.gather(*runs)
    require(max(running) <= capacity, f"{max(running)} generations ran at once, capacity is {capacity}")
    await rig.idle()


@check
async def a_slow_reader_holds_up_no_other(rig: Rig) -> None:
    """A reader that takes nothing costs at most its own slot."""
    require(rig.engine.capacity >= 2, "the subject must have 2 slots or more")
    ids = await rig.ask(rig.subject.story)
    async with rig.generates.generate(ids, sampling=greedy(max_tokens=300, ignore_eos=True)) as events:
        await anext(events)
        for _ in range(2):
            await generated(rig, ids, greedy(max_tokens=8, ignore_eos=True))
    await rig.idle()


@check
async def text_of_several_bytes_a_character_is_whole(rig: Rig) -> None:
    """Text is never cut inside a character; an incomplete one waits for its other tokens."""
    ids = await rig.ask(rig.subject.multibyte)
    for seed in range(3):
        sampling = greedy(max_tokens=80, temperature=1.0, seed=seed, ignore_eos=True)
        text = (await generated(rig, ids, sampling)).text
        halves = [letter for letter in text if "\ud800" <= letter <= "\udfff"]
        require(not halves, f"text has halves of characters: {halves!a}")


@check
async def logprobs_spell_the_text(rig: Rig) -> None:
    """With `top_logprobs` each step has entries that spell its text, each at most 0 and with at most that many others."""
    ids = await rig.ask(rig.subject.question)
    if not rig.subject.logprobs:
        await _refused(rig, ids)
        return
    for top in (0, 3):
        whole = await generated(rig, ids, greedy(top_logprobs=top))
        for step in whole.steps:
            entries = step.logprobs
            require(entries is not None, "a step has no logprobs although they were asked for")
            assert entries is not None
            spelled = "".join(entry.token for entry in entries)
            require(spelled == step.text, f"the entries spell {spelled!r}, the step's text is {step.text!r}")
            require(all(entry.logprob <= 0 for entry in entries), "a logprob is above 0")
            require(
                all(len(entry.top) == top for entry in entries),
                f"each entry must have {top} alternatives, as asked for",
            )
    plain = await generated(rig, ids, greedy())
    require(all(step.logprobs is None for step in plain.steps), "logprobs came without being asked for")


@check
async def max_tokens_ends_with_length(rig: Rig) -> None:
    """`max_tokens` is kept to the token, also when it is 1, and the reason is LENGTH."""
    ids = await rig.ask(rig.subject.story)
    for limit in (1, 3):
        whole = await generated(rig, ids, greedy(max_tokens=limit, ignore_eos=True))
        _require_length(whole.finish.reason, whole.finish.usage.completion, limit)


@check
async def the_context_ends_with_length(rig: Rig) -> None:
    """Prompt and completion never exceed the context: it ends there with LENGTH, and nothing is shifted out of it."""
    ids = await rig.ask(rig.subject.story)
    filled = (ids * (rig.engine.context_length // len(ids) + 1))[: rig.engine.context_length - 7]
    whole = await generated(rig, filled, greedy(max_tokens=50, ignore_eos=True))
    _require_length(whole.finish.reason, whole.finish.usage.completion, 7)


@check
async def the_end_is_neither_delivered_nor_counted(rig: Rig) -> None:
    """The end-of-sequence token is in no step and no count: after the whole answer, nothing is left to say."""
    ids, whole = await answer(rig)
    require(
        whole.finish.reason is FinishReason.STOP,
        f"an answer that ends by itself ends with {whole.finish.reason!r}",
    )
    rest = await generated(rig, ids, greedy(), resume_ids=whole.ids)
    require(
        not rest.steps and rest.finish.reason is FinishReason.STOP,
        f"resumed after all its tokens the answer must end at once with STOP, not say {rest.text!r}",
    )


async def _counted(rig: Rig, ids: tuple[int, ...], tokens: int, running: set[int]) -> None:
    """Generate `tokens`, noting in `running` how many generations run meanwhile."""
    completion = 0
    async with rig.generates.generate(ids, sampling=greedy(max_tokens=tokens, ignore_eos=True)) as events:
        async for event in events:
            running.add(rig.engine.stats().running)
            if isinstance(event, GenerationFinish):
                completion = event.usage.completion
                require(event.usage.prompt == len(ids), "the usage is that of another prompt")
    require(completion == tokens, f"{completion} tokens instead of {tokens}, beside others")


def _require_length(reason: FinishReason, tokens: int, limit: int) -> None:
    require(
        reason is FinishReason.LENGTH and tokens == limit,
        f"a limit of {limit} tokens must end with {limit} tokens and LENGTH, not {tokens} and {reason!r}",
    )


async def _refused(rig: Rig, ids: tuple[int, ...]) -> None:
    try:
        await generated(rig, ids, greedy(top_logprobs=1))
    except RequestRefused as error:
        require(error.param == "top_logprobs", f"the refusal must name top_logprobs, not {error.param!r}")
        return
    require(holds=False, why="an engine without logprobs must refuse top_logprobs")


STREAMING = (
    a_generation_is_steps_and_one_finish,
    steps_come_while_it_generates,
    the_loop_stays_free,
    more_than_fit_wait_their_turn,
    a_slow_reader_holds_up_no_other,
    text_of_several_bytes_a_character_is_whole,
    logprobs_spell_the_text,
    max_tokens_ends_with_length,
    the_context_ends_with_length,
    the_end_is_neither_delivered_nor_counted,
)
