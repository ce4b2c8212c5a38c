"""Refuses steps with Python code whose effects PyTorch does not record.

A compiled loop no longer runs its body, so whatever the body does besides PyTorch's operations
would be lost. Therefore a profile function sees every call while a step is recorded, and `ast`
parses the source of the body and of every user function that ran: only assignments and calls are
allowed there.
"""

from engine.record import Refused, Tape

import ast
import gc
import inspect
import linecache
import re
import sys
import textwrap
from collections.abc import Sequence
from types import BuiltinFunctionType, FrameType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn, optim

PLAIN = (
    ast.Expr, ast.Return, ast.With, ast.withitem, ast.Assign, ast.AugAssign, ast.Call, ast.keyword,
    ast.Name, ast.Attribute, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Tuple, ast.operator,
    ast.unaryop, ast.expr_context,
)  # fmt: skip
# PyTorch's other functions may have side effects, as torch.save has.
OF_TORCH = re.compile(r"torch(\._C|\._tensor|\.functional|\.(nn|optim|autograd)\b.*|$)")
OF_MODULES = ("forward", "zero_grad", "parameters", "named_parameters", "modules")


class Watch:
    """While active, notes which functions of the user run, and which C functions they call.

    Args:
        trusted: functions assumed to have no effect on the step.
    """

    def __init__(self, trusted: Sequence[Any]):
        self.trusted = {function.__code__ for function in trusted}
        self.frames: list[FrameType] = []
        self.calls: list[Any] = []

    def __enter__(self) -> "Watch":
        self.other = sys.getprofile()  # the loop does not record where there is one
        self.collects = gc.isenabled()
        gc.disable()  # finalizers of garbage belong to no step
        if not self.other:
            sys.setprofile(self.on_event)
        return self

    def __exit__(self, *error: object) -> None:
        if not self.other:
            sys.setprofile(None)
        if self.collects:
            gc.enable()

    def on_event(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "return" and self.is_users(frame):
            self.frames.append(frame)
        elif event == "c_call" and called is not len and self.is_users(frame):
            if not (_of_torch(called) or _of_torch(getattr(called, "__self__", None))):
                self.calls.append(called)

    def is_users(self, frame: FrameType) -> bool:
        """Whether a frame is neither PyTorch's nor the engine's, nor a library call of theirs."""
        name = frame.f_globals.get("__name__", "").split(".")[0]
        if name in ("torch", "engine") or frame.f_code in self.trusted:
            return False
        standard = name in sys.stdlib_module_names or name.startswith("namedtuple_")
        return not standard or frame.f_back is None or self.is_users(frame.f_back)


def check_python(
    watch: Watch, frame: FrameType, loop: Any, item: Any, tapes: Sequence[Tape]
) -> None:
    """Refuses a step in which Python does more than PyTorch has recorded.

    Args:
        watch: was active while the step ran.
        frame: of the function with the loop, after the step.
        loop: the object that the loop iterates over.
        item: of this step.
        tapes: of the previous step and of this one.

    Raises:
        Refused: the message names what was found.
    """
    node = _loop(frame)
    over = node.iter.value if isinstance(node.iter, ast.NamedExpr) else node.iter
    made_by = _known(over.func, frame) if isinstance(over, ast.Call) else None
    by_trusted = getattr(made_by, "__code__", None) in watch.trusted
    if not (by_trusted or made_by is type(loop) or _known(over, frame) is loop):
        raise Refused(f"the loop goes over {ast.unparse(node.iter)}")
    for statement in node.body:
        _read(statement, frame)
    for other in watch.frames:
        for statement in _definition(other).body:
            _read(statement, other)
            if any(isinstance(node, ast.AugAssign) for node in ast.walk(statement)):
                # It may change in place what outlives the step; names of the body are checked below
                _refuse(statement)
    if watch.calls:
        raise Refused(f"PyTorch does not see the call of {watch.calls[0].__name__}")

    earlier, now = tapes
    new = (c for c in earlier.calls if not any(operand is c.result for operand in c.args))
    carried = {id(c.result) for c in new if isinstance(c.result, Tensor)} - set(now.before)
    if any(id(operand) in carried for call in now.calls for operand in call.args):
        raise Refused("a tensor is carried over from the step before")
    body = [n for statement in node.body for n in ast.walk(statement) if isinstance(n, ast.Name)]
    targets = {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}
    parts = list(item) if isinstance(item, (tuple, list)) else [item]
    tensors = {id(c.result) for c in now.calls if isinstance(c.result, Tensor)}
    tensors |= {id(part) for part in parts if isinstance(part, Tensor)}
    if all(isinstance(part, Tensor) for part in parts):
        tensors.add(id(item))
    codes = [other.f_code for other in watch.frames]
    used = {n.id for n in body}.union(*(code.co_names + code.co_freevars for code in codes))
    given = targets | {n.id for n in body if isinstance(n.ctx, ast.Store)}
    for name in sorted(used & given):
        if id(frame.f_locals.get(name, frame.f_globals.get(name))) not in tensors:
            raise Refused(f"{name} changes from step to step and is not a tensor of the step")


def _loop(frame: FrameType) -> ast.For:
    """The innermost `for` loop at whose head a frame is."""
    source = "".join(linecache.getlines(frame.f_code.co_filename))
    found = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.For) and node.lineno <= frame.f_lineno <= node.body[0].lineno
    ]
    if not found:
        raise Refused("the source of the loop is not available")
    return max(found, key=lambda node: node.lineno)


def _definition(frame: FrameType) -> ast.FunctionDef:
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(frame.f_code))).body
    except (OSError, ValueError, SyntaxError):
        raise Refused(f"the source of {frame.f_code.co_name} is not available") from None
    if not isinstance(tree, ast.FunctionDef):
        raise Refused(f"{frame.f_code.co_name} is not written with def")
    return tree


def _read(statement: ast.stmt, frame: FrameType) -> None:
    """Refuses a statement unless it is PLAIN and a profile function sees all its calls."""
    for node in ast.walk(statement):
        if not isinstance(node, PLAIN):
            _refuse(node)
        if isinstance(node, ast.Attribute) and node.attr == "done":  # it counts the loop's steps
            _refuse(node)
        if isinstance(node, (ast.Assign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = [t.elts if isinstance(t, ast.Tuple) else [t] for t in targets]
            if not all(isinstance(name, ast.Name) for names in parts for name in names):
                _refuse(node)
        if isinstance(node, ast.Call) and not _is_followed(node.func, frame):
            raise Refused(f"PyTorch does not see the call of {ast.unparse(node.func)}")


def _is_followed(function: ast.expr, frame: FrameType) -> bool:
    """Whether a call is one of PyTorch's, or one that a profile function sees."""
    called = _known(function, frame)
    if called is None:
        return isinstance(function, ast.Attribute)  # a method of an intermediate value
    owner = getattr(called, "__self__", None)
    if isinstance(called, (BuiltinFunctionType, type)):
        return called is len or _of_torch(called) or _of_torch(owner)
    if (getattr(called, "__module__", None) or "").startswith("torch."):
        if isinstance(owner, nn.Module) and called.__name__ not in OF_MODULES:
            return False  # such as the append of a ParameterList
        plain = owner is None or isinstance(owner, (nn.Module, Tensor, optim.Optimizer))
        return plain and _of_torch(called)  # unlike the step of a learning-rate schedule
    return isinstance(called, (FunctionType, MethodType, nn.Module))


def _refuse(node: ast.AST) -> None:
    raise Refused(f"the engine does not follow: {ast.unparse(node).splitlines()[0]}")


def _known(expression: ast.expr, frame: FrameType) -> Any:
    """The object that a name or attribute refers to, the class of a constructor call, or None."""
    if isinstance(expression, ast.Name):
        names = {**frame.f_builtins, **frame.f_globals, **frame.f_locals}
        return names.get(expression.id)
    if isinstance(expression, ast.Attribute):
        return getattr(_known(expression.value, frame), expression.attr, None)
    if isinstance(expression, ast.Call):  # such as nn.Linear(2, 3)
        made_by = _known(expression.func, frame)
        return made_by if isinstance(made_by, type) else None
    return None


def _of_torch(thing: Any) -> bool:
    name = getattr(thing, "__module__", None) or getattr(thing, "__name__", None) or ""
    return OF_TORCH.match(name) is not None
