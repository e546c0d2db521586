"""Layers with an episode axis against PyTorch's own, one episode at a time."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.layers import (
    Bottleneck,
    EpisodeLayerNorm,
    EpisodeLinear,
    TemporalDepthwiseConv,
    TemporalEmbedding,
    hidden_width,
    init_per_episode,
    kaiming_uniform,
    normed_linear,
    trunc_normal,
    zeros,
)
from fewshot_i2v.models.encoders.block import LayerNorm
from tests.counted import counting

Layer = TypeVar("Layer", bound=nn.Module)
E, CLIPS, T, L, C = 3, 2, 4, 5, 6


def _generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _tokens(channels: int = C) -> Tensor:
    shape = (E, CLIPS, T, L, channels)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _moved(layer: Layer) -> Layer:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    return layer


def test_linear_is_one_linear_map_per_episode() -> None:
    layer, x = _moved(EpisodeLinear(_generators(1, 2, 3), C, 7)), _tokens()
    expected = torch.stack(
        [
            functional.linear(x[e], layer.weight[e].double().T, layer.bias[e].double())
            for e in range(E)
        ]
    )
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x, 0.3), 0.3 * expected)


def test_linear_takes_views_and_keeps_the_type_of_the_tokens() -> None:
    layer, x = _moved(EpisodeLinear(_generators(1, 2, 3), C, 7)), _tokens()
    turned = layer(x.transpose(2, 3))
    torch.testing.assert_close(turned.transpose(2, 3), layer(x))
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32


def test_linear_weights_are_stored_for_a_strided_product() -> None:
    layer = EpisodeLinear(_generators(1, 2, 3), C, 7)
    assert layer.weight.shape == (E, C, 7)
    assert layer.weight.is_contiguous()
    assert not layer.bias.any()


def test_layer_norm_starts_as_a_copy_and_is_trained_per_episode() -> None:
    frozen = LayerNorm(torch.linspace(0.5, 2, C), torch.linspace(-1, 1, C), eps=1e-3)
    layer, x = EpisodeLayerNorm(frozen, E), _tokens().float()
    torch.testing.assert_close(layer(x), frozen(x))
    assert layer.weight.data_ptr() != frozen.weight.data_ptr()
    _moved(layer)
    for e in range(E):
        expected = functional.layer_norm(x[e], (C,), layer.weight[e], layer.bias[e], 1e-3)
        torch.testing.assert_close(layer(x)[e], expected)
    assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_layer_norm_copies_one_held_in_bfloat16() -> None:
    frozen = LayerNorm(torch.linspace(0.5, 2, C).bfloat16(), torch.linspace(-1, 1, C).bfloat16())
    layer = EpisodeLayerNorm(frozen, 2)
    assert layer.weight.dtype == torch.float32
    assert torch.equal(layer.bias[1].bfloat16(), frozen.bias)


@pytest.mark.parametrize("scale", [0.5, 0.1, 1.702])
def test_a_scale_is_that_of_the_output(scale: float) -> None:
    layer, x = _moved(EpisodeLinear(_generators(1, 2, 3), C, 5)).double(), _tokens()
    torch.testing.assert_close(layer(x, scale), scale * layer(x))
    if scale == 0.5:  # a power of two changes no digit
        assert torch.equal(layer(x, scale), scale * layer(x))


def test_a_scale_costs_no_pass_over_the_gradient_of_the_output() -> None:
    layer, x = EpisodeLinear(_generators(1, 2, 3), C, 5).to("meta"), _tokens().to("meta").float()
    counts = []
    for scale in (1.0, 0.5):
        layer.zero_grad()
        with counting() as count:
            y = layer(x.detach().requires_grad_(), scale)
            torch.autograd.backward(y, torch.empty_like(y))
        counts.append(count)
    extra = counts[1].by_operation - counts[0].by_operation
    assert extra == {"mul": 4}, "weight and bias, forward and backward"
    parameters = E * (C * 5 + 5)
    # each reads and writes the parameters, in 4 bytes a value
    assert counts[1].bytes - counts[0].bytes == 4 * 4 * parameters


def test_temporal_convolution_is_a_depthwise_one() -> None:
    layer, x = _moved(TemporalDepthwiseConv(E, C)), _tokens()
    for e in range(E):
        series = x[e].permute(0, 2, 3, 1).reshape(-1, C, T)
        weight, bias = layer.weight[e].double().unsqueeze(1), layer.bias[e].double()
        expected = functional.conv1d(series, weight, bias, padding=1, groups=C)
        expected = expected.reshape(CLIPS, L, C, T).permute(0, 3, 1, 2)
        torch.testing.assert_close(layer(x)[e], expected)


def test_temporal_convolution_gradients() -> None:
    layer = _moved(TemporalDepthwiseConv(E, C)).double()
    assert torch.autograd.gradcheck(layer, (_tokens()[:, :1, :, :2].requires_grad_(),))


def test_temporal_convolution_can_be_differentiated_twice() -> None:
    layer = _moved(TemporalDepthwiseConv(E, C)).double()
    x = _tokens()[:, :1, :, :2].requires_grad_()

    def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    inputs = (x, layer.weight.detach().requires_grad_(), layer.bias.detach().requires_grad_())
    assert torch.autograd.gradcheck(convolve, inputs)
    assert torch.autograd.gradgradcheck(convolve, inputs)


def test_temporal_convolution_of_a_single_frame() -> None:
    layer, x = _moved(TemporalDepthwiseConv(E, C)), _tokens()[:, :, :1]
    middle = layer.weight[..., 1].double()[:, None, None, None]
    bias = layer.bias.double()[:, None, None, None]
    torch.testing.assert_close(layer(x), middle * x + bias)


def test_temporal_embedding_is_one_vector_per_frame_and_episode() -> None:
    layer, x = TemporalEmbedding(E, T, C), _tokens()
    assert torch.equal(layer(x), x)
    _moved(layer)
    added = layer(x) - x
    expected = layer.table.double()[:, None, :, None].expand_as(x)
    torch.testing.assert_close(added, expected)
    with pytest.raises(AdapterError, match=r"clips of 3 frames.*built for 4"):
        layer(x[:, :, :3])


def test_no_layer_modifies_its_input() -> None:
    x = _tokens()
    before = x.clone()
    layers = (
        EpisodeLinear(_generators(1, 2, 3), C, C),
        EpisodeLayerNorm(LayerNorm(torch.ones(C), torch.zeros(C)), E),
        TemporalDepthwiseConv(E, C),
        TemporalEmbedding(E, T, C),
        Bottleneck(_generators(1, 2, 3), C, 2, activation="relu", skip=True),
    )
    for layer in layers:
        _moved(layer)(x)
        assert torch.equal(x, before)


def test_draws_of_an_episode_do_not_depend_on_its_neighbours() -> None:
    for init in (trunc_normal, kaiming_uniform, zeros):
        together = init_per_episode(init, _generators(1, 2, 3), 8, 4)
        alone = init_per_episode(init, _generators(2), 8, 4)
        assert torch.equal(together[1], alone[0])


def test_initial_values() -> None:
    normal = init_per_episode(trunc_normal, _generators(1), 256, 64)
    assert abs(float(normal.std()) - 0.02) < 5e-4
    assert abs(float(normal.mean())) < 5e-4
    uniform = init_per_episode(kaiming_uniform, _generators(1), 256, 64)
    assert float(uniform.abs().max()) <= 1 / 16
    assert abs(float(uniform.std()) - 1 / 16 / 3**0.5) < 5e-4
    assert not init_per_episode(zeros, _generators(1), 256, 64).any()


@pytest.mark.parametrize("activation", ["gelu", "relu", "none"])
@pytest.mark.parametrize("skip", [False, True])
def test_bottleneck_is_its_equation(activation: str, skip: bool) -> None:
    layer = _moved(
        Bottleneck(_generators(1, 2, 3), C, 2, activation=activation, skip=skip, scale=0.5)  # type: ignore[arg-type]
    ).double()
    x = _tokens()
    between = {"gelu": nn.GELU(), "relu": nn.ReLU(), "none": nn.Identity()}[activation]
    for e in range(E):
        hidden = between(x[e] @ layer.down.weight[e] + layer.down.bias[e])
        branch = 0.5 * (hidden @ layer.up.weight[e] + layer.up.bias[e])
        torch.testing.assert_close(layer(x)[e], x[e] + branch if skip else branch)


@pytest.mark.parametrize("skip", [False, True])
def test_bottleneck_without_activation_is_a_linear_map(skip: bool) -> None:
    layer = _moved(Bottleneck(_generators(1, 2, 3), C, 2, activation="none", skip=skip, scale=0.3))
    x = _tokens()
    matrix, constant = layer.linear_map(1)
    assert matrix.dtype == torch.float64
    torch.testing.assert_close(layer(x)[1], x[1] @ matrix.T + constant)


def test_bottleneck_with_an_activation_has_no_matrix() -> None:
    layer = Bottleneck(_generators(1), C, 2, activation="relu")
    with pytest.raises(AdapterError, match="relu"):
        layer.linear_map(0)


def test_bottleneck_starts_by_adding_nothing() -> None:
    x = _tokens()
    generators = _generators(1, 2, 3)
    assert torch.equal(Bottleneck(generators, C, 2, activation="gelu", skip=True)(x), x)
    assert not Bottleneck(generators, C, 2, activation="gelu")(x).any()


def test_width_of_the_middle() -> None:
    assert (hidden_width(768, 0.25), hidden_width(10, 0.25), hidden_width(2, 0.25)) == (192, 2, 1)


def _normed_layers() -> nn.ModuleList:
    norm = EpisodeLayerNorm(LayerNorm(torch.ones(C), torch.zeros(C)), E)
    return nn.ModuleList([_moved(norm), _moved(EpisodeLinear(_generators(1, 2, 3), C, 5))])


def test_a_map_of_normalised_tokens_has_scale_and_shift_folded_in() -> None:
    layers, x = _normed_layers(), (3 + 2 * _tokens().float()).requires_grad_()
    norm, linear = layers
    results = [
        (y.detach(), *torch.autograd.grad(y.pow(3).sum(), [x, *layers.parameters()]))
        for y in (normed_linear(norm, linear, x), linear(norm(x)))
    ]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    near = normed_linear(norm, linear, x.bfloat16())
    assert near.dtype == torch.bfloat16
    torch.testing.assert_close(near.detach().float(), results[0][0], rtol=0.05, atol=0.1)


def test_scale_and_shift_then_cost_no_pass_over_the_tokens() -> None:
    norm, linear = _normed_layers().to("meta")
    x = torch.empty(E, 50, 8, 17, C, device="meta", dtype=torch.bfloat16)
    with counting() as count:
        y = normed_linear(norm, linear, x)
        torch.autograd.backward(y, torch.empty_like(y))
    # normalised tokens are written once, and read by the product and the gradient of its weight
    statistics = 2 * 4 * x[..., 0].numel()
    tokens, outputs = x.numel() * x.element_size(), y.numel() * y.element_size()
    assert count.bytes < 4 * tokens + 3 * outputs + statistics + 20_000


def test_a_layer_norm_of_one_episode_is_that_of_several() -> None:
    """Alone, it is one operation each way, without passes for scale and shift."""
    several = _moved(EpisodeLayerNorm(LayerNorm(torch.ones(C), torch.zeros(C)), E))
    alone = EpisodeLayerNorm(LayerNorm(torch.ones(C), torch.zeros(C)), 1)
    alone.load_state_dict({name: row[1:2] for name, row in several.state_dict().items()})
    x = (3 + 2 * _tokens().float()).requires_grad_()
    results = []
    for y in (alone(x[1:2]), several(x)[1:2]):
        y.pow(3).sum().backward()
        results.append((y.detach(), x.grad))
        x.grad = None
    for ours, theirs in zip(*results, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for name, parameter in alone.named_parameters():
        expected = several.get_parameter(name).grad
        assert parameter.grad is not None
        assert expected is not None
        torch.testing.assert_close(parameter.grad, expected[1:2], rtol=1e-4, atol=1e-3)
    assert alone(x[1:2].bfloat16()).dtype == torch.bfloat16
    with counting() as count:
        y = alone.to("meta")(torch.empty(1, 2, 3, 4, C, device="meta"))
        torch.autograd.backward(y, torch.empty_like(y))
    assert count.by_operation["native_layer_norm"] == 1
    assert not {"addcmul", "mul", "sum"} & count.by_operation.keys()
