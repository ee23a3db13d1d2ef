"""What a revision's folder may hold. Nothing here imports torch, and nothing refused is ever opened by it."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raymart_serve.engines.diffusers.folder import read_folder
from raymart_serve.engines.protocol import EngineFailed
from raymart_serve.models import resolve
from support.image_engine import TREE_SHA256

BUNDLED = resolve("bundled:demo-image", TREE_SHA256)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLED, tmp_path / "model"))


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class TestReadFolder:
    def test_bundled_model_is_taken(self) -> None:
        found = read_folder(BUNDLED)
        assert (found.family, found.loras, found.controlnets, found.vaes) == ("sd", {}, {}, {})

    def test_adapters_are_found_by_name(self, folder: Path) -> None:
        weights = folder / "vae/diffusion_pytorch_model.safetensors"
        (folder / "loras").mkdir()
        shutil.copy(weights, folder / "loras/my.style-v1.5.safetensors")
        shutil.copytree(folder / "vae", folder / "vaes/bright")
        shutil.copytree(folder / "vae", folder / "controlnets/edges")
        found = read_folder(folder)
        assert found.loras == {"my.style-v1.5": folder / "loras/my.style-v1.5.safetensors"}
        assert found.vaes == {"bright": folder / "vaes/bright"}
        assert found.controlnets == {"edges": folder / "controlnets/edges"}

    @pytest.mark.parametrize(
        "name",
        [
            "unet/diffusion_pytorch_model.bin",
            "v1-5.ckpt",
            "loras/style.pt",
            "weights.pkl",
            "pipeline.py",
            "x",
        ],
    )
    def test_pickles_and_code_are_refused(self, folder: Path, name: str) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(pickle.dumps(print))
        with pytest.raises(EngineFailed, match="is not loaded: weights are safetensors"):
            read_folder(folder)

    def test_pickle_that_calls_itself_safetensors_is_refused(self, folder: Path) -> None:
        (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(pickle.dumps({"w": print}))
        with pytest.raises(EngineFailed, match="promises a header"):
            read_folder(folder)

    @pytest.mark.parametrize("target", ["/etc", "/dev/zero", "/no/such/file"])
    def test_link_to_what_is_no_file_is_refused(self, folder: Path, target: str) -> None:
        (folder / "unet/more.json").symlink_to(target)
        with pytest.raises(EngineFailed, match="is a link to no file"):
            read_folder(folder)

    def test_file_linked_from_the_cache_is_taken_and_checked(self, folder: Path, tmp_path: Path) -> None:
        weights = folder / "unet/diffusion_pytorch_model.safetensors"
        blob = weights.rename(tmp_path / "blob")
        weights.symlink_to(blob)
        assert read_folder(folder).family == "sd"
        blob.write_bytes(blob.read_bytes()[:-1])
        with pytest.raises(EngineFailed, match="bytes of tensors, its header describes"):
            read_folder(folder)

    @pytest.mark.parametrize(
        "component",
        [
            ["diffusers", "DiffusionPipeline"],
            ["subprocess", "Popen"],
            ["custom", "Unet"],
            ["transformers", "pipeline"],
            ["transformers", "CLIPTextModel", "more"],
            [["diffusers"], "UNet2DConditionModel"],
        ],
    )
    def test_component_of_another_class_is_refused(self, folder: Path, component: list[object]) -> None:
        """Diffusers imports whatever this names."""
        change(folder / "model_index.json", unet=component)
        with pytest.raises(EngineFailed, match="makes 'unet' a"):
            read_folder(folder)

    @pytest.mark.parametrize("name", ["../../elsewhere", "/etc", "a/b", ""])
    def test_part_outside_the_folder_is_refused(self, folder: Path, name: str) -> None:
        change(folder / "model_index.json", **{name: ["diffusers", "UNet2DConditionModel"]})
        with pytest.raises(EngineFailed, match="that is not loaded"):
            read_folder(folder)

    @pytest.mark.parametrize(
        "name", ["FluxPipeline", "subprocess.Popen", None, 7, ["StableDiffusionPipeline"]]
    )
    def test_pipeline_that_is_not_run_is_refused(self, folder: Path, name: object) -> None:
        change(folder / "model_index.json", _class_name=name)
        with pytest.raises(EngineFailed, match="names no pipeline that this engine runs"):
            read_folder(folder)

    @pytest.mark.parametrize(
        ("path", "changes"),
        [
            ("unet/config.json", {"block_out_channels": [48, 10**9]}),
            ("unet/config.json", {"layers_per_block": 65}),
            ("unet/config.json", {"down_block_types": ["DownBlock2D"] * 100_000}),
            ("text_encoder/config.json", {"num_hidden_layers": 10**7}),
            ("text_encoder/config.json", {"vocab_size": 10**12}),
            ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**10}),
            ("vae/config.json", {"deep": {"er": [[{"block_out_channels": 10**9}]]}}),
        ],
    )
    def test_size_that_no_model_has_is_refused(
        self, folder: Path, path: str, changes: dict[str, object]
    ) -> None:
        change(folder / path, **changes)
        with pytest.raises(EngineFailed, match="at most"):
            read_folder(folder)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda folder: (folder / "model_index.json").unlink(),
            lambda folder: (folder / "model_index.json").write_text("[]"),
            lambda folder: (folder / "model_index.json").write_text("{" * 100_000),
            lambda folder: (folder / "unet/config.json").write_bytes(b"\xff\xff"),
            lambda folder: (folder / "unet/config.json").write_text('{"a":' * 100_000),
        ],
    )
    def test_what_cannot_be_read_is_refused(self, folder: Path, spoil: Callable[[Path], None]) -> None:
        spoil(folder)
        with pytest.raises(EngineFailed):
            read_folder(folder)

    def test_file_is_refused(self) -> None:
        with pytest.raises(EngineFailed, match="is no folder"):
            read_folder(BUNDLED / "model_index.json")
