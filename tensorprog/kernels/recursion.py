"""Recursions as users ask for them: folded equations that compile to Gram matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tensorprog.grams.compute import gram, known_options, source
from tensorprog.recursions.folded import FoldedKernel
from tensorprog.recursions.sizes import DEPTHS
from tensorprog.types import Data, HyperValues


class Recursion(FoldedKernel):
    """A kernel as indexed equations with base cases and ranges: see ``Kernel.recursion``."""

    def gram(self, X1: Data, X2: Data | None = None, **options: Any) -> Any:
        """The Gram matrix by the compiled recursion, at any depth and any lengths, without deriving there.

        Args:
            X1, X2: inputs, as for a kernel.
            options: the depth as for ``at``, and the options of ``tp.gram``.

        >>> import tensorprog as tp
        >>> R = tp.nngp(tp.programs.mlp(phi=tp.relu)).recursion()
        >>> R.gram([[1.0, 0.0]], [[0.6, 0.8]], depth=300, dtype="float32").round(4)
        array([[0.4998]], dtype=float32)
        """
        kernel = self.at(**self._take_depth(options))
        return gram(kernel, X1, X2, **known_options("Recursion.gram", options, DEPTHS))

    def source(self, values: HyperValues | None = None, lengths: Sequence[int] | None = None, **depth: int) -> str:
        """The compiled recursion as text: the operations per input and those per pair.

        Args:
            values: numbers for hyperparameters that are symbols, by symbol or by name.
            lengths: (T, T') of sequences; those of the kernel when None.
            depth: as for ``at``.
        """
        return source(self.at(**depth), lengths, values)

    def _take_depth(self, options: dict[str, Any]) -> dict[str, Any]:
        """The sizes among options, taken out of them."""
        return {key: options.pop(key) for key in list(options) if key in ("L", *DEPTHS)}
