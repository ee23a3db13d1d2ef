"""aiperf audits our metering: the tokens it counts itself, in what it sent and got, are those that we say and bill.

Usage: check.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from demo import ANSWERS, CHAT, STORY, TOKENIZER, Stack, stack

REQUESTS = 30
CONCURRENCY = 4
STORY_TOKENS = 24
NAMES = ("Nora", "Tom", "Ada", "Finn", "Mia", "Leo", "Ida", "Max")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask."""

    name: str
    prompts: str
    """Which of them."""
    options: tuple[str, ...]


CHATS = ("--endpoint-type", "chat", "--apply-chat-template")
WAYS = (
    Way("streamed", "questions", (*CHATS, "--streaming")),
    Way("whole", "questions", CHATS),
    Way("completions", "beginnings", ("--endpoint-type", "completions", "--streaming")),
)


def tokenizer(folder: Path) -> Path:
    """The model's tokenizer and template for transformers 4, which does not know the class that 5 writes."""
    made = folder / "tokenizer"
    made.mkdir()
    for name in ("tokenizer.json", "chat_template.jinja"):
        shutil.copy(TOKENIZER / name, made)
    settings = json.loads((TOKENIZER / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (made / "tokenizer_config.json").write_text(json.dumps(settings))
    return made


def write_prompts(folder: Path) -> None:
    """Stories that are cut off, questions whose answers end by themselves, and beginnings of a text without a chat."""
    stories = [(STORY.replace("Nora", name), STORY_TOKENS) for name in NAMES]
    questions = [*stories, *((question, None) for question in ANSWERS)]
    beginnings = [(f"Once upon a time there was a cat named {name}.", STORY_TOKENS) for name in NAMES]
    for kind, texts in (("questions", questions), ("beginnings", beginnings)):
        lines = [
            {"text": text} if tokens is None else {"text": text, "output_length": tokens}
            for text, tokens in texts
        ]
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def run(known: Stack, folder: Path, way: Way, *, key: str) -> list[dict[str, float]]:
    """The metrics of each request."""
    artifacts = folder / way.name
    subprocess.run(
        [
            Path(sys.executable).with_name("aiperf"), "profile",
            "--model", CHAT, "--url", known.origin, "--api-key", key, *way.options,
            "--tokenizer", folder / "tokenizer",
            "--input-file", folder / f"{way.prompts}.jsonl", "--custom-dataset-type", "single_turn",
            "--extra-inputs", "temperature:0",
            "--request-count", str(REQUESTS), "--concurrency", str(CONCURRENCY),
            "--artifact-dir", artifacts, "--export-level", "records", "--ui", "none",
        ],
        check=True,
        cwd=folder,
    )  # fmt: skip
    lines = (artifacts / "profile_export.jsonl").read_text().splitlines()
    return [{name: metric["value"] for name, metric in json.loads(line)["metrics"].items()} for line in lines]


def check_counts(records: list[dict[str, float]]) -> tuple[int, int]:
    """Its counts are our usage, request by request; returns the sums."""
    failed = [record for record in records if "output_sequence_length" not in record]
    assert not failed, f"{len(failed)} of {len(records)} requests failed"
    assert len(records) == REQUESTS, len(records)
    for record in records:
        own = record["input_sequence_length"], record["output_sequence_length"]
        said = record["usage_prompt_tokens"], record["usage_completion_tokens"]
        assert own == said, f"aiperf counts {own} tokens of prompt and completion, our usage says {said}"
    return (
        int(sum(record["usage_prompt_tokens"] for record in records)),
        int(sum(record["usage_completion_tokens"] for record in records)),
    )


def main() -> None:
    known = stack()
    key_id, key = known.new_key("aiperf")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer(folder)
        write_prompts(folder)
        sums = [check_counts(run(known, folder, way, key=key)) for way in WAYS]
    prompt, completion = (sum(side) for side in zip(*sums, strict=True))
    used = known.billed(key_id, requests=len(WAYS) * REQUESTS)
    assert (used.requests, used.tokens_prompt, used.tokens_completion) == (
        len(WAYS) * REQUESTS,
        prompt,
        completion,
    ), used
    print(
        f"{prompt} + {completion} tokens of {used.requests} requests: aiperf's count, our usage and the bill agree"
    )


if __name__ == "__main__":
    main()
