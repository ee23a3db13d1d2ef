"""Outputs become steps whose ids and text go together; vLLM itself is not needed for that."""

from collections.abc import Sequence

import pytest

from raymart_core.units import FinishReason
from raymart_core.wire.replica import TokenLogprob, ToolDelta
from raymart_serve.engines.protocol import EngineFailed, GenerationEvent, GenerationFinish, GenerationStep
from raymart_serve.engines.vllm.steps import Delta, Output, PlainText, StepReader


def output(ids: Sequence[int], text: str, finish: str | None = None, *, cached: int = 0) -> Output:
    return Output(ids=tuple(ids), text=text, logprobs=None, finish=finish, cached=cached)


def logged(token: str) -> TokenLogprob:
    return TokenLogprob(token=token, logprob=-1.0)


def read(outputs: Sequence[Output], *, stops: Sequence[str] = ()) -> list[GenerationEvent]:
    reader = StepReader(tokens_prompt=3, stops=stops, parser=PlainText())
    events: list[GenerationEvent] = []
    for each in outputs:
        if not reader.finished:
            events += reader.read(each)
    assert reader.finished
    return events


def told(events: Sequence[GenerationEvent]) -> list[tuple[tuple[int, ...], str]]:
    return [(event.ids, event.text) for event in events if isinstance(event, GenerationStep)]


class Shouting:
    """A parser that keeps each piece until the next, and has one more delta in the end."""

    def __init__(self) -> None:
        self._kept = ""

    def parse(self, text: str, ids: Sequence[int], *, finished: bool) -> Delta:
        said, self._kept = self._kept, text
        if finished:
            return Delta(text=said + text, tools=(ToolDelta(index=0, id="a", name="f"),))
        return Delta(reasoning=said.upper())


class TestStepReader:
    def test_each_output_is_a_step_and_the_last_a_finish(self):
        events = read([output([5], "a"), output([6, 7], "bc"), output([8], "d", "length")])
        assert told(events) == [((5,), "a"), ((6, 7), "bc"), ((8,), "d")]
        last = events[-1]
        assert isinstance(last, GenerationFinish)
        assert (last.reason, last.usage.prompt, last.usage.completion) == (FinishReason.LENGTH, 3, 4)

    def test_tokens_that_only_begin_a_character_wait_for_its_end(self):
        events = read([output([5], ""), output([6], ""), output([7], "é"), output([], "", "stop")])
        assert told(events) == [((5, 6, 7), "é")]

    def test_tokens_without_text_in_the_end_are_delivered_and_counted(self):
        events = read([output([5], "a"), output([6], "", "length")])
        assert told(events) == [((5,), "a"), ((6,), "")]

    def test_stop_string_across_tokens_takes_their_ids_with_it(self):
        events = read(
            [output([5], "a"), output([6], "E"), output([7], "N"), output([8], "D"), output([9], "x")],
            stops=["END"],
        )
        assert told(events) == [((5,), "a")]
        assert isinstance(events[-1], GenerationFinish)
        assert (events[-1].reason, events[-1].usage.completion) == (FinishReason.STOP, 1)

    def test_what_was_held_back_for_a_stop_string_comes_out_in_the_end(self):
        assert told(read([output([5], "aE"), output([6], "N", "length")], stops=["END"])) == [((5, 6), "aEN")]

    def test_cached_tokens_are_reported(self):
        last = read([output([5], "a", cached=16), output([], "", "stop")])[-1]
        assert isinstance(last, GenerationFinish)
        assert last.usage.cached == 16

    def test_logprobs_stay_with_their_tokens(self):
        reader = StepReader(tokens_prompt=1, stops=(), parser=PlainText())
        begun = Output(ids=(5,), text="", logprobs=(logged("?"),), finish=None, cached=0)
        ended = Output(ids=(6,), text="é", logprobs=(logged("é"),), finish="stop", cached=0)
        (step, _) = [*reader.read(begun), *reader.read(ended)]
        assert isinstance(step, GenerationStep)
        assert step.logprobs == (logged("?"), logged("é"))

    @pytest.mark.parametrize("finish", ["abort", "error"])
    def test_generation_that_vllm_gave_up_is_no_answer(self, finish: str):
        with pytest.raises(EngineFailed, match=finish):
            read([output([5], "a"), output([], "", finish)])

    def test_parser_decides_what_a_piece_is_and_has_the_last_word(self):
        reader = StepReader(tokens_prompt=1, stops=(), parser=Shouting())
        events = [
            *reader.read(output([5], "a")),
            *reader.read(output([6], "b")),
            *reader.read(output([], "", "stop")),
        ]
        first, second, last, finish = events
        assert isinstance(first, GenerationStep)
        assert isinstance(second, GenerationStep)
        assert isinstance(last, GenerationStep)
        assert isinstance(finish, GenerationFinish)
        assert (first.ids, first.text, first.reasoning) == ((5,), "", "")
        assert (second.ids, second.reasoning) == ((6,), "A")
        assert (last.ids, last.text, last.tool_deltas[0].name) == ((), "b", "f")
        assert finish.usage.completion == 2
