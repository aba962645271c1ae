"""Products of dependent vectors by one matrix are sums of products, and their differences are 0."""

import sympy as sp

import tensorprog as tp
from tensorprog.functions import evaluate
from tensorprog.ir.dependent import dependent_products
from tensorprog.ir.instructions import MatMul


def program(order):
    p = tp.Program()
    W, x, q = p.matrix("W"), p.vector("x"), p.vector("q")
    of = {"x": lambda: W @ x, "q": lambda: W @ q, "x+q": lambda: W @ (x + q)}
    made = {k: of[k]() for k in order}
    return p, tp.sign(made["x+q"] - made["x"] - made["q"])


def products(p):
    return sum(isinstance(op, MatMul) for _, op in p)


def is_zero(op):
    return op.args == () and evaluate(op.body, {}) == 0


def test_a_product_of_a_sum_is_a_sum_in_any_order():
    for order in (("x", "q", "x+q"), ("x+q", "x", "q"), ("q", "x+q", "x")):
        p, z = program(order)
        new = dependent_products(p)
        assert products(p) == 3 and products(new) == 2
        assert [v for v, _ in new] == [v for v, _ in p]
        assert is_zero(new.op(z.var))


def test_independent_vectors_leave_a_program_alone():
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    h = tp.relu(W @ x)
    W @ (h + x)
    W.T @ (h - x)
    assert dependent_products(p) is p


def test_coefficients_may_be_symbols_and_scalars_but_none_is_divided_by():
    c = sp.Symbol("c", real=True)
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    m = tp.moment(lambda a: a**2, x)
    y = W @ x
    scaled, zero = W @ (c * x), tp.sign(W @ (m * x + 1) - m * y - W @ (0 * x + 1))
    new = dependent_products(p)
    assert new.op(scaled.var).body.has(c) and products(p) == 4 and products(new) == 2
    assert is_zero(new.op(zero.var))
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    W @ (c * x)
    W @ x
    assert dependent_products(p) is p  # c may be 0
