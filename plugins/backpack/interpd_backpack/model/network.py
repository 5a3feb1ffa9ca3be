"""The sense network: from the embedding of a token, without its position, to its k sense vectors."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

FUSED = {"gelu_new": "gelu_pytorch_tanh"}
"""Activations that torch computes in one go, by the names of those that transformers puts together of several."""

Run = Callable[[nn.Module, Tensor], Tensor]


def called(module: nn.Module, value: Tensor) -> Tensor:
    """``module(value)``, with whoever listens to the module."""
    return module(value)


def unheard(module: nn.Module, value: Tensor) -> Tensor:
    """``module(value)`` without telling those who listen: for values that are no part of the present text."""
    return type(module).forward(module, value)


def activation(name: str) -> nn.Module:
    """The activation of a name of transformers, in its fastest form."""
    return ACT2FN[FUSED.get(name, name)]


class SenseMLP(nn.Module):
    """Two layers in GPT-2's layout, with dropout behind them. The second is marked, to be initialised smaller.

    Args:
        config: Of the Backpack.
        inner: Width between the layers.
        outer: Width of what comes out.
    """

    def __init__(self, config: Any, inner: int, outer: int) -> None:
        super().__init__()
        self.c_fc = Conv1D(inner, config.n_embd)
        self.c_proj = Conv1D(outer, inner)
        self.c_proj.is_residual = True
        self.act = activation(config.activation_function)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden: Tensor, run: Run = called) -> Tensor:
        """``[..., outer]`` for ``[..., d_model]``."""
        for part in (self.c_fc, self.act, self.c_proj, self.dropout):
            hidden = run(part, hidden)
        return hidden


class NoMixBlock(nn.Module):
    """A transformer block whose attention has been taken out: what would enter it is added instead.

    Args:
        config: Of the Backpack.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = SenseMLP(config, config.sense_block_scale * config.n_embd, config.n_embd)
        self.resid_dropout1 = nn.Dropout(config.resid_pdrop)
        self.resid_dropout2 = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden: Tensor, residual: Tensor, run: Run = called) -> Tensor:
        """What the last layer is given, ``[..., d_model]``."""
        residual = run(self.resid_dropout1, hidden) + residual
        inside = run(self.ln_1, residual)
        inside = self.mlp(inside) if run is called else self.mlp.forward(inside, run)
        return run(self.ln_2, run(self.resid_dropout2, inside) + residual)


class SenseNetwork(nn.Module):
    """C: embeddings to senses (Hewitt et al. 2023, appendix A.1, with its accidental second norm and residual).

    Args:
        config: Of the Backpack.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.num_senses = config.num_senses
        self.dropout = nn.Dropout(config.embd_pdrop)
        self.block = NoMixBlock(config)
        self.ln = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        inner = config.sense_intermediate_scale * config.n_embd
        self.final_mlp = SenseMLP(config, inner, config.n_embd * config.num_senses)

    def forward(self, embeds: Tensor, known: Tensor | None = None) -> Tensor:
        """The senses ``[batch, sense, pos, d_model]`` of embeddings ``[batch, pos, d_model]``.

        Args:
            embeds: Without positions.
            known: The same senses as ``[batch, pos, sense, d_model]``, when somebody has them already.
        """
        return (self._senses(embeds, called) if known is None else known).transpose(1, 2)

    def unheard(self, embeds: Tensor) -> Tensor:
        """The senses ``[..., sense, d_model]`` of embeddings ``[..., d_model]``; nobody who listens is told."""
        return self._senses(embeds, unheard)

    def _senses(self, embeds: Tensor, run: Run) -> Tensor:
        residual = run(self.dropout, embeds)
        hidden = run(self.ln, residual)
        if run is called:
            senses = self.final_mlp(self.block(hidden, residual))
        else:
            senses = self.final_mlp.forward(self.block.forward(hidden, residual, run), run)
        return senses.unflatten(-1, (self.num_senses, -1))
