"""Muon and AdamW as one optimiser: which tensors go where, and that a run can be taken up anywhere."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from vispeak_training.stages.config import StageConfig
from vispeak_training.stages.muon import Together, muon, split_matrices

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")


class Small(nn.Module):
    """Named as a learner's parameters are."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.core = nn.Module()
        self.core.model = nn.Module()
        self.core.model.layers = nn.ModuleList([nn.Linear(6, 4), nn.Linear(4, 5)])
        self.core.lm_head = nn.Linear(5, 7, bias=False)

    def loss(self, seed):
        x_BD = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed))
        for layer in self.core.model.layers:
            x_BD = torch.tanh(layer(x_BD))
        return self.core.lm_head(x_BD).pow(2).mean()


def optimiser_of(model):
    groups = [{"params": list(model.parameters()), "weight_decay": 0.0}]
    matrices, rest = split_matrices(model.named_parameters(), groups)
    return Together([torch.optim.AdamW(rest, lr=0.01), muon(matrices, 0.02, 0.0)]), matrices


def train(model, optimiser, schedule, steps):
    for step in steps:
        optimiser.zero_grad()
        model.loss(step).backward()
        optimiser.step()
        schedule.step()


def test_only_matrices_of_the_decoders_layers_are_split_off():
    model = Small()
    model.core.model.layers[1].requires_grad_(False)
    groups = [{"params": [*model.core.model.layers.parameters()], "lr": 1.0}, {"params": [model.core.lm_head.weight]}]
    matrices, rest = split_matrices(model.named_parameters(), groups)
    assert [id(tensor) for tensor in matrices] == [id(model.core.model.layers[0].weight)]
    assert [len(group["params"]) for group in rest] == [3, 1] and rest[0]["lr"] == 1.0
    assert len(groups[0]["params"]) == 4  # what was given is left alone


@needs_muon
def test_an_update_of_a_matrix_is_orthogonal_and_a_schedule_reaches_both():
    model = Small()
    optimiser, matrices = optimiser_of(model)
    before = [tensor.detach().clone() for tensor in model.parameters()]
    schedule = LambdaLR(optimiser, lambda step: 1.0 if step == 0 else 0.0)
    train(model, optimiser, schedule, [0])
    for tensor, old in zip(model.parameters(), before, strict=True):
        assert not torch.equal(tensor, old)
        if any(tensor is matrix for matrix in matrices):
            sizes = torch.linalg.svdvals(tensor.detach() - old)
            assert sizes.max() / sizes.min() < 3  # of a gradient's own: far more
    held = [tensor.detach().clone() for tensor in model.parameters()]
    train(model, optimiser, schedule, [1])  # at rate 0
    assert all(torch.equal(tensor, old) for tensor, old in zip(model.parameters(), held, strict=True))


@needs_muon
def test_a_run_that_is_taken_up_goes_on_as_if_it_had_not_stopped():
    def start():
        model = Small()
        optimiser, _ = optimiser_of(model)
        return model, optimiser, LambdaLR(optimiser, lambda step: 1 / (1 + step))

    whole = start()
    train(*whole, range(6))
    first = start()
    train(*first, range(3))
    states = copy.deepcopy([part.state_dict() for part in first])
    second = start()
    for part, state in zip(second, states, strict=True):
        part.load_state_dict(state)
    train(*second, range(3, 6))
    for expected, found in zip(whole[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"matrix_learning_rate": 0.0}, "must be above 0"),
        ({"matrix_learning_rate": 1e-3, "train": ("mm_projector",)}, "needs language_model"),
        ({"matrix_learning_rate": 1e-3, "deepspeed": "zero2.json"}, "neither fsdp nor deepspeed"),
    ],
)
def test_a_stage_says_where_muon_cannot_be(changes, reason):
    fields = {"name": "a", "base": "b", "data": "c", "output": "d", "train": ("language_model",), "lora": None}
    StageConfig(**fields, matrix_learning_rate=1e-3).check()
    with pytest.raises(ValueError, match=rf"matrix_learning_rate: .*{reason}"):
        StageConfig(**fields | changes).check()


def test_without_muon_adamw_is_left_to_do_it(monkeypatch, caplog):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    assert muon([nn.Parameter(torch.zeros(2, 2))], 0.1, 0.0) is None
    assert "no Muon" in caplog.text
    assert muon([], 0.1, 0.0) is None
