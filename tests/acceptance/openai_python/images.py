"""Drive a running stack with the official `openai` client: make a picture, edit it, follow one, and errors.

Usage: images.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import base64
import io
import urllib.request

import openai
from demo import stack
from pictures import GUIDANCE, MODEL, SIDE_PIXELS, STEPS, check, hole_in
from PIL import Image

ASK = {"model": MODEL, "size": f"{SIDE_PIXELS}x{SIDE_PIXELS}"}
OURS = {"steps": STEPS, "guidance": GUIDANCE, "seed": 7}
"""What OpenAI's API does not have."""


def opened(image: object) -> Image.Image:
    """What came as base64."""
    return Image.open(io.BytesIO(base64.b64decode(image.b64_json)))


def check_generation(client: openai.OpenAI) -> Image.Image:
    """By base64 and by URL, alone and in a batch."""
    prompt = "a large red circle on a white background"
    made = client.images.generate(prompt=prompt, n=2, response_format="b64_json", extra_body=OURS, **ASK)
    assert len(made.data) == 2
    for image in made.data:
        check(opened(image), middle="red", edge="white")
    assert made.data[0].b64_json != made.data[1].b64_json
    linked = client.images.generate(prompt=prompt, response_format="url", extra_body=OURS, **ASK)
    with urllib.request.urlopen(linked.data[0].url, timeout=30) as answer:
        assert answer.headers["content-type"] == "image/png"
        assert answer.read() == base64.b64decode(made.data[0].b64_json), "one seed, two pictures"
    return opened(made.data[0])


def check_edit(client: openai.OpenAI, image: Image.Image) -> None:
    """With a mask whose transparent part is repainted, and without one."""
    for mask, extra in ((hole_in(image), {"strength": 1.0}), (None, {"strength": 0.9})):
        given = {} if mask is None else {"mask": ("mask.png", _png(mask), "image/png")}
        edited = client.images.edit(
            image=("image.png", _png(image), "image/png"),
            prompt="a large green circle on a white background",
            response_format="b64_json",
            extra_body=OURS | extra,
            **given,
            **ASK,
        )
        check(opened(edited.data[0]), middle="green", edge="white")


def check_errors(client: openai.OpenAI) -> None:
    for wrong, param in (
        ({"size": "63"}, "size"),
        ({"size": "63x64"}, "size"),
        ({"n": 9}, "n"),
        ({"extra_body": {"steps": 151}}, "steps"),
    ):
        try:
            client.images.generate(**({"prompt": "a red circle"} | ASK | wrong))
            raise AssertionError(f"{wrong} was accepted")
        except openai.BadRequestError as error:
            assert error.param == param, error.body
    try:
        client.images.generate(**({"prompt": "a red circle"} | ASK | {"model": "raymart/demo-chat"}))
        raise AssertionError("a chat model made a picture")
    except openai.BadRequestError as error:
        assert error.param == "model", error.body


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def main() -> None:
    known = stack()
    client = openai.OpenAI(base_url=known.base_url, api_key=known.api_key, max_retries=0)
    assert MODEL in [model.id for model in client.models.list()]
    check_edit(client, check_generation(client))
    check_errors(client)
    print("pictures made and edited, by base64 and by URL")


if __name__ == "__main__":
    main()
