"""The command line on hostile input: refused by name, at once."""

from dataclasses import replace

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.ceilings import CEILINGS, bounded_programs
from tensorprog.cli import main

ONE = ["-p", "depth=1"]
REFUSED = {
    "nan": (["derive", "mlp", "-p", "sigma_w=nan"], "no finite number"),
    "inf": (["derive", "mlp", "-p", "sigma_w=inf"], "no finite number"),
    "1e999": (["derive", "mlp", "-p", "sigma_w=1e999"], "not between 1e-308 and 1e308"),
    "5000 digits": (["derive", "mlp", "-p", "sigma_w=" + "9" * 5000], "at most 400 characters in a number"),
    "twice": (["derive", "mlp", *ONE, *ONE], "depth is given twice"),
    "other digits": (["derive", "mlp", "-p", "depth=٣"], "cannot read the value"),
    "other lengths": (["derive", "rnn", "--lengths", "٣,2"], "--lengths must be integers"),
    "long": (["derive", "rnn", "--lengths", "1000000000,2"], "at most 100000 instructions"),
    "deep": (["derive", "mlp", "-p", "depth=1000000000"], "at most 100000 instructions"),
    "many": (["draw", "mlp", "--inputs", "100000"], "at most 300 vectors and scalars"),
    "long drawing": (["draw", "rnn", "--lengths", "90000"], "at most 300 vectors and scalars"),
    "longer drawing": (["draw", "rnn", "--lengths", "1000000"], "at most 100000 instructions"),
    "many steps": (["draw", "mlp", "--sgd", "100000"], "at most 300 vectors and scalars"),
    "many random inputs": (["verify", "mlp", "--inputs", "10" + "0" * 12], "at most 10000 vectors as inputs"),
    "long random inputs": (["verify", "rnn", "--lengths", "10000"], "at most 10000 vectors as inputs"),
    "wide random inputs": (["verify", "mlp", "--dim", "10000000"], "at most 10000000 random numbers"),
    "many samples": (["train", "mlp", "--samples", "9" * 12], "at most 100000000 samples"),
    "many seeds": (["verify", "mlp", "--seeds", "9" * 12], "at most 1000000 runs"),
    "training without end": (["train", "mlp", "--steps", "10" + "0" * 12], "at most 1000000 training samples"),
    "no width": (["train", "mlp", *ONE, "--widths", "0,8"], "integer of at least 1, got 0"),
    "wide": (["train", "mlp", "-p", "depth=2", "--widths", "8,100000000", "--steps", "1"], "at width 100000000 needs"),
    "300 digits wide": (["train", "mlp", "-p", "depth=2", "--widths", "8," + "9" * 300], "bytes of memory"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_attempted_is_refused(case, capsys):
    words, message = REFUSED[case]
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("raised", ["SystemExit(3)", "GeneratorExit", "BaseException('boo')"])
def test_whatever_a_file_raises_is_named(raised, tmp_path, capsys):
    (tmp_path / "net.py").write_text(f"raise {raised}")
    assert main(["derive", str(tmp_path / "net.py")]) == 2
    assert "cannot be run: " + raised.split("(")[0] in capsys.readouterr().err


def test_an_interrupt_in_a_file_stays_one(tmp_path):
    (tmp_path / "net.py").write_text("raise KeyboardInterrupt")
    assert main(["derive", str(tmp_path / "net.py")]) == 130


@pytest.mark.parametrize("option", ["--data", "--labels"])
def test_a_file_with_a_single_number_is_refused(option, tmp_path, capsys):
    np.save(tmp_path / "one.npy", 3.0)
    assert main(["train", "mlp", *ONE, option, str(tmp_path / "one.npy")]) == 2
    assert "holds a single number" in capsys.readouterr().err


def test_more_data_than_finite_networks_take_is_refused(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((10_001, 1)))
    assert main(["verify", "mlp", "--data", str(tmp_path / "x.npy")]) == 2
    assert "at most 10000 vectors as inputs" in capsys.readouterr().err


def test_a_header_that_claims_more_than_the_file_holds_is_refused(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    data = (tmp_path / "x.npy").read_bytes()
    claim = b"(99999999999, 2)"
    (tmp_path / "x.npy").write_bytes(data.replace(b"(3, 2)" + b", }" + b" " * 10, claim + b", }"))
    assert main(["train", "mlp", "--data", str(tmp_path / "x.npy")]) == 2
    assert "its header claims an array that is greater than file size" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "square"), [("1e300", "1e+600"), ("1e-300", "1e-600"), ("0", None)])
def test_large_and_small_hyperparameters_print_shortly(value, square, capsys):
    assert main(["derive", "mlp", "-p", "depth=2", "-p", f"sigma_w={value}", "--kernel", "ntk"]) == 0
    out = capsys.readouterr().out
    assert f"{square}·V[step]" in out if square else "Θ(x,x') = 0\n" in out
    assert max(map(len, out.splitlines()[1:])) < 120  # the first line has it as it was given


def test_programs_of_the_library_are_not_bounded():
    p = tp.Program()
    with bounded_programs(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(CEILINGS, "instructions", replace(CEILINGS["instructions"], most=2))
        p.vector(), p.vector()
        with pytest.raises(tp.ProgramError, match="at most 2 instructions in one program"):
            p.vector()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CEILINGS, "instructions", replace(CEILINGS["instructions"], most=2))
        assert len([p.vector() for _ in range(3)]) == 3


def test_whole_numbers_have_digits_0_to_9(capsys):
    with pytest.raises(SystemExit):
        main(["train", "mlp", "--steps", "٣"])
    assert "an integer has at most 400 digits, 0 to 9, got" in capsys.readouterr().err
