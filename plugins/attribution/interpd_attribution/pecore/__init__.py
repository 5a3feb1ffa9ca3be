"""Context attribution (PECoRe): which tokens of an output depend on a context, and on what in it.

found = attribute_context(
    model,
    input_context_text="Tom was sad.",
    input_current_text="He wanted to",
    output_current_text="play with his toys",
)
found.show()
"""

from interpd_attribution.pecore.arguments import ContextArguments
from interpd_attribution.pecore.attribute import attribute_context
from interpd_attribution.pecore.result import ContextAttribution, ContextualCues
from interpd_attribution.pecore.speech import Ask

__all__ = ["Ask", "ContextArguments", "ContextAttribution", "ContextualCues", "attribute_context"]
