"""Merged layers: their results side by side, nothing stored twice, and each layer alone what it was."""

import pytest
import torch
from torch import nn

from vispeak_node.runtime.merged_linear import merge
from vispeak_node.runtime.quantised_linear import Int4Linear, Int8Linear

WIDTHS = (96, 32, 32)


def make_linears(biases=(True, True, True)):
    torch.manual_seed(0)
    return [nn.Linear(64, width, bias=bias).requires_grad_(False) for width, bias in zip(WIDTHS, biases, strict=True)]


def side_by_side(linears, x):
    return torch.cat([linear(x) for linear in linears], dim=-1)


@pytest.mark.parametrize("biases", [(True, True, True), (False, False, False), (True, False, True)])
def test_merged_layers_give_what_each_gives(biases):
    linears, x = make_linears(biases), torch.randn(5, 64)
    before = [linear(x) for linear in linears]
    merged = merge(linears)
    torch.testing.assert_close(merged(x), torch.cat(before, dim=-1))
    for linear, wanted in zip(linears, before, strict=True):
        torch.testing.assert_close(linear(x), wanted)


def test_nothing_is_stored_twice():
    linears = make_linears()
    merge(linears)
    places = [linear.weight.data_ptr() for linear in linears]
    storages = {linear.weight.untyped_storage().data_ptr(): linear.weight.untyped_storage() for linear in linears}
    assert [storage.nbytes() for storage in storages.values()] == [sum(WIDTHS) * 64 * 4]
    again = merge(linears)
    assert [linear.weight.data_ptr() for linear in linears] == places, "another session finds them merged"
    linears[1].weight.zero_()  # and it is the same memory
    x = torch.randn(2, 64)
    torch.testing.assert_close(again(x), side_by_side(linears, x))


def test_a_model_may_be_trained_after_a_session():
    linears = [linear.requires_grad_() for linear in make_linears()]
    with torch.inference_mode():
        merge(linears)
    side_by_side(linears, torch.randn(2, 64)).sum().backward()
    assert all(linear.weight.grad is not None for linear in linears)


def test_a_model_saves_and_counts_its_own_layers():
    linears = nn.ModuleList(make_linears())
    wanted = {name: tensor.clone() for name, tensor in linears.state_dict().items()}
    merge(list(linears))
    assert linears.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in linears.state_dict().items())
    assert all(isinstance(linear.weight, nn.Parameter) for linear in linears)


@pytest.mark.parametrize("make", [Int8Linear, lambda linear: Int4Linear(linear, 64), None])
def test_what_has_no_kernel_runs_apart(make):
    """Kinds without Triton's kernels, and layers of several kinds, one after the other."""
    linears = make_linears()
    quantised = [linear if make is None and index else Int8Linear(linear) for index, linear in enumerate(linears)]
    if make is not None:
        quantised = [make(linear) for linear in linears]
    x = torch.randn(3, 64)
    wanted = side_by_side(quantised, x)
    assert torch.equal(merge(quantised)(x), wanted)


def interpreted():
    """Quantised kinds through Triton; runs in a process whose Triton interprets."""
    x = torch.randn(3, 64).half()
    for make in (lambda linear: Int8Linear(linear, triton=True), lambda linear: Int4Linear(linear, 32, "triton")):
        linears = [make(linear.half()) for linear in make_linears((True, False, True))]
        before = [linear(x) for linear in linears]
        merged = merge(linears)
        assert (merged(x) - torch.cat(before, dim=-1)).abs().max() < 1e-3
        for linear, wanted in zip(linears, before, strict=True):
            assert torch.equal(linear(x), wanted)
        for name in ["codes_NK"] if isinstance(linears[0], Int8Linear) else ["codes", "scales_GN2"]:
            places = {getattr(linear, name).untyped_storage().data_ptr() for linear in linears}
            assert torch.equal(merge(linears)(x), merged(x))
            again = {getattr(linear, name).untyped_storage().data_ptr() for linear in linears}
            assert len(places) == 1 and again == places
