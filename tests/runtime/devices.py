"""Watches what runs while a model lies on torch's `meta` device and the host's tensors on the CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

COPIES = {"aten::copy_", "aten::_to_copy", "aten::to"}


class Apart(TorchDispatchMode):
    """Refuses operations on tensors of both devices, but for copies that nobody waits for and single numbers."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim()}
        if len(devices) > 1:
            names = [argument.name for argument in function._schema.arguments]
            queued = (dict(zip(names, args, strict=False)) | (kwargs or {})).get("non_blocking", False)
            if function.name().partition(".")[0] not in COPIES or not queued:
                raise RuntimeError(f"{function.name()} of tensors on {sorted(devices)}")
        return result


class NothingOfTheHost(TorchDispatchMode):
    """Refuses every tensor that is not on the device: a capture would fail, or freeze what it read."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu":
                raise RuntimeError(f"{function.name()} uses a tensor of the host")
        return result
