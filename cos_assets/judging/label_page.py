"""The HTML page for labeling solutions: one file without external resources that never executes text from models.

Math is converted to MathML, which browsers render natively. LaTeX that cannot be converted is shown as text.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import polars as pl

from cos_assets.judging.labels import FIELDS
from cos_assets.judging.llm import steps

# Each alternative stops at the next delimiter of its kind, so that matching takes linear time in the text's length.
# $…$ follows Pandoc: no space just inside the delimiters, and no digit after them, so that $5 and $6 are money.
_MATHS = re.compile(
    r"\$\$(?P<block>(?:(?!\$\$).)+)\$\$|(?<!\\)\\\[(?P<display>(?:(?!(?<!\\)\\\[|\\\]).)+)\\\]"
    r"|(?<!\\)\\\((?P<inline>(?:(?!\\[()]).)+)\\\)|(?<![\\$])\$(?P<dollar>[^\s$](?:[^$\n]*[^\s$\\])?)\$(?!\d)",
    re.DOTALL,
)
_NAMESPACE = "http://www.w3.org/1998/Math/MathML"
_ELEMENTS = """math mrow mi mn mo ms mtext mspace mfrac msqrt mroot msub msup msubsup munder mover munderover mtable mtr
    mtd mstyle mpadded mphantom menclose"""
_ATTRIBUTES = """display displaystyle stretchy fence form separator largeop movablelimits accent linethickness width
    columnalign rowspacing columnspacing height depth lspace rspace minsize maxsize mathvariant scriptlevel notation"""
_LONGEST = 2000


def page(study: str, shown: pl.DataFrame) -> str:
    """Return the HTML page for the samples of `labels.tasks`. It does not reveal which model wrote a solution."""
    import jinja2

    template = Path(__file__).with_name("label_page.html.j2").read_text(encoding="utf-8")
    script = Path(__file__).with_name("label_page.js").read_text(encoding="utf-8")
    items = [
        {key: row[key] for key in FIELDS[:4]}
        | {"question": rendered(row["question"]), "answer": rendered(row["answer"] or "")}
        | {"reference": rendered(row["solution"] or ""), "steps": [rendered(step) for step in steps(row["text"])]}
        for row in shown.to_dicts()
    ]
    # The browser stores the entered labels under this name, which differs between exports.
    name = hashlib.sha256("/".join([study, *shown["id"], *shown["text_hash"]]).encode()).hexdigest()[:16]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(
        study=study, items=items, name=name, script=script, digest=digest, fields=",".join(FIELDS)
    )


def rendered(text: str) -> str:
    """Convert a text to HTML: escape it and convert math to MathML."""
    from markupsafe import Markup

    out, at = [], 0
    for match in _MATHS.finditer(text):
        latex = next(group for group in match.groups() if group is not None)
        block = match["block"] is not None or match["display"] is not None
        maths = _mathml(latex, block)
        out += [escape(text[at : match.start()]), escape(match[0]) if maths is None else maths]
        at = match.end()
    return Markup("".join([*out, escape(text[at:])]))


def _mathml(latex: str, block: bool) -> str | None:
    """Convert LaTeX to MathML; None if that is not possible.

    The converter passes tags and links in the text through. Output with an element that is not in the allowlist is
    therefore rejected, and attributes that are not in the allowlist are removed.
    """
    from latex2mathml.converter import convert

    if len(latex) > _LONGEST:
        return None
    try:
        tree = ElementTree.fromstring(convert(latex, display="block" if block else "inline"))
    except Exception:  # it raises many kinds, IndexError and RecursionError among them
        return None
    for element in tree.iter():
        if not isinstance(element.tag, str):
            return None
        element.tag = element.tag.removeprefix(f"{{{_NAMESPACE}}}")
        if element.tag not in _ELEMENTS.split():
            return None
        for attribute in set(element.attrib).difference(_ATTRIBUTES.split()):
            del element.attrib[attribute]
    return ElementTree.tostring(tree, encoding="unicode")
