import math

import msgspec
import pytest

from raymart_core.wire.image import Control, ImageRequest, Lora, Padding
from raymart_serve.engines.protocol import RequestRefused
from raymart_serve.replica.image_request import read_image_request

PLAIN = ImageRequest(prompt="a circle", width=64, height=64, steps=20, seed=1)


class TestReadImageRequest:
    def test_all_fields_arrive(self) -> None:
        asked = ImageRequest(
            prompt="a circle",
            width=2048,
            height=2048,
            steps=150,
            seed=2**32 - 1,
            count=8,
            image=b"\x89PNG\0",
            mask=b"m",
            outpaint=Padding(left=8),
            loras=(Lora("a", -4),),
            control=(Control("c", b"i", 4, 0.5, 1.0),),
            vae="v",
            format="webp",
        )
        assert read_image_request(msgspec.json.encode(asked)) == asked

    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"width": 0}, "width"),
            ({"width": -8}, "width"),
            ({"width": 63}, "width"),
            ({"width": 2056}, "width"),
            ({"height": 4}, "height"),
            ({"height": 10**9}, "height"),
            ({"steps": 0}, "steps"),
            ({"steps": 151}, "steps"),
            ({"count": 0}, "count"),
            ({"count": 9}, "count"),
            ({"seed": -1}, "seed"),
            ({"seed": 2**32}, "seed"),
            ({"guidance": -0.1}, "guidance"),
            ({"guidance": 30.1}, "guidance"),
            ({"strength": 0.0}, "strength"),
            ({"strength": 1.01}, "strength"),
            ({"prompt": "x" * 16_385}, "prompt"),
            ({"negative_prompt": "x" * 16_385}, "negative_prompt"),
            ({"mask": b"m"}, "mask"),
            ({"outpaint": Padding(left=8)}, "outpaint"),
            ({"image": b"i", "outpaint": Padding()}, "outpaint"),
            ({"image": b"i", "outpaint": Padding(left=-8, right=16)}, "outpaint"),
            ({"image": b"i", "outpaint": Padding(left=2**31)}, "outpaint"),
            ({"loras": (Lora("a", 4.1),)}, "loras"),
            ({"loras": (Lora("a"), Lora("a"))}, "loras"),
            ({"loras": tuple(Lora(str(index)) for index in range(9))}, "loras"),
            ({"control": (Control("c", b"", 4.1),)}, "control"),
            ({"control": (Control("c", b"", 1.0, 0.5, 0.5),)}, "control"),
            ({"control": (Control("c", b""),) * 5}, "control"),
        ],
    )
    def test_value_out_of_range_names_its_field(self, changes: dict[str, object], param: str) -> None:
        asked = msgspec.structs.replace(PLAIN, **changes)
        with pytest.raises(RequestRefused) as caught:
            read_image_request(msgspec.json.encode(asked))
        assert caught.value.param == param

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            (b"", "body"),
            (b"[]", "body"),
            (b"[" * 100_000, "body"),
            (b'{"prompt":"\xff"}', "body"),
            (b'{"prompt":"x"}', "width"),
            (b'{"prompt":"x","width":64,"height":64,"steps":20,"seed":1,"image":"%%"}', "image"),
            (b'{"prompt":"x","width":64,"height":64,"steps":20,"seed":1,"format":"gif"}', "format"),
            (b'{"prompt":"x","width":64,"height":64,"steps":20,"seed":1,"guidance":"7"}', "guidance"),
        ],
    )
    def test_malformed_body_is_refused(self, body: bytes, param: str) -> None:
        with pytest.raises(RequestRefused) as caught:
            read_image_request(body)
        assert caught.value.param == param

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
    def test_numbers_that_are_none_are_refused(self, number: str) -> None:
        body = msgspec.json.encode(msgspec.structs.replace(PLAIN, guidance=3.25)).replace(
            b"3.25", number.encode()
        )
        with pytest.raises(RequestRefused):
            read_image_request(body)
        assert math.isfinite(PLAIN.guidance)

    def test_lone_surrogate_is_refused(self) -> None:
        """It could not be written into the picture."""
        body = msgspec.json.encode(PLAIN).replace(b"a circle", b"\\ud800")
        with pytest.raises(RequestRefused):
            read_image_request(body)
