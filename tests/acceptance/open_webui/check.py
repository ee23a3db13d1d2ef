"""Open WebUI chats and draws through us: in a browser where there is one, and by its own HTTP API.

Usage: check.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import io
import json
import shutil
import tempfile
import urllib.request
from pathlib import Path

from demo import ANSWER, CHAT, QUESTION, post, stack, user
from pictures import check
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from server import open_webui

PROMPT = "a large red circle on a white background"
_ANSWER_MS = 60_000


def check_api(origin: str) -> str:
    """What its pages call: sign in, list models, chat, draw. Returns the token."""
    token = post(f"{origin}/api/v1/auths/signin", {"email": "", "password": ""}, "")["token"]
    models = json.loads(fetched(f"{origin}/api/models", token))["data"]
    assert CHAT in [model["id"] for model in models], models
    ask = {"model": CHAT, "messages": user(QUESTION), "stream": False, "temperature": 0}
    reply = post(f"{origin}/api/chat/completions", ask, token)
    assert reply["choices"][0]["message"]["content"] == ANSWER, reply
    [drawn] = post(f"{origin}/api/v1/images/generations", {"prompt": PROMPT}, token)
    check_picture(origin, drawn["url"], token)
    return token


def check_pages(page: Page, origin: str, token: str) -> None:
    """A person asks a question, and for a picture."""
    # On the first visit it tells what is new.
    page.add_locator_handler(
        page.get_by_role("dialog"),
        lambda dialog: dialog.get_by_role("button").last.click(),
    )
    say(page, f"{origin}/?models={CHAT}", QUESTION)
    page.locator("[id^=message-]").get_by_text(ANSWER).first.wait_for(timeout=_ANSWER_MS)
    say(page, f"{origin}/?models={CHAT}&image-generation=true", PROMPT)
    picture = page.locator("[id^=message-] img[src*='/files/']").first
    picture.wait_for(timeout=_ANSWER_MS)
    check_picture(origin, picture.get_attribute("src") or "", token)


def say(page: Page, address: str, text: str) -> None:
    """Type it into a new chat and send it."""
    page.goto(address)
    page.click("#chat-input")
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def check_picture(origin: str, url: str, token: str) -> None:
    """What Open WebUI keeps is what was asked for."""
    whole = url if url.startswith("http") else origin + url
    check(Image.open(io.BytesIO(fetched(whole, token))), middle="red", edge="white")


def fetched(url: str, token: str) -> bytes:
    """What lies there for the one who signed in."""
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def chromium() -> str | None:
    """The machine's own browser; Playwright's downloads are not asked for."""
    return next((path for path in map(shutil.which, ("chromium", "google-chrome", "chrome")) if path), None)


def main() -> None:
    known, browser_path = stack(), chromium()
    with tempfile.TemporaryDirectory() as name, open_webui(known, Path(name)) as origin:
        token = check_api(origin)
        if browser_path is None:
            print("chats and draws by its HTTP API (there is no Chromium here for its pages)")
            return
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
            page = browser.new_page()
            try:
                check_pages(page, origin, token)
            except BaseException:
                print(page.inner_text("body")[-2_000:])
                raise
            finally:
                browser.close()
    print("chats and draws, by its HTTP API and by its pages in Chromium")


if __name__ == "__main__":
    main()
