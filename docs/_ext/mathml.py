r"""Formulas as MathML, which browsers draw themselves: no script, no font, no network, nothing to trust.

docutils translates LaTeX to MathML; what it does not understand is a warning here, and so fails a strict build.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

__all__ = ["setup"]

_log = logging.getLogger(__name__)


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_translated(node, as_block=False))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{_translated(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def _translated(node: nodes.Element, as_block: bool) -> str:
    try:
        drawn = tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        _log.warning("Cannot draw the formula %r: %s", node.astext(), error, location=node)
        return ""
    drawn = drawn.replace('<mo class="mathopen">', '<mo class="mathopen" form="prefix">')  # else as wide as an operator
    # "log p" needs its gap, which browsers leave to the author; "log(p)" has none.
    return re.sub(r"(<mo>&ApplyFunction;</mo>)(?!\s*<mo[^>]*>\()", r'\1<mspace width="0.17em"></mspace>', drawn)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer; ``html_math_renderer = "mathml"`` chooses it."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
