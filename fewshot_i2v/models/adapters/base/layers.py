"""Trainable layers with a leading episode axis E: E independent copies, computed side by side.

Parameters are float32 on the CPU when built (move them with `.to(device)`) and are cast to the
type of the tokens where they are used. Every copy is drawn from a generator of its own, so that
an episode starts the same whether it is tuned by itself or side by side with more episodes.
Nothing in this module reads another episode's row, modifies its input or touches a global
random state; there is no dropout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.encoders import tower

_MAX_WIDTH_FACTOR = 16

Initialiser = Callable[[Tensor, torch.Generator], object]
"""Fills the tensor of one episode in place from that episode's generator."""


def trunc_normal(weight: Tensor, generator: torch.Generator) -> None:
    """Normal values of deviation 0.02, cut off at 2, as in the code of AIM and ZeroI2V."""
    nn.init.trunc_normal_(weight, std=0.02, generator=generator)


def kaiming_uniform(weight: Tensor, generator: torch.Generator) -> None:
    """Uniform values within 1 / sqrt(inputs), PyTorch's default for a linear layer.

    This is Kaiming's rule with a = sqrt(5). `weight` is (inputs, outputs), so the inputs are
    counted on the first axis.
    """
    bound = 1.0 / math.sqrt(weight.shape[0])
    nn.init.uniform_(weight, -bound, bound, generator=generator)


def zeros(weight: Tensor, generator: torch.Generator) -> None:
    """Zeros; the generator is not used."""
    nn.init.zeros_(weight)


def init_per_episode(
    init: Initialiser, generators: Sequence[torch.Generator], *shape: int
) -> Tensor:
    """Draws one tensor per episode, each from its own generator, (E, *shape) float32."""
    rows = []
    for generator in generators:
        row = torch.empty(shape)
        init(row, generator)
        rows.append(row)
    return torch.stack(rows)


def repeat_per_episode(tensor: Tensor, episodes: int) -> Tensor:
    """Repeats a frozen tensor once per episode, (E, *shape), contiguous, float32, on the CPU.

    A tensor on the meta device, which has a shape and no values, stays on the meta device.
    """
    source = tensor.detach() if tensor.is_meta else tensor.detach().cpu()
    repeated = repeat(source.float(), "... -> e ...", e=episodes)
    # the copies share memory so far, and each is to be trained
    return repeated.clone(memory_format=torch.contiguous_format)


def broadcast_over_tokens(parameter: Tensor, x: Tensor) -> Tensor:
    """Reshapes a parameter (E, C) to broadcast over tokens (E, ..., C), in their type."""
    token_axes = (1,) * (x.dim() - 2)
    return parameter.to(x.dtype).reshape(parameter.shape[0], *token_axes, parameter.shape[-1])


def scaled(parameter: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """Multiplies a parameter by a constant, and casts it to the type of tokens afterwards."""
    if scale == 1:
        return parameter.to(dtype)
    wider = torch.promote_types(parameter.dtype, dtype)
    return (parameter.to(wider) * scale).to(dtype)


def episode_affine(
    x: Tensor, weight: Tensor, bias: Tensor, weight_scale: float, bias_scale: float
) -> Tensor:
    """Applies an affine map per episode, whose parameters are multiplied by constants.

    The constants go into the parameters. Inside the product they would cost a pass over the
    gradient of the result, which is far larger.

    Args:
        x: (E, ..., inputs).
        weight: (E, inputs, outputs).
        bias: (E, outputs).
        weight_scale: factor of the weight.
        bias_scale: factor of the bias.

    Returns:
        (E, ..., outputs), in the type of `x`.
    """
    rows = rearrange(x, "e ... inputs -> e (...) inputs")
    y = torch.baddbmm(
        rearrange(scaled(bias, bias_scale, x.dtype), "e outputs -> e 1 outputs"),
        rows,
        scaled(weight, weight_scale, x.dtype),
    )
    return y.reshape(*x.shape[:-1], y.shape[-1])


class EpisodeLinear(nn.Module):
    """An affine map per episode, `y[e] = x[e] @ weight[e] + bias[e]`.

    Args:
        generators: one per episode; E of them.
        inputs: channels of the input.
        outputs: channels of the output.
        init: draws the weight of one episode, (inputs, outputs); the bias starts at zero.

    Attributes:
        weight: (E, inputs, outputs), contiguous, so that the E products are one strided
            batched matrix product.
        bias: (E, outputs).
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        inputs: int,
        outputs: int,
        init: Initialiser = trunc_normal,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(init_per_episode(init, generators, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(len(generators), outputs))

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Applies the map times a constant `scale`; (E, ..., inputs) -> (E, ..., outputs)."""
        return episode_affine(x, self.weight, self.bias, scale, scale)


class EpisodeLayerNorm(nn.Module):
    """A trainable layer norm per episode that starts as a copy of a frozen one.

    Args:
        norm: the frozen layer norm.
        episodes: copies E.

    Attributes:
        weight: (E, D).
        bias: (E, D).
    """

    def __init__(self, norm: tower.LayerNorm, episodes: int) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight = nn.Parameter(repeat_per_episode(norm.weight, episodes))
        self.bias = nn.Parameter(repeat_per_episode(norm.bias, episodes))

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last axis of (E, ..., D) in float32; the result has the type of `x`."""
        # in bfloat16 mean and variance over D channels would lose most of their digits
        wide = x.float()
        if len(self.weight) == 1:  # one operation each way; it knows no episode axis
            weight, bias = self.weight[0], self.bias[0]
            one_episode = functional.layer_norm(wide, weight.shape, weight, bias, self.eps)
            return one_episode.to(x.dtype)
        normed = functional.layer_norm(wide, wide.shape[-1:], eps=self.eps)
        scaled = torch.addcmul(
            broadcast_over_tokens(self.bias, normed),
            normed,
            broadcast_over_tokens(self.weight, normed),
        )
        return scaled.to(x.dtype)


def initial_layer_norm(episodes: int, width: int) -> EpisodeLayerNorm:
    """Builds a trainable layer norm per episode that starts from weight 1 and bias 0."""
    return EpisodeLayerNorm(tower.LayerNorm(torch.ones(width), torch.zeros(width)), episodes)


def normed_linear(norm: EpisodeLayerNorm, linear: EpisodeLinear, x: Tensor) -> Tensor:
    """Computes `linear(norm(x))` with scale and shift of the norm folded into the map.

    So they cost no pass over the tokens, forward or backward.

    Args:
        norm: over the channels of x.
        linear: reads what it returns.
        x: (E, ..., D).

    Returns:
        (E, ..., outputs), in the type of x.
    """
    # statistics are in float32 inside, whatever the type of x
    normed = functional.layer_norm(x, x.shape[-1:], eps=norm.eps)
    weight = norm.weight.unsqueeze(-1) * linear.weight
    bias = linear.bias + (norm.bias.unsqueeze(-1) * linear.weight).sum(1)
    return episode_affine(normed, weight, bias, 1.0, 1.0)


class _ThreeTaps(torch.autograd.Function):
    """The temporal convolution with a backward pass of its own.

    That of three multiply-adds of shifted views writes a full-size gradient for each view and adds
    them up; this one writes the gradient of the input once (half the time on a CPU). It is made of
    differentiable operations, so that meta-training can differentiate it again.
    """

    generate_vmap_rule = True  # meta-training runs it in `torch.func`

    @staticmethod
    def forward(x: Tensor, bias: Tensor, before: Tensor, present: Tensor, after: Tensor) -> Tensor:
        """Computes bias + before x[t-1] + present x[t] + after x[t+1] over axis 2."""
        y = bias.expand(x.shape).contiguous()
        y[:, :, 1:].addcmul_(x[:, :, :-1], before)
        y.addcmul_(x, present)
        y[:, :, :-1].addcmul_(x[:, :, 1:], after)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ANN401 - autograd's
        """Stores what the backward pass needs."""
        x, _, before, present, after = inputs
        ctx.save_for_backward(x, before, present, after)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Returns the gradients of input, bias and taps."""
        x, before, present, after = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad * present
            grad_x[:, :, :-1].addcmul_(grad[:, :, 1:], before)
            grad_x[:, :, 1:].addcmul_(grad[:, :, :-1], after)
        products = (grad[:, :, 1:] * x[:, :, :-1], grad * x, grad[:, :, :-1] * x[:, :, 1:])
        sums = (value.sum((1, 2, 3), keepdim=True) for value in (grad, *products))
        return grad_x, *sums


class TemporalDepthwiseConv(nn.Module):
    """A convolution over three neighbouring frames, per channel and token.

    `y[t] = bias + weight[0] x[t-1] + weight[1] x[t] + weight[2] x[t+1]`; frames outside the clip
    are zero. It is computed as three multiply-adds of shifted views: a grouped convolution would
    need E x C groups and a transposition on either side. It starts at zero.

    Args:
        episodes: copies E.
        channels: channels C.

    Attributes:
        weight: (E, C, 3), taps ordered t-1, t, t+1.
        bias: (E, C).
    """

    def __init__(self, episodes: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(episodes, channels, 3))
        self.bias = nn.Parameter(torch.zeros(episodes, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Applies the convolution over axis T of (E, clips, T, L, C)."""
        taps = (broadcast_over_tokens(weight, x) for weight in self.weight.unbind(-1))
        y: Tensor = _ThreeTaps.apply(x, broadcast_over_tokens(self.bias, x), *taps)
        return y


class TemporalEmbedding(nn.Module):
    """A trainable vector per frame, added to every token of that frame. It starts at zero.

    Args:
        episodes: copies E.
        frames: frames T of a clip.
        width: channels D.

    Attributes:
        table: (E, T, D).
    """

    def __init__(self, episodes: int, frames: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(episodes, frames, width))

    def forward(self, x: Tensor) -> Tensor:
        """Adds to tokens (E, clips, T, L, D) the embedding of their frame.

        Raises:
            AdapterError: when the clips have another number of frames.
        """
        if x.shape[2] != self.table.shape[1]:
            raise AdapterError(
                f"got clips of {x.shape[2]} frames; this adapter's temporal embedding was built "
                f"for {self.table.shape[1]}; build the adapter with frames={x.shape[2]}"
            )
        # cast first: a float32 sum would not fit the frozen layers that follow
        return x + rearrange(self.table.to(x.dtype), "e t d -> e 1 t 1 d")


Activation = Literal["gelu", "relu", "none"]


class Bottleneck(nn.Module):
    """Two linear maps through a narrow middle, one copy per episode.

    `A(u) = [u +] scale * (act(u W_down + b_down) W_up + b_up)`. `W_up` and both biases start at
    zero, so that an untrained adapter adds nothing. There is no layer norm and no dropout.

    Parameters of one episode: 2 D h + h + D.

    Args:
        generators: one per episode; E of them.
        width: channels D of the tokens.
        hidden: channels h of the middle.
        activation: "gelu" (exact, with the error function), "relu" or "none".
        skip: whether the input is added to the result.
        scale: constant factor of the branch.
        init: draws `W_down`.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        width: int,
        hidden: int,
        *,
        activation: Activation,
        skip: bool = False,
        scale: float = 1.0,
        init: Initialiser = trunc_normal,
    ) -> None:
        super().__init__()
        self.activation, self.skip, self.scale = activation, skip, scale
        self.down = EpisodeLinear(generators, width, hidden, init)
        # one of the two maps alone is zero: with both, neither would ever receive a gradient
        self.up = EpisodeLinear(generators, hidden, width, zeros)

    def forward(self, u: Tensor) -> Tensor:
        """Applies the bottleneck to tokens (E, ..., D); same shape and type."""
        hidden: Tensor = self.down(u)
        if self.activation == "gelu":
            hidden = functional.gelu(hidden)
        elif self.activation == "relu":
            hidden = functional.relu(hidden)
        branch: Tensor = self.up(hidden, self.scale)
        return u + branch if self.skip else branch

    @torch.no_grad()
    def linear_map(self, episode: int) -> tuple[Tensor, Tensor]:
        """Returns matrix M (D, D) and vector c (D,) with `A(u) = M u + c`, in float64.

        Args:
            episode: which of the E copies.

        Raises:
            AdapterError: when the bottleneck has an activation and is not linear.
        """
        if self.activation != "none":
            raise AdapterError(f"a bottleneck with {self.activation} between is not a linear map")
        # weights are (inputs, outputs) here, and M is (outputs, inputs)
        (w1, b1), (w2, b2) = (
            (layer.weight[episode].double(), layer.bias[episode].double())
            for layer in (self.down, self.up)
        )
        matrix = self.scale * (w1 @ w2).T
        if self.skip:
            matrix = matrix + torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
        return matrix, self.scale * (b1 @ w2 + b2)


def hidden_width(width: int, ratio: float) -> int:
    """Channels of a bottleneck: `ratio * width` rounded down, at least 1."""
    return max(1, int(ratio * width))


def check_hidden_width(setting: str, hidden: int, width: int) -> None:
    """Refuses a layer far wider than the tower: a slip of the keyboard, which fills the memory.

    Args:
        setting: names the option in the message, such as "st-adapter width".
        hidden: channels of the layer.
        width: channels D of the tower.

    Raises:
        AdapterError: when there are more than 16 D.
    """
    if hidden > _MAX_WIDTH_FACTOR * width:
        raise AdapterError(
            f"{setting}={hidden}: more than {_MAX_WIDTH_FACTOR} times the tower's {width}"
        )
