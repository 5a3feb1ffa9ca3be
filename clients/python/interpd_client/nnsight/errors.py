"""What a block of nnsight code does that a graph cannot say."""

from interpd_client.places import Place, user_place


class CannotRecord(RuntimeError):
    """A line of the block needs numbers, code or places that only the service has; nothing was sent.

    Args:
        what: The reason, and what to do instead.
        place: The line; by default the one that is running.
    """

    def __init__(self, what: str, place: Place | None = None) -> None:
        self.what = what
        self.place = place or user_place()
        super().__init__(f"{self.place.shown}\n    {what}")
