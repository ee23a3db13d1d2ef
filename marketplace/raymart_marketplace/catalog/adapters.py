"""What a revision of an image model has beside its base, read from its manifest's paths.

Source: the layout that `raymart_serve.engines.diffusers` serves: `loras/<name>.safetensors` and `vaes/<name>/`.
"""

from dataclasses import dataclass

from raymart_core.wire.manifest import Manifest

_LORAS, _VAES, _SUFFIX = "loras", "vaes", ".safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Names that requests may ask for, sorted."""

    loras: tuple[str, ...] = ()
    vaes: tuple[str, ...] = ()


NO_ADAPTERS = Adapters()


def adapters_of(manifest: Manifest) -> Adapters:
    """What `manifest` holds beside the base."""
    loras, vaes = set(), set()
    for file in manifest.files:
        match file.path.split("/"):
            case [folder, name] if folder == _LORAS and name.endswith(_SUFFIX):
                loras.add(name.removesuffix(_SUFFIX))
            case [folder, name, _, *_] if folder == _VAES:
                vaes.add(name)
    return Adapters(loras=tuple(sorted(loras)), vaes=tuple(sorted(vaes)))
