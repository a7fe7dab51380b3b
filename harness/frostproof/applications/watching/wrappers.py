"""Which parameters DistributedDataParallel leaves to each rank, though they train."""

from __future__ import annotations

import gc
from collections.abc import Mapping

from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


def unreduced(parameters: Mapping[str, nn.Parameter]) -> list[str]:
    """The names of those whose gradients no wrapper averages, though one wraps their model.

    A wrapper averages the gradients of what required grad when it was built. It is looked for among
    all objects of this process, for the model that it wraps does not know it. What it was told to
    ignore is not meant to be averaged.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return []
    # Not isinstance, which asks an object that may be a proxy for anything.
    wrappers = [
        each for each in gc.get_objects() if issubclass(type(each), DistributedDataParallel)
    ]
    wrapped: set[int] = set()
    reduced: set[int] = set()
    for wrapper in wrappers:
        ignored = wrapper.parameters_to_ignore
        wrapped |= {id(p) for name, p in wrapper.module.named_parameters() if name not in ignored}
        # DistributedDataParallel has no public list of them.
        buckets = getattr(vars(wrapper).get("reducer"), "_get_zeros_like_grad_buckets", None)
        if buckets is None:
            return []
        reduced |= {id(p) for bucket in buckets() for p in bucket.parameters()}
    return [name for name, p in parameters.items() if id(p) in wrapped - reduced]
