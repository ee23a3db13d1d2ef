import fcntl
import hashlib
import os
import subprocess
import sys

import pytest

from raymart_core.wire.manifest import Manifest, ManifestFile
from raymart_serve.models.cache import (
    CacheFull,
    ModelCache,
    StoredFile,
    is_pinned,
    pinned,
    read_revision,
    sweep_unsealed,
)
from raymart_serve.models.weights import WeightsUnavailable

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def cache(tmp_path):
    cache = ModelCache(tmp_path / "models", quota_bytes=MIB)
    cache.open()
    yield cache
    cache.close()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def described(files):
    """A manifest of these, and how each is stored: as it is."""
    manifest = Manifest(
        engine="llama_cpp",
        files=tuple(
            ManifestFile(path=path, bytes=len(content), sha256=sha256(content))
            for path, content in sorted(files.items())
        ),
        quantization="f16",
        context_length=1024,
        capabilities=("chat",),
    )
    stored = tuple(StoredFile(path=file.path, sha256=file.sha256, size=file.bytes) for file in manifest.files)
    return manifest, stored


def add(cache, files, *, used_at=None, keep=()):
    """Bring a revision in as a fetch does; its digest."""
    manifest, stored = described(files)
    cache.make_room(stored, keep=keep)
    for content in files.values():
        cache.blob(sha256(content)).write_bytes(content)
    made = cache.complete(manifest, stored)
    cache.settled(stored)
    if used_at is not None:
        os.utime(made.pin, (used_at, used_at))
    return made


def weights(letter, kib):
    return {f"{letter}.gguf": letter.encode() * kib * KIB}


class TestRevision:
    def test_a_complete_revision_is_found_with_its_files_and_no_copy_of_them(self, cache):
        made = add(cache, {"model.gguf": b"m" * KIB, "unet/config.json": b"{}"})
        found = cache.revision(made.digest)
        assert found == made
        assert (found.files / "unet" / "config.json").read_bytes() == b"{}"
        assert (found.files / "model.gguf").stat().st_ino == cache.blob(sha256(b"m" * KIB)).stat().st_ino

    def test_a_revision_that_lacks_an_artifact_is_not_there(self, cache):
        made = add(cache, weights("a", 4))
        cache.damaged(made.stored[0].sha256)
        assert cache.revision(made.digest) is None
        assert cache.revisions() == []

    def test_a_revision_can_be_completed_again(self, cache):
        made = add(cache, weights("a", 4))
        cache.damaged(made.stored[0].sha256)
        add(cache, weights("a", 4))
        found = cache.revision(made.digest)
        assert (found.files / "a.gguf").read_bytes() == b"a" * 4 * KIB

    def test_a_changed_manifest_is_no_revision(self, cache):
        made = add(cache, weights("a", 4))
        (made.root / "manifest.json").write_bytes(made.manifest.canonical().replace(b"1024", b"4096"))
        assert cache.revision(made.digest) is None

    def test_a_list_of_other_files_is_no_revision(self, cache):
        made = add(cache, weights("a", 4))
        (made.root / "stored.json").write_bytes(b"[]")
        assert read_revision(made.root, made.digest) is None


class TestRoom:
    def test_what_was_used_longest_ago_goes_first(self, cache):
        old = add(cache, weights("a", 400), used_at=100)
        older = add(cache, weights("b", 400), used_at=50)
        add(cache, weights("c", 400))
        assert cache.revision(older.digest) is None
        assert cache.revision(old.digest) is not None
        assert cache.used_bytes() <= cache.quota_bytes

    def test_using_a_revision_saves_it(self, cache):
        first = add(cache, weights("a", 400), used_at=50)
        add(cache, weights("b", 400), used_at=100)
        cache.touch(first)
        add(cache, weights("c", 400))
        assert cache.revision(first.digest) is not None

    def test_what_is_loaded_stays(self, cache):
        loaded = add(cache, weights("a", 400), used_at=50)
        other = add(cache, weights("b", 400), used_at=100)
        with pinned(loaded):
            add(cache, weights("c", 400))
        assert cache.revision(loaded.digest) is not None
        assert cache.revision(other.digest) is None

    def test_what_another_process_has_loaded_stays_until_it_is_killed(self, cache):
        made = add(cache, weights("a", 400))
        hold = "import fcntl,sys,time; f=open(sys.argv[1],'rb'); fcntl.flock(f,fcntl.LOCK_SH); print(flush=True); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", hold, str(made.pin)], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            assert is_pinned(made)
            process.kill()
            process.wait()
        assert not is_pinned(made)

    def test_what_must_be_kept_stays(self, cache):
        wanted = add(cache, weights("a", 400), used_at=50)
        add(cache, weights("b", 400), used_at=100)
        add(cache, weights("c", 400), keep={wanted.digest})
        assert cache.revision(wanted.digest) is not None

    def test_when_nothing_may_go_nothing_goes(self, cache):
        idle = add(cache, weights("a", 400), used_at=50)
        kept = add(cache, weights("b", 400), used_at=100)
        with pinned(kept), pytest.raises(CacheFull, match="RAYMART_MODEL_CACHE_BYTES"):
            cache.make_room(described(weights("c", 900))[1], keep=())
        assert cache.revision(idle.digest) is not None

    def test_after_a_refusal_no_room_is_kept(self, cache):
        with pytest.raises(CacheFull):
            cache.make_room(described(weights("c", 2000))[1], keep=())
        add(cache, weights("a", 900))

    def test_two_fetches_do_not_get_the_same_room(self, cache):
        cache.make_room(described(weights("a", 600))[1], keep=())
        with pytest.raises(CacheFull):
            cache.make_room(described(weights("b", 600))[1], keep=())

    def test_artifacts_that_are_shared_stay_with_the_other_revision(self, cache):
        shared = {"tokenizer.json": b"t" * 8 * KIB}
        first = add(cache, {**shared, **weights("a", 400)}, used_at=50)
        second = add(cache, {**shared, **weights("b", 400)}, used_at=100)
        add(cache, weights("c", 400))
        assert cache.revision(first.digest) is None
        assert (cache.revision(second.digest).files / "tokenizer.json").read_bytes() == shared[
            "tokenizer.json"
        ]

    def test_finished_artifacts_of_an_unfinished_revision_stay_while_there_is_room(self, cache):
        cache.blob("ab" * 32).write_bytes(b"x" * 400 * KIB)
        add(cache, weights("a", 400))
        assert cache.blob("ab" * 32).exists()
        add(cache, weights("b", 400))
        assert not cache.blob("ab" * 32).exists()

    def test_what_has_arrived_is_not_counted_twice(self, cache):
        content = b"a" * 800 * KIB
        cache.partial(sha256(content)).write_bytes(content[: 600 * KIB])
        cache.make_room(described({"a.gguf": content})[1], keep=())


class TestFolder:
    def test_one_agent_at_a_time(self, cache):
        with pytest.raises(WeightsUnavailable, match="another agent uses"):
            ModelCache(cache.root, quota_bytes=MIB).open()

    def test_a_new_life_finds_what_was_there_and_clears_half_made_folders(self, cache):
        made = add(cache, weights("a", 4))
        cache.blob("ab" * 32).write_bytes(b"of an unfinished revision")
        (cache.root / "revisions" / ".half.made").mkdir()
        cache.close()
        again = ModelCache(cache.root, quota_bytes=MIB)
        again.open()
        assert again.revision(made.digest) == made
        assert again.blob("ab" * 32).exists()
        assert [entry.name for entry in (cache.root / "revisions").iterdir()] == [made.root.name]
        again.close()

    def test_pinning_what_has_gone_says_so(self, cache):
        made = add(cache, weights("a", 4))
        cache.drop(made)
        with pytest.raises(FileNotFoundError), pinned(made):
            pass

    def test_private_folders_of_dead_replicas_are_swept(self, tmp_path):
        living, dead, beginning = (tmp_path / name for name in ("living", "dead", "beginning"))
        for folder in (living, dead):
            folder.mkdir()
            (folder / "lock").touch()
        beginning.mkdir()
        with (living / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            sweep_unsealed(tmp_path)
        assert {entry.name for entry in tmp_path.iterdir()} == {"living", "beginning"}
