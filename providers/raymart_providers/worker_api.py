"""What a node asks of the marketplace over plain HTTP (`/worker/v1`): its provider's nodes, its placements, and so on.

Proves the node key once, for a token of a quarter of an hour that this process uses for one question. No agent has to
run. Source: the marketplace's `/openapi.json`; the proof is the link's, under another name of the server.
"""

import base64
import http.client
from typing import Any
from urllib.parse import urlsplit

import msgspec

from raymart_core.wire.link import proof_transcript
from raymart_providers.errors import NotEnrolled, ProviderError
from raymart_providers.identity import NodeKey, load_enrolment
from raymart_providers.link.server_address import link_url
from raymart_providers.state_dir import StateDir

_TIMEOUT_S = 15.0
_ANSWER_BYTES_MAX = 4 * 1024 * 1024


def listing(state: StateDir, what: str, *, server: str | None, allow_plaintext: bool) -> list[dict[str, Any]]:
    """The rows of `/worker/v1/<what>`, as this node. Raises: ProviderError, NotEnrolled, UnsafeFile, BadServer."""
    enrolment = load_enrolment(state.enrolment)
    if enrolment is None:
        raise NotEnrolled(f"{state.root} holds no node identity; join first")
    url = urlsplit(link_url(server or enrolment.server, allow_plaintext=allow_plaintext))
    kind = http.client.HTTPSConnection if url.scheme == "wss" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=_TIMEOUT_S)
    try:
        token = _token(connection, enrolment.node_id, NodeKey.load(state.key))
        rows: list[dict[str, Any]] = _asked(connection, "GET", what, token=token)
    except FileNotFoundError:
        raise NotEnrolled(f"{state.key} is not there; join again") from None
    except (OSError, http.client.HTTPException) as error:
        raise ProviderError(f"the marketplace at {url.netloc} cannot be asked ({error}); try again") from None
    finally:
        connection.close()
    return rows


def _token(connection: http.client.HTTPConnection, node_id: str, key: NodeKey) -> str:
    challenge = _asked(connection, "POST", "challenges", {"node_id": node_id})
    transcript = proof_transcript(
        node_id=node_id,
        nonce=base64.urlsafe_b64decode(challenge["nonce"]),
        server=challenge["server"],
        server_clock_ms=challenge["server_clock_ms"],
    )
    proof = {
        "node_id": node_id,
        "nonce": challenge["nonce"],
        "signature": base64.urlsafe_b64encode(key.sign(transcript)).decode().rstrip("="),
    }
    return str(_asked(connection, "POST", "tokens", proof)["access_token"])


def _asked(
    connection: http.client.HTTPConnection, method: str, what: str, body: object = None, *, token: str = ""
) -> Any:  # noqa: ANN401 - what JSON holds
    """The decoded answer. Raises: ProviderError for a failure, OSError, HTTPException."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    content = None if body is None else msgspec.json.encode(body)
    connection.request(method, f"/worker/v1/{what}", body=content, headers=headers)
    response = connection.getresponse()
    raw = response.read(_ANSWER_BYTES_MAX)
    try:
        answer = msgspec.json.decode(raw)
    except ValueError:
        answer = {}
    if response.status != 200:
        said = answer.get("error", {}).get("message", "") if isinstance(answer, dict) else ""
        raise ProviderError(f"the marketplace refused ({response.status}): {said or 'no reason given'}")
    return answer
