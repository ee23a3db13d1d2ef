"""A prompt as clients write it: text, token ids, or a list of either."""

from collections.abc import Sequence

from raymart_core.errors import InvalidRequest

Prompt = str | list[str | int | list[int]]
"""Of a body; a list of numbers is one prompt."""
PROMPTS_MAX = 32


def read_prompts(prompt: Prompt) -> Sequence[str | tuple[int, ...]]:
    """The prompts in `prompt`, one at least. Raises: InvalidRequest."""
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InvalidRequest("prompt is an empty list; give one prompt at least", param="prompt")
    ids = [each for each in prompt if isinstance(each, int)]
    if len(ids) == len(prompt):
        return [tuple(ids)]
    if ids:
        raise InvalidRequest(
            "prompt mixes token ids with prompts; a prompt is one or the other", param="prompt"
        )
    if len(prompt) > PROMPTS_MAX:
        raise InvalidRequest(f"{len(prompt)} prompts; the limit is {PROMPTS_MAX}", param="prompt")
    return [each if isinstance(each, str) else tuple(each) for each in prompt if not isinstance(each, int)]
