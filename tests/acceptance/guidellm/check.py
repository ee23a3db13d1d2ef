"""guidellm sweeps us as it sweeps any server: synthetic prompts of our own tokenizer, streams, no error, sane figures.

Usage: check.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from demo import CHAT, TOKENIZER, Stack, stack

REQUESTS = 20
STREAMS = 2
PROMPT_TOKENS = 16
OUTPUT_TOKENS = 8


def run(known: Stack, folder: Path, *, key: str) -> dict:
    """The one benchmark of a run."""
    output = folder / "out.json"
    subprocess.run(
        [
            Path(sys.executable).with_name("guidellm"), "run",
            "--backend", f"kind=openai_http,target={known.origin},model={CHAT},api_key={key}",
            "--profile", f"kind=concurrent,streams={STREAMS}",
            "--constraint", f"kind=max_requests,count={REQUESTS}",
            "--tokenizer", f"kind=huggingface_auto,model={TOKENIZER}",
            "--data", f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={OUTPUT_TOKENS}",
            "--output", f"kind=json,path={output}",
            "--disable-progress",
        ],
        check=True,
        cwd=folder,
    )  # fmt: skip
    [benchmark] = json.loads(output.read_text())["benchmarks"]
    return benchmark


def check(benchmark: dict) -> tuple[int, int]:
    """Every request succeeded and has the asked length; returns the tokens of all prompts and of all completions."""
    requests = benchmark["requests"]
    assert not requests["errored"], requests["errored"][0]["info"]["error"]
    done = requests["successful"]
    assert len(done) == REQUESTS, len(done)
    for each in done:
        # It sends `ignore_eos`: every completion is as long as asked, whatever the model would say.
        assert each["output_metrics"]["text_tokens"] == OUTPUT_TOKENS, each["output_metrics"]
        assert each["input_metrics"]["text_tokens"] >= PROMPT_TOKENS, each["input_metrics"]
    counted = [
        sum(each[side]["text_tokens"] for each in done) for side in ("input_metrics", "output_metrics")
    ]
    return counted[0], counted[1]


def main() -> None:
    known = stack()
    key_id, key = known.new_key("guidellm")
    with tempfile.TemporaryDirectory() as folder:
        benchmark = run(known, Path(folder), key=key)
    prompt, completion = check(benchmark)
    used = known.billed(key_id, requests=REQUESTS)
    assert (used.requests, used.tokens_prompt, used.tokens_completion) == (REQUESTS, prompt, completion), used
    print(f"{REQUESTS} streams without an error, {prompt} + {completion} tokens, all of them billed once")


if __name__ == "__main__":
    main()
