"""The model: which byte follows which bytes, counted in a text.

Tokens are the 256 bytes and `END`. The weights are a text file of questions and answers (`Q: ...` and `A: ...` lines);
"training" is counting them at load, so the file's digest is the model's.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

END = 256
VOCABULARY_SIZE = 257
ORDER = 12
"""The most bytes that the next one depends on."""
_WEIGHT = 16.0
"""How much more a context counts than one that is a byte shorter."""

Distribution = Mapping[int, float]
"""Probability of each token that can come next; the others have none."""


class NotATextOfAnswers(ValueError):
    """The weights have no questions and answers."""


class NgramModel:
    """Counts of one text. Never changes once made, so any number of generations may use it at once."""

    def __init__(self, text: str) -> None:
        """Count `text`. Raises: NotATextOfAnswers."""
        self._counts: dict[bytes, Counter[int]] = defaultdict(Counter)
        conversations = [part for part in text.split("\n\n") if part.startswith("Q: ") and "\nA: " in part]
        if not conversations:
            raise NotATextOfAnswers("no 'Q: ...' line is followed by an 'A: ...' line")
        for conversation in conversations:
            self._count([*conversation.strip().encode(), END])

    def following(self, ids: Sequence[int]) -> Distribution:
        """The probabilities of what follows `ids`: every context seen counts, longer ones much more."""
        context = bytes(token for token in ids[-ORDER:] if token != END)
        scores: dict[int, float] = defaultdict(float)
        for length in range(len(context) + 1):
            seen = self._counts.get(context[len(context) - length :])
            if seen is None:
                break
            share = _WEIGHT**length / seen.total()
            for token, count in seen.items():
                scores[token] += share * count
        total = sum(scores.values())
        return {token: score / total for token, score in scores.items()}

    def _count(self, ids: Sequence[int]) -> None:
        for at, token in enumerate(ids):
            for length in range(min(at, ORDER) + 1):
                self._counts[bytes(ids[at - length : at])][token] += 1


def draw(distribution: Distribution, *, temperature: float, top_p: float, chance: random.Random) -> int:
    """A token by OpenAI's rules: 0 is greedy; else the likeliest that together make `top_p`, after the temperature."""
    ranked = sorted(distribution.items(), key=lambda item: (-item[1], item[0]))
    if temperature == 0:
        return ranked[0][0]
    weights = [math.exp(math.log(share) / temperature) for _, share in ranked]
    limit, total, kept = top_p * sum(weights), 0.0, 0
    while kept < len(weights) and total < limit:
        total += weights[kept]
        kept += 1
    return chance.choices([token for token, _ in ranked[:kept]], weights[:kept])[0]
