"""The client's part: ``model.backpack``."""

from interpd_client import Model
from interpd_client.places import pass_over

# errors point at the line of the program that asked, not at one in here
pass_over(__file__)


class Backpack:
    """``model.backpack``: what the senses of words say, what they do in a text, and edits of them."""

    def __init__(self, model: Model) -> None:
        self._model = model
