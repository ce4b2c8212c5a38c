"""Python that PyTorch does not see: is there any in the body of a loop?"""

from engine.record import Refused

import ast
import inspect
import linecache
import textwrap
from collections.abc import Sequence
from types import FrameType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn, optim

# What a body, and a function that it calls, may be written with; calls and attributes are looked at one by one.
PLAIN = (
    ast.Expr, ast.Return, ast.With, ast.withitem, ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Tuple,
    ast.keyword, ast.operator, ast.unaryop, ast.expr_context,
)  # fmt: skip
TORCH = (torch, torch._C, torch._C._nn, torch._C._VariableFunctions)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


def check_body(
    frame: FrameType, item: Any, loop: Any, own: Sequence[Any], results: set[int]
) -> None:
    """Refuses a loop whose body does more than PyTorch has recorded.

    A body may call PyTorch, modules, optimizers, functions that do nothing else, and `own`; and it may give names to
    tensors that PyTorch has just made. What else it does would be lost in a compiled loop.

    Args:
        frame: where the loop stands, after a step.
        item: what was handed to this step.
        loop: the object that is gone over.
        own: what makes such loops, and methods that record a step's loss.
        results: the ids of the tensors that the step made.

    Raises:
        Refused: it names what was found.
    """
    source = "".join(linecache.getlines(frame.f_code.co_filename))
    found = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.For) and node.lineno <= frame.f_lineno <= node.body[0].lineno
    ]
    if not found:
        raise Refused("the source of the loop is not at hand")
    node = max(found, key=lambda node: node.lineno)
    names = {**frame.f_builtins, **frame.f_globals, **frame.f_locals}
    reader = _Reader(names, own)
    over = node.iter.value if isinstance(node.iter, ast.NamedExpr) else node.iter
    made = reader.known(over.func) if isinstance(over, ast.Call) else None
    if reader.known(over) is not loop and made not in own:
        raise Refused(f"the loop goes over {ast.unparse(node.iter)}")
    for statement in node.body:
        reader.visit(statement)
    _check_changing(node, item)
    for name in sorted(_names(*node.body)):
        value = names.get(name)
        if not isinstance(value, Tensor) or id(value) not in results:
            raise Refused(f"{name} is given a value that is no tensor of this step")


def _check_changing(loop: ast.For, item: Any) -> None:
    """Refuses a body that uses what changes from step to step and is no tensor of the item: a number or an array that
    is handed to it, or a value that it gave to a name in the step before."""
    if isinstance(loop.target, ast.Tuple) and isinstance(item, (tuple, list)):
        handed = dict(zip(map(ast.unparse, loop.target.elts), item))
    else:
        handed = {ast.unparse(loop.target): item}
    targets, given = _names(loop.target), _names(loop.target)
    inside = [n for n in ast.walk(ast.Module(loop.body, [])) if isinstance(n, ast.stmt)]
    statements = [n for n in inside if isinstance(n, (ast.Assign, ast.AugAssign, ast.Expr))]
    assigned = {n for s in statements if isinstance(s, ast.Assign) for n in _names(*s.targets)}
    for statement in statements:
        used = _names(statement, context=ast.Load)
        for name in sorted(used & targets):
            value = handed.get(name)
            parts = value if value is item and isinstance(item, (tuple, list)) else [value]
            if not all(isinstance(part, Tensor) for part in parts):
                raise Refused(f"{name} changes from step to step and is no tensor of the item")
        if carried := sorted((used & assigned) - given):
            raise Refused(f"{carried[0]} is carried from step to step")
        if isinstance(statement, ast.Assign):
            given |= _names(*statement.targets)


def _names(*nodes: ast.AST, context: type = ast.Store) -> set[str]:
    found = (n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name))
    return {n.id for n in found if isinstance(n.ctx, context)}


class _Reader(ast.NodeVisitor):
    """Refuses what is not PLAIN, and calls that PyTorch does not record; `names` are those whose values are known."""

    def __init__(self, names: dict[str, Any], own: Sequence[Any] = (), depth: int = 0):
        self.names, self.own, self.depth = names, own, depth

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, PLAIN):
            self.refuse(node)
        super().generic_visit(node)

    def refuse(self, node: ast.AST) -> None:
        raise Refused(f"the engine does not follow: {ast.unparse(node).splitlines()[0]}")

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if not isinstance(target, (ast.Name, ast.Tuple)):
                self.refuse(node)
        super().generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if self.depth or not isinstance(node.target, ast.Name):
            self.refuse(node)  # in the body, the name's value tells whether PyTorch has seen it
        super().generic_visit(node)

    def visit_withitem(self, node: ast.withitem) -> None:
        if not isinstance(node.context_expr, ast.Call):
            self.refuse(node.context_expr)
        super().generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        value = None if node.value is None else self.known(node.value)
        if value is not None and not isinstance(value, (Tensor, int, float)):
            self.refuse(node)  # what its caller does with it cannot be told
        super().generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        kind = type(self.known(node.value))
        if isinstance(getattr(kind, node.attr, None), property) and not _of_torch(kind):
            self.refuse(node)
        super().generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        super().generic_visit(node)
        called = self.known(node.func)
        owner = getattr(called, "__self__", None)
        if isinstance(called, nn.Module):
            self.check_module(called)
        elif isinstance(owner, optim.Optimizer) and _of_torch(type(owner)):
            if any(getattr(owner, hooks, None) for hooks in OPTIMIZER_HOOKS):
                raise Refused("an optimizer with hooks")
        elif isinstance(called, (FunctionType, MethodType)) and not _of_torch(called):
            if called not in self.own:
                self.check_function(called, node)
        elif not (
            called in self.own
            or called is len
            or isinstance(owner, Tensor)
            or (called is None and self.makes_a_tensor(node.func))
            or (
                called is not None
                and _of_torch(called)
                and isinstance(owner, (type(None), nn.Module))
            )
            or any(owner is module for module in TORCH)
        ):
            raise Refused(f"PyTorch does not see the call of {ast.unparse(node.func)}")

    def makes_a_tensor(self, called: ast.expr) -> bool:
        """Whether a call of what is not known, which was checked itself, is one of PyTorch: a tensor's method, or a new
        module of PyTorch's."""
        if isinstance(called, ast.Attribute):
            new = isinstance(
                called.value, (ast.Call, ast.BinOp, ast.UnaryOp, ast.Attribute, ast.Name)
            )
            return new and self.known(called.value) is None and hasattr(Tensor, called.attr)
        kind = self.known(called.func) if isinstance(called, ast.Call) else None
        return isinstance(kind, type) and issubclass(kind, nn.Module) and _of_torch(kind)

    def check_module(self, module: nn.Module) -> None:
        for part in module.modules():
            if any(getattr(part, hooks, None) for hooks in HOOKS):
                raise Refused(f"{type(part).__name__} has hooks")
            if not _of_torch(type(part)):
                self.check_function(type(part).forward, None, part)

    def check_function(self, function: Any, call: ast.Call | None, *before: Any) -> None:
        """Reads a function of the user's, with the arguments of a call as far as they are known."""
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        except (OSError, ValueError, SyntaxError):
            raise Refused(f"the source of {function.__name__} is not at hand") from None
        if not isinstance(tree, ast.FunctionDef) or hasattr(function, "__wrapped__"):
            raise Refused(f"{function.__name__} is not written with def, or is wrapped in another")
        known = inspect.getclosurevars(function)
        arguments = tree.args
        places = [a.arg for a in [*arguments.posonlyargs, *arguments.args]]
        if isinstance(function, MethodType):
            before = (function.__self__,)
        values = [*before, *(self.known(argument) for argument in (call.args if call else []))]
        keywords = {k.arg: self.known(k.value) for k in (call.keywords if call else []) if k.arg}
        given = dict(zip(places, values)) | keywords
        local = _names(*tree.body) | {a.arg for a in arguments.kwonlyargs} | set(places)
        names = {**known.builtins, **known.globals, **known.nonlocals}
        names = {name: value for name, value in names.items() if name not in local}
        names |= {name: value for name, value in given.items() if value is not None}
        if self.depth > 20:
            raise Refused(f"{function.__name__} is called too deep in other functions")
        for statement in tree.body:
            _Reader(names, depth=self.depth + 1).visit(statement)

    def known(self, expression: ast.expr) -> Any:
        """What a name, or a name with attributes, stands for; None if that is not known."""
        if isinstance(expression, ast.Name):
            return self.names.get(expression.id)
        if isinstance(expression, ast.Attribute):
            value = self.known(expression.value)
            return None if value is None else getattr(value, expression.attr, None)
        return None


def _of_torch(thing: Any) -> bool:
    return (getattr(thing, "__module__", None) or "").split(".")[0] == "torch"
