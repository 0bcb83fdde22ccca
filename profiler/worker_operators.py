"""Which operators a delegate runs, and how long each takes: lies beside `worker.py` on a board.

It needs Python 3.8 or newer, NumPy, and ai-edge-litert, whose Python has no times of operators.
Its library has: `libLiteRt.so` exports a profiler through a C API, which is called here. What the
structures look like changes between releases, so that only those that were tried are used.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

# Releases whose library was seen to work as it is called here (on Linux, x86-64).
KNOWN_VERSIONS = ("2.2.0", "2.3.0")
DELEGATE = "xnnpack"
SHORT = 0.1  # seconds; a shorter inference is repeated before it is timed, to warm the caches

_CPU = 1  # LiteRtHwAccelerators
_WRITE = 1  # LiteRtTensorBufferLockMode
_OPERATOR, _DELEGATED = 2, 8  # types of events: of the runtime itself, and inside of a delegate
_CONTROL_FLOW = ("if", "while", "call", "call_once", "stablehlo_while")
_UNKNOWN = -1  # the index of what cannot be told to be one of the model's operators
_POINTER = ctypes.c_void_p
_SIZE = ctypes.c_size_t


# Which operators the delegate took


def partitions(details: Sequence[Any]) -> list[list[int]]:
    """The operators that each delegate node stands for, from `Interpreter._get_ops_details()`.

    The runtime keeps the model's operators and appends the delegates' nodes, each with the tensors
    that go in and come out: what lies between them was replaced. Raises ValueError where that
    cannot be followed.
    """
    producer = {}
    for node in details:
        if node["op_name"] != "DELEGATE":
            for tensor in node["outputs"]:
                producer[int(tensor)] = node
    found = []
    for node in details:
        if node["op_name"] != "DELEGATE":
            continue
        inside = set()
        given = {int(tensor) for tensor in node["inputs"]}
        todo = [int(tensor) for tensor in node["outputs"]]
        while todo:
            tensor = todo.pop()
            if tensor in given or tensor < 0:  # -1: an input that was left out
                continue
            if tensor not in producer:
                raise ValueError(f"a delegate makes tensor {tensor} from nothing")
            index = int(producer[tensor]["index"])
            if index not in inside:
                inside.add(index)
                todo += [int(source) for source in producer[tensor]["inputs"]]
        found.append(sorted(inside))
    return found


def outside(details: Sequence[Any], results: Sequence[int]) -> list[list[Any]]:
    """Index and name of every operator that no delegate took, of those that anything depends on.

    `results` are the tensors that the model returns. Raises ValueError like `partitions`.
    """
    inside = {index for group in partitions(details) for index in group}
    nodes = [node for node in details if node["op_name"] != "DELEGATE"]
    read = {int(tensor) for node in nodes for tensor in node["inputs"]} | set(map(int, results))
    return [
        [int(node["index"]), node["op_name"].lower()]
        for node in nodes
        if int(node["index"]) not in inside and any(int(t) in read for t in node["outputs"])
    ]


# Which of the model's operators the delegate's are

# What XNNPACK calls its operators (the beginning, in lower case), by what TFLite calls them.
_RUNS_AS = {
    "average_pool_2d": ("average pooling", "global average pooling", "mean"),
    "batch_matmul": ("batch matrix multiply", "fully connected"),
    "ceil": ("ceiling",),
    "concatenation": ("copy", "concatenate"),
    "conv_2d": ("convolution", "fully connected"),
    "depthwise_conv_2d": ("convolution",),
    "dequantize": ("convert",),
    "div": ("divide",),
    "expand_dims": ("static reshape", "copy"),
    "fully_connected": ("fully connected", "dynamic fully connected", "batch matrix multiply"),
    "hard_swish": ("hardswish",),
    "leaky_relu": ("leaky relu",),
    "logistic": ("sigmoid",),
    "max_pool_2d": ("max pooling",),
    "mean": ("mean", "global average pooling"),
    "mul": ("multiply",),
    "neg": ("negate",),
    "pad": ("constant pad",),
    "padv2": ("constant pad",),
    "quantize": ("convert",),
    "relu": ("clamp",),
    "relu6": ("clamp",),
    "relu_0_to_1": ("clamp",),
    "relu_n1_to_1": ("clamp",),
    "reshape": ("static reshape", "copy"),
    "round": ("bankers rounding",),
    "rsqrt": ("reciprocal square root",),
    "split": ("slice", "copy", "split"),
    "sqrt": ("square root",),
    "squeeze": ("static reshape", "copy"),
    "strided_slice": ("slice", "strided slice"),
    "sub": ("subtract",),
    "transpose_conv": ("deconvolution",),
}
# May run inside of a neighbour, without an operator of its own.
_MELTS = frozenset(
    {"expand_dims", "pad", "padv2", "relu", "relu6", "relu_0_to_1", "relu_n1_to_1", "reshape",
     "squeeze"}
)  # fmt: skip
_SEVERAL = frozenset({"concatenation", "split"})  # run as one operator for each part
_BEFORE = ("convert",)  # what XNNPACK may put before the operator itself, and after it
_AFTER = ("clamp", "static reshape", "copy", "transpose", "convert")
_HELPER_COST, _MELTED_COST, _GUESS_COST = 1, 1, 5


def assign(kinds: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """For each operator of the delegate the position of the model's operator that it belongs to.

    `kinds` are the model's operators in a part that the delegate took, `names` what the delegate
    ran for them; both in order, which it keeps. It renames (a 1x1 convolution runs as a fully
    connected layer), adds operators (an activation behind an ADD), and drops some (PAD before a
    convolution). Of all ways to read `names` as `kinds` the plainest is taken; None where there is
    no way.
    """
    # A state is how many of the model's operators are done, and whether the next one has run.
    # For each state the cost of reaching it and the chain of decisions that led there.
    reached: dict[tuple[int, bool], tuple[int, Any]] = {(0, False): (0, None)}
    for name in [*(name.lower() for name in names), None]:
        _pass_by(reached, kinds)
        if name is None:
            break
        following: dict[tuple[int, bool], tuple[int, Any]] = {}
        for (done, ran), (cost, chain) in reached.items():
            if done == len(kinds):
                continue
            for also, ran_then in _steps(kinds[done], name, ran):
                state = (done, ran_then)
                if state not in following or cost + also < following[state][0]:
                    following[state] = (cost + also, (done, chain))
        reached = following
    if (len(kinds), False) not in reached:
        return None
    chain = reached[len(kinds), False][1]
    positions = []
    while chain is not None:
        positions.append(chain[0])
        chain = chain[1]
    return positions[::-1]


def _pass_by(reached: dict[tuple[int, bool], tuple[int, Any]], kinds: Sequence[str]) -> None:
    """Add the states in which an operator that has run, or that melts away, is left behind."""
    for done, ran in sorted(reached):
        cost, chain = reached[done, ran]
        while done < len(kinds) and (ran or kinds[done] in _MELTS):
            cost += 0 if ran else _MELTED_COST
            done, ran = done + 1, False
            if (done, ran) in reached and reached[done, ran][0] <= cost:
                break
            reached[done, ran] = (cost, chain)


def _steps(kind: str, name: str, ran: bool) -> list[tuple[int, bool]]:
    """What an operator of the delegate can be to one of the model's: cost, and whether that one
    has run then."""
    known = _RUNS_AS.get(kind)
    if ran:
        if kind in _SEVERAL and known is not None and name.startswith(known):
            return [(0, True)]
        return [(_HELPER_COST, True)] if name.startswith(_AFTER) else []
    steps = [(_HELPER_COST, False)] if name.startswith(_BEFORE) else []
    if name.startswith(known or (kind.replace("_", " "),)):
        steps.append((0, True))
    elif known is None:  # XNNPACK grows: what we do not know yet is known by its neighbours
        steps.append((_GUESS_COST, True))
    return steps


# The times


def operators(
    data: bytes,
    inputs: Sequence[bytes],
    details: Sequence[Any],
    plain: Callable[[], object],
    *,
    version: str,
    threads: int,
    runs: int,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """The answer to the request `operators` for a model given as bytes, with its `inputs`.

    A second copy of the model is built with the profiler in it. Its runs and those of `plain`
    alternate, so that the cost of profiling can be seen. `details` are those of `plain`'s
    interpreter; where the copy was placed in another way, RuntimeError is raised.
    """
    if runs < 1:
        raise ValueError(f"{runs} runs give no times")
    kinds = [n["op_name"].lower() for n in details if n["op_name"] != "DELEGATE"]
    nested = sorted(set(kinds) & set(_CONTROL_FLOW))
    if nested:
        raise RuntimeError(
            f"the model has a {nested[0]}: times of the operators inside of it cannot be told apart"
        )
    model = _ProfiledModel(_library(version), data, inputs, threads)
    profiled: list[float] = []
    unprofiled: list[float] = []
    columns: list[list[float]] = []
    first: list[tuple[int, str, int]] = []

    def timed(run: Callable[[], object]) -> float:
        start = clock()
        run()
        return clock() - start

    for run in range(-1, runs):  # one more, before it counts
        if run < 0 or unprofiled[-1] < SHORT:
            model.run()
        model.start()
        seconds = timed(model.run)
        events = model.events()
        if run < 0 or unprofiled[-1] < SHORT:
            plain()
        unprofiled.append(timed(plain))
        profiled.append(seconds)
        if not first:
            first = [(kind, name, index) for kind, name, index, _ in events]
        elif first != [(kind, name, index) for kind, name, index, _ in events]:
            raise RuntimeError("the profiler saw other operators in one run than in another")
        columns.append([took for _, _, _, took in events])
    return {
        "operators": _named(kinds, partitions(details), first, list(zip(*columns[1:]))),  # noqa: B905
        "profiled": profiled[1:],
        "plain": unprofiled[1:],
    }


def _named(
    kinds: Sequence[str],
    groups: Sequence[Sequence[int]],
    events: Sequence[tuple[int, str, int]],
    seconds: Sequence[Sequence[float]],
) -> list[dict[str, Any]]:
    """The events of the profiler under the names of the model's operators, in order.

    Where the delegate's cannot be told, they keep their own names and have the index -1.
    """
    if not events:
        raise RuntimeError("the profiler saw no operator")
    alone = [index for kind, _, index in events if kind == _OPERATOR]
    inside = {index for group in groups for index in group}
    if not set(alone) <= set(range(len(kinds))) - inside:
        raise RuntimeError("with the profiler the runtime places operators in another way")
    found = []
    runs: list[list[int]] = []  # positions of events that one delegate node gave
    for position, (kind, name, index) in enumerate(events):
        if kind == _OPERATOR:
            found.append(_operator(kinds[index], index, None, [name], [seconds[position]]))
        elif index == 0:
            runs.append([position])
        elif not runs or events[runs[-1][-1]][2] != index - 1:
            raise RuntimeError(
                "the profiler lost operators of the delegate; the model is too large"
            )
        else:
            runs[-1].append(position)
    if len(runs) != len(groups):
        raise RuntimeError("with the profiler the runtime places operators in another way")
    for group, positions in zip(groups, runs):  # noqa: B905 (Python 3.8)
        names = [events[position][1] for position in positions]
        chosen = assign([kinds[index] for index in group], names)
        if chosen is None:
            found += [
                _operator("", _UNKNOWN, DELEGATE, [name], [seconds[position]])
                for name, position in zip(names, positions)  # noqa: B905
            ]
            continue
        for place, index in enumerate(group):
            own = [number for number, chosen_place in enumerate(chosen) if chosen_place == place]
            found.append(
                _operator(
                    kinds[index],
                    index,
                    DELEGATE,
                    [names[number] for number in own],
                    [seconds[positions[number]] for number in own] or [[0.0] * len(seconds[0])],
                )
            )
    return sorted(found, key=lambda operator: operator["index"])


def _operator(
    kind: str, index: int, delegate: str | None, names: Sequence[str], parts: Sequence[Any]
) -> dict[str, Any]:
    return {
        "name": " + ".join(names) or "inside of a neighbour",
        "kind": kind,
        "index": index,
        "delegate": delegate,
        "seconds": [sum(values) for values in zip(*parts)],  # noqa: B905
    }


# LiteRT's library


class _Event(ctypes.Structure):
    """`ProfiledEventData`; times in microseconds."""

    _fields_ = [
        ("tag", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("start", ctypes.c_uint64),
        ("elapsed", ctypes.c_uint64),
        ("memory", _SIZE * 6),
        ("index", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    ]


class _TensorType(ctypes.Structure):
    """`LiteRtRankedTensorType`; the rank and a flag share the second field."""

    _fields_ = [
        ("element", ctypes.c_int),
        ("rank", ctypes.c_uint),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    ]


def _library(version: str) -> Any:
    """LiteRT's library. Raises RuntimeError for a release that was never tried."""
    if version not in KNOWN_VERSIONS:
        raise RuntimeError(
            f"this runtime cannot tell the times of operators: ai-edge-litert {version} is none of "
            f"{', '.join(KNOWN_VERSIONS)}, whose profiler is known; install one of these on the "
            "board, or go without"
        )
    if sys.maxsize < 2**32:
        raise RuntimeError("this runtime cannot tell the times of operators on 32-bit systems")
    package = importlib.util.find_spec("ai_edge_litert")
    assert package is not None
    for folder in package.submodule_search_locations or ():
        path = os.path.join(folder, "libLiteRt.so")
        if os.path.exists(path):
            return ctypes.CDLL(path)
    raise RuntimeError("this runtime cannot tell the times of operators: it has no libLiteRt.so")


class _ProfiledModel:
    """A compiled model with LiteRT's profiler in it. It is never freed: its worker ends soon."""

    def __init__(self, library: Any, data: bytes, inputs: Sequence[bytes], threads: int) -> None:
        self._library = library
        self._kept: list[Any] = [data]  # what the library holds pointers to
        self._environment = self._made("LiteRtCreateEnvironment", ctypes.c_int(0), None)
        model = self._made(
            "LiteRtCreateModelFromBuffer",
            self._environment,
            ctypes.c_char_p(data),
            _SIZE(len(data)),
        )
        options = self._made("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, ctypes.c_int(_CPU))
        self._add(options, DELEGATE, f'kernel_mode = "delegate"\nnum_threads = {threads}\n')
        self._add(options, "runtime_options_string", "enable_profiling = true\n")
        self._model = self._made("LiteRtCreateCompiledModel", self._environment, model, options)
        signature = _POINTER()
        self._call("LiteRtGetModelSignature", model, _SIZE(0), ctypes.byref(signature))
        self._inputs = self._buffers(signature, "Input")
        self._outputs = self._buffers(signature, "Output")
        if len(inputs) != len(self._inputs):
            raise RuntimeError(f"the model has {len(self._inputs)} inputs, not {len(inputs)}")
        for buffer, values in zip(self._inputs, inputs):  # noqa: B905
            self._fill(_POINTER(buffer), values)
        self._profiler = self._made("LiteRtCompiledModelGetProfiler", self._model)

    def run(self) -> None:
        """One inference."""
        self._call(
            "LiteRtRunCompiledModel",
            self._model,
            _SIZE(0),
            _SIZE(len(self._inputs)),
            self._inputs,
            _SIZE(len(self._outputs)),
            self._outputs,
        )

    def start(self) -> None:
        """Forget what the profiler has seen, and let it watch."""
        self._call("LiteRtResetProfiler", self._profiler)  # stops it, too
        self._call("LiteRtStartProfiler", self._profiler)

    def events(self) -> list[tuple[int, str, int, float]]:
        """What the profiler saw of operators: type of event, name, index and seconds of each."""
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        found = (_Event * count.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, found)
        self._call("LiteRtStopProfiler", self._profiler)
        return [
            (event.type, event.tag.decode(errors="replace"), event.index, event.elapsed * 1e-6)
            for event in found
            if event.type in (_OPERATOR, _DELEGATED)
        ]

    def _buffers(self, signature: Any, direction: str) -> Any:
        count = _SIZE()
        self._call(f"LiteRtGetNumSignature{direction}s", signature, ctypes.byref(count))
        buffers = (_POINTER * count.value)()
        for i in range(count.value):
            tensor, kind, wanted = _POINTER(), _TensorType(), _POINTER()
            self._call(
                f"LiteRtGetSignature{direction}TensorByIndex",
                signature,
                _SIZE(i),
                ctypes.byref(tensor),
            )
            self._call("LiteRtGetRankedTensorType", tensor, ctypes.byref(kind))
            self._call(
                f"LiteRtGetCompiledModel{direction}BufferRequirements",
                self._model,
                _SIZE(0),
                _SIZE(i),
                ctypes.byref(wanted),
            )
            buffers[i] = self._made(
                "LiteRtCreateManagedTensorBufferFromRequirements",
                self._environment,
                ctypes.byref(kind),
                wanted,
            ).value
        return buffers

    def _fill(self, buffer: Any, values: bytes) -> None:
        size, place = _SIZE(), _POINTER()
        self._call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
        if size.value != len(values):
            raise RuntimeError(f"an input has {size.value} bytes, not {len(values)}")
        self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(place), ctypes.c_int(_WRITE))
        ctypes.memmove(place, values, len(values))
        self._call("LiteRtUnlockTensorBuffer", buffer)

    def _add(self, options: Any, name: str, text: str) -> None:
        """Give the runtime options as TOML; it calls back to free them, we keep them ourselves."""
        content = ctypes.create_string_buffer(text.encode())
        release = ctypes.CFUNCTYPE(None, _POINTER)(lambda pointer: None)
        self._kept += [content, release]
        made = self._made(
            "LiteRtCreateOpaqueOptions", name.encode(), ctypes.cast(content, _POINTER), release
        )
        self._call("LiteRtAddOpaqueOptions", options, made)

    def _made(self, name: str, *arguments: Any) -> Any:
        """Call a function whose last argument is where it puts a pointer; return the pointer."""
        made = _POINTER()
        self._call(name, *arguments, ctypes.byref(made))
        return made

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, name)
        function.restype = ctypes.c_int
        status = function(*arguments)
        if status:
            raise RuntimeError(f"LiteRT's profiler cannot be used: {name} gave status {status}")
