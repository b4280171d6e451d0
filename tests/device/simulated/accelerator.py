"""An accelerator that is none: a foreign device type whose tensors live, and are computed, on the CPU.

Its numbers are the CPU's to the last bit, it has a name that no code of ours knows, and a tensor of it never meets one
of the CPU unnoticed. It rests on torch's hook for devices written in Python, which is private: `install` says so
where it is gone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as trees

NAME = "sim"
MOVES = ("aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::_local_scalar_dense")
"""What may take tensors of both devices, or give one of the other."""

_kept: list[Any] = []
"""What torch forgets when nobody holds it."""


class SimulatedTensor(torch.Tensor):
    """Says that it is on the simulated device; `inner` is the CPU's tensor it stands for."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> SimulatedTensor:
        made: SimulatedTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, *args, **(kwargs or {}))


def is_simulated(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def run(func: Any, *args: Any, **kwargs: Any) -> Any:
    """One operation on the inner tensors. Raises RuntimeError where tensors of two devices meet."""
    name = func._schema.name
    leaves, tree = trees.tree_flatten((args, kwargs))
    mine = {id(x.inner): x for x in leaves if isinstance(x, SimulatedTensor)}
    foreign = [
        x
        for x in leaves
        if isinstance(x, torch.Tensor) and not isinstance(x, SimulatedTensor) and x.dim() > 0
    ]
    if mine and foreign and name not in MOVES:
        raise RuntimeError(f"{name} was given tensors of {NAME} and of {foreign[0].device}")

    def inner(x: Any) -> Any:
        if isinstance(x, SimulatedTensor):
            return x.inner
        return torch.device("cpu") if isinstance(x, torch.device) and is_simulated(x) else x

    inner_args, inner_kwargs = trees.tree_unflatten([inner(x) for x in leaves], tree)
    result = func(*inner_args, **inner_kwargs)
    if name == "aten::copy_" and not isinstance(args[0], SimulatedTensor):
        return args[0]
    wanted = kwargs.get("device")
    stays = is_simulated(wanted) if wanted is not None else bool(mine)

    def outer(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not stays:
            return x
        return mine[id(x)] if id(x) in mine else SimulatedTensor(x)

    return trees.tree_map(outer, result)


class Literals(torch.overrides.TorchFunctionMode):
    """What torch does without asking the device: lists in and out, on the CPU, and `tensor.data = another`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and is_simulated(kwargs.get("device")):
            del kwargs["device"]
            return func(*args, **kwargs).to(NAME)
        if func is torch.Tensor.tolist and isinstance(args[0], SimulatedTensor):
            return args[0].inner.tolist()
        if func == torch.Tensor.data.__set__ and isinstance(args[0], SimulatedTensor):  # type: ignore[attr-defined]
            args[0].inner = args[1].inner
        return func(*args, **kwargs)


def install() -> None:
    """Makes the device known to torch, for the rest of this process. Raises ImportError where torch cannot."""
    from torch.utils import backend_registration as registration

    class Module(registration._DummyBackendModule):  # type: ignore[misc]
        def is_available(self) -> bool:
            return True

        def device_count(self) -> int:
            return 1

        def current_device(self) -> int:
            return 0

        def is_initialized(self) -> bool:
            return True

    class Hook(registration._DummyPrivateUse1Hook):  # type: ignore[misc]
        def is_available(self) -> bool:
            return True

        def is_built(self) -> bool:
            return True

        def has_primary_context(self, index: int) -> bool:
            return True

    try:
        setup = registration._setup_privateuseone_for_python_backend
    except AttributeError as e:
        raise ImportError(f"torch {torch.__version__} has no hook for devices in Python any more") from e
    setup(NAME, backend_module=Module(), hook=Hook())
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda op, *args, **kwargs: run(op, *args, **kwargs), "PrivateUse1")
    # A view of a tensor like ours cannot be made in inference mode; without gradients the numbers are the same.
    torch.inference_mode = torch.no_grad  # type: ignore[misc, assignment]
    mode = Literals()
    mode.__enter__()
    _kept.extend([library, mode])
