"""`nn.MultiheadAttention` as separate calls, with the batch first."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attention(
    part: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return what `nn.MultiheadAttention.forward` returns for the same arguments."""
    if query.dim() != 3 or query.is_nested or part.bias_k is not None or part.add_zero_attn:
        options = (key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
        return nn.MultiheadAttention.forward(part, query, key, value, *options)
    inputs = (query, key, value) if part.batch_first else [x.transpose(0, 1) for x in (query, key, value)]
    q, k, v = (
        F.linear(x, weight, bias).unflatten(-1, (part.num_heads, -1)).transpose(1, 2)
        for x, weight, bias in zip(inputs, _weights(part), _biases(part), strict=True)
    )  # (B, heads, L, d)
    mask = _mask(key_padding_mask, attn_mask, q, k.shape[2])
    weights = None
    if need_weights:
        scores = (q * math.sqrt(1 / q.shape[-1])) @ k.transpose(-2, -1)
        weights = (scores if mask is None else scores + mask).softmax(-1)
        found = weights @ v
    else:
        found = F.scaled_dot_product_attention(q, k, v, mask)
    found = F.linear(found.transpose(1, 2).flatten(2), part.out_proj.weight, part.out_proj.bias)
    if weights is not None and average_attn_weights:
        weights = weights.mean(1)
    return found if part.batch_first else found.transpose(0, 1), weights


def _weights(part: Any) -> Any:
    if part.in_proj_weight is not None:
        return part.in_proj_weight.chunk(3)
    return part.q_proj_weight, part.k_proj_weight, part.v_proj_weight


def _biases(part: Any) -> Any:
    return (None, None, None) if part.in_proj_bias is None else part.in_proj_bias.chunk(3)


def _mask(padding: Tensor | None, mask: Tensor | None, q: Tensor, length: int) -> Tensor | None:
    """Return what is added to the scores (B, heads, L, S); None if nothing is."""
    found = None
    if mask is not None:  # (L, S) or (B * heads, L, S)
        found = _added(mask, q).reshape(*(q.shape[:2] if mask.dim() == 3 else (1, 1)), q.shape[2], length)
    if padding is not None:  # (B, S)
        row = _added(padding, q)[:, None, None]
        found = row if found is None else found + row
    return found


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """Return a mask as numbers to add: minus infinity where a boolean mask is True."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -math.inf)
