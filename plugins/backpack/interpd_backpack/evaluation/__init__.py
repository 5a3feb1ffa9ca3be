"""What a Backpack, or an edit of one, is worth: word similarity, bias, topics, examples, perplexity, collateral.

    from interpd_backpack.evaluation import BiasSettings, Suite, evaluate

    evaluate(model, Suite(bias=BiasSettings()), edit=edit).show()

Everything is asked over the client's door, so that it works of a remote daemon, too; nothing here needs torch.
"""

from interpd_backpack.evaluation.bias import BiasSettings, GenderBias
from interpd_backpack.evaluation.collateral import Collateral, CollateralSettings
from interpd_backpack.evaluation.examples import TASKS, Criterion, Example, ExampleMetrics, ExampleSettings
from interpd_backpack.evaluation.perplexity import Perplexity, PerplexitySettings
from interpd_backpack.evaluation.report import Evaluation
from interpd_backpack.evaluation.sections import Chart, Part, Section, Table
from interpd_backpack.evaluation.settings import PARTS, Data, Suite
from interpd_backpack.evaluation.similarity import LexicalSimilarity, SimilaritySettings
from interpd_backpack.evaluation.suite import evaluate
from interpd_backpack.evaluation.topics import TopicControl, TopicSettings
from interpd_backpack.evaluation.word_pairs import WordPairs, read_word_pairs

__all__ = [
    "PARTS",
    "TASKS",
    "BiasSettings",
    "Chart",
    "Collateral",
    "CollateralSettings",
    "Criterion",
    "Data",
    "Evaluation",
    "Example",
    "ExampleMetrics",
    "ExampleSettings",
    "GenderBias",
    "LexicalSimilarity",
    "Part",
    "Perplexity",
    "PerplexitySettings",
    "Section",
    "SimilaritySettings",
    "Suite",
    "Table",
    "TopicControl",
    "TopicSettings",
    "WordPairs",
    "evaluate",
    "read_word_pairs",
]
