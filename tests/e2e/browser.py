"""Pages in headless Chromium, with a record of all that a page asks for and complains of."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page

# The sandbox needs privileges that a container does not give.
ARGUMENTS = ["--no-sandbox", "--disable-gpu"]


@dataclass
class Watched:
    """A page and what was seen of it.

    Attributes:
        origins: of every request.
        complaints: errors and warnings on the console, and exceptions that nothing caught.
    """

    page: Page
    origins: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.origins.add(origin(request.url)))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text) if message.type in ("error", "warning") else None
            ),
        )


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def watched(browser: Browser, width: int = 1400, height: int = 1000, **settings: object) -> Watched:
    """A new page in a context of its own; the caller closes the context."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": height},
        **settings,  # type: ignore[arg-type]
    )
    context.set_default_timeout(20_000)
    return Watched(context.new_page())
