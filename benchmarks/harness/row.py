"""One line of the table. A ratio is always written so that larger is better, whatever was measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A measured claim."""

    name: str
    ours: float
    """What interpd needed or achieved, in ``unit``."""
    theirs: float
    """The same of what it is compared with; of a limit the limit."""
    unit: str
    ratio: float
    """How much better ours is: 2 is twice as good, whether that means half the time or twice the throughput."""
    at_least: float
    """The ratio that is claimed."""

    @property
    def holds(self) -> bool:
        """Whether the claim was met."""
        return self.ratio >= self.at_least


def time_row(name: str, ours: float, theirs: float, unit: str, at_least: float) -> Row:
    """A row in which less is better (a time): the ratio is theirs / ours."""
    return Row(name, ours, theirs, unit, theirs / ours, at_least)


def rate_row(name: str, ours: float, theirs: float, unit: str, at_least: float) -> Row:
    """A row in which more is better (a throughput): the ratio is ours / theirs."""
    return Row(name, ours, theirs, unit, ours / theirs, at_least)


def limit_row(name: str, measured: float, limit: float, unit: str) -> Row:
    """A row of something that must stay below a limit: the ratio is limit / measured, and 1 is enough."""
    return Row(name, measured, limit, unit, limit / measured, 1.0)
