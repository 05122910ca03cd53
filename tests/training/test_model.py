"""The whole model: SCLRE written out, answers in each context, and what freezing freezes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.backends import cudnn

from training.config import Config, CrossEntropyConfig, SclreConfig
from training.data.sampling import MOMENTS
from training.errors import ConfigError
from training.losses import contrastive_adjustment, target_adjustment
from training.methods import Answer
from training.methods.cross_entropy import CrossEntropy
from training.methods.sclre import SCLRE
from training.model import build_model
from training.predict import answer_all, evaluating, extract_features

SMALL = SclreConfig(hidden=24, width=16, heads=4, key_width=8)
FEATURES, SUPERCLASSES = 20, 3
RESNET = {"name": "resnet18", "stem": "cifar"}


def sclre(bank: int = 5, **options: Any) -> SCLRE:
    """A head whose BatchNorm has seen something, and whose attention is far from uniform."""
    head = SCLRE(FEATURES, SUPERCLASSES, SMALL.model_copy(update=options))
    for weight in head.attention.parameters():
        nn.init.normal_(weight, std=0.8)
    head.losses(torch.randn(16, FEATURES) * 2 + 1, torch.arange(16) % SUPERCLASSES)
    head.eval().fill_bank(torch.randn(bank, FEATURES))
    return head.double()


def draw(n: int) -> Tensor:
    return torch.randn(n, FEATURES, dtype=torch.float64)


def assert_same(one: Answer, other: Answer) -> None:
    for name, value in vars(one).items():
        torch.testing.assert_close(value, getattr(other, name), rtol=1e-10, atol=1e-10)


def rows(answer: Answer, which: Any) -> Answer:
    return Answer(*(None if part is None else part[which] for part in vars(answer).values()))


def test_sclre_has_the_published_shapes() -> None:
    head = SCLRE(2048, 7, SclreConfig())
    assert [tuple(p.shape) for p in head.projection.parameters()] == [
        (512, 2048),
        (512,),
        (512,),
        (128, 512),
        (128,),
    ]
    attention = {name: tuple(p.shape) for name, p in head.attention.named_parameters()}
    assert attention == {
        "query.weight": (256, 128),
        "key.weight": (256, 128),
        "value.weight": (128, 128),
    }
    assert head.attention.heads == 8
    assert head.attention.scale == pytest.approx((256 / 8) ** -0.5)
    assert head.anchors.shape == (7, 128)
    assert not head.anchors.requires_grad


@pytest.mark.parametrize("mean", ["pairs", "batch"])
def test_the_loss_is_the_weighted_sum_of_the_papers_three(mean: str) -> None:
    head = sclre(alpha=0.3, target_weight=0.7, temperature=0.4, contrastive_mean=mean)
    x, y = draw(8), torch.arange(8) % SUPERCLASSES
    v = F.normalize(head.attention(head.projection(x)), dim=1)
    torch.testing.assert_close(v.norm(dim=1), torch.ones(8, dtype=torch.float64))
    contrastive = contrastive_adjustment(v, y, 0.4, cast(Any, mean))
    cross_entropy = F.cross_entropy(head.classifier(v), y)
    target = target_adjustment(v, y, head.anchors, 0.4)
    got = head.losses(x, y)
    torch.testing.assert_close(got["loss"], 0.3 * contrastive + 0.7 * cross_entropy + 0.7 * target)
    torch.testing.assert_close(got["contrastive"], contrastive.detach())
    torch.testing.assert_close(got["cross_entropy"], cross_entropy.detach())
    torch.testing.assert_close(got["target"], target.detach())
    assert [name for name, part in got.items() if part.requires_grad] == ["loss"]


def test_every_weight_of_the_head_gets_a_gradient() -> None:
    head = sclre().train()
    head.losses(draw(8), torch.arange(8) % SUPERCLASSES)["loss"].backward()
    for name, p in head.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


@torch.no_grad()
@settings(deadline=None, max_examples=20)
@given(order=st.lists(st.integers(0, 5), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_a_served_answer_is_the_same_alone_in_any_batch_and_in_any_order(
    order: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    head, x = sclre(), draw(6)
    together = head.answer(x[order], "bank")
    for place, i in enumerate(order):
        assert_same(rows(together, [place]), head.answer(x[i : i + 1], "bank"))


@torch.no_grad()
def test_answers_of_the_papers_protocol_do_depend_on_the_batch() -> None:
    head, x = sclre(), draw(6)
    whole, part = head.answer(x, "batch"), head.answer(x[:3], "batch")
    assert (whole.logits[:3] - part.logits).abs().max() > 1e-3
    assert whole.bank_weights is None


@torch.no_grad()
def test_alone_is_a_batch_of_one_and_a_bank_of_none() -> None:
    head, x = sclre(), draw(4)
    lone = head.answer(x, "lone")
    for i in range(4):
        assert_same(rows(lone, [i]), head.answer(x[i : i + 1], "batch"))
    head.fill_bank(draw(0))
    empty = head.answer(x, "bank")
    torch.testing.assert_close(empty.logits, lone.logits)
    torch.testing.assert_close(empty.embedding, lone.embedding)


@torch.no_grad()
def test_a_bank_is_filled_with_the_keys_and_values_of_its_photos() -> None:
    head, bank = sclre(bank=0), draw(7)
    head.fill_bank(bank)
    z = head.projection(bank)
    torch.testing.assert_close(head.bank_keys, z @ head.attention.key.weight.T)
    torch.testing.assert_close(head.bank_values, z @ head.attention.value.weight.T)
    torch.testing.assert_close(head.represent(bank), z)
    other = SCLRE(FEATURES, SUPERCLASSES, SMALL).double().eval()
    other.resize_bank(7)
    other.load_state_dict(head.state_dict())
    x = draw(3)
    assert_same(other.answer(x, "bank"), head.answer(x, "bank"))


@torch.no_grad()
def test_the_answer_is_one_linear_layer_over_a_unit_embedding() -> None:
    head, x = sclre(), draw(5)
    for context in ("bank", "batch", "lone"):
        answer = head.answer(x, cast(Any, context))
        norms = answer.embedding.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))
        expected = F.linear(answer.embedding, head.classifier.weight, head.classifier.bias)
        torch.testing.assert_close(answer.logits, expected)


@torch.no_grad()
def test_the_baseline_answers_the_same_in_every_context() -> None:
    head, x = CrossEntropy(FEATURES, SUPERCLASSES).double(), draw(4)
    answers = [head.answer(x, cast(Any, c)) for c in ("bank", "batch", "lone")]
    for answer in answers:
        torch.testing.assert_close(answer.logits, head.classifier(x))
        torch.testing.assert_close(answer.embedding, F.normalize(x, dim=1))
        assert answer.bank_weights is None
        assert answer.self_weight is None
    y = torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(head.losses(x, y)["loss"], F.cross_entropy(head.classifier(x), y))


@torch.no_grad()
def naive_mixed_loss(head: CrossEntropy, x: Tensor, y: Tensor, config: CrossEntropyConfig) -> float:
    """Photo by photo and number by number, from the same draws."""
    random = np.random.default_rng(torch.initial_seed())
    n, d = x.shape
    share, order = 1.0, list(range(n))
    if config.mixup:
        share = random.beta(config.mixup, config.mixup)
        order = list(random.permutation(n))
    kept = random.random((n, d)) >= config.dropout
    total = 0.0
    for i, j in enumerate(order):
        mixed = [share * float(x[i, k]) + (1 - share) * float(x[j, k]) for k in range(d)]
        left = torch.tensor([m * kept[i, k] / (1 - config.dropout) for k, m in enumerate(mixed)])
        said = head.classifier(left.double()).log_softmax(dim=0)
        for label, weight in ((y[i], share), (y[j], 1 - share)):
            smooth = [0.1 / len(said) + 0.9 * (k == label) for k in range(len(said))]
            total -= weight * sum(float(p) * float(s) for p, s in zip(smooth, said, strict=True))
    return total / n


@pytest.mark.parametrize(("dropout", "mixup"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.4), (0.3, 1.0)])
@pytest.mark.parametrize("step", [0, 1])
def test_dropout_and_mixup_of_features_are_a_naive_version(
    dropout: float, mixup: float, step: int
) -> None:
    config = CrossEntropyConfig(dropout=dropout, mixup=mixup)
    head, x = CrossEntropy(FEATURES, SUPERCLASSES, 0.1, config).double(), draw(7)
    y = torch.arange(7) % SUPERCLASSES
    before = x.clone()
    torch.manual_seed(7 * MOMENTS + step)
    got = head.losses(x, y)["loss"].item()
    assert got == pytest.approx(naive_mixed_loss(head, x, y, config), rel=1e-6)
    torch.testing.assert_close(x, before)
    assert head.losses(x, y)["loss"].item() == got  # whatever else was drawn meanwhile
    torch.manual_seed(7 * MOMENTS + step + 2)
    assert (head.losses(x, y)["loss"].item() == got) == (dropout == mixup == 0.0)
    torch.testing.assert_close(head.answer(x, "bank").logits, head.classifier(x))


def test_each_step_leaves_others_out_and_keeps_the_mean() -> None:
    head = CrossEntropy(2000, 2, config=CrossEntropyConfig(dropout=0.5))
    seen: list[Tensor] = []
    head.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for step in range(2):
        torch.manual_seed(step)
        head.losses(torch.ones(8, 2000), torch.zeros(8, dtype=torch.int64))
    assert not torch.equal(seen[0], seen[1])
    assert set(torch.cat(seen).unique().tolist()) == {0.0, 2.0}
    assert float(torch.cat(seen).mean()) == pytest.approx(1.0, abs=0.03)


def pixels_of(n: int, px: int = 32) -> Tensor:
    return torch.randint(0, 256, (n, px, px, 3), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("backbone", "groups"),
    [
        ({"name": "resnet18", "stem": "cifar"}, 3),
        ({"name": "efficientnet_lite0", "stem": "imagenet"}, 4),
    ],
)
def test_frozen_parts_and_their_statistics_stay_while_the_rest_learns(
    tiny_config: Callable[..., Config], backbone: dict[str, Any], groups: int
) -> None:
    config = tiny_config(backbone={**backbone, "frozen_groups": groups})
    model = build_model(config, 3)
    parts = cast(Any, model.backbone).groups()
    assert {p for g in parts for p in g.parameters()} == set(model.backbone.parameters())
    before = [{k: v.clone() for k, v in part.state_dict().items()} for part in parts]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    model.eval().train()  # as an evaluation between epochs does
    for _ in range(2):
        optimiser.zero_grad()
        model.losses(pixels_of(6), torch.arange(6) % 3)["loss"].backward()
        optimiser.step()
    for index, part in enumerate(parts):
        changed = [k for k, v in part.state_dict().items() if not torch.equal(v, before[index][k])]
        if index < groups:
            assert changed == []
            assert not any(p.requires_grad for p in part.parameters())
        else:
            assert any(k.endswith("running_mean") for k in changed)
            assert any(k.endswith("weight") for k in changed)


def test_more_frozen_parts_than_there_are_is_an_error_that_says_how_many(
    tiny_config: Callable[..., Config],
) -> None:
    with pytest.raises(ConfigError, match="efficientnet_lite0 has 18 groups, got 19"):
        build_model(tiny_config(backbone={"frozen_groups": 19}), 3)


def test_widths_that_do_not_go_together_are_an_error_of_the_record(
    tiny_config: Callable[..., Config],
) -> None:
    with pytest.raises(ConfigError, match="tiny: expected widths that 5 heads divide"):
        build_model(tiny_config(sclre={"heads": 5}), 3)


def test_a_bank_too_small_for_one_item_of_each_superclass_is_an_error(
    tiny_config: Callable[..., Config],
) -> None:
    with pytest.raises(ConfigError, match="an item for each of 3 superclasses at least, got 2"):
        build_model(tiny_config(bank={"size": 2}), 3)


@torch.no_grad()
def test_features_do_not_depend_on_how_photos_are_batched(
    tiny_config: Callable[..., Config],
) -> None:
    model = build_model(tiny_config(backbone=RESNET), 3).train()
    pixels = pixels_of(7, 16)
    whole = extract_features(model, pixels.numpy(), "cpu")
    apart = extract_features(model, pixels.numpy(), "cpu", batch=2)
    assert whole.dtype == torch.float32
    torch.testing.assert_close(whole, apart, rtol=1e-4, atol=1e-5)
    assert model.training  # as it was
    with evaluating(model):
        torch.testing.assert_close(model.features(pixels), whole, rtol=1e-4, atol=1e-5)
        as_float = model.features(pixels.float())
        torch.testing.assert_close(as_float, whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_bf16_is_near_to_fp32_and_full_precision_is_fp32(
    tiny_config: Callable[..., Config],
) -> None:
    mixed = build_model(tiny_config(backbone=RESNET, train={"precision": "bf16"}), 3).eval()
    exact = build_model(tiny_config(backbone=RESNET), 3).eval()
    exact.load_state_dict(mixed.state_dict())
    pixels = pixels_of(4, 16)
    features, expected = mixed.features(pixels), exact.features(pixels)
    assert features.dtype == torch.float32
    assert not torch.equal(features, expected)
    assert float((features - expected).norm() / expected.norm()) < 0.05
    with mixed.full_precision():
        assert not cudnn.allow_tf32  # which a GPU's convolutions would be computed in
        torch.testing.assert_close(mixed.features(pixels), expected, rtol=1e-6, atol=1e-6)
    assert cudnn.allow_tf32
    torch.testing.assert_close(mixed.features(pixels), features)


@torch.no_grad()
def test_batch_answers_come_back_in_order_and_depend_on_the_shuffle(
    tiny_config: Callable[..., Config],
) -> None:
    model = build_model(tiny_config(), 3).eval()
    for weight in cast(SCLRE, model.head).attention.parameters():
        nn.init.normal_(weight, std=0.8)
    features = torch.randn(70, 1280)
    got = answer_all(model, features, "batch", seed=3)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(3))
    for members in (order[:64], order[64:]):
        expected = model.method.answer(features[members], "batch").logits
        torch.testing.assert_close(got.logits[members], expected)
    assert not torch.equal(got.logits, answer_all(model, features, "batch", seed=4).logits)
