"""From tokens to steps: bytes become whole characters, and stop strings hold text back."""

import codecs
import math
from collections.abc import Sequence

from raymart_core.units import FinishReason
from raymart_core.wire.replica import Sampling, TokenLogprob, Usage
from raymart_engine_ngram.model import Distribution
from raymart_serve.engines.hold_back import HoldBack, Piece
from raymart_serve.engines.protocol import GenerationFinish, GenerationStep


class StepMaker:
    """Makes the steps of one generation. Tokens are in a step only when their text may be shown."""

    def __init__(self, sampling: Sampling, *, tokens_prompt: int) -> None:
        self._sampling = sampling
        self._tokens_prompt = tokens_prompt
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._hold_back = HoldBack(sampling.stop)
        self._character: list[int] = []
        self._character_logprob = 0.0
        self._delivered = 0
        self.stopped = False
        """Whether a stop string was found."""

    def add(self, token: int, distribution: Distribution) -> GenerationStep | None:
        """The step that `token` completes, if it completes one."""
        self._character.append(token)
        self._character_logprob += math.log(distribution[token])
        text = self._decoder.decode(bytes([token]))
        if not text:
            return None
        pieces, self.stopped = self._hold_back.push(self._piece(text, distribution))
        return self._step(pieces)

    def rest(self) -> GenerationStep | None:
        """What was still held back when the generation ended without a stop string."""
        pieces = self._hold_back.flush()
        if self._character:  # the beginning of a character that was never completed
            pieces.append(self._piece(self._decoder.decode(b"", final=True), {}))
        return self._step(pieces)

    def finish(self, reason: FinishReason) -> GenerationFinish:
        """The end."""
        usage = Usage(prompt=self._tokens_prompt, completion=self._delivered)
        return GenerationFinish(reason=reason, usage=usage)

    def _piece(self, text: str, distribution: Distribution) -> Piece:
        ids, self._character = tuple(self._character), []
        logprob, self._character_logprob = self._character_logprob, 0.0
        top = self._sampling.top_logprobs
        logprobs = None if top is None else (_entry(text, logprob, _others(distribution, top)),)
        return Piece(count=len(ids), ids=ids, text=text, exact=True, logprobs=logprobs)

    def _step(self, pieces: Sequence[Piece]) -> GenerationStep | None:
        if not pieces:
            return None
        self._delivered += sum(piece.count for piece in pieces)
        entries = tuple(entry for piece in pieces for entry in piece.logprobs or ())
        return GenerationStep(
            ids=tuple(token for piece in pieces for token in piece.ids),
            count=self._delivered,
            text="".join(piece.text for piece in pieces),
            logprobs=None if self._sampling.top_logprobs is None else entries,
        )


def _entry(text: str, logprob: float, others: tuple[TokenLogprob, ...]) -> TokenLogprob:
    # A sum of logarithms may end a hair above zero.
    return TokenLogprob(token=text, logprob=min(logprob, 0.0), bytes=tuple(text.encode()), top=others)


def _others(distribution: Distribution, count: int) -> tuple[TokenLogprob, ...]:
    """The likeliest tokens; as many as were asked for, also where fewer are possible."""
    ranked = sorted(distribution.items(), key=lambda item: -item[1])[:count]
    ranked += [(0, 1e-9)] * (count - len(ranked))
    return tuple(_entry(chr(token), math.log(share), ()) for token, share in ranked)
