"""Structured logs: one line per event, ``key=value`` facts after the message. Standard library only."""

import logging
import sys
from typing import Any, TextIO

ROOT = "interpd"


class Log:
    """A named logger whose calls take facts as keywords: ``log.info("model loaded", model="facts", seconds=3.1)``."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{name}")

    def debug(self, message: str, **facts: object) -> None:
        """Details for whoever debugs interpd."""
        self._emit(logging.DEBUG, message, facts)

    def info(self, message: str, **facts: object) -> None:
        """What an operator wants to see once."""
        self._emit(logging.INFO, message, facts)

    def warning(self, message: str, **facts: object) -> None:
        """What went wrong and was dealt with."""
        self._emit(logging.WARNING, message, facts)

    def error(self, message: str, **facts: object) -> None:
        """What went wrong and stays wrong until somebody acts."""
        self._emit(logging.ERROR, message, facts)

    def exception(self, message: str, **facts: object) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._emit(logging.ERROR, message, facts, exc_info=True)

    def _emit(self, level: int, message: str, facts: dict[str, object], exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", message, extra={"facts": facts}, exc_info=exc_info)


class FactsFormatter(logging.Formatter):
    """Formats a record as ``12:01:59 INFO interpd.pool model loaded model=facts seconds=3.1``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line; a traceback follows it."""
        facts: dict[str, Any] = getattr(record, "facts", {})
        head = super().formatMessage(record)
        return " ".join([head, *(f"{key}={_quoted(value)}" for key, value in facts.items())])


def _quoted(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return repr(text) if not text or any(c.isspace() or c == "=" for c in text) else text


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Sends interpd's logs to ``stream`` (standard error), from ``level`` on. Other libraries keep their own ways."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(FactsFormatter())
    logger = logging.getLogger(ROOT)
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
