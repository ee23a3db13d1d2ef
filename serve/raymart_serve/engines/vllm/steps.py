"""From vLLM's outputs to steps: stop strings, the end-of-sequence token, parts of characters, tool calls, reasoning.

Nothing here imports vLLM; what its outputs hold is copied into `Output` by the engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from raymart_core.units import FinishReason
from raymart_core.wire.replica import TokenLogprob, ToolDelta, Usage
from raymart_serve.engines.hold_back import HoldBack, Piece
from raymart_serve.engines.protocol import EngineFailed, GenerationEvent, GenerationFinish, GenerationStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One of vLLM's outputs of a generation: what is new in it."""

    ids: tuple[int, ...]
    text: str
    """Without the end-of-sequence token's."""
    logprobs: tuple[TokenLogprob, ...] | None
    """One for each id."""
    finish: str | None
    """In vLLM's words; None while the generation goes on."""
    cached: int
    """Tokens of the prompt that were in the prefix cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What a piece of the model's text turned out to be."""

    text: str = ""
    reasoning: str = ""
    tools: tuple[ToolDelta, ...] = ()


class DeltaParser(Protocol):
    """Tells the answer from reasoning and tool calls, piece by piece."""

    def parse(self, text: str, ids: Sequence[int], *, finished: bool) -> Delta:
        """What is new in the next piece, or was held back until it. Raises: EngineFailed."""


class PlainText:
    """The parser of text that is nothing but the answer."""

    def parse(self, text: str, ids: Sequence[int], *, finished: bool) -> Delta:
        """All of it is the answer."""
        return Delta(text=text)


class StepReader:
    """Turns the outputs of one generation into events, in order. `finished` tells when no more are wanted."""

    def __init__(self, *, tokens_prompt: int, stops: Sequence[str], parser: DeltaParser) -> None:
        self._tokens_prompt = tokens_prompt
        self._hold_back = HoldBack(stops)
        self._parser = parser
        self._textless: Piece | None = None
        self._cached = 0
        self.delivered = 0
        """Tokens in the steps so far."""
        self.finished = False
        """Whether the finish was returned; what vLLM still sends is of no use then."""

    def read(self, output: Output) -> list[GenerationEvent]:
        """The events that follow from one output. Raises: EngineFailed where vLLM gave up."""
        assert not self.finished
        self._cached = max(self._cached, output.cached)
        if output.finish in ("abort", "error"):
            raise EngineFailed(f"vLLM ended the generation with {output.finish!r}")
        pieces, stopped = self._pushed(output)
        if stopped:
            return [*self._step(pieces, ends=FinishReason.STOP), self._finish(FinishReason.STOP)]
        if output.finish is None:
            return self._step(pieces, ends=None)
        pieces += self._rest()
        reason = FinishReason.LENGTH if output.finish == "length" else FinishReason.STOP
        return [*self._step(pieces, ends=reason), self._finish(reason)]

    def _pushed(self, output: Output) -> tuple[list[Piece], bool]:
        if not output.ids and not output.text:
            return [], False
        piece = self._joined(
            Piece(
                count=len(output.ids), ids=output.ids, text=output.text, exact=True, logprobs=output.logprobs
            )
        )
        if not piece.text:
            self._textless = piece
            return [], False
        return self._hold_back.push(piece)

    def _rest(self) -> list[Piece]:
        pieces = self._hold_back.flush()
        if self._textless is not None:
            pieces.append(self._textless)
            self._textless = None
        return pieces

    def _joined(self, piece: Piece) -> Piece:
        """Together with the tokens before it that completed no character."""
        first, self._textless = self._textless, None
        if first is None:
            return piece
        logprobs = None if piece.logprobs is None else (*(first.logprobs or ()), *piece.logprobs)
        return Piece(
            count=first.count + piece.count,
            ids=first.ids + piece.ids,
            text=piece.text,
            exact=True,
            logprobs=logprobs,
        )

    def _step(self, pieces: Sequence[Piece], *, ends: FinishReason | None) -> list[GenerationEvent]:
        finished = ends is not None
        if not pieces and not finished:
            return []
        ids = tuple(token for piece in pieces for token in piece.ids)
        delta = self._parser.parse("".join(piece.text for piece in pieces), ids, finished=finished)
        if not (ids or delta.text or delta.reasoning or delta.tools):
            return []
        self.delivered += len(ids)
        logged = any(piece.logprobs is not None for piece in pieces)
        step = GenerationStep(
            ids=ids,
            count=self.delivered,
            text=delta.text,
            reasoning=delta.reasoning,
            ends=ends,
            tool_deltas=delta.tools,
            logprobs=tuple(entry for piece in pieces for entry in piece.logprobs or ()) if logged else None,
        )
        return [step]

    def _finish(self, reason: FinishReason) -> GenerationFinish:
        self.finished = True
        usage = Usage(prompt=self._tokens_prompt, completion=self.delivered, cached=self._cached)
        return GenerationFinish(reason=reason, usage=usage)
