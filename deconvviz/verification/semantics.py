"""Second implementation of the projection rules, as replacement gradients for autograd.

It shares no code with the engine, so that each can be checked by the other. `Semantics` is a torch function
mode. It replaces the calls whose projection is not their gradient:

    the signal is rectified   ReLU, ReLU6, hardtanh, LeakyReLU, ELU, SiLU, GELU, Hardswish, Mish, Softplus,
                              and ReLU, LeakyReLU, SiLU, Hardswish, Mish composed of simple calls (`Origins`)
    constants                 sigmoid, hardsigmoid, softmax, tanh, relu6(x + 3), also in recurrent layers
    statistics (constants)    variance, norm, negative power, any denominator; mean and variance of layer,
                              group, instance and RMS norm
    constants of a call       positions of `grid_sample`, offsets and boxes of torchvision, filters
    maxima                    the signal goes to the position of the first maximum

All other calls keep their gradient if they are linear, a product, a power, a logarithm, an absolute value,
or a clamp at other values than 0. `audit` walks the autograd graph and raises for every node that is not on
the list, so that a call that bypasses the mode (a jit script, a custom autograd function) cannot silently
keep its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from deconvviz.verification.attention import projected_attention
from deconvviz.verification.origins import DIVISION, RELU6, TIMES, Origins, forms, is_zero, overwrites
from deconvviz.verification.recurrent import CELLS, LAYERS, recurrent_cell, recurrent_layer
from deconvviz.verification.unverifiable import Unverifiable

Projection = Callable[[Tensor], Tensor]


class _Projected(torch.autograd.Function):
    """Returns a given value in the forward pass, and applies a given function to the signal backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, projection: Projection) -> Tensor:
        ctx.projection = projection
        return value.clone()

    @staticmethod
    def backward(ctx: Any, signal: Tensor) -> Any:
        return ctx.projection(signal), None, None


def projected(x: Tensor, value: Tensor, projection: Projection) -> Tensor:
    """Return a value, with a projection from it to `x`."""
    result: Tensor = _Projected.apply(x, value, projection)
    return result


RELU = forms("relu")
RECTIFIED = [
    *RELU,
    *RELU6,
    *forms("hardtanh", "leaky_relu", "elu", "selu", "celu", "silu", "gelu"),
    *forms("hardswish", "mish", "softplus", "prelu"),
]
CLAMPED = forms("clamp", "clamp_min", "clip")
CONSTANT = forms("sigmoid", "hardsigmoid", "softmax", "tanh", "softmin", "expit")
STATISTIC = [
    *forms("var", "std", "var_mean", "std_mean", "norm", "vector_norm", "rsqrt", "reciprocal"),
]
_T = torch.Tensor
PRODUCT = [
    *(
        torch.mul,
        torch.multiply,
        _T.mul,
        _T.multiply,
        _T.__mul__,
        _T.__rmul__,
        _T.mul_,
        _T.multiply_,
        _T.__imul__,
    ),
    *(torch.matmul, torch.bmm, torch.mm, _T.matmul, _T.bmm, _T.mm, _T.__matmul__, _T.__rmatmul__),
]
POWER = [*forms("pow", "square"), _T.__pow__, _T.__ipow__]
MAXIMUM = forms("amax", "max")
LARGER = forms("maximum", "fmax")
CHOICE = [torch.where, _T.where]
BLANKED = forms("masked_fill")
LINEAR_IN_PLACE = [
    *(getattr(_T, f"{name}_") for name in ("add", "sub", "neg", "copy", "zero", "fill")),
    *(
        getattr(_T, f"{name}_")
        for name in ("squeeze", "unsqueeze", "transpose", "t", "requires_grad", "detach")
    ),
    *(_T.__iadd__, _T.__isub__, _T.__setitem__),
    *(getattr(_T, f"index_{name}_") for name in ("put", "copy", "add", "fill")),
    *(_T.scatter_, _T.scatter_add_),
]


class Semantics(TorchFunctionMode):
    """Mode in which the gradients of a forward pass are the projections of the deconvnet."""

    def __init__(self) -> None:
        super().__init__()
        self.origins = Origins()
        self.replaced: dict[Any, Callable[..., Any]] = {}
        for calls, replacement in (
            (RECTIFIED, self._rectify),
            (CONSTANT, self._constant),
            (STATISTIC, self._constant),
            (DIVISION, self._divide),
            ([_T.__rtruediv__, _T.__rdiv__], self._constant),  # a number divided by a tensor
            (PRODUCT, self._multiply),
            (POWER, self._power),
            (MAXIMUM, self._maximum),
            (LARGER, self._larger),
            (CLAMPED, self._clamp),
            (CHOICE, self._choose),
            (BLANKED, self._blank),
            ([_T.__setitem__], self._set),
            ([F.layer_norm, torch.layer_norm], self._layer_norm),
            ([torch.native_layer_norm, torch.native_group_norm], self._unknown),
            ([F.rms_norm, torch.rms_norm], self._rms_norm),
            ([F.group_norm, torch.group_norm], self._group_norm),
            ([F.instance_norm], self._instance_norm),
            ([F.batch_norm, torch.batch_norm], self._batch_norm),
            ([F.normalize], self._normalize),
            ([F.local_response_norm], self._local_response_norm),
            ([F.scaled_dot_product_attention], self._attention),
            ([F.multi_head_attention_forward], self._multi_head),
            ([F.max_unpool2d], self._max_unpool),
            ([F.interpolate], self._interpolate),
            ([F.threshold, torch.threshold], self._threshold),
            ([F.grid_sample, torch.grid_sampler], self._of_first),
            ([torch.conv1d, torch.conv2d, torch.conv3d], self._of_first),
            (LAYERS, self._recurrent_layer),
            (CELLS, self._recurrent_cell),
        ):
            for call in calls:
                self.replaced[call] = replacement

    def __torch_function__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        origins = self.origins.after(call, args, kwargs)
        result = self._result(call, args, kwargs)
        self.origins.note(result, origins)
        return result

    def _result(self, call: Any, args: Any, kwargs: Any) -> Any:
        replacement = self.replaced.get(call)
        if not any(map(_depends_on_the_images, (*args, *kwargs.values()))):
            return call(*args, **kwargs)
        if replacement is not None:
            return replacement(call, *args, **kwargs)
        if str(call).startswith("torchvision."):
            return self._of_first(call, *args, **kwargs)
        if overwrites(call) and call not in LINEAR_IN_PLACE:
            # an in-place call on a view has no name that `audit` could check
            raise Unverifiable(f"there is no second implementation of {_name(call)}")
        return call(*args, **kwargs)

    def rectify(self, x: Tensor, value: Tensor, gain: float = 1.0) -> Tensor:
        return projected(x, value, lambda signal: gain * signal.clamp_min(0))

    def _rectify(self, call: Any, input: Tensor, *rest: Any, **options: Any) -> Any:
        if call in RELU6 and self.origins.hard(input):
            return self._constant(call, input, *rest, **options)  # a hard sigmoid
        value, overwrites = _value(call, input, rest, options)
        if not overwrites:
            return self.rectify(input, value)
        return input.copy_(self.rectify(input.clone(), value))

    def _constant(self, call: Any, input: Tensor, *rest: Any, **options: Any) -> Any:
        value, overwrites = _value(call, input, rest, options)
        return input.copy_(value) if overwrites else value

    def _divide(self, call: Any, input: Any, other: Any, **options: Any) -> Any:
        if options.get("rounding_mode"):
            raise Unverifiable("there is no second implementation of divisions that round")
        other = other.detach() if isinstance(other, Tensor) else other
        return call(input, other, **options)

    def _multiply(self, call: Any, input: Any, other: Any) -> Any:
        """Multiply copies, because the factors that autograd saves must not be overwritten later."""
        for x, gate in ((input, other), (other, input)):
            if call in TIMES and (gain := self.origins.gate(x, gate)):
                value = x.detach() * gate.detach()
                if overwrites(call):
                    return input.copy_(self.rectify(x.clone(), value, gain))
                return self.rectify(x, value, gain)
        one, two = (n.clone() if isinstance(n, Tensor) else n for n in (input, other))
        if overwrites(call):
            return input.copy_(one * two)
        return call(one, two)

    def _power(self, call: Any, input: Tensor, *exponent: Any) -> Any:
        name = call.__name__.strip("_")
        n = 2 if name == "square" else exponent[0]
        if n == 2:
            product = input.clone() * input.clone()
            return input.copy_(product) if call.__name__ in ("pow_", "square_", "__ipow__") else product
        if bool(torch.as_tensor(n < 0).any()):
            return self._constant(call, input, n)
        return self._plain(call, input, n.detach() if isinstance(n, Tensor) else n)

    def _maximum(self, call: Any, input: Tensor, *rest: Any, **options: Any) -> Any:
        if call not in forms("amax"):
            if rest and isinstance(rest[0], Tensor):
                return self._larger(call, input, rest[0])
            return call(input, *rest, **options)  # supported with a dimension; `audit` raises otherwise
        return self.amax(input, *rest, **options)

    def _larger(self, call: Any, input: Tensor, other: Tensor) -> Any:
        """Rectify the maximum of x and 0 (ReLU), or of x and a fraction of x (LeakyReLU)."""
        for x, floor in ((input, other), (other, input)):
            slope = self.origins.multiple(x, floor)
            if is_zero(floor) or (slope is not None and 0 <= slope < 1):
                return self.rectify(x, call(input.detach(), other.detach()))
        return call(input, other)

    def _clamp(self, call: Any, input: Tensor, min: Any = None, max: Any = None) -> Any:
        bounds = (min,) if max is None else (min, max)
        return self._rectify(call, input, *bounds) if is_zero(min) else self._plain(call, input, *bounds)

    def _plain(self, call: Any, *args: Any) -> Any:
        """Return the call with its own gradient, or raise if it works in place."""
        if overwrites(call):
            raise Unverifiable(f"there is no second implementation of {_name(call)}")
        return call(*args)

    def _threshold(
        self, call: Any, input: Tensor, threshold: float, value: float, inplace: bool = False
    ) -> Any:
        if threshold == 0 == value:
            return self._rectify(call, input, threshold, value, inplace=inplace)
        if inplace:
            raise Unverifiable("there is no second implementation of a threshold in place")
        return call(input, threshold, value)

    def _of_first(self, call: Any, input: Any, *rest: Any, **options: Any) -> Any:
        """Return a call of which only the first argument receives a signal."""
        given = [a.detach() if isinstance(a, Tensor) else a for a in rest]
        named = {name: a.detach() if isinstance(a, Tensor) else a for name, a in options.items()}
        return call(input, *given, **named)

    def _choose(self, call: Any, *args: Any) -> Any:
        """Rectify a choice of x on one side of zero, and of 0 or a multiple of x on the other side."""
        mask, one, other = args if call is torch.where else (args[1], args[0], args[2])
        for x, rest, side in ((one, other, "above"), (other, one, "below")):
            chosen = is_zero(rest) or self.origins.multiple(x, rest) is not None
            if isinstance(x, Tensor) and self.origins.sign(mask, x) == side and chosen:
                value = call(*(a.detach() if isinstance(a, Tensor) else a for a in args))
                return self.rectify(x, value)
        return call(*args)

    def _blank(self, call: Any, input: Tensor, mask: Tensor, value: Any) -> Any:
        if self.origins.sign(mask, input) == "below" and is_zero(value):
            return self._rectify(call, input, mask, value)
        return self._plain(call, input, mask, value)

    def _set(self, call: Any, input: Tensor, key: Any, value: Any) -> None:
        if self.origins.sign(key, input) == "below" and is_zero(value):
            input.copy_(self.rectify(input.clone(), input.detach().masked_fill(key, 0)))
        else:
            call(input, key, value)

    def amax(self, input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
        dims = dimensions(dim, input.dim())
        others = [d for d in range(input.dim()) if d not in dims]
        lines = input.permute(*others, *dims).flatten(len(others))  # (others, reduced dimensions)
        place = (lines == lines.amax(-1, keepdim=True)).int().argmax(-1, keepdim=True)
        highest = lines.gather(-1, place).squeeze(-1)
        if keepdim:
            highest = highest.reshape([1 if d in dims else n for d, n in enumerate(input.shape)])
        return highest

    def normalised(self, x: Tensor, value: Tensor, scale: Tensor) -> Tensor:
        """Return `value`, with a projection that multiplies the signal by a constant scale."""
        return projected(x, value, lambda signal: signal * scale)

    def _layer_norm(
        self,
        call: Any,
        input: Tensor,
        normalized_shape: Any,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        *rest: Any,
    ) -> Any:
        dims = tuple(range(-len(tuple(normalized_shape)), 0))
        x = input.detach()
        scale = (x.var(dims, correction=0, keepdim=True) + eps) ** -0.5
        return self.normalised(
            input, call(x, normalized_shape, weight, bias, eps), scale if weight is None else scale * weight
        )

    def _rms_norm(
        self,
        call: Any,
        input: Tensor,
        normalized_shape: Any,
        weight: Tensor | None = None,
        eps: float | None = None,
    ) -> Any:
        dims = tuple(range(-len(tuple(normalized_shape)), 0))
        x = input.detach()
        scale = (
            (x * x).mean(dims, keepdim=True) + (torch.finfo(x.dtype).eps if eps is None else eps)
        ) ** -0.5
        return self.normalised(
            input, call(x, normalized_shape, weight, eps), scale if weight is None else scale * weight
        )

    def _group_norm(
        self,
        call: Any,
        input: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
        *rest: Any,
    ) -> Any:
        x = input.detach()
        variance = x.reshape(len(x), num_groups, -1).var(2, correction=0)  # (B, G)
        scale = ((variance + eps) ** -0.5).repeat_interleave(x.shape[1] // num_groups, 1)  # (B, C)
        scale = scale if weight is None else scale * weight
        return self.normalised(
            input, call(x, num_groups, weight, bias, eps), scale.reshape(*scale.shape, *(1,) * (x.dim() - 2))
        )

    def _instance_norm(
        self,
        call: Any,
        input: Tensor,
        running_mean: Tensor | None = None,
        running_var: Tensor | None = None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        use_input_stats: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Any:
        rest = (running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
        if not use_input_stats:
            return call(input, *rest)
        if running_mean is not None:
            raise Unverifiable(
                "there is no second implementation of an instance norm with running statistics"
            )
        x = input.detach()
        scale = (x.flatten(2).var(2, correction=0) + eps) ** -0.5  # (B, C)
        scale = scale if weight is None else scale * weight
        return self.normalised(input, call(x, *rest), scale.reshape(*scale.shape, *(1,) * (x.dim() - 2)))

    def _batch_norm(self, call: Any, input: Tensor, *rest: Any, **options: Any) -> Any:
        training = rest[4] if len(rest) > 4 else options.get("training", False)
        if training:
            raise Unverifiable("a batch norm uses the statistics of the batch")
        found: Tensor = call(input, *rest, **options)
        if found.requires_grad:  # for a single image and other strides, PyTorch 2.14 returns wrong gradients
            found.register_hook(torch.Tensor.contiguous)
        return found

    def _normalize(
        self, call: Any, input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None
    ) -> Any:
        length = torch.linalg.vector_norm(input.detach(), p, dim, keepdim=True).clamp_min(eps)
        return self.normalised(input, call(input.detach(), p, dim, eps), 1 / length)

    def _local_response_norm(
        self, call: Any, input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
    ) -> Any:
        squares = F.pad(input.detach() ** 2, (0, 0, 0, 0, size // 2, (size - 1) // 2))
        mean = squares.unfold(1, size, 1).mean(-1)
        value = call(input.detach(), size, alpha, beta, k)
        return self.normalised(input, value, (k + alpha * mean) ** -beta)

    def _attention(
        self,
        call: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        boolean = attn_mask is not None and attn_mask.dtype is torch.bool
        if is_causal or enable_gqa or dropout_p or boolean:
            raise Unverifiable(
                "there is no second implementation of attention that is causal, grouped or masked by booleans"
            )
        scores = query.detach() @ key.detach().transpose(-2, -1)
        scores = scores * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if attn_mask is not None:
            scores = scores + attn_mask.detach()
        return scores.softmax(-1) @ value

    def _multi_head(self, call: Any, *args: Any, **options: Any) -> Any:
        return projected_attention(*args, **options)

    def _recurrent_layer(self, call: Any, *args: Any) -> Any:
        return recurrent_layer(call, self.rectify, *args)

    def _recurrent_cell(self, call: Any, *args: Any) -> Any:
        found = recurrent_cell(call, self.rectify, *args)
        return found if len(found) > 1 else found[0]

    def _max_unpool(self, call: Any, input: Tensor, indices: Tensor, *rest: Any, **options: Any) -> Any:
        """Project max-unpooling. If two values go to one position, only the last one receives the signal."""
        numbers = torch.arange(1, input.numel() + 1, dtype=torch.float64, device=input.device)
        numbers = numbers.reshape(input.shape)
        last: Tensor = call(numbers, indices, *rest, **options)

        def back(signal: Tensor) -> Tensor:
            places = indices.flatten(2)
            is_last = last.flatten(2).gather(2, places) == numbers.flatten(2)
            return (signal.flatten(2).gather(2, places) * is_last).reshape(input.shape)

        return projected(input, call(input.detach(), indices, *rest, **options), back)

    def _interpolate(self, call: Any, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Replace PyTorch's gradient, which is wrong if antialiasing rescales an axis of constant length."""
        if not kwargs.get("antialias"):
            return call(input, *args, **kwargs)
        value = call(input.detach(), *args, **kwargs)
        taps = interpolation(call, input, args, kwargs)
        apart = float((_resampled(input.detach(), taps) - value).abs().max())
        if not apart <= _MEASURED[value.dtype] * float(value.abs().max()):
            raise Unverifiable("the weights of an interpolation cannot be measured")
        back = {dim: matrix.T for dim, matrix in taps.items()}
        return projected(input, value, lambda signal: _resampled(signal, back))

    def _unknown(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        raise Unverifiable(f"there is no second implementation of {_name(call)}")


def _depends_on_the_images(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.requires_grad


_MEASURED = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-1}
_ACROSS = 3  # PyTorch's antialiased kernel is wrong for outputs that are one position wide or high


def interpolation(call: Any, input: Tensor, args: Any, kwargs: Any) -> dict[int, Tensor]:
    """Return the interpolation weights (n_in, n_out) of each spatial dimension."""
    size = call(input.detach(), *args, **kwargs).shape[2:]
    names = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
    given = dict(zip(names, args, strict=False)) | kwargs
    found = {}
    for dim, length in zip((2, 3), size, strict=True):
        this = dict(given)
        if this.get("size") is not None:
            this["size"] = tuple(length if d == dim else _ACROSS for d in (2, 3))
        else:
            factor = this["scale_factor"]
            factors = (factor, factor) if isinstance(factor, int | float) else tuple(factor)
            this["scale_factor"] = tuple(float(factors[d - 2]) if d == dim else 1.0 for d in (2, 3))
        before = input.shape[dim]
        ones = torch.eye(before, dtype=input.dtype, device=input.device)
        lines = ones[:, None].expand(before, _ACROSS, before)
        maps = (lines.mT if dim == 2 else lines)[None]  # maps with ones in a single row or column
        found[dim] = call(maps.contiguous(), **this).select(5 - dim, 0)[0]
    return found


def _resampled(x: Tensor, matrices: dict[int, Tensor]) -> Tensor:
    for dim, matrix in matrices.items():
        x = torch.tensordot(x, matrix, dims=([dim], [0])).movedim(-1, dim)
    return x


def _value(call: Any, x: Tensor, rest: Any, options: dict[str, Any]) -> tuple[Any, bool]:
    """Return the result of a call without gradients, and whether the call works in place."""
    copy = x.detach().clone()
    given = [a.detach() if isinstance(a, Tensor) else a for a in rest]
    value = call(copy, *given, **options)
    return value, isinstance(value, Tensor) and value.data_ptr() == copy.data_ptr()


def dimensions(dim: Any, count: int) -> list[int]:
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    return sorted(d % count for d in dims) or list(range(count))


_split = str.split
LINEAR = _split("""
    AccumulateGrad _ProjectedBackward AddBackward0 SubBackward0 RsubBackward0 RsubBackward1 NegBackward0
    SumBackward0 SumBackward1 MeanBackward0 MeanBackward1 AsStridedBackward0 AsStridedBackward1
    ViewBackward0 UnsafeViewBackward0 ReshapeAliasBackward0 TransposeBackward0 TransposeBackward1
    PermuteBackward0 TBackward0 ExpandBackward0 RepeatBackward0 SqueezeBackward0 SqueezeBackward1
    SqueezeBackward2 UnsqueezeBackward0
    SliceBackward0 SelectBackward0 SplitBackward0 SplitWithSizesBackward0 UnbindBackward0 CatBackward0
    StackBackward0 CloneBackward0 AliasBackward0 CopyBackwards CopySlices ToCopyBackward0 IndexBackward0
    IndexSelectBackward0 GatherBackward0 RollBackward0 ChannelShuffleBackward0 FlipBackward0 UnfoldBackward0
    Im2ColBackward0 Col2ImBackward0 ConstantPadNdBackward0 ReflectionPad1DBackward0 ReflectionPad2DBackward0
    ReplicationPad2DBackward0 MaxPool2DWithIndicesBackward0 AdaptiveMaxPool2DBackward0 MaxBackward0
    AvgPool2DBackward0 AdaptiveAvgPool2DBackward0 PixelShuffleBackward0 PixelUnshuffleBackward0
    UpsampleNearest2DBackward0 UpsampleNearestExact2DBackward0 UpsampleBilinear2DBackward0
    UpsampleBicubic2DBackward0 UpsampleBilinear2DAaBackward0 UpsampleBicubic2DAaBackward0 MaximumBackward0
    MaxPool3DWithIndicesBackward0 AvgPool3DBackward0 AdaptiveAvgPool3DBackward0 AdaptiveMaxPool3DBackward0
    ReplicationPad1DBackward0 ReplicationPad3DBackward0 ReflectionPad3DBackward0
    UpsampleNearest1DBackward0 UpsampleNearestExact1DBackward0 UpsampleLinear1DBackward0
    UpsampleNearest3DBackward0 UpsampleNearestExact3DBackward0 UpsampleTrilinear3DBackward0
""")
GATHERED = _split("""
    IndexPutBackward0 IndexAddBackward0 IndexCopyBackward0 IndexFillBackward0 ScatterBackward0
    ScatterBackward1 ScatterAddBackward0 MaskedFillBackward0 MaskedFillBackward1 MinimumBackward0 MinBackward0
    GridSampler2DBackward0 GridSampler3DBackward0 FftR2CBackward0 FftC2CBackward0 FftC2RBackward0
    ViewAsRealBackward0 ViewAsComplexBackward0 ComplexBackward0 ConjBackward0
""")
SLOPES = _split("""
    PowBackward0 PowBackward1 SqrtBackward0 ClampBackward0 ClampBackward1 ClampMinBackward0 ClampMaxBackward0
    ThresholdBackward0 AbsBackward0 LogBackward0 Log2Backward0 Log10Backward0 Log1PBackward0
""")
PRODUCTS = _split("MulBackward0 AddcmulBackward0 MmBackward0 BmmBackward0 MvBackward0 DotBackward0")
_ALLOWED = {*LINEAR, *GATHERED, *SLOPES, *PRODUCTS}
ONE_INPUT = {"DivBackward0": 0, "ConvolutionBackward0": 0, "NativeBatchNormBackward0": 0, "AddmmBackward0": 1}
"""Nodes whose gradient is their projection if only this input depends on the images."""


def audit(node: Any, known: set[Any]) -> None:
    """Raise for any node between here and the images whose gradient is not its projection."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is None or node in known:
            continue
        known.add(node)
        above = [source for source, _ in node.next_functions]
        name = node.name().rpartition("::")[2]
        if name in ONE_INPUT:
            more = [k for k, source in enumerate(above) if source is not None and k != ONE_INPUT[name]]
            if more:
                raise Unverifiable(
                    f"there is no second implementation of {name} of two maps that depend on the image"
                )
        elif name not in _ALLOWED and "BackwardFor_torchvision_" not in name:
            raise Unverifiable(f"there is no second implementation of {name}")
        waiting += above


def _name(call: Any) -> str:
    return str(getattr(call, "__name__", call))
