"""What the adapter costs: `VllmEngine` beside vLLM's bare `AsyncLLM`, the same engine in the same process.

    .venv-vllm/bin/python tests/vllm_cpu/bench.py [--path FOLDER] [--concurrency 16] [--parameter gpus=1 ...]

Interleaved A B A B; medians of tokens a second with all slots busy, of this process's CPU a token meanwhile (what survives
a busy machine), and of the time to the first token alone.
"""

import argparse
import asyncio
import secrets
import statistics
import time
from pathlib import Path

from raymart_core.wire.replica import ChatMessage, GenerationOptions, Sampling
from raymart_serve.engines.protocol import EngineSpec, GenerationStep
from raymart_serve.engines.vllm import VllmEngine
from raymart_serve.models import resolve

DEMO = "bundled:demo-llm", "d050e91e9f7ddcf9d5f1cad2532aa506c4b634743ace78b36c4350477161807b"
ROUNDS = 5
TOKENS = 200


async def ours(engine: VllmEngine, ids: tuple[int, ...], tokens: int) -> float:
    """One generation through the adapter; seconds to its first token."""
    begun, first = time.perf_counter(), 0.0
    sampling = Sampling(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    options = GenerationOptions(cache_salt=secrets.token_hex(8))
    async with engine.generate(ids, sampling=sampling, options=options) as events:
        async for event in events:
            if not first and isinstance(event, GenerationStep):
                first = time.perf_counter() - begun
    return first


async def bare(engine: VllmEngine, ids: tuple[int, ...], tokens: int) -> float:
    """The same through `AsyncLLM.generate`."""
    from vllm.inputs import tokens_input
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    begun, first = time.perf_counter(), 0.0
    sampling = SamplingParams(
        max_tokens=tokens, temperature=0.0, ignore_eos=True, output_kind=RequestOutputKind.DELTA
    )
    prompt = tokens_input(list(ids), cache_salt=secrets.token_hex(8))
    assert engine._llm is not None
    async for _ in engine._llm.generate(prompt, sampling, secrets.token_hex(8)):
        first = first or time.perf_counter() - begun
    return first


async def main(options: argparse.Namespace) -> None:
    """Print both figures of each, and their ratios."""
    path = options.path or resolve(*DEMO)
    spec = EngineSpec(
        path=path,
        context_length=1024,
        slots=options.concurrency,
        parameters=dict(pair.split("=", 1) for pair in options.parameter),
    )
    engine = VllmEngine(spec)
    begun = time.perf_counter()
    await engine.load(lambda _: None)
    loaded = time.perf_counter()
    await engine.warm_up()
    print(f"load {loaded - begun:.1f} s, warm-up {time.perf_counter() - loaded:.1f} s")
    ids = await engine.encode_chat([ChatMessage(role="user", content="Tell a story with a cat named Nora.")])
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    firsts: dict[str, list[float]] = {"ours": [], "bare": []}
    costs: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(ROUNDS):
        for name, run in (("bare", bare), ("ours", ours)):
            begun, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(run(engine, ids, TOKENS) for _ in range(options.concurrency)))
            rates[name].append(options.concurrency * TOKENS / (time.perf_counter() - begun))
            costs[name].append((time.process_time() - cpu) / (options.concurrency * TOKENS) * 1e6)
            firsts[name] += [await run(engine, ids, 2) for _ in range(10)]
    rate = {name: statistics.median(values) for name, values in rates.items()}
    first = {name: statistics.median(values) * 1000 for name, values in firsts.items()}
    print(
        f"tokens/s at {options.concurrency}: bare {rate['bare']:.0f}, ours {rate['ours']:.0f}: {rate['ours'] / rate['bare']:.3f}"
    )
    print(f"first token p50: bare {first['bare']:.2f} ms, ours {first['ours']:.2f} ms")
    cost = {name: statistics.median(values) for name, values in costs.items()}
    print(f"CPU a token: bare {cost['bare']:.0f} µs, ours {cost['ours']:.0f} µs")
    await engine.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", type=Path, help="a folder of safetensors; default: the bundled model")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE")
    asyncio.run(main(parser.parse_args()))
