"""Who asks too often is told so, with its limit and when to come again; OpenAI's client waits as it is told.

Usage: limits.py CREDENTIALS_JSON. Exits non-zero at the first claim that does not hold.
"""

import time

import openai
from demo import CHAT, Stack, stack, user

PER_MINUTE = 12
_FOLLOWED_S = 30.0
"""How long the gateway may take to follow a limit that was set."""
ASK = {"model": CHAT, "messages": user("ping"), "temperature": 0}


def limit(known: Stack, key_id: str) -> None:
    """Twelve requests a minute, one each five seconds once they are used up."""
    made = known.graphql(
        "mutation($key: ID!, $limit: Int!) { setInferenceLimits(input: {scopeId: $key, limits:"
        " {requestsPerMinute: $limit}}) { inferenceLimits { requestsPerMinute } userErrors { message } } }",
        key=key_id,
        limit=PER_MINUTE,
    )["setInferenceLimits"]
    assert made["inferenceLimits"] == {"requestsPerMinute": PER_MINUTE}, made


def use_up(client: openai.OpenAI) -> openai.RateLimitError:
    """Ask until it is too often."""
    until = time.monotonic() + _FOLLOWED_S
    while time.monotonic() < until:
        try:
            client.chat.completions.create(**ASK)
        except openai.RateLimitError as error:
            return error
    raise AssertionError(f"more than {PER_MINUTE} requests a minute were served for {_FOLLOWED_S:.0f} s")


def check_refusal(error: openai.RateLimitError) -> float:
    """Typed, with its reason; returns the seconds that it asks to wait."""
    headers = error.response.headers
    assert headers["x-ratelimit-limit-requests"] == str(PER_MINUTE), dict(headers)
    assert headers["x-ratelimit-remaining-requests"] == "0", dict(headers)
    assert str(PER_MINUTE) in error.message, error.message
    wait_s = float(headers["retry-after"])
    assert 0 < wait_s <= 60, wait_s
    return wait_s


def main() -> None:
    known = stack()
    key_id, key = known.new_key("limits")
    limit(known, key_id)
    client = openai.OpenAI(base_url=known.base_url, api_key=key, max_retries=0)
    wait_s = check_refusal(use_up(client))
    began_at = time.monotonic()
    reply = client.with_options(max_retries=2).chat.completions.create(**ASK)
    waited_s = time.monotonic() - began_at
    assert reply.choices[0].message.content == "pong"
    # It was told anew when to come again, at most a second after the refusal above.
    assert waited_s >= wait_s - 1, (waited_s, wait_s)
    print(f"refused with Retry-After {wait_s:.0f} s; its own retry waited {waited_s:.1f} s and was served")


if __name__ == "__main__":
    main()
