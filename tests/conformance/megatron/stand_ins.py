"""Stand-ins for what a CPU cannot have, so that the real Python of Megatron, Bridge and Transformer Engine runs.

Compiled extensions answer with empty classes and numbers; no rule lives in them. Everything that is written in Python is
the real thing: Transformer Engine's modules too, whose checks of widths, heads and context parallelism are plain asserts.
"""

from __future__ import annotations

import contextlib
import enum
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import sys
import types
import typing
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["GPUS", "Reached", "install", "on_gpu", "stopping_at"]

COMPILED = (
    "transformer_engine_torch",
    "mamba_ssm",
    "causal_conv1d",
    "megatron.energon",
    "PIL",
    "deep_ep",
    "fla",
    "nvidia_resiliency_ext",
)
"""Packages that are compiled, or need what is, or read pictures."""

ENUMERATIONS = {
    "DType": ("kByte", "kInt32", "kFloat32", "kFloat16", "kBFloat16", "kFloat8E4M3", "kFloat8E5M2", "kFloat4E2M1"),
    "NVTE_Fused_Attn_Backend": ("NVTE_No_Backend", "NVTE_F16_arbitrary_seqlen", "NVTE_FP8"),
}
"""Enumerations of ``transformer_engine_torch`` whose members its Python compares with its own."""

CUDNN = 92000
"""The version of cuDNN that there would be: 9.20."""

OLDER_MEMBERS = {"NVTE_Fused_Attn_Backend": ("NVTE_F16_max512_seqlen",)}
"""Members that Transformer Engine 2.12 has besides."""

GPUS = {
    "a100-80gb": ("NVIDIA A100-SXM4-80GB", 8),
    "h100": ("NVIDIA H100 80GB HBM3", 9),
    "b200": ("NVIDIA B200", 10),
    "gb200-nvl72": ("NVIDIA GB200", 10),
}
"""(device name, first number of the compute capability) of GPUs, as CUDA reports them."""


class Reached(BaseException):
    """Raised by a hook that stands right after the checks in question: they have all passed."""


class _Named(type):
    """Attributes of a stand-in class are stand-in classes, which count as 0 where a number is wanted."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = _stand_in(name)
        setattr(cls, name, found)
        return found

    def __int__(cls) -> int:
        return 0

    __index__ = __int__


def _stand_in(name: str) -> Any:
    def __init__(self: Any, *args: Any, **given: Any) -> None:
        import torch

        if isinstance(self, torch.nn.Module):
            torch.nn.Module.__init__(self)
            self.weight = torch.nn.Parameter(torch.empty(1, device="meta"))

    import torch

    return _NamedModule(name, (torch.nn.Module,), {"__init__": __init__, "__class_getitem__": lambda item: item})


class _NamedModule(_Named):
    pass


class _Package(types.ModuleType):
    """A package in which everything is there: lower-case names are modules, the others classes."""

    __path__: Sequence[str] = ()
    __version__ = "99.0.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = _stand_in(name)
        setattr(self, name, found)
        return found


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if any(fullname == name or fullname.startswith(name + ".") for name in COMPILED):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Package(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__ != "transformer_engine_torch":
            return
        module.get_cudnn_version = lambda: CUDNN  # type: ignore[attr-defined]
        older = metadata.version("transformer_engine").startswith("2.12.")
        for name, members in ENUMERATIONS.items():
            every = members + (OLDER_MEMBERS.get(name, ()) if older else ())
            setattr(module, name, enum.IntEnum(name, every, start=0))  # type: ignore[misc]


def install(sources: Sequence[Path] = ()) -> dict[str, str]:
    """Make Megatron importable; ``sources`` are checkouts that go before installed packages. Returns versions."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "NVTE_PROJECT_BUILDING": "1", "TORCHDYNAMO_DISABLE": "1"}
    sys.path[:0] = [str(source) for source in sources]
    if sys.version_info < (3, 12):  # all that the current wheels want of 3.12
        import typing_extensions

        typing.override = typing_extensions.override  # type: ignore[attr-defined]
    sys.meta_path.insert(0, _Finder())
    _real_transformer_engine()
    import megatron.bridge
    import megatron.core
    import torch

    return {
        "megatron_core": str(megatron.core.__version__),
        "megatron_bridge": str(megatron.bridge.__version__),
        "transformer_engine": metadata.version("transformer_engine"),
        "torch": torch.__version__,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
    }


def _real_transformer_engine() -> None:
    """Its package without the first line, which loads CUDA libraries."""
    spec = importlib.util.find_spec("transformer_engine")
    assert spec is not None and spec.submodule_search_locations, "transformer_engine is not installed"
    package = types.ModuleType("transformer_engine")
    package.__path__ = list(spec.submodule_search_locations)
    package.__spec__ = importlib.machinery.ModuleSpec("transformer_engine", None, is_package=True)
    package.__version__ = metadata.version("transformer_engine")  # type: ignore[attr-defined]
    sys.modules["transformer_engine"] = package
    common = importlib.import_module("transformer_engine.common")
    common.load_framework_extension = lambda framework: None  # type: ignore[attr-defined]
    package.common = common  # type: ignore[attr-defined]
    package.pytorch = importlib.import_module("transformer_engine.pytorch")  # type: ignore[attr-defined]


@contextlib.contextmanager
def stopping_at(owner: Any, name: str) -> Iterator[None]:
    """Inside, a call of ``owner.name`` raises :class:`Reached`; the context ends quietly then."""
    original = getattr(owner, name)

    def reached(*args: Any, **given: Any) -> None:
        raise Reached

    setattr(owner, name, reached)
    try:
        with contextlib.suppress(Reached):
            yield
    finally:
        setattr(owner, name, original)


@contextlib.contextmanager
def on_gpu(gpu: str) -> Iterator[None]:
    """Inside, CUDA says that it has one device of that kind; tensors made for it are made without storage."""
    import torch
    from megatron.core.tensor_parallel import random

    name, major = GPUS[gpu]
    properties = types.SimpleNamespace(
        name=name, major=major, minor=0, total_memory=80 << 30, multi_processor_count=132, gcnArchName=""
    )
    fakes = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: torch.device("meta"),
        "get_device_properties": lambda *args: properties,
        "get_device_capability": lambda *args: (major, 0),
        "get_device_name": lambda *args: name,
        "Stream": lambda *args, **given: None,
        "synchronize": lambda *args: None,
        "is_current_stream_capturing": lambda: False,
    }
    with contextlib.ExitStack() as stack:
        for attribute, fake in fakes.items():
            stack.enter_context(_replaced(torch.cuda, attribute, fake))
        stack.enter_context(_replaced(torch.Tensor, "cuda", lambda tensor, *args, **given: tensor))
        stack.enter_context(_replaced(random, "_get_cuda_rng_state", lambda *args, **given: None))
        stack.enter_context(_elsewhere())
        yield


def _elsewhere() -> Any:
    """A mode in which tensors that are made on the GPU are made without storage."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Elsewhere(TorchFunctionMode):
        def __torch_function__(self, function: Any, kinds: Any, args: Any = (), given: Any = None) -> Any:
            given = dict(given or {})
            if "cuda" in str(given.get("device", "")):
                given["device"] = torch.device("meta")
            given.pop("pin_memory", None)
            return function(*args, **given)

    return Elsewhere()


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)
