"The site as a reader has it: links whole, nothing from elsewhere, at home on a phone, in the dark, and searchable."

import functools
import http.server
import re
import shutil
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

pytestmark = pytest.mark.long
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE = {"width": 390, "height": 844}


class Page(HTMLParser):
    "What a page names, and what it can be asked for."

    def __init__(self, file: Path):
        super().__init__()
        self.ids, self.links, self.parts = set(), [], []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag in ("img", "script", "link", "audio", "source", "iframe"):  # what a browser fetches by itself
            rel = given.get("rel") or ""
            if (found := given.get("src") or given.get("href")) and "canonical" not in rel:
                self.parts.append(found)


@pytest.fixture(scope="module")
def pages(site):  # Place below the site -> `Page`
    return {file.relative_to(site).as_posix(): Page(file) for file in sorted(site.rglob("*.html"))}


def test_the_site_has_what_it_should(site, pages):
    expected = ["index", "report", "24_balance", "api/balance", "papers/agf", "papers/pase/model", "studies/agf"]
    expected += ["how_to/own_music", "how_to/own_balancer", "how_to/own_paper", "how_to/cluster", "how_to/gpu"]
    assert {f"{name}.html" for name in expected} <= set(pages)
    assert "figures/report.html" in pages and "figures/report/agf.html" in pages
    reference = (site / "api" / "balance.html").read_text(encoding="utf-8")
    assert 'id="musicmtl.balance.GradNorm"' in reference and "docments" in reference


def test_links_are_whole(site, pages):
    broken = []
    for name, page in pages.items():
        for link in page.links + page.parts:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = urlsplit(urljoin(name, parts.path)).path if parts.path else name
            target = unquote(target)
            if not (site / target).is_file():
                broken.append(f"{name}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                broken.append(f"{name}: {link} (no such place there)")
    assert not broken, "\n".join(broken)


def test_nothing_is_fetched_from_elsewhere(site, pages):
    assert not {part for page in pages.values() for part in page.parts if urlsplit(part).netloc}
    for file in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import\s+)[\"']?(?:https?:)?//", file.read_text(encoding="utf-8")), file


def test_directives_and_plumbing_are_not_seen(site):
    for file in site.rglob("*.html"):
        if "figures" not in file.parts:
            text = re.sub(r"<[^>]+>", "", file.read_text(encoding="utf-8"))
            assert not re.search(r"^#\| ?(export|hide|default_exp|long|eval)\b", text, re.M), file


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(site):
    "Where the site is served, on this machine alone."

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    "The Chromium of this machine."
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip(f"no Chromium is installed ({', '.join(BROWSERS)}): the site is not looked at in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def complaints():
    return []


@pytest.fixture
def watched(browser, address, complaints):
    "A way to open pages on a phone; all that goes wrong is in `complaints`."
    context = browser.new_context(viewport=PHONE)
    tab = context.new_page()

    def complain(what, of=""):
        if not of.endswith("/favicon.ico"):  # a browser asks every server for one
            complaints.append(f"{tab.url}: {what}")

    tab.on("console", lambda said: said.type == "error" and complain(said.text, said.location["url"]))
    tab.on("pageerror", lambda error: complain(error))
    tab.on("requestfailed", lambda request: complain(f"failed: {request.url}"))
    tab.on("response", lambda answer: answer.status >= 400 and complain(f"{answer.status}: {answer.url}", answer.url))
    inside = (address, "data:", "blob:")
    tab.on("request", lambda request: request.url.startswith(inside) or complain(f"elsewhere: {request.url[:200]}"))
    yield tab
    context.close()


def test_no_page_complains_or_scrolls_sideways_on_a_phone(watched, address, pages, complaints):
    wide = []
    for name in pages:
        watched.goto(address + name, wait_until="load")
        width = watched.evaluate("document.documentElement.scrollWidth")
        if width > PHONE["width"] and not name.startswith("figures/"):
            wide.append(f"{name}: {width} px")
    assert not wide, "\n".join(wide)
    assert not complaints, "\n".join(complaints)


LIGHTNESS = "eval('[' + getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3) + ']')"


def test_the_site_is_dark_where_the_reader_wants_it(watched, address):
    watched.emulate_media(color_scheme="light")
    watched.goto(address + "24_balance.html")
    assert min(watched.evaluate(LIGHTNESS)) > 200
    watched.emulate_media(color_scheme="dark")
    assert max(watched.evaluate(LIGHTNESS)) < 60
    before = watched.evaluate("document.body.dataset.theme")
    watched.locator(".theme-toggle:visible").first.click()
    assert watched.evaluate("document.body.dataset.theme") != before


def test_search_finds_gradnorm(watched, address, complaints):
    watched.goto(address + "search.html?q=GradNorm")
    watched.wait_for_selector("ul.search li a", timeout=30_000)
    watched.wait_for_function("!document.querySelector('#search-progress')?.textContent", timeout=60_000)
    found = watched.eval_on_selector_all("ul.search li a", "all => all.map(one => one.getAttribute('href'))")
    assert any("balance.html" in link for link in found)
    assert not complaints, "\n".join(complaints)
