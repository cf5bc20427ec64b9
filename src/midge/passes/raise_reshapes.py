"""Move reshapes of what is computed element by element from an input to the input itself.

An image of one channel lies in memory as its transposition does, so that this is a reshape. Behind
the operators that quantise the input it hides that the rows which layers read are rows of the
input; on the input it is a view, and all that follows can be computed band by band.
"""

from __future__ import annotations

from dataclasses import replace

from midge.core.types import Array, TensorType
from midge.graph.ir import OPS, Graph, Node, fresh


def raise_reshapes(graph: Graph) -> Graph:
    """y = reshape(quantize(x))   ->   y = quantize(reshape(x)), where x is an input

    Only where that makes an image of several rows of what has none, and where nobody reads the
    value in between otherwise. Other operands are of one element, or constants of the same shape.
    """
    if not any(n.op == "reshape" for n in graph.nodes):
        return graph
    return _Raiser(graph).graph()


class _Raiser:
    def __init__(self, graph: Graph) -> None:
        self.own = graph
        self.types: dict[str, TensorType] = dict(graph.types)
        self.consts: dict[str, Array] = dict(graph.consts)
        self.makers = {o: n for n in graph.nodes for o in n.outputs}
        self.readers = graph.consumers()
        self.replaced: dict[str, str] = {}  # results of reshapes -> what takes their place
        self.gone: set[str] = set()  # values whose nodes are rewritten
        self.made: list[Node] = []

    def graph(self) -> Graph:
        nodes: list[Node] = []
        for node in self.own.nodes:
            if node.op == "reshape" and self.raised(node):
                nodes += self.made
                self.made = []
            else:
                inputs = tuple(self.replaced.get(n, n) for n in node.inputs)
                nodes.append(replace(node, inputs=inputs))
        kept = [n for n in nodes if not self.gone.intersection(n.outputs)]
        return replace(self.own, types=self.types, consts=self.consts).with_nodes(kept)

    def raised(self, node: Node) -> bool:
        """Whether the reshape is moved; `made` has the nodes then."""
        (source,), (y,) = node.inputs, node.outputs
        shape = self.types[y].shape
        if y in self.replaced:
            return True
        if y in self.own.outputs or not _gains_rows(self.types[source].shape, shape):
            return False
        if not self.is_of_input(source, y):
            return False
        for reader in self.readers[source]:
            self.replaced[reader.outputs[0]] = y
        self.write(source, shape, y)
        return True

    def is_of_input(self, value: str, shaped: str) -> bool:
        """Whether `value` is computed from an input element by element, for reshapes like that to
        `shaped` alone."""
        maker = self.makers.get(value)
        if maker is None or not OPS[maker.op].elementwise or OPS[maker.op].tables:
            return False
        if value in self.own.outputs or value in self.gone:
            return False
        shape = self.types[shaped].shape
        if not all(
            r.op == "reshape"
            and self.types[r.outputs[0]].shape == shape
            and r.outputs[0] not in self.own.outputs
            for r in self.readers[value]
        ):
            return False
        return self.leads(maker, self.types[value].shape)

    def leads(self, maker: Node, shape: tuple[int, ...]) -> bool:
        """Whether all operands of an elementwise operator can have another shape."""
        images = 0
        for name in maker.inputs:
            t = self.types[name]
            if t.quant is not None and t.quant.axis is not None:
                return False
            if t.elements == 1 or (name in self.consts and t.shape == shape):
                continue
            if t.shape != shape:
                return False
            images += 1
            if name in self.own.inputs:
                continue
            before = self.makers.get(name)
            alone = before is not None and len(self.readers[name]) == 1
            if before is None or not alone or name in self.own.outputs:
                return False
            if not OPS[before.op].elementwise or OPS[before.op].tables:
                return False
            if not self.leads(before, shape):
                return False
        return images == 1

    def write(self, value: str, shape: tuple[int, ...], output: str) -> str:
        """`value` under another shape, called `output`."""
        maker = self.makers[value]
        self.gone.add(value)
        inputs = [self.operand(name, shape, maker) for name in maker.inputs]
        self.types[output] = replace(self.types[value], shape=shape)
        self.made.append(replace(maker, inputs=tuple(inputs), outputs=(output,)))
        return output

    def operand(self, name: str, shape: tuple[int, ...], maker: Node) -> str:
        t = self.types[name]
        if t.elements == 1 and t.shape != self.types[maker.outputs[0]].shape:
            return name if len(t.shape) <= len(shape) else self.shaped(name, (), maker)
        if name in self.own.inputs or name in self.consts:
            return self.shaped(name, shape, maker)
        return self.write(name, shape, fresh(f"{name}/shaped", self.types))

    def shaped(self, name: str, shape: tuple[int, ...], maker: Node) -> str:
        """A constant or an input under another shape."""
        made = fresh(f"{name}/shaped", self.types)
        self.types[made] = replace(self.types[name], shape=shape)
        if name in self.consts:
            self.consts[made] = self.consts[name].reshape(shape)
        else:
            attrs = {"shape": shape}
            self.made.append(Node("reshape", (name,), (made,), attrs, maker.src, maker.kind))
        return made


def _gains_rows(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a reshape makes an image of rows, where there was one row or no image."""
    return _rows(before) <= 1 < _rows(after)


def _rows(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) == 4 and shape[0] == 1 else 0
