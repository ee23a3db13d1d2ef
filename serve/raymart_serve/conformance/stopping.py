"""Checks of stop strings and of leaving."""

import asyncio

from raymart_core.units import FinishReason
from raymart_serve.conformance.checks import check, require
from raymart_serve.conformance.generations import Generated, answer, generated, greedy
from raymart_serve.conformance.rig import Rig

_ENDLESS = 400
"""More tokens than an engine makes before it notices that nobody reads."""


@check
async def a_stop_string_is_never_delivered(rig: Rig) -> None:
    """Text ends right before the first match, wherever in the tokens it begins and ends; ids are those of that text."""
    ids, whole = await answer(rig)
    text = whole.text
    for length in (1, 4, 9):
        for start in range(0, len(text) - length, max(1, len(text) // 6)):
            stop = text[start : start + length]
            cut = await generated(rig, ids, greedy(stop=("\u2603\u2603", stop)))
            _require_cut(cut, whole, stop=stop)


@check
async def text_that_only_begins_a_stop_string_is_delivered(rig: Rig) -> None:
    """What was held back because a stop string might begin there is delivered when none follows."""
    ids, whole = await answer(rig)
    middle = len(whole.text) // 2
    stops = (whole.text[-3:] + "\u2603", whole.text[middle : middle + 4] + "\u2603")
    again = await generated(rig, ids, greedy(stop=stops))
    require(
        (again.text, again.ids) == (whole.text, whole.ids),
        f"no stop string matched, yet {again.text!r} was delivered instead of {whole.text!r}",
    )


@check
async def a_stop_ends_the_work(rig: Rig) -> None:
    """After a stop string the engine goes on with nothing, and what it stopped by itself is no abort."""
    ids, whole = await answer(rig)
    aborted = rig.engine.stats().requests_aborted_total
    stop = (whole.text[len(whole.text) // 2],)
    await generated(rig, ids, greedy(stop=stop, max_tokens=_ENDLESS, ignore_eos=True))
    await rig.idle()
    require(
        rig.engine.stats().requests_aborted_total == aborted, "a matched stop string was counted as an abort"
    )


@check
async def leaving_stops_the_engine(rig: Rig) -> None:
    """Leaving in mid-stream frees the slot within moments, is counted as an abort, and what was not read costs nothing."""
    await rig.idle()
    ids = await rig.ask(rig.subject.story)
    before = rig.engine.stats()
    for _ in range(2):
        async with rig.generates.generate(
            ids, sampling=greedy(max_tokens=_ENDLESS, ignore_eos=True)
        ) as events:
            await anext(events)
    await rig.idle()
    after = rig.engine.stats()
    aborted = after.requests_aborted_total - before.requests_aborted_total
    tokens = after.tokens_generated_total - before.tokens_generated_total
    require(aborted == 2, f"2 generations were left, {aborted} counted as aborted")
    require(2 <= tokens < 2 * _ENDLESS, f"2 generations left at their first step counted {tokens} tokens")
    await answer(rig)


@check
async def leaving_before_the_first_step_stops_the_engine(rig: Rig) -> None:
    """Leaving without reading anything frees the slot too."""
    await rig.idle()
    ids = await rig.ask(rig.subject.story)
    for _ in range(rig.engine.capacity + 1):
        async with rig.generates.generate(ids, sampling=greedy(max_tokens=_ENDLESS, ignore_eos=True)):
            pass
    await rig.idle()


@check
async def cancelling_the_task_stops_the_engine(rig: Rig) -> None:
    """Cancelling the task that reads frees the slot; cancelling one that waits for a slot frees its place."""
    await rig.idle()
    ids = await rig.ask(rig.subject.story)
    count = rig.engine.capacity + min(1, rig.spec.waiting_max)
    tasks = [asyncio.create_task(_read_forever(rig, ids)) for _ in range(count)]
    await rig.until(lambda: rig.engine.stats().running > 0, "nothing runs")
    for task in reversed(tasks):
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        require(
            isinstance(ended, asyncio.CancelledError), f"cancelling must raise CancelledError, not {ended!r}"
        )
    await rig.idle()


async def _read_forever(rig: Rig, ids: tuple[int, ...]) -> None:
    while True:
        await generated(rig, ids, greedy(max_tokens=_ENDLESS, ignore_eos=True))


def _require_cut(cut: Generated, whole: Generated, *, stop: str) -> None:
    expected = whole.text[: whole.text.index(stop)]
    require(
        cut.text == expected, f"stop {stop!r} in {whole.text!r} must leave {expected!r}, not {cut.text!r}"
    )
    require(cut.finish.reason is FinishReason.STOP, f"a matched stop string ends with {cut.finish.reason!r}")
    require(
        cut.ids == whole.ids[: len(cut.ids)],
        f"the ids before a stop string must be those of the whole answer; {cut.ids} are not",
    )
    if cut.steps:
        last = cut.steps[-1]
        # Tokens may come together in one run and apart in the other: then nobody knows where the text would have ended.
        uncut = _text_at(whole, last.count)
        require(
            uncut in {None, cut.text} or last.ends is FinishReason.STOP,
            f"the last step's text was cut before {stop!r}, so it must say that it ends, not {last.ends!r}",
        )
    needed = 0
    while needed < len(whole.steps) and len("".join(s.text for s in whole.steps[:needed])) < len(expected):
        needed += 1
    limit = whole.steps[needed - 1].count if needed else 0
    require(
        cut.finish.usage.completion <= limit,
        f"{cut.finish.usage.completion} tokens were counted for {cut.text!r}, which takes {limit}",
    )


STOPPING = (
    a_stop_string_is_never_delivered,
    text_that_only_begins_a_stop_string_is_delivered,
    a_stop_ends_the_work,
    leaving_stops_the_engine,
    leaving_before_the_first_step_stops_the_engine,
    cancelling_the_task_stops_the_engine,
)


def _text_at(whole: Generated, count: int) -> str | None:
    """The text of the first `count` tokens; None where no step ends there."""
    text = ""
    for step in whole.steps:
        text += step.text
        if step.count == count:
            return text
    return None
