"""What a customer may ask of those who see their prompts: how far a machine is trusted, what its provider keeps."""

from enum import StrEnum


class Trust(StrEnum):
    """How far the marketplace vouches for a machine. Later members are trusted more (`reaches`)."""

    PROBED = "probed"
    """A provider's own machine, in its own cluster, that passed the benchmark."""
    VERIFIED = "verified"
    """A verified provider's machine in a house pool, whose nodes the marketplace admits with certificates of its own."""

    def reaches(self, least: "Trust") -> bool:
        """Whether this is at least `least`."""
        return _ORDER[self] >= _ORDER[least]


_ORDER = {trust: place for place, trust in enumerate(Trust)}


class DataPolicy(StrEnum):
    """What a provider says that becomes of prompts and answers. Its word, which it is held to; nobody can see it."""

    UNSTATED = "unstated"
    """It promises nothing."""
    NO_RETENTION = "no_retention"
    """Nothing is kept once the answer has gone out, and nothing is learnt from it."""
