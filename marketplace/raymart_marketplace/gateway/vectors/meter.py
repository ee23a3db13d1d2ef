"""What a replica says it read and made, believed only as far as it adds up; what does not is the provider's fault.

The replica runs on a machine that is not ours and is paid by these counts.
"""

import asyncio
import math
from array import array
from collections.abc import Sequence

import msgspec

from raymart_core.units import Fault
from raymart_core.wire.embedding import EmbedReply, RerankReply
from raymart_marketplace.gateway.event_lines import EventLines
from raymart_marketplace.supply.upstream import UpstreamBroken

SPECIAL_TOKENS_MAX = 64
"""Tokens that a model puts around a text, its prompt for queries included."""
VECTOR_BYTES_MAX = 65_536
"""Of one vector: 16,384 numbers."""
REPLY_BYTES_MAX = 64 << 20
SCORE_BYTES = 64
"""Of one score and count as JSON, generously."""
LENGTH_TOLERANCE = 1e-3
PAUSE_BYTES = 256 * 1024
"""After so many bytes of vectors other requests get their turn."""

_decode_embed_lines = msgspec.json.Decoder(EmbedReply).decode_lines
_decode_rerank_lines = msgspec.json.Decoder(RerankReply).decode_lines


def embed_lines(inputs: int) -> EventLines[EmbedReply]:
    """Reads the one line of an answer with that many vectors; base64 takes four bytes for three."""
    longest = min(REPLY_BYTES_MAX, 4096 + inputs * (VECTOR_BYTES_MAX * 4 // 3 + 32))
    return EventLines(_decode_embed_lines, line_bytes_max=longest)


def rerank_lines(documents: int) -> EventLines[RerankReply]:
    """Reads the one line of an answer with that many scores."""
    return EventLines(_decode_rerank_lines, line_bytes_max=4096 + documents * SCORE_BYTES)


async def check_vectors(
    reply: EmbedReply, *, bounds: Sequence[int], exact: Sequence[int] | None, dimensions: int | None
) -> None:
    """Vectors of length 1 and of one size, one for each input; counts within `bounds`, or exactly `exact`.

    Lets other requests run in between. Raises: UpstreamBroken.
    """
    _check_counts(reply.tokens, bounds=bounds, exact=exact)
    if len(reply.vectors) != len(bounds):
        raise _broken(f"{len(reply.vectors)} vectors for {len(bounds)} inputs")
    size = len(reply.vectors[0])
    if not 4 <= size <= VECTOR_BYTES_MAX or size % 4:
        raise _broken(f"a vector of {size} bytes")
    if dimensions is not None and size != 4 * dimensions:
        raise _broken(f"{size // 4} dimensions; {dimensions} were asked for")
    unpaused = 0
    for vector in reply.vectors:
        if len(vector) != size:
            raise _broken(f"vectors of {size} and of {len(vector)} bytes")
        # Also false for a NaN or an infinity among the numbers.
        if not abs(math.hypot(*floats(vector)) - 1) < LENGTH_TOLERANCE:
            raise _broken("a vector that has not length 1")
        unpaused += size
        if unpaused > PAUSE_BYTES:
            unpaused = 0
            await asyncio.sleep(0)


def check_scores(reply: RerankReply, *, bounds: Sequence[int]) -> None:
    """A finite score and a count for each document. Raises: UpstreamBroken."""
    _check_counts(reply.tokens, bounds=bounds, exact=None)
    if len(reply.scores) != len(bounds):
        raise _broken(f"{len(reply.scores)} scores for {len(bounds)} documents")
    if not all(map(math.isfinite, reply.scores)):
        raise _broken("a score that is not finite")


def floats(vector: bytes) -> "array[float]":
    """float32, little-endian, as numbers."""
    numbers = array("f", vector)
    if _BIG_ENDIAN:
        numbers.byteswap()
    return numbers


def _check_counts(tokens: Sequence[int], *, bounds: Sequence[int], exact: Sequence[int] | None) -> None:
    if len(tokens) != len(bounds):
        raise _broken(f"{len(tokens)} counts for {len(bounds)} inputs")
    if exact is not None:
        if tuple(tokens) != tuple(exact):
            raise _broken("counts that are not those of the token ids")
        return
    for count, bound in zip(tokens, bounds, strict=True):
        if not 1 <= count <= bound:
            raise _broken(f"{count} tokens of an input that can have 1 to {bound}")


def _broken(reason: str) -> UpstreamBroken:
    return UpstreamBroken(f"the replica sent {reason}", fault=Fault.PROVIDER)


_BIG_ENDIAN = array("H", b"\x00\x01")[0] == 1
