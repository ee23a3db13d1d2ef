"""Checks of an engine's life: loading, health, what it says of itself, closing."""

import asyncio
import tempfile
from pathlib import Path

from raymart_serve.conformance.checks import check, require
from raymart_serve.conformance.generations import greedy
from raymart_serve.conformance.rig import Rig
from raymart_serve.engines.protocol import EngineFailed, Generates


@check
async def it_says_what_it_is(rig: Rig) -> None:
    """The label is a name and a version, one line; capacity and context are those of the spec, or less, at least 1."""
    engine, spec = rig.engine, rig.spec
    name, _, version = engine.label.partition(" ")
    require(name and version and "\n" not in engine.label, f'label {engine.label!r} must be "name version"')
    require(1 <= engine.capacity <= spec.slots, f"capacity {engine.capacity} is not within 1..{spec.slots}")
    require(
        1 <= engine.context_length <= spec.context_length,
        f"context_length {engine.context_length} is not within 1..{spec.context_length}",
    )


@check
async def loading_is_told(rig: Rig) -> None:
    """`load` reports percents that never fall, 100 at the end; warming up is in no counter."""
    percents = rig.progress
    require(
        percents and percents[-1] == 100, f"load must report 100 percent at its end; it reported {percents}"
    )
    require(percents == sorted(percents) and percents[0] >= 0, f"percents must not fall: {percents}")
    require(rig.warm_stats.tokens_generated_total == 0, "warm_up's own tokens were counted")
    require(rig.warm_stats.requests_aborted_total == 0, "warm_up counted an abort")
    require(
        (rig.warm_stats.running, rig.warm_stats.waiting) == (0, 0), "after warm_up a slot was still taken"
    )


@check
async def making_one_loads_nothing(rig: Rig) -> None:
    """An engine that is only made says that it is loading, refuses to work, and can be closed."""
    fresh = rig.spare()
    try:
        health = await fresh.health()
        require(health.state == "loading", f"health before load must be loading, not {health.state!r}")
        if isinstance(fresh, Generates):
            await _require_failure(fresh, "before load")
    finally:
        await fresh.close()


@check
async def broken_weights_fail_the_load(rig: Rig) -> None:
    """Weights that are none make `load` raise `EngineFailed`; the engine can be closed then."""
    with tempfile.TemporaryDirectory() as folder:
        broken = _broken_copy(rig.spec.path, Path(folder))
        engine = rig.spare(path=broken)
        try:
            raised = (await asyncio.gather(engine.load(lambda _: None), return_exceptions=True))[0]
            require(
                isinstance(raised, EngineFailed),
                f"load of broken weights must raise EngineFailed, not {raised!r}",
            )
            assert isinstance(raised, EngineFailed)
            require(len(raised.message) >= 8, f"EngineFailed must say what is wrong, not {raised.message!r}")
        finally:
            await engine.close()


@check
async def health_answers_beside_work(rig: Rig) -> None:
    """Loaded, it is ready, and says so within seconds while every slot is at work."""
    require((await rig.engine.health()).state == "ready", "a loaded engine must be ready")
    if not isinstance(rig.engine, Generates):
        return
    ids = await rig.ask(rig.subject.story)
    sampling = greedy(max_tokens=400, ignore_eos=True)
    async with rig.engine.generate(ids, sampling=sampling) as events:
        await anext(events)
        async with asyncio.timeout(10):
            health = await rig.engine.health()
        require(health.state == "ready", f"at work it is {health.state!r}: {health.reason}")
    await rig.idle()


@check
async def closing_breaks_off_what_runs(rig: Rig) -> None:
    """`close` ends running generations with `EngineFailed`, may come twice, and nothing can be asked for afterwards."""
    if isinstance(rig.engine, Generates):
        ids = await rig.ask(rig.subject.story)
        reading = asyncio.create_task(_read_on(rig.engine, ids))
        await rig.until(lambda: rig.engine.stats().running > 0, "nothing runs")
        await rig.engine.close()
        ended = (await asyncio.gather(reading, return_exceptions=True))[0]
        require(
            isinstance(ended, EngineFailed),
            f"a generation cut by close must raise EngineFailed, not {ended!r}",
        )
        await _require_failure(rig.engine, "after close")
    await rig.engine.close()
    await rig.engine.close()


async def _read_on(engine: Generates, ids: tuple[int, ...]) -> None:
    while True:
        sampling = greedy(max_tokens=400, ignore_eos=True)
        async with engine.generate(ids, sampling=sampling) as events:
            async for _ in events:
                pass


async def _require_failure(engine: Generates, when: str) -> None:
    raised = (await asyncio.gather(_read_once(engine), return_exceptions=True))[0]
    require(isinstance(raised, EngineFailed), f"{when} a generation must raise EngineFailed, not {raised!r}")


async def _read_once(engine: Generates) -> None:
    async with engine.generate((1,), sampling=greedy(max_tokens=1)) as events:
        async for _ in events:
            pass


def _broken_copy(path: Path, folder: Path) -> Path:
    """A file, or a folder of files, with the names of the weights and nothing of them inside."""
    broken = folder / path.name
    if path.is_file():
        broken.write_bytes(b"GGUF" + bytes(200))
        return broken
    for file in (file for file in path.rglob("*") if file.is_file()):
        target = broken / file.relative_to(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bytes(200) if file.suffix != ".json" else file.read_bytes())
    return broken


LIFE = (
    it_says_what_it_is,
    loading_is_told,
    making_one_loads_nothing,
    broken_weights_fail_the_load,
    health_answers_beside_work,
)
CLOSING = (closing_breaks_off_what_runs,)
