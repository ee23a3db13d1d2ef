"""Checks of engines that turn texts into vectors."""

import math
import struct
from collections.abc import Sequence

from raymart_serve.conformance.checks import Nonconformance, check, require
from raymart_serve.conformance.rig import Rig
from raymart_serve.engines.protocol import Embedding, Embeds, Generates, PromptTooLong, RequestRefused

_TEXTS = ("The capital of Norway is Oslo.", "ping", "naïve 你好 😀", "The capital of Norway is Oslo")
_CLOSE = 1e-3
"""Vectors of one text in batches of other sizes differ in their last digits."""


@check
async def vectors_are_of_length_one_and_one_size(rig: Rig) -> None:
    """One vector of float32 for each input, in order, all of one size and of length 1, with the tokens that were read."""
    embeddings = await _embeds(rig).embed(_TEXTS)
    require(len(embeddings) == len(_TEXTS), f"{len(_TEXTS)} inputs gave {len(embeddings)} vectors")
    sizes = {len(embedding.vector) for embedding in embeddings}
    require(len(sizes) == 1 and min(sizes) >= 8 and min(sizes) % 4 == 0, f"vectors have {sizes} bytes")
    for text, embedding in zip(_TEXTS, embeddings, strict=True):
        length = math.hypot(*numbers(embedding))
        require(abs(length - 1) < _CLOSE, f"the vector of {text!r} has length {length}")
        require(embedding.tokens >= 1, f"{text!r} was read in {embedding.tokens} tokens")


@check
async def a_vector_depends_on_its_input_alone(rig: Rig) -> None:
    """A text has the same vector alone, in a batch, and again; another text has another."""
    engine = _embeds(rig)
    together = await engine.embed(_TEXTS)
    for text, embedding in zip(_TEXTS, together, strict=True):
        alone = (await engine.embed([text]))[0]
        require(
            alone.tokens == embedding.tokens, f"{text!r} was {alone.tokens} tokens, then {embedding.tokens}"
        )
        require(cosine(alone, embedding) > 1 - _CLOSE, f"{text!r} has another vector alone than in a batch")
    require(cosine(together[0], together[1]) < 1 - _CLOSE, f"{_TEXTS[0]!r} and {_TEXTS[1]!r} have one vector")
    nearer, farther = cosine(together[0], together[3]), cosine(together[0], together[1])
    require(
        nearer > farther, f"{_TEXTS[0]!r} is nearer to {_TEXTS[1]!r} than to itself without its full stop"
    )


@check
async def token_ids_are_inputs_too(rig: Rig) -> None:
    """Token ids give a vector, counted by their number; where the engine encodes text itself, that of the text."""
    engine = _embeds(rig)
    ids = tuple(range(1, 6))
    if isinstance(rig.engine, Generates):
        ids = await rig.engine.encode_prompt(_TEXTS[0])
    by_ids = (await engine.embed([ids]))[0]
    require(by_ids.tokens == len(ids), f"{len(ids)} token ids were counted as {by_ids.tokens}")
    if isinstance(rig.engine, Generates):
        by_text = (await engine.embed([_TEXTS[0]]))[0]
        require(cosine(by_ids, by_text) > 1 - _CLOSE, "the ids of a text have another vector than the text")


@check
async def fewer_dimensions_are_the_first_ones(rig: Rig) -> None:
    """`dimensions` keeps the first so many numbers and makes the length 1 again; more than there are is refused."""
    engine = _embeds(rig)
    whole = numbers((await engine.embed(_TEXTS[:1]))[0])
    short = numbers((await engine.embed(_TEXTS[:1], dimensions=4))[0])
    length = math.hypot(*whole[:4])
    require(
        len(short) == 4 and all(abs(a - b / length) < _CLOSE for a, b in zip(short, whole, strict=False)),
        f"4 dimensions of {whole[:4]} (length {length}) are {short}",
    )
    for dimensions in (0, len(whole) + 1):
        await _require_refused(rig, _TEXTS[:1], "dimensions", dimensions=dimensions)


@check
async def wrong_inputs_are_refused(rig: Rig) -> None:
    """An empty text or list of ids, ids outside the vocabulary, and inputs over the context are refused by name."""
    await _require_refused(rig, ["", "ping"], "input")
    await _require_refused(rig, [()], "input")
    await _require_refused(rig, [(-1,)], "input")
    await _require_refused(rig, [(2**31 - 1,)], "input")
    try:
        await _embeds(rig).embed(["ping", "word " * rig.engine.context_length])
    except PromptTooLong:
        pass
    else:
        raise Nonconformance("an input over the context must be PromptTooLong, never cut in silence")
    require(len(await _embeds(rig).embed(["ping"])) == 1, "after refusals it must answer as ever")
    await rig.idle()


def numbers(embedding: Embedding) -> tuple[float, ...]:
    """The vector as numbers."""
    return struct.unpack(f"<{len(embedding.vector) // 4}f", embedding.vector)


def cosine(one: Embedding, other: Embedding) -> float:
    """How near two vectors of length 1 are, -1 to 1."""
    return sum(a * b for a, b in zip(numbers(one), numbers(other), strict=True))


def _embeds(rig: Rig) -> Embeds:
    require(isinstance(rig.engine, Embeds), f"{rig.engine.label} has no `embed`")
    assert isinstance(rig.engine, Embeds)
    return rig.engine


async def _require_refused(
    rig: Rig, inputs: Sequence[str | Sequence[int]], param: str, *, dimensions: int | None = None
) -> None:
    try:
        await _embeds(rig).embed(inputs, dimensions=dimensions)
    except RequestRefused as error:
        require(error.param == param, f"{inputs!r} was refused naming {error.param!r}, not {param!r}")
        return
    raise Nonconformance(f"embed({inputs!r}, dimensions={dimensions}) must be refused naming {param!r}")


EMBEDDING = (
    vectors_are_of_length_one_and_one_size,
    a_vector_depends_on_its_input_alone,
    token_ids_are_inputs_too,
    fewer_dimensions_are_the_first_ones,
    wrong_inputs_are_refused,
)
