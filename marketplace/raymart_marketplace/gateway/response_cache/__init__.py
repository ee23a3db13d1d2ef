"""Answers given before, given again where their customer asks for that."""

from raymart_marketplace.gateway.response_cache.asked import CACHE_HEADER, asking_for_cached
from raymart_marketplace.gateway.response_cache.cache import ResponseCache
from raymart_marketplace.gateway.response_cache.store import AnswerStore, forget_answers

__all__ = ["CACHE_HEADER", "AnswerStore", "ResponseCache", "asking_for_cached", "forget_answers"]
