"""`raymart model` against a real database, a local hub and a store on disk."""

import hashlib
import json
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from raymart_core.errors import Unavailable
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.catalog.registry_models import Artifact
from support.command_line import RAYMART, environment, failed, run
from support.hub_server import hub_server
from support.market import unique
from support.weight_files import gguf, safetensors

KEY = "k" * 40


def fresh_gguf(folder: Path, name: str = "tiny.gguf") -> Path:
    path = folder / name
    path.write_bytes(gguf({"tokenizer.chat_template": secrets.token_hex(8)}))
    return path


def imported(database_url: str, folder: Path, slug: str, *options: str, **variables: str) -> str:
    """The digest of a fresh revision of the model."""
    done = run(
        database_url, "model", "import", str(fresh_gguf(folder)), "--model", slug, *options,
        RAYMART_DATA_DIR=str(folder / "data"), **variables,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().removeprefix(f"{slug}@")


def rows(database_url: str, *arguments: str) -> list[dict[str, object]]:
    done = run(database_url, "model", *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class TestLife:
    def test_imported_published_moved_rolled_back_and_withdrawn(self, database_url: str, tmp_path: Path):
        slug = f"test/{unique('model')}"
        first = imported(database_url, tmp_path, slug, "--publish")
        second = imported(database_url, tmp_path, slug)

        def ok(*arguments: str) -> str:
            done = run(database_url, "model", *arguments)
            assert done.returncode == 0, done.stderr
            return done.stdout

        def states() -> dict[object, tuple[object, object]]:
            listed = [row for row in rows(database_url, "list") if row["model"] == slug]
            return {row["revision"]: (row["state"], row["aliases"]) for row in listed}

        assert states() == {first: ("published", "latest"), second: ("draft", "")}
        ok("publish", f"{slug}@{second}", "--reason", "better")
        ok("alias", f"{slug}@{first}", "stable")
        assert states() == {first: ("published", "stable"), second: ("published", "latest")}
        assert first in ok("rollback", slug, "--reason", "worse")
        assert states()[first] == ("published", "latest stable")
        assert "named nothing else" in failed(run(database_url, "model", "rollback", slug))
        assert "name" in failed(run(database_url, "model", "withdraw", f"{slug}@stable"))
        ok("deprecate", f"{slug}@{second}")
        ok("withdraw", f"{slug}@{second}")
        ok("unalias", slug, "--alias", "stable")
        assert states() == {first: ("published", "latest"), second: ("withdrawn", "")}
        history = rows(database_url, "show", slug, "--history")
        assert [(row["alias"], row["change"], row["reason"]) for row in history] == [
            ("stable", "removed", ""),
            ("latest", "rollback", "worse"),
            ("stable", "set", ""),
            ("latest", "set", "better"),
            ("latest", "set", ""),
        ]
        [file] = rows(database_url, "show", f"{slug}@latest")
        assert file["path"] == "tiny.gguf"

    def test_draft_says_how_to_publish_it(self, database_url: str, tmp_path: Path):
        slug = f"test/{unique('model')}"
        done = run(
            database_url, "model", "import", str(fresh_gguf(tmp_path)), "--model", slug,
            RAYMART_DATA_DIR=str(tmp_path / "data"),
        )  # fmt: skip
        assert f"raymart model publish {slug}@sha256:" in done.stderr
        assert "stored tiny.gguf" in done.stderr

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("m.pt", b"PK\x03\x04", "convert them to safetensors or GGUF"),
            ("m.safetensors", (2**40).to_bytes(8, "little") + b"{}", "is no safetensors file"),
            ("m.gguf", b"\x80\x04", "is no GGUF file"),
        ],
    )
    def test_what_must_not_be_kept_is_refused_in_one_line(
        self, database_url: str, tmp_path: Path, name: str, content: bytes, said: str
    ):
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / name).write_bytes(content)
        done = run(
            database_url, "model", "import", str(tmp_path / "m"), "--model", "test/bad",
            RAYMART_DATA_DIR=str(tmp_path / "data"),
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr.splitlines()[-1]

    def test_unknown_names_are_not_found(self, database_url: str):
        for arguments in (
            ("publish", "test/none@latest"),
            ("rollback", "test/none"),
            ("show", "test/none@latest"),
        ):
            assert "test/none" in failed(run(database_url, "model", *arguments))


class TestPrivate:
    def test_private_model_needs_a_key(self, database_url: str, tmp_path: Path):
        done = run(
            database_url, "model", "import", str(fresh_gguf(tmp_path)), "--model", "acme/tiny", "--organization", "acme",
            RAYMART_DATA_DIR=str(tmp_path / "data"),
        )  # fmt: skip
        assert "set RAYMART_MODEL_KEY" in failed(done)

    def test_private_model_is_shared_used_hosted_and_taken_back(self, database_url: str, tmp_path: Path):
        names = [unique("org") for _ in range(2)]
        owner, other = (made_organization(database_url, name) for name in names)
        slug = f"{owner}/tiny"
        imported(database_url, tmp_path, slug, "--organization", owner, "--publish", RAYMART_MODEL_KEY=KEY)

        def shared() -> list[tuple[object, ...]]:
            with psycopg.connect(database_url) as connection:
                return connection.execute(
                    "select o.slug, s.access, s.ended_at is null from model_share s"
                    " join model m on m.id = s.model_id join organization o on o.id = s.organization_id"
                    " where m.slug = %s",
                    (slug,),
                ).fetchall()

        for options, access in (((), "use"), (("--access", "host"), "host")):
            done = run(database_url, "model", "share", slug, "--organization", other, *options)
            assert done.stdout == f"{slug} is shared with {other}\n", done.stderr
            assert shared() == [(other, access, True)]
        assert "own" in failed(run(database_url, "model", "share", slug, "--organization", owner))
        done = run(database_url, "model", "unshare", slug, "--organization", other)
        assert done.stdout == f"{slug} is not shared with {other}\n", done.stderr
        assert shared() == [(other, "host", False)]
        assert "not shared" in failed(run(database_url, "model", "unshare", slug, "--organization", owner))

    def test_data_keys_are_wrapped_anew_once(self, sound_url: str, tmp_path: Path):
        owner = made_organization(sound_url, unique("org"))
        slug = f"{owner}/tiny"
        imported(sound_url, tmp_path, slug, "--organization", owner, RAYMART_MODEL_KEY=KEY)
        both = {"RAYMART_MODEL_KEY": f"{'n' * 40},{KEY}"}
        for count in (1, 0):
            done = run(sound_url, "model", "rewrap", **both)
            assert done.stdout == f"{count} data keys are wrapped anew\n", done.stderr
        with psycopg.connect(sound_url) as connection:
            [row] = connection.execute("select sha256, organization_id, sealed_key from artifact").fetchall()
        sealed = Artifact(sha256=row[0], organization_id=row[1], sealed_key=row[2])
        assert ModelKeys([b"n" * 40]).unwrap(sealed)
        with pytest.raises(Unavailable):
            ModelKeys([KEY.encode()]).unwrap(sealed)


def made_organization(database_url: str, slug: str) -> str:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into organization (id, slug, name, kind) values (gen_random_uuid(), %s, %s, 'customer')",
            (slug, slug),
        )
    return slug


class TestKilled:
    def test_import_that_was_killed_goes_on_where_it_was(self, database_url: str, tmp_path: Path):
        """A real process, SIGKILL in the middle of a file; then the same command again."""
        weights = safetensors({"w": ("BF16", [4_000_000], 8_000_000)}, data=os.urandom(8_000_000))
        config = json.dumps({"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}).encode()
        slug = f"test/{unique('model')}"
        command = ["model", "import", "hf:acme/tiny", "--model", slug, "--capability", "chat"]
        with hub_server({"config.json": config, "model.safetensors": weights}) as (hub, url):
            variables = environment(database_url, HF_ENDPOINT=url, RAYMART_DATA_DIR=str(tmp_path))
            hub.hold_after = 5_000_000
            with subprocess.Popen(
                [RAYMART, *command], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as killed:
                assert hub.held.wait(60)
                [partial] = _until_partial(tmp_path, at_least=2_000_000)
                killed.send_signal(signal.SIGKILL)
                killed.communicate(timeout=30)
            had = partial.stat().st_size
            assert 0 < had < len(weights)
            hub.hold_after = None
            hub.go.set()
            before = hub.sent["config.json"]
            done = subprocess.run(
                [RAYMART, *command], env=variables, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, done.stderr
        assert hub.ranges == [("model.safetensors", f"bytes={had}-")]
        assert hub.sent["config.json"] == before, "a stored file was fetched again"
        assert "was there config.json" in done.stderr
        digest = hashlib.sha256(weights).hexdigest()
        assert (tmp_path / "objects" / "artifacts" / digest).read_bytes() == weights
        assert not list((tmp_path / "imports").iterdir())


def _until_partial(folder: Path, *, at_least: int) -> list[Path]:
    """Wait until the killed one has written so much: the hub has sent all that it will for now."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = [path for path in (folder / "imports").rglob("*.partial") if path.stat().st_size >= at_least]
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("nothing arrived")
