"""Texts to token ids with the revision's own tokenizer.json."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from raymart_serve.engines.onnx.revision import TOKENIZER_BYTES_MAX, read_bounded
from raymart_serve.engines.protocol import EngineFailed, PromptTooLong, RequestRefused


@dataclass(frozen=True, slots=True)
class Encoded:
    """One input of the model."""

    ids: Sequence[int]
    types: Sequence[int]
    """Which of two texts each token belongs to."""


class TextEncoder:
    """Never cuts and never pads: what is too long is refused, not silently shortened."""

    def __init__(self, path: Path, *, tokens_max: int, prompt: str = "") -> None:
        """Read the tokenizer. Blocking. Raises: EngineFailed."""
        try:
            self._tokenizer = Tokenizer.from_buffer(read_bounded(path, bytes_max=TOKENIZER_BYTES_MAX))
        except EngineFailed:
            raise
        except BaseException as error:  # the library panics on some malformed files
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise EngineFailed(f"{path.name} is no tokenizer that can be read: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokens_max = tokens_max
        self._prompt = prompt
        self.size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        """Ids are below it."""

    def encode(self, inputs: Sequence[str | Sequence[int]]) -> list[Encoded]:
        """Each text with the model's special tokens; ids as they are given. Raises: RequestRefused."""
        for position, given in enumerate(inputs):
            if not given:
                raise RequestRefused(f"input {position} is empty", param="input")
        texts = [f"{self._prompt}{given}" for given in inputs if isinstance(given, str)]
        found = iter(self._tokenizer.encode_batch(texts))
        encoded = []
        for position, given in enumerate(inputs):
            if isinstance(given, str):
                encoding = next(found)
                one = Encoded(encoding.ids, encoding.type_ids)
            else:
                self._check_ids(given, position)
                one = Encoded(given, [0] * len(given))
            self._check_length(one, param="input")
            encoded.append(one)
        return encoded

    def encode_pairs(self, query: str, documents: Sequence[str]) -> list[Encoded]:
        """Query and document as one input each. Raises: RequestRefused."""
        found = self._tokenizer.encode_batch([(query, document) for document in documents])
        encoded = [Encoded(encoding.ids, encoding.type_ids) for encoding in found]
        for one in encoded:
            self._check_length(one, param="documents")
        return encoded

    def _check_ids(self, ids: Sequence[int], position: int) -> None:
        if min(ids) < 0 or max(ids) >= self.size:
            raise RequestRefused(
                f"token ids of input {position} must lie in 0..{self.size - 1} for this model",
                param="input",
            )

    def _check_length(self, one: Encoded, *, param: str) -> None:
        if not one.ids:
            raise RequestRefused(f"{param} has no tokens", param=param)
        if len(one.ids) > self._tokens_max:
            raise PromptTooLong(tokens_prompt=len(one.ids), context_length=self._tokens_max, param=param)


def batches(lengths: Sequence[int], *, cells_max: int) -> Iterator[list[int]]:
    """Positions grouped so that each group, padded to its longest, has `cells_max` cells at most (or one member).

    Sorted by length, so that little is padded; the longest first, so that memory is asked for once.
    """
    group: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if group and (len(group) + 1) * lengths[group[0]] > cells_max:
            yield group
            group = []
        group.append(position)
    if group:
        yield group
