"""Prompts are kept for the tenant that sent them, and for nobody else."""

import asyncio

from raymart_core.wire.replica import GenerationOptions, Sampling
from raymart_serve.engines.llama_cpp import LlamaCppEngine
from raymart_serve.engines.llama_cpp.cache_slots import CacheSlots
from raymart_serve.engines.protocol import GenerationFinish


class TestCacheSlots:
    def test_a_tenant_comes_back_to_its_own_slot(self) -> None:
        slots = CacheSlots(3)
        first, own = slots.take("a")
        assert not own
        slots.give_back(first)
        other, own = slots.take("b")
        assert (other == first, own) == (False, False)
        assert slots.take("a") == (first, True)

    def test_another_tenant_takes_the_slot_that_was_free_longest_and_none_of_its_cache(self) -> None:
        slots = CacheSlots(2)
        taken = [slots.take("a")[0], slots.take("b")[0]]
        slots.give_back(taken[1])
        slots.give_back(taken[0])
        assert slots.take("c") == (taken[1], False)
        assert slots.take("b") == (taken[0], False)

    def test_a_slot_is_never_given_twice(self) -> None:
        slots = CacheSlots(4)
        assert sorted(slots.take("a")[0] for _ in range(4)) == [0, 1, 2, 3]


async def cached(
    engine: LlamaCppEngine, ids: list[int], salt: str, *, max_tokens: int = 2, stop: tuple[str, ...] = ()
) -> int:
    """Prompt tokens that were not computed again."""
    options = GenerationOptions(cache_salt=salt)
    async with engine.generate(
        ids, sampling=Sampling(max_tokens=max_tokens, temperature=0, stop=stop), options=options
    ) as events:
        found = [event.usage.cached async for event in events if isinstance(event, GenerationFinish)]
    async with asyncio.timeout(60):
        while engine.stats().running:
            await asyncio.sleep(0.002)
    return found[0]


SPACES = (tuple("aeio"), ("a string that never comes",))
"""Stop strings: of every answer of some length, and of none."""


class TestTenants:
    async def test_a_prompt_is_cached_for_its_tenant_only(self, make_engine) -> None:
        for slots in (1, 2):
            engine = await make_engine(slots=slots)
            ids = list(range(100, 300))
            assert await cached(engine, ids, "tenant one") == 0
            assert await cached(engine, ids, "tenant one") >= 199
            assert await cached(engine, ids, "tenant two") == 0
            assert await cached(engine, ids, "tenant two") >= 199
            # An answer that a stop string ends is over before the engine's last chunk.
            for stop in SPACES:
                assert await cached(engine, ids, "tenant two", max_tokens=50, stop=stop) >= 199
            # With a second slot the first tenant's prompt is still there; with one it had to give way.
            assert (await cached(engine, ids, "tenant one") >= 199) == (slots == 2)
