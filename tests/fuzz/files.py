"""Program files: mutated, and written from the grammar of expressions."""

import json

import tensorprog as tp
from tensorprog.functions import FAMILIES
from tests.fuzz.odd import TEXTS

ATOMS = [1, 0, 2, -1, 0.5, 1000, 10**40, 1e308, 1e-308, ["rational", 1, 3], ["rational", 1, 0], ["symbol", "c"],
         ["symbol", "c", "positive"], ["constant", "pi"], ["constant", "e"], ["slot", "s0"], ["slot", "x7"], None, True,
         [], {}, ["slot"], ["symbol", ""], ["constant", "i"]]  # fmt: skip
HEADS = ["+", "*", "^", "fn", "abstract", "call", "slot", "symbol", "rational", "constant", "relu"]
CALLS = ["log", "sinh", "cosh", "tan", "atan", "asin", "acos", "asinh", "erfc"]
POWERS = [2, 3, 40, 300, 1000, -1, 0.5, ["rational", 1, 2], ["rational", -3, 2]]


def expression(c, depth):
    """An expression of the slots x0 and x1, mostly well formed."""
    if depth == 0 or c.rarely(3):
        return (
            c.among([["slot", "x0"], ["slot", "x0"], ["slot", "x1"], *ATOMS[:10]])
            if not c.rarely(12)
            else c.among(ATOMS)
        )
    inside = expression(c, depth - 1)
    how = c.below(6)
    if how < 2:
        return ["fn", c.among(sorted(FAMILIES)), c.among([0, 0, 0, 1, 2, 5, 12, 13]), inside]
    if how == 2:
        return ["^", inside, c.among(POWERS)]
    if how == 3:
        return c.among([["call", c.among(CALLS), inside], ["abstract", "psi", c.below(3), inside]])
    return [c.among(["+", "*"]), inside, *(expression(c, depth - 1) for _ in range(1 + c.below(3)))]


def written(c):
    """A program of some instructions."""
    p = tp.Program()
    p.matrix("W", c.among([1, 2, 0]))
    p.vector("v0"), p.vector("v1", c.among([1, 0, 3]), c.among([0, 1]))
    data = json.loads(p.to_json())
    vectors = ["v0", "v1"]
    for i in range(1 + c.below(5)):
        name, x, y = f"y{i}", c.among(vectors), c.among(vectors)
        if c.below(3) == 1:
            row = {"name": name, "op": "MatMul", "matrix": "W", "x": x, "transpose": bool(c.below(2))}
        else:
            op = "Moment" if c.rarely(6) else "Nonlin"
            row = {"name": name, "op": op, "body": expression(c, c.below(6)), "args": [x, y], "params": []}
        data["instructions"].append(row)
        if row["op"] != "Moment":
            vectors.append(name)
    return data


def places(data, found):
    """Every (container, key) of nested lists and objects."""
    for key in data if isinstance(data, dict) else range(len(data)):
        found.append((data, key))
        if isinstance(data[key], (dict, list)):
            places(data[key], found)
    return found


def mutate(c, data):
    """Some parts replaced, moved, nested, repeated or dropped."""
    for _ in range(1 + c.below(3)):
        container, key = c.among(places(data, []))
        part, change = container[key], c.below(6)
        if change == 0:
            container[key] = c.among([*ATOMS, *TEXTS, *HEADS])
        elif change == 1:
            other, at = c.among(places(data, []))
            container[key] = json.loads(json.dumps(other[at]))
        elif change == 2:
            container[key] = [c.among(HEADS), *[part] * c.below(4)]
        elif change == 3:
            container[key] = ["^", part, c.among(POWERS)]
        elif change == 4:
            for _ in range(c.among([1, 10, 90, 400])):
                part = ["fn", "tanh", 0, part]
            container[key] = part
        elif isinstance(container, list):
            container[key:key] = [part] * c.among([1, 5, 300])


def source(c):
    """The text of a program file."""
    data = written(c)
    if c.rarely(3):
        mutate(c, data)
    text = json.dumps(data)
    if c.rarely(12):
        text = text.replace("1", "1" * c.among([2, 400, 4299, 5000]), 1)
    return text[: c.below(len(text))] if c.rarely(20) else text


def case(c):
    text = source(c)
    return text, lambda: use(tp.Program.from_json(text))


def use(program):
    """What one does with a program first."""
    tried(program.to_json), tried(lambda: tp.canonicalize(program)), tried(lambda: tp.sample(program, 4)), str(program)
    limit = tp.limit(program)
    vectors = [v for v, _ in program if v.kind == "vector"][-2:]
    for v in vectors:
        for ask in (limit.Z, limit.mean, lambda v: limit.cov(v, v)):
            tried(lambda ask=ask, v=v: numbered(limit, ask(v)))
    str(limit)


def numbered(limit, expr):
    """The formula as text, and its number."""
    str(expr)
    limit.evaluate(expr, {s: 1.5 for s in expr.free_symbols if s.name == "c"})


def tried(ask):
    """The answer, or None where it is refused by the package: what comes next is tried all the same."""
    try:
        return ask()
    except tp.TensorProgramError:
        return None
