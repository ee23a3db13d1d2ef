"""What is read of a revision's files, and what is refused."""

from pathlib import Path

import pytest

from raymart_serve.engines.onnx.revision import Pooling, Task, read_revision
from raymart_serve.engines.protocol import EngineFailed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "1_Pooling").mkdir()
    return tmp_path


class TestTask:
    def test_model_with_a_tokenizer_embeds(self, folder) -> None:
        revision = read_revision(folder, {})
        assert (revision.task, revision.pooling, revision.tokens_max) == (Task.EMBEDDING, Pooling.MEAN, 512)

    def test_classifier_reranks(self, folder) -> None:
        (folder / "config.json").write_text(
            '{"architectures": ["BertForSequenceClassification"], "pad_token_id": 1}'
        )
        revision = read_revision(folder, {})
        assert (revision.task, revision.pad_id) == (Task.RERANK, 1)

    def test_model_without_a_tokenizer_takes_tensors(self, folder) -> None:
        (folder / "tokenizer.json").unlink()
        # A config.json of a model that takes tensors is not ours to read.
        (folder / "config.json").write_text("[]")
        assert read_revision(folder, {}).task is Task.TENSORS

    def test_single_file_takes_tensors_whatever_lies_beside_it(self, folder) -> None:
        revision = read_revision(folder / "model.onnx", {})
        assert (revision.task, revision.tokenizer) == (Task.TENSORS, None)

    def test_manifest_overrides_the_files(self, folder) -> None:
        (folder / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
        revision = read_revision(folder, {"task": "rerank", "pooling": "cls"})
        assert (revision.task, revision.pooling) == (Task.RERANK, Pooling.CLS)


class TestPooling:
    @pytest.mark.parametrize(
        ("content", "pooling"),
        [
            ('{"pooling_mode_cls_token": true}', Pooling.CLS),
            ('{"pooling_mode_lasttoken": true, "pooling_mode_mean_tokens": false}', Pooling.LAST),
            ('{"pooling_mode": "max"}', Pooling.MAX),
            ('{"pooling_mode_weightedmean_tokens": true}', Pooling.WEIGHTED_MEAN),
        ],
        ids=["cls", "last", "max", "weighted"],
    )
    def test_mode_is_read_in_either_form(self, folder, content, pooling) -> None:
        (folder / "1_Pooling/config.json").write_text(content)
        assert read_revision(folder, {}).pooling is pooling

    @pytest.mark.parametrize(
        "content",
        [
            '{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}',
            '{"pooling_mode": "attention"}',
        ],
        ids=["two", "unknown"],
    )
    def test_mode_that_is_not_served_is_refused(self, folder, content) -> None:
        (folder / "1_Pooling/config.json").write_text(content)
        with pytest.raises(EngineFailed, match="served"):
            read_revision(folder, {})


class TestModelFile:
    def test_optimums_folder_is_found(self, folder) -> None:
        (folder / "onnx").mkdir()
        (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
        assert read_revision(folder, {}).model == folder / "onnx" / "model.onnx"

    def test_only_file_of_another_name_is_found(self, folder) -> None:
        (folder / "model.onnx").rename(folder / "weights_q8.onnx")
        assert read_revision(folder, {}).model.name == "weights_q8.onnx"

    def test_choice_among_several_must_be_named(self, folder) -> None:
        (folder / "model.onnx").rename(folder / "a.onnx")
        (folder / "b.onnx").write_bytes(b"onnx")
        with pytest.raises(EngineFailed, match=r"2 \.onnx files"):
            read_revision(folder, {})
        assert read_revision(folder, {"file": "b.onnx"}).model.name == "b.onnx"

    @pytest.mark.parametrize("name", ["../secret.onnx", "/etc/hostname", "model.pkl", "absent.onnx"])
    def test_file_outside_or_of_another_kind_is_refused(self, folder, name) -> None:
        (folder / "model.pkl").write_bytes(b"pickle")
        (folder.parent / "secret.onnx").write_bytes(b"onnx")
        with pytest.raises(EngineFailed, match=r"no file of the revision|no \.onnx file"):
            read_revision(folder, {"file": name})

    def test_single_file_of_another_kind_is_refused(self, folder) -> None:
        (folder / "model.pkl").write_bytes(b"pickle")
        with pytest.raises(EngineFailed, match="loads no other format"):
            read_revision(folder / "model.pkl", {})


class TestBadFiles:
    @pytest.mark.parametrize(
        "content",
        [
            b"{",
            b"[]",
            b'{"pad_token_id": "x"}',
            b"\xff\xfe",
            b'{"a":' + b"[" * 100_000,
            b"{" + b" " * (2 << 20) + b"}",
        ],
        ids=["json", "array", "type", "utf8", "deep", "large"],
    )
    def test_config_that_cannot_be_read_is_refused(self, folder, content) -> None:
        (folder / "config.json").write_bytes(content)
        with pytest.raises(EngineFailed, match=r"config\.json"):
            read_revision(folder, {})

    def test_length_below_one_is_refused(self, folder) -> None:
        (folder / "config.json").write_text('{"max_position_embeddings": 0}')
        with pytest.raises(EngineFailed, match="at least 1"):
            read_revision(folder, {})

    def test_unknown_parameter_is_refused_with_the_known(self, folder) -> None:
        with pytest.raises(EngineFailed, match="unknown parameters poling; known are file, pooling, task"):
            read_revision(folder, {"poling": "cls"})

    def test_text_task_without_a_tokenizer_is_refused(self, folder) -> None:
        (folder / "tokenizer.json").unlink()
        with pytest.raises(EngineFailed, match=r"needs a tokenizer\.json"):
            read_revision(folder, {"task": "embedding"})
