"""LaTeX in claims as the text that kernels print: a table of commands, and nothing else."""

from __future__ import annotations

import re

from tensorprog.errors import DataError
from tensorprog.printing import GREEK

COMMANDS = {
    **{name: letter for letter, name in GREEK.items()},
    "phi": "φ", "epsilon": "ε", "cdot": "·", "times": "·", "odot": "·", "le": "≤", "leq": "≤", "langle": "⟨",
       "rangle": "⟩", "sum": "∑", "arccos": "acos", "arcsin": "asin", "arctan": "atan", "prime": "'", "to": " ",
    **{name: name for name in ("sqrt", "frac", "max", "exp", "log", "sin", "cos", "tanh", "erf")},
}  # fmt: skip
IGNORED = (
    "left",
    "right",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "big",
    "Big",
    "quad",
    "qquad",
    "nonumber",
    "displaystyle",
    "displaybreak",
    "notag",
)
WRAPPERS = ("mathsf", "operatorname", "mathrm", "mathbb", "mathcal", "text", "bm", "boldsymbol", "tfrac", "dfrac")
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
SUBSCRIPTS = {"ᵥ": "v", "ᵤ": "u", "ₓ": "x", "ₕ": "h", "ᵣ": "r", "₀": "0", "₁": "1", "₂": "2", "₃": "3", "ₐ": "a",
              "ₑ": "e", "ₖ": "k", "ₗ": "l", "ₘ": "m", "ₙ": "n", "ₚ": "p", "ₛ": "s", "ₜ": "t"}  # fmt: skip
ENVIRONMENT = re.compile(r"\\begin\{(align|equation|gather|multline)\*?\}(.*?)\\end\{\1\*?\}", re.S)


def plain(claim: str) -> str:
    """LaTeX as the text that kernels print; text as it is.

    >>> plain(r"\\Sigma^{(l)}(x,x') &= \\sigma_{w}^{2} \\, \\mathsf{V}_{\\phi'}\\left[q\\right]")
    "Σ^{(l)}(x,x') = σ_{w}^{2} V_{φ'} [q ]"
    """
    blocks = [m[2] for m in ENVIRONMENT.finditer(claim)]
    claim = "\n".join(blocks) if blocks else claim
    if "\\" in claim:
        claim = re.sub(r"(?<!\\)%.*", "", claim)
        claim = claim.replace("\\\\", "\n").replace("&", " ")
        claim = re.sub(r"\\displaybreak(\[\d\])?", " ", claim)
        claim = re.sub(r"\\[,;:! ]|~", " ", claim)
        claim = re.sub(r"\\dot\s*\{?\\(\w+)\}?", lambda m: COMMANDS.get(m[1], m[1]) + "\u0307", claim)
        for word in WRAPPERS:
            claim = re.sub(rf"\\{word}\s*\{{([^{{}}]*)\}}" if "frac" not in word else rf"\\{word}",
                           r"\1" if "frac" not in word else r"\\frac", claim)  # fmt: skip
        claim = re.sub(rf"\\(?:{'|'.join(IGNORED)})(?![A-Za-z])", " ", claim)
        claim = re.sub(r"\\([A-Za-z]+)", _command, claim)
        claim = claim.replace("\\{", "{").replace("\\}", "}")
    for glyph, letter in SUBSCRIPTS.items():
        claim = claim.replace(glyph, f"_{letter}")
    claim = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: f"^{m[0].translate(SUPERSCRIPTS)}", claim)
    return re.sub(r"[ \t]+", " ", claim)


def _command(m: re.Match[str]) -> str:
    if m[1] not in COMMANDS:
        raise DataError(f"\\{m[1]} is not in the LaTeX that claims are read from; see tp.check_formula for what is")
    return f"{COMMANDS[m[1]]} " if COMMANDS[m[1]].isascii() else COMMANDS[m[1]]
