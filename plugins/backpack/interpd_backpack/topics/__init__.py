"""Topics as the vocabulary has them: which senses of which tokens speak for a bag of words."""

from interpd_backpack.topics.asking import peaks, topic
from interpd_backpack.topics.results import TopicSense, TopicTable

__all__ = ["TopicSense", "TopicTable", "peaks", "topic"]
