"""A model spread over two processes answers as it does in one."""

import json
import shutil
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from raymart_core.wire.replica import Sampling
from raymart_serve.engines.protocol import EngineSpec, GenerationStep
from raymart_serve.engines.vllm import VllmEngine
from raymart_serve.models import resolve

SOURCE = "bundled:demo-llm"
SHA256 = "d050e91e9f7ddcf9d5f1cad2532aa506c4b634743ace78b36c4350477161807b"
PROMPT = tuple(range(100, 120))
TOKENS = 12


def made(folder: Path) -> LlamaForCausalLM:
    """Random weights in `folder`, with the bundled tokenizer: the bundled model's 3 key heads cannot be halved."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config).eval()
    # Far apart enough that no sum in another order changes which is the greatest.
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(resolve(SOURCE, SHA256) / name, folder / name)
    assert json.loads((folder / "config.json").read_text())["num_key_value_heads"] == 2
    return model


def greedy(model: LlamaForCausalLM) -> list[int]:
    ids = list(PROMPT)
    with torch.no_grad():
        for _ in range(TOKENS):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(PROMPT) :]


async def test_two_processes_give_the_tokens_that_the_model_gives_alone(tmp_path: Path) -> None:
    expected = greedy(made(tmp_path))
    parameters = {"tensor_parallel_size": "2", "dtype": "float32"}
    engine = VllmEngine(EngineSpec(path=tmp_path, context_length=256, slots=1, parameters=parameters))
    try:
        await engine.load(lambda _: None)
        found: list[int] = []
        sampling = Sampling(max_tokens=TOKENS, temperature=0.0, ignore_eos=True)
        async with engine.generate(PROMPT, sampling=sampling) as events:
            async for event in events:
                if isinstance(event, GenerationStep):
                    found += event.ids
    finally:
        await engine.close()
    assert found == expected
