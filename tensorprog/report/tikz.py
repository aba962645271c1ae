r"""A scene as TikZ, in math mode and in the reader's own font: it needs the package tikz alone, and no Unicode."""

from __future__ import annotations

import re
import unicodedata

from tensorprog.printing import GREEK
from tensorprog.report.scene import COLOURS, Circle, Path, Scene, Shape, Style, Text

UNIT = 0.75  # pt per unit: labels of 11 units are set in 8pt
SIZES = ((10.0, r"\scriptsize"), (100.0, r"\footnotesize"))  # up to which size in units
_SUPER = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ˡᵗʼ", "0123456789-lt,", strict=True)) | {"ᵀ": r"\top "}
_SUB = dict(zip("₀₁₂₃₄₅₆₇₈₉‚ₐₑᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", "0123456789,aeijklmnoprstuvx", strict=True))
_SIGNS = {
    "·": r"\cdot ", "×": r"\times ", "−": "-", "√n": r"\sqrt{n}", "√": r"\surd ", "∞": r"\infty ", "≅": r"\cong ",
    "≇": r"\not\cong ", "→": r"\to ", "⟨": r"\langle ", "⟩": r"\rangle ", "…": r"\ldots ", "≤": r"\le ",
    "≥": r"\ge ", "*": r"\ast ", "Ż": r"\dot Z", "Ẑ": r"\hat Z", "½": r"\frac{1}{2}",
    "∗": r"\ast ", "↓": r"\downarrow ", "‥": r"{:}",
}  # fmt: skip
_ESCAPED = {c: f"\\{c}" for c in "{}%$#&"} | {"\\": r"\backslash ", "~": r"\sim ", "^": r"{\wedge}", ":": r"\colon "}
_ACCENTS = {"\u0302": "hat", "\u0307": "dot", "\u0303": "tilde", "\u0304": "bar"}
_ARROW = re.compile(r"—(.*?)→")
_TOKEN = re.compile(
    r"√n|—.*?→|[^\W\d_][\u0302-\u0304\u0307]"  # signs of several characters
    r"|(?:[A-Za-z-]{2,} )+[A-Za-z-]{2,}(?![A-Za-z(])|[A-Za-z]-[a-z]+"  # prose
    r"|_[A-Za-z0-9]+|[A-Za-z]+(?![\u0302-\u0304\u0307])|\d+(?:\.\d+)?| +|.",
    re.DOTALL,
)
_RELATIONS = "=+−-·×/,(≅≇→"


def tikz(scene: Scene) -> str:
    r"""The scene as a ``tikzpicture``, with the colours that it uses defined before it.

    >>> print(tikz(Scene(20, 20, [Text(10, 12, "h²")])))
    \definecolor{tpink}{HTML}{1B1F24}%
    \begin{tikzpicture}[x=0.75pt, y=-0.75pt, every node/.style={inner sep=0pt, outer sep=0pt}]
      \path (0,0) rectangle (20,20);
      \node[anchor=base, text=tpink, font=\footnotesize] at (10,12) {$h^{2}$};
    \end{tikzpicture}
    """
    used = {c for shape in scene.shapes for c in _colours(shape)}
    colours = [rf"\definecolor{{tp{c}}}{{HTML}}{{{COLOURS[c][1:].upper()}}}%" for c in COLOURS if c in used]
    style = f"x={UNIT}pt, y=-{UNIT}pt, every node/.style={{inner sep=0pt, outer sep=0pt}}"
    frame = rf"  \path (0,0) rectangle ({_number(scene.width)},{_number(scene.height)});"
    body = [f"  {_tikz(shape)}" for shape in scene.shapes]
    return "\n".join([*colours, rf"\begin{{tikzpicture}}[{style}]", frame, *body, r"\end{tikzpicture}"])


def _colours(shape: Shape) -> set[str]:
    if isinstance(shape, Text):
        return {shape.colour}
    return {c for c in (shape.style.stroke, shape.style.fill) if c is not None}


def _number(x: float) -> str:
    return f"{x:.2f}".rstrip("0").rstrip(".")


def _point(p: tuple[float, float]) -> str:
    return f"({_number(p[0])},{_number(p[1])})"


def _options(style: Style) -> str:
    found = [] if style.stroke is None else [f"draw=tp{style.stroke}", f"line width={_number(style.width * UNIT)}pt"]
    found += [] if style.fill is None else [f"fill=tp{style.fill}"]
    found += ["dash pattern=on 3.75pt off 2.6pt"] if style.dash else []
    return ", ".join(found)


def _tikz(shape: Shape) -> str:
    if isinstance(shape, Circle):
        centre, radius = _point((shape.x, shape.y)), _number(shape.r * UNIT)
        return rf"\path[{_options(shape.style)}] {centre} circle[radius={radius}pt];"
    if isinstance(shape, Path):
        return rf"\path[{_options(shape.style)}] {''.join(map(_move, shape.moves))};"
    anchor = {"start": "base west", "middle": "base", "end": "base east"}[shape.anchor]
    font = next(name for limit, name in SIZES if shape.size <= limit)
    at = _point((shape.x, shape.y))
    return rf"\node[anchor={anchor}, text=tp{shape.colour}, font={font}] at {at} {{{set_text(shape.string)}}};"


def _move(m: tuple[object, ...]) -> str:
    kind, points = m[0], [_point(p) for p in m[1:]]  # type: ignore[arg-type]
    if kind == "C":
        return f" .. controls {points[0]} and {points[1]} .. {points[2]}"
    return {"M": "", "L": " -- ", "Z": " -- cycle"}[str(kind)] + "".join(points)


def set_text(text: str) -> str:
    r"""A text of a picture in LaTeX: prose as it is, everything else in math mode.

    >>> set_text("matrix product"), set_text("ψ₁(u, v) = u·step(v)")
    ('matrix product', '$\\psi_{1}(u, v) = u\\cdot\\mathrm{step}(v)$')
    >>> set_text("x'² —W²ᵀ→ f̂₀(ξ₀)")
    "$x'^{2}\\ \\stackrel{W^{2\\top}}{\\to} \\hat{f}_{0}(\\xi_{0})$"
    """
    prose = re.fullmatch(r"[A-Za-z]-[a-z]+|(?:[A-Za-z-]{2,} )*[A-Za-z-]{2,}", text)
    return text if prose and " " in text + " " * ("-" in text) else f"${math(text)}$"


def math(text: str) -> str:
    """Text as it stands in math mode; every character outside ASCII goes through a table."""
    tokens = _TOKEN.findall(text)
    found, script, last, depth = "", "", "", 0
    for token, after in zip(tokens, [*tokens[1:], ""], strict=True):
        kind = "^" if token in _SUPER else "_" if token in _SUB else ""
        if script and kind != script:
            found += "}" + "{}" * (token == "'")
        if kind and kind != script:
            found += kind + "{"
        script, depth = kind, depth + (token == "(") - (token == ")")
        if token.isspace():
            found += r"\ " if last == "," and depth <= 0 else _space(token, last, after)
            continue
        below = token[0] == "_" and len(token) > 1 and last not in _SUB and last[:1] != "_"
        set_ = f"_{{{_plain(token[1:])}}}" if below else _SUPER.get(token) or _SUB.get(token) or _plain(token)
        found, last = found + set_, token
    return re.sub(r"(\\[A-Za-z]+) (?![A-Za-z])", r"\1", found + "}" * bool(script))


def _space(token: str, before: str, after: str) -> str:
    """A space beside a relation is there anyway."""
    if len(token) > 1:
        return r"\quad "
    return " " if before[-1:] in _RELATIONS and before else " " if after in _RELATIONS and after else r"\ "


def _plain(token: str) -> str:
    arrow = _ARROW.fullmatch(token)
    if arrow:
        return rf"\stackrel{{{math(arrow[1])}}}{{\to }}"
    if len(token) == 2 and token[1] in _ACCENTS:
        return rf"\{_ACCENTS[token[1]]}{{{math(token[0])}}}"
    if token in GREEK:
        return rf"\{GREEK[token]} "
    if token[0] == "_":
        return rf"\_{_plain(token[1:]) if token[1:] else ''}"
    if token in _SIGNS or token in _ESCAPED:
        return _SIGNS.get(token) or _ESCAPED[token]
    if " " in token or "-" in token[1:]:
        return rf"\mbox{{{token}}}"
    if token.isascii():
        word = len(token) > 1 and token.isalpha() and not re.fullmatch("[A-Z]?d?[A-Za-z]", token)
        return rf"\mathrm{{{token}}}" if word else token
    plain = unicodedata.normalize("NFKD", token).encode("ascii", "ignore").decode()
    return math(plain) if plain else rf"\mbox{{U+{ord(token):04X}}}"
