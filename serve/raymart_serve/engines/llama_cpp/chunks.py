"""From llama.cpp's stream chunks to exact steps.

Three things are put right on the way (facts: seam, section 2; each has a test against a run without streaming).
Ids of a multi-byte character: only its last token's id is sent; the others are found by spelling. The
end-of-sequence token: it comes as a chunk without text, and only the next chunk tells it from other control tokens,
so a chunk without text waits for the next. Stop strings: llama.cpp swallows text before a match, so they are
matched here instead.
"""

import msgspec

from raymart_core.units import FinishReason
from raymart_core.wire.replica import TokenLogprob, ToolDelta, Usage
from raymart_serve.engines.hold_back import HoldBack, Piece
from raymart_serve.engines.llama_cpp.formats import FormatWatch
from raymart_serve.engines.llama_cpp.tools import ToolReader
from raymart_serve.engines.llama_cpp.vocabulary import Vocabulary
from raymart_serve.engines.protocol import EngineFailed, GenerationEvent, GenerationFinish, GenerationStep


class _Logprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] = ()
    top_logprobs: tuple["_Logprob", ...] = ()


class _Logprobs(msgspec.Struct):
    content: tuple[_Logprob, ...] = ()


class _Choice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Verbose(msgspec.Struct):
    tokens: tuple[int, ...]
    tokens_predicted: int
    stop_type: str = ""


class _CachedTokens(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens_details: _CachedTokens = msgspec.field(default_factory=_CachedTokens)


class _Timings(msgspec.Struct):
    cache_n: int = 0
    """Prompt tokens that were not computed again."""


class _Failure(msgspec.Struct):
    message: str = "no reason given"


class _Chunk(msgspec.Struct):
    choices: tuple[_Choice, ...] = ()
    verbose: _Verbose | None = msgspec.field(default=None, name="__verbose")
    usage: _Usage | None = None
    timings: _Timings | None = None
    """In every chunk of a generation with stop strings, which ends here before llama.cpp's does."""
    error: _Failure | None = None


_decode = msgspec.json.Decoder(_Chunk | tuple[_Chunk, ...]).decode


class ChunkReader:
    """Turns the chunks of one generation into events, in order. `finished` tells when no more are wanted."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        tokens_prompt: int,
        stops: tuple[str, ...],
        top_logprobs: int | None,
        watch: FormatWatch | None = None,
        tools: ToolReader | None = None,
    ) -> None:
        """`watch` follows a grammar, `tools` finds calls in the text."""
        self._vocabulary = vocabulary
        self._tokens_prompt = tokens_prompt
        self._top_logprobs = top_logprobs
        self._watch = watch
        self._tools = tools
        self._undecided: list[Piece] = []
        self._hold_back = HoldBack(stops)
        self._textless: Piece | None = None
        self._predicted = 0
        self._delivered = 0
        self.finished = False
        """Whether the finish was returned; what llama.cpp still sends is of no use then."""

    def read(self, data: str) -> list[GenerationEvent]:
        """The events that follow from one callback's JSON. Raises: EngineFailed when it is an error or unreadable."""
        try:
            chunks = _decode(data)
        except msgspec.DecodeError as error:
            raise EngineFailed(f"llama.cpp sent a chunk that cannot be read: {error}") from error
        events: list[GenerationEvent] = []
        for chunk in chunks if isinstance(chunks, tuple) else (chunks,):
            if chunk.error is not None:
                raise EngineFailed(f"llama.cpp: {chunk.error.message}")
            if chunk.verbose is not None and chunk.choices and not self.finished:
                events += self._events(chunk, chunk.choices[0], chunk.verbose)
        return events

    def _events(self, chunk: _Chunk, choice: _Choice, verbose: _Verbose) -> list[GenerationEvent]:
        if choice.finish_reason is not None:
            cached = chunk.usage.prompt_tokens_details.cached_tokens if chunk.usage else 0
            return self._end(verbose, cached=cached)
        if self._watch is not None:
            self._watch.read(choice.text)
        piece = self._joined(self._piece(choice, verbose))
        if not piece.text:
            self._textless = piece
            return []
        pieces, stopped = self._hold_back.push(piece)
        events = self._steps(pieces, ends=FinishReason.STOP if stopped else None)
        if stopped:
            cached = 0 if chunk.timings is None else chunk.timings.cache_n
            events.append(self._finish(FinishReason.STOP, cached=cached))
        return events

    def _piece(self, choice: _Choice, verbose: _Verbose) -> Piece:
        count = verbose.tokens_predicted - self._predicted
        self._predicted = verbose.tokens_predicted
        ids = verbose.tokens
        if len(ids) < count and ids:
            ids = self._vocabulary.only_spelling(choice.text, count=count, last=ids[-1]) or ids
        return Piece(
            count=count, ids=ids, text=choice.text, exact=len(ids) == count, logprobs=self._logprobs(choice)
        )

    def _logprobs(self, choice: _Choice) -> tuple[TokenLogprob, ...] | None:
        if self._top_logprobs is None:
            return None
        top = self._top_logprobs
        return tuple(
            _logprob(entry, top=tuple(_logprob(other) for other in entry.top_logprobs[:top]))
            for entry in (choice.logprobs.content if choice.logprobs else ())
        )

    def _joined(self, piece: Piece) -> Piece:
        first, self._textless = self._textless, None
        if first is None:
            return piece
        logprobs = None if piece.logprobs is None else (*(first.logprobs or ()), *piece.logprobs)
        return Piece(
            count=first.count + piece.count,
            ids=first.ids + piece.ids,
            text=piece.text,
            exact=first.exact and piece.exact,
            logprobs=logprobs,
        )

    def _end(self, verbose: _Verbose, *, cached: int) -> list[GenerationEvent]:
        by_eos = verbose.stop_type == "eos"
        if by_eos and self._watch is not None:
            self._watch.end()
        pieces = self._hold_back.flush()
        rest = self._tail(verbose.tokens_predicted - self._predicted, by_eos=by_eos)
        if rest is not None:
            pieces.append(rest)
        reason = FinishReason.LENGTH if verbose.stop_type == "limit" else FinishReason.STOP
        return [*self._steps(pieces, ends=reason), self._finish(reason, cached=cached)]

    def _tail(self, unseen: int, *, by_eos: bool) -> Piece | None:
        """Tokens without text at the end: control tokens, and the beginning of a character that was never completed.

        The end-of-sequence token is taken off: it is the last of the unseen ones, or else of the textless ones.
        """
        held = self._textless or Piece(count=0, ids=(), text="", exact=True)
        count, ids = held.count + unseen, held.ids
        if by_eos:
            count -= 1
            ids = ids if unseen else ids[:-1]
        if count <= 0:
            return None
        return Piece(count=count, ids=ids, text="", exact=held.exact and len(ids) == count)

    def _steps(self, pieces: list[Piece], *, ends: FinishReason | None) -> list[GenerationEvent]:
        """One step of `pieces` and those before them, or none while their text may yet be a call or none."""
        text = "".join(piece.text for piece in pieces)
        deltas: tuple[ToolDelta, ...] = ()
        pieces = [*self._undecided, *pieces]
        if self._tools is not None:
            text, deltas = self._tools.read(text, last=ends is not None)
            if self._tools.undecided:
                self._undecided = pieces
                return []
            self._undecided = []
        if not pieces:
            return []
        self._delivered += sum(piece.count for piece in pieces)
        logprobs = tuple(entry for piece in pieces for entry in piece.logprobs or ())
        step = GenerationStep(
            ids=tuple(token for piece in pieces for token in piece.ids),
            count=self._delivered,
            text=text,
            exact=all(piece.exact for piece in pieces),
            logprobs=None if self._top_logprobs is None else logprobs,
            tool_deltas=deltas,
            ends=ends,
        )
        return [step]

    def _finish(self, reason: FinishReason, *, cached: int) -> GenerationFinish:
        self.finished = True
        usage = Usage(prompt=self._tokens_prompt, completion=self._delivered, cached=cached)
        return GenerationFinish(reason=reason, usage=usage)


def _logprob(entry: _Logprob, *, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    return TokenLogprob(token=entry.token, logprob=entry.logprob, bytes=entry.bytes, top=top)
