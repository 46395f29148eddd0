"""Whether two runs said the same: the same outputs in the same order, floats within 1e-5."""

from __future__ import annotations

import dataclasses

import pytest


def assert_alike(ours, theirs):
    assert [type(output) for output in ours] == [type(output) for output in theirs]
    for our, their in zip(ours, theirs, strict=True):
        for field in dataclasses.fields(our):
            mine, other = getattr(our, field.name), getattr(their, field.name)
            if isinstance(mine, float):
                other = pytest.approx(other, abs=1e-5)
            assert mine == other, (field.name, our, their)
