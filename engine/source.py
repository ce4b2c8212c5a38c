"""Python that PyTorch does not see: is there any in the body of a loop?"""

from engine.record import Refused

import ast
import inspect
import linecache
import textwrap
from collections.abc import Iterator
from types import FrameType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn, optim


def check_body(frame: FrameType, item: Any, recorders: tuple, results: set[int]) -> None:
    """Refuses a loop whose body does more than PyTorch has recorded.

    A body may call PyTorch, modules, functions that do nothing else, and `recorders`; and it may give names to tensors
    that PyTorch has just made. What else it does would be lost in a compiled loop.

    Args:
        frame: where the loop stands, after a step.
        item: what the loop handed to this step.
        recorders: methods that belong to the loop itself.
        results: the ids of the tensors that the step made.

    Raises:
        Refused: it names what was found.
    """
    source = "".join(linecache.getlines(frame.f_code.co_filename))
    loops = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.For) and node.lineno <= frame.f_lineno <= node.body[0].lineno
    ]
    if not loops:
        raise Refused("the source of the loop is not at hand")
    loop = max(loops, key=lambda node: node.lineno)
    names = {**frame.f_builtins, **frame.f_globals, **frame.f_locals}
    _check_statements(loop.body, names, recorders)
    _check_changing(loop, item)
    for node in (n for statement in loop.body for n in ast.walk(statement)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            value = names.get(node.id)
            if not isinstance(value, Tensor) or id(value) not in results:
                raise Refused(f"{node.id} is given a value that is no tensor of this step")


def _check_changing(loop: ast.For, item: Any) -> None:
    """Refuses a body that uses what changes from step to step and is no tensor of the item: a number or an array that
    the loop hands to it, or a value that it gave to a name in the step before."""
    if isinstance(loop.target, ast.Tuple) and isinstance(item, (tuple, list)):
        handed = dict(zip(map(ast.unparse, loop.target.elts), item))
    else:
        handed = {ast.unparse(loop.target): item}
    targets, given = _names(loop.target), set()
    statements = list(_flat(loop.body))
    assigned = {n for s in statements if isinstance(s, ast.Assign) for n in _names(*s.targets)}
    for statement in statements:
        used = _names(statement, context=ast.Load)
        for name in sorted(used & targets):
            value = handed.get(name)
            parts = value if value is item and isinstance(item, (tuple, list)) else [value]
            if not all(isinstance(part, Tensor) for part in parts):
                raise Refused(f"{name} changes from step to step and is no tensor of the item")
        for name in sorted(used & assigned - targets - given):
            raise Refused(f"{name} is carried from step to step")
        if isinstance(statement, ast.Assign):
            given |= _names(*statement.targets)


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, those inside of `with` among them."""
    for statement in body:
        if isinstance(statement, ast.With):
            yield from _flat(statement.body)
        else:
            yield statement


def _names(*nodes: ast.AST, context: type = ast.Store) -> set[str]:
    found = (n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name))
    return {n.id for n in found if isinstance(n.ctx, context)}


def _check_statements(body: list[ast.stmt], names: dict[str, Any], recorders: tuple = ()) -> None:
    for statement in body:
        parts: list[Any] = [statement]
        if isinstance(statement, ast.With):  # torch.no_grad()
            parts = [item.context_expr for item in statement.items]
            _check_statements(statement.body, names, recorders)
        elif not (
            isinstance(statement, (ast.Expr, ast.Return))
            or (isinstance(statement, ast.Assign) and all(map(_is_name, statement.targets)))
            or (isinstance(statement, ast.AugAssign) and recorders and _is_name(statement.target))
        ):
            line = ast.unparse(statement).splitlines()[0]
            raise Refused(f"PyTorch does not see all of: {line}")
        for node in (node for part in parts for node in ast.walk(part)):
            if isinstance(node, ast.Call):
                _check_call(node, names, recorders)


def _is_name(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) or (
        isinstance(target, ast.Tuple) and all(map(_is_name, target.elts))
    )


def _check_call(call: ast.Call, names: dict[str, Any], recorders: tuple) -> None:
    """Refuses a call unless PyTorch records what it does."""
    try:
        called = _value(call.func, names)
    except LookupError:  # of what another call returned, which is checked itself
        method = isinstance(call.func, ast.Attribute) and hasattr(Tensor, call.func.attr)
        if method or isinstance(call.func, ast.Call):
            return
        raise Refused(f"PyTorch does not see the call of {ast.unparse(call.func)}") from None
    if isinstance(called, nn.Module):
        for module in called.modules():
            if not type(module).__module__.startswith("torch."):
                _check_function(type(module).forward, [module])
        return
    owner = getattr(called, "__self__", None)
    if called in recorders or called is len or isinstance(owner, Tensor):
        return
    if isinstance(owner, optim.Optimizer) and type(owner).__module__.startswith("torch."):
        return
    if isinstance(called, type) and called.__module__.startswith("torch.autograd"):
        return
    module = getattr(called, "__module__", None) or ""
    of_torch = module.split(".")[0] == "torch" and isinstance(owner, (type(None), nn.Module))
    if of_torch or owner in (
        torch,
        torch._C,
        torch._C._nn,
        torch._C._VariableFunctions,
    ):
        return
    if isinstance(called, (FunctionType, MethodType)) and module.split(".")[0] != "torch":
        before = [called.__self__] if isinstance(called, MethodType) else []
        arguments = [*before, *(_known(argument, names) for argument in call.args)]
        keywords = {k.arg: _known(k.value, names) for k in call.keywords if k.arg}
        _check_function(called, arguments, keywords)
        return
    raise Refused(f"PyTorch does not see the call of {ast.unparse(call.func)}")


def _check_function(function: Any, arguments: list, keywords: dict[str, Any] | None = None) -> None:
    """Refuses a function of the user's that does more than PyTorch records.

    Its arguments are given as far as they are known: what is called may be among them.
    """
    try:
        source = textwrap.dedent(inspect.getsource(function))
        (tree,) = ast.parse(source).body
    except (OSError, ValueError, SyntaxError):
        raise Refused(f"the source of {function.__name__} is not at hand") from None
    if not isinstance(tree, ast.FunctionDef):
        raise Refused(f"{function.__name__} is not written with def")
    closure = inspect.getclosurevars(function)
    names = {**closure.builtins, **closure.globals, **closure.nonlocals}
    places = [a.arg for a in [*tree.args.posonlyargs, *tree.args.args]]
    for name in [*places, *(a.arg for a in tree.args.kwonlyargs)]:
        names.pop(name, None)
    known = {**dict(zip(places, arguments)), **(keywords or {})}
    names |= {name: value for name, value in known.items() if value is not None}
    local = _names(*tree.body)
    _check_statements(tree.body, {k: v for k, v in names.items() if k not in local})


def _known(expression: ast.expr, names: dict[str, Any]) -> Any:
    try:
        return _value(expression, names)
    except LookupError:
        return None


def _value(expression: ast.expr, names: dict[str, Any]) -> Any:
    """What a name, or a name with attributes, stands for."""
    if isinstance(expression, ast.Name) and expression.id in names:
        return names[expression.id]
    if isinstance(expression, ast.Attribute):
        return getattr(_value(expression.value, names), expression.attr)
    raise LookupError
