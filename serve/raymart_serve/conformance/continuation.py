"""Checks of continuation from token ids (how an answer survives its endpoint) and of metering."""

from raymart_core.units import FinishReason
from raymart_serve.conformance.checks import check, require
from raymart_serve.conformance.generations import Generated, answer, generated, greedy
from raymart_serve.conformance.rig import Rig


@check
async def continuing_gives_the_same_rest(rig: Rig) -> None:
    """Resumed after any of its steps, a greedy answer goes on with the same tokens and ends in the same way."""
    ids, whole = await answer(rig)
    at, stride = 0, max(1, len(whole.steps) // 24)
    for step in whole.steps[:-1:stride]:
        at = step.count
        rest = await generated(rig, ids, greedy(), resume_ids=whole.ids[:at])
        require(
            rest.ids == whole.ids[at:] and rest.finish.reason is whole.finish.reason,
            f"after {at} tokens of {whole.text!r} it went on with {rest.text!r}",
        )


@check
async def continuing_returns_only_what_is_new(rig: Rig) -> None:
    """The text of a continuation is what comes after the resumed tokens, without them, to the last byte of a character."""
    ids, whole = await answer(rig)
    await _require_joins(rig, ids, whole, at=len(whole.steps) // 2)
    ids = await rig.ask(rig.subject.multibyte)
    whole = await generated(rig, ids, greedy())
    for at in range(1, min(len(whole.steps), 16)):
        await _require_joins(rig, ids, whole, at=at)


@check
async def continuing_counts_anew(rig: Rig) -> None:
    """Counts and `max_tokens` are of the new tokens only; resumed ones are part of the prompt and of the context."""
    ids, whole = await answer(rig)
    resumed = whole.ids[:3]
    rest = await generated(rig, ids, greedy(max_tokens=2), resume_ids=resumed)
    require(
        (rest.finish.usage.completion, rest.finish.reason) == (2, FinishReason.LENGTH),
        f"2 tokens after 3 resumed ones were asked for; {rest.finish.usage.completion} came",
    )
    room = rig.engine.context_length - len(ids) - 4
    filled = (whole.ids * (room // len(whole.ids) + 1))[:room]
    full = await generated(rig, ids, greedy(max_tokens=50, ignore_eos=True), resume_ids=filled)
    require(
        full.finish.usage.completion == 4,
        f"{full.finish.usage.completion} tokens came where prompt and resumed ids leave room for 4",
    )


@check
async def counters_count_what_was_delivered(rig: Rig) -> None:
    """`tokens_generated_total` grows by the tokens of the steps, and an ended generation is no aborted one."""
    await rig.idle()
    ids = await rig.ask(rig.subject.question)
    before = rig.engine.stats()
    delivered = 0
    for sampling in (greedy(), greedy(max_tokens=5, ignore_eos=True), greedy(max_tokens=1)):
        delivered += (await generated(rig, ids, sampling)).finish.usage.completion
    await rig.idle()
    after = rig.engine.stats()
    counted = after.tokens_generated_total - before.tokens_generated_total
    require(
        counted == delivered, f"{delivered} tokens were delivered, tokens_generated_total grew by {counted}"
    )
    require(
        after.requests_aborted_total == before.requests_aborted_total,
        "generations that ended were counted as aborted",
    )


async def _require_joins(rig: Rig, ids: tuple[int, ...], whole: Generated, *, at: int) -> None:
    before = "".join(step.text for step in whole.steps[:at])
    rest = await generated(rig, ids, greedy(), resume_ids=whole.ids[: whole.steps[at - 1].count])
    require(
        before + rest.text == whole.text, f"{before!r} was continued with {rest.text!r} of {whole.text!r}"
    )


CONTINUATION = (
    continuing_gives_the_same_rest,
    continuing_returns_only_what_is_new,
    continuing_counts_anew,
    counters_count_what_was_delivered,
)
