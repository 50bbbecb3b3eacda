"""The documentation as it is built: strict, complete, without a request to anywhere, readable at any width."""

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("index", "method", "api", "accuracy", "gallery", "tutorials/engineer")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs")
    package = ROOT / "build" / "package" / "adaptclip_hf"
    shutil.rmtree(package.parent, ignore_errors=True)
    shutil.copytree(ROOT / "adaptclip_hf", package)
    for name in ("modeling", "processing"):
        shutil.copytree(ROOT / name, package / name)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_link_leads_somewhere_and_nothing_comes_from_outside(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        if page.name == "404.html":  # its addresses begin at the root
            continue
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'(?:src|href)="(https?://[^"]+)"', re.sub(r"<a .*?>", "", text))
        assert not loaded, (page.name, loaded)
        for target in re.findall(r'<(?:a|img|script|link)[^>]* (?:href|src)="([^"#]+)(?:#[^"]*)?"', text):
            if not target.startswith(("http", "mailto:", "data:")):
                assert (page.parent / unquote(target.partition("?")[0])).exists(), (page.name, target)
        assert "[`" not in re.sub(r"<(code|pre).*?</\1>", "", text, flags=re.DOTALL), page.name


def test_what_is_public_is_in_the_reference(site):
    import adaptclip_hf

    text = (site / "api.html").read_text(encoding="utf-8")
    names = [name for name in adaptclip_hf.__all__ if name not in ("DEFAULT_MODEL", "__version__")]
    assert not [name for name in names if not re.search(rf'id="[\w.]+\.{name}"', text)]


def test_equations_are_mathml(site):
    text = (site / "method.html").read_text(encoding="utf-8")
    assert text.count("<math") > 20 and "$" not in re.sub(r"<(script|code).*?</\1>", "", text, flags=re.DOTALL)


@pytest.mark.slow
def test_in_a_browser(site):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            requested: list[str] = []
            address = f"http://127.0.0.1:{server.server_port}"
            for width in (1280, 390):
                page = browser.new_page(viewport={"width": width, "height": 900})
                page.on("request", lambda request: requested.append(request.url))
                for name in PAGES:
                    page.goto(f"{address}/{name}.html")
                    assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
                    broken = "[...document.images].filter(each => each.complete && !each.naturalWidth).length"
                    assert page.evaluate(broken) == 0, name
            assert not [url for url in requested if not url.startswith((address, "data:", "blob:"))]
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"{address}/index.html")
            page.locator(".md-search__input").click()
            page.keyboard.type("lookout", delay=30)
            page.locator(".md-search-result__item").first.wait_for(timeout=10_000)
            browser.close()
        server.shutdown()
