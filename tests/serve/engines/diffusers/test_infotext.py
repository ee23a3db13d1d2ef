from io import BytesIO

import pytest
from PIL import Image

from raymart_core.wire.image import Control, ImageFormat, Lora, Padding
from raymart_serve.engines.diffusers.files import encoded
from raymart_serve.engines.diffusers.infotext import Maker, infotext
from support.image_engine import request

MAKER = Maker(model="raymart/demo-image", revision="sha256:" + "ab" * 32, label="diffusers 1.0")


def written(**changes: object) -> str:
    return infotext(request("a cat", **changes), seed=9, sampler="DDIM", maker=MAKER)


class TestInfotext:
    def test_plain_picture(self) -> None:
        assert written() == (
            "a cat\nSteps: 20, Sampler: DDIM, CFG scale: 2, Seed: 9, Size: 64x64, Model hash: ababababab, "
            "Model: raymart/demo-image, Version: diffusers 1.0"
        )

    def test_negative_prompt_has_its_own_line(self) -> None:
        assert written(negative_prompt="a dog").splitlines()[1] == "Negative prompt: a dog"

    def test_everything_that_was_set_is_told(self) -> None:
        text = written(
            image=b"x",
            strength=0.5,
            outpaint=Padding(left=8),
            loras=(Lora("style", 0.8), Lora("b", -1)),
            control=(Control("edges", b"", 0.5, 0.1, 0.9),),
            vae="bright",
        )
        assert "VAE: bright, Denoising strength: 0.5, Outpaint: left 8 top 0 right 0 bottom 0" in text
        assert 'Lora: "style: 0.8, b: -1"' in text
        assert 'ControlNet 0: "Model: edges, Weight: 0.5, Guidance Start: 0.1, Guidance End: 0.9"' in text

    def test_nought_is_told(self) -> None:
        assert "CFG scale: 0, Seed" in written(guidance=0.0)


class TestEncoded:
    @pytest.mark.parametrize("text", ["a cat\nSteps: 1", "кошка 猫 🐈\nSteps: 1"])
    @pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
    def test_parameters_are_read_where_others_look_for_them(self, form: ImageFormat, text: str) -> None:
        data = encoded(Image.new("RGB", (8, 8), (255, 0, 0)), form=form, parameters=text)
        image = Image.open(BytesIO(data))
        assert image.format == form.upper()
        if form == "png":
            assert image.text["parameters"] == text
        else:
            comment = image.getexif().get_ifd(0x8769)[0x9286]
            assert comment.removeprefix(b"UNICODE\0").decode("utf-16-be") == text

    @pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
    def test_same_picture_gives_the_same_bytes(self, form: ImageFormat) -> None:
        assert len({encoded(Image.new("RGB", (8, 8)), form=form, parameters="x") for _ in range(3)}) == 1
