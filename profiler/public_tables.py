"""Read the public lookup tables of ProxylessNAS and Once-for-all: blocks, priced as a whole.

    expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:3-stride:2-idskip:0

names an inverted residual block: expansion, depthwise convolution, projection, and the shortcut's
addition (`idskip`). Cai, Zhu and Han, "ProxylessNAS" (ICLR 2019): `expand` is a factor, ReLU6.
Cai et al., "Once-for-all" (ICLR 2020), MobileNetV3: `expand` is a width, and `se` and `hs` say
whether the block has squeeze-excite and hard swish. `Conv`, `Conv_1`, `Conv_2`, `AvgPool2D` and
`Logits` are the layers around the blocks. Batch normalisation is folded. The gate of
squeeze-excite stands as a logistic function, since TFLite has no hard sigmoid.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..devices.errors import InputError
from .fragments import Fragment
from .layers import Shape, shape_text
from .network_builder import NetworkBuilder

Unit = Literal["ms", "us", "s"]
UNITS: Mapping[str, float] = {"ms": 1e-3, "us": 1e-6, "s": 1.0}

ENTRIES_LIMIT = 200_000
_LARGEST_SIZE = 16_384  # of a height, a width, a number of channels
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_]*)-input:([0-9x]+)-output:([0-9x]+)((?:-[a-z]+:\d+)*)")
_SIZE = re.compile(r"[1-9][0-9]{0,5}(x[1-9][0-9]{0,5}){0,2}", re.ASCII)


@dataclass(frozen=True)
class PublicEntry:
    """A row of such a table: the mean in the file's unit, and how many times it was measured with
    which variance (in that unit's square) where the file says so."""

    key: str
    mean: float
    count: float | None = None
    variance: float | None = None


def read_entries(text: str, ending: str, source: str) -> tuple[list[PublicEntry], Unit | None]:
    """The rows of a table as `.yaml`, `.json` or `.csv`, and the unit where the file says it.

    Raises `InputError` naming `source` and the place.
    """
    unit: Unit | None = None
    try:
        if ending == ".csv":
            rows, unit = _read_csv(text)
        elif ending == ".json":
            rows = _read_json(text)
        else:
            rows = _read_yaml(text)
        entries = [_entry(key, fields) for key, fields in rows]
    except (ValueError, RecursionError, csv.Error) as error:
        raise InputError(f"{source} cannot be read as a lookup table: {error}") from error
    if not entries:
        raise InputError(f"{source} holds no entries; check the file")
    if len({entry.key for entry in entries}) < len(entries):
        raise InputError(f"{source} has a key twice; remove one of them")
    return entries, unit


def read_block(key: str, *, once_for_all: bool) -> Fragment:
    """The layers that a key names. Raises ValueError where it names none."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise ValueError("a key such as 'expanded_conv-input:56x56x24-output:...' was expected")
    name, shape, output = found[1], _shape(found[2]), _shape(found[3])
    options = [part.split(":") for part in found[4].split("-")[1:]]
    fields = {field: int(value[:9]) for field, value in options}
    if len(fields) < len(options):
        raise ValueError("it says something twice")
    builder = NetworkBuilder(shape)
    if name == "expanded_conv":
        result = _block(builder, output[-1], fields, once_for_all)
    elif fields:
        raise ValueError(f"{name} has no {', '.join(fields)}")
    else:
        result = _other(builder, name, output, once_for_all)
    if builder.shape(result) != output:
        raise ValueError(
            f"it says that {shape_text(output)} comes out, these layers give "
            f"{shape_text(builder.shape(result))}"
        )
    return Fragment(tuple(node.layer for node in builder.nodes))


def is_once_for_all(keys: Iterable[str]) -> bool:
    """Whether a table is one of Once-for-all's MobileNetV3 (its blocks say `se` and `hs`)."""
    return any("-se:" in key for key in keys)


def _block(
    builder: NetworkBuilder, filters: int, fields: Mapping[str, int], once_for_all: bool
) -> int:
    names = {"expand", "kernel", "stride", "idskip"} | ({"se", "hs"} if once_for_all else set())
    if set(fields) != names:
        raise ValueError(f"a block says {', '.join(sorted(names))}, nothing else")
    kernel, stride = fields["kernel"], fields["stride"]
    flags = [fields["idskip"], fields.get("se", 0), fields.get("hs", 0)]
    if kernel % 2 == 0 or kernel > 31 or stride not in (1, 2) or max(flags) > 1:
        raise ValueError("kernels are odd, strides 1 or 2, and flags 0 or 1")
    channels = builder.shape(0)[-1]
    width = fields["expand"] if once_for_all else channels * fields["expand"]
    if not 1 <= width <= _LARGEST_SIZE:
        raise ValueError(f"an expansion to {width} channels is impossible")
    swish = fields.get("hs", 0) == 1
    fused: Literal["none", "relu", "relu6"] = "relu6"
    if once_for_all:
        fused = "none" if swish else "relu"
    x = 0
    if width != channels:
        x = builder.conv_2d(x, width, activation=fused)
        x = builder.elementwise("hard_swish", x) if swish else x
    x = builder.depthwise_conv_2d(x, kernel=kernel, stride=stride, activation=fused)
    x = builder.elementwise("hard_swish", x) if swish else x
    if fields.get("se"):
        gate = builder.conv_2d(builder.mean(x), _squeezed(width), activation="relu")
        gate = builder.elementwise("logistic", builder.conv_2d(gate, width))
        x = builder.mul(x, gate)
    x = builder.conv_2d(x, filters)
    if fields["idskip"]:
        if builder.shape(x) != builder.shape(0):
            raise ValueError("a shortcut needs an output of the input's shape")
        x = builder.add(x, 0)
    return x


def _squeezed(width: int) -> int:
    """The channels between squeeze and excite in Once-for-all: a quarter, to a multiple of 8."""
    quarter = width // 4
    rounded = max(8, (quarter + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * quarter else rounded


def _other(builder: NetworkBuilder, name: str, output: Shape, once_for_all: bool) -> int:
    """The layers around the blocks."""
    shape = builder.shape(0)
    if name == "Logits":
        flat = (shape[-1],)
        if len(shape) == 1:
            x = 0
        elif shape[:2] == (1, 1):
            x = builder.reshape(0, flat)
        else:
            x = builder.mean(0, keep_dimensions=False)
        return builder.fully_connected(x, output[-1])
    if name == "AvgPool2D":
        return builder.mean(0)
    if name not in {"Conv", "Conv_1", "Conv_2"}:
        raise ValueError(f"no block is called {name}")
    kernel, stride = (3, 2) if name == "Conv" else (1, 1)
    activation: Literal["none", "relu6"] = "none" if once_for_all else "relu6"
    x = builder.conv_2d(0, output[-1], kernel=kernel, stride=stride, activation=activation)
    return builder.elementwise("hard_swish", x) if once_for_all else x


def _shape(text: str) -> Shape:
    sizes = tuple(map(int, text.split("x"))) if _SIZE.fullmatch(text) else ()
    if len(sizes) not in (1, 3) or max(sizes) > _LARGEST_SIZE:
        raise ValueError(f"{text!r:.40} is no shape: HEIGHTxWIDTHxCHANNELS was expected")
    return sizes


def _entry(key: str, fields: Mapping[str, float]) -> PublicEntry:
    mean, count, variance = (fields.get(name) for name in ("mean", "count", "var"))
    if mean is None:
        raise ValueError(f"{key!r:.120} has no mean")
    if not (math.isfinite(mean) and mean > 0):
        raise ValueError(f"{key!r:.120} takes {mean}, which is no time")
    count = count if count is not None and 1 <= count < 1e15 else None
    known = variance is not None and math.isfinite(variance) and variance >= 0
    return PublicEntry(key, mean, count, variance if known else None)


def _number(value: object) -> float | None:
    """A number, or the text of one; None for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return None


def _numbers(fields: Iterable[tuple[str, object]]) -> dict[str, float]:
    numbers = {name: _number(value) for name, value in fields}
    return {name: number for name, number in numbers.items() if number is not None}


def _limited(number: int) -> None:
    if number > ENTRIES_LIMIT:
        raise ValueError(f"it has more than {ENTRIES_LIMIT} entries")


def _read_csv(text: str) -> tuple[list[tuple[str, dict[str, float]]], Unit | None]:
    """Columns `key` and `mean_ms` (or `mean_us`, `mean_s`, `mean`), perhaps `count` and `var`."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    columns = reader.fieldnames or []
    means = [name for name in columns if name == "mean" or name.removeprefix("mean_") in UNITS]
    if "key" not in columns or len(means) != 1:
        raise ValueError("columns called key and mean_ms (or mean_us, mean_s, mean) were expected")
    suffix = means[0].removeprefix("mean").removeprefix("_")
    unit: Unit | None = suffix if suffix in UNITS else None  # type: ignore[assignment]
    rows: list[tuple[str, dict[str, float]]] = []
    for row in reader:
        _limited(len(rows))
        fields = [("mean", row[means[0]])] + [(name, row.get(name)) for name in ("count", "var")]
        rows.append((str(row["key"]), _numbers(fields)))
    return rows, unit


def _read_json(text: str) -> list[tuple[str, dict[str, float]]]:
    """An object of keys, each with a number or with an object that has a mean."""

    def pairs(items: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return items  # not a dict, which would forget a key that stands there twice

    content = json.loads(text, object_pairs_hook=pairs)
    if not isinstance(content, list) or not all(isinstance(item, tuple) for item in content):
        raise ValueError("an object with a key for each block was expected")
    _limited(len(content))
    rows = []
    for key, value in content:
        is_object = isinstance(value, list) and all(isinstance(item, tuple) for item in value)
        rows.append((key, _numbers(value if is_object else [("mean", value)])))
    return rows


def _read_yaml(text: str) -> list[tuple[str, dict[str, float]]]:
    """The YAML of these tables: keys, each with a number or with names and numbers (indented, or
    in braces). What else YAML can do (references, tags, documents) is refused."""
    blocks: list[tuple[str, list[str]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if not bare or bare.startswith("#") or (number == 1 and bare == "---"):
            continue
        if line[0] in " \t":
            if not blocks:
                raise ValueError(f"line {number} is indented and belongs to no key")
            blocks[-1][1].append(bare)
            continue
        key, value = _split(bare, number)
        _limited(len(blocks))
        blocks.append((key, [value] if value else []))
    rows = []
    for key, lines in blocks:
        if lines and lines[0].startswith("{"):
            inside = " ".join(lines)
            if not inside.endswith("}"):
                raise ValueError(f"the braces of {key!r:.120} do not close")
            lines = [part.strip() for part in inside[1:-1].split(",") if part.strip()]
        elif len(lines) == 1 and ":" not in lines[0]:
            lines = [f"mean: {lines[0]}"]
        rows.append((key, _numbers(_split(line, 0, key) for line in lines)))
    return rows


def _split(line: str, number: int, key: str = "") -> tuple[str, str]:
    """`name: value` as both. The name may be quoted, and hold colons without a space."""
    name, colon, value = line.partition(": ")
    if not colon and line.endswith(":"):
        name, colon = line[:-1], ":"
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"":
        name = name[1:-1]
    value = value.strip()
    if not colon or not name or name[0] in "&*!?|>%@`[{<-" or value[:1] in {*"&*!|>[%@`"}:
        place = f"line {number}" if number else f"{key!r:.120}"
        raise ValueError(f"{place} is not a name with a number: {line!r:.120}")
    return name, value
