#!/usr/bin/env python3
"""Convert a small Llama model in Hugging Face format to GGUF for llama.cpp (numpy and gguf only, no torch).

Usage: convert_gguf.py MODEL_DIR OUT.gguf [--type f32|f16|q8_0]
Works for Llama models with a byte-level BPE tokenizer that uses the GPT-2 pre-tokenizer, such as the demo model.
"""

import argparse
import json
import os
import struct

import gguf
import numpy as np


def read_safetensors(path):
    """All tensors of a safetensors file as float32 arrays."""
    with open(path, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + o for o in info["data_offsets"])
        raw = data[begin:end]
        if info["dtype"] == "BF16":  # the upper half of a float32
            array = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif info["dtype"] in ("F16", "F32"):
            array = np.frombuffer(raw, {"F16": np.float16, "F32": np.float32}[info["dtype"]]).astype(
                np.float32
            )
        else:
            raise ValueError(f"{name}: unsupported type {info['dtype']}")
        tensors[name] = array.reshape(info["shape"])
    return tensors


def permute(weight, heads):
    """Rotary pairs: Hugging Face stores two halves per head, llama.cpp stores neighbours."""
    return (
        weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        .swapaxes(1, 2)
        .reshape(weight.shape)
    )


LAYER_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name):
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    if name == "lm_head.weight":
        return "output.weight"
    _, _, layer, rest = name.split(".", 3)  # model.layers.N.rest
    return f"blk.{layer}.{LAYER_NAMES[rest.removesuffix('.weight')]}.weight"


def convert(source, target, kind="f32", name="demo-llm"):
    def load(file):
        with open(os.path.join(source, file), encoding="utf-8") as f:
            return json.load(f) if file.endswith(".json") else f.read()

    config, tokenizer = load("config.json"), load("tokenizer.json")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or config
    w = gguf.GGUFWriter(target, "llama")
    w.add_name(name)
    w.add_context_length(config["max_position_embeddings"])
    w.add_embedding_length(config["hidden_size"])
    w.add_block_count(config["num_hidden_layers"])
    w.add_feed_forward_length(config["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_key_length(head_dim)
    w.add_value_length(head_dim)
    w.add_rope_dimension_count(head_dim)
    w.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    w.add_layer_norm_rms_eps(config["rms_norm_eps"])
    w.add_vocab_size(config["vocab_size"])
    types = {
        "f32": gguf.GGMLQuantizationType.F32,
        "f16": gguf.GGMLQuantizationType.F16,
        "q8_0": gguf.GGMLQuantizationType.Q8_0,
    }
    w.add_file_type(
        {
            "f32": gguf.LlamaFileType.ALL_F32,
            "f16": gguf.LlamaFileType.MOSTLY_F16,
            "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
        }[kind]
    )

    tokens = [f"[unused{i}]" for i in range(config["vocab_size"])]
    token_types = [gguf.TokenType.UNUSED] * config["vocab_size"]
    for token, i in tokenizer["model"]["vocab"].items():
        tokens[i], token_types[i] = token, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        token_types[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types(token_types)
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    w.add_bos_token_id(config["bos_token_id"])
    eos = config["eos_token_id"]
    w.add_eos_token_id(eos[0] if isinstance(eos, list) else eos)
    w.add_pad_token_id(config["pad_token_id"])
    w.add_add_bos_token(False)
    w.add_chat_template(load("chat_template.jinja"))

    for key, value in read_safetensors(os.path.join(source, "model.safetensors")).items():
        if key == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        if "q_proj" in key:
            value = permute(value, heads)
        elif "k_proj" in key:
            value = permute(value, kv_heads)
        value = np.ascontiguousarray(value, np.float32)
        if value.ndim == 1 or kind == "f32":  # norms always stay in full precision
            w.add_tensor(gguf_name(key), value)
        else:
            w.add_tensor(gguf_name(key), gguf.quants.quantize(value, types[kind]), raw_dtype=types[kind])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("source")
    ap.add_argument("target")
    ap.add_argument("--type", choices=["f32", "f16", "q8_0"], default="f32")
    args = ap.parse_args()
    convert(args.source, args.target, args.type)
    print(args.target, os.path.getsize(args.target), "bytes")
