"""Build inline SVG as an element tree, so that it is well formed and all data is escaped."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring


def document(width: float, height: float, label: str) -> Element:
    """Start a picture that scales to its container and reads `label` to a screen reader."""
    size = {"width": pixels(width), "height": pixels(height), "viewBox": f"0 0 {pixels(width)} {pixels(height)}"}
    return Element("svg", {"role": "img", "aria-label": clean(label), **size})


def add(parent: Element, tag: str, text: str = "", **attributes: str | float) -> Element:
    """Add an element; `text_anchor="end"` becomes `text-anchor="end"`, and `class_` becomes `class`."""
    named = {
        name.strip("_").replace("_", "-"): pixels(value) if isinstance(value, (int, float)) else clean(value)
        for name, value in attributes.items()
    }
    element = SubElement(parent, tag, named)
    if text:
        element.text = clean(text)
    return element


def render(root: Element) -> str:
    """Return the markup."""
    return tostring(root, encoding="unicode")


def pixels(value: float) -> str:
    """Write a coordinate with one decimal at most."""
    return f"{value:.1f}".removesuffix(".0")


def clean(text: str) -> str:
    """Replace the characters that XML cannot hold."""
    return "".join(char if char.isprintable() or char == "\u00a0" else "\ufffd" for char in text)


def shorten(text: str, limit: int) -> str:
    """Cut a label to a number of characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
