"""What lies in a revision's folder, checked before any library opens it.

The layout is that of diffusers (`model_index.json` and a folder per component), beside it `loras/<name>.safetensors`,
`controlnets/<name>/` and `vaes/<name>/`. Weights are safetensors: a pickle runs whatever code its author wrote.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from raymart_serve.engines.diffusers.safetensors_header import read_header
from raymart_serve.engines.protocol import EngineFailed

Family = Literal["sd", "sdxl"]

_FAMILIES: Mapping[str, Family] = {"StableDiffusionPipeline": "sd", "StableDiffusionXLPipeline": "sdxl"}
_WITH_WEIGHTS = frozenset(
    {
        ("diffusers", "AutoencoderKL"),
        ("diffusers", "UNet2DConditionModel"),
        ("transformers", "CLIPTextModel"),
        ("transformers", "CLIPTextModelWithProjection"),
        ("transformers", "CLIPVisionModelWithProjection"),
        ("stable_diffusion", "StableDiffusionSafetyChecker"),
    }
)
_WITHOUT_WEIGHTS = frozenset(
    {
        ("transformers", "CLIPImageProcessor"),
        ("transformers", "CLIPTokenizer"),
        ("transformers", "CLIPTokenizerFast"),
    }
)
"""With the above what `model_index.json` may name; schedulers of diffusers besides. It could name any class of any
package, and diffusers would import it."""
_SUFFIXES = frozenset({".json", ".txt", ".md", ".jinja", ".safetensors"})
_TEXT_BYTES_MAX = 32 * 1024 * 1024
"""Of a file that is no weights; the largest are tokenizers."""
_CONFIG_NUMBER_MAX = 1_000_000
_LAYERS_MAX = 64
_LIST_MAX = 64
_BETAS_MAX = 4_096
_ADAPTERS_MAX = 1_024
_ADAPTER_FOLDERS = frozenset({"loras", "controlnets", "vaes"})
_VARIANT = "fp16"
"""What publishers of half-precision weights put into their files' names: model.fp16.safetensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A revision whose files may be opened."""

    path: Path
    family: Family
    parts: Mapping[str, tuple[str, str]]
    """Library and class of each part that has weights, by the name of its folder."""
    loras: Mapping[str, Path]
    """Files by name."""
    controlnets: Mapping[str, Path]
    """Folders by name."""
    vaes: Mapping[str, Path]
    """Folders by name."""


def read_folder(path: Path) -> Folder:
    """The revision in `path`, every file's kind, size and header checked. Blocking. Raises: EngineFailed."""
    if not path.is_dir():
        raise EngineFailed(f"{path.name!r} is no folder with a model_index.json; diffusers loads folders")
    for file in _files(path):
        _check_file(file, path)
    family, parts = _index(path / "model_index.json")
    return Folder(
        path=path,
        family=family,
        parts=parts,
        loras=_named(path / "loras", suffix=".safetensors"),
        controlnets=_named(path / "controlnets"),
        vaes=_named(path / "vaes"),
    )


def variant_of(folder: Path) -> str | None:
    """The variant "fp16" where a part of the pipeline, or the part, in `folder` has weights of that variant's name only."""
    by_part: dict[Path, list[Path]] = {}
    for file in folder.glob("**/*.safetensors"):
        if file.relative_to(folder).parts[0] not in _ADAPTER_FOLDERS:
            by_part.setdefault(file.parent, []).append(file)
    return _VARIANT if any(all(map(_is_variant, files)) for files in by_part.values()) else None


def weights_of(part: Path) -> list[Path]:
    """The files that are loaded of one part: the plain ones, or those of the variant where there are no others."""
    files = sorted(part.glob("*.safetensors"))
    return [file for file in files if not _is_variant(file)] or files


def _is_variant(file: Path) -> bool:
    return f".{_VARIANT}" in file.suffixes or f".{_VARIANT}-" in file.name


def _files(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.rglob("*")):
        if entry.is_file():
            # Perhaps a link: the checkout of a revision with sealed files links the others from the cache.
            yield entry
        elif entry.is_symlink() or not entry.is_dir():
            name = entry.relative_to(folder).as_posix()
            raise EngineFailed(f"{name!r} is a link to no file, or a device; a revision has plain files only")


def _check_file(file: Path, folder: Path) -> None:
    name = file.relative_to(folder).as_posix()
    if file.suffix not in _SUFFIXES:
        raise EngineFailed(f"{name!r} is not loaded: weights are safetensors, the rest is JSON or text")
    if file.suffix == ".safetensors":
        read_header(file)
    elif file.stat().st_size > _TEXT_BYTES_MAX:
        raise EngineFailed(f"{name!r} has {file.stat().st_size} bytes; a text has at most {_TEXT_BYTES_MAX}")
    elif file.name.endswith("config.json"):
        _check_numbers(_json(file), name="", where=name)


def _check_numbers(value: object, *, name: str, where: str) -> None:
    """Refuse sizes that no model has: the libraries allocate, or loop over, what a configuration says."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_numbers(item, name=str(key), where=where)
    elif isinstance(value, list):
        limit = _BETAS_MAX if name == "trained_betas" else _LIST_MAX
        if len(value) > limit:
            raise EngineFailed(f"{where} has {len(value)} items in {name!r}; at most {limit} are taken")
        for item in value:
            _check_numbers(item, name=name, where=where)
    elif isinstance(value, int):
        limit = _LAYERS_MAX if "layers" in name else _CONFIG_NUMBER_MAX
        if abs(value) > limit:
            raise EngineFailed(f"{where} sets {name!r} to {str(value)[:20]}; at most {limit} is taken")


def _index(index: Path) -> tuple[Family, dict[str, tuple[str, str]]]:
    if not index.is_file():
        raise EngineFailed("there is no model_index.json; publish the revision in the layout of diffusers")
    document = _json(index)
    name = document.get("_class_name") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(name, str) or name not in _FAMILIES:
        known = ", ".join(_FAMILIES)
        raise EngineFailed(f"model_index.json names no pipeline that this engine runs; it runs {known}")
    parts = {}
    for part, value in document.items():
        if isinstance(value, list) and value != [None, None] and (found := _with_weights(part, value)):
            parts[part] = found
    return _FAMILIES[name], parts


def _with_weights(part: str, value: list[object]) -> tuple[str, str] | None:
    match value:
        # The part's name is that of its folder.
        case _ if not part.isidentifier():
            pass
        case [str(library), str(name)] if (library, name) in _WITH_WEIGHTS:
            return library, name
        case [str(library), str(name)] if (library, name) in _WITHOUT_WEIGHTS:
            return None
        case ["diffusers", str(name)] if name.endswith("Scheduler"):
            return None
    raise EngineFailed(f"model_index.json makes {part!r} a {str(value)[:80]}; that is not loaded")


def _named(folder: Path, *, suffix: str = "") -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    found = {
        entry.name.removesuffix(suffix): entry
        for entry in sorted(folder.iterdir())
        if (entry.is_file() and entry.suffix == suffix if suffix else entry.is_dir())
    }
    if len(found) > _ADAPTERS_MAX:
        raise EngineFailed(f"{folder.name} holds {len(found)} adapters; at most {_ADAPTERS_MAX} are taken")
    return found


def _json(file: Path) -> object:
    try:
        return msgspec.json.decode(file.read_bytes())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EngineFailed(f"{file.name!r} cannot be read: {error}") from error
