"""Cross-instance attention against torch's own attention, and the promises of its bank mode."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from training.attention import CrossInstanceAttention

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def build(
    width: int = 12, heads: int = 4, key_width: int = 16, value_width: int = 8
) -> CrossInstanceAttention:
    """Weights large enough for attention that is far from uniform, in float64."""
    attention = CrossInstanceAttention(width, heads, key_width, value_width)
    for weight in attention.parameters():
        nn.init.normal_(weight, std=0.6)
    return attention.double()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@torch.no_grad()
def by_torch(attention: CrossInstanceAttention, z: Tensor) -> Tensor:
    """The same answer by `scaled_dot_product_attention`, one head after the other."""
    parts = []
    split = [p(z).chunk(attention.heads, dim=1) for p in (attention.query, attention.key)]
    for q, k, v in zip(*split, attention.value(z).chunk(attention.heads, dim=1), strict=True):
        parts.append(F.scaled_dot_product_attention(q[None], k[None], v[None])[0])
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize(
    ("width", "heads", "key_width", "value_width"),
    [(12, 4, 16, 8), (128, 8, 256, 128), (5, 1, 3, 7)],
)
def test_batch_attention_is_scaled_dot_product_attention_in_each_head(
    width: int, heads: int, key_width: int, value_width: int
) -> None:
    attention = build(width, heads, key_width, value_width)
    z = draw(9, width)
    torch.testing.assert_close(attention(z), by_torch(attention, z), **TIGHT)


def test_batch_attention_is_multihead_attention_with_an_identity_for_its_output_projection() -> (
    None
):
    attention = build(16, 4, 16, 16)
    theirs = nn.MultiheadAttention(16, 4, bias=False, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        projections = (attention.query, attention.key, attention.value)
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.out_proj.weight.copy_(torch.eye(16))
    z = draw(7, 16)
    expected = theirs(z[None], z[None], z[None], need_weights=False)[0][0]
    torch.testing.assert_close(attention(z), expected, **TIGHT)


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(7)), seed=st.integers(0, 1000))
def test_reordering_a_batch_reorders_its_answers(order: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    attention, z = build(), draw(7, 12)
    torch.testing.assert_close(attention(z)[order], attention(z[order]), **TIGHT)


@torch.no_grad()
def test_bank_mode_is_attention_over_the_bank_and_the_photo_itself() -> None:
    attention, bank, z = build(), draw(5, 12), draw(6, 12)
    got = attention.attend(z, *attention.remember(bank))
    for i in range(len(z)):
        alone = by_torch(attention, torch.cat([bank, z[i : i + 1]]))[-1]
        torch.testing.assert_close(got.out[i], alone, **TIGHT)


@torch.no_grad()
def test_weights_are_the_softmax_over_bank_and_self_averaged_over_heads() -> None:
    attention, bank, z = build(), draw(5, 12), draw(3, 12)
    got = attention.attend(z, *attention.remember(bank))
    for i in range(len(z)):
        context = torch.cat([bank, z[i : i + 1]])
        expected = torch.zeros(6, dtype=torch.float64)
        for q, k in zip(
            attention.query(z[i]).chunk(4), attention.key(context).chunk(4, 1), strict=True
        ):
            expected += (k @ q / len(q) ** 0.5).softmax(0) / 4
        torch.testing.assert_close(got.bank_weights[i], expected[:-1], **TIGHT)
        torch.testing.assert_close(got.self_weight[i], expected[-1], **TIGHT)


@torch.no_grad()
@settings(deadline=None, max_examples=30)
@given(
    order=st.lists(st.integers(0, 7), min_size=1, max_size=12),
    items=st.integers(0, 9),
    seed=st.integers(0, 1000),
)
def test_in_bank_mode_company_and_order_change_nothing(
    order: list[int], items: int, seed: int
) -> None:
    torch.manual_seed(seed)
    attention, z = build(), draw(8, 12)
    bank = attention.remember(draw(items, 12))
    together = attention.attend(z[order], *bank)
    for place, i in enumerate(order):
        alone = attention.attend(z[i : i + 1], *bank)
        torch.testing.assert_close(together.out[place], alone.out[0], **TIGHT)
        torch.testing.assert_close(together.bank_weights[place], alone.bank_weights[0], **TIGHT)
        torch.testing.assert_close(together.self_weight[place], alone.self_weight[0], **TIGHT)
    whole = together.bank_weights.sum(dim=1) + together.self_weight
    torch.testing.assert_close(whole, torch.ones_like(whole), **TIGHT)
    assert (together.bank_weights >= 0).all()


@torch.no_grad()
def test_the_order_of_the_bank_changes_nothing() -> None:
    attention, z, bank = build(), draw(4, 12), draw(6, 12)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    one = attention.attend(z, *attention.remember(bank))
    other = attention.attend(z, *attention.remember(bank[order]))
    torch.testing.assert_close(one.out, other.out, **TIGHT)
    torch.testing.assert_close(one.bank_weights[:, order], other.bank_weights, **TIGHT)


def test_no_query_leaks_into_another() -> None:
    attention, bank = build(), draw(5, 12)
    keys, values = (part.detach() for part in attention.remember(bank))

    def out(z: Tensor) -> Tensor:
        return attention.attend(z, keys, values).out

    jacobian = torch.autograd.functional.jacobian(out, draw(4, 12))  # [4, 8, 4, 12]
    for i in range(4):
        for j in range(4):
            if i == j:
                assert jacobian[i, :, j].abs().max() > 0
            else:
                assert (jacobian[i, :, j] == 0).all()


@torch.no_grad()
def test_an_empty_bank_gives_a_photo_its_own_value_like_a_batch_of_one() -> None:
    attention, z = build(), draw(3, 12)
    got = attention.attend(z, draw(0, 16), draw(0, 8))
    assert got.bank_weights.shape == (3, 0)
    torch.testing.assert_close(got.self_weight, torch.ones(3, dtype=torch.float64), **TIGHT)
    torch.testing.assert_close(got.out, attention.value(z), **TIGHT)
    for i in range(3):
        torch.testing.assert_close(attention(z[i : i + 1])[0], got.out[i], **TIGHT)


@pytest.mark.parametrize("widths", [(16, 9), (15, 8)])
def test_widths_that_the_heads_do_not_divide_are_refused(widths: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="4 heads divide"):
        CrossInstanceAttention(12, 4, *widths)
