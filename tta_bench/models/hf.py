"""Any masked language model of transformers (BERT, ModernBERT, RoBERTa ...) as a denoiser."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from tta_bench.models.native import at_positions

BRANCHES = {
    "bert": ("attention.output.dense", "output.dense"),
    "roberta": ("attention.output.dense", "output.dense"),
    "xlm-roberta": ("attention.output.dense", "output.dense"),
    "electra": ("attention.output.dense", "output.dense"),
    "distilbert": ("attention.out_lin", "ffn.lin2"),
    "modernbert": ("attn.Wo", "mlp.Wo"),
}
"""By ``model_type``: ends of the names of the modules whose output is added to the residual stream."""


class MaskedLM(nn.Module):
    """A masked language model with the calling convention of the native models.

    Attributes:
        model: as transformers built it.
        config: its configuration, with ``mask_token_id``.
        shift_logits: False, the logits at i predict the token at i.
    """

    shift_logits: ClassVar[bool] = False

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.config: Any = model.config
        self._takes = frozenset(inspect.signature(model.forward).parameters)
        table = next((m for name, m in model.named_modules() if name.endswith("position_embeddings")), None)
        learned = table if isinstance(table, nn.Embedding) else None
        # RoBERTa's kin count positions from the one after their padding's.
        self._first = 0 if learned is None or learned.padding_idx is None else learned.padding_idx + 1
        self._longest = None if learned is None else learned.num_embeddings - self._first
        self._padded, self._shadowed = self._probe()

    @property
    def context(self) -> int | None:
        """Positions that the model has; None where nothing says how many."""
        if self._longest is not None:
            return self._longest
        known: int | None = getattr(self.config, "max_position_embeddings", None)
        return known

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.model.dtype

    @torch.no_grad()
    def _probe(self) -> tuple[bool, bool]:
        """Whether padding on the left is without effect, and whether a 4-D mask hides what a 2-D one does."""
        training = self.model.training
        self.model.eval()
        ids = torch.arange(6, device=self.device)[None] % self.model.get_input_embeddings().weight.shape[0]
        seen, hidden = torch.ones_like(ids), torch.ones_like(ids)
        hidden[:, -1] = 0
        position_ids = torch.arange(6, device=self.device)[None]

        def logits(ids: Tensor, mask: Tensor, places: Tensor) -> Tensor:
            more = {"position_ids": places + self._first} if "position_ids" in self._takes else {}
            return self.model(input_ids=ids, attention_mask=mask, **more).logits.float()

        alone = logits(ids, seen, position_ids)
        tolerance = (1e-3 if self.dtype in (torch.float32, torch.float64) else 5e-2) * float(alone.std())

        def same(one: Tensor, other: Tensor) -> bool:
            return bool((one - other).abs().max() <= tolerance)

        wide = F.pad(seen, (2, 0))
        padded = logits(F.pad(ids, (2, 0)), wide, (wide.cumsum(dim=1) - 1).clamp(min=0))
        two = logits(ids, hidden, position_ids)[:, :-1]
        try:
            four = logits(ids, self._prepared((hidden != 0)[:, None, None].expand(-1, -1, 6, -1)), position_ids)[:, :-1]
            shadowed = same(four, two)
        except RuntimeError:  # of another shape than it takes
            shadowed = False
        self.model.train(training)
        return same(padded[:, 2:], alone) and "position_ids" in self._takes, shadowed

    def _prepared(self, mask: Tensor) -> Tensor:
        """A boolean (B, 1, L, L) mask in the form that the model's attention takes: added to the scores unless it is SDPA's."""
        if self.config._attn_implementation == "sdpa":
            return mask
        return torch.zeros(mask.shape, dtype=self.dtype, device=mask.device).masked_fill(~mask, torch.finfo(self.dtype).min)

    def residual_branches(self) -> list[nn.Module]:
        """The modules whose output is added to the residual stream: where dropout views act.

        Raises:
            TypeError: they are not known for this kind of model.
        """
        kind = self.config.model_type
        if kind not in BRANCHES:
            raise TypeError(
                f"tta_use_dropout=True: where the residual branches of model_type {kind!r} are is not known (only of "
                f"{', '.join(BRANCHES)}); use temperature views"
            )
        return [
            module for name, module in self.model.named_modules() if name.endswith(tuple("." + end for end in BRANCHES[kind]))
        ]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> MaskedLMOutput:
        """Predict tokens.

        Args:
            input_ids: token ids (B, L).
            attention_mask: None, or (B, L) with 0 at padding, or (B, 1, L, L), not 0 = may attend.
            position_ids: (B, L), from 0; 0 .. L-1 when absent.
            positions: where logits are wanted, as in ``NativeModel.forward``. These models compute them everywhere.

        Returns:
            An output whose ``logits`` are as in ``NativeModel.forward``.

        Raises:
            ValueError: the sequence is longer than the model's positions, or padded where that changes what the model says, or
                has a mask that its attention cannot use.
        """
        if attention_mask is not None and attention_mask.dim() == 4 and not self._shadowed:
            raise ValueError(
                f"a 4-D attention mask: this {self.config.model_type} does not hide with it what it should; use a sampler "
                "without a shadow block"
            )
        if attention_mask is not None and attention_mask.dim() == 2 and not self._padded and not bool(attention_mask.all()):
            raise ValueError(
                f"a padded batch: what this {self.config.model_type} says of a prompt depends on its padding; use batch_size=1"
            )
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        if self._longest is not None and int(position_ids.max()) >= self._longest:
            raise ValueError(
                f"a sequence of {int(position_ids.max()) + 1} tokens: this {self.config.model_type} has {self._longest} "
                "positions; use a shorter prompt or gen_length"
            )
        window = getattr(self.config, "sliding_window", None)
        if attention_mask is not None and attention_mask.dim() == 4 and window and input_ids.shape[1] > window:
            raise ValueError(
                f"a 4-D attention mask over {input_ids.shape[1]} tokens: {self.config.model_type} has layers that see {window} "
                "tokens to each side, and they would see all; use a sampler without a shadow block, or a shorter sequence"
            )
        more = {"position_ids": position_ids + self._first} if "position_ids" in self._takes else {}
        if attention_mask is not None and attention_mask.dim() == 4:
            attention_mask = self._prepared(attention_mask != 0)
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask, **more).logits
        return MaskedLMOutput(logits=at_positions(logits, positions))
