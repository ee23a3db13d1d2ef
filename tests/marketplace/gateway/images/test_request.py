"""What may be asked of an image model."""

import pytest
from PIL import Image

from raymart_core.errors import InvalidRequest, PayloadTooLarge
from raymart_core.wire.image import Control, Lora, Padding
from raymart_marketplace.gateway.images.request import PictureRequest
from support.scripted_images import encoded, picture


def ask(**changes: object) -> PictureRequest:
    return PictureRequest(**{"model": "a/b", "prompt": "x", "width": 64, "height": 32, "seed": 0, **changes})


IMAGE = picture(64, 32)
REFUSED = [
    ({"model": ""}, "model"), ({"model": "x" * 257}, "model"), ({"prompt": "\ud800"}, "prompt"),
    ({"negative_prompt": "x" * 10_001}, "negative_prompt"), ({"scheduler": "x" * 201}, "scheduler"), ({"vae": "x" * 201}, "vae"),
    ({"width": 0}, "width"), ({"height": 2_056}, "height"), ({"width": 12}, "width"), ({"steps": 0}, "steps"),
    ({"count": 9}, "count"), ({"seed": 2**32}, "seed"), ({"guidance": float("nan")}, "guidance"), ({"guidance": -1}, "guidance"),
    ({"strength": 0}, "strength"), ({"strength": float("nan")}, "strength"), ({"loras": (Lora("x"),) * 9}, "loras"),
    ({"loras": (Lora("x", 5),)}, "loras"), ({"control": (Control("x", IMAGE),) * 5}, "control"),
    ({"control": (Control("x", b"no"),)}, "control[0].image"), ({"control": (Control("x", IMAGE, start=0.5, end=0.2),)}, "control"),
    ({"mask": IMAGE}, "image"), ({"outpaint": Padding(8)}, "image"), ({"image": b"GIF89a"}, "image"),
    ({"image": IMAGE, "mask": picture(8, 8)}, "mask"), ({"image": IMAGE, "outpaint": Padding(8)}, "outpaint"),
    ({"image": IMAGE, "outpaint": Padding(left=-8, right=8)}, "outpaint"),
    ({"image": encoded(Image.new("1", (9_000, 9_000)))}, "image"),
]  # fmt: skip


class TestPictureRequest:
    @pytest.mark.parametrize("number", range(len(REFUSED)))
    def test_what_cannot_be_served_names_its_field(self, number):
        changes, param = REFUSED[number]
        with pytest.raises(InvalidRequest) as refused:
            ask(**changes)
        assert refused.value.param == param

    def test_pictures_that_do_not_fit_into_a_body_are_too_large(self):
        with pytest.raises(PayloadTooLarge):
            ask(image=IMAGE + bytes(25_000_000))

    def test_outpainting_is_asked_for_by_the_size_of_the_result(self):
        request = ask(image=IMAGE, outpaint=Padding(left=8, bottom=16), width=72, height=48)
        assert request.wire().outpaint == Padding(8, 0, 0, 16)

    def test_the_bound_counts_the_steps_that_an_input_picture_leaves(self):
        assert ask(steps=10, count=3).pixel_steps == 64 * 32 * 10 * 3
        assert ask(steps=10, image=IMAGE, strength=0.25).pixel_steps == 64 * 32 * 3
        assert ask(steps=10, image=IMAGE, strength=0.001).pixel_steps == 64 * 32

    def test_seeds_go_round(self):
        assert [ask(seed=2**32 - 1).seed_of(index) for index in range(2)] == [2**32 - 1, 0]

    def test_a_seed_is_chosen_once(self):
        request = ask(seed=None)
        assert request.wire().seed == request.wire().seed == request.seed_of(0)

    def test_a_revision_may_be_named(self):
        assert ask(model="a/b@stable").reference.revision == "stable"
