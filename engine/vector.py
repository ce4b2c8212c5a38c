"""Vectors whose arithmetic writes a program: each operator appends an LLVM instruction.

    program = Program({"numbers": "ptr"})
    x = program.load("%numbers")
    program.store(fma(x, 2.0, x * x), "%numbers")
    function = program.compile("0", *host())

Ordinary arithmetic, applied once to Vectors, produces straight-line code, which LLVM compiles for a
processor. Every operation rounds as IEEE 754 requires, none is reordered, and a product and a sum
are fused only where `fma` says so. Therefore results have the same bits on every processor.
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

    Two parts are independent computations, which keeps the processor busy. A number as an operand
    counts for every lane. A comparison gives a mask for `where`, and is false for a NaN.
    """

    def __init__(self, program: "Program", *parts: str):
        self.program, self.parts = program, parts

    def each(self, instruction: str, *others: "Vector | float") -> "Vector":
        """An instruction per part: {0} is the part's type, {1} this operand, {2} ... the others."""
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
        """A Vector with as many parts and a number in every lane."""
        return Vector(self.program, *[_constant(number)] * len(self.parts))

    def split(self) -> list["Vector"]:
        """Its parts, each as a Vector."""
        return [Vector(self.program, part) for part in self.parts]


def _constant(number: float) -> str:
    """LLVM's text for a number in every lane, by its bits, so that it is read exactly."""
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
    """The columns of a square of LANES rows, each of one part; the last rows may be missing."""
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
    """The text of an LLVM function, which returns an int64; operations on Vectors add to it.

    Arguments are arrays ("ptr", which do not overlap) and integers ("i64"). Values have names that
    begin with %; an index or a count is such a name or a number.
    """

    def __init__(self, arguments: dict[str, str]):
        self.arguments = arguments
        self.lines: list[str] = []
        self.accumulators: list[str] = []

    def value(self, instruction: str) -> str:
        """Appends an instruction; returns the name of its result."""
        self.lines.append(f"%v{len(self.lines)} = {instruction}")
        return f"%v{len(self.lines) - 1}"

    def address(self, array: str, index: str | int) -> str:
        """The address of an element, to be used as an array that begins there."""
        return self.value(f"getelementptr double, ptr {array}, i64 {index}")

    def scaled(self, index: str | int, factor: int) -> str:
        """An index times a number."""
        return self.value(f"mul i64 {index}, {factor}")

    def accumulator(self, number: float) -> str:
        """A local array of LANES doubles, each initialized with a number."""
        name = f"%sum{len(self.accumulators)}"
        self.accumulators.append(f"{name} = alloca {_PART}")
        self.lines.append(f"store {_PART} {_constant(number)}, ptr {name}")
        return name

    def load(self, array: str, index: str | int = 0) -> Vector:
        """Loads LANES consecutive elements."""
        return Vector(self, self.value(f"load {_PART}, ptr {self.address(array, index)}, align 8"))

    def load_spread(self, array: str, index: str | int = 0) -> Vector:
        """Loads one element into every lane."""
        number = self.value(f"load double, ptr {self.address(array, index)}")
        first = self.value(f"insertelement {_PART} poison, double {number}, i32 0")
        return self.spread_lane(Vector(self, first), 0)

    def store(self, vector: Vector, array: str, index: str | int = 0, count: int = LANES) -> None:
        """Stores the first `count` lanes as consecutive elements."""
        part = self.shuffle(vector.parts[0], "poison", range(count))
        self.lines.append(
            f"store <{count} x double> {part}, ptr {self.address(array, index)}, align 8"
        )

    def spread_lane(self, vector: Vector, lane: int) -> Vector:
        """Copies one lane to every lane."""
        return Vector(self, self.shuffle(vector.parts[0], "poison", [lane] * LANES))

    def shuffle(self, a: str, b: str, lanes: Sequence[int]) -> str:
        """Selects lanes of two parts; the lanes of the second have numbers from LANES on."""
        picks = ", ".join(f"i32 {lane}" for lane in lanes)
        return self.value(f"shufflevector {_PART} {a}, {_PART} {b}, <{len(lanes)} x i32> <{picks}>")

    @contextlib.contextmanager
    def loop(self, count: str | int) -> Iterator[str]:
        """Repeats the instructions of its body `count` times, at least once; yields the index."""
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
        """Returns `result` from the function if the mask is false in every lane."""
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
        """Compiles the function for a processor; it returns `result` and releases the GIL.

        LLVM's passes over the text and its higher optimization levels would not make it faster.
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
        import llvmlite.binding as llvm  # here, so that the plain loop runs without it

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu, features, opt=1, jit=True
        )
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly("\n".join(text)), machine)
        engine.finalize_object()
        kinds = (_C_TYPES[kind] for kind in self.arguments.values())
        function = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(engine.get_function_address("main"))
        function.engine = engine  # type: ignore[attr-defined]  # keeps the code alive
        return function


@functools.cache
def host() -> tuple[str, str]:
    """LLVM's name of this processor, and its features, such as "+avx2,-avx512f"."""
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
