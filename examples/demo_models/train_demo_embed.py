"""Train `demo-embed`, the bundled text-embedding model, and write it as ONNX: `train_demo_embed.py --out demo-embed`.

Pairs of a question and its answer, or of two wordings of one question, come from the generators of `demo-llm`; the
tokenizer and the first token embeddings too. Loss: cosine similarities of a batch as logits, both ways (InfoNCE, van den
Oord et al. 2018), at 128, 64 and 32 numbers together, so that a shortened vector still serves (Matryoshka, Kusupati et
al. 2022). Prints how often a question in a wording that training never saw finds its answer first among all.

Needs torch, tokenizers, safetensors, onnx and onnxscript; two threads for a few minutes.
"""

import argparse
import hashlib
import json
import math
import random
from pathlib import Path

import demo_llm_tasks as tasks
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

HIDDEN, LAYERS, HEADS, INNER = 128, 2, 4, 256
POSITIONS_MAX = 512
DIMENSIONS = (128, 64, 32)
PAD = 3
SUBJECTS = {
    "capital": 6,
    "glossary": 5,
    "opposite": 2,
    "grammar": 2,
    "nature": 2,
    "colour": 2,
    "calendar": 1,
    "smalltalk": 1,
}


class Layer(nn.Module):
    """One encoder layer, normalised before attention and before the two linear maps."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_inner = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.queries_keys_values, self.joined = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.inner, self.outer = nn.Linear(HIDDEN, INNER), nn.Linear(INNER, HIDDEN)

    def forward(self, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """states: [B, T, 128]; bias: [B, 1, 1, T], large and negative where there is padding."""
        batch, length, _ = states.shape
        split = self.queries_keys_values(self.before_attention(states)).reshape(
            batch, length, 3, HEADS, HIDDEN // HEADS
        )
        queries, keys, values = split.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (queries @ keys.transpose(-1, -2) / math.sqrt(HIDDEN // HEADS) + bias).softmax(-1)
        states = states + self.joined((weights @ values).transpose(1, 2).reshape(batch, length, HIDDEN))
        return states + self.outer(functional.gelu(self.inner(self.before_inner(states))))


class Encoder(nn.Module):
    """Token ids to contextual states, seen from both sides; pooling is the engine's."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, HIDDEN)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.last = nn.LayerNorm(HIDDEN)
        rates = torch.exp(torch.arange(0, HIDDEN, 2) * (-math.log(10_000.0) / HIDDEN))
        angles = torch.arange(POSITIONS_MAX)[:, None] * rates[None, :]
        self.register_buffer(
            "places", 0.1 * torch.stack((angles.sin(), angles.cos()), -1).reshape(POSITIONS_MAX, HIDDEN)
        )

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, offset: int = 0) -> torch.Tensor:
        """input_ids, attention_mask: [B, T] int64 -> last_hidden_state: [B, T, 128]."""
        states = self.words(input_ids) + self.places[offset : offset + input_ids.shape[1]]
        bias = (1.0 - attention_mask[:, None, None, :].to(states.dtype)) * -10_000.0
        for layer in self.layers:
            states = layer(states, bias)
        return self.last(states)


def pooled(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over the tokens that are no padding: [B, 128]."""
    weights = mask[:, :, None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def question_and_answer(rng: random.Random, *, held: bool) -> tuple[str, str, str]:
    """(question, answer, other wording or the answer); with `held` the question's wording is one never trained on."""
    name = rng.choices(list(SUBJECTS), list(SUBJECTS.values()))[0]
    task = getattr(tasks, name)
    (_, question), (_, answer) = task(rng, held)
    while len(answer.split()) < 3:  # "Oslo" alone could answer several questions.
        (_, question), (_, answer) = task(rng, held)
    return question, answer, name


def batch_of(tokenizer: Tokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, padded on the right."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    length = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (length - len(row)) for row in rows])
    return ids, (torch.arange(length)[None, :] < torch.tensor([len(row) for row in rows])[:, None]).long()


def loss_of(first: torch.Tensor, second: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each text's partner among the batch; what says the same (`same`) counts as no mistake."""
    total = first.new_zeros(())
    for size in DIMENSIONS:
        a, b = functional.normalize(first[:, :size], dim=1), functional.normalize(second[:, :size], dim=1)
        logits = (a @ b.T / 0.05).masked_fill(same, float("-inf"))
        target = torch.arange(len(a))
        total = total + functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    return total


def train(tokenizer: Tokenizer, encoder: Encoder, *, steps: int, batch: int, seed: int) -> None:
    """Cosine decay from 2e-3 with a short warm-up."""
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / 50) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2),
    )
    for step in range(steps):
        triples = [question_and_answer(rng, held=False) for _ in range(batch)]
        answers = [answer for _, answer, _ in triples]
        same = torch.tensor([[a == b for b in answers] for a in answers]) & ~torch.eye(
            batch, dtype=torch.bool
        )
        offset = rng.randrange(POSITIONS_MAX // 2)
        texts = [question for question, _, _ in triples] + answers
        ids, mask = batch_of(tokenizer, texts)
        states = pooled(encoder(ids, mask, offset), mask)
        loss = loss_of(states[:batch], states[batch:], same)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(step, round(loss.item(), 3), flush=True)


@torch.no_grad()
def found_first(tokenizer: Tokenizer, encoder: Encoder, *, size: int, questions: int = 600) -> float:
    """Share of questions in unseen wordings whose answer is the nearest of all answers, at `size` numbers."""
    rng = random.Random(99)
    asked = [question_and_answer(rng, held=True) for _ in range(questions)]
    answers = sorted(
        {question_and_answer(rng, held=False)[1] for _ in range(6000)} | {answer for _, answer, _ in asked}
    )

    def vectors(texts: list[str]) -> torch.Tensor:
        made = []
        for start in range(0, len(texts), 128):
            ids, mask = batch_of(tokenizer, texts[start : start + 128])
            made.append(functional.normalize(pooled(encoder(ids, mask), mask)[:, :size], dim=1))
        return torch.cat(made)

    nearest = (vectors([question for question, _, _ in asked]) @ vectors(answers).T).argmax(1)
    right = [answers[place] == answer for place, (_, answer, _) in zip(nearest.tolist(), asked, strict=True)]
    print(f"{len(answers)} answers, {size} numbers: {sum(right)}/{questions}")
    return sum(right) / questions


def write_onnx(encoder: Encoder, path: Path) -> None:
    """Export, with weights as float16 that a Cast widens: half the size, computed in float32."""
    ids = torch.randint(4, 2000, (2, 7))
    sizes = {
        0: torch.export.Dim("batch", min=1, max=4096),
        1: torch.export.Dim("length", min=1, max=POSITIONS_MAX),
    }
    program = torch.onnx.export(
        encoder.eval(),
        (ids, torch.ones_like(ids)),
        dynamo=True,
        opset_version=18,
        input_names=["input_ids", "attention_mask"],
        output_names=["last_hidden_state"],
        dynamic_shapes={"input_ids": sizes, "attention_mask": sizes},
    )
    model = program.model_proto
    narrow(model)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def narrow(model: onnx.ModelProto) -> None:
    """Keep large float32 initializers as float16."""
    graph = model.graph
    casts = []
    for initializer in graph.initializer:
        if initializer.data_type != TensorProto.FLOAT or math.prod(initializer.dims) < 256:
            continue
        name = initializer.name
        initializer.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(initializer).astype("float16"), name + "_f16")
        )
        casts.append(helper.make_node("Cast", [name + "_f16"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]


def write_configs(out: Path, tokenizer: Tokenizer) -> None:
    """The files beside the weights, as sentence-transformers lays them out."""
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "1_Pooling").mkdir(exist_ok=True)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    config = {
        "model_type": "demo-embed",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS_MAX,
        "vocab_size": tokenizer.get_vocab_size(),
        "pad_token_id": PAD,
        "matryoshka_dimensions": sorted(DIMENSIONS),
    }
    for name, content in (
        ("config.json", config),
        ("modules.json", modules),
        ("1_Pooling/config.json", {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True}),
    ):
        (out / name).write_text(json.dumps(content, indent=2) + "\n")


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm", type=Path, required=True, help="the directory of demo-llm")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(options.llm / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encoder = Encoder(tokenizer.get_vocab_size())
    known = load_file(options.llm / "model.safetensors")["model.embed_tokens.weight"].float()
    # The widest 128 directions of the language model's 192 numbers a token.
    _, _, directions = torch.linalg.svd(known, full_matrices=False)
    encoder.words.weight.data = functional.normalize(known @ directions[:HIDDEN].T, dim=1)
    train(tokenizer, encoder, steps=options.steps, batch=options.batch, seed=options.seed)
    for size in DIMENSIONS:
        found_first(tokenizer, encoder.eval(), size=size)
    torch.save(encoder.state_dict(), options.out.parent / "demo_embed_weights.pt")
    write_onnx(encoder, options.out / "model.onnx")
    write_configs(options.out, tokenizer)
    for path in sorted(options.out.rglob("*")):
        if path.is_file():
            print(
                path.relative_to(options.out),
                path.stat().st_size,
                hashlib.sha256(path.read_bytes()).hexdigest(),
            )


if __name__ == "__main__":
    main()
