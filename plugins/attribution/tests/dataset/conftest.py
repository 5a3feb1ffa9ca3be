"""A stand-in for a model: what its part ``attribute`` gives needs no forward passes."""

import threading

import pytest

from interpd.errors import CallerError


class Fake:
    """Gives a random result for each text; texts that hold ``bad`` are refused."""

    def __init__(self, make):
        self._make = make
        self.asked = []
        self.at_once, self.most_at_once = 0, 0
        self._lock = threading.Lock()
        self.meanwhile = lambda text: None

    def attribute(self, inputs, generated=None, **arguments):
        with self._lock:
            self.asked.append((inputs, generated, arguments))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.meanwhile(inputs)
            if "bad" in inputs:
                raise CallerError(f"{inputs!r} cannot be")
            return self._make(seed=len(inputs), info={"input_texts": [inputs], "model_name": "fake", "exec_time": 0.5})
        finally:
            with self._lock:
                self.at_once -= 1


@pytest.fixture
def fake(make):
    """A model that answers at once."""
    return Fake(make)
