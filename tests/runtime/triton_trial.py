"""The least that an interpreted kernel must be able to do: a loop. Import it where Triton is installed."""

import torch
import triton
import triton.language as tl


@triton.jit
def double(x_ptr, COUNT, BLOCK: tl.constexpr):
    """Twice every element."""
    for begin in range(0, COUNT, BLOCK):
        places = begin + tl.arange(0, BLOCK)
        values = tl.load(x_ptr + places, mask=places < COUNT, other=0.0)
        tl.store(x_ptr + places, 2 * values, mask=places < COUNT)


def run():
    x = torch.ones(7)
    double[(1,)](x, 7, 4)
    assert x.sum() == 14
