"""Which media type answers a GraphQL request. Source: the GraphQL-over-HTTP draft, "Accept" and "Status Codes"."""

from enum import StrEnum


class Media(StrEnum):
    """What a response is labelled as."""

    GRAPHQL = "application/graphql-response+json"
    """Status codes tell of requests that did not run."""
    JSON = "application/json"
    """The legacy type: 200 for whatever is a well-formed GraphQL request."""


def negotiated(accept: str) -> Media:
    """The best of our types for an `Accept` header; the legacy one when the client has no preference."""
    quality = {Media.GRAPHQL: 0.0, Media.JSON: 0.0}
    for part in accept.lower().split(","):
        name, _, parameters = part.partition(";")
        weight = _weight(parameters)
        media = name.strip()
        if media in quality:
            quality[Media(media)] = max(quality[Media(media)], weight)
    preferred = quality[Media.GRAPHQL] > 0 and quality[Media.GRAPHQL] >= quality[Media.JSON]
    return Media.GRAPHQL if preferred else Media.JSON


def _weight(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
