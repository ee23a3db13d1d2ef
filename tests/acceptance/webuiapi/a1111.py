"""Drive a running stack with `webuiapi`, a client of AUTOMATIC1111's API: txt2img, img2img, inpainting, listings.

Usage: a1111.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

from urllib.parse import urlsplit

import webuiapi
from demo import stack
from pictures import GUIDANCE, MODEL, SIDE_PIXELS, STEPS, check, middle_mask

SEED = 11


def api_of(base_url: str, *, key: str) -> webuiapi.WebUIApi:
    """As people set it up: host, port, and HTTP Basic with the key as password."""
    url = urlsplit(base_url)
    return webuiapi.WebUIApi(
        host=url.hostname, port=url.port, sampler="DDIM", steps=STEPS, username="anybody", password=key
    )


def check_text_to_image(api: webuiapi.WebUIApi, size: dict) -> object:
    """The asked picture; a seed gives it again, and a batch's second picture is that of the next seed."""
    prompt = "a large red circle on a white background"
    made = api.txt2img(prompt=prompt, seed=SEED, **size)
    check(made.image, middle="red", edge="white")
    assert made.info["seed"] == SEED
    assert f"Seed: {SEED}" in made.image.info["parameters"], made.image.info
    again = api.txt2img(prompt=prompt, seed=SEED, **size)
    assert again.json["images"] == made.json["images"]
    batch = api.txt2img(prompt=prompt, seed=SEED - 1, batch_size=2, **size)
    assert batch.json["images"][1] == made.json["images"][0]
    assert batch.info["all_seeds"] == [SEED - 1, SEED]
    return made.image


def check_image_to_image(api: webuiapi.WebUIApi, start: object, size: dict) -> None:
    """From one picture to another colour."""
    made = api.img2img(
        images=[start], prompt="a large blue circle on a white background", seed=SEED,
        denoising_strength=0.9, **size,
    )  # fmt: skip
    check(made.image, middle="blue", edge="white")


def check_inpainting(api: webuiapi.WebUIApi, start: object, size: dict) -> None:
    """Only what the mask shows is repainted."""
    made = api.img2img(
        images=[start], mask_image=middle_mask(), mask_blur=0, inpaint_full_res=False,
        prompt="a large green circle on a white background", seed=SEED, denoising_strength=1.0, **size,
    )  # fmt: skip
    check(made.image, middle="green", edge="white")


def check_listings(api: webuiapi.WebUIApi) -> None:
    assert "DDIM" in api.util_get_sampler_names()
    assert any(MODEL in title for title in api.util_get_model_names())
    assert api.get_progress()["progress"] in (0, 0.0)
    assert "sd_model_checkpoint" in api.get_options()


def check_errors(api: webuiapi.WebUIApi, base_url: str, size: dict) -> None:
    for wrong in ({"sampler_name": "no such sampler"}, {"steps": 151}, {"width": 2_056}):
        try:
            api.txt2img(prompt="a red circle", **(size | wrong))
            raise AssertionError(f"{wrong} was accepted")
        except RuntimeError as error:
            assert error.args[0] in (400, 422), error
    try:
        api_of(base_url, key="rm_live_wrong").txt2img(prompt="a red circle", **size)
        raise AssertionError("a wrong key was accepted")
    except RuntimeError as error:
        assert error.args[0] == 401, error


def main() -> None:
    known = stack()
    api = api_of(known.origin, key=known.api_key)
    size = {
        "width": SIDE_PIXELS,
        "height": SIDE_PIXELS,
        "cfg_scale": GUIDANCE,
        "override_settings": {"sd_model_checkpoint": MODEL},
    }
    check_listings(api)
    start = check_text_to_image(api, size)
    check_image_to_image(api, start, size)
    check_inpainting(api, start, size)
    check_errors(api, known.origin, size)
    print("txt2img, img2img, inpainting, listings, errors")


if __name__ == "__main__":
    main()
