"""Checks of chance: seeds, temperature, and answers that do not depend on what ran before."""

from raymart_core.wire.replica import Sampling
from raymart_serve.conformance.checks import check, require
from raymart_serve.conformance.generations import answer, generated, greedy
from raymart_serve.conformance.rig import Rig

_SEED_LARGEST = 2**32 - 1


@check
async def a_seed_gives_the_same_tokens(rig: Rig) -> None:
    """The same seed, prompt and revision give the same tokens, whatever ran before; the largest seed is one like others."""
    ids = await rig.ask(rig.subject.story)
    for seed in (0, 7, _SEED_LARGEST):
        sampling = _sampled(seed=seed)
        first = await generated(rig, ids, sampling)
        await generated(rig, ids[: len(ids) // 2], greedy(max_tokens=3))
        again = await generated(rig, ids, sampling)
        require(again.ids == first.ids, f"seed {seed} gave {first.text!r}, then {again.text!r}")


@check
async def other_seeds_give_other_tokens(rig: Rig) -> None:
    """A seed decides: of four, two at least give different tokens."""
    ids = await rig.ask(rig.subject.story)
    texts = {(await generated(rig, ids, _sampled(seed=seed))).text for seed in range(4)}
    require(len(texts) > 1, f"seeds 0 to 3 all gave {texts!r}")


@check
async def without_a_seed_answers_differ(rig: Rig) -> None:
    """Without a seed each request draws its own: of four, two at least differ."""
    ids = await rig.ask(rig.subject.story)
    texts = {(await generated(rig, ids, _sampled())).text for _ in range(4)}
    require(len(texts) > 1, f"four requests without a seed all gave {texts!r}")


@check
async def temperature_zero_is_greedy(rig: Rig) -> None:
    """Temperature 0 takes the likeliest token, with any seed; so does a tiny `top_p` at any temperature."""
    ids, whole = await answer(rig)
    for sampling in (greedy(), greedy(seed=3), greedy(temperature=1.0, top_p=1e-6)):
        again = await generated(rig, ids, sampling)
        require(again.ids == whole.ids, f"{sampling} gave {again.text!r}, greedy {whole.text!r}")


def _sampled(*, seed: int | None = None) -> Sampling:
    return greedy(max_tokens=40, temperature=1.5, seed=seed, ignore_eos=True)


SAMPLING = (
    a_seed_gives_the_same_tokens,
    other_seeds_give_other_tokens,
    without_a_seed_answers_differ,
    temperature_zero_is_greedy,
)
