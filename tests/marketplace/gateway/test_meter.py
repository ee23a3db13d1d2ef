"""The meter bills what adds up and stops at the first claim that does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymart_core.units import Fault, FinishReason
from raymart_core.wire.replica import (
    ErrorEvent,
    FinishEvent,
    PromptEvent,
    StepEvent,
    ToolDelta,
    Usage,
    encode,
)
from raymart_marketplace.gateway.meter import INEXACT_SLACK_TOKENS, LINE_BYTES_MAX, Meter, replica_lines
from raymart_marketplace.supply.upstream import UpstreamBroken


def meter(*, prompt: int = 10, completion: int = 100) -> Meter:
    return Meter(tokens_prompt_max=prompt, tokens_completion_max=completion)


def step(i: int, ids: tuple[int, ...], n: int, d: str = "x", *, exact: bool = True) -> StepEvent:
    return StepEvent(i=i, t=ids, n=n, d=d, exact=exact)


class TestHonestStream:
    def test_counts_follow_the_ids(self):
        counting = meter()
        counting.prompt(PromptEvent(ids=(1, 2, 3)))
        counting.step(step(0, (5,), 1))
        counting.step(step(1, (6, 7), 3, d=""))
        counting.step(step(5, (), 3))
        assert (counting.tokens_prompt, counting.tokens_completion, counting.exact) == (3, 3, True)

    def test_inexact_steps_are_billed_by_their_count_and_say_so(self):
        counting = meter()
        counting.step(step(0, (), 2, d="ab", exact=False))
        counting.step(step(1, (9,), 3))
        assert (counting.tokens_completion, counting.exact) == (3, False)

    def test_pieces_of_tool_calls_and_reasoning_are_taken(self):
        counting = Meter(tokens_prompt_max=10, tokens_completion_max=100, tools=True)
        first = ToolDelta(index=0, id="a", name="f")
        counting.step(StepEvent(i=0, t=(1,), n=1, tool=(first, ToolDelta(index=0, arguments="{}"))))
        counting.step(
            StepEvent(i=1, t=(1,), n=2, tool=(ToolDelta(index=1, id="b", name="g", arguments="{}"),))
        )
        counting.step(StepEvent(i=2, t=(1,), n=3, r="hm"))
        assert counting.tokens_completion == 3


class TestToolClaims:
    @pytest.mark.parametrize(
        ("delta", "said"),
        [
            (ToolDelta(index=1, id="b", name="g"), "tool call 1 after 0 calls"),
            (ToolDelta(index=-1, id="b", name="g"), "tool call -1"),
            (ToolDelta(index=0, name="g"), "without an id or a name"),
            (ToolDelta(index=0, id="b"), "without an id or a name"),
            (ToolDelta(index=0, id="b" * 257, name="g"), "id of 257 characters"),
            (ToolDelta(index=0, id="b", name="g", arguments="x" * 1100), "characters for 1 tokens"),
        ],
    )
    def test_a_call_that_is_none_is_the_providers_fault(self, delta, said):
        counting = Meter(tokens_prompt_max=10, tokens_completion_max=100, tools=True)
        with pytest.raises(UpstreamBroken, match=said) as caught:
            counting.step(StepEvent(i=0, t=(1,), n=1, tool=(delta,)))
        assert caught.value.fault is Fault.PROVIDER
        assert counting.tokens_completion == 0

    def test_a_call_that_nobody_offered_tools_for_is_refused(self):
        with pytest.raises(UpstreamBroken, match="no tools were offered"):
            meter().step(StepEvent(i=0, t=(1,), n=1, tool=(ToolDelta(index=0, id="a", name="f"),)))

    def test_more_than_128_calls_are_too_many(self):
        counting = Meter(tokens_prompt_max=10, tokens_completion_max=1000, tools=True)
        for n in range(128):
            counting.step(StepEvent(i=n, t=(1,), n=n + 1, tool=(ToolDelta(index=n, id="a", name="f"),)))
        with pytest.raises(UpstreamBroken, match="tool call 128"):
            counting.step(StepEvent(i=128, t=(1,), n=129, tool=(ToolDelta(index=128, id="a", name="f"),)))

    def test_reasoning_counts_against_what_a_token_may_bring(self):
        with pytest.raises(UpstreamBroken, match="characters for 1 tokens"):
            meter().step(StepEvent(i=0, t=(1,), n=1, r="x" * 1100))


class TestClaims:
    @pytest.mark.parametrize(
        ("event", "said"),
        [
            (step(1, (5,), 5), "count of 5 after 2 tokens and 1 more"),
            (step(1, (5,), 2), "count of 2 after 2"),
            (step(1, (), 3), "count of 3 after 2 tokens and 0 more"),
            (step(0, (5,), 3), "step 0 after step 0"),
            (step(-1, (5,), 3), "step -1"),
            (step(1, (-1,), 3), "token id"),
            (step(1, (2**31,), 3), "token id"),
            (step(1, (1,) * 9, 11), "11 tokens; 10 were asked for"),
            (step(1, (), 1, exact=False), "count of 1 after 2"),
            (step(1, (), 11, exact=False), "11 tokens; 10"),
            (step(1, (5,), 3, d="x" * 2100), "characters for 3 tokens"),
        ],
    )
    def test_a_claim_that_does_not_add_up_is_the_providers_fault_and_not_counted(self, event, said):
        counting = meter(completion=10)
        counting.step(step(0, (3, 4), 2))
        with pytest.raises(UpstreamBroken, match=said) as caught:
            counting.step(event)
        assert caught.value.fault is Fault.PROVIDER
        assert counting.tokens_completion == 2

    def test_tokens_without_ids_need_text(self):
        counting = meter(completion=1000)
        with pytest.raises(UpstreamBroken, match="without ids"):
            counting.step(step(0, (), INEXACT_SLACK_TOKENS + 5, d="x", exact=False))

    def test_more_prompt_than_was_sent_is_refused(self):
        with pytest.raises(UpstreamBroken, match="11 prompt tokens; the request can have 10"):
            meter().prompt(PromptEvent(ids=(1,) * 11))

    @pytest.mark.parametrize("event", [step(0, (1,), 1), ErrorEvent(message="no", fault=Fault.PROVIDER)])
    def test_a_stream_that_does_not_begin_with_the_prompt_is_refused(self, event):
        with pytest.raises(UpstreamBroken, match="not the prompt"):
            meter().prompt(event)

    def test_another_revision_than_was_routed_to_is_refused(self):
        event = FinishEvent(finish=FinishReason.STOP, usage=Usage(1, 1), revision="sha256:bb", engine="e")
        with pytest.raises(UpstreamBroken, match="another revision than sha256:aa"):
            meter().finish(event, revision="sha256:aa")

    @given(
        st.lists(
            st.builds(
                step, st.integers(-2, 20), st.lists(st.integers(-1, 9), max_size=3).map(tuple), st.integers(-2, 30),
                st.text(max_size=4), exact=st.booleans(),
            ),
            max_size=12,
        )
    )  # fmt: skip
    def test_whatever_is_sent_the_count_is_bounded_and_never_falls(self, events):
        counting = meter(completion=8)
        ids = 0
        for event in events:
            before = counting.tokens_completion
            try:
                counting.step(event)
            except UpstreamBroken:
                assert counting.tokens_completion == before
                break
            ids += len(event.t)
            assert before <= counting.tokens_completion <= 8
            assert not counting.exact or counting.tokens_completion == ids


class TestEventLines:
    @given(st.data())
    def test_pieces_of_any_size_give_the_same_events(self, data):
        events = [PromptEvent(ids=(1,)), step(0, (5,), 1, d="é\n"), step(1, (6,), 2, d="☃")]
        body = b"".join(encode(event) + b"\n" for event in events)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
        lines = replica_lines()
        got = []
        for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
            got += lines.feed(body[start:end])
        assert got == events

    @pytest.mark.parametrize(
        "line",
        [
            b"no json",
            b'{"e":"?"}',
            b'{"e":"s"}',
            b"[" * 100_000,
            b'"\xff"',
            b'{"e":"s","i":1,"t":[1e99],"n":1}',
        ],
    )
    def test_a_line_that_is_no_event_is_the_providers_fault(self, line):
        with pytest.raises(UpstreamBroken, match="no event") as caught:
            replica_lines().feed(line + b"\n")
        assert caught.value.fault is Fault.PROVIDER

    def test_a_line_that_never_ends_is_cut_off(self):
        lines = replica_lines()
        lines.feed(b"x" * LINE_BYTES_MAX)
        with pytest.raises(UpstreamBroken, match="a line of more than"):
            lines.feed(b"x")
