"""Writes a page for each architecture of the gallery, and the table of them, from what ``examine`` finds."""

import inspect
import re
import sys
from pathlib import Path

from tensorprog.dsl.nonlinearities import Nonlinearity
from tensorprog.errors import TensorProgramError
from tensorprog.gallery import MANY, MEANING, SEEDS, WIDTHS, WORDS, Entry, examine_all, markdown, reasons
from tensorprog.kernels.kernel import Kernel
from tensorprog.report.draw import draw

PAGE = """\
# {name}

{summary}

## Code

`programs/{name}.py`:

```python
{source}
```

```python
import tensorprog as tp

net = tp.programs.{name}()
K = tp.ntk(net)
```

## Formula

{setting}

$$
{formula}
$$

## Drawing

{legend}

```{{raw}} html
<div class="drawing" tabindex="0">
{drawing}
</div>
```

## Verdicts

With the default hyperparameters {defaults}, random inputs {inputs}, and {seeds} networks of each width {widths}.

{verdicts}

## Cost

| | |
|---|---|
| formulas of NNGP and NTK | {derive} s |
| NTK of {many} inputs, compiled | {gram} s |
| expectations | {method} |

Seconds of CPU on the machine that built this page; errors are the largest that `K.account(X)` states, relative.
"""
LEGEND = (
    "Forward and backward pass. Empty circles are G-vars, filled ones X-vars, gates functions of coordinates, dashed "
    "edges products with the matrix beside them; see [how to draw](../howto.md#draw-a-program)."
)


def write(folder: Path) -> None:
    """Examine the gallery and write ``NAME.md`` for each architecture, and ``index.md``."""
    folder.mkdir(exist_ok=True)
    entries = examine_all()
    for entry in entries:
        (folder / f"{entry.name}.md").write_text(page(entry), encoding="utf-8")
    (folder / "index.md").write_text(index(entries), encoding="utf-8")


def page(e: Entry) -> str:
    """The page of one architecture."""
    s = e.subject
    phi = any(isinstance(v, Nonlinearity) for v in s.net.hyperparameters.values())
    lengths = "" if not s.net.takes_sequences else ", in sequences of different lengths"
    rows = [f"| {k} | {WORDS[c.passed]} | {_plain(c.detail)} |" for k, c in e.claims.items()]
    derive, gram = e.cells()[-1].split("; ")
    return PAGE.format(
        name=e.name,
        summary=_plain((s.file["__doc__"] or "").strip()),
        source=inspect.getsource(inspect.unwrap(s.build)).strip(),
        setting=_setting(s.formulas, phi),
        formula=s.formulas.latex(),
        legend=LEGEND,
        drawing=_drawing(s.net),
        defaults=_code(repr(s.net)),
        inputs="with three features" + lengths,
        seeds=SEEDS,
        widths=", ".join(map(str, WIDTHS)),
        verdicts="\n".join(["| | verdict | figures |", "|---|---|---|", *rows]),
        derive=derive,
        gram=gram,
        method=_plain(e.method),
        many=MANY,
    )


def _setting(found: object, phi: bool) -> str:
    what = "The NTK" + (", with an unspecified $\\phi$," if phi else "")
    if isinstance(found, Kernel):
        return f"{what} as `tp.ntk(net)` prints it."
    return f"{what} for every size: `tp.ntk(net).recursion()`."


def _drawing(net: object) -> str:
    try:
        return draw(net, backprop=True, lengths=[3] if net.takes_sequences else None).svg
    except TensorProgramError as error:
        return f"<p>{error}</p>"


def _code(text: str) -> str:
    return f"`{text}`"


def _plain(text: str) -> str:
    """Words that are no Markdown."""
    return re.sub(r"([\\*_\[\]<>|$])", r"\\\1", text)


def index(entries: list[Entry]) -> str:
    """The table, what its columns mean, the reasons of what does not apply, and the list of pages."""
    why = [f"- **{name}, {column}**: {_plain(detail)}" for name, column, detail in reasons(entries)]
    meaning = [f"| {column} | {text} |" for column, text in MEANING.items()]
    return "\n".join([
        "# Gallery", "",
        "One file of `programs/` each, made to be copied. `tensorprog gallery` derives and checks every one of them, "
        "and prints this table; a new file has its row and its page at once.", "",
        markdown(entries, "[{name}]({name}.md)"), "",
        "| column | yes means |", "|---|---|", *meaning, "",
        "Where it says – a question does not apply:", "", *why, "",
        "```{toctree}", ":hidden:", "", *(e.name for e in entries), "```", "",
    ])  # fmt: skip


if __name__ == "__main__":
    write(Path(sys.argv[1]))
