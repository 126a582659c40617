"""The parts of documents that a measurement writes: between `<!-- measured: name -->` and `<!-- end -->`."""

import re


def replaced(page: str, name: str, text: str) -> str:
    """Return a page with a new measured part. The rest of the page is written by hand and stays.

    Raises:
        ValueError: The page does not have this part exactly once.
    """
    part = re.compile(rf"(<!-- measured: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    if len(part.findall(page)) != 1:
        raise ValueError(f"there must be one part `<!-- measured: {name} -->` that ends with `<!-- end -->`")
    return part.sub(lambda found: f"{found[1]}\n{text.strip()}\n\n{found[2]}", page)
