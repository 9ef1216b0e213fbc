"""What a TorchScript program may call: a list of operators that compute, and nothing that reaches outside."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from typing import Final

from penstock.errors import BundleRefused

_OPERATORS: Final = """
    abs absolute add addmm argmax argmin batch_norm bmm bool cat celu chunk clamp clamp_max clamp_min clone
    concat concatenate contiguous cos cumsum detach dim div dropout elu embedding embedding_bag eq exp expand expm1
    expand_as eye flatten floor floor_divide full full_like gather ge gelu glu greater group_norm gt hardsigmoid
    hardswish hardtanh index index_select instance_norm isnan isinf item layer_norm le leaky_relu len
    linear log log1p log2 log10 log_softmax logical_and logical_not logical_or logical_xor logsumexp lt masked_fill
    matmul max maximum mean min minimum mish mul mm narrow ne neg nan_to_num norm normalize one_hot ones ones_like
    permute pow prelu prod reciprocal relu relu6 remainder repeat reshape round rsqrt rsub scalar_tensor select
    selu sigmoid sign silu sin size slice softmax softplus split split_with_sizes sqrt square squeeze stack std
    sub sum t tan tanh tensor to topk transpose type_as unbind unflatten unsqueeze var view where zeros zeros_like
    format append __contains__ __getitem__ __isnot__ __is__ __not__ __and__ __or__ unchecked_cast keys values items
    warn log_sigmoid list is_floating_point arange floordiv lstm conv1d bilinear scaled_dot_product_attention"""
_NAMESPACES: Final = frozenset({"torch", "ops"})
_PLAIN_CALLS: Final = """
    annotate unchecked_cast uninitialized int float bool str len range isinstance getattr min max abs list
    Exception AssertionError RuntimeError ValueError"""
_TEMPORARY: Final = re.compile(r"_\d+")
_OPS: Final = frozenset({"ops.prim.NumToTensor", "ops.prim.RaiseException", "ops.prim.data", "ops.prim.device",
                         "ops.prim.dtype", "ops.prim.max", "ops.prim.min", "ops.prim.unchecked_cast"})  # fmt: skip
_REFUSED_FUNCTIONS: Final = frozenset({"__setstate__", "__getstate__", "__init__", "__del__"})
_ADVICE = "Trust it only if you know it: settings sklearn.trusted"


def refuse_effects(files: Mapping[str, bytes], trusted: Collection[str]) -> None:
    """Raise BundleRefused for code that cannot be read, or that calls what stands neither in the list nor in
    `trusted` (`torch.<name>`). Nothing is run.
    """
    for name, data in sorted(files.items()):
        if "/code/" not in f"/{name}":
            continue
        if not name.endswith(".py"):
            raise BundleRefused(f"model.torchscript: {name} stands beside the code; expected its source alone")
        try:
            tree = ast.parse(data)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise BundleRefused(f"model.torchscript: {name} cannot be read: {error}") from error
        _refuse_tree(tree, name, trusted)


def _refuse_tree(tree: ast.Module, name: str, trusted: Collection[str]) -> None:
    roots: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in _REFUSED_FUNCTIONS:
            raise BundleRefused(f"model.torchscript: {name}: {node.name} could run when it is loaded")
        if isinstance(node, ast.Call):
            called, root = _dotted(node.func)
            if not _is_allowed(called) and called not in trusted:
                what = called or "a value"
                raise BundleRefused(f"model.torchscript: {name} calls {what}, which is not listed. {_ADVICE}")
            roots.add(id(root))
        if isinstance(node, ast.Attribute) and node.attr == "classes":
            raise BundleRefused(f"model.torchscript: {name} uses classes that are written in C++")
    for node in ast.walk(tree):
        # Under another name an operator would be called unseen.
        if isinstance(node, ast.Name) and node.id in _NAMESPACES and id(node) not in roots:
            raise BundleRefused(f"model.torchscript: {name} uses {node.id!r} other than to call what is in it")


def _is_allowed(called: str) -> bool:
    root, _, rest = called.partition(".")
    if root == "torch":
        return rest.removesuffix("_") in _OPERATORS.split() or rest in _OPERATORS.split()
    if root == "ops":
        return called in _OPS
    # Methods and temporaries (`_12`) are the program's own, whose bodies are read too: tensors have no methods here.
    return called in _PLAIN_CALLS.split() or bool(rest) or _TEMPORARY.fullmatch(called) is not None


def _dotted(node: ast.expr) -> tuple[str, ast.expr]:
    """`torch.linear` of a call, and the name that it begins with."""
    if isinstance(node, ast.Name):
        return node.id, node
    if isinstance(node, ast.Attribute):
        inner, root = _dotted(node.value)
        return (f"{inner}.{node.attr}" if inner else "value." + node.attr), root
    return "", node
