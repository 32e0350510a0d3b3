"""Second implementation of `nn.MultiheadAttention`: the softmax is a constant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deconvviz.verification.unverifiable import Unverifiable


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weights: tuple[Tensor, Tensor, Tensor],
    biases: tuple[Any, Any, Any],
    heads: int,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the result of all heads (L, B, E) and the weights (B * heads, L, S)."""
    q, k, v = (
        torch.einsum("lbe,fe->lbf", x, w) + (0 if b is None else b)
        for x, w, b in zip((query.detach(), key.detach(), value), weights, biases, strict=True)
    )
    q, k, v = (x.reshape(len(x), -1, x.shape[2] // heads).transpose(0, 1) for x in (q, k, v))
    scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
    softmax = (scores if mask is None else scores + mask.detach()).softmax(-1)
    found = (softmax @ v).transpose(0, 1)  # (L, B * heads, E / heads)
    return found.reshape(len(query), query.shape[1], -1), softmax


def projected_attention(
    query: Tensor, key: Tensor, value: Tensor, embed_dim: int, heads: int, in_weight: Any, in_bias: Any,
    bias_k: Any, bias_v: Any, add_zero_attn: bool, dropout: float, out_weight: Tensor, out_bias: Any,
    training: bool = True, key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
    use_separate_proj_weight: bool = False, q_proj_weight: Any = None, k_proj_weight: Any = None,
    v_proj_weight: Any = None, static_k: Any = None, static_v: Any = None, average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Return what `F.multi_head_attention_forward` returns for the same arguments."""
    if (
        bias_k is not None
        or add_zero_attn
        or static_k is not None
        or query.dim() != 3
        or key_padding_mask is not None
    ):
        raise Unverifiable("there is no second implementation of this use of nn.MultiheadAttention")
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    weights = separate if use_separate_proj_weight else in_weight.chunk(3)
    biases = (None, None, None) if in_bias is None else in_bias.chunk(3)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        raise Unverifiable("there is no second implementation of attention that is masked by booleans")
    found, softmax = multi_head_attention(query, key, value, weights, biases, heads, attn_mask)
    found = found @ out_weight.T + (0 if out_bias is None else out_bias)
    if not need_weights:
        return found, None
    each = softmax.reshape(-1, heads, *softmax.shape[1:])
    return found, each.mean(1) if average_attn_weights else each
