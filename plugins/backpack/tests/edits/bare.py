"""A Backpack without the engine, whose modules' outputs are replaced by hand."""

from contextlib import contextmanager

import torch
from backpack_tests.edits.brute import edited_table


class Bare:
    """Logits of a bare model, edited by hooks on its modules."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.rows = model.lm_head.weight.detach().numpy()
        ids = torch.arange(len(self.rows))
        network = model.backpack.sense_network(model.backpack.embeddings()(ids[:, None]))
        self.senses = network[:, :, 0].detach().numpy()

    def ids(self, text):
        return self.tokenizer(text, return_tensors="pt").input_ids

    def id(self, word):
        (found,) = self.tokenizer(f" {word}", add_special_tokens=False).input_ids
        return found

    def table(self, operations):
        """The senses ``[V, k, d]`` after operations on senses."""
        return edited_table(operations, self.senses, self.rows)

    def logits(self, ids, table=None, weigh=None):
        """``[pos, V]`` with the senses of a table, and weights changed by a function."""
        with self._hooked(ids, table, weigh), torch.no_grad():
            return self.model(ids, use_cache=False).logits[0].numpy()

    def weights(self, ids):
        """The sense weights ``[sense, query, key]``."""
        with torch.no_grad():
            return self.model(ids, use_cache=False).contextualization[0].numpy()

    @contextmanager
    def _hooked(self, ids, table, weigh):
        handles = []
        if table is not None:
            rows = torch.tensor(table)[ids].transpose(1, 2)
            handles.append(self.model.backpack.sense_network.register_forward_hook(lambda *_: rows))
        if weigh is not None:
            net = self.model.backpack.sense_weight_net
            handles.append(net.register_forward_hook(lambda module, args, output: weigh(output)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
