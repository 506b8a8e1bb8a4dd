"""A hook of MkDocs for the Chinese site: links to pages and images of the English one, which lies above it, lead there.

In the files they are written as GitHub reads them, `../comparing.md`; MkDocs knows nothing outside its folder.
"""

from __future__ import annotations

import re
from typing import Any


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the page's text with its links out of the folder as they are on the site."""
    up = "../" * (page.url.count("/") + 1)
    markdown = re.sub(r"\]\(\.\./([\w/-]+)\.md(#[\w-]+)?\)", rf"]({up}\1/\2)", markdown)
    return re.sub(r"\]\(\.\./(images/[\w.-]+)\)", rf"]({up}\1)", markdown)
