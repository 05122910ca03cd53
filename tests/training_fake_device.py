"""A GPU that is none: tensors say that they lie on another device, and hold their data on the CPU.

What real code does with `cuda` runs here on any machine. As on a GPU, an operation over tensors of
two devices raises, a generator draws on its own device alone, and nothing becomes an array before
`.cpu()`. Kernels, precision, streams and several processes are not shown.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

NAME = "fakegpu"
aten = torch.ops.aten
_LIBRARY = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")  # autocast changes nothing
COPIES = (aten._to_copy.default, aten.copy_.default)
# CPU indices are taken along to where the photos are, but never the other way round.
waits: list[str] = []  # operations for which the CPU would have waited until the GPU was done
BY_PLACES = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class FakeTensor(torch.Tensor):
    """One tensor there; `held` is its data."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> FakeTensor:
        made: FakeTensor = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=_device(), requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().__reduce_ex__(protocol)  # what `map_location="cpu"` makes of it

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        with torch.no_grad():
            copied: Any = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    def tolist(self) -> Any:
        waits.append("tolist")
        return self.held.tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"FakeTensor({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Named(TorchFunctionMode):
    """What is asked of `cuda` is asked of the device that is none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*map(_renamed, args), **tree_map(_renamed, kwargs or {}))


class _Made(TorchDispatchMode):
    """Sees what is made or moved there, in which no tensor of that device has a part yet."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def prepare() -> None:
    """To be called before the process has taken its first gradient, and in no other process.

    Autograd counts the devices once, and what it counts stays.
    """
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Backend())
    _LIBRARY.fallback(torch.library.fallthrough_kernel)
    torch.set_num_threads(1)


@contextmanager
def fake_gpu() -> Iterator[str]:
    """The name of a device that is there in the meantime, in a process that is prepared."""
    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda device=None: "a GPU that is none",
        "manual_seed_all": lambda seed: None,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        stack.enter_context(_Named())
        stack.enter_context(_Made())
        yield "cuda"


class _Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


@functools.cache
def _device() -> torch.device:
    return torch.device(NAME, 0)


def _renamed(asked: Any) -> Any:
    on_gpu = isinstance(asked, str) and asked.partition(":")[0] == "cuda"
    on_gpu |= isinstance(asked, torch.device) and asked.type == "cuda"
    return _device() if on_gpu else asked


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    flat = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    fake = any(isinstance(x, FakeTensor) for x in flat)
    asked = kwargs.get("device")
    there = fake if asked is None else torch.device(asked).type == NAME
    _check(func, args, flat, fake)
    if _waits(func, args, kwargs, fake, there):
        waits.append(str(func))
    generator = kwargs.get("generator")
    if there and generator is not None and generator.device.type == "cpu":
        raise RuntimeError(f"{func}: a CPU generator cannot draw on {NAME}")
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    held = tree_map(lambda x: x.held if isinstance(x, FakeTensor) else x, (args, kwargs))
    out = func(*held[0], **held[1])
    if func is aten._to_copy.default and there != fake and out is held[0][0]:
        out = out.clone()
    if func is aten.copy_.default:
        return args[0]
    if not there:
        return out
    out = tree_map(lambda x: FakeTensor(x) if isinstance(x, Tensor) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if fake else out


def _waits(func: Any, args: Any, kwargs: dict[str, Any], fake: bool, there: bool) -> bool:
    """Its value or its shape is needed, or it is copied to the other device at once."""
    if func in (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default):
        return fake
    if func is aten._to_copy.default:
        return fake != there and (fake or not kwargs.get("non_blocking"))
    if func is aten.copy_.default:
        to, of, *others = args
        crossed = isinstance(to, FakeTensor) != isinstance(of, FakeTensor)
        return crossed and not (others and others[0])
    return False


def _check(func: Any, args: Any, flat: list[Tensor], fake: bool) -> None:
    """What a GPU would refuse."""
    others = [x for x in flat if not isinstance(x, FakeTensor)]
    if not fake or not others or func in COPIES:
        return
    if func in BY_PLACES and isinstance(args[0], FakeTensor):
        return
    if torch.Tag.pointwise in func.tags and all(x.ndim == 0 for x in others):
        return
    raise RuntimeError(f"{func}: tensors on two devices, {NAME} and cpu: {[x.shape for x in flat]}")
