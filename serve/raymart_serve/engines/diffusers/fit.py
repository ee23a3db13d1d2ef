"""Whether a part's weights fill what its configuration describes, found out without allocating either.

The libraries build a part as its configuration says and give whatever the weights lack memory and random numbers: a
wrong configuration would take all memory, or draw noise.
"""

from math import prod
from pathlib import Path

import diffusers
import torch
import transformers

from raymart_serve.engines.diffusers.folder import weights_of
from raymart_serve.engines.diffusers.safetensors_header import read_header
from raymart_serve.engines.protocol import EngineFailed


def check_fit(cls: "type[torch.nn.Module]", folder: Path) -> None:
    """Compare what `cls` would be by the configuration in `folder` with the weights there. Blocking.

    Raises: EngineFailed when the weights are too few.
    """
    with torch.device("meta"):
        part = _built(cls, folder)
    described = sum(parameter.numel() for parameter in part.parameters())
    held = sum(prod(entry.shape) for file in weights_of(folder) for entry in read_header(file).values())
    if described > held:
        raise EngineFailed(
            f"the configuration of {folder.name!r} describes {described} numbers and its weights hold {held}; "
            "publish the configuration that the weights were trained with"
        )


def _built(cls: "type[torch.nn.Module]", folder: Path) -> "torch.nn.Module":
    if issubclass(cls, transformers.PreTrainedModel):
        return cls(cls.config_class.from_pretrained(folder, local_files_only=True))
    assert issubclass(cls, diffusers.ModelMixin)
    return cls.from_config(cls.load_config(folder, local_files_only=True))
