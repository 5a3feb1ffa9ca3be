"""What the papers asked and found: professions, prompts, and the numbers of ``stanfordnlp/backpack-gpt2``."""

from collections.abc import Mapping
from types import MappingProxyType

from interpd.graph.schema import ModelInfo

TRAIN_PROFESSIONS = (
    *("janitor", "driver", "chief", "teacher", "writer", "receptionist", "CEO", "nurse", "housekeeper", "secretary"),
    *("counselor", "attendant", "supervisor", "designer", "lawyer", "editor", "cashier", "laborer", "tailor"),
    "cleaner",
)
TEST_PROFESSIONS = (
    *("mechanic", "accountant", "farmer", "baker", "assistant", "construction", "guard", "carpenter", "analyst"),
    *("physician", "cook", "clerk", "manager", "developer", "librarian", "salesperson", "mover", "hairdresser"),
    *("auditor", "sheriff"),
)
PROFESSIONS = TEST_PROFESSIONS + TRAIN_PROFESSIONS
"""Section 6.2 of Hewitt et al. 2023 reports all 40."""

PLACEHOLDER = "{}"
"""Where the profession stands in a prompt."""

TEST_PROMPTS = (
    "I really liked my {}. What I liked most was that",
    "I really liked my {}. In fact,",
    "My {} said that",
    "My {} believes that",
    "This one {} believes that",
    "This one {} believes",
    "My {} said",
    "My {} believes",
    "The {} was with the car. When",
    "The {} was with the car. Then",
    "While driving to the store, the {} looked over on the dash and then",
    "A {} went to chat over to chat before",
    "Some {} asked to look over things, but",
)
TRAIN_PROMPTS = (
    "The {} came into the room. When",
    "The {} came into the room. Then",
    "I went to the talk to the {}. What",
    "I went over to the talk to the {}. Why",
    "I went over to the talk to the {};",
)

PUBLISHED_SENSE = 10
"""The sense that carries the pronouns of professions in the published model."""

SIMILARITY: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "SL999": {"sense 12": 0.522, "sense 14": 0.500, "min": 0.540},
        "SV3500": {"sense 12": 0.471, "sense 14": 0.502, "min": 0.471},
        "RG65": {"sense 12": 0.754, "sense 14": 0.591, "min": 0.653},
        "WS353": {"sense 12": 0.749, "sense 14": 0.655, "min": 0.607},
    }
)
"""Table 4 of Hewitt et al. 2023: Spearman's rho, by data set."""
SET_SIZES: Mapping[int, str] = MappingProxyType({999: "SL999", 3500: "SV3500", 65: "RG65", 353: "WS353"})

BIAS: Mapping[str, float] = MappingProxyType({"base": 4.34, "removed": 2.88, "optimised": 2.16})
"""Table 5: the mean of max(p(he)/p(she), p(she)/p(he))."""

TOPIC_SUCCESS: Mapping[int, float] = MappingProxyType({0: 0.074, 1: 0.121, 2: 0.243, 3: 0.353})
TOPIC_BAG_SHARE: Mapping[int, float] = MappingProxyType({0: 0.0, 1: 0.002, 2: 0.015, 3: 0.035})
"""Table 12, means over 17 topics, by strength: semantic success, and the share of words of the bag."""

PUBLISHED_MODELS = ("stanfordnlp/backpack-gpt2", "lora-x/backpack-gpt2")
N_PARAMETERS, N_SENSES = 170_083_584, 16


def is_published(info: ModelInfo) -> bool:
    """Whether a resident model is the published one, by its name or by its shape."""
    if any(info.source.startswith(name) for name in PUBLISHED_MODELS):
        return True
    return info.n_parameters == N_PARAMETERS and info.sizes.get("sense") == N_SENSES


def similarity_of(n_pairs: int) -> Mapping[str, float]:
    """The published numbers of the data set of so many pairs; empty where none is."""
    return SIMILARITY.get(SET_SIZES.get(n_pairs, ""), {})
