"""What the papers have of ``stanfordnlp/backpack-gpt2``, where it is no part of ``evaluation.published``."""

from collections.abc import Mapping
from types import MappingProxyType

PERPLEXITY: Mapping[str, float] = MappingProxyType({"openwebtext": 20.1, "lambada": 26.5, "wikitext": 40.9})
"""Of Backpack-Small (Table 2 of Hewitt et al. 2023), by what files are called."""

SENSE_WORDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "nurse": ("professional, She", "himself, His, his, he"),
        "developer": ("", "She, herself, her, corruption, she, gam, HR"),
    }
)
"""What sense 10 says most and least (Table 13); of the developer the paper has the least only."""

GAINS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "stereoset": (7.8, 3.8, 1.9),
        "country": (8.2, 4.3, 2.6),
        "company": (4.9, 0.6, 1.6),
        "gender": (13.9, 11.7, 12.0),
        "syntax": (16.4, 15.1, 10.6),
        "temporal": (0.5, 0.6, 0.2),
    }
)
"""Points of success that senses gain in the balls of 1e-3, 1e-4 and 1e-5 (Table 3 of Hewitt et al. 2024)."""

BEST: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "company": {"learning_rate": 0.0155, "kl_weight": 0.161, "senses_per_example": 9},
        "country": {"learning_rate": 0.0149, "kl_weight": 0.421, "senses_per_example": 8, "background_weight": 1745.0},
        "gender": {"learning_rate": 0.0201, "kl_weight": 0.385, "senses_per_example": 8},
        "stereoset": {"learning_rate": 0.00457, "kl_weight": 0.151, "senses_per_example": 5},
        "temporal": {"learning_rate": 0.0149, "kl_weight": 0.169, "senses_per_example": 11},
        "syntax": {"learning_rate": 0.00235, "kl_weight": 0.368, "senses_per_example": 10},
    }
)
"""The settings that its search found best in the ball of 1e-4."""
