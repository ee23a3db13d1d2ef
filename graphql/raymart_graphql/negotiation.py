"""Which media type answers a GraphQL request. Source: the GraphQL-over-HTTP draft, "Accept" and "Status Codes"."""

from dataclasses import dataclass
from enum import StrEnum

MULTIPART = "multipart/mixed"


class Media(StrEnum):
    """What a response is labelled as."""

    GRAPHQL = "application/graphql-response+json"
    """Status codes tell of requests that did not run."""
    JSON = "application/json"
    """The legacy type: 200 for whatever is a well-formed GraphQL request."""
    EVENT_STREAM = "text/event-stream"
    """Results as they come: the only way over HTTP to follow a subscription."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a client can read."""

    media: Media
    """The best of ours for it."""
    incremental: bool
    """Whether it reads results in parts, as `@defer` and `@stream` make them."""


def negotiated(accept: str) -> Accepted:
    """Our answer to an `Accept` header; the legacy type when the client has no preference.

    Events only for a client that names no JSON type: urql and others name everything that they can read, in every
    request, and wait for one JSON document when they send a query.
    """
    quality: dict[str, float] = dict.fromkeys((*Media, MULTIPART), 0.0)
    for part in accept.lower().split(","):
        name, _, parameters = part.partition(";")
        media = name.strip()
        if media in quality:
            quality[media] = max(quality[media], _weight(parameters))
    best = Media.JSON
    if quality[Media.GRAPHQL] > 0 and quality[Media.GRAPHQL] >= quality[Media.JSON]:
        best = Media.GRAPHQL
    elif quality[Media.EVENT_STREAM] > 0 and quality[Media.JSON] == 0:
        best = Media.EVENT_STREAM
    return Accepted(best, incremental=best is Media.EVENT_STREAM or quality[MULTIPART] > 0)


def _weight(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
