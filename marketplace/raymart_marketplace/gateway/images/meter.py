"""The meter: what a replica says it has made, believed only as far as it adds up.

Each picture is checked before it is handed on; one that breaks a rule ends the attempt as the provider's fault.
"""

from raymart_core.units import Fault
from raymart_core.wire.image import ImageEvent, ImageFinish, ImageMade, ImageProgress, decode_image_event
from raymart_core.wire.image_head import read_head
from raymart_marketplace.gateway.event_lines import EventLines
from raymart_marketplace.gateway.images.request import PictureRequest
from raymart_marketplace.supply.upstream import UpstreamBroken

BYTES_PER_PIXEL_MAX = 4
"""A picture that does not compress is as large as its pixels."""
EXTRA_BYTES_MAX = 256 * 1024
"""Head, metadata and the parameters beside the file."""
EVALUATIONS_PER_STEP_MAX = 4
"""Some schedulers run the model several times in a step, and may report each."""
PARAMETERS_CHARACTERS_MAX = 64 * 1024


def image_lines(request: PictureRequest) -> EventLines[ImageEvent]:
    """The lines of an answer to `request`; none may be longer than its largest picture in base64."""
    return EventLines(_decode_lines, line_bytes_max=picture_bytes_max(request) * 4 // 3 + EXTRA_BYTES_MAX)


def picture_bytes_max(request: PictureRequest) -> int:
    """Largest file of one picture."""
    return request.width * request.height * BYTES_PER_PIXEL_MAX + EXTRA_BYTES_MAX


class ImageMeter:
    """Counts one attempt's pixel-steps. Never more than was asked for."""

    def __init__(self, request: PictureRequest) -> None:
        self.pixel_steps = 0
        """Of every picture accepted so far: pixels times the steps run for it."""
        self.pictures = 0
        """Accepted so far."""
        self._request = request
        self._step = 0

    def progress(self, event: ImageProgress) -> None:
        """Take a step. Raises: UpstreamBroken."""
        most = self._request.steps * self._request.count * EVALUATIONS_PER_STEP_MAX
        if not self._step < event.step <= event.of <= most:
            raise _broken(f"step {event.step} of {event.of} after step {self._step}")
        self._step = event.step

    def check(self, event: ImageMade) -> None:
        """Look at a picture before it is opened: in its order, and as asked for. Raises: UpstreamBroken."""
        request = self._request
        if event.index != self.pictures or event.index >= request.count:
            raise _broken(
                f"picture {event.index} after {self.pictures} pictures; {request.count} were asked for"
            )
        asked = (request.seed_of(event.index), request.width, request.height, request.format)
        if (event.seed, event.width, event.height, event.format) != asked:
            raise _broken(f"picture {event.index} with another seed, size or format than asked for")
        if not 1 <= event.steps <= request.steps_of_each:
            raise _broken(f"a picture of {event.steps} steps; {request.steps_of_each} were asked for")
        head = read_head(event.data)
        if head is None or (head.width, head.height, head.format) != asked[1:]:
            raise _broken("a file that is not of the size or format that it should be")
        if len(event.data) > picture_bytes_max(request) or len(event.parameters) > PARAMETERS_CHARACTERS_MAX:
            raise _broken(f"a picture of {len(event.data)} bytes")

    def picture(self, event: ImageMade) -> None:
        """Count a picture that was checked."""
        self.pictures += 1
        self.pixel_steps += event.width * event.height * event.steps

    def finish(self, event: ImageFinish, *, revision: str) -> None:
        """Take the last event; the engine's own count is not used. Raises: UpstreamBroken."""
        if event.revision != revision:
            raise _broken(f"another revision than {revision}")
        if self.pictures != self._request.count:
            raise _broken(f"an end after {self.pictures} pictures; {self._request.count} were asked for")


def _decode_lines(lines: bytes) -> list[ImageEvent]:
    return [decode_image_event(line) for line in lines.splitlines() if line]


def _broken(reason: str) -> UpstreamBroken:
    return UpstreamBroken(f"the replica sent {reason}", fault=Fault.PROVIDER)
