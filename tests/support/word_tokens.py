"""A tokenizer of eight words, and vectors as numbers."""

import struct
from collections.abc import Sequence

from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "red", "green", "blue", "pale")
CLS, SEP, UNK, RED, GREEN, BLUE, PALE = range(1, 8)


def words_tokenizer(*, special: bool = True) -> Tokenizer:
    """One token a word; with `special`, [CLS] before and [SEP] behind, as BERT has them."""
    tokenizer = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
        )
    return tokenizer


def numbers(vector: bytes) -> Sequence[float]:
    return [round(number, 5) for number in struct.unpack(f"<{len(vector) // 4}f", vector)]
