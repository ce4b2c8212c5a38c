"""Vectors whose arithmetic writes a program: an operator notes down an LLVM instruction.

    program = Program({"numbers": "ptr"})
    x = program.load("%numbers")
    program.store(fma(x, 2.0, x * x), "%numbers")
    function = program.compile("0", *host())

Run once over Vectors, ordinary arithmetic leaves straight-line code behind, which LLVM compiles for
a processor. Every operation rounds as IEEE 754 says, none may be reordered, and a product and a sum
are rounded as one only where `fma` says so: that is why the results are the same bits on every
processor.
"""

import contextlib
import ctypes
import functools
import struct
from collections.abc import Callable, Iterator, Sequence

LANES = 8  # doubles in a part of a Vector: a register with AVX-512, two with AVX2
_PART, _MASK, _FMA = f"<{LANES} x double>", f"<{LANES} x i1>", f"@llvm.fma.v{LANES}f64"
_C_TYPES = {"ptr": ctypes.c_void_p, "i64": ctypes.c_int64}  # a C long may have 32 bits


class Vector:
    """One or two parts of LANES doubles, named in the program; an operator acts on every lane.

    Two parts are two computations that do not wait for each other, which keeps the processor busy.
    A number beside a Vector stands in every lane. A comparison gives a mask for `where`; it is
    false where there is a NaN.
    """

    def __init__(self, program: "Program", *parts: str):
        self.program, self.parts = program, parts

    def each(self, instruction: str, *others: "Vector | float") -> "Vector":
        """An instruction a part: {0} is a part's type, {1} this Vector's, {2} ... the others'."""
        rows = [
            other.parts if isinstance(other, Vector) else (_constant(other),) * len(self.parts)
            for other in (self, *others)
        ]
        return Vector(
            self.program,
            *(self.program.value(instruction.format(_PART, *row)) for row in zip(*rows)),
        )

    __add__ = functools.partialmethod(each, "fadd {0} {1}, {2}")
    __radd__ = functools.partialmethod(each, "fadd {0} {2}, {1}")
    __sub__ = functools.partialmethod(each, "fsub {0} {1}, {2}")
    __rsub__ = functools.partialmethod(each, "fsub {0} {2}, {1}")
    __mul__ = functools.partialmethod(each, "fmul {0} {1}, {2}")
    __rmul__ = functools.partialmethod(each, "fmul {0} {2}, {1}")
    __truediv__ = functools.partialmethod(each, "fdiv {0} {1}, {2}")
    __rtruediv__ = functools.partialmethod(each, "fdiv {0} {2}, {1}")
    __neg__ = functools.partialmethod(each, "fneg {0} {1}")
    __lt__ = functools.partialmethod(each, "fcmp olt {0} {1}, {2}")
    __gt__ = functools.partialmethod(each, "fcmp ogt {0} {1}, {2}")

    def constant(self, number: float) -> "Vector":
        """A number in every lane of as many parts."""
        return Vector(self.program, *[_constant(number)] * len(self.parts))

    def split(self) -> list["Vector"]:
        """Its parts, a Vector each."""
        return [Vector(self.program, part) for part in self.parts]


def _constant(number: float) -> str:
    """A number in every lane, by its bits: so LLVM reads every double exactly."""
    return f"splat (double 0x{struct.pack('>d', number).hex()})"


def join(vectors: Sequence[Vector]) -> Vector:
    """One Vector with the parts of all."""
    return Vector(vectors[0].program, *(part for vector in vectors for part in vector.parts))


def fma(a: Vector, b: Vector | float, c: Vector | float) -> Vector:
    """a * b + c, rounded once."""
    return a.each(f"call {{0}} {_FMA}({{0}} {{1}}, {{0}} {{2}}, {{0}} {{3}})", b, c)


def where(mask: Vector, yes: Vector | float, no: Vector | float) -> Vector:
    """`yes` in the lanes where the mask is true, `no` in the others."""
    return mask.each(f"select {_MASK} {{1}}, {{0}} {{2}}, {{0}} {{3}}", yes, no)


def dot(a: Sequence[Vector], b: Sequence[Vector], start: Vector | None = None) -> Vector:
    """start + a[0] b[0] + a[1] b[1] + ..., in this order."""
    terms = zip(a, b)
    if start is None:
        x, y = next(terms)
        start = x * y
    for x, y in terms:
        start = fma(x, y, start)
    return start


def transpose(rows: Sequence[Vector]) -> list[Vector]:
    """The columns of a square of LANES rows, of one part each; the last rows may be missing."""
    program, step = rows[0].program, 1
    parts = [row.parts[0] for row in rows] + ["poison"] * (LANES - len(rows))
    while step < LANES:  # squares of `step` by `step` change places across the diagonal
        low = [i - step + LANES if i & step else i for i in range(LANES)]
        high = [i + LANES if i & step else i + step for i in range(LANES)]
        for i in (i for i in range(LANES) if not i & step):
            a, b = parts[i], parts[i + step]
            parts[i], parts[i + step] = program.shuffle(a, b, low), program.shuffle(a, b, high)
        step *= 2
    return [Vector(program, part) for part in parts]


class Program:
    """The text of an LLVM function that grows as Vectors are computed with; it returns an int64.

    Arguments are arrays ("ptr", none over another) and integers ("i64"). In the text, values have
    a name that begins with a %; an index or a count is such a name or a number.
    """

    def __init__(self, arguments: dict[str, str]):
        self.arguments = arguments
        self.lines: list[str] = []
        self.accumulators: list[str] = []

    def value(self, instruction: str) -> str:
        """Notes down an instruction; returns the name of its result."""
        self.lines.append(f"%v{len(self.lines)} = {instruction}")
        return f"%v{len(self.lines) - 1}"

    def address(self, array: str, index: str | int) -> str:
        """Where an element of an array lies, which is an array that begins there."""
        return self.value(f"getelementptr double, ptr {array}, i64 {index}")

    def scaled(self, index: str | int, factor: int) -> str:
        """An index times a number."""
        return self.value(f"mul i64 {index}, {factor}")

    def accumulator(self, number: float) -> str:
        """An array of LANES doubles inside the function, here filled with a number."""
        name = f"%sum{len(self.accumulators)}"
        self.accumulators.append(f"{name} = alloca {_PART}")
        self.lines.append(f"store {_PART} {_constant(number)}, ptr {name}")
        return name

    def load(self, array: str, index: str | int = 0) -> Vector:
        """LANES elements side by side."""
        return Vector(self, self.value(f"load {_PART}, ptr {self.address(array, index)}, align 8"))

    def load_spread(self, array: str, index: str | int = 0) -> Vector:
        """One element in every lane."""
        number = self.value(f"load double, ptr {self.address(array, index)}")
        first = self.value(f"insertelement {_PART} poison, double {number}, i32 0")
        return self.spread_lane(Vector(self, first), 0)

    def store(self, vector: Vector, array: str, index: str | int = 0, count: int = LANES) -> None:
        """The first `count` lanes, side by side."""
        part = self.shuffle(vector.parts[0], "poison", range(count))
        self.lines.append(
            f"store <{count} x double> {part}, ptr {self.address(array, index)}, align 8"
        )

    def spread_lane(self, vector: Vector, lane: int) -> Vector:
        """One lane in every lane."""
        return Vector(self, self.shuffle(vector.parts[0], "poison", [lane] * LANES))

    def shuffle(self, a: str, b: str, lanes: Sequence[int]) -> str:
        """These lanes of two parts; those of the second count on from LANES."""
        picks = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.value(f"shufflevector {_PART} {a}, {_PART} {b}, <{len(lanes)} x i32> <{picks}>")

    @contextlib.contextmanager
    def loop(self, count: str | int) -> Iterator[str]:
        """Repeats what its body notes down, `count` times, at least once; gives the index."""
        if count == 1:
            yield "0"
            return
        name = len(self.lines)
        self.accumulators.append(f"%index{name} = alloca i64")
        self.lines += [f"store i64 0, ptr %index{name}", f"br label %again{name}", f"again{name}:"]
        index = self.value(f"load i64, ptr %index{name}")
        yield index
        following = self.value(f"add i64 {index}, 1")
        more = self.value(f"icmp slt i64 {following}, {count}")
        self.lines += [
            f"store i64 {following}, ptr %index{name}",
            f"br i1 {more}, label %again{name}, label %done{name}",
            f"done{name}:",
        ]

    def leave_unless(self, mask: Vector, result: str) -> None:
        """Ends the function where the mask is false in every lane."""
        name = len(self.lines)
        none = self.value(
            f"icmp eq i{LANES} {self.value(f'bitcast {_MASK} {mask.parts[0]} to i{LANES}')}, 0"
        )
        self.lines += [
            f"br i1 {none}, label %leave{name}, label %stay{name}",
            f"leave{name}:",
            f"ret i64 {result}",
            f"stay{name}:",
        ]

    def compile(self, result: str, cpu: str, features: str) -> Callable[..., int]:
        """The function for a processor; it returns `result`, and other threads run while it does.

        The text is as good as LLVM's own passes over it would make it, and the code as its higher
        levels'.
        """
        arguments = (
            f"{'ptr noalias' if kind == 'ptr' else kind} %{name}"
            for name, kind in self.arguments.items()
        )
        text = [
            f"declare {_PART} {_FMA}({_PART}, {_PART}, {_PART})",
            f"define i64 @main({', '.join(arguments)}) {{",
            *self.accumulators,
            *self.lines,
            f"ret i64 {result}",
            "}",
        ]
        import llvmlite.binding as llvm  # here, so that runs of the plain loop do without it

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu, features, opt=1, jit=True
        )
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly("\n".join(text)), machine)
        engine.finalize_object()
        kinds = (_C_TYPES[kind] for kind in self.arguments.values())
        function = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(engine.get_function_address("main"))
        function.engine = engine  # type: ignore[attr-defined]  # the code is gone with it
        return function


@functools.cache
def host() -> tuple[str, str]:
    """This processor, as LLVM names it, and what it has or lacks, as in "+avx2,-avx512f"."""
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
