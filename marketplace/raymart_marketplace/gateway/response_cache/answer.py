"""An answer as it is kept: what was handed out piece by piece, who is paid for it, and by which prices."""

from collections.abc import Sequence

import msgspec

from raymart_core.ports import UsageEntry
from raymart_core.units import FinishReason
from raymart_marketplace.gateway.events import Delta


class CachedAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One whole answer. A change of its shape makes misses of what was kept before (`decode_answer`)."""

    version: int = 1
    model: str
    provider: str
    """Slug of who served it first."""
    revision: str
    finish_reason: FinishReason
    parts: tuple[UsageEntry, ...]
    """As they were billed the first time."""
    deltas: tuple[Delta, ...]

    @property
    def tokens_prompt(self) -> int:
        """Of the prompt."""
        return sum(part.quantities.token_prompt + part.quantities.token_cached for part in self.parts)

    @property
    def tokens_completion(self) -> int:
        """Of the answer."""
        return sum(part.quantities.token_completion for part in self.parts)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CachedAnswer)


def encode_answer(answer: CachedAnswer) -> bytes:
    """Its bytes."""
    return _encoder.encode(answer)


def decode_answer(content: bytes) -> CachedAnswer | None:
    """What `encode_answer` was given; None for what another release wrote."""
    try:
        answer = _decoder.decode(content)
    except (msgspec.MsgspecError, ValueError):
        return None
    return answer if answer.version == 1 and answer.parts else None


def joined(deltas: Sequence[Delta]) -> Delta:
    """All pieces as one, for who did not ask for a stream."""
    logprobs = tuple(each for delta in deltas for each in delta.logprobs or ())
    return Delta(
        text="".join(delta.text for delta in deltas),
        token_ids=tuple(token for delta in deltas for token in delta.token_ids),
        logprobs=logprobs or None,
        reasoning="".join(delta.reasoning for delta in deltas),
        tools=tuple(piece for delta in deltas for piece in delta.tools),
    )
