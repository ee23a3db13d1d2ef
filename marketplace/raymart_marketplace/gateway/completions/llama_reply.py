"""Answers of llama.cpp's `/completion`: one object, or server-sent events of which the last has `stop: true`.

What it says of llama.cpp's slots and of timings is not said here. `stop_type` is "limit" or "eos": whether a stop string
or the model itself ended a text is not told by all engines, so `stopping_word` is empty.
Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from collections.abc import Sequence

import msgspec

from raymart_core.errors import DomainError
from raymart_core.units import FinishReason
from raymart_core.wire.replica import TokenLogprob
from raymart_marketplace.gateway.answers import Whole
from raymart_marketplace.gateway.choices import Asked
from raymart_marketplace.gateway.error_reply import ErrorReply, error_object
from raymart_marketplace.gateway.events import Broken, Delta, Finished, Resumed, Started
from raymart_marketplace.gateway.openai_usage import UsageObject, usage_of
from raymart_marketplace.gateway.resumption import Failover, failover_of

_encode = msgspec.json.Encoder().encode


class LlamaProbability(msgspec.Struct):
    """A token that could have come."""

    token: str
    bytes: tuple[int, ...]
    logprob: float


class LlamaToken(LlamaProbability):
    """A token that came, with its alternatives."""

    top_logprobs: list[LlamaProbability]


class LlamaSettings(msgspec.Struct):
    """How it was generated."""

    n_predict: int
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...]


class LlamaCompletion(msgspec.Struct, omit_defaults=True):
    """The answer, or the last event of a stream."""

    index: int
    content: str
    tokens: tuple[int, ...]
    stop: bool
    model: str
    tokens_predicted: int
    tokens_evaluated: int
    generation_settings: LlamaSettings
    prompt: str
    truncated: bool
    stop_type: str
    stopping_word: str
    provider: str
    """Ours: who served last."""
    usage: UsageObject
    """Ours: what is billed, as OpenAI writes it, with its cost."""
    completion_probabilities: list[LlamaToken] = []
    failover: Failover | None = None
    """Ours: where the text was taken up by another provider."""


def llama_body(asked: Asked, choice: Whole) -> bytes:
    """The whole answer as JSON."""
    return _encode(_completion(asked, choice.started, choice.answer, choice.finished))


class LlamaStream:
    """Writes the stream of an answer. Implements `Chunks`; there is never but one choice."""

    def __init__(self, asked: Asked, started: Started) -> None:
        self._asked = asked
        self._started = started
        self._tokens = 0

    def role(self) -> bytes:
        """Nothing."""
        return b""

    def delta(self, delta: Delta) -> bytes:
        """An event of text and its tokens."""
        self._tokens += len(delta.token_ids)
        extra = b""
        if delta.logprobs is not None:
            extra = b',"completion_probabilities":%b' % _encode(_tokens(delta.logprobs))
        return (
            b'data: {"index":0,"content":%b,"tokens":%b,"stop":false,"id_slot":-1,"tokens_predicted":%d%b}\n\n'
            % (
                _encode(delta.text),
                _encode(delta.token_ids),
                self._tokens,
                extra,
            )
        )

    def resume(self, resumed: Resumed) -> None:
        """Only the last event names who served."""

    def end(self, finished: Finished) -> bytes:
        """The last event."""
        return b"data: %b\n\n" % _encode(_completion(self._asked, self._started, _NOTHING, finished))

    def error(self, broken: Broken) -> bytes:
        """The last event of a stream that broke, as llama.cpp writes one."""
        return self.failed(broken.error)

    def finish(self, finished: Finished) -> bytes:
        """The same as `end`."""
        return self.end(finished)

    def failed(self, error: DomainError) -> bytes:
        """The error as an event."""
        said = ErrorReply(error=error_object(error, request_id=self._started.request_id))
        return b"data: %b\n\n" % _encode(said)

    def note(self, field: bytes) -> bytes:
        """An event without text that carries `field`."""
        return b'data: {"index":0,"content":"","tokens":[],"stop":false,%b}\n\n' % field

    def close(self, ended: Sequence[Finished | Broken]) -> bytes:
        """Nothing."""
        del ended
        return b""


_NOTHING = Delta(text="", token_ids=())


def _completion(asked: Asked, started: Started, answer: Delta, finished: Finished) -> LlamaCompletion:
    request = asked.request
    sampling = request.sampling
    return LlamaCompletion(
        index=0,
        content=answer.text,
        tokens=answer.token_ids,
        stop=True,
        model=started.model,
        tokens_predicted=finished.tokens_completion,
        tokens_evaluated=finished.tokens_prompt,
        generation_settings=LlamaSettings(
            n_predict=-1 if sampling.max_tokens is None else sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=-1 if sampling.seed is None else sampling.seed,
            stop=sampling.stop,
        ),
        prompt=request.prompt or "",
        truncated=False,
        stop_type="limit" if finished.finish_reason is FinishReason.LENGTH else "eos",
        stopping_word="",
        provider=finished.provider,
        usage=usage_of(finished),
        failover=failover_of(finished),
        completion_probabilities=_tokens(answer.logprobs or ()),
    )


def _tokens(logprobs: Sequence[TokenLogprob]) -> list[LlamaToken]:
    return [
        LlamaToken(
            token=each.token,
            bytes=each.bytes,
            logprob=each.logprob,
            top_logprobs=[
                LlamaProbability(token=top.token, bytes=top.bytes, logprob=top.logprob) for top in each.top
            ],
        )
        for each in logprobs
    ]
