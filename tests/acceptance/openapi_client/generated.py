"""Generate a client from the running stack's OpenAPI document, and use it as a customer, as staff and as no node.

Usage: generated.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import importlib
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

QUESTION = "What is the capital of Norway?"
ANSWER = "The capital of Norway is Oslo."


def generate(base_url: str, folder: Path) -> None:
    """The client package `raymart_client` in `folder`."""
    document = folder / "openapi.json"
    with urllib.request.urlopen(f"{base_url}/openapi.json", timeout=30) as answer:
        document.write_bytes(answer.read())
    generator = Path(sys.executable).with_name("openapi-python-client")
    output = folder / "raymart_client"
    subprocess.run(
        [generator, "generate", "--path", document, "--meta", "none", "--output-path", output],
        check=True,
        capture_output=True,  # It warns of the PDFs, whose bytes it leaves to its caller.
    )
    sys.path.insert(0, str(folder))


def check(credentials: dict) -> None:
    """Typed calls, and a typed refusal."""
    client, models = (
        importlib.import_module("raymart_client"),
        importlib.import_module("raymart_client.models"),
    )
    api = "raymart_client.api"
    listed, chat = (
        importlib.import_module(f"{api}.inference.{name}")
        for name in ("list_models", "create_chat_completion")
    )
    health, node = (
        importlib.import_module(f"{api}.{name}")
        for name in ("operations.get_platform_health", "nodes.get_node")
    )

    def signed_in(token: str) -> object:
        return client.AuthenticatedClient(base_url=credentials["base_url"], token=token, timeout=60)

    customer = signed_in(credentials["customer"]["api_key"])
    assert "raymart/demo-chat" in {model.id for model in listed.sync(client=customer).data}
    body = models.ChatBody(
        model="raymart/demo-chat",
        messages=[models.MessageBody(role="user", content=QUESTION)],
        temperature=0.0,
    )
    answered = chat.sync(client=customer, body=body)
    assert answered.choices[0].message.content.strip() == ANSWER, answered
    found = health.sync(client=signed_in(credentials["admin"]["token"]))
    assert {"database", "redis", "broker"} <= {part.name for part in found.parts if part.state == "ok"}, found
    refused = node.sync(client=customer)
    assert isinstance(refused, models.ErrorDocument), refused
    assert refused.error.code == "invalid_api_key"


if __name__ == "__main__":
    known = json.loads(Path(sys.argv[1]).read_text())
    with tempfile.TemporaryDirectory() as folder:
        generate(known["base_url"], Path(folder))
        check(known)
    print("a client generated from the OpenAPI document: chat, models, health, a typed refusal")
