"""What an unknown machine tries at `/link`: each forgery is made of one honest node, and must end in a refusal.

A forgery talks as it likes on a connection of its own; `attempt` says what the marketplace made of it.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.exceptions import ConnectionClosed

from raymart_core.ids import Prefix, new_id, show
from raymart_core.wire.link import (
    LINK_VERSION,
    Announce,
    Challenge,
    Control,
    Enrol,
    Enrolled,
    FrameType,
    Heartbeat,
    Proof,
    Refuse,
    Report,
    Welcome,
    decode_control,
    proof_transcript,
)
from raymart_core.wire.membership import rotation_transcript
from support.raw_node import HARDWARE, RawNode, again

_HEARD_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """One marketplace and what a thief may know of it."""

    market: Any
    """Something with a `link_url`."""
    honest: RawNode
    """A node that is let in."""
    neighbour: RawNode
    """Another provider's node, whose key the thief has: a machine that is known, but not this one."""
    revoked: RawNode
    banned: RawNode
    """A node of a provider that was suspended."""
    tokens: Mapping[str, str]
    """Join tokens and other secrets by what is wrong with each."""


Forgery = Callable[[RawNode, Doors], Awaitable[str | None]]
"""Speaks on a fresh connection that has the honest node's id and its own key; returns the verdict if it heard it."""


async def attempt(forgery: Forgery, doors: Doors) -> str:
    """What comes of `forgery`: "welcome", "enrolled", the reason of the refusal, or "closed"."""
    async with again(doors.market, doors.honest) as node:
        node.key = Ed25519PrivateKey.generate()
        try:
            async with asyncio.timeout(_HEARD_WITHIN_S):
                heard = await forgery(node, doors)
                while heard is None:
                    heard = _verdict(await _control(node))
                return heard
        except ConnectionClosed:
            return "closed"


def _verdict(message: Control | None) -> str | None:
    match message:
        case Refuse(reason=reason):
            return reason
        case Welcome():
            return "welcome"
        case Enrolled():
            return "enrolled"
    return None


async def _control(node: RawNode) -> Control | None:
    kind, _, payload = await node.hear_frame()
    return decode_control(payload) if kind is FrameType.CONTROL else None


def signed(**changes: Any) -> Forgery:
    """The honest key signs something else than it was asked: recorded elsewhere, or made for another purpose."""

    async def forge(node: RawNode, doors: Doors) -> str | None:
        await node.hello()
        challenge = await node.hear(Challenge)
        asked = {
            "node_id": node.node_id,
            "nonce": challenge.nonce,
            "server": challenge.server,
            "server_clock_ms": challenge.server_clock_ms,
        }
        changed = {name: change(asked[name]) for name, change in changes.items()}
        await node.say(Proof(signature=doors.honest.key.sign(proof_transcript(**(asked | changed)))))

    return forge


def signature(content: bytes) -> Forgery:
    """No signature at all."""

    async def forge(node: RawNode, doors: Doors) -> str | None:
        del doors
        await node.hello()
        await node.hear(Challenge)
        await node.say(Proof(signature=content))

    return forge


def first(*messages: Control) -> Forgery:
    """Not a word of who it is."""

    async def forge(node: RawNode, doors: Doors) -> str | None:
        del doors
        for message in messages:
            await node.say(message)

    return forge


def hello(**changes: Any) -> Forgery:
    """Says hello as somebody it is not, and proves its own key."""

    async def forge(node: RawNode, doors: Doors) -> str | None:
        del doors
        await node.hello(**changes)
        return await _prove_if_asked(node)

    return forge


def joining(which: str) -> Forgery:
    """Enrols with a token that is not good, or not good any more."""

    async def forge(node: RawNode, doors: Doors) -> str | None:
        await node.say(_enrolment(node, doors.tokens[which]))

    return forge


async def own_key(node: RawNode, doors: Doors) -> str | None:
    """The honest node's id with a key that nobody enrolled."""
    del doors
    await node.hello()
    await node.say(node.proof(await node.hear(Challenge)))


async def neighbours_key(node: RawNode, doors: Doors) -> str | None:
    """The honest node's id with the key of another known node."""
    node.key = doors.neighbour.key
    await own_key(node, doors)


async def recorded_proof(node: RawNode, doors: Doors) -> str | None:
    """A proof that the honest node gave on an earlier connection, and that was good there."""
    async with again(doors.market, doors.honest) as earlier:
        await earlier.hello()
        recorded = earlier.proof(await earlier.hear(Challenge))
        await earlier.say(recorded)
        await earlier.hear(Welcome)
    await node.hello()
    await node.hear(Challenge)
    await node.say(recorded)


async def proof_of_a_parallel_connection(node: RawNode, doors: Doors) -> str | None:
    """What the honest node answers at this moment on a connection of its own, overheard."""
    async with again(doors.market, doors.honest) as parallel:
        await parallel.hello()
        overheard = parallel.proof(await parallel.hear(Challenge))
        await node.hello()
        await node.hear(Challenge)
        await node.say(overheard)


async def rotation_signature(node: RawNode, doors: Doors) -> str | None:
    """The honest key's signature under a change of keys, played back as a proof."""
    await node.hello()
    challenge = await node.hear(Challenge)
    transcript = rotation_transcript(
        node_id=node.node_id, server=challenge.server, old_key=_public(doors.honest.key), new_key=_public(node.key)
    )  # fmt: skip
    await node.say(Proof(signature=doors.honest.key.sign(transcript)))


async def revoked(node: RawNode, doors: Doors) -> str | None:
    """A node whose key was revoked; the key itself is right."""
    return await _as(node, doors.revoked)


async def banned(node: RawNode, doors: Doors) -> str | None:
    """A node of a suspended provider; the key itself is right."""
    return await _as(node, doors.banned)


async def controller_by_node_key(node: RawNode, doors: Doors) -> str | None:
    """The honest node, as the controller that may say what its pool runs."""
    node.key = doors.honest.key
    await node.hello(role="controller")
    return await _prove_if_asked(node)


async def key_of_another_node(node: RawNode, doors: Doors) -> str | None:
    """A good token with the public key of a node that exists: one key would be two machines."""
    await node.say(_enrolment(node, doors.tokens["fresh"], public_key=_public(doors.honest.key)))


async def enrolment_after_hello(node: RawNode, doors: Doors) -> str | None:
    """Changes its mind in the middle of a proof."""
    await node.hello()
    await node.hear(Challenge)
    await node.say(_enrolment(node, doors.tokens["fresh"]))


def _other(text: str) -> str:
    return f"{text}-other"


FORGERIES: Mapping[str, Forgery] = {
    "own key": own_key,
    "key of another known node": neighbours_key,
    "recorded proof": recorded_proof,
    "proof of a parallel connection": proof_of_a_parallel_connection,
    "signature of a key rotation": rotation_signature,
    "proof of another nonce": signed(nonce=lambda _: secrets.token_bytes(32)),
    "proof of no nonce": signed(nonce=lambda _: b""),
    "proof for another marketplace": signed(server=_other),
    "proof for the HTTP door": signed(server=lambda server: f"{server}/worker"),
    "proof of another clock": signed(server_clock_ms=lambda clock: clock + 1),
    "proof as another node": signed(node_id=lambda _: show(Prefix.NODE, new_id())),
    "no signature": signature(b""),
    "signature of zeros": signature(bytes(64)),
    "short signature": signature(bytes(63)),
    "long signature": signature(bytes(65)),
    "huge signature": signature(bytes(60_000)),
    "announces without hello": first(Announce(hardware=HARDWARE, replicas=())),
    "heartbeat without hello": first(Heartbeat(clock_ms=1, running={})),
    "report without hello": first(Report(generation=1, observed=())),
    "proof without hello": first(Proof(signature=bytes(64))),
    "unknown node": hello(node_id=show(Prefix.NODE, new_id())),
    "id of another kind": hello(node_id=show(Prefix.PROVIDER, new_id())),
    "no id": hello(node_id=""),
    "SQL as id": hello(node_id="node_' or '1'='1"),
    "older version": hello(version=LINK_VERSION - 1),
    "newer version": hello(version=LINK_VERSION + 1),
    "hello as the controller": hello(role="controller"),
    "controller by a node's key": controller_by_node_key,
    "revoked node": revoked,
    "node of a suspended provider": banned,
    "spent join token": joining("spent"),
    "expired join token": joining("expired"),
    "join token of a suspended provider": joining("suspended"),
    "join token cut short": joining("cut"),
    "join token with a blank": joining("blank"),
    "made-up join token": joining("made up"),
    "no join token": joining("none"),
    "API key as join token": joining("API key"),
    "person's token as join token": joining("person"),
    "hash of a join token": joining("hash"),
    "join token with another node's key": key_of_another_node,
    "enrolment after hello": enrolment_after_hello,
}
"""By what is forged."""


async def _as(node: RawNode, known: RawNode) -> str | None:
    node.key, node.node_id = known.key, known.node_id
    await node.hello()
    return await _prove_if_asked(node)


async def _prove_if_asked(node: RawNode) -> str | None:
    """Answer the challenge, if there is one: a marketplace may refuse before it or after."""
    message = await _control(node)
    if isinstance(message, Challenge):
        await node.say(node.proof(message))
    return _verdict(message)


def _enrolment(node: RawNode, token: str, **changes: Any) -> Enrol:
    values = {
        "version": LINK_VERSION,
        "join_token": token,
        "name": f"thief-{new_id().hex[-12:]}",
        "public_key": _public(node.key),
        "hardware": HARDWARE,
    }
    return Enrol(**{**values, **changes})


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
