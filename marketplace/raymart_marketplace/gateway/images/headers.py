"""Headers of an answer with pictures in one piece."""

from raymart_marketplace.gateway.endpoint import Headers
from raymart_marketplace.gateway.images.events import PicturesFinished
from raymart_marketplace.gateway.openai_usage import decimal_text
from raymart_marketplace.gateway.served_headers import served_headers


def headers_of(finished: PicturesFinished) -> Headers:
    """Who served, how often it was tried, and the price."""
    cost = (b"x-raymart-cost", decimal_text(finished.cost).encode())
    return (*served_headers(finished, attempts=finished.attempts), cost)
