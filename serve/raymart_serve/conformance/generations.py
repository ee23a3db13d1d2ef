"""Running one generation, with the checks that hold for every one."""

from collections.abc import Sequence
from dataclasses import dataclass

from raymart_core.wire.replica import NO_OPTIONS, GenerationOptions, Sampling
from raymart_serve.conformance.checks import require
from raymart_serve.conformance.rig import Rig
from raymart_serve.engines.protocol import GenerationEvent, GenerationFinish, GenerationStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """A generation that ended well."""

    steps: tuple[GenerationStep, ...]
    finish: GenerationFinish

    @property
    def text(self) -> str:
        """All delivered text."""
        return "".join(step.text for step in self.steps)

    @property
    def ids(self) -> tuple[int, ...]:
        """All delivered ids."""
        return tuple(token for step in self.steps for token in step.ids)

    @property
    def exact(self) -> bool:
        """Whether `ids` is everything that was sampled."""
        return all(step.exact for step in self.steps)


def greedy(
    *,
    max_tokens: int = 200,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
    stop: tuple[str, ...] = (),
    top_logprobs: int | None = None,
    ignore_eos: bool = False,
) -> Sampling:
    """Sampling without chance, unless told otherwise."""
    return Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        stop=stop,
        top_logprobs=top_logprobs,
        ignore_eos=ignore_eos,
    )


async def generated(
    rig: Rig,
    prompt_ids: Sequence[int],
    sampling: Sampling,
    *,
    resume_ids: Sequence[int] = (),
    options: GenerationOptions = NO_OPTIONS,
) -> Generated:
    """Generate to the end. Raises: Nonconformance when the steps or the finish are not what every one must be."""
    generation = rig.generates.generate(prompt_ids, sampling=sampling, resume_ids=resume_ids, options=options)
    async with generation as stream:
        events: list[GenerationEvent] = [event async for event in stream]
    require(events, "a generation must end with a GenerationFinish; it gave no event")
    finish = events[-1]
    require(
        isinstance(finish, GenerationFinish), f"a generation must end with a GenerationFinish, not {finish!r}"
    )
    assert isinstance(finish, GenerationFinish)
    steps = tuple(event for event in events[:-1] if isinstance(event, GenerationStep))
    require(
        len(steps) == len(events) - 1, "a generation must have exactly one GenerationFinish, the last event"
    )
    _check_counts(steps, sampling)
    _check_usage(finish, steps, tokens_prompt=len(prompt_ids) + len(resume_ids))
    return Generated(steps=steps, finish=finish)


async def answer(rig: Rig) -> tuple[tuple[int, ...], Generated]:
    """The subject's question and its greedy answer, which ended by itself."""
    ids = await rig.ask(rig.subject.question)
    whole = await generated(rig, ids, greedy())
    require(
        5 <= whole.finish.usage.completion < 200 and whole.exact,
        f"the subject's question must be answered in 5 to 200 exact tokens, not {whole.finish.usage.completion}: "
        f"{whole.text!r}; choose another question for this model",
    )
    return ids, whole


def _check_counts(steps: Sequence[GenerationStep], sampling: Sampling) -> None:
    count = 0
    for step in steps:
        require(step.count > count, f"a step's count must grow: {step.count} after {count}")
        new = step.count - count
        if step.exact:
            require(
                len(step.ids) == new,
                f"an exact step of {new} tokens must have as many ids, not {len(step.ids)}",
            )
        else:
            require(len(step.ids) < new, f"a step with all {new} ids must be exact, or have fewer")
        count = step.count
    require(
        count <= sampling.max_tokens, f"{count} tokens were delivered, max_tokens is {sampling.max_tokens}"
    )


def _check_usage(finish: GenerationFinish, steps: Sequence[GenerationStep], *, tokens_prompt: int) -> None:
    usage, delivered = finish.usage, steps[-1].count if steps else 0
    require(
        usage.completion == delivered,
        f"usage.completion is {usage.completion}, the steps delivered {delivered} tokens",
    )
    require(
        usage.prompt == tokens_prompt,
        f"usage.prompt is {usage.prompt}; prompt and resumed ids are {tokens_prompt}",
    )
    require(
        0 <= usage.cached <= usage.prompt, f"usage.cached is {usage.cached} of {usage.prompt} prompt tokens"
    )
