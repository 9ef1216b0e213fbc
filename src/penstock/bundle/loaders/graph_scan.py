"""What TensorFlow's SavedModel may run: a list of operators that compute, read from its bytes before TensorFlow is.

Field numbers are those of saved_model.proto, meta_graph.proto, graph.proto, function.proto and attr_value.proto
(github.com/tensorflow/tensorflow).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from penstock.bundle.loaders.protobuf import wire_fields
from penstock.errors import BundleRefused

_OPERATORS: Final = """
    Abs Add AddN AddV2 All Any ArgMax ArgMin AssignVariableOp BatchMatMul BatchMatMulV2 BiasAdd BroadcastTo Cast Ceil
    ClipByValue Concat ConcatV2 Const Cos DisableCopyOnRead Einsum Elu EnsureShape Equal Erf Erfc Exp ExpandDims Expm1
    Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV3 GatherNd GatherV2 Greater GreaterEqual Identity
    IdentityN IsFinite IsInf IsNan LeakyRelu Less LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul
    Max Maximum Mean Min Minimum Mul Neg NoOp NotEqual OneHot OnesLike Pack Pad PartitionedCall Placeholder
    PlaceholderWithDefault Pow Prod Range ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape ResourceGather Round
    Rsqrt Select SelectV2 Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign Split SplitV Sqrt Square
    SquaredDifference Squeeze StatefulPartitionedCall StatelessIf If StopGradient StridedSlice Sub Sum Tan Tanh Tile
    TopKV2 Transpose Unpack VarHandleOp VarIsInitializedOp Where Xdivy ZerosLike _EagerConst"""
_SAVER: Final = ("__inference__traced_save_", "__inference__traced_restore_")
_FILES: Final = ("fingerprint.pb", "saved_model.pb", "variables/variables.index")
_META_GRAPH, _GRAPH, _OBJECTS, _LIBRARY, _FUNCTION = 2, 2, 7, 2, 1
_NODE, _NODE_OF_FUNCTION, _SIGNATURE, _NAME, _OPERATOR, _ATTRIBUTE, _VALUE = 1, 3, 1, 1, 2, 5, 2
_FUNCTION_VALUE, _LIST_VALUE, _FUNCTION_IN_LIST = 10, 1, 9


def refuse_files(names: Collection[str]) -> None:
    """Raise BundleRefused for files beyond graph and variables: assets are read by operators that are not listed."""
    for name in names:
        if name not in _FILES and not name.startswith("variables/variables.data-"):
            raise BundleRefused(f"model.savedmodel: {name} is neither its graph nor its variables")


def refuse_effects(saved_model: bytes, trusted: Collection[str]) -> None:
    """Raise BundleRefused for operators that stand neither in the list nor in `trusted` (`tf.<name>`).

    The functions that save and restore write and read files; nothing but the main graph, which TensorFlow 2 does not
    run, may name them.
    """
    graphs = list(_messages(memoryview(saved_model), _META_GRAPH))
    if len(graphs) != 1 or not list(_messages(graphs[0], _OBJECTS)):
        raise BundleRefused("model.savedmodel: expected one graph of TensorFlow 2: save it with tf.saved_model.save")
    functions = {
        _text(next(_messages(next(_messages(function, _SIGNATURE), memoryview(b"")), _NAME), memoryview(b""))): function
        for graph in _messages(graphs[0], _GRAPH)
        for library in _messages(graph, _LIBRARY)
        for function in _messages(library, _FUNCTION)
    }
    for name, function in functions.items():
        if not name.startswith(_SAVER):
            _refuse_nodes(function, name, functions, trusted)


def _refuse_nodes(function: memoryview, name: str, functions: Collection[str], trusted: Collection[str]) -> None:
    for node in _messages(function, _NODE_OF_FUNCTION):
        operator = _text(next(_messages(node, _OPERATOR), memoryview(b"")))
        named = {operator, *_named(node)}
        if any(each.startswith(_SAVER) for each in named):
            raise BundleRefused(f"model.savedmodel: {name} calls what reads or writes files")
        known = operator in _OPERATORS.split() or operator in functions or f"tf.{operator}" in trusted
        if not known:
            raise BundleRefused(f"model.savedmodel: {name} uses the operator {operator}, which is not listed")


def _named(node: memoryview) -> Iterator[str]:
    """The functions that a node's attributes name."""
    for entry in _messages(node, _ATTRIBUTE):
        for value in _messages(entry, _VALUE):
            lists = [inner for held in _messages(value, _LIST_VALUE) for inner in _messages(held, _FUNCTION_IN_LIST)]
            for function in [*_messages(value, _FUNCTION_VALUE), *lists]:
                yield from (_text(name) for name in _messages(function, _NAME))


def _messages(message: memoryview, number: int) -> Iterator[memoryview]:
    return (value for found, _, value in wire_fields(message) if found == number and isinstance(value, memoryview))


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")
