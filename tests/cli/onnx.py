"""Writes small ONNX models by hand, for --features. Usage: onnx.py MODEL FILE [WIDTH HEIGHT]

Only what these models need of the format (onnx.proto of ONNX 1.12): numbers of its fields are those below."""
import struct
import sys

FLOAT, INT64, DOUBLE = 1, 7, 11


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number, value):
    """An integer, a text or a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def value_info(name, kind, shape):
    """shape: numbers, or names where a size is free."""
    dims = b"".join(field(1, field(2 if isinstance(size, str) else 1, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def tensor(name, kind, shape, values):
    data = struct.pack(f"<{len(values)}{'f' if kind == FLOAT else 'q'}", *values)
    return b"".join(field(1, size) for size in shape) + field(2, kind) + field(8, name) + field(9, data)


def node(operation, inputs, output, attributes=b""):
    names = b"".join(field(1, name) for name in inputs) + field(2, output)
    return field(1, names + field(4, operation) + attributes)


def integers(name, *values):
    return field(5, field(1, name) + b"".join(field(8, value) for value in values) + field(20, 7))


def integer(name, value):
    return field(5, field(1, name) + field(3, value) + field(20, 2))


def model(nodes, inputs, outputs, tensors=()):
    graph = nodes + field(2, "graph") + b"".join(field(5, each) for each in tensors)
    graph += b"".join(field(11, each) for each in inputs) + b"".join(field(12, each) for each in outputs)
    return field(1, 7) + field(8, field(1, "") + field(2, 13)) + field(7, graph)


def weights(count):
    """As check.py makes them: different for every colour and place."""
    return [((i * 37 + 11) % 101 - 50) / 64 for i in range(count)]


def make(name, width, height):
    shape = ["n", 3, height, width]
    picture, result = value_info("picture", FLOAT, shape), value_info("features", FLOAT, ["n", 3, 1, 1])
    if name == "mean":
        return model(node("GlobalAveragePool", ["picture"], "features"), [picture], [result])
    if name == "weights":  # four sums over all of the picture; a second output that is not asked for
        nodes = node("Conv", ["picture", "w"], "features", integers("kernel_shape", height, width))
        nodes += node("Relu", ["picture"], "more")
        outputs = [value_info("features", FLOAT, ["n", 4, 1, 1]), value_info("more", FLOAT, shape)]
        values = weights(4 * 3 * height * width)
        return model(nodes, [value_info("picture", FLOAT, [1, 3, height, width])], outputs,
                     [tensor("w", FLOAT, [4, 3, height, width], values)])
    if name == "logarithm":  # of what is below 0: not a number
        return model(node("Log", ["picture"], "features"), [picture], [value_info("features", FLOAT, shape)])
    if name == "reshape":  # to seven numbers, which fails when it runs
        return model(node("Reshape", ["picture", "seven"], "features"), [picture],
                     [value_info("features", FLOAT, [7])], [tensor("seven", INT64, [1], [7])])
    if name == "nothing":  # no features
        return model(node("Slice", ["picture", "zero", "zero"], "features"), [picture],
                     [value_info("features", FLOAT, ["a", 3, height, width])], [tensor("zero", INT64, [1], [0])])
    if name == "integers":
        return model(node("ArgMax", ["picture"], "features", integer("axis", 1)), [picture],
                     [value_info("features", INT64, ["n", 1, height, width])])
    if name == "sequence":
        return model(node("SequenceConstruct", ["picture"], "features"), [picture],
                     [field(1, "features") + field(2, field(4, field(1, field(1, field(1, FLOAT)))))])
    if name == "nonsense":
        return model(node("Nonsense", ["picture"], "features"), [picture], [result])
    if name == "two":
        return model(node("Add", ["picture", "other"], "features"), [picture, value_info("other", FLOAT, shape)],
                     [value_info("features", FLOAT, shape)])
    kind = DOUBLE if name == "double" else FLOAT
    shape = {"double": shape, "flat": [3, height, width], "grey": [1, 1, height, width], "eight": [8, 3, height, width],
             "free": [1, 3, "height", "width"], "deep": [1] * 9}[name]
    return model(node("Identity", ["picture"], "features"), [value_info("picture", kind, shape)],
                 [value_info("features", kind, shape)])


if __name__ == "__main__":
    size = [int(value) for value in sys.argv[3:]] or [5, 3]
    with open(sys.argv[2], "wb") as file:
        file.write(make(sys.argv[1], *size))
