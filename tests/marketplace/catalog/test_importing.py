import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from huggingface_hub import constants

from raymart_core.errors import Conflict, InvalidRequest, NotFound, Unavailable
from raymart_marketplace.accounts.models import Organization
from raymart_marketplace.catalog.artifacts import ArtifactStore
from raymart_marketplace.catalog.importing import Imported, Importer, ImportPlan, SourceSettings, open_source
from raymart_marketplace.catalog.model_keys import ModelKeys
from raymart_marketplace.catalog.models import Modality, RevisionState, Visibility
from raymart_marketplace.catalog.revisions import manifest_of
from raymart_marketplace.db.session import Sessions, session_scope
from raymart_marketplace.objects import Objects, open_objects
from support.hub_server import Hub, hub_server
from support.market import make_customer, unique
from support.object_settings import object_settings
from support.s3_server import ACCESS_KEY_ID, BUCKET, REGION, SECRET_ACCESS_KEY, s3_server
from support.weight_files import gguf, safetensors

BUNDLED = Path(__file__).parents[3] / "serve/raymart_serve/models/bundled"
LLM = {
    "config.json": json.dumps(
        {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512, "torch_dtype": "bfloat16"}
    ).encode(),
    "tokenizer.json": b"{}",
    "tokenizer_config.json": json.dumps({"chat_template": "{{ messages }}"}).encode(),
    "model.safetensors": safetensors({"w": ("BF16", [500_000], 1_000_000)}),
    "pytorch_model.bin": b"PK\x03\x04",
    "README.md": b"# Tiny",
}


class Told:
    """What an import said of itself."""

    def __init__(self) -> None:
        self.left_out: tuple[tuple[str, str], ...] = ()
        self.pieces: dict[tuple[str, str], int] = {}
        self.files: list[tuple[str, bool]] = []

    def found(self, *, files: int, size_bytes: int, left_out: tuple[tuple[str, str], ...]) -> None:
        self.left_out = left_out

    def begin(self, path: str, *, stage: str, size_bytes: int) -> Callable[[int], None]:
        def advance(piece: int) -> None:
            self.pieces[stage, path] = self.pieces.get((stage, path), 0) + piece

        return advance

    def done(self, path: str, *, size_bytes: int, was_there: bool) -> None:
        self.files.append((path, was_there))


class Workshop:
    """A store and a staging folder of a test's own."""

    def __init__(self, sessions: Sessions, folder: Path) -> None:
        self.sessions = sessions
        self.staging = folder / "imports"
        self.objects: Objects = open_objects(object_settings(data_dir=folder / "data"))
        self.told = Told()

    async def run(self, source: str, *, settings: SourceSettings | None = None, **plan: object) -> Imported:
        store = ArtifactStore(self.sessions, self.objects, ModelKeys([b"key" * 20]))
        opened = open_source(source, settings or SourceSettings())
        self.told = Told()
        try:
            made = ImportPlan(**({"slug": f"test/{unique('model')}"} | plan))
            return await Importer(self.sessions, store, staging=self.staging).run(opened, made, self.told)
        finally:
            await opened.close()


@pytest.fixture
def workshop(sessions: Sessions, tmp_path: Path) -> Workshop:
    return Workshop(sessions, tmp_path)


def fresh(files: dict[str, bytes]) -> dict[str, bytes]:
    """With weights that no other test has stored."""
    return files | {"model.safetensors": files["model.safetensors"][:-16] + secrets.token_bytes(16)}


def folder_of(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    with hub_server(fresh(LLM)) as (made, url):
        # The library reads HF_ENDPOINT when it is imported, once.
        monkeypatch.setattr(constants, "ENDPOINT", url)
        yield made


class TestFolder:
    async def test_transformers_folder_becomes_a_draft(self, workshop: Workshop, tmp_path: Path):
        made = await workshop.run(str(folder_of(tmp_path / "m", fresh(LLM))))
        manifest = manifest_of(made.revision)
        assert manifest is not None
        assert (manifest.engine, manifest.quantization, manifest.context_length) == ("vllm", "bf16", 512)
        assert manifest.capabilities == ("chat", "logprobs", "seed", "stop")
        assert {file.path for file in manifest.files} == set(LLM) - {"pytorch_model.bin"}
        assert len(manifest.tokenizer_sha256) == len(manifest.template_sha256) == 64
        assert (made.revision.state, made.model.modality) == (RevisionState.DRAFT, Modality.CHAT)
        assert workshop.told.left_out == (("pytorch_model.bin", "can run code when it is loaded"),)
        assert not any(workshop.staging.iterdir())

    async def test_gguf_file_says_what_it_is(self, workshop: Workshop):
        made = await workshop.run(str(BUNDLED / "demo-llm.gguf"))
        manifest = manifest_of(made.revision)
        assert manifest is not None
        assert (manifest.engine, manifest.quantization, manifest.context_length) == (
            "llama_cpp",
            "q8_0",
            1_024,
        )
        assert [file.path for file in manifest.files] == ["demo-llm.gguf"]

    async def test_diffusers_folder_makes_images(self, workshop: Workshop):
        made = await workshop.run(str(BUNDLED / "demo-image"))
        manifest = manifest_of(made.revision)
        assert manifest is not None
        assert (manifest.engine, manifest.capabilities) == ("diffusers", ("image",))
        assert made.model.modality is Modality.IMAGE

    async def test_repeat_stores_nothing_twice(self, workshop: Workshop, tmp_path: Path):
        source, slug = str(folder_of(tmp_path / "m", fresh(LLM))), f"test/{unique('model')}"
        first = await workshop.run(source, slug=slug)
        second = await workshop.run(source, slug=slug)
        assert first.revision.id == second.revision.id
        assert all(was_there for _, was_there in workshop.told.files)

    async def test_what_the_operator_says_counts(self, workshop: Workshop, tmp_path: Path):
        source = folder_of(tmp_path / "m", {"m.onnx": secrets.token_bytes(64)})
        with pytest.raises(InvalidRequest, match="--quantization"):
            await workshop.run(str(source))
        made = await workshop.run(
            str(source),
            quantization="f32",
            context_length=128,
            capabilities=("embedding",),
            parameters={"pooling": "mean"},
        )
        manifest = manifest_of(made.revision)
        assert manifest is not None
        assert manifest.parameters == {"pooling": "mean"}
        assert made.model.modality is Modality.EMBEDDING

    async def test_link_out_of_the_folder_is_refused(self, workshop: Workshop, tmp_path: Path):
        folder = folder_of(tmp_path / "m", {"m.gguf": gguf()})
        (folder / "config.json").symlink_to("/etc/passwd")
        with pytest.raises(InvalidRequest, match="leads out of the folder"):
            await workshop.run(str(folder))

    async def test_bad_weights_store_nothing(self, workshop: Workshop, tmp_path: Path):
        bad = folder_of(tmp_path / "m", {"model.safetensors": (2**40).to_bytes(8, "little") + b"{}"})
        with pytest.raises(InvalidRequest, match=r"'model\.safetensors' is no safetensors file"):
            await workshop.run(str(bad))
        assert not [page async for page in workshop.objects.list("artifacts/")]

    async def test_missing_folder_is_not_found(self, workshop: Workshop, tmp_path: Path):
        with pytest.raises(NotFound):
            await workshop.run(str(tmp_path / "none"))

    async def test_the_same_at_once_is_refused(self, workshop: Workshop, tmp_path: Path):
        source = folder_of(tmp_path / "m", fresh(LLM))
        refused: list[Conflict] = []

        class Inside(Told):
            def found(self, **_: object) -> None:
                """The outer import has not locked yet; nothing to do."""

        async def again() -> None:
            try:
                await Workshop(workshop.sessions, tmp_path).run(str(source))
            except Conflict as error:
                refused.append(error)

        store = ArtifactStore(workshop.sessions, workshop.objects, ModelKeys([]))
        inner = store.find

        async def find(sha256: str, *, organization_id: UUID | None):
            if not refused:
                await again()
            return await inner(sha256, organization_id=organization_id)

        store.find = find  # type: ignore[method-assign]
        opened = open_source(str(source), SourceSettings())
        plan = ImportPlan(slug=f"test/{unique('model')}")
        await Importer(workshop.sessions, store, staging=workshop.staging).run(opened, plan, Inside())
        assert "another process" in refused[0].message


class TestPrivate:
    async def test_private_model_is_its_owners_and_sealed(
        self, workshop: Workshop, sessions: Sessions, tmp_path: Path
    ):
        async with session_scope(sessions) as session:
            owner = (await make_customer(session)).organization_id
            slug = (await session.get_one(Organization, owner)).slug
        source = str(folder_of(tmp_path / "m", fresh(LLM)))
        made = await workshop.run(source, slug=f"{slug}/tiny", organization_id=owner)
        assert (made.model.visibility, made.model.organization_id) == (Visibility.PRIVATE, owner)
        for page in [page async for page in workshop.objects.list("artifacts/")]:
            for each in page:
                assert (await workshop.objects.get(each.key, bytes_max=10**7)).startswith(b"RMSEAL01")
        with pytest.raises(InvalidRequest, match="is called"):
            await workshop.run(source, slug="raymart/tiny", organization_id=owner)
        with pytest.raises(InvalidRequest, match="a model already"):
            await workshop.run(source, slug=f"{slug}/tiny")

    async def test_two_organizations_have_the_same_files_without_knowing(
        self, workshop: Workshop, sessions: Sessions, tmp_path: Path
    ):
        source = str(folder_of(tmp_path / "m", fresh(LLM)))
        names = set()
        for _ in range(2):
            async with session_scope(sessions) as session:
                owner = (await make_customer(session)).organization_id
                slug = (await session.get_one(Organization, owner)).slug
            made = await workshop.run(source, slug=f"{slug}/tiny", organization_id=owner)
            names.add(made.revision.digest)
        assert len(names) == 2


class TestHub:
    async def test_model_is_fetched_at_its_commit(self, workshop: Workshop, hub: Hub):
        made = await workshop.run("acme/tiny")
        assert made.revision.state is RevisionState.DRAFT
        assert "pytorch_model.bin" not in hub.sent

    async def test_cut_connection_goes_on_where_it_was(self, workshop: Workshop, hub: Hub):
        hub.cut_after = 300_000
        await workshop.run("hf:acme/tiny@main")
        [(name, wanted)] = hub.ranges
        assert name == "model.safetensors"
        assert int(wanted.removeprefix("bytes=").rstrip("-")) > 0
        assert hub.sent[name] < 1.2 * len(hub.files[name])

    async def test_stored_file_is_not_fetched_again_after_a_failure(self, workshop: Workshop, hub: Hub):
        good = hub.files["model.safetensors"]
        hub.lies["model.safetensors"] = "0" * 64
        with pytest.raises(Conflict, match="its source says 0000"):
            await workshop.run("acme/tiny")
        del hub.lies["model.safetensors"]
        before = dict(hub.sent)
        await workshop.run("acme/tiny")
        assert hub.sent["config.json"] == before["config.json"]
        assert hub.sent["model.safetensors"] == 2 * len(good)

    @pytest.mark.parametrize("source", ["hf:acme/none", "hf:other/model"])
    async def test_unknown_model_is_not_found(self, workshop: Workshop, hub: Hub, source: str):
        with pytest.raises(NotFound, match="HF_TOKEN"):
            await workshop.run(source)

    @pytest.mark.parametrize("source", ["hf:", "hf:acme", "hf:a/b/c", "hf:../../x", "hf:a/b@../c"])
    async def test_bad_id_is_refused(self, workshop: Workshop, source: str):
        with pytest.raises(InvalidRequest, match="Hugging Face id"):
            await workshop.run(source)

    async def test_hub_that_is_away_is_unavailable(self, workshop: Workshop, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(Unavailable, match="hub does not answer"):
            await workshop.run("acme/tiny")


class TestBucket:
    async def test_prefix_is_imported(self, workshop: Workshop):
        async with s3_server() as (_, url):
            files = fresh(LLM)
            there = open_objects(
                object_settings(
                    objects_url=f"s3://{BUCKET}/models/tiny", objects_endpoint=url, objects_region=REGION,
                    objects_access_key_id=ACCESS_KEY_ID, objects_secret_access_key=SECRET_ACCESS_KEY,
                )
            )  # fmt: skip
            for name, content in files.items():
                await there.put(name, content)
            settings = SourceSettings(
                s3_endpoint=url,
                s3_region=REGION,
                s3_access_key_id=ACCESS_KEY_ID,
                s3_secret_access_key=SECRET_ACCESS_KEY,
            )
            made = await workshop.run(f"s3://{BUCKET}/models/tiny", settings=settings)
            with pytest.raises(NotFound, match="nothing below"):
                await workshop.run(f"s3://{BUCKET}/models/none", settings=settings)
        manifest = manifest_of(made.revision)
        assert manifest is not None
        assert {file.path: file.bytes for file in manifest.files} == {
            name: len(content) for name, content in files.items() if name != "pytorch_model.bin"
        }


class TestOpenSource:
    def test_folder_here_counts_before_a_hub_id(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        os.makedirs("acme/tiny")
        assert open_source("acme/tiny", SourceSettings()).name == str(tmp_path / "acme/tiny")

    def test_bucket_must_be_named(self):
        with pytest.raises(InvalidRequest, match="names no bucket"):
            open_source("s3:///prefix", SourceSettings())
