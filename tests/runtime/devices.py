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


VIEWS = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "chunk", "detach", "empty", "empty_like", "expand",
    "flatten", "narrow", "new_empty", "permute", "reshape", "select", "slice", "split", "split_with_sizes", "squeeze",
    "t", "transpose", "unbind", "unflatten", "unsqueeze", "view",
}  # fmt: skip


class Launches(TorchDispatchMode):
    """Counts operations on the device; on a GPU each is at least one launch."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, result))
        on_device = any(isinstance(leaf, torch.Tensor) and leaf.is_meta for leaf in leaves)
        if on_device and function.overloadpacket.__name__ not in VIEWS:
            self.names.append(function.overloadpacket.__name__)
        return result


def unseen(method):
    """Runs a method outside of what watches."""

    def call(self):
        with torch.utils._python_dispatch._disable_current_modes():
            return method(self)

    return call
