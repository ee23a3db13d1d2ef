"""Which checks an engine must pass, by what it can do."""

from collections.abc import Mapping

from raymart_serve.conformance.calling import CALLING
from raymart_serve.conformance.checks import Check, Nonconformance, check
from raymart_serve.conformance.continuation import CONTINUATION
from raymart_serve.conformance.embedding import EMBEDDING
from raymart_serve.conformance.life import CLOSING, LIFE
from raymart_serve.conformance.pictures import CLOSING_PICTURES, PICTURES
from raymart_serve.conformance.port import PORT, PORT_OF_GENERATES
from raymart_serve.conformance.refusals import REFUSALS
from raymart_serve.conformance.rig import Rig
from raymart_serve.conformance.sampling import SAMPLING
from raymart_serve.conformance.stopping import STOPPING
from raymart_serve.conformance.streaming import STREAMING
from raymart_serve.engines.protocol import Embeds, Generates, MakesImages, Predicts, Reranks

CAPABILITIES: tuple[type, ...] = (Generates, MakesImages, Embeds, Reranks, Predicts)

_CHECKS: Mapping[type, tuple[Check, ...]] = {
    Generates: (*STREAMING, *STOPPING, *SAMPLING, *CONTINUATION, *REFUSALS, *CALLING, *PORT_OF_GENERATES),
    MakesImages: PICTURES,
    Embeds: EMBEDDING,
}


def checks_for(*capabilities: type) -> tuple[Check, ...]:
    """The checks for an engine that implements these protocols of `engines.protocol`, in the order to run them.

    The last one closes the engine.
    """
    assert capabilities, "an engine can do something"
    assert set(capabilities) <= set(CAPABILITIES), f"not among {CAPABILITIES}"
    of_capabilities = tuple(one for capability in capabilities for one in _CHECKS.get(capability, ()))
    closing = CLOSING_PICTURES if MakesImages in capabilities else CLOSING
    return (_claims(capabilities), *LIFE, *of_capabilities, *PORT, *closing)


def _claims(capabilities: tuple[type, ...]) -> Check:
    names = {capability.__name__ for capability in capabilities}

    @check
    async def it_can_do_what_is_checked(rig: Rig) -> None:
        """The engine implements exactly the protocols that the run checks: none is claimed and left unchecked."""
        found = {capability.__name__ for capability in CAPABILITIES if isinstance(rig.engine, capability)}
        if found != names:
            raise Nonconformance(f"the engine implements {sorted(found)}, the run checks {sorted(names)}")

    return it_can_do_what_is_checked
